"""Reservoirs of long streams, and merged ones, beside the same samples in numpy and in plain Python.

    python benches/reservoir/reservoir.py

The stream is a permutation of ids, weights are lognormal. Everything runs on one core. The peers:

* numpy, written well: chunks whose keys are compared with the threshold so far, so that little is sorted. Keys are
  those of splitmix64 where they belong to ids, and of numpy's generator where they belong to occurrences.
* `Generator.choice`, which is told how long the stream is and holds all of it.
* the textbook's loops in Python: algorithm L, and Aggarwal's, the latter over a part of the stream, scaled up.

Before anything is timed, samples are looked at: their size, that nothing is there twice, and that their ids are not
further from the middle of the stream than chance allows. Merged reservoirs have to be that of the whole stream. The
command fails where a bar that it prints is missed.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import alternate, arguments, pin, record, summary, timed, versions

CHUNK = 1 << 18  # ids that stay in the cache while numpy passes over them several times
SHARDS = 64
SKIP_BAR = 100e6  # items a second
MERGE_BAR = 5e-3  # seconds
SCALED = 100_000  # items of a loop in Python that is scaled up
Samplers = dict[str, Callable[[], Any]]


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0])
    parser.set_defaults(n=20_000_000, name="reservoir")
    parser.add_argument("--capacity", type=int, default=10_000)
    return parser.parse_args()


def chunks(*arrays: Any) -> Iterator[tuple[Any, ...]]:
    for begin in range(0, len(arrays[0]), CHUNK):
        yield tuple(array[begin : begin + CHUNK] for array in arrays)


def smallest(parts: Iterator[tuple[Any, Any]], k: int, *, distinct: bool) -> Any:
    """Return the ids with the k smallest keys of all parts, sorting only what is below the threshold so far."""
    import numpy as np

    keys, ids, threshold = None, None, None
    for new_keys, new_ids in parts:
        if threshold is not None:
            below = np.flatnonzero(new_keys < threshold)
            new_keys, new_ids = new_keys[below], new_ids[below]
        keys = new_keys if keys is None else np.concatenate([keys, new_keys])
        ids = new_ids if ids is None else np.concatenate([ids, new_ids])
        if distinct:
            ids, first = np.unique(ids, return_index=True)
            keys = keys[first]
        if len(keys) > k:
            kept = np.argpartition(keys, k - 1)[:k]
            keys, ids = keys[kept], ids[kept]
            threshold = keys.max()
    return ids


def splitmix(ids: Any) -> Any:
    import numpy as np

    x = ids.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def exponential(ids: Any) -> Any:
    import numpy as np

    return -np.log((splitmix(ids) >> np.uint64(11)) * 2.0**-53 + 2.0**-54)


def algorithm_l(ids: Any, k: int, seed: int) -> Any:
    """Skip in plain Python."""
    import random

    rng, sample = random.Random(seed), ids[:k].tolist()
    w, at = math.exp(math.log(rng.random()) / k), k
    while True:
        at += int(math.log(rng.random()) / math.log1p(-w))
        if at >= len(ids):
            return sample
        sample[rng.randrange(k)] = int(ids[at])
        at += 1
        w *= math.exp(math.log(rng.random()) / k)


def aggarwal(ids: Any, k: int, seed: int) -> Any:
    """Forget, in plain Python."""
    import random

    rng, sample = random.Random(seed), []
    for i in ids.tolist():
        if rng.random() < len(sample) / k:
            sample[rng.randrange(len(sample))] = i
        else:
            sample.append(i)
    return sample


def last_writes(ids: Any, k: int, seed: int) -> Any:
    """Forget, in numpy: of equal places the last counts."""
    import numpy as np

    rng, slots = np.random.default_rng(seed), np.full(k, -1)
    for (part,) in chunks(ids):
        slots[rng.integers(k, size=len(part))] = part
    return slots[slots >= 0]


def jobs(ids: Any, weights: Any, k: int) -> dict[str, Samplers]:
    import numpy as np

    import negfast

    def ours(method: str, *stream: Any) -> Callable[[], Any]:
        return lambda: negfast.Reservoir(k, method=method).add(*stream).ids()  # type: ignore[arg-type]

    def by_weight() -> Any:
        rng = np.random.default_rng(0)
        return smallest(((rng.exponential(size=len(i)) / w, i) for i, w in chunks(ids, weights)), k, distinct=False)

    return {
        "skip": {
            "negfast": ours("skip", ids),
            "negfast, a range": ours("skip", range(len(ids))),
            "python, algorithm L": lambda: algorithm_l(ids, k, 0),
            "numpy Generator.choice": lambda: np.random.default_rng(0).choice(ids, k, replace=False, shuffle=False),
        },
        "skip by weight": {
            "negfast": ours("skip", ids, weights),
            "numpy, keys and threshold": by_weight,
            "numpy Generator.choice": lambda: np.random.default_rng(0).choice(
                ids, k, replace=False, p=weights / weights.sum(), shuffle=False
            ),
        },
        "keyed": {
            "negfast": ours("keyed", ids),
            "negfast, a range": ours("keyed", range(len(ids))),
            "numpy, hashes and threshold": lambda: smallest(
                ((splitmix(i), i) for (i,) in chunks(ids)), k, distinct=True
            ),
        },
        "keyed by weight": {
            "negfast": ours("keyed", ids, weights),
            "numpy, hashes and threshold": lambda: smallest(
                ((exponential(i) / w, i) for i, w in chunks(ids, weights)), k, distinct=True
            ),
        },
        "aged": {
            "negfast": ours("aged", ids),
            "numpy, last writes": lambda: last_writes(ids, k, 0),
            "python, loop (scaled)": lambda: aggarwal(ids[:SCALED], k, 0),
        },
    }


def look(name: str, sample: Any, n: int, k: int) -> None:
    """Refuse a sample that cannot be right."""
    import numpy as np

    sample = np.asarray(sample)
    assert len(np.unique(sample)) == len(sample) and (len(sample) == k or name == "aged"), name
    # The stream is a permutation, so even an aged sample lies evenly.
    deviations = abs(sample.mean() - n / 2) / (n / math.sqrt(12 * len(sample)))
    assert sample.min() >= 0 and sample.max() < n and deviations < 5, (name, deviations)


def shards(ids: Any, k: int, *, overlap: bool) -> list[Any]:
    """Make reservoirs of the parts of a stream; with `overlap` every part but its end is in the next one too."""
    import negfast

    size = len(ids) // SHARDS
    return [negfast.Reservoir(k).add(ids[max(0, i - overlap) * size : (i + 1) * size]) for i in range(SHARDS)]


def merging(ids: Any, k: int, *, overlap: bool) -> Samplers:
    import numpy as np

    import negfast

    parts = shards(ids, k, overlap=overlap)
    whole = negfast.Reservoir(k).add(ids[: len(ids) // SHARDS * SHARDS])

    def ours() -> Any:
        total = negfast.Reservoir(k)
        for part in parts:
            total.merge(part)
        return total

    held = [part.ids() for part in parts]
    keys = [splitmix(i) for i in held]

    def in_numpy() -> Any:
        return smallest(iter([(np.concatenate(keys), np.concatenate(held))]), k, distinct=True)

    def one_by_one() -> Any:
        return smallest(zip(keys, held, strict=True), k, distinct=True)

    np.testing.assert_array_equal(ours().ids(), whole.ids())
    assert set(in_numpy().tolist()) == set(one_by_one().tolist())
    return {"negfast": ours, "numpy, all at once": in_numpy, "numpy, one by one": one_by_one}


def stopwatch(name: str, run: Callable[[], Any], n: int) -> Callable[[], float]:
    return lambda: timed(run) * (n / SCALED if "scaled" in name else 1.0)


def lines(title: str, rows: dict[str, dict[str, float]], unit: str, figure: Callable[[float], float]) -> str:
    text = f"\n\n{title}\n{'contender':<30} {unit:>12} {'worst':>9} {'best':>9} {'x negfast':>10}  (min, max of rounds)"
    for name, row in rows.items():
        text += (
            f"\n{name:<30} {figure(row['median_seconds']):12.2f} {figure(row['max_seconds']):9.2f} "
            f"{figure(row['min_seconds']):9.2f} {row['ratio_to_negfast']:10.2f}  "
            f"({row['min_ratio']:.2f}, {row['max_ratio']:.2f})"
        )
    return text


def main() -> None:
    chosen = options()
    pin(1)

    import numpy as np

    rng = np.random.default_rng(0)
    n, k = chosen.n, chosen.capacity
    ids, weights = rng.permutation(n), rng.lognormal(sigma=2.0, size=n)
    result: dict[str, Any] = {"versions": versions(), "n": n, "capacity": k, "rounds": chosen.rounds, "seconds": {}}
    text = f"{n:,} items, capacity {k:,}, one core; x negfast is seconds over those of negfast in the same round"
    for job, samplers in jobs(ids, weights, k).items():
        for name, run in samplers.items():
            if "scaled" not in name and "weight" not in job:
                look(job, run(), n, k)
        seconds = alternate({name: stopwatch(name, run, n) for name, run in samplers.items()}, chosen.rounds)
        result["seconds"][job] = seconds
        text += lines(job, summary(seconds), "million/s", lambda seconds: n / seconds / 1e6)
    for overlap in (False, True):
        job = f"merge of {SHARDS} shards" + (", each id in two of them" if overlap else "")
        mergers = merging(ids, k, overlap=overlap)
        seconds = alternate({name: stopwatch(name, run, n) for name, run in mergers.items()}, chosen.rounds)
        result["seconds"][job] = seconds
        text += lines(job, summary(seconds), "ms", lambda seconds: seconds * 1e3)
    skipped = n / max(
        np.median(result["seconds"]["skip"]["negfast"]), np.median(result["seconds"]["skip by weight"]["negfast"])
    )
    merged = max(np.median(times["negfast"]) for job, times in result["seconds"].items() if job.startswith("merge"))
    bars = {
        f"skipping at least {SKIP_BAR / 1e6:.0f} million items a second": bool(skipped >= SKIP_BAR),
        f"merging {SHARDS} shards in less than {MERGE_BAR * 1e3:.0f} ms": bool(merged < MERGE_BAR),
    }
    text += "\n\nbars\n" + "\n".join(f"{name}: {'cleared' if met else 'MISSED'}" for name, met in bars.items())
    record(chosen.name, result | {"bars": bars}, text)
    sys.exit(not all(bars.values()))


if __name__ == "__main__":
    main()
