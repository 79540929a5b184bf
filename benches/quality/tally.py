"""How many of the negatives that a model learns from are false: known here by keys and groups."""

from collections import Counter

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Tally:
    """Counts negatives, and those that share a text or a group with their anchor.

    "chosen" are those that were drawn or looked up for an anchor, "in-batch" the passages of the other anchors, before
    any mask of the loss.
    """

    def __init__(self, keys: Ints, groups: Ints) -> None:
        self.keys, self.groups = keys, groups
        self.counts: Counter[str] = Counter()
        self.false: Counter[str] = Counter()

    def add(self, name: str, anchors: Ints, negatives: Ints) -> None:
        """Count `negatives`, (n, k), -1 for none, of `anchors`, (n,)."""
        there = negatives >= 0
        same = self.groups[anchors][:, None] == self.groups[negatives]
        for side in range(self.keys.shape[1]):
            same |= self.keys[anchors, side][:, None] == self.keys[negatives, side]
        self.counts[name] += int(there.sum())
        self.false[name] += int((same & there).sum())

    def add_batch(self, anchors: Ints) -> None:
        others = ~np.eye(len(anchors), dtype=np.bool_)
        self.add("in-batch", anchors, np.where(others, anchors, -1))

    def shares(self) -> dict[str, float]:
        return {name: self.false[name] / count for name, count in self.counts.items() if count}

    def clear(self) -> None:
        self.counts.clear()
        self.false.clear()
