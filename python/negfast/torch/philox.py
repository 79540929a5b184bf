"""The random numbers of this layer: functions of seed, epoch and row, the same on every machine."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal["negatives", "shuffle", "bank", "staleness"]
_PURPOSES: dict[Purpose, int] = {"negatives": 0, "shuffle": 1, "bank": 2, "staleness": 3}


def random_bits(n: int, *, purpose: Purpose, seed: int, epoch: int, row: int = 0) -> NDArray[np.uint64]:
    """Return `n` numbers of Philox4x64-10; more of them begin with the same ones.

    Parameters
    ----------
    n : int
        How many.
    purpose : {"negatives", "shuffle", "bank", "staleness"}
        What they are for: numbers for one purpose tell nothing of those for another.
    seed, epoch, row : int
        From 0 to 2**64 - 1. Seed and epoch are the key, row is a word of the counter.

    Returns
    -------
    ndarray of uint64, shape (n,)

    Notes
    -----
    The generator is that of J. Salmon, M. Moraes, R. Dror and D. Shaw, *Parallel random numbers: as easy as 1, 2, 3*
    (2011). Its raw output is used, because numpy may change how its distributions are made from it.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, 0, _PURPOSES[purpose], row], dtype=np.uint64)  # numpy counts up the first word
    return np.random.Philox(key=key, counter=counter).random_raw(n)
