"""Searches on the main thread while another Python thread counts, and prints what the count saw.

Prints the seconds of the search and the longest time for which the counting thread stood still.
"""

import sys
import threading
import time

import numpy as np

import negfast

PAUSE = 0.002


def main(job: str) -> None:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((10_000, 128), dtype=np.float32)
    corpus = rng.standard_normal((40_000, 128), dtype=np.float32)
    ticks: list[float] = []
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(PAUSE)

    counter = threading.Thread(target=count)
    counter.start()
    begin = time.perf_counter()
    if job == "topk":
        negfast.topk(queries, corpus, 10, n_threads=1)
    else:
        negfast.mine(queries, corpus, np.arange(len(queries)), n_threads=1)
    end = time.perf_counter()
    done.set()
    counter.join()
    inside = np.array([begin, *(tick for tick in ticks if begin <= tick <= end), end])
    print(end - begin, np.diff(inside).max())


if __name__ == "__main__":
    main(sys.argv[1])
