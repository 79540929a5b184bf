"""`mine_hard_negatives` as negfast does it, against the original with and without faiss: seconds, memory, rows.

    python benches/integrations/mine_hard_negatives.py --part defaults
    python benches/integrations/mine_hard_negatives.py --part margin --name st-mine-margin
    python benches/integrations/mine_hard_negatives.py --part memory --name st-mine-memory
    python benches/integrations/mine_hard_negatives.py --part growth --name st-mine-growth

All of them get the same data set of texts and a model that looks embeddings up; the seconds that this takes are
taken off. What they gave is compared before anything is recorded: the same rows, but for texts whose scores are tied.

Memory is the peak of a process that runs one contender, less what was there before, the embeddings that the model
hands out and the data set that comes back; of all pairs, or of some and a corpus that grows (`--grow`) by copies of
the passages, moved a little, up to a size where the original still fits.

The command fails where a bar that it prints is missed.
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import (
    MIB,
    alternate,
    arguments,
    forget_peak,
    peak_bytes,
    peer_libraries,
    pin,
    record,
    summary,
    table,
    timed,
    versions,
)

FAISS, PLAIN = "sentence-transformers (faiss)", "sentence-transformers"
BOUNDED = "negfast, max_memory 64 MiB"
MEMORY = 64 * MIB
GROWING = 16_384  # pairs while the corpus grows: as many as the original scores in one block
BARS = {FAISS: 4.0, PLAIN: 6.0}
GOALS = {FAISS: 6.0, PLAIN: 9.0}
MEMORY_BAR = 4.0
TIED = 1e-6
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "margin": {"relative_margin": 0.05, "num_negatives": 8},
}


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.set_defaults(name="st-mine")
    parser.add_argument("--part", choices=[*CASES, "memory", "growth"], default="defaults", help="what to measure")
    parser.add_argument("--grow", type=int, nargs="*", default=[1, 3], help="sizes of the corpus, in data sets")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


class Encoded:
    """Stands in for a model: looks embeddings up, and knows how long that took and how much it handed out."""

    device = "cpu"
    similarity_fn_name = "cosine"

    def __init__(self, queries: dict[str, int], documents: dict[str, int], rows: tuple[Any, Any]) -> None:
        self.tables = {"query": (queries, rows[0]), "document": (documents, rows[1])}
        self.seconds = 0.0
        self.bytes = 0

    def look_up(self, kind: str, texts: list[str]) -> Any:
        begin = time.perf_counter()
        rows, embeddings = self.tables[kind]
        found = embeddings[[rows[text] for text in texts]]
        self.seconds += time.perf_counter() - begin
        self.bytes += found.nbytes
        return found

    def encode_query(self, texts: list[str], **_: object) -> Any:
        return self.look_up("query", texts)

    def encode_document(self, texts: list[str], **_: object) -> Any:
        return self.look_up("document", texts)

    def get_embedding_dimension(self) -> int:
        return self.tables["query"][1].shape[1]

    def similarity(self, first: Any, second: Any) -> Any:
        from sentence_transformers.util import cos_sim

        return cos_sim(first, second)

    def similarity_pairwise(self, first: Any, second: Any) -> Any:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(first, second)


def inputs(chosen: argparse.Namespace) -> tuple[Any, Encoded, list[str] | None]:
    """Return the data set, its model and, where it is to grow, a corpus."""
    import datasets
    import numpy as np

    from data import load, unit_rows

    pairs = load(chosen.n)
    anchors, passages, corpus = pairs.query_texts, pairs.corpus_texts, None
    texts, rows = list(passages), [pairs.corpus]
    rng = np.random.default_rng(0)
    for copy in range(1, chosen.times):
        texts += [f"{text} ({copy})" for text in passages]
        rows.append(unit_rows(pairs.corpus + 0.02 * rng.standard_normal(pairs.corpus.shape, np.float32)))
    if chosen.times:
        corpus, anchors, passages = texts, anchors[:GROWING], passages[:GROWING]
    places = [{text: row for row, text in reversed(list(enumerate(column)))} for column in (anchors, texts)]
    model = Encoded(places[0], places[1], (pairs.queries, np.concatenate(rows)))
    return datasets.Dataset.from_dict({"anchor": anchors, "positive": passages}), model, corpus


def contenders(dataset: Any, model: Encoded, case: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    from sentence_transformers.util import mine_hard_negatives as original

    import negfast
    from negfast.integrations.sentence_transformers import mine_hard_negatives as ours

    return {
        "negfast": lambda: ours(dataset, model, verbose=False, **case),
        BOUNDED: lambda: ours(dataset, model, verbose=False, search=negfast.Search(max_memory=MEMORY), **case),
        FAISS: lambda: original(dataset, model, verbose=False, use_faiss=True, **case),
        PLAIN: lambda: original(dataset, model, verbose=False, **case),
    }


def lists_of(mined: Any) -> dict[tuple[str, str], list[str]]:
    """The negatives of each pair, in order."""
    lists: dict[tuple[str, str], list[str]] = defaultdict(list)
    for anchor, positive, negative in zip(mined["anchor"], mined["positive"], mined["negative"], strict=True):
        lists[anchor, positive].append(negative)
    return lists


def compare(ours: Any, theirs: Any, dataset: Any, model: Encoded, margin: float | None) -> dict[str, int]:
    """Count how the lists of all pairs agree; a difference that rounding does not explain is an error."""
    import numpy as np

    here, there = lists_of(ours), lists_of(theirs)
    counts = {"pairs": len(there), "the same": 0, "tied scores in another order": 0, "a row at the margin": 0}
    positives = defaultdict(list)
    for anchor, positive in zip(dataset["anchor"], dataset["positive"], strict=True):
        positives[anchor].append(positive)
    corpus = model.look_up("document", list(dict.fromkeys(dataset["positive"]))).astype(np.float64)
    for pair in here.keys() | there.keys():
        one, other = here.get(pair, []), there.get(pair, [])
        if one == other:
            counts["the same"] += 1
            continue
        query = model.look_up("query", [pair[0]])[0].astype(np.float64)
        scores = [model.look_up("document", side) @ query if side else np.zeros(0) for side in (one, other)]
        if len(one) == len(other) and np.abs(scores[0] - scores[1]).max() <= TIED:
            counts["tied scores in another order"] += 1
            continue
        lowest = (model.look_up("document", positives[pair[0]]) @ query).min()
        edge = lowest - abs(lowest) * (margin or 0.0)
        if margin is None or (np.abs(corpus @ query - edge) > TIED).all():
            raise AssertionError(f"{pair}: {one} here, {other} there")
        counts["a row at the margin"] += 1
    return counts


def measure(chosen: argparse.Namespace) -> None:
    """Print what one contender takes beyond what it is given and gives back."""
    # What is loaded and kept by the first call of a library is not the cost of mining.
    small, small_model, _ = inputs(argparse.Namespace(**{**vars(chosen), "n": 200, "times": 0}))
    contenders(small, small_model, CASES["margin"])[chosen.memory_of]()
    dataset, model, corpus = inputs(chosen)
    run = contenders(dataset, model, CASES["margin"] | {"corpus": corpus})[chosen.memory_of]
    forget_peak()
    before = peak_bytes()
    begin = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - begin
    n_texts = len(set(corpus or dataset["positive"]))
    print(peak_bytes() - before - model.bytes - result.data.nbytes, seconds, len(dataset), n_texts)


def memory(chosen: argparse.Namespace, name: str, times: int = 0) -> dict[str, float]:
    command = [sys.executable, __file__, "--memory-of", name, "--times", str(times), "--threads", str(chosen.threads)]
    if chosen.n is not None:
        command += ["--n", str(chosen.n)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-4:]
    return dict(zip(("bytes", "seconds", "pairs", "corpus"), map(float, told), strict=True))


def prepare(chosen: argparse.Namespace) -> None:
    pin(chosen.threads, chosen.level, chosen.peers)

    import datasets
    import faiss
    import torch

    faiss.omp_set_num_threads(chosen.threads)
    torch.set_num_threads(chosen.threads)
    datasets.disable_progress_bars()


def race(chosen: argparse.Namespace, case: str, dataset: Any, model: Encoded) -> tuple[dict[str, Any], str]:
    """Time all contenders in turns, and compare what they gave."""
    warm_up(chosen, case)
    runs = contenders(dataset, model, CASES[case])
    del runs[BOUNDED]
    results: dict[str, Any] = {}

    def clock(name: str) -> Callable[[], float]:
        def run() -> None:
            results[name] = runs[name]()

        def seconds() -> float:
            results.pop(name, None)
            model.seconds = 0.0
            return timed(run) - model.seconds

        return seconds

    seconds = alternate({name: clock(name) for name in runs}, chosen.rounds)
    margin = CASES[case].get("relative_margin")
    agreement = {name: compare(results["negfast"], results[name], dataset, model, margin) for name in BARS}
    summed = summary(seconds)
    lines = [f"{case}: {CASES[case]}", table(summed)]
    for name, counts in agreement.items():
        lines.append(f"lists as {name}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
    return {"case": CASES[case], "agreement": agreement, "seconds": seconds, "summary": summed}, "\n".join(lines)


def warm_up(chosen: argparse.Namespace, case: str) -> None:
    """Let every library load what it loads on its first call."""
    dataset, model, _ = inputs(argparse.Namespace(**{**vars(chosen), "n": 200, "times": 0}))
    for run in contenders(dataset, model, CASES[case]).values():
        run()


def main() -> int:
    chosen = options()
    prepare(chosen)
    if chosen.memory_of:
        measure(chosen)
        return 0
    result, text, missed = PARTS[chosen.part](chosen)
    import negfast

    told = {"threads": chosen.threads, "level": negfast.simd_level()}
    record(
        chosen.name,
        {
            "peer_libraries": peer_libraries(),
            "versions": versions("sentence-transformers", "datasets", "faiss-cpu", "torch"),
            **told,
            **result,
        },
        f"{told['threads']} threads, level {told['level']}\n{text}",
    )
    return missed


def speed(chosen: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Race on all pairs; return the results, their text, and how many bars were missed."""
    dataset, model, _ = inputs(chosen)
    result, text = race(chosen, chosen.part, dataset, model)
    ratios = {name: result["summary"][name]["ratio_to_negfast"] for name in BARS}
    lines = [f"{len(dataset):,} pairs", text]
    lines += [f"{ratio:.2f} times {name}: bar {BARS[name]:g}, goal {GOALS[name]:g}" for name, ratio in ratios.items()]
    return result, "\n".join(lines), sum(ratio < BARS[name] for name, ratio in ratios.items())


def whole_memory(chosen: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Take the memory of all pairs."""
    held = {name: memory(chosen, name) for name in ("negfast", FAISS, PLAIN)}
    ratio = held[PLAIN]["bytes"] / max(held["negfast"]["bytes"], 1.0)
    text = f"{_held(held)}\n{ratio:.1f} times less than {PLAIN}: bar {MEMORY_BAR:g}"
    return {"memory": held}, text, int(ratio < MEMORY_BAR)


def growth(chosen: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Take the memory while the corpus grows."""
    rows = [{name: memory(chosen, name, times) for name in ("negfast", BOUNDED, PLAIN)} for times in chosen.grow]
    return {"growth": rows}, "\n".join(map(_held, rows)), 0


def _held(row: dict[str, dict[str, float]]) -> str:
    first = next(iter(row.values()))
    head = f"{first['pairs']:,.0f} pairs, corpus of {first['corpus']:,.0f}: bytes beyond embeddings and the result"
    lines = [f"  {name:<30} {told['bytes'] / MIB:9,.0f} MiB in {told['seconds']:.1f} s" for name, told in row.items()]
    return "\n".join([head, *lines])


PARTS = {**dict.fromkeys(CASES, speed), "memory": whole_memory, "growth": growth}


if __name__ == "__main__":
    sys.exit(main())
