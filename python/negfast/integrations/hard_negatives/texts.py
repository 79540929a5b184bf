"""Texts of a table as row numbers: each distinct text once, in the order of first occurrence."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, shown


@dataclass(frozen=True)
class Pairs:
    """Distinct texts on both sides, and which of them belong together.

    Attributes
    ----------
    queries, corpus : pyarrow.LargeStringArray
        Distinct texts.
    query_rows : int64 array, shape (n_queries,)
        The row of the table where each query occurs first.
    corpus_rows : int64 array, shape (n_corpus,)
        The place of each text of the corpus in the given corpus, followed by the column of positives.
    rows_per_query : int64 array, shape (n_queries,)
        Rows of the table for each query, repeated ones included.
    anchors, positives : int64 arrays, shape (n_pairs,)
        The rows of `queries` and `corpus` that each distinct pair joins; all pairs of a query together.
    rows : int64 array, shape (n_pairs,)
        The row of the table where each pair occurs first.
    """

    queries: Any
    corpus: Any
    query_rows: Ints
    corpus_rows: Ints
    rows_per_query: Ints
    anchors: Ints
    positives: Ints
    rows: Ints

    @property
    def indptr(self) -> Ints:
        """Where the pairs of each query begin, and the end of the last: shape (n_queries + 1,)."""
        counts = np.bincount(self.anchors, minlength=len(self.queries))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def pairs_of(anchors: Any, positives: Any, corpus: Any | None) -> Pairs:
    """Give numbers to the texts of two columns of equal length, and of a corpus beside them.

    Parameters
    ----------
    anchors, positives : pyarrow.LargeStringArray
        Columns of the table.
    corpus : pyarrow.LargeStringArray or None
        Further texts, which come before the positives.
    """
    import pyarrow as pa

    n_given = 0 if corpus is None else len(corpus)
    documents = positives if corpus is None else pa.concat_arrays([corpus, positives])
    query_codes, queries = _numbered(anchors)
    codes, distinct = _numbered(documents)
    # A pair is one number, so that repeated pairs are told apart without looking at texts.
    joined = query_codes * len(distinct) + codes[n_given:]
    unique, first = np.unique(joined, return_index=True)
    order = np.lexsort((first, unique // len(distinct)))
    return Pairs(
        queries=queries,
        corpus=distinct,
        query_rows=_first(query_codes, len(queries)),
        corpus_rows=_first(codes, len(distinct)),
        rows_per_query=np.bincount(query_codes, minlength=len(queries)),
        anchors=unique[order] // len(distinct),
        positives=unique[order] % len(distinct),
        rows=first[order],
    )


def text_array(argument: str, values: Any) -> Any:
    """Return a list or an Arrow column of texts as one pyarrow array; anything that is no text is refused."""
    import pyarrow as pa

    if isinstance(values, str):
        raise InvalidTypeError(f"{argument} must be a list of texts, got a str; use [{argument}]")
    try:
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(list(values))
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise InvalidTypeError(f"{argument} must hold texts, got {shown(error)}; convert its values first") from error
    if len(array) and not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise InvalidTypeError(f"{argument} must hold texts, got values of type {array.type}; convert them first")
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise InvalidValueError(f"{argument} must hold texts, got None in row {row}; drop that row")
    array = array.cast(pa.large_string())
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def same_texts(queries: Any, corpus: Any) -> Ints:
    """Return the row of the corpus that holds the text of each query, -1 where none does."""
    import pyarrow.compute as pc

    found = pc.index_in(queries, value_set=corpus)
    return np.asarray(found.fill_null(-1)).astype(np.int64)


def text_ids(texts: Any) -> Ints:
    """Return a number for each text, equal for equal texts alone: the first 63 bits of a hash."""
    digests = (blake2b(text.encode(), digest_size=8).digest() for text in texts.to_pylist())
    numbers = np.frombuffer(b"".join(digests), dtype="<u8")
    return (numbers >> np.uint64(1)).astype(np.int64)


def _numbered(texts: Any) -> tuple[Ints, Any]:
    """Return the number of each text, and the texts by number."""
    import pyarrow as pa

    coded = texts.dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return np.asarray(coded.indices).astype(np.int64), coded.dictionary


def _first(codes: Ints, n: int) -> Ints:
    """Return where each number occurs first."""
    first = np.empty(n, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first
