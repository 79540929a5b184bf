"""Which documents of a batch may count as negatives of which anchors."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.errors import RowIndexError
from negfast.inputs import row_lists
from negfast.keys import content_keys

NO_TEXT = -1


class KnownPositives:
    """The known positives of each row of the queries, as rows of the corpus.

    Parameters
    ----------
    value : int array padded with -1, list of lists, or CSR tuple (indptr, indices); or None
        As `positives` of :func:`negfast.mine`. ``None``: none are known.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If they are in another form.
    RowIndexError
        If they hold a row below 0 that is no padding.
    """

    def __init__(self, value: Any) -> None:
        self._lists: tuple[Ints, Ints] | None = None
        if value is None:
            return
        self._lists = row_lists("positives", value, _length(value))
        lowest = self._lists[1].min(initial=0)
        if lowest < 0:
            raise RowIndexError(f"positives must hold rows of the corpus, got {lowest}; pad with -1")

    def of(self, row: int) -> list[int]:
        """Return the known positives of one row of the queries."""
        if self._lists is None:
            return []
        indptr, indices = self._lists
        if row >= indptr.size - 1:
            raise RowIndexError(
                f"positives must have a list for each row of the queries, got {indptr.size - 1} lists and an example "
                f"of row {row}; pass the positives of all queries"
            )
        return indices[indptr[row] : indptr[row + 1]].tolist()


def negatives_mask(
    rows: Sequence[int],
    anchors: Sequence[Any],
    documents: Sequence[Any],
    negative_rows: Sequence[int],
    known: KnownPositives,
) -> NDArray[np.bool_]:
    """Tell where a document may stand in an anchor's denominator.

    Parameters
    ----------
    rows : sequence of int, length b
        Rows of the queries.
    anchors : sequence, length b
    documents : sequence, length b + n
        The anchors' positives, then the distinct negatives.
    negative_rows : sequence of int, length n
        Rows of the corpus.
    known : KnownPositives

    Returns
    -------
    ndarray of bool, shape (b, b + n)
        False where the document is a positive of the anchor or the anchor itself, but for its own positive.
    """
    b = len(rows)
    keys = _text_keys([*anchors, *documents])
    anchor_keys, keys = keys[:b], keys[b:]
    examples_of_row, examples_of_key, documents_of_key = _places(rows), _places(anchor_keys), _places(keys)
    known_of = {row: known.of(row) for row in set(rows)}
    # Documents by the row of the corpus that they are or, for the positive of an example, may be.
    documents_of_corpus_row = defaultdict(set, {row: {b + place} for place, row in enumerate(negative_rows)})
    for i, row in enumerate(rows):
        for corpus_row in known_of[row]:
            documents_of_corpus_row[corpus_row].add(i)
    mask = np.ones((b, len(documents)), dtype=np.bool_)
    for i in range(b):
        same_anchor = examples_of_row[rows[i]] | examples_of_key.get(anchor_keys[i], set())
        refused = set(same_anchor)  # example j's positive is document j
        for row in {rows[j] for j in same_anchor}:
            refused.update(*(documents_of_corpus_row[corpus_row] for corpus_row in known_of[row]))
        texts = {keys[place] for place in refused} | {anchor_keys[i]}
        refused.update(*(documents_of_key.get(text, ()) for text in texts))
        mask[i, list(refused)] = False
        mask[i, i] = True
    return mask


def _length(value: Any) -> int:
    try:
        return len(value)
    except TypeError:  # refused for its type afterwards
        return 0


def _text_keys(values: list[Any]) -> list[int]:
    return content_keys([value if isinstance(value, str) else None for value in values]).tolist()


def _places(values: Iterable[int]) -> dict[int, set[int]]:
    """Return where each value stands; places without a text are left out."""
    places: dict[int, set[int]] = {}
    for place, value in enumerate(values):
        if value != NO_TEXT:
            places.setdefault(value, set()).add(place)
    return places
