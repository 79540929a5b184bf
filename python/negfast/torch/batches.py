"""Batches in which no row is a false negative of another."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from negfast import _negfast, inputs
from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.inputs import Labels
from negfast.settings import truth, whole

VERSION = 1
"""Version of the state of :class:`HardBatchSampler`."""
_MOST_ROWS = 2**31 - 1
_NOBODY: Ints = np.empty(0, dtype=np.int64)


class _Epoch(NamedTuple):
    """The batches of all ranks, one after the other.

    And who had the first choice of places, and who has none; both ascending.
    """

    number: int
    first: Ints
    rows: Ints
    left_out: Ints


class HardBatchSampler(Sampler[list[int]]):
    """Compose batches in which no row is a false negative of another.

    Parameters
    ----------
    n_rows : int
        Number of rows, ``len(dataset)``.
    batch_size : int
        Rows of a batch, for each rank.
    keys : int array of shape (n_rows,) or (n_rows, n_columns), or lists, optional
        Keys of the texts of each row, which :func:`content_keys` makes; -1 for none. They are compared across columns:
        a query that equals the passage of another row keeps both apart.
    groups : int array of shape (n_rows,) or (n_rows, n_columns), or lists, optional
        What belongs together for another reason, such as the number of a document; -1 for none.
    seed : int, default 0
        From 0 to 2**64 - 1. All ranks have to give the same.
    drop_last : bool, default True
        Leave out rows that fit no full batch. Else short batches at the end of the epoch hold them.
    rank : int, default 0
        Which batch of each step this process gets.
    world_size : int, default 1
        Number of ranks. Rows that conflict do not meet in the batches of all ranks of a step either.

    Attributes
    ----------
    n_rows, batch_size, seed, drop_last, rank, world_size
        As given.
    epoch : int
        The epoch that batches are composed for.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or shape, or lies out of its range.
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        *,
        keys: Labels | None = None,
        groups: Labels | None = None,
        seed: int = 0,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n_rows = whole("n_rows", n_rows, low=0, high=_MOST_ROWS)
        self.batch_size = whole("batch_size", batch_size, low=1, high=_MOST_ROWS)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        self.drop_last = truth("drop_last", drop_last)
        self.world_size = whole("world_size", world_size, low=1, high=_MOST_ROWS)
        self.rank = whole("rank", rank, low=0, high=self.world_size - 1)
        held = {"keys": keys, "groups": groups}
        labels = [None if value is None else inputs.labels(name, value) for name, value in held.items()]
        self._conflicts = _negfast.batch_conflicts(self.n_rows, *labels)
        self._sizes = _negfast.batch_sizes(self._conflicts, self.batch_size, self.world_size, self.drop_last, self.seed)
        self._ends = np.cumsum(self._sizes)
        self._fingerprint = "".join(inputs.fingerprints(indptr=self._conflicts[0], classes=self._conflicts[1]).values())
        self.epoch = 0
        self._done = 0
        self._handed_out = 0
        self._told = False
        self._last = _Epoch(-1, _NOBODY, _NOBODY, _NOBODY)

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
        first = self._compose().first.copy()
        return {**self._fixed(), "epoch": self.epoch, "position": self.position, "first": first}

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
        if not isinstance(state, Mapping):
            raise InvalidTypeError(
                f"state must be a mapping, got {type(state).__name__} {shown(state)}; pass what state_dict returned"
            )
        for name, own in self._fixed().items():
            if type(state.get(name)) is not type(own) or state[name] != own:
                raise StateError(
                    f"{name} of the state must be {own!r}, as of this sampler, got {shown(state.get(name))}; make the "
                    "sampler as the one that was saved"
                )
        try:
            epoch = whole("epoch of the state", state.get("epoch"), low=0)
            position = whole("position of the state", state.get("position"), low=0, high=len(self))
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(str(error)) from error
        first = self._checked_first(state.get("first"))
        self.epoch, self._done, self._handed_out, self._told = epoch, position, 0, False
        self._last = _Epoch(epoch - 1, _NOBODY, _NOBODY, first)

    def _checked_first(self, first: Any) -> Ints:
        whole_numbers = isinstance(first, np.ndarray) and first.dtype == np.int64 and first.ndim == 1
        if not whole_numbers or len(first) > self.left_out or not _ascending(first, self.n_rows):
            raise StateError(
                f"first of the state must be at most {self.left_out} ascending rows in an int64 array, got "
                f"{shown(first)}; load a state that was saved whole"
            )
        return first.copy()

    def _fixed(self) -> dict[str, Any]:
        """Return what a state and its sampler have to agree on."""
        return {
            "version": VERSION,
            "n_rows": self.n_rows,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "world_size": self.world_size,
            "seed": self.seed,
            "conflicts": self._fingerprint,
        }

    def _compose(self) -> _Epoch:
        """Return the batches of the epoch; rows that the epoch before left out have the first choice of places."""
        if self._last.number > self.epoch:
            self._last = _Epoch(-1, _NOBODY, _NOBODY, _NOBODY)
        while self._last.number < self.epoch:
            number, first = self._last.number + 1, self._last.left_out
            made = _negfast.batch_epoch(self._conflicts, self._sizes, self.world_size, first, self.seed, number)
            self._last = _Epoch(number, first, *made)
        return self._last


def _ascending(rows: Ints, n_rows: int) -> bool:
    inside = rows.size == 0 or (rows[0] >= 0 and rows[-1] < n_rows)
    return bool(inside and (np.diff(rows) > 0).all())
