"""Exact search: negfast.topk against faiss IndexFlatIP and torch matmul + topk.

Every contender starts from the same unit rows and ends with indices and scores; building an index counts.
The results are compared by score before anything is timed.
"""

import argparse
from collections.abc import Callable

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

TORCH_CHUNK = 2048  # queries a chunk; the block of scores is 0.5 GB at 63k rows
TOLERANCE = 1e-5


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def contenders(k: int, threads: int) -> dict[str, Callable]:
    """Functions of queries and corpus that return scores and indices."""
    import faiss
    import numpy as np
    import torch

    import negfast

    faiss.omp_set_num_threads(threads)
    torch.set_num_threads(threads)

    def ours(queries, corpus):
        found = negfast.topk(queries, corpus, k, metric="dot", n_threads=threads)
        return found.scores, found.indices

    def faiss_flat(queries, corpus):
        index = faiss.IndexFlatIP(corpus.shape[1])
        index.add(corpus)
        return index.search(queries, k)

    def torch_chunks(queries, corpus):
        scores = np.empty((len(queries), k), np.float32)
        indices = np.empty((len(queries), k), np.int64)
        rows, transposed = torch.from_numpy(queries), torch.from_numpy(corpus).T
        for begin in range(0, len(queries), TORCH_CHUNK):
            end = min(begin + TORCH_CHUNK, len(queries))
            best = torch.topk(rows[begin:end] @ transposed, k, dim=1)
            scores[begin:end], indices[begin:end] = best.values.numpy(), best.indices.numpy()
        return scores, indices

    return {"negfast": ours, "faiss IndexFlatIP": faiss_flat, "torch matmul + topk": torch_chunks}


def print_memory(name: str, k: int, threads: int, n: int | None) -> None:
    from data import load

    pairs = load(n)
    queries, corpus = pairs.queries, pairs.corpus
    run = contenders(k, threads)[name]
    run(queries[:64], corpus[: max(64, k)])  # what loads lazily is no working memory
    forget_peak()
    before = peak_bytes()
    results = run(queries, corpus)
    print(peak_bytes() - before - sum(array.nbytes for array in results))


def compare(found: dict, queries, corpus) -> float:
    """Largest difference of a score from ours, place by place; float64 judges ours on a sample."""
    import numpy as np

    scores, indices = found["negfast"]
    sample = np.random.default_rng(0).choice(len(queries), min(200, len(queries)), replace=False)
    exact = queries[sample].astype(np.float64) @ corpus.T.astype(np.float64)
    best = -np.sort(-exact, axis=1)[:, : scores.shape[1]]
    own = np.take_along_axis(exact, indices[sample], axis=1)
    assert np.abs(best - scores[sample]).max() <= TOLERANCE, "negfast differs from brute force in float64"
    assert np.abs(own - scores[sample]).max() <= TOLERANCE, "indices and scores of negfast do not belong together"
    largest = max(float(np.abs(theirs - scores).max()) for theirs, _ in found.values())
    assert largest <= TOLERANCE, f"contenders differ by {largest:g}"
    return largest


def main() -> None:
    chosen = options()
    pin(chosen.threads, chosen.level, chosen.peers)
    if chosen.memory_of:
        print_memory(chosen.memory_of, chosen.k, chosen.threads, chosen.n)
        return

    import negfast
    from data import load

    pairs = load(chosen.n)
    queries, corpus = pairs.queries, pairs.corpus
    runs = contenders(chosen.k, chosen.threads)
    # This first round also warms every library up.
    difference = compare({name: run(queries, corpus) for name, run in runs.items()}, queries, corpus)
    seconds = alternate(
        {name: lambda run=run: timed(lambda: run(queries, corpus)) for name, run in runs.items()},
        chosen.rounds,
    )
    memory = {name: memory_of(__file__, name, chosen) for name in runs}
    level = negfast.simd_level()
    rows = summary(seconds)
    text = (
        f"exact top-{chosen.k}, {len(queries):,} x {len(corpus):,} rows, dim {corpus.shape[1]}, "
        f"{chosen.threads} threads, level {level}\n{pairs.source}\n"
        f"largest difference between scores: {difference:.1e}\n\n{table(rows)}\n\n"
        "peak memory beyond inputs and outputs (negfast's packed corpus and faiss's index are in it)\n"
        + "\n".join(f"{name:<34} {size / MIB:9.0f} MiB" for name, size in memory.items())
        + f"\n{'(the corpus itself)':<34} {corpus.nbytes / MIB:9.0f} MiB"
    )
    record(
        chosen.name or f"topk-{len(queries)}x{len(corpus)}-{level}-{chosen.threads}t",
        {
            "peer_libraries": peer_libraries(),
            "versions": versions("faiss-cpu", "torch"),
            "source": pairs.source,
            "shape": [len(queries), len(corpus), corpus.shape[1]],
            "k": chosen.k,
            "threads": chosen.threads,
            "level": level,
            "largest_score_difference": difference,
            "seconds": seconds,
            "summary": rows,
            "memory_bytes_beyond_inputs_and_outputs": memory,
            "corpus_bytes": corpus.nbytes,
        },
        text,
    )


if __name__ == "__main__":
    main()
