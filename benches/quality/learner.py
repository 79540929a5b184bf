"""A model and the rows that it learns from, as all parts of a run see them."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quality.clock import Clock
from quality.encoders import Model, encode
from quality.prepared import Prepared
from quality.settings import Run

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(eq=False)
class Learner:
    """Training pairs are numbered from 0 on; `rows` are their rows in the data."""

    run: Run
    prepared: Prepared
    rows: Ints
    model: Model
    clock: Clock = field(default_factory=Clock)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> Ints:
        return self.prepared.split.keys[self.rows]

    @property
    def groups(self) -> Ints:
        return self.prepared.split.groups[self.rows]

    @property
    def labels(self) -> dict[str, Ints]:
        """What negfast is told of each pair, as keyword arguments; nothing if the arm withholds it."""
        return {"keys": self.keys, "groups": self.groups} if self.run.arm.labelled else {}

    def encode(self, pairs: Ints | None = None) -> tuple[Floats, Floats]:
        """Return queries and passages of some pairs, or of all, as the model has them now."""
        rows = self.rows if pairs is None else self.rows[pairs]
        with self.clock.on("encode"):
            self.clock.texts["lists"] += 2 * len(rows)
            return encode(self.model, self.prepared.queries, rows), encode(self.model, self.prepared.passages, rows)

    def encode_passages(self, pairs: Ints) -> Floats:
        with self.clock.on("encode"):
            self.clock.texts["lists"] += len(pairs)
            return encode(self.model, self.prepared.passages, self.rows[pairs])
