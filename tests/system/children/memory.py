"""Runs one job and prints how many bytes the process grew by at its peak, beyond the arrays that went in."""

import resource
import sys

import numpy as np

import negfast


def peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(job: str, n_queries: int, n_corpus: int, dim: int, k: int) -> None:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((n_queries, dim), dtype=np.float32)
    corpus = rng.standard_normal((n_corpus, dim), dtype=np.float32)
    positives = np.arange(n_queries)
    # Lazily made things (imports, the allocator's arenas) are not the working memory of a job.
    negfast.mine(queries[:50], corpus[:500], positives[:50], num_negatives=2)
    before = peak()
    if job == "topk":
        found = negfast.topk(queries, corpus, k, n_threads=2)
    else:
        found = negfast.mine(queries, corpus, positives, num_negatives=k, n_threads=2)
    after = peak()
    assert found.indices.shape == (n_queries, k)
    print(after - before)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
