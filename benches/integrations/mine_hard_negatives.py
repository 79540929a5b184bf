"""`mine_hard_negatives` as negfast does it, against the original with and without faiss: seconds, memory, rows.

    python benches/integrations/mine_hard_negatives.py

All of them get the same data set of texts and a model that looks embeddings up; the seconds that this takes are
taken off. Rows are compared before anything is timed: they have to be the same, but for texts whose scores are tied.

Memory is the peak of a process that runs one contender, less what was there before, the embeddings that the model
hands out and the data set that comes back. It is also taken with copies of the rows beside them (`--grow`), moved a
little, up to a size where the original still fits: what grows there is bounded here.

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
    parser.add_argument("--grow", type=int, nargs="*", default=[1, 2], help="sizes of the memory bench, in data sets")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
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


def inputs(chosen: argparse.Namespace) -> tuple[Any, Encoded]:
    """Return the data set and its model; further copies of the texts are marked, and their rows moved a little."""
    import datasets
    import numpy as np

    from data import load, unit_rows

    pairs = load(chosen.n)
    rng = np.random.default_rng(0)
    rows: list[list[Any]] = [[pairs.queries], [pairs.corpus]]
    texts = [list(pairs.query_texts), list(pairs.corpus_texts)]
    for copy in range(1, chosen.times):
        for side, (own, given) in enumerate(zip(rows, (pairs.query_texts, pairs.corpus_texts), strict=True)):
            own.append(unit_rows(own[0] + 0.02 * rng.standard_normal(own[0].shape, np.float32)))
            texts[side] += [f"{text} ({copy})" for text in given]
    places = [{text: row for row, text in reversed(list(enumerate(column)))} for column in texts]
    model = Encoded(places[0], places[1], tuple(np.concatenate(side) for side in rows))
    return datasets.Dataset.from_dict({"anchor": texts[0], "positive": texts[1]}), model


def contenders(dataset: Any, model: Encoded, case: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    from sentence_transformers.util import mine_hard_negatives as original

    from negfast.integrations.sentence_transformers import mine_hard_negatives as ours

    return {
        "negfast": lambda: ours(dataset, model, verbose=False, **case),
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
    dataset, model = inputs(chosen)
    run = contenders(dataset, model, CASES["margin"])[chosen.memory_of]
    # What is loaded and kept by the first call of a library is not the cost of mining.
    small = argparse.Namespace(**{**vars(chosen), "n": 200, "times": 1})
    contenders(*inputs(small), CASES["margin"])[chosen.memory_of]()
    model.bytes = 0
    forget_peak()
    before = peak_bytes()
    begin = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - begin
    print(peak_bytes() - before - model.bytes - result.data.nbytes, seconds, len(dataset))


def memory(chosen: argparse.Namespace, name: str, times: int) -> tuple[int, float, int]:
    command = [sys.executable, __file__, "--memory-of", name, "--times", str(times), "--threads", str(chosen.threads)]
    if chosen.n is not None:
        command += ["--n", str(chosen.n)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-3:]
    return int(told[0]), float(told[1]), int(told[2])


def prepare(chosen: argparse.Namespace) -> None:
    pin(chosen.threads, chosen.level, chosen.peers)

    import datasets
    import faiss
    import torch

    faiss.omp_set_num_threads(chosen.threads)
    torch.set_num_threads(chosen.threads)
    datasets.disable_progress_bars()


def race(chosen: argparse.Namespace, case: str, dataset: Any, model: Encoded) -> tuple[dict[str, Any], str]:
    """Compare the rows, then time all contenders in turns."""
    runs = contenders(dataset, model, CASES[case])
    ours = runs["negfast"]()
    margin = CASES[case].get("relative_margin")
    agreement = {name: compare(ours, runs[name](), dataset, model, margin) for name in BARS}

    def clock(run: Callable[[], Any]) -> Callable[[], float]:
        def seconds() -> float:
            model.seconds = 0.0
            return timed(run) - model.seconds

        return seconds

    seconds = alternate({name: clock(run) for name, run in runs.items()}, chosen.rounds)
    summed = summary(seconds)
    lines = [f"{case}: {CASES[case]}", table(summed)]
    lines += [
        f"lists as {name}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items())
        for name, counts in agreement.items()
    ]
    return {"case": CASES[case], "agreement": agreement, "seconds": seconds, "summary": summed}, "\n".join(lines)


def main() -> int:
    chosen = options()
    prepare(chosen)
    if chosen.memory_of:
        measure(chosen)
        return 0
    dataset, model = inputs(chosen)
    raced = {case: race(chosen, case, dataset, model) for case in CASES}
    import negfast

    held = {times: {name: memory(chosen, name, times) for name in ("negfast", FAISS, PLAIN)} for times in chosen.grow}
    text, missed = report(raced, held)
    record(
        chosen.name,
        {
            "peer_libraries": peer_libraries(),
            "versions": versions("sentence-transformers", "datasets", "faiss-cpu", "torch"),
            "pairs": len(dataset),
            "threads": chosen.threads,
            "level": negfast.simd_level(),
            "cases": {case: result for case, (result, _) in raced.items()},
            "memory": {
                times: {name: dict(zip(("bytes", "seconds", "pairs"), told, strict=True)) for name, told in row.items()}
                for times, row in held.items()
            },
        },
        f"{len(dataset):,} pairs, {chosen.threads} threads, level {negfast.simd_level()}\n\n{text}",
    )
    return missed


def report(raced: dict[str, Any], held: dict[int, dict[str, tuple[int, float, int]]]) -> tuple[str, int]:
    """Return the text of the results with their bars, and how many bars were missed."""
    lines, missed = [], 0
    for result, text in raced.values():
        lines += [text]
        for name, bar in BARS.items():
            ratio = result["summary"][name]["ratio_to_negfast"]
            missed += ratio < bar
            lines.append(f"{ratio:.2f} times as fast as {name}: bar {bar:g}, goal {GOALS[name]:g}")
        lines.append("")
    lines.append("peak memory beyond embeddings and the data set that comes back (margin)")
    for row in held.values():
        n_pairs = row["negfast"][2]
        lines.append(
            f"{n_pairs:>9,} pairs: "
            + ", ".join(f"{name} {told[0] / MIB:,.0f} MiB in {told[1]:.1f} s" for name, told in row.items())
        )
    share = next(iter(held.values()))
    ratio = share[PLAIN][0] / max(share["negfast"][0], 1)
    missed += ratio < MEMORY_BAR
    lines.append(f"{ratio:.1f} times less than {PLAIN}: bar {MEMORY_BAR:g}")
    return "\n".join(lines), missed


if __name__ == "__main__":
    sys.exit(main())
