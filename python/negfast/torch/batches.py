"""Batches whose rows are negatives of each other: none false, and hard where mined lists say which are."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from negfast import _negfast, inputs, threads
from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.inputs import Labels
from negfast.results import MinedNegatives
from negfast.settings import number, truth, whole
from negfast.states import check_state

VERSION = 1
"""Version of the state of :class:`HardBatchSampler`."""
_MOST_ROWS = 2**31 - 1
_MARGIN = 0.05  # that of Rules()


class _Epoch(NamedTuple):
    """The batches of all ranks, one after the other.

    And who had the first choice of places, and who has none, both ascending; and which communities were put together.
    """

    number: int
    first: Ints
    rows: Ints
    left_out: Ints
    lists: str


_NOBODY: Ints = np.empty(0, dtype=np.int64)
_NOTHING = _Epoch(-1, _NOBODY, _NOBODY, _NOBODY, "")


class HardBatchSampler(Sampler[list[int]]):
    """Compose batches for losses that take the other rows of a batch for negatives.

    No two rows of a batch share a key or a group. With `mined`, most rows of a batch are also hard for others in it.

    Parameters
    ----------
    n_rows : int
        Number of rows, ``len(dataset)``.
    batch_size : int
        Rows of a batch, for each rank.
    keys : int array of shape (n_rows,) or (n_rows, n_columns), or lists, optional
        Keys of the texts of each row, as :func:`negfast.content_keys` makes them; -1 for none. They are compared across
        columns: a query that equals the passage of another row keeps both rows apart.
    groups : int array of shape (n_rows,) or (n_rows, n_columns), or lists, optional
        What belongs together for another reason, such as the number of a document; -1 for none. Rows with several
        positives are kept apart by lists of these.
    mined : MinedNegatives, optional
        Lists of rows among the same rows: anchor ``i`` and corpus row ``i`` are row ``i`` here. Rows without a list are
        dealt at random.
    range_min, range_max : int, default 0 and 100
        The ranks of each list that are read, from the first to before the second.
    community : int, default 32
        The most rows that are kept together.
    random_share : float, default 0.1
        The share of each batch that is dealt at random, from 0 to 1.
    seed : int, default 0
        From 0 to 2**64 - 1. All ranks have to give the same.
    drop_last : bool, default True
        Leave out rows that fit no full batch. Else short batches at the end of the epoch hold them.
    rank : int, default 0
        Which batch of each step this process gets.
    world_size : int, default 1
        Number of ranks. The batches that all ranks get in one step are clean together.

    Attributes
    ----------
    n_rows, batch_size, range_min, range_max, community, random_share, seed, drop_last, rank, world_size
        As given.
    epoch : int
        The epoch that batches are composed for.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or shape, or lies out of its range, or `mined` belongs to other rows.

    Notes
    -----
    *Without* `mined` rows are dealt into batches at random, those that share labels with most others first; each takes
    one of the free places where it fits, all alike. Rows that share no label are shuffled as ever. Every row is in at
    most one batch of an epoch. How many batches there are was found out once, so that all epochs have as many, and
    full ones; :attr:`left_out` rows have no place, and have the first choice of places in the epoch after.

    *With* `mined` two rows are neighbours if each is in the window of the other's list, unless a score is above
    ``p - abs(p) * margin``, with ``p`` the positive score of that list and the margin that `mined` was made with (0.05
    if none). Communities of neighbours, at most `community` rows each, are found by merging clusters with the highest
    mean weight between them, and then by moves and exchanges of rows. A batch is made of whole communities, chosen at
    random, and of random rows; the last community may go on in the next batch. This is the composition of R.
    Thirukovalluru et al., *Breaking the Batch Barrier (B3) of Contrastive Learning via Smart Batch Mining* (2025),
    who cut the graph with METIS.

    Call :meth:`set_epoch` before each epoch, and :meth:`update` with lists that were mined anew. Batches are a function
    of the arguments, the epoch, the lists, and the rows that the epoch before left out; threads and workers change
    nothing. An epoch that is jumped to composes all before it, with the lists of now, to know what they leave out.

    A data loader with workers asks for batches ahead of the loop. A loop that saves its state calls :meth:`consumed`
    after each step; else what was handed out counts as done.

    Limitations
    -----------
    Only labels keep rows apart. Two false negatives that share no key or group may meet, within a community more likely
    than elsewhere: neighbours of a row are not checked against each other's bound unless they list each other.

    Communities are found by a heuristic, the heaviest ones there are cannot be had in reasonable time.

    Examples
    --------
    >>> import negfast
    >>> from negfast.torch import HardBatchSampler
    >>> questions = ["what is a fox", "what is rust", "define fox", "what is iron", "name a metal", "name an oxide"]
    >>> answers = ["an animal", "an oxide", "an animal", "a metal", "iron", "rust"]
    >>> sampler = HardBatchSampler(6, 2, keys=negfast.content_keys([questions, answers]))
    >>> len(sampler), sampler.left_out
    (3, 0)
    >>> any({0, 2} == set(batch) for batch in sampler)  # they have an answer in common
    False
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        *,
        keys: Labels | None = None,
        groups: Labels | None = None,
        mined: MinedNegatives | None = None,
        range_min: int = 0,
        range_max: int = 100,
        community: int = 32,
        random_share: float = 0.1,
        seed: int = 0,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n_rows = whole("n_rows", n_rows, low=0, high=_MOST_ROWS)
        self.batch_size = whole("batch_size", batch_size, low=1, high=_MOST_ROWS)
        self.range_min = whole("range_min", range_min, low=0)
        self.range_max = whole("range_max", range_max, low=self.range_min + 1)
        self.community = whole("community", community, low=1, high=_MOST_ROWS)
        self.random_share = number("random_share", random_share, low=0.0, high=1.0)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        self.drop_last = truth("drop_last", drop_last)
        self.world_size = whole("world_size", world_size, low=1, high=_MOST_ROWS)
        self.rank = whole("rank", rank, low=0, high=self.world_size - 1)
        labels = [_labels("keys", keys), _labels("groups", groups)]
        self._conflicts = _negfast.batch_conflicts(self.n_rows, *labels)
        self._shape = _negfast.batch_sizes(self._conflicts, self.batch_size, self.world_size, self.drop_last, self.seed)
        self._sizes = self._shape[0]
        self._ends = np.cumsum(self._sizes)
        self._fingerprint = "".join(inputs.fingerprints(indptr=self._conflicts[0], classes=self._conflicts[1]).values())
        self._mined = None if mined is None else self._checked_lists(mined)
        self._communities: Ints | None = None
        self.epoch = 0
        self._done = 0
        self._handed_out = 0
        self._told = False
        self._last = _NOTHING

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, the same for every epoch and rank."""
        return len(self._sizes) // self.world_size

    @property
    def left_out(self) -> int:
        """Rows that an epoch has no place for: others each time, but always as many."""
        return self.n_rows - int(self._sizes.sum())

    @property
    def position(self) -> int:
        """Number of this rank's batches of the epoch that are done."""
        return self._done + (0 if self._told else self._handed_out)

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over this rank's batches of the epoch that are not done yet."""
        self._handed_out = 0
        return self._batches(self._compose().rows, self._done)

    def _batches(self, rows: Ints, begin: int) -> Iterator[list[int]]:
        for batch in range(begin * self.world_size + self.rank, len(self._sizes), self.world_size):
            self._handed_out += 1
            yield rows[self._ends[batch] - self._sizes[batch] : self._ends[batch]].tolist()

    def of_all_ranks(self) -> Iterator[list[int]]:
        """Iterate over the whole epoch of all ranks, step by step, for a loader that deals batches out itself."""
        rows = self._compose().rows
        for begin, end in zip(self._ends - self._sizes, self._ends, strict=True):
            yield rows[begin:end].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; in the epoch that the sampler is in it stays where it is.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `epoch` is no integer or below 0.
        """
        epoch = whole("epoch", epoch, low=0)
        if epoch != self.epoch:
            self.epoch, self._done, self._handed_out = epoch, 0, 0

    def consumed(self, n_batches: int = 1) -> None:
        """Note that the loop has trained on the next batches of this rank.

        From the first call on only what is noted counts as done, and not what was handed out.

        Parameters
        ----------
        n_batches : int, default 1
            How many.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `n_batches` is no integer, below 0, or more than are left of the epoch.
        """
        left = len(self) - self._done
        n_batches = whole("n_batches", n_batches, low=0)
        if n_batches > left:
            raise InvalidValueError(
                f"n_batches must be at most the {left} batches that are left of epoch {self.epoch}, got {n_batches}; "
                "call consumed once a step, and set_epoch before each epoch"
            )
        self._told = True
        self._done += n_batches

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands: plain values, and the rows that the epoch before left out."""
        now = self._compose()
        stand = {"epoch": self.epoch, "position": self.position, "lists": now.lists, "first": now.first.copy()}
        return {**self._fixed(), **stand}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where another sampler of the same rows stood.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned, on any rank.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or of a sampler that was made otherwise, or damaged. The sampler is as before
            then.
        """
        check_state(state, self._fixed(), "this sampler")
        try:
            epoch = whole("epoch of the state", state.get("epoch"), low=0)
            position = whole("position of the state", state.get("position"), low=0, high=len(self))
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(str(error)) from error
        first = self._checked_first(state.get("first"))
        if position and state.get("lists") != self._lists():
            raise StateError(
                f"lists of the state must be those of this sampler, as epoch {epoch} was begun with them, got others; "
                "make the sampler with the lists that it had then, or begin the epoch anew"
            )
        self.epoch, self._done, self._handed_out, self._told = epoch, position, 0, False
        self._last = _NOTHING._replace(number=epoch - 1, left_out=first)

    def _checked_first(self, first: Any) -> Ints:
        if isinstance(first, torch.Tensor):  # of a state that was written as tensors
            first = first.numpy()
        whole_numbers = isinstance(first, np.ndarray) and first.dtype == np.int64 and first.ndim == 1
        if not whole_numbers or len(first) > self.left_out or not _ascending(first, self.n_rows):
            raise StateError(
                f"first of the state must be at most {self.left_out} ascending rows in an int64 array, got "
                f"{shown(first)}; load a state that was saved whole"
            )
        rows: Ints = first.copy()
        return rows

    def _fixed(self) -> dict[str, Any]:
        """Return what a state and its sampler have to agree on."""
        return {
            "version": VERSION,
            "n_rows": self.n_rows,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "world_size": self.world_size,
            "random_share": self.random_share,
            "seed": self.seed,
            "conflicts": self._fingerprint,
        }

    def update(self, mined: MinedNegatives) -> None:
        """Compose from these lists from now on. An epoch that has begun keeps its batches.

        Parameters
        ----------
        mined : MinedNegatives
            As for the class, usually what :meth:`negfast.Miner.refresh` returned.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As the class does.
        """
        checked = self._checked_lists(mined)
        if self.position:
            self._compose()
        self._mined, self._communities = checked, None
        if not self.position and self._last.number == self.epoch:
            self._last = _NOTHING._replace(number=self.epoch - 1, left_out=self._last.first)

    def _checked_lists(self, mined: MinedNegatives) -> MinedNegatives:
        if not isinstance(mined, MinedNegatives):
            raise InvalidTypeError(
                f"mined must be a MinedNegatives, got {type(mined).__name__}; pass what negfast.mine returned"
            )
        if mined.report.n_corpus != self.n_rows:
            raise InvalidValueError(
                f"mined must be lists of the {self.n_rows} rows of the batches, got lists of a corpus of "
                f"{mined.report.n_corpus} rows; mine with one row of the corpus for each row of the data set"
            )
        outside = np.flatnonzero((mined.anchors < 0) | (mined.anchors >= self.n_rows))
        if outside.size:
            raise InvalidValueError(
                f"mined must have lists for rows below {self.n_rows}, got one for row {mined.anchors[outside[0]]}; "
                "mine with one query for each row of the data set"
            )
        return mined

    def _together(self) -> tuple[Ints, float] | None:
        """Return the community of each row and the share of random rows."""
        if self._mined is None:
            return None
        if self._communities is None:
            mined, margin = self._mined, self._mined.recipe.rules.relative_margin
            lists = {
                "anchors": mined.anchors,
                "indices": mined.indices,
                "scores": mined.scores,
                "positive_scores": mined.positive_scores,
                "margin": _MARGIN if margin is None else margin,
                "range_min": self.range_min,
                "range_max": self.range_max,
            }
            made = _negfast.batch_communities(self._conflicts, lists, self.community, threads.resolve(None))
            self._communities = made[0]
        return self._communities, self.random_share

    def _lists(self) -> str:
        """Return what tells communities apart."""
        together = self._together()
        return "" if together is None else "".join(inputs.fingerprints(communities=together[0]).values())

    def _compose(self) -> _Epoch:
        """Return the batches of the epoch; rows that the epoch before left out have the first choice of places."""
        if self._last.number > self.epoch:
            self._last = _NOTHING
        while self._last.number < self.epoch:
            number, first, together = self._last.number + 1, self._last.left_out, self._together()
            made = _negfast.batch_epoch(
                self._conflicts, self._shape, self.world_size, first, together, self.seed, number
            )
            self._last = _Epoch(number, first, *made, self._lists())
        return self._last


def _labels(argument: str, value: Labels | None) -> Ints | inputs.Lists | None:
    return None if value is None else inputs.labels(argument, value)


def _ascending(rows: Ints, n_rows: int) -> bool:
    inside = rows.size == 0 or bool(rows[0] >= 0 and rows[-1] < n_rows)
    return inside and bool((np.diff(rows) > 0).all())
