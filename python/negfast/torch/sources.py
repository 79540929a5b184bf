"""Where the candidates of a draw come from."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from negfast import inputs
from negfast._negfast import shuffled_rows, uniform_rows
from negfast.arrays import Ints, integers
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError
from negfast.results import MinedNegatives
from negfast.settings import optional_whole, whole

_MOST_ROWS = 2**32 - 2


@dataclass(frozen=True, eq=False)
class Request:
    """What a draw tells its sources.

    Attributes
    ----------
    anchors : ndarray of int64, shape (n_anchors,)
        Rows of the queries.
    seed, epoch, step : int
        What random candidates have to depend on, beside their anchor; on nothing else.
    num_negatives : int
        How many negatives an anchor gets.
    n_queries : int
        Number of rows of the queries.
    max_exposure : int or None
        How many anchors a row that is sampled may serve in this epoch. A source that heeds it must not depend on the
        step.
    window : pair of int and int or None
        The ranks of lists that serve, from the first to before the second; the others are -1, and keep their places.
    """

    anchors: Ints
    seed: int
    epoch: int
    step: int
    num_negatives: int
    n_queries: int
    max_exposure: int | None = None
    window: tuple[int, int | None] = (0, None)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Rows that may become negatives.

    Parameters
    ----------
    ids : int array or tensor, shape (n_anchors, m) or (m,)
        Rows of the corpus, -1 for none; of one dimension, the same for every anchor.
    scores : float array or tensor, shape (n_anchors, m), optional
        Their scores, NaN where unknown.
    positive_scores : float array or tensor, shape (n_anchors,), optional
        Lowest positive score of each anchor by the same model, NaN where unknown. Without it no hardness is known.
    log_inclusion : float array or tensor, shape (n_anchors, m), optional
        For rows that were sampled: logarithm of the probability with which each was to be among them. ``None``: they
        are there for certain.
    """

    ids: Any
    scores: Any = None
    positive_scores: Any = None
    log_inclusion: Any = None


@runtime_checkable
class Source(Protocol):
    """What :class:`NegativeSampler` draws from.

    Attributes
    ----------
    name : str
        What a draw calls it.
    fixed : bool
        Whether the candidates of an anchor change only from one epoch to the next, their order included, but for those
        that a window turns to -1; in a draw of a few anchors, only padding may be left off. Rows of such sources count
        for `max_exposure`.

    Notes
    -----
    A source may have a method ``fingerprint()`` that returns a string which tells its lists from others; a state is
    refused where it differs.
    """

    name: str
    fixed: bool

    def candidates(self, request: Request) -> Candidates:
        """Return what may be drawn for each anchor of the request.

        What an anchor gets must not depend on the other anchors.
        """
        ...


class MinedRows:
    """Mined lists as a source.

    Parameters
    ----------
    mined : MinedNegatives
        About a hundred negatives an anchor leave tiers something to draw from.
    name : str, default "mined"

    Raises
    ------
    InvalidTypeError
        If `mined` is something else.

    Notes
    -----
    An anchor that was not mined for has no candidates here.
    """

    fixed = True

    def __init__(self, mined: MinedNegatives, *, name: str = "mined") -> None:
        if not isinstance(mined, MinedNegatives):
            raise InvalidTypeError(
                f"mined must be a MinedNegatives, got {type(mined).__name__}; pass what negfast.mine returned"
            )
        self.name = name
        self.n_rows = mined.report.n_corpus
        self.n_queries = int(mined.anchors.max(initial=-1)) + 1
        self._indices, self._scores, self._positive_scores = mined.indices, mined.scores, mined.positive_scores
        self._lists = np.full(self.n_queries, -1, dtype=np.int64)
        self._lists[mined.anchors] = np.arange(len(mined.anchors))
        self._all = np.array_equal(self._lists, np.arange(len(mined)))
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Return what tells these lists from others: a hash, not a cryptographic one."""
        if self._fingerprint is None:
            arrays = (self._lists, self._indices, self._scores, self._positive_scores)
            self._fingerprint = _fingerprint(*arrays)
        return self._fingerprint

    def candidates(self, request: Request) -> Candidates:
        """Return the lists of the anchors."""
        anchors = request.anchors
        if self._all and anchors.size and anchors.max() < self.n_queries:
            lists = anchors
        else:
            lists = np.full(anchors.shape, -1, dtype=np.int64)
            inside = anchors < self.n_queries
            lists[inside] = self._lists[anchors[inside]]
        if not len(self._indices):
            return Candidates(np.empty((len(anchors), 0), dtype=np.int64))
        ids, positive_scores = self._indices[lists], self._positive_scores[lists]
        if lists is not anchors:
            ids[lists < 0] = -1
            positive_scores[lists < 0] = np.nan
        return Candidates(within_window(ids, request.window), self._scores[lists], positive_scores)


class UniformRows:
    """Rows of the corpus at random, others each epoch and step.

    Parameters
    ----------
    n_rows : int
        Rows of the corpus.
    ids : int array, shape (n,), optional
        Take them from these rows only, which were sampled from the corpus uniformly, such as ``Reservoir.ids()``.
    candidates : int, optional
        Candidates an anchor. By default twice as many as its negatives, and 16.
    name : str, default "uniform"

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range, or, in a call, a cap on exposure leaves no row to an
        anchor.
    RowIndexError
        If `ids` holds a number that is no row.

    Notes
    -----
    Every set of rows is alike. Under a cap on exposure the rows of an anchor are the same for the whole epoch: a
    stretch of the corpus in an order that is shuffled for it, so that each row is proposed to as many anchors as any
    other, or one more.
    """

    fixed = False

    def __init__(self, n_rows: int, *, ids: Any = None, candidates: int | None = None, name: str = "uniform") -> None:
        self.n_rows = whole("n_rows", n_rows, low=0, high=_MOST_ROWS)
        self.name = name
        self._width = optional_whole("candidates", candidates, low=1)
        self._ids = None if ids is None else _sampled_rows(ids, self.n_rows)
        self._n = self.n_rows if self._ids is None else len(self._ids)
        self._order: tuple[tuple[int, int], Ints] | None = None

    def fingerprint(self) -> str:
        """Return what tells the rows that are sampled from others."""
        whole = np.array([self.n_rows, self._width or 0])
        return _fingerprint(whole) if self._ids is None else _fingerprint(whole, self._ids)

    def candidates(self, request: Request) -> Candidates:
        """Return random rows for each anchor."""
        width = self._width or 2 * request.num_negatives + 16
        if request.max_exposure is None:
            anchors, coordinates = request.anchors, (request.seed, request.epoch, request.step)
            places = uniform_rows(self._n, width, anchors, *coordinates)
        else:
            places = self._in_turn(request, width)
        ids = places if self._ids is None else self._ids[places]
        share = math.log(ids.shape[1] / self.n_rows) if ids.size else 0.0
        return Candidates(ids, log_inclusion=np.full(ids.shape, share, dtype=np.float32))

    def _in_turn(self, request: Request, width: int) -> Ints:
        """Deal rows out to anchors so that each serves as often as any other."""
        most = request.max_exposure or 0
        width = min(width, most * self._n // max(request.n_queries, 1), self._n)
        if width == 0 and self._n:
            raise InvalidValueError(
                f"max_exposure must let each of the {request.n_queries} anchors have a random row of {self._n}, got "
                f"{most} for random rows; raise it, or sample from more rows"
            )
        key = (request.seed, request.epoch)
        if self._order is None or self._order[0] != key:
            self._order = key, shuffled_rows(self._n, *key)
        turns = request.anchors[:, None] * width + np.arange(width)
        rows: Ints = self._order[1][turns % max(self._n, 1)]
        return rows


def within_window(ids: Ints, window: tuple[int, int | None]) -> Ints:
    """Turn what is outside of the window of ranks to -1, in place."""
    first, end = window
    ids[:, :first] = -1
    if end is not None:
        ids[:, end:] = -1
    return ids


def _fingerprint(*arrays: NDArray[Any]) -> str:
    named = {str(i): np.ascontiguousarray(array) for i, array in enumerate(arrays)}
    return " ".join(inputs.fingerprints(**named).values())


def _sampled_rows(ids: Any, n_rows: int) -> Ints:
    rows: Ints = np.unique(integers("ids", ids))
    if rows.size and (rows[0] < 0 or rows[-1] >= n_rows):
        wrong = rows[0] if rows[0] < 0 else rows[-1]
        raise RowIndexError(
            f"ids must hold rows of the corpus (0 to {n_rows}, exclusive), got {wrong}; check which corpus they are of"
        )
    return rows


def source_size(value: Source, name: str) -> int | None:
    """Return how many rows, or queries, a source is for, if it says so."""
    found = getattr(value, name, None)
    return found if isinstance(found, int) else None


def source_fingerprint(value: Source) -> str | None:
    """Return what tells the lists of a source from others, if it says so."""
    tell = getattr(value, "fingerprint", None)
    return str(tell()) if callable(tell) else None
