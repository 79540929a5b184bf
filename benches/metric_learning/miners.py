"""Miners of pytorch-metric-learning and negfast's: seconds and memory over a batch of 4,096 rows.

    python benches/metric_learning/miners.py
    python benches/metric_learning/miners.py --part memory --name metric-learning-memory

Rows are texts of Debian packages, four of each of 1,024 source packages, which are their classes. Tuples are compared
before anything is timed: those whose margin is within rounding of an edge may differ. Memory is what a process that
runs one contender grows by, the result included.

In the case "wide" classes are 32 archive sections with 128 rows each: 2.1 billion triplets, whose numbers alone would
take their miner 49 GB, so that negfast runs alone.

The command fails where negfast takes longer than a peer, or more memory than a tenth of their triplets.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import (
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
from data import ROOT, load

BATCH = 4096
MARGIN, EPSILON, FEW = 0.2, 0.1, 8
MOST_SHARE = 0.1
CASES = ("hardest", "multi-similarity", "semihard", "all")
FEWER = f"negfast, {FEW} negatives"
Run = Callable[[], tuple[Any, ...]]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--part", choices=["speed", "memory"], default="speed", help="what to measure")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    pin(chosen.threads, chosen.level, chosen.peers)
    import torch

    torch.set_num_threads(chosen.threads)
    if chosen.memory_of:
        print(growth(*chosen.memory_of))
        return
    measured, text, failed = speed(chosen.rounds) if chosen.part == "speed" else memory(chosen.threads)
    result = {"versions": versions("torch", "pytorch-metric-learning"), "peer_libraries": peer_libraries()}
    head = f"{load(1).source}; {BATCH:,} rows of 384 in 1,024 classes, {chosen.threads} threads\n\n"
    record(chosen.name or "metric-learning", {**result, **measured}, head + text)
    if failed:
        raise SystemExit("a bar is missed")


def batch(column: str = "group", classes: int = 1024) -> tuple[Any, Any]:
    """Return rows and the numbers of their classes, as many of each."""
    import pyarrow.parquet
    import torch

    pairs = load()
    folder = Path(os.environ.get("NEGFAST_BENCH_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "package_pairs.parquet").is_file():
        raise SystemExit("classes are those of package_pairs.parquet; set NEGFAST_BENCH_DATA to its folder")
    names = pyarrow.parquet.read_table(folder / "package_pairs.parquet", columns=[column])[column].to_pylist()
    labels = np.tile(np.unique(np.array(names), return_inverse=True)[1], 2)
    size, rng = BATCH // classes, np.random.default_rng(0)
    large = rng.permutation(np.flatnonzero(np.bincount(labels) >= size))[:classes]
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:size] for label in large])
    rng.shuffle(rows)
    return torch.from_numpy(np.concatenate([pairs.queries, pairs.corpus])[rows]), torch.from_numpy(labels[rows])


def contenders(case: str, rows: Any, labels: Any) -> dict[str, Run]:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.miners import BatchHardMiner, MultiSimilarityMiner, TripletMarginMiner

    from negfast.integrations.pytorch_metric_learning import NegfastMiner

    miners: dict[str, Any]
    if case == "hardest":
        ours = NegfastMiner(type_of_triplets="any", positives="hardest", num_negatives=1)
        miners = {"negfast": ours, "BatchHardMiner": BatchHardMiner()}
    elif case == "multi-similarity":
        ours = NegfastMiner(EPSILON, num_negatives=None, tuples="pairs", distance=CosineSimilarity())
        miners = {"negfast": ours, "MultiSimilarityMiner": MultiSimilarityMiner(EPSILON)}
    elif case == "wide":
        miners = {FEWER: NegfastMiner(MARGIN, "semihard", num_negatives=FEW)}
    else:
        miners = {
            "negfast": NegfastMiner(MARGIN, case, num_negatives=None),
            FEWER: NegfastMiner(MARGIN, case, num_negatives=FEW),
            "TripletMarginMiner": TripletMarginMiner(MARGIN, case),
        }
    return {name: lambda miner=miner: miner(rows, labels) for name, miner in miners.items()}


def differing(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> float:
    """Return the share of tuples that only one of both has."""
    halves = [(0, 1, 2)] if len(ours) == 3 else [(0, 1), (2, 3)]
    shares = []
    for parts in halves:
        both = [sum(found[i].numpy() * BATCH**place for place, i in enumerate(parts)) for found in (ours, theirs)]
        shares.append(len(np.setxor1d(*both)) / max(len(both[1]), 1))
    return max(shares)


def speed(rounds: int) -> tuple[dict[str, Any], str, bool]:
    rows, labels = batch()
    tables, texts = {}, []
    for case in CASES:
        runs = contenders(case, rows, labels)
        peer = next(name for name in runs if not name.startswith("negfast"))
        found, theirs = runs["negfast"](), runs[peer]()
        share = differing(found, theirs)
        assert share < 1e-4, f"{case}: {share:.2%} of the tuples differ"
        n = len(theirs[-1])
        del found, theirs
        seconds = {name: lambda run=run: timed(run) for name, run in runs.items()}
        tables[case] = {"tuples": n, "differing": share, **summary(alternate(seconds, rounds))}
        shown = {name: tables[case][name] for name in runs}
        texts += [f"{case}: {n:,} tuples, {share:.1e} of them differ", table(shown), ""]
    worst = min(tables[case][name]["ratio_to_negfast"] for case in CASES for name in tables[case] if "Miner" in name)
    rows, labels = batch("label", 32)
    run = contenders("wide", rows, labels)[FEWER]
    wide = [timed(run) for _ in range(3)]
    texts += [f"wide: {len(run()[0]):,} of 2.1 billion triplets in {sorted(wide)[1]:.2f} s", ""]
    texts.append(f"bar: no longer than a peer; the nearest takes {worst:.2f} times as long")
    return {"speed": tables, "wide_seconds": wide}, "\n".join(texts), worst < 1.0


def growth(case: str, name: str) -> int:
    """Return the bytes by which this process grows over a batch."""
    rows, labels = batch("label", 32) if case == "wide" else batch()
    contenders(case, rows[:64], labels[:64])[name]()
    run = contenders(case, rows, labels)[name]
    forget_peak()
    before = peak_bytes()
    kept = run()
    grown = peak_bytes() - before
    assert len(kept) in (3, 4)
    return grown


def memory(threads: int) -> tuple[dict[str, Any], str, bool]:
    import torch

    few = torch.zeros(8, 4), torch.arange(8) // 2
    held: dict[str, dict[str, int]] = {}
    for case in (*CASES, "wide"):
        held[case] = {}
        for name in contenders(case, *few):
            command = [sys.executable, __file__, "--threads", str(threads), "--memory-of", case, name]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            held[case][name] = int(printed.split()[-1])
    lines = [f"{'case':<18} {'contender':<24} {'MiB':>9}"]
    lines += [f"{case:<18} {name:<24} {of / 2**20:9.1f}" for case, runs in held.items() for name, of in runs.items()]
    shares = [held[case][FEWER] / held[case]["TripletMarginMiner"] for case in ("semihard", "all")]
    lines += ["", f"bar: {FEW} negatives take {MOST_SHARE:.0%} of their triplets or less: {max(shares):.1%}"]
    return {"memory": held}, "\n".join(lines), max(shares) > MOST_SHARE


if __name__ == "__main__":
    main()
