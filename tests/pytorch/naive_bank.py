"""A memory bank written for reading: rows come one by one, and every row is looked at."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(eq=False)
class Held:
    """A row, its labels and the step of its last write."""

    row: npt.NDArray[np.float64]
    labels: tuple[int, int, int]
    step: int


class NaiveBank:
    """What a first-in-first-out `MemoryBank` has to hold."""

    def __init__(self, capacity: int, *, normalize: bool = True, momentum: float | None = None) -> None:
        self.capacity, self.normalize, self.momentum = capacity, normalize, momentum
        self.held: list[Held] = []  # the one written first in front

    def unit(self, row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        wide = row.astype(np.float64)
        return wide / np.linalg.norm(wide) if self.normalize else wide

    def add(self, rows: npt.NDArray[Any], labels: npt.NDArray[np.int64], step: int) -> None:
        for row, (name, group, key) in zip(rows, labels.tolist(), strict=True):
            self.add_one(self.unit(row), (name, group, key), step)

    def add_one(self, row: npt.NDArray[np.float64], labels: tuple[int, int, int], step: int) -> None:
        same = [held for held in self.held if labels[0] >= 0 and held.labels[0] == labels[0]]
        if same:
            self.held.remove(same[0])
            if self.momentum is not None:
                row = self.unit(self.momentum * same[0].row + (1 - self.momentum) * row)
        elif len(self.held) == self.capacity:
            self.held.pop(0)
        self.held.append(Held(row, labels, step))

    def hardest(
        self,
        anchor: npt.NDArray[Any],
        k: int,
        refused: tuple[set[int], set[int], set[int]],
        max_score: float = math.inf,
    ) -> list[tuple[float, int]]:
        """Return scores and ids, best first."""
        anchor = self.unit(anchor)
        found = []
        for held in self.held:
            score = float(anchor @ held.row)
            barred = any(label >= 0 and label in bad for label, bad in zip(held.labels, refused, strict=True))
            if not barred and score <= max_score:
                found.append((score, held.labels[0]))
        return sorted(found, key=lambda pair: -pair[0])[:k]
