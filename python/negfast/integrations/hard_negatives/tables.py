"""The four layouts in which negatives come back, as columns of Arrow.

Rows are taken by number, many at once; none is built by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.errors import InvalidValueError
from negfast.integrations.hard_negatives.settings import Layout
from negfast.integrations.hard_negatives.texts import Pairs

Columns = dict[str, Any]
_LARGEST = 1 << 30
"""Bytes of text in one chunk of a column: offsets of Arrow's strings end at 2**31."""


class Negatives(NamedTuple):
    """Negatives of every query, best first, and the scores of all pairs."""

    indices: Ints  # (n_queries, num_negatives), -1 where there is none
    scores: NDArray[np.float32]  # (n_queries, num_negatives)
    positive_scores: NDArray[np.float32]  # (n_pairs,)


@dataclass(frozen=True)
class Wanted:
    """Names of the columns, and what is wanted beside texts.

    Attributes
    ----------
    anchor, positive : str
        Names of the columns of texts.
    scores : bool
        Scores in the place of labels, or beside the texts.
    ids : bool
        Row numbers beside the texts.
    others : mapping of str to pyarrow.ChunkedArray
        Columns of the table that travel with each pair.
    """

    anchor: str
    positive: str
    scores: bool
    ids: bool
    others: Columns


def table(layout: Layout, pairs: Pairs, negatives: Negatives, wanted: Wanted) -> Columns:
    """Return the columns of the result, in order.

    Parameters
    ----------
    layout : {"triplet", "n-tuple", "labeled-pair", "labeled-list"}
    pairs, negatives, wanted : the texts, what was found, what is asked for
    """
    columns, rows = _LAYOUTS[layout](_Builder(pairs, wanted), negatives)
    return columns | {name: column.take(rows) for name, column in wanted.others.items()}


def check_names(layout: Layout, num_negatives: int, wanted: Wanted) -> None:
    """Refuse names that two columns of the result would have.

    Raises
    ------
    InvalidValueError
        If a column that travels, or one of texts, has the name of another.
    """
    texts = [wanted.anchor, wanted.positive]
    if layout == "triplet":
        texts.append("negative")
    elif layout == "n-tuple":
        texts += [f"negative_{rank}" for rank in range(1, num_negatives + 1)]
    label = "score" if wanted.scores else "label"
    others = {"labeled-pair": [label], "labeled-list": [f"{label}s"]}.get(layout, ["scores"] if wanted.scores else [])
    names = [*texts, *others, *(f"{name}_id" for name in texts if wanted.ids), *wanted.others]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InvalidValueError(
            f"dataset must not have columns that the result adds, got {', '.join(repeated)}; rename them before"
        )


class _Builder:
    """Takes texts, ids and scores by number."""

    def __init__(self, pairs: Pairs, wanted: Wanted) -> None:
        self.pairs = pairs
        self.wanted = wanted

    def anchor(self, queries: Ints) -> Columns:
        """Return the columns about queries."""
        return self._texts(self.wanted.anchor, self.pairs.queries, self.pairs.query_rows, queries)

    def document(self, name: str, documents: Ints) -> Columns:
        """Return the columns about rows of the corpus."""
        return self._texts(name, self.pairs.corpus, self.pairs.corpus_rows, documents)

    def lists(self, name: str, documents: Ints, offsets: Ints) -> Columns:
        """Return the same, with several rows of the corpus in each row."""
        texts = {name: taken_lists(self.pairs.corpus, documents, offsets)}
        ids = self.ids(f"{name}_id", self.pairs.corpus_rows[documents])
        return texts | {key: listed(column, offsets) for key, column in ids.items()}

    def _texts(self, name: str, texts: Any, places: Ints, rows: Ints) -> Columns:
        return {name: taken(texts, rows)} | self.ids(f"{name}_id", places[rows])

    def ids(self, name: str, places: Ints) -> Columns:
        """Return a column of row numbers, if they are wanted."""
        import pyarrow as pa

        return {name: pa.array(places)} if self.wanted.ids else {}

    def scored(self, name: str, rows: NDArray[np.float32]) -> Columns:
        """Return a column with a list of scores in each row, if scores are wanted."""
        import pyarrow as pa

        if not self.wanted.scores:
            return {}
        offsets = np.arange(len(rows) + 1) * rows.shape[1]
        return {name: listed(pa.array(rows.astype(np.float64).reshape(-1)), offsets)}

    def labelled(self, plural: str, positive: NDArray[np.bool_], scores: NDArray[np.float32]) -> Columns:
        """Return one label, or score, of each document; their names differ by an s where a row lists several."""
        import pyarrow as pa

        if self.wanted.scores:
            return {f"score{plural}": pa.array(scores.astype(np.float64))}
        return {f"label{plural}": pa.array(positive.astype(np.int64))}


def _triplets(builder: _Builder, negatives: Negatives) -> tuple[Columns, Ints]:
    """One row for each pair and negative."""
    pairs = builder.pairs
    places, ranks = np.nonzero(negatives.indices[pairs.anchors] >= 0)
    queries = pairs.anchors[places]
    scores = np.stack([negatives.positive_scores[places], negatives.scores[queries, ranks]], axis=1)
    columns = (
        builder.anchor(queries)
        | builder.document(builder.wanted.positive, pairs.positives[places])
        | builder.document("negative", negatives.indices[queries, ranks])
        | builder.scored("scores", scores)
    )
    return columns, pairs.rows[places]


def _tuples(builder: _Builder, negatives: Negatives) -> tuple[Columns, Ints]:
    """One row for each pair whose query has all of its negatives."""
    pairs = builder.pairs
    places = np.flatnonzero(np.all(negatives.indices >= 0, axis=1)[pairs.anchors])
    queries = pairs.anchors[places]
    columns = builder.anchor(queries) | builder.document(builder.wanted.positive, pairs.positives[places])
    for rank, documents in enumerate(negatives.indices[queries].T, start=1):
        columns |= builder.document(f"negative_{rank}", documents)
    scores = np.concatenate([negatives.positive_scores[places, None], negatives.scores[queries]], axis=1)
    return columns | builder.scored("scores", scores), pairs.rows[places]


def _labelled_pairs(builder: _Builder, negatives: Negatives) -> tuple[Columns, Ints]:
    """One row for each positive of a query, then one for each of its negatives."""
    pairs = builder.pairs
    owners, ranks = np.nonzero(negatives.indices >= 0)
    queries = np.concatenate([pairs.anchors, owners])
    order = np.argsort(queries, kind="stable")  # positives were put first, and stay so
    documents = np.concatenate([pairs.positives, negatives.indices[owners, ranks]])[order]
    scores = np.concatenate([negatives.positive_scores, negatives.scores[owners, ranks]])[order]
    # A negative belongs to no row of the table: what travels with it is that of its query's first row.
    rows = np.concatenate([pairs.rows, pairs.query_rows[owners]])[order]
    columns = (
        builder.anchor(queries[order])
        | builder.document(builder.wanted.positive, documents)
        | builder.labelled("", order < len(pairs.anchors), scores)
    )
    return columns, rows


def _labelled_lists(builder: _Builder, negatives: Negatives) -> tuple[Columns, Ints]:
    """One row for each pair whose query has a negative, with a list of the positive and the negatives."""
    pairs = builder.pairs
    places = np.flatnonzero(np.any(negatives.indices >= 0, axis=1)[pairs.anchors])
    queries = pairs.anchors[places]
    documents = np.concatenate([pairs.positives[places, None], negatives.indices[queries]], axis=1)
    scores = np.concatenate([negatives.positive_scores[places, None], negatives.scores[queries]], axis=1)
    held = documents >= 0
    offsets = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    first = np.zeros_like(held)
    first[:, 0] = True
    labels = builder.labelled("s", first[held], scores[held])
    columns = (
        builder.anchor(queries)
        | builder.lists(builder.wanted.positive, documents[held], offsets)
        | {name: listed(column, offsets) for name, column in labels.items()}
    )
    return columns, pairs.rows[places]


_LAYOUTS: dict[Layout, Callable[[_Builder, Negatives], tuple[Columns, Ints]]] = {
    "triplet": _triplets,
    "n-tuple": _tuples,
    "labeled-pair": _labelled_pairs,
    "labeled-list": _labelled_lists,
}


def taken(texts: Any, rows: Ints) -> Any:
    """Return texts by number as a column of strings."""
    import pyarrow as pa

    parts = [_strings(texts, rows[start:stop]) for start, stop in _chunks(_bytes_of(texts)[rows])]
    return pa.chunked_array(parts, type=pa.string())


def taken_lists(texts: Any, rows: Ints, offsets: Ints) -> Any:
    """Return a column of lists of texts by number: those of row i are ``rows[offsets[i]:offsets[i + 1]]``."""
    import pyarrow as pa

    ends = np.concatenate([[0], np.cumsum(_bytes_of(texts)[rows])])
    parts = []
    for start, stop in _chunks(np.diff(ends[offsets])):
        inside = offsets[start : stop + 1]
        parts.append(listed(_strings(texts, rows[inside[0] : inside[-1]]), inside - inside[0]))
    return pa.chunked_array(parts, type=pa.list_(pa.string()))


def listed(values: Any, offsets: Ints) -> Any:
    """Return a column of lists over an array of values."""
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def _strings(texts: Any, rows: Ints) -> Any:
    import pyarrow as pa

    return texts.take(pa.array(rows)).cast(pa.string())


def _bytes_of(texts: Any) -> Ints:
    import pyarrow.compute as pc

    return np.asarray(pc.binary_length(texts)).astype(np.int64)


def _chunks(sizes: Ints) -> Iterator[tuple[int, int]]:
    """Cut rows of so many bytes into runs that one array of strings can hold."""
    chunk = (np.cumsum(sizes) - 1).clip(0) // _LARGEST
    cuts = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(sizes)]
    return ((int(start), int(stop)) for start, stop in pairwise(cuts))
