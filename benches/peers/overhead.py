"""One tiny call: what the layers around the search cost, beside the same job in a few lines of numpy."""

import argparse
import statistics
import time
from collections.abc import Callable

from bench import pin, record, versions


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500, help="calls in one sample (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each contender (default: %(default)s)")
    parser.add_argument("--name", default="overhead")
    return parser.parse_args()


def microseconds(run: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls * 1e6


def main() -> None:
    chosen = options()
    pin(1)

    import numpy as np

    import negfast

    rng = np.random.default_rng(0)
    query, corpus = rng.standard_normal((1, 8), np.float32), rng.standard_normal((10, 8), np.float32)
    positive, candidates = np.array([3]), np.array([[1, 2, 3, 4]])

    def in_numpy() -> tuple[np.ndarray, np.ndarray]:
        scores = query @ corpus.T
        best = np.argsort(-scores, axis=1)[:, :3]
        return best, np.take_along_axis(scores, best, axis=1)

    contenders: dict[str, Callable[[], object]] = {
        "numpy: matmul, argsort, take": in_numpy,
        "negfast.topk": lambda: negfast.topk(query, corpus, 3, metric="dot"),
        "negfast.mine": lambda: negfast.mine(query, corpus, positive, num_negatives=3),
        "negfast.select": lambda: negfast.select(query, corpus, candidates, positive, num_negatives=3),
    }
    np.testing.assert_array_equal(negfast.topk(query, corpus, 3, metric="dot").indices, in_numpy()[0])
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(chosen.rounds):
        for name, run in contenders.items():
            samples[name].append(microseconds(run, chosen.calls))
    text = f"one query, ten rows, dim 8; microseconds a call\n\n{'':<32} {'median':>8} {'min':>8} {'max':>8}"
    for name, times in samples.items():
        text += f"\n{name:<32} {statistics.median(times):8.1f} {min(times):8.1f} {max(times):8.1f}"
    record(chosen.name, {"versions": versions(), "level": negfast.simd_level(), "microseconds": samples}, text)


if __name__ == "__main__":
    main()
