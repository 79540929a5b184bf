"""A shuffle of rows that a training run can leave and take up again."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.settings import whole
from negfast.states import check_state
from negfast.torch.philox import random_bits

VERSION = 1
"""Version of the state of :class:`EpochSampler`."""


class EpochSampler(Sampler[int]):
    """Shuffle rows by seed and epoch alone, for one rank of several, from wherever the epoch was left.

    A data loader asks for rows ahead of the loop that trains on them, so only the loop knows how far the epoch got. It
    says so with :meth:`consumed` after each step, and what :meth:`state_dict` returns is right between any two steps,
    whatever the number of workers.

    Parameters
    ----------
    n : int
        Number of rows, ``len(dataset)``.
    seed : int, default 0
        From 0 to 2**64 - 1. All ranks have to give the same.
    rank : int, default 0
        Which share of the shuffle this process gets: its entries ``rank``, ``rank + world_size``, and so on.
    world_size : int, default 1
        Number of ranks.

    Attributes
    ----------
    n, seed, rank, world_size : int
        As given.
    epoch : int
        The epoch that is shuffled for.
    position : int
        Number of this rank's rows of the epoch that were consumed.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument is no integer or lies out of its range.

    Notes
    -----
    Every rank gets ``n // world_size`` rows. The ``n % world_size`` rows at the end of the shuffle, others each epoch,
    are left out, so that no rank waits for another and no row is seen twice.

    A state names no rank: ranks that step together have the same one. The batches after a resumed one are those of the
    uninterrupted run if the batch size is the same.

    Call :meth:`set_epoch` before each epoch; of an epoch that was consumed nothing is left to iterate over.

    Examples
    --------
    >>> from negfast.torch import EpochSampler
    >>> sampler = EpochSampler(6, seed=1)
    >>> order = list(sampler)
    >>> sampler.consumed(4)
    >>> again = EpochSampler(6, seed=1)
    >>> again.load_state_dict(sampler.state_dict())
    >>> list(again) == order[4:]
    True
    """

    def __init__(self, n: int, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.n = whole("n", n, low=0)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        self.world_size = whole("world_size", world_size, low=1)
        self.rank = whole("rank", rank, low=0, high=self.world_size - 1)
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        """Return the number of rows of a whole epoch for one rank, wherever the epoch stands."""
        return self.n // self.world_size

    def __iter__(self) -> Iterator[int]:
        """Iterate over this rank's rows of the epoch that are not consumed yet."""
        bits = random_bits(self.n, purpose="shuffle", seed=self.seed, epoch=self.epoch)
        shuffled = np.argsort(bits, kind="stable")
        own = shuffled[self.rank :: self.world_size][: len(self)]
        return iter(own[self.position :].tolist())

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; in the epoch that the sampler is in it stays where it is.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `epoch` is no integer or below 0.
        """
        epoch = whole("epoch", epoch, low=0)
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def consumed(self, n_rows: int) -> None:
        """Note that a step has trained on the next rows of this rank.

        Parameters
        ----------
        n_rows : int
            How many, the length of this rank's batch.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `n_rows` is no integer, below 0, or more than are left of the epoch.
        """
        left = len(self) - self.position
        n_rows = whole("n_rows", n_rows, low=0)
        if n_rows > left:
            raise InvalidValueError(
                f"n_rows must be at most the {left} rows that are left of epoch {self.epoch}, got {n_rows}; call "
                "consumed once a step with the length of this rank's batch, and set_epoch before each epoch"
            )
        self.position += n_rows

    def state_dict(self) -> dict[str, int]:
        """Return where the sampler stands, as plain integers."""
        return {**self._fixed(), "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where another sampler of the same rows stood.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version, `n`, `seed` or `world_size`, or damaged. The sampler is as before then.
        """
        check_state(state, self._fixed(), "this sampler")
        try:
            epoch = whole("epoch of the state", state.get("epoch"), low=0)
            position = whole("position of the state", state.get("position"), low=0, high=len(self))
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(str(error)) from error
        self.epoch, self.position = epoch, position

    def _fixed(self) -> dict[str, int]:
        """Return what a state and its sampler have to agree on."""
        return {"version": VERSION, "n": self.n, "seed": self.seed, "world_size": self.world_size}
