"""Searches, then searches again in a worker that was started in the way named by the argument."""

import multiprocessing
import os
import sys
from typing import NamedTuple

import numpy as np

import negfast


class Outcome(NamedTuple):
    indices: np.ndarray
    scores: np.ndarray
    negatives: np.ndarray
    threads: int


def search(n_threads: int | None) -> Outcome:
    """Search and mine on enough rows that several threads are worth it."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((1000, 64), dtype=np.float32)
    corpus = rng.standard_normal((8000, 64), dtype=np.float32)
    found = negfast.topk(queries, corpus, 10, n_threads=n_threads)
    mined = negfast.mine(queries, corpus, np.arange(1000), num_negatives=4, n_threads=n_threads)
    return Outcome(found.indices, found.scores, mined.indices, found.report.search.n_threads)


def check(here: Outcome, there: Outcome, asked: int | None) -> None:
    for mine, theirs in zip(here[:3], there[:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    expected = 1 if asked is None else asked
    assert there.threads == expected, f"asked for {asked} threads, a worker used {there.threads}"


def raw_fork(here: Outcome) -> None:
    """Fork without the help of multiprocessing, as servers do."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for asked in (None, 2):
                check(here, search(asked), asked)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def pool(here: Outcome, method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as workers:
        for asked in (None, 2):
            for there in workers.map(search, [asked] * 2):
                check(here, there, asked)


def main(method: str) -> None:
    here = search(2)
    if method == "raw":
        raw_fork(here)
    else:
        pool(here, method)
    # The parent has lost nothing by it, least of all its threads.
    check(here, search(2), 2)
    check(here, search(1), 1)


if __name__ == "__main__":
    main(sys.argv[1])
