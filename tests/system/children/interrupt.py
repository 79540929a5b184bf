"""Runs a job of minutes on the main thread, interrupts itself, and prints how long the answer took.

The interrupt then goes on as it would in any script, so the exit status is that of an interrupted process.
"""

import os
import signal
import sys
import threading
import time

import numpy as np

import negfast
from negfast import _negfast


def compose(n_rows: int) -> None:
    """Compose epochs of rows of which each ten conflict, for as long as nobody interrupts."""
    classes = (np.random.default_rng(0).permutation(n_rows) // 10).astype(np.uint32)
    sizes = np.full(n_rows // 512, 512)
    epoch = 0
    while True:
        conflicts = np.arange(n_rows + 1), classes
        _negfast.batch_epoch(conflicts, (sizes, len(sizes)), 1, np.empty(0, dtype=np.int64), None, 0, epoch)
        epoch += 1


def main(job: str, n_threads: int, after: float) -> None:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((100_000, 128), dtype=np.float32)
    corpus = rng.standard_normal((200_000, 128), dtype=np.float32)
    positives = np.arange(len(queries))
    sent: list[float] = []

    def interrupt() -> None:
        time.sleep(after)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        if job == "topk":
            negfast.topk(queries, corpus, 100, n_threads=n_threads)
        elif job == "batches":
            compose(2_000_000)
        elif job == "near_duplicates":
            negfast.near_duplicates(corpus, 0.9, n_threads=n_threads)
        else:
            negfast.mine(queries, corpus, positives, n_threads=n_threads)
    except KeyboardInterrupt:
        answered = time.perf_counter()
        # Nothing is left behind that would keep a caller who goes on from searching.
        assert negfast.topk(queries[:3], corpus[:9], 2).indices.shape == (3, 2)
        print(answered - sent[0])
        raise


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
