"""What the whole loop gains over plain in-batch training, over several seeds, and what each part of it is good for.

    python benches/loop/seeds.py write-pairs code.jsonl.gz               # functions of this Python installation
    python benches/loop/seeds.py write-pairs packages.jsonl.gz --data shared/data
    python benches/loop/seeds.py run code.jsonl.gz --seeds 5 --processes 15 --output benches/results

Each line of a file is {"query", "passage", "whole", "group"}: pairs of one whole are held out together, pairs of one
group are false negatives of each other. Every (method, seed) is a process with one thread. All methods train the same
encoder for about as many steps; batches of 768 have about as many texts as those of the whole loop with its mined
negatives. Settings were chosen on the validation part, the figures are of the test part.

Differences are paired: over seeds with an interval of Student's t, and over questions, their mean over seeds resampled.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches" / "peers"))

METHODS: dict[str, dict[str, Any]] = {
    "plain": {"plain": True},
    "plain, 512 a batch": {"plain": True, "batch_size": 512, "epochs": 2.0},
    "plain, 768 a batch": {"plain": True, "batch_size": 768, "epochs": 3.0},
    "clean": {"plain": True, "clean": True},
    "hard batches": {"plain": True, "clean": True, "hard_batches": True},
    "mined": {"plain": True, "clean": True, "num_negatives": 4},
    "mined, unguarded": {"plain": True, "num_negatives": 4},
    "whole loop": {},
    "without hard batches": {"hard_batches": False},
    "without mined": {"num_negatives": 0},
    "without bank": {"bank": 0},
    "without margin": {"relative_margin": None},
    "without curriculum": {"curriculum": False},
}
BASE, WHOLE = "plain", "whole loop"
RESAMPLED = 10_000


def write_pairs(path: Path, data: Path | None, limit: int) -> None:
    lines = _packages(data, limit) if data else _code(limit)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


def _code(limit: int) -> Iterator[dict[str, Any]]:
    from negfast.cli.demo.installed_code import gather

    code = gather(limit)
    for query, passage, module in zip(code.queries, code.passages, code.modules, strict=True):
        yield {"query": query, "passage": passage, "whole": module, "group": None}


def _packages(folder: Path, limit: int) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / "package_pairs.parquet")
    groups = table["group"].to_pylist()
    names = sorted(set(groups))
    order = dict(zip(names, np.random.default_rng(0).permutation(len(names)).tolist(), strict=True))
    rows = sorted(range(len(groups)), key=lambda row: order[groups[row]])[:limit]
    for line in table.take(sorted(rows)).to_pylist():
        yield {"query": line["query"], "passage": line["passage"], "whole": line["group"], "group": line["group"]}


def benchmark(path: Path, part: str, most: int | None) -> Any:
    from negfast.cli.demo.held_out import Benchmark, Pairs, split

    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    groups = [line["group"] for line in lines]
    pairs = Pairs.of(
        [line["query"] for line in lines],
        [line["passage"] for line in lines],
        None if None in groups else groups,
    )
    found = split(pairs, [line["whole"] for line in lines], part=part)
    if most is None or most >= len(found.train):
        return found
    rows = np.sort(np.random.default_rng(0).permutation(len(found.train))[:most])
    return Benchmark(found.train.take(rows), found.held_out)


def job(task: tuple[str, int, dict[str, Any]]) -> dict[str, Any]:
    """Train by one method with one seed, and judge."""
    import torch

    from negfast.cli.demo.training import Training, TrainingSettings

    method, seed, shared = task
    torch.set_num_threads(shared["threads"])
    changes = {"epochs": shared["epochs"], "seed": seed} | METHODS[method]
    if isinstance(METHODS[method].get("epochs"), float):
        changes["epochs"] = round(shared["epochs"] * METHODS[method]["epochs"])
    settings = TrainingSettings.plain if changes.pop("plain", False) else TrainingSettings
    begin = time.perf_counter()
    training = Training(_BENCHMARK.train, settings(**changes), n_threads=shared["threads"])
    losses = [done.loss for done in training.train()]
    seconds = time.perf_counter() - begin
    found = _BENCHMARK.measure(training.model.encode, n_threads=shared["threads"])
    return {
        "method": method, "seed": seed, "seconds": seconds, "steps": training.steps, "losses": losses,
        "encoded": training.encoded, "refreshes": training.refreshes, "hardness": training.curriculum.hardness,
        "mrr": found.mrr.tolist(), "ndcg": found.ndcg.tolist(),
    }  # fmt: skip


_BENCHMARK: Any = None


def _start(path: Path, part: str, most: int | None) -> None:
    global _BENCHMARK
    _BENCHMARK = benchmark(path, part, most)


def finished(tasks: list[Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the results of all tasks, or of those that ended in time."""
    deadline = time.monotonic() + 60 * options.minutes
    done: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes, _start, (options.pairs, options.part, options.most)) as pool:
        results = pool.imap_unordered(job, tasks)
        try:
            while len(done) < len(tasks):
                done.append(results.next(timeout=max(deadline - time.monotonic(), 0.01)))
                last, ndcg = done[-1], np.mean(done[-1]["ndcg"])
                told = f"{last['method']}, seed {last['seed']}: nDCG@10 {ndcg:.4f}, {last['seconds']:.0f} s"
                print(f"{len(done)} of {len(tasks)}: {told}", file=sys.stderr, flush=True)
        except multiprocessing.TimeoutError:
            print(f"{options.minutes:g} minutes are over", file=sys.stderr)
    return done


def run(options: argparse.Namespace) -> None:
    from bench import versions

    shared = {"epochs": options.epochs, "threads": options.threads}
    methods = options.methods or list(METHODS)
    # Seed by seed, and of a seed the longest first, so that little is lost at the deadline.
    tasks = [(method, seed, shared) for seed in range(options.seeds) for method in reversed(methods)]
    done = finished(tasks, options)
    seeds = [seed for seed in range(options.seeds) if sum(one["seed"] == seed for one in done) == len(methods)]
    by_method = {
        method: [one for seed in seeds for one in done if (one["method"], one["seed"]) == (method, seed)]
        for method in methods
    }
    found = benchmark(options.pairs, options.part, options.most)
    head = (
        f"$ python benches/loop/seeds.py run {options.pairs.name}{_given(options)}\n"
        f"{options.pairs.name}: {len(found.train):,} pairs, {len(found.held_out):,} questions of other wholes "
        f"({options.part}), {len(found.corpus):,} passages to find theirs in; {options.epochs} epochs, "
        f"{len(seeds)} seeds\n"
        f"{', '.join(f'{name} {version}' for name, version in versions('torch').items())}; {os.cpu_count()} CPUs"
    )
    rows = compared(by_method)
    text = "\n".join([head, "", *table(rows)])
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"loop-{options.pairs.name.split('.')[0]}"
    (options.output / f"{name}.txt").write_text(text + "\n")
    runs = [one | {measure: float(np.mean(one[measure])) for measure in ("mrr", "ndcg")} for one in done]
    plain = {"head": head, "rows": rows, "runs": sorted(runs, key=lambda one: (one["method"], one["seed"]))}
    (options.output / f"{name}.json").write_text(json.dumps(plain, indent=1) + "\n")


def compared(by_method: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return means over seeds and questions of each method, and what it gains over the plain one."""
    rows = []
    base = np.array([one["ndcg"] for one in by_method.get(BASE, [])])
    for method, results in by_method.items():
        ndcg, mrr = (np.array([one[name] for one in results]) for name in ("ndcg", "mrr"))  # (seeds, questions)
        row = {
            "method": method,
            "mrr": mrr.mean(),
            "ndcg": ndcg.mean(),
            "spread": ndcg.mean(axis=1).std(ddof=1) if len(ndcg) > 1 else float("nan"),
            "texts": np.mean([one["encoded"] / one["steps"] for one in results]),
            "seconds": float(np.median([one["seconds"] for one in results])),
        }
        if len(base) and method != BASE:
            gain = ndcg - base
            row |= {
                "gain": gain.mean(),
                "seeds": interval(gain.mean(axis=1)),
                "questions": resampled(gain.mean(axis=0)),
            }
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    head = f"{'':22} {'MRR@10':>7} {'nDCG@10':>7} {'of seeds':>8} {'over plain':>10}  {'95 %, seeds':>17}  "
    lines = [f"{head}{'95 %, questions':>17} {'texts/step':>10} {'seconds':>7}"]
    for row in rows:
        gain = " " * 48
        if "gain" in row:
            bounds = [f"{low:+8.4f} {high:+8.4f}" for low, high in (row["seeds"], row["questions"])]
            gain = f"{row['gain']:+10.4f}  {'  '.join(bounds)}"
        start = f"{row['method']:22} {row['mrr']:7.4f} {row['ndcg']:7.4f} {row['spread']:8.4f}"
        lines.append(f"{start} {gain} {row['texts']:10.0f} {row['seconds']:7.0f}")
    return lines


def _given(options: argparse.Namespace) -> str:
    """Return what changes figures, as it is typed."""
    methods = "".join(f' "{method}"' for method in options.methods or ())
    most = f" --most {options.most}" if options.most else ""
    plain = f" --part {options.part} --epochs {options.epochs} --seeds {options.seeds} --processes {options.processes}"
    return most + plain + (f" --methods{methods}" if methods else "")


# Quantile .975 of Student's t, by degrees of freedom.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)


def interval(differences: Any) -> tuple[float, float]:
    """Return the 95 % interval of the mean over seeds."""
    n = len(differences)
    if n < 2:
        return float("nan"), float("nan")
    half = T[min(n - 2, len(T) - 1)] * differences.std(ddof=1) / n**0.5
    return float(differences.mean() - half), float(differences.mean() + half)


def resampled(differences: Any) -> tuple[float, float]:
    """Return the middle 95 % of the mean over questions that are drawn anew (B. Efron, 1979)."""
    rng = np.random.default_rng(0)
    n = len(differences)
    means = [differences[rng.integers(0, n, n)].mean() for _ in range(RESAMPLED)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    write = commands.add_parser("write-pairs")
    write.add_argument("pairs", type=Path)
    write.add_argument("--data", type=Path, help="folder of package_pairs.parquet; without, installed code")
    write.add_argument("--limit", type=int, default=25_000)
    write.set_defaults(run=lambda options: write_pairs(options.pairs, options.data, options.limit))
    train = commands.add_parser("run")
    train.add_argument("pairs", type=Path)
    train.add_argument("--part", default="test", choices=("test", "validation"))
    train.add_argument("--most", type=int, help="pairs to train on at most")
    train.add_argument("--methods", nargs="+", choices=list(METHODS))
    train.add_argument("--epochs", type=int, default=8)
    train.add_argument("--seeds", type=int, default=5)
    train.add_argument("--processes", type=int, default=1)
    train.add_argument("--threads", type=int, default=1, help="of each process")
    train.add_argument("--minutes", type=float, default=60.0, help="seeds that took longer are left out")
    train.add_argument("--output", type=Path, default=ROOT / "benches" / "results")
    train.set_defaults(run=run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
