"""Tuples of a batch on any device and by any distance, chosen by torch, block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from negfast.errors import InvalidTypeError
from negfast.integrations.pytorch_metric_learning.batch import Batch, Pair
from negfast.integrations.pytorch_metric_learning.choice import Choice
from negfast.integrations.pytorch_metric_learning.compiled import Found

MOST_CELLS = 1 << 22
"""Cells of a table that is held at a time."""


def by_torch(batch: Batch, choice: Choice, distance: Any, most_cells: int = MOST_CELLS) -> Found:
    """Return the tuples of a batch, by a distance of pytorch-metric-learning, where the rows are.

    Rows that are equally close come in the order that torch puts them in.
    """
    n = len(batch.anchors) if len(batch.rows) else 0  # no table without columns
    size = max(most_cells // max(len(batch.rows), 1), 1)
    device = batch.anchors.device
    found = [_Columns(width, device) for width in ((3,) if choice.tuples == "triplets" else (2, 2))]
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for start in range(0, n, size):
        block = _Block(batch, choice, distance, slice(start, start + size), size)
        if choice.tuples == "triplets":
            block.triplets(*found)
        else:
            block.pairs(*found)
        sums += block.sums()
    n_triplets, positives, negatives = sums.tolist()
    return Found(tuple(column for part in found for column in part.all()), int(n_triplets), positives, negatives)


class _Columns:
    """Columns of row numbers that grow seldom: parts kept one by one would pin the room of tables between them."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._held = torch.empty((width, 1 << 12), dtype=torch.int64, device=device)
        self._n = 0

    def add(self, *parts: torch.Tensor) -> None:
        end, room = self._n + len(parts[0]), self._held.shape[1]
        if end > room:
            larger = self._held.new_empty((len(parts), max(end, 2 * room)))
            larger[:, :room] = self._held
            self._held = larger
        for column, part in zip(self._held, parts, strict=True):
            column[self._n : end] = part
        self._n = end

    def all(self) -> tuple[torch.Tensor, ...]:
        return tuple(column[: self._n].clone() for column in self._held)


@dataclass(frozen=True, eq=False)
class _Used:
    """Positives that are used: the anchor of the block, the row and how close they are, shape (n_positives,)."""

    anchors: torch.Tensor
    rows: torch.Tensor
    closeness: torch.Tensor


class _Block:
    """Some anchors against all rows; tables have a row for each anchor, or for each of some positives."""

    def __init__(self, batch: Batch, choice: Choice, distance: Any, anchors: slice, size: int) -> None:
        self._batch, self._choice, self._size = batch, choice, size
        self._start = anchors.start
        self._labels = batch.labels[anchors]
        self._closeness = _closeness(distance, batch.anchors[anchors], batch.rows)
        self._positive = self._labels[:, None] == batch.row_labels
        itself = torch.zeros_like(self._positive)
        if batch.same:
            here = torch.arange(len(self._labels), device=itself.device)
            itself[here, here + self._start] = True
        self._positive &= ~itself
        self._used = self._positives()
        self._allowed = self._negatives(~(self._positive | itself), anchors)

    def sums(self) -> torch.Tensor:
        """Return the number of triplets there could be, and sums of how close their positives and negatives are."""
        zero = self._closeness.new_zeros((), dtype=torch.float64)
        n, used = len(self._labels), self._used
        of_positives = zero.expand(n).clone().index_add(0, used.anchors, used.closeness.double())
        n_positives = torch.bincount(used.anchors, minlength=n).double()
        n_negatives = self._allowed.sum(dim=1).double()
        of_negatives = torch.where(self._allowed, self._closeness, 0).double().sum(dim=1)
        per_anchor = (n_positives * n_negatives, of_positives * n_negatives, of_negatives * n_positives)
        return torch.stack([part.sum() for part in per_anchor])

    def triplets(self, out: _Columns) -> None:
        """Add anchors, positives and negatives."""
        used = self._used
        for some in self._spans(len(used.rows)):
            at, negatives = self._best(self._in_band(some), used.anchors[some])
            out.add(used.anchors[some][at] + self._start, used.rows[some][at], negatives)

    def pairs(self, of_positives: _Columns, of_negatives: _Columns) -> None:
        """Add the anchors and rows of positive pairs, and those of negative ones."""
        used = self._used
        chosen = self._any(lambda some: self._in_band(some), len(used.rows), used.anchors)
        every = torch.arange(len(chosen), device=chosen.device)
        at, negatives = self._best(chosen, every)
        chosen = torch.zeros_like(chosen)
        chosen[at, negatives] = True
        kept = torch.zeros(len(used.rows), dtype=torch.bool, device=chosen.device)
        for some in self._spans(len(used.rows)):
            kept[some] = (self._in_band(some) & chosen[used.anchors[some]]).any(dim=1)
        of_positives.add(used.anchors[kept] + self._start, used.rows[kept])
        of_negatives.add(at + self._start, negatives)

    def _positives(self) -> _Used:
        """Return the positives that are used."""
        positive, which = self._positive, self._choice.positives
        if which != "all":
            farthest = -torch.inf if which == "easiest" else torch.inf
            values = self._closeness.masked_fill(~positive, farthest)
            best = values.argmax(dim=1) if which == "easiest" else values.argmin(dim=1)
            one = torch.zeros_like(positive)
            one[torch.arange(len(best), device=best.device), best] = True
            positive = positive & one
        anchors, rows = torch.where(positive)
        return _Used(anchors, rows, self._closeness[anchors, rows])

    def _negatives(self, allowed: torch.Tensor, anchors: slice) -> torch.Tensor:
        """Tell which rows may be negatives of which anchor."""
        batch, rules, closeness = self._batch, self._choice.rules, self._closeness
        for pair in (batch.keys, batch.groups):
            if pair is not None:
                allowed &= ~_share(pair[0][anchors], pair[1]) & ~self._shared_with_positive(pair)
        lowest = closeness.masked_fill(~self._positive, torch.inf).amin(dim=1, keepdim=True).double()
        none = torch.isinf(lowest)
        if rules.relative_margin is not None:
            allowed &= none | (closeness <= lowest - lowest.abs() * rules.relative_margin)
        if rules.absolute_margin is not None:
            allowed &= none | (closeness <= lowest - rules.absolute_margin)
        if rules.max_score is not None:
            allowed &= closeness.double() <= rules.max_score
        if rules.min_score is not None:
            allowed &= closeness.double() >= rules.min_score
        if rules.duplicate_of_positive is not None:
            allowed &= ~self._copies_of_positive(rules.duplicate_of_positive)
        return allowed

    def _shared_with_positive(self, pair: Pair) -> torch.Tensor:
        anchors, rows = torch.where(self._positive)
        return self._any(lambda some: _share(pair[1][rows[some]], pair[1]), len(rows), anchors)

    def _copies_of_positive(self, bound: float) -> torch.Tensor:
        anchors, rows = torch.where(self._positive)
        unit = torch.nn.functional.normalize(self._batch.rows.float(), dim=1)
        return self._any(lambda some: unit[rows[some]] @ unit.T > bound, len(rows), anchors)

    def _in_band(self, some: slice) -> torch.Tensor:
        """Tell which negatives go with each of some positives."""
        above, up_to = self._choice.band
        anchors = self._used.anchors[some]
        margins = self._used.closeness[some][:, None] - self._closeness[anchors]
        inside = self._allowed[anchors]
        if above is not None:
            inside &= margins > above
        if up_to is not None:
            inside &= margins <= up_to
        return inside

    def _best(self, inside: torch.Tensor, anchors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the places and rows of the closest negatives, or of all."""
        most = self._choice.num_negatives
        if most is None:
            places, rows = torch.where(inside)
            return places, rows
        values = self._closeness[anchors].masked_fill(~inside, -torch.inf)
        best, rows = values.topk(min(most, inside.shape[1]), dim=1)
        found = best > -torch.inf
        return torch.where(found)[0], rows[found]

    def _any(self, tell: Callable[[slice], torch.Tensor], n: int, anchors: torch.Tensor) -> torch.Tensor:
        """Tell for each anchor which rows something is true of, for one of its positives at least."""
        counts = torch.zeros(self._positive.shape, dtype=torch.int32, device=anchors.device)
        for some in self._spans(n):
            counts.index_add_(0, anchors[some], tell(some).to(torch.int32))
        return counts > 0

    def _spans(self, n: int) -> Iterator[slice]:
        return (slice(start, start + self._size) for start in range(0, n, self._size))


def _share(labels: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Tell which rows have a label in common, shape (n, m)."""
    shared = torch.zeros((len(labels), len(others)), dtype=torch.bool, device=labels.device)
    for own in labels.reshape(len(labels), -1).T:
        for other in others.reshape(len(others), -1).T:  # one at a time: all of them would take several tables
            shared |= (own[:, None] == other) & (own >= 0)[:, None]
    return shared


def _closeness(distance: Any, anchors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    measured = distance(anchors, rows)
    if not isinstance(measured, torch.Tensor) or measured.shape != (len(anchors), len(rows)):
        raise InvalidTypeError(
            f"distance must return one number for each pair, of shape {(len(anchors), len(rows))}, got "
            f"{type(measured).__name__}; use one of pytorch_metric_learning.distances"
        )
    return measured if distance.is_inverted else -measured
