"""Candidates that may not be negatives, taken out of arrays of row numbers.

An entry of a candidate array that is taken out becomes negative. Everything works on blocks of rows, so that what is
held beside the arrays does not grow with them.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.integrations.hard_negatives.settings import Filters

Scores = NDArray[np.float32]
BLOCK = 1 << 20
"""Entries that are looked at together."""
FIRST = -2
"""What an entry becomes that the first filter refuses."""


def lowest_of(scores: Scores, indptr: Ints) -> Scores:
    """Return the lowest score of each list; none is empty."""
    return np.minimum.reduceat(scores, indptr[:-1]) if len(scores) else scores


def take_out(indices: Ints, lists: tuple[Ints, Ints]) -> None:
    """Take the entries of each row's list out of its candidates, in place."""
    indptr, entries = lists
    rows = np.repeat(np.arange(len(indices)), np.diff(indptr))
    step = max(1, BLOCK // max(indices.shape[1], 1))
    for start in range(0, len(rows), step):
        among = rows[start : start + step]
        places, columns = np.nonzero(indices[among] == entries[start : start + step, None])
        indices[among[places], columns] = -1


def screen(indices: Ints, scores: Scores, lowest: Scores, filters: Filters) -> None:
    """Take out, in place, what a filter refuses: the entry becomes -2 for the first filter that is on, then -3, ...

    Parameters
    ----------
    indices, scores : arrays of shape (n, width)
        Candidates, -1 where there is none.
    lowest : array of shape (n,)
        The lowest score of each row's positives.
    filters : Filters
    """
    step = max(1, BLOCK // max(indices.shape[1], 1))
    for start in range(0, len(indices) if filters.active() else 0, step):
        block = slice(start, start + step)
        held = indices[block]
        for place, (name, value) in enumerate(filters.active().items()):
            refused = _refused(name, np.float32(value), scores[block], lowest[block, None]) & (held >= 0)
            held[refused] = FIRST - place


def skipped(indices: Ints, filters: Filters) -> Counter[str]:
    """Count what each filter refused in :func:`screen`."""
    return Counter({name: int((indices == FIRST - place).sum()) for place, name in enumerate(filters.active())})


def _refused(name: str, value: np.float32, scores: Scores, lowest: Scores) -> NDArray[np.bool_]:
    """Compare in float32, in the order of operations that others use, so that edges fall on the same side."""
    refused: NDArray[np.bool_]
    if name == "absolute_margin":
        refused = scores + value > lowest
    elif name == "relative_margin":
        refused = scores > lowest - np.abs(lowest) * value
    elif name == "max_score":
        refused = scores > value
    else:
        refused = scores < value
    return refused
