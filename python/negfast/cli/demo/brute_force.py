"""Plain search in numpy, written as well as numpy allows, timed against `negfast.topk` in one fresh process.

The process is a fresh one because numpy's matrix library reads the number of its threads only when it is
loaded. Each thread here multiplies and selects blocks of its own: a single multithreaded product would leave
the selection, which costs as much, on one thread.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

ROWS_PER_BLOCK = 128  # with 25,000 corpus rows a block of scores is 12 MiB
N_ROUNDS = 2
SCORE_TOLERANCE = 1e-5  # float32 sums of unit rows in another order

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]
_Found = tuple[_Ints, _Floats]


@dataclass(frozen=True)
class Comparison:
    """Times of one search by both, the best of the rounds.

    Attributes
    ----------
    n_queries, n_corpus, dim, k, n_threads, n_rounds : int
        What was searched, and with how many threads each.
    numpy_seconds, negfast_seconds : float
        Time of the search of all queries.
    n_agreeing : int
        Queries for which both found the same rows, apart from ties within rounding.
    """

    n_queries: int
    n_corpus: int
    dim: int
    k: int
    n_threads: int
    n_rounds: int
    numpy_seconds: float
    negfast_seconds: float
    n_agreeing: int

    @property
    def ratio(self) -> float:
        """How many times as long numpy takes."""
        return self.numpy_seconds / self.negfast_seconds


def compare(queries: _Floats, corpus: _Floats, *, k: int, n_threads: int) -> Comparison:
    """Time numpy and negfast on one search, in a fresh process.

    Parameters
    ----------
    queries : ndarray of float32, shape (n_queries, dim)
        Unit rows.
    corpus : ndarray of float32, shape (n_corpus, dim)
        Unit rows.
    k : int
        Rows to find per query.
    n_threads : int
        Threads of each side.

    Returns
    -------
    Comparison
        Times and agreement.
    """
    one_thread = dict.fromkeys(
        (
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OMP_NUM_THREADS",
            "VECLIB_MAXIMUM_THREADS",
            "BLIS_NUM_THREADS",
        ),
        "1",
    )
    with TemporaryDirectory(prefix="negfast-") as folder:
        np.save(Path(folder, "queries.npy"), queries)
        np.save(Path(folder, "corpus.npy"), corpus)
        command = [sys.executable, "-m", "negfast.cli.demo.brute_force", folder, str(k), str(n_threads)]
        result = subprocess.run(command, env=os.environ | one_thread, stdout=subprocess.PIPE, check=True)
    return Comparison(**json.loads(result.stdout))


def numpy_topk(queries: _Floats, corpus: _Floats, *, k: int, n_threads: int) -> _Found:
    """Find the `k` best rows of each query by inner product, best first.

    Parameters
    ----------
    queries : ndarray of float32, shape (n_queries, dim)
        Rows to search with.
    corpus : ndarray of float32, shape (n_corpus, dim)
        Rows to search.
    k : int
        Between 1 and n_corpus.
    n_threads : int
        Blocks of queries that are worked on at once.

    Returns
    -------
    indices : ndarray of int64, shape (n_queries, k)
        Rows of the corpus.
    scores : ndarray of float32, shape (n_queries, k)
        Their inner products.
    """
    indices = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)

    def search_block(start: int) -> None:
        block = slice(start, start + ROWS_PER_BLOCK)
        products = queries[block] @ corpus.T
        found = np.argpartition(products, -k, axis=1)[:, -k:]
        values = np.take_along_axis(products, found, axis=1)
        order = np.argsort(-values, axis=1)
        indices[block] = np.take_along_axis(found, order, axis=1)
        scores[block] = np.take_along_axis(values, order, axis=1)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(search_block, range(0, len(queries), ROWS_PER_BLOCK)))
    return indices, scores


def n_agreeing(ours: _Found, theirs: _Found) -> int:
    """Count the queries for which both found the same rows.

    Lists may differ in rows whose scores are equal up to rounding, in their order or at the end of the list.

    Parameters
    ----------
    ours, theirs : tuple of ndarray
        Indices and scores, shape (n_queries, k) each.

    Returns
    -------
    int
        Queries whose scores agree and whose rows above the last score agree.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([[0.9, 0.5]], dtype=np.float32)
    >>> n_agreeing((np.array([[3, 1]]), scores), (np.array([[3, 2]]), scores))  # row 2 ties with row 1
    1
    """
    near = np.isclose(ours[1], theirs[1], rtol=0, atol=SCORE_TOLERANCE)
    sure = ours[1] > ours[1][:, -1:] + 2 * SCORE_TOLERANCE  # not a tie with the last one
    pairs = zip(near, sure, ours[0], theirs[0], strict=True)
    return sum(bool(close.all() and np.isin(row[above], known).all()) for close, above, row, known in pairs)


def _timed(search: Callable[[], _Found]) -> tuple[float, _Found]:
    start = time.perf_counter()
    found = search()
    return time.perf_counter() - start, found


def _main(folder: str, k: int, n_threads: int) -> None:
    import negfast  # here, so that the search above can be used without the compiled module

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the parent as well, which reports it
    queries: _Floats = np.load(Path(folder, "queries.npy"))
    corpus: _Floats = np.load(Path(folder, "corpus.npy"))

    def search() -> _Found:
        found = negfast.topk(queries, corpus, k, metric="dot", n_threads=n_threads)
        return found.indices, found.scores

    theirs, ours = [], []
    for _ in range(N_ROUNDS):
        theirs.append(_timed(lambda: numpy_topk(queries, corpus, k=k, n_threads=n_threads)))
        ours.append(_timed(search))
    comparison = Comparison(
        n_queries=len(queries),
        n_corpus=len(corpus),
        dim=queries.shape[1],
        k=k,
        n_threads=n_threads,
        n_rounds=N_ROUNDS,
        numpy_seconds=min(seconds for seconds, _ in theirs),
        negfast_seconds=min(seconds for seconds, _ in ours),
        n_agreeing=n_agreeing(ours[0][1], theirs[0][1]),
    )
    sys.stdout.write(json.dumps(asdict(comparison)))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
