"""Near-duplicates: negfast.near_duplicates against range searches with faiss and numpy, and scipy's components.

Every contender starts from the same unit rows and ends with the group of each row. All of them look at each pair once.
"""

import argparse
from collections.abc import Callable, Iterator

from bench import (
    MIB,
    alternate,
    arguments,
    forget_peak,
    memory_of,
    peak_bytes,
    peer_libraries,
    pin,
    record,
    summary,
    table,
    timed,
    versions,
)

CHUNK = 2048  # rows at a time; the block of scores is 0.5 GB at 63k rows
TOLERANCE = 1e-6  # float32 products and the score may fall on different sides of a threshold that is so close


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def contenders(threshold: float, threads: int) -> dict[str, Callable]:
    """Functions of the rows that return the group of each."""
    import faiss
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    import negfast

    faiss.omp_set_num_threads(threads)

    def ours(rows):
        return negfast.near_duplicates(rows, threshold, n_threads=threads)

    def components(n: int, links: Iterator) -> np.ndarray:
        first, second = (np.concatenate(side) for side in zip(*links, strict=True))
        return connected_components(coo_array((np.ones(len(first), bool), (first, second)), (n, n)), directed=False)[1]

    def numpy_links(rows):
        for begin in range(0, len(rows), CHUNK):
            first, second = np.nonzero(rows[begin : begin + CHUNK] @ rows[begin:].T >= np.float32(threshold))
            yield first + begin, second + begin

    def faiss_links(rows):
        for begin in range(0, len(rows), CHUNK):
            index = faiss.IndexFlatIP(rows.shape[1])
            index.add(rows[begin:])
            # It returns what is above a bound.
            ends, _, second = index.range_search(rows[begin : begin + CHUNK], np.nextafter(np.float32(threshold), 0))
            yield np.repeat(np.arange(len(ends) - 1), np.diff(ends.astype(np.int64))) + begin, second + begin

    return {
        "negfast": ours,
        "faiss range_search + scipy": lambda rows: components(len(rows), faiss_links(rows)),
        "numpy matmul + scipy": lambda rows: components(len(rows), numpy_links(rows)),
    }


def print_memory(name: str, threshold: float, threads: int, n: int | None) -> None:
    from data import load

    rows = load(n).corpus
    run = contenders(threshold, threads)[name]
    run(rows[:64])  # what loads lazily is no working memory
    forget_peak()
    before = peak_bytes()
    groups = run(rows)
    print(peak_bytes() - before - groups.nbytes)


def compare(found: dict, rows, threshold: float) -> int:
    """Count rows whose group has another size; every difference has to be one of rounding."""
    import numpy as np

    import negfast

    def within(fine, coarse) -> bool:
        return len(np.unique(np.stack([fine, coarse]), axis=1).T) == len(np.unique(fine))

    finer = negfast.near_duplicates(rows, min(1.0, threshold + TOLERANCE))
    coarser = negfast.near_duplicates(rows, threshold - TOLERANCE)
    for name, groups in found.items():
        assert within(finer, groups) and within(groups, coarser), f"{name} differs by more than rounding"
    sizes = [np.bincount(groups)[groups] for groups in found.values()]
    return int(np.any([size != sizes[0] for size in sizes], axis=0).sum())


def main() -> None:
    chosen = options()
    pin(chosen.threads, chosen.level, chosen.peers)
    if chosen.memory_of:
        print_memory(chosen.memory_of, chosen.threshold, chosen.threads, chosen.n)
        return

    import numpy as np

    import negfast
    from data import load

    pairs = load(chosen.n)
    rows = pairs.corpus
    runs = contenders(chosen.threshold, chosen.threads)
    # This first round also warms every library up.
    found = {name: run(rows) for name, run in runs.items()}
    different = compare(found, rows, chosen.threshold)
    seconds = alternate(
        {name: lambda run=run: timed(lambda: run(rows)) for name, run in runs.items()},
        chosen.rounds,
    )
    memory = {name: memory_of(__file__, name, chosen) for name in runs}
    level = negfast.simd_level()
    groups = len(np.unique(found["negfast"]))
    results = summary(seconds)
    text = (
        f"near-duplicates at {chosen.threshold:g}, {len(rows):,} rows, dim {rows.shape[1]}, {chosen.threads} threads, "
        f"level {level}\n{pairs.source}\n"
        f"{groups:,} groups; rows that rounding puts into another one: {different}\n\n{table(results)}\n\n"
        "peak memory beyond inputs and outputs\n"
        + "\n".join(f"{name:<34} {size / MIB:9.0f} MiB" for name, size in memory.items())
    )
    record(
        chosen.name or f"near-duplicates-{len(rows)}-{level}-{chosen.threads}t",
        {
            "peer_libraries": peer_libraries(),
            "versions": versions("faiss-cpu", "scipy"),
            "source": pairs.source,
            "shape": list(rows.shape),
            "threshold": chosen.threshold,
            "threads": chosen.threads,
            "level": level,
            "groups": groups,
            "rows_in_other_groups": different,
            "seconds": seconds,
            "summary": results,
            "memory_bytes_beyond_inputs_and_outputs": memory,
        },
        text,
    )


if __name__ == "__main__":
    main()
