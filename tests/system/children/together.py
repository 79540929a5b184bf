"""Several Python threads search the same arrays at once, each with threads of its own.

All find the same bits.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import negfast


def main() -> None:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((500, 32), dtype=np.float32)
    corpus = rng.standard_normal((4000, 32), dtype=np.float32)
    corpus[1000:1200] = corpus[:200]  # ties, whose order must not depend on who is quicker
    positives = np.arange(500)

    def search(n_threads: int) -> tuple[np.ndarray, ...]:
        found = negfast.topk(queries, corpus, 20, n_threads=n_threads)
        mined = negfast.mine(queries, corpus, positives, draw="random", n_threads=n_threads)
        return found.indices, found.scores, mined.indices, mined.scores

    expected = search(1)
    with ThreadPoolExecutor(6) as threads:
        for results in threads.map(search, [1, 2, 7, 1, 2, 7] * 4):
            for result, reference in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, reference)


if __name__ == "__main__":
    main()
