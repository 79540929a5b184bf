"""What a small sample, encoded again, says about the negatives that are served: before anybody encodes everything."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from negfast import inputs
from negfast.arrays import Ints, integers
from negfast.errors import InvalidValueError, RowIndexError
from negfast.inputs import Embeddings, Labels
from negfast.refresh_report import Drift
from negfast.settings import Metric

Rows = NDArray[np.float32]
ROWS_PER_LOOK = 8192
SCORES_PER_LOOK = 1 << 22
"""Scores held at a time: 16 MiB of the old and of the new each."""


@dataclass(frozen=True, kw_only=True)
class Staleness:
    """How far a sample has moved, and what that does to the lists, as :meth:`Miner.staleness` measures it.

    Attributes
    ----------
    drift, drift_corpus : Drift
        How far rows moved since the last call: all of the sample, its corpus rows.
    drift_queries : Drift or None
        The same of its queries; ``None`` if none were encoded again.
    mean_squared : float
        Sum of squared distances over the sum of squared lengths of the new rows, over all rows of the sample.
    mean_shift : float
        Length of the mean displacement of the sample's rows: what they all did alike.
    overlap : float
        Share of the best `k` sampled rows of a sampled query that are still among its best `k`; 1 of an empty sample.
    turnover : float or None
        Share of the negatives served now that would leave their list; ``None`` where no pair of a sampled query and a
        negative served to it is in the sample.
    k : int
        The rows of a list within the sample.
    depth : float
        The rank in the whole corpus that this stands for.
    n_rows, n_queries : int
        Corpus rows, and queries, that were looked at.
    n_served : int
        Pairs of query and negative that `turnover` was measured on.
    """

    drift: Drift
    drift_corpus: Drift
    drift_queries: Drift | None
    mean_squared: float
    mean_shift: float
    overlap: float
    turnover: float | None
    k: int
    depth: float
    n_rows: int
    n_queries: int
    n_served: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Return a line for people."""
        leaving = "unknown" if self.turnover is None else f"about {self.turnover:.1%}"
        return (
            f"staleness of {self.n_rows:,} rows and {self.n_queries:,} queries: moved by {self.drift.mean:.3f} (mean) "
            f"to {self.drift.max:.3f}; about {self.overlap:.1%} of the best {self.depth:,.0f} stay; turnover {leaving}"
        )


class Known(NamedTuple):
    """What a miner remembers, as far as it matters here.

    Attributes
    ----------
    queries, corpus : ndarray of float32, float16 or uint16 (bits of bfloat16)
        The vectors of the last call.
    anchors : ndarray of int64, shape (n,)
        Queries whose negatives are known.
    served : ndarray of int64, shape (n, num_negatives)
        Their negatives, best first, padded with -1.
    lists : list of CSR pairs
        Corpus rows that are no negatives of a query: its positives, those excluded.
    forbidden : ndarray of uint8, shape (n_corpus,), or None
        Corpus rows that are nobody's negatives.
    exclude_self : bool
        Whether a query is the corpus row of its number.
    metric : {"cosine", "dot"}
    """

    queries: NDArray[Any]
    corpus: NDArray[Any]
    anchors: Ints
    served: Ints
    lists: list[tuple[Ints, Ints]]
    forbidden: NDArray[np.uint8] | None
    exclude_self: bool
    metric: Metric


def measured(
    known: Known,
    rows: Labels,
    vectors: Embeddings,
    query_rows: Labels | None,
    query_vectors: Embeddings | None,
    k: int,
) -> Staleness:
    """Measure the staleness of what is known: see :meth:`Miner.staleness`."""
    if (query_rows is None) != (query_vectors is None):
        given = "query_rows" if query_vectors is None else "query_vectors"
        raise InvalidValueError(
            f"query_rows and query_vectors must be given together, got {given} alone; pass both, or neither"
        )
    corpus = _sample(("rows", "vectors"), rows, vectors, known.corpus, "corpus", known.metric)
    if query_rows is None or query_vectors is None:
        held = _prepared(known.queries[known.anchors], known.metric)
        queries, moved = _Sample(known.anchors, held, held), [corpus]
    else:
        names = ("query_rows", "query_vectors")
        queries = _sample(names, query_rows, query_vectors, known.queries, "queries", known.metric)
        moved = [corpus, queries]
    drifts = [_distances(side, known.metric) for side in moved]
    depths = _Depths.of(known, corpus, k)
    overlap, turnover, n_served = _lists(known, corpus, queries, depths)
    return Staleness(
        drift=Drift.of(np.concatenate(drifts)),
        drift_corpus=Drift.of(drifts[0]),
        drift_queries=Drift.of(drifts[1]) if len(drifts) > 1 else None,
        mean_squared=_mean_squared(drifts, moved),
        mean_shift=_mean_shift(moved),
        overlap=overlap,
        turnover=turnover,
        k=depths.k,
        depth=depths.k * depths.scale,
        n_rows=len(corpus.rows),
        n_queries=len(queries.rows),
        n_served=n_served,
    )


class _Sample(NamedTuple):
    """Rows of one side, as they were and as they are; of length 1 under cosine."""

    rows: Ints  # (n,)
    old: Rows  # (n, dim)
    new: Rows  # (n, dim)


class _Depths(NamedTuple):
    """How ranks among the sampled rows and in the whole corpus go together."""

    k: int
    scale: float
    usable: NDArray[np.bool_]  # (n_rows,)

    @classmethod
    def of(cls, known: Known, corpus: _Sample, k: int) -> "_Depths":
        """Scale `k` to the sampled rows that may serve."""
        usable = np.ones(len(corpus.rows), np.bool_)
        n_corpus = len(known.corpus)
        if known.forbidden is not None:
            usable = known.forbidden[corpus.rows] == 0
            n_corpus -= int(known.forbidden.sum())
        n = int(usable.sum())
        scale = n_corpus / max(n, 1)
        return cls(min(max(round(k / scale) if scale else 1, 1), n), scale, usable)


def _sample(
    names: tuple[str, str], rows: Labels, vectors: Embeddings, held: NDArray[Any], side: str, metric: Metric
) -> _Sample:
    numbers = _row_numbers(names[0], rows, len(held), side)
    array = inputs.embeddings(names[1], vectors)
    expected = (len(numbers), held.shape[1])
    if array.shape != expected:
        raise InvalidValueError(
            f"{names[1]} must be of shape {expected}, one vector for each of {names[0]}, got {array.shape}; encode "
            "those rows again"
        )
    new = _widened(array)
    bad = np.flatnonzero(~np.isfinite(new).all(axis=1))
    if bad.size:
        raise InvalidValueError(
            f"{names[1]} must be finite, got NaN or infinity in row {bad[0]}; encode that text again"
        )
    return _Sample(numbers, _prepared(held[numbers], metric), _prepared(new, metric))


def _row_numbers(argument: str, value: object, n_rows: int, side: str) -> Ints:
    rows = integers(argument, value)
    if rows.ndim != 1:
        raise InvalidValueError(
            f"{argument} must be a list of row numbers, got an array of shape {rows.shape}; flatten it"
        )
    outside = np.flatnonzero((rows < 0) | (rows >= n_rows))
    if outside.size:
        raise RowIndexError(
            f"{argument} must hold row numbers of the {side} (0 to {n_rows}, exclusive), got {rows[outside[0]]} at "
            f"position {outside[0]}; check which rows the numbers belong to"
        )
    if len(np.unique(rows)) < len(rows):
        raise InvalidValueError(f"{argument} must be distinct, got one twice; name every row once")
    return rows


def _widened(array: NDArray[Any]) -> Rows:
    """Return rows in float32; bfloat16, whose bits come as uint16, is the upper half of one."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def _prepared(array: NDArray[Any], metric: Metric) -> Rows:
    """Return rows in float32, of length 1 under cosine but for rows of zeros."""
    rows = _widened(array)
    if metric == "dot":
        return rows
    lengths = np.sqrt(_squares(rows))
    lengths[lengths == 0] = 1.0
    return (rows / lengths[:, None]).astype(np.float32, copy=False)


def _squares(rows: Rows) -> NDArray[np.float64]:
    """Return the squared lengths, summed in float64."""
    parts = [np.square(rows[part], dtype=np.float64).sum(axis=1) for part in _parts(len(rows), ROWS_PER_LOOK)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _parts(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, start + step)


def _distances(side: _Sample, metric: Metric) -> NDArray[np.float64]:
    """Return how far rows moved, by the measure of a refresh."""
    parts = [np.sqrt(_squares(side.new[part] - side.old[part])) for part in _parts(len(side.rows), ROWS_PER_LOOK)]
    distances = np.concatenate(parts) if parts else np.zeros(0)
    if metric == "cosine":
        # A row that is zeros on one side alone has no direction there: it counts as turned round.
        distances[side.old.any(axis=1) != side.new.any(axis=1)] = 2.0
    return distances


def _mean_squared(drifts: list[NDArray[np.float64]], moved: list[_Sample]) -> float:
    lengths = sum(float(_squares(side.new).sum()) for side in moved)
    return sum(float((drift**2).sum()) for drift in drifts) / lengths if lengths else 0.0


def _mean_shift(moved: list[_Sample]) -> float:
    total = sum(side.new.sum(axis=0, dtype=np.float64) - side.old.sum(axis=0, dtype=np.float64) for side in moved)
    return float(np.linalg.norm(total)) / max(sum(len(side.rows) for side in moved), 1)


def _lists(known: Known, corpus: _Sample, queries: _Sample, depths: _Depths) -> tuple[float, float | None, int]:
    """Return the overlap, the turnover, and the number of pairs that the latter was measured on."""
    if not depths.k or not len(queries.rows):
        return 1.0, None, 0
    order = np.argsort(corpus.rows)
    kept = held = left = served = 0
    for part in _parts(len(queries.rows), max(SCORES_PER_LOOK // len(corpus.rows), 1)):
        old, new = queries.old[part] @ corpus.old.T, queries.new[part] @ corpus.new.T
        for scores in (old, new):
            _bar(scores, known, queries.rows[part], corpus.rows, order, depths.usable)
        counts = _kept(old, new, depths.k)
        kept, held = kept + counts[0], held + counts[1]
        counts = _left(known, old, new, queries.rows[part], corpus.rows, order, depths.scale)
        left, served = left + counts[0], served + counts[1]
    return kept / held if held else 1.0, left / served if served else None, served


def _bar(scores: Rows, known: Known, anchors: Ints, rows: Ints, order: Ints, usable: NDArray[np.bool_]) -> None:
    """Put rows that may not serve an anchor below all others."""
    scores[:, ~usable] = -np.inf
    for i, anchor in enumerate(anchors.tolist()):
        for indptr, indices in known.lists:
            scores[i, _places(indices[indptr[anchor] : indptr[anchor + 1]], rows, order)[0]] = -np.inf
        if known.exclude_self:
            scores[i, _places(np.array([anchor]), rows, order)[0]] = -np.inf


def _places(wanted: Ints, rows: Ints, order: Ints) -> tuple[Ints, Ints]:
    """Return where `rows`, which `order` sorts, hold the wanted ones, and which of these they hold."""
    found = np.minimum(np.searchsorted(rows, wanted, sorter=order), len(rows) - 1)
    there = np.flatnonzero(rows[order[found]] == wanted)
    return order[found[there]], there


def _kept(old: Rows, new: Rows, k: int) -> tuple[int, int]:
    """Count rows of the old lists that score enough for the new ones, and rows of the old lists."""
    best = np.argpartition(-old, k - 1, axis=1)[:, :k]
    bound = -np.partition(-new, k - 1, axis=1)[:, k - 1 : k]
    real = np.isfinite(np.take_along_axis(old, best, axis=1))
    stays = np.take_along_axis(new, best, axis=1) >= bound
    return int((stays & real).sum()), int(real.sum())


def _left(known: Known, old: Rows, new: Rows, anchors: Ints, rows: Ints, order: Ints, scale: float) -> tuple[int, int]:
    """Count served negatives whose rank, moved by what the sample says, is past the list's end; and all of them."""
    left = served = 0
    places, there = _places(anchors, known.anchors, np.arange(len(known.anchors)))
    for place, i in zip(places.tolist(), there.tolist(), strict=True):
        negatives = known.served[place]
        columns, ranks = _places(negatives, rows, order)
        for column, rank in zip(columns.tolist(), ranks.tolist(), strict=True):
            passed = int((new[i] > new[i, column]).sum()) - int((old[i] > old[i, column]).sum())
            left += rank + passed * scale >= len(negatives)
            served += 1
    return left, served
