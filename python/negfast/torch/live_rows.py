"""Mined lists that change under a data loader that is running."""

from collections.abc import Mapping
from multiprocessing.context import get_spawning_popen
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints, integers
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, StateError
from negfast.results import MinedNegatives
from negfast.settings import whole
from negfast.states import check_state
from negfast.torch.epoch import SharedEpoch
from negfast.torch.shared import SharedNumbers
from negfast.torch.sources import Candidates, Request, within_window

VERSION = 1
"""Version of the state of :class:`LiveRows`."""


class _Lists(NamedTuple):
    """What an anchor draws from, by the row of the anchor."""

    ids: Ints  # (n_queries, width)
    scores: NDArray[np.float32]  # (n_queries, width)
    positive_scores: NDArray[np.float32]  # (n_queries,)

    def arrays(self) -> list[NDArray[Any]]:
        """Return all three, for what is done with each of them."""
        return [self.ids, self.scores, self.positive_scores]


class LiveRows:
    """Mined lists as a source that can be changed while workers of a data loader draw from it.

    Parameters
    ----------
    mined : MinedNegatives
        About a hundred negatives an anchor leave tiers something to draw from.
    name : str, default "mined"

    Attributes
    ----------
    n_rows, n_queries : int
        Rows of the corpus and of the queries.
    width : int
        Negatives of a list.
    mined : MinedNegatives or None
        The latest lists; ``None`` before there were any.

    Raises
    ------
    InvalidTypeError
        If `mined` is something else.

    Notes
    -----
    The lists are in shared memory, 12 bytes a negative, so that forked and spawned workers, persistent ones too, see
    changes at once; the latest lists are held beside them.

    An anchor keeps one list for an epoch. :meth:`swap` gives the new lists to anchors that were not yet dealt out in
    this epoch, and to the others when the next one begins. Whoever deals batches out says so by :meth:`deal`, in the
    process of the loop and before workers get to know of the batch: :class:`LiveBatches` does. What an anchor draws
    then depends on how many batches were dealt out before the swap, and not on how far workers are.

    Limitations
    -----------
    If nobody calls :meth:`deal`, new lists come where the next epoch begins, by :meth:`begin_epoch`.

    A copy, pickled or deep, is on its own. A cap on exposure is kept only if lists change between epochs.

    Examples
    --------
    >>> import negfast, numpy as np
    >>> from negfast.torch import LiveRows, NegativeSampler
    >>> rows = np.random.default_rng(0).standard_normal((6, 8), dtype=np.float32)
    >>> lists = LiveRows(negfast.mine(rows, rows, np.arange(6), num_negatives=2))
    >>> sampler = NegativeSampler([lists], num_negatives=2, probabilities={"easy": 1.0}, min_random=0)
    >>> before = sampler.draw([0, 1], 0).ids
    >>> lists.deal([0])
    >>> lists.swap(negfast.mine(-rows, rows, np.arange(6), num_negatives=2))
    >>> lists.deal([0, 1])  # anchor 0 comes a second time, anchor 1 for the first
    >>> np.array_equal(sampler.draw([0], 0).ids[0], before[0])
    True
    >>> np.array_equal(sampler.draw([1], 0).ids[0], before[1])
    False
    """

    fixed = True

    def __init__(self, mined: MinedNegatives, *, name: str = "mined") -> None:
        _check_mined(mined)
        n_queries = int(mined.anchors.max(initial=-1)) + 1
        self._make(n_queries, mined.report.n_corpus, mined.indices.shape[1], name)
        self._hold(mined)
        self._put()

    @classmethod
    def empty(cls, n_queries: int, n_rows: int, width: int, *, name: str = "mined") -> Self:
        """Make one without lists, for lists that are mined or read when training begins.

        Parameters
        ----------
        n_queries, n_rows : int
            Rows of the queries and of the corpus.
        width : int
            Negatives of a list.
        name : str, default "mined"

        Returns
        -------
        LiveRows

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If a number is none, or below 0.
        """
        lists = cls.__new__(cls)
        lists._make(
            whole("n_queries", n_queries, low=0), whole("n_rows", n_rows, low=0), whole("width", width, low=1), name
        )
        return lists

    def _make(self, n_queries: int, n_rows: int, width: int, name: str) -> None:
        self.name, self.n_rows, self.n_queries, self.width = name, n_rows, n_queries, width
        self.mined: MinedNegatives | None = None
        self._latest: _Lists | None = None
        self._shared = tuple(SharedNumbers(part.ravel()) for part in _no_lists(n_queries, width).arrays())
        self._changes = SharedEpoch()
        self._dealt = np.zeros(n_queries, dtype=np.bool_)
        self._mixed = False  # whether some anchors still have lists from before a swap

    @property
    def generation(self) -> int:
        """How often all lists changed at once, for those who remember something of them."""
        return self._changes.value

    @property
    def is_dealt(self) -> bool:
        """Whether an anchor was dealt out in this epoch."""
        return bool(self._dealt.any())

    def fingerprint(self) -> str:
        """Return the sizes: the lists have a state of their own, and a sampler need not see that they are the same."""
        return f"live {self.n_queries} {self.n_rows} {self.width}"

    def candidates(self, request: Request) -> Candidates:
        """Return the lists of the anchors."""
        table, anchors = self._table(), request.anchors
        outside = anchors >= self.n_queries
        rows = np.where(outside, 0, anchors)
        if not self.n_queries:
            return Candidates(np.empty((len(anchors), 0), dtype=np.int64))
        ids, positive_scores = table.ids[rows], table.positive_scores[rows]
        ids[outside], positive_scores[outside] = -1, np.nan
        return Candidates(within_window(ids, request.window), table.scores[rows], positive_scores)

    def swap(self, mined: MinedNegatives) -> None:
        """Take new lists: anchors get theirs when they are next dealt out, each epoch for the first time.

        Parameters
        ----------
        mined : MinedNegatives
            Of the same queries and corpus, and as many negatives each.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `mined` is something else, or of other sizes.
        """
        _check_mined(mined)
        self._check_sizes(mined)
        self._hold(mined)
        self._mixed = True
        if not self.is_dealt:  # nobody says what is dealt out, so that anything may be on its way
            self._dealt[:] = True

    def deal(self, anchors: Any) -> None:
        """Note that these anchors are about to be drawn for; those that come for the first time get the latest lists.

        Parameters
        ----------
        anchors : int array or list, shape (n,)
            Rows of the queries; those that lists were never mined for may be among them.

        Raises
        ------
        InvalidTypeError, RowIndexError
            If `anchors` are no rows.
        """
        rows = integers("anchors", anchors).ravel()
        if rows.size and rows.min() < 0:
            raise RowIndexError(f"anchors must be rows of the queries, 0 or more, got {rows.min()}; pass their numbers")
        first = np.unique(rows[rows < self.n_queries])
        first = first[~self._dealt[first]]
        if self._mixed:
            self._copy(first)
        self._dealt[first] = True

    def begin_epoch(self) -> None:
        """Give all anchors the latest lists. No batch may be on its way then."""
        self._dealt[:] = False
        if self._mixed:
            self._put()

    def state_dict(self) -> dict[str, Any]:
        """Return the latest lists, and those that anchors which were dealt out in this epoch have kept."""
        dealt = np.flatnonzero(self._dealt)
        kept = dealt if self._mixed else dealt[:0]
        table = self._table()
        return {
            **self._fixed(),
            "mined": None if self.mined is None else self.mined.to_dict(),
            "dealt": dealt,
            "mixed": self._mixed,
            "kept_ids": table.ids[kept],
            "kept_scores": table.scores[kept],
            "kept_positive_scores": table.positive_scores[kept],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the lists of another source of the same sizes.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned, or the :func:`merged` ones of several processes.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or other sizes, or damaged. The source is as before then.
        """
        check_state(state, self._fixed(), "this source")
        mined, dealt, kept = self._checked(state)
        self._hold(mined)
        self._put()
        self._dealt[:] = False
        self._dealt[dealt] = True
        self._mixed = bool(state["mixed"])
        if self._mixed:
            for part, rows in zip(self._table().arrays(), kept.arrays(), strict=True):
                part[dealt] = rows

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what only the process of the loop needs, if this is for a worker that is being spawned."""
        spawning = get_spawning_popen() is not None
        return {**vars(self), "mined": None, "_latest": None} if spawning else vars(self).copy()

    def _table(self) -> _Lists:
        ids, scores, positive_scores = (part.values for part in self._shared)
        shape = (self.n_queries, self.width)
        return _Lists(ids.reshape(shape), scores.reshape(shape), positive_scores)

    def _hold(self, mined: MinedNegatives | None) -> None:
        self.mined = mined
        self._latest = _no_lists(self.n_queries, self.width) if mined is None else _aligned(mined, self.n_queries)

    def _check_sizes(self, mined: MinedNegatives) -> None:
        sizes = (int(mined.anchors.max(initial=-1)) + 1, mined.report.n_corpus, mined.indices.shape[1])
        own = (self.n_queries, self.n_rows, self.width)
        if sizes[0] > own[0] or sizes[1:] != own[1:]:
            raise InvalidValueError(
                f"mined must have {own[2]} negatives each for {own[0]} queries from {own[1]} rows, got {sizes[2]} for "
                f"{sizes[0]} from {sizes[1]}; mine with the same settings and rows"
            )

    def _put(self) -> None:
        self._copy(slice(None))
        self._mixed = False
        self._changes.value += 1

    def _copy(self, rows: Ints | slice) -> None:
        assert self._latest is not None, "there were lists to swap"
        for part, new in zip(self._table().arrays(), self._latest.arrays(), strict=True):
            part[rows] = new[rows]

    def _fixed(self) -> dict[str, Any]:
        sizes = {"n_queries": self.n_queries, "n_rows": self.n_rows, "width": self.width}
        return {"version": VERSION, **sizes}

    def _checked(self, state: Mapping[str, Any]) -> tuple[MinedNegatives | None, Ints, _Lists]:
        try:
            mined = None if state["mined"] is None else MinedNegatives.from_dict(state["mined"])
            dealt = np.asarray(state["dealt"])
            kept = _Lists(*(np.asarray(state[f"kept_{name}"]) for name in _Lists._fields))
            fits = self._fits(dealt, kept, bool(state["mixed"]))
            if mined is not None:
                self._check_sizes(mined)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"the state of the lists is damaged: {error!r}; load that of another step") from error
        if not fits or (mined is None and state["mixed"]):
            raise StateError("the state of the lists is damaged: its arrays do not fit; load that of another step")
        return mined, dealt, kept

    def _fits(self, dealt: Ints, kept: _Lists, mixed: bool) -> bool:
        """Return whether arrays of a state have the types, the shapes and the rows of this source's."""
        n = len(dealt) if mixed else 0
        dtypes = [part.dtype for part in self._table().arrays()]
        return (
            [part.dtype for part in kept.arrays()] == dtypes
            and kept.ids.shape == kept.scores.shape == (n, self.width)
            and kept.positive_scores.shape == (n,)
            and dealt.dtype == np.int64
            and dealt.ndim == 1
            and bool(((dealt >= 0) & (dealt < self.n_queries)).all())
            and bool(((kept.ids >= -1) & (kept.ids < self.n_rows)).all())
        )


def merged(states: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the states of processes that deal out other anchors each as one, fit for all of them."""
    every = np.concatenate([state["dealt"] for state in states])
    dealt, first = np.unique(every, return_index=True)
    parts = {"dealt": dealt}
    for name in (f"kept_{field}" for field in _Lists._fields):
        held = np.concatenate([state[name] for state in states])
        parts[name] = held[first] if states[0]["mixed"] else held
    return {**states[0], **parts}


def _check_mined(mined: Any) -> None:
    if not isinstance(mined, MinedNegatives):
        raise InvalidTypeError(
            f"mined must be a MinedNegatives, got {type(mined).__name__}; pass what negfast.mine returned"
        )


def _aligned(mined: MinedNegatives, n_queries: int) -> _Lists:
    """Return lists by the row of their anchor; nothing is copied where they are in that order already."""
    if np.array_equal(mined.anchors, np.arange(n_queries)):
        return _Lists(mined.indices, mined.scores, mined.positive_scores)
    lists = _no_lists(n_queries, mined.indices.shape[1])
    for part, values in zip(lists.arrays(), (mined.indices, mined.scores, mined.positive_scores), strict=True):
        part[mined.anchors] = values
    return lists


def _no_lists(n_queries: int, width: int) -> _Lists:
    return _Lists(
        np.full((n_queries, width), -1, dtype=np.int64),
        np.full((n_queries, width), -np.inf, dtype=np.float32),
        np.full(n_queries, np.nan, dtype=np.float32),
    )
