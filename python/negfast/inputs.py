"""Containers that users hold, brought to the plain arrays that the compiled module reads.

Only containers are looked at here. Dtypes and layouts of embeddings are checked where the arrays are borrowed, sizes
and row numbers where they are used.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from negfast._negfast import fingerprint
from negfast.arrays import Ints, chained, embedding_array, floats, integers, is_flat, is_list, plain_array
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, shown

if TYPE_CHECKING:
    import torch

    Embeddings: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | torch.Tensor
else:
    Embeddings: TypeAlias = Any

Lists = tuple[Ints, Ints]
"""Per-anchor lists in CSR form: ``indices[indptr[i]:indptr[i + 1]]`` is the list of anchor ``i``."""
RowLists: TypeAlias = NDArray[np.integer[Any]] | Sequence[Any] | tuple[Any, Any]
Labels: TypeAlias = NDArray[np.integer[Any]] | Sequence[Any] | tuple[Any, Any]
_PARALLEL = "give it one number per entry, nested in the same way"


def embeddings(argument: str, value: object) -> NDArray[Any]:
    """Return the numbers of a numpy array or CPU tensor, not copied; bfloat16 as its bits in uint16."""
    array = embedding_array(argument, value)
    if array is None:
        raise InvalidTypeError(
            f"{argument} must be a numpy array or a CPU torch tensor of shape (n_rows, dim), got "
            f"{type(value).__name__}; use numpy.asarray({argument}, dtype='float32')"
        )
    if array.dtype == np.uint16 and isinstance(value, np.ndarray):
        raise InvalidTypeError(
            f"{argument} must be float32 or float16 (bfloat16 as a torch tensor), got uint16; "
            f"use {argument}.astype('float32')"
        )
    return array


def dtype_name(value: object) -> str:
    """Return the name of the element type as its owner calls it."""
    return str(value.dtype).removeprefix("torch.")  # type: ignore[attr-defined]


def row_lists(argument: str, value: object, n_queries: int) -> Lists:
    """Return per-anchor lists of corpus rows in CSR form; padding is dropped."""
    indptr, indices, real = _lists_with_padding(argument, value, n_queries)
    if real.all():
        return indptr, indices
    counts = np.concatenate([[0], np.cumsum(real)])
    return np.ascontiguousarray(counts[indptr], dtype=np.int64), np.ascontiguousarray(indices[real])


def list_scores(argument: str, value: object, lists: object, n_queries: int) -> NDArray[np.float32]:
    """Return the scores that belong to the candidate `lists`, flattened as :func:`row_lists` flattens them."""
    indptr, _, real = _lists_with_padding("candidates", lists, n_queries)
    scores = _parallel(argument, _plain_scores(argument, value), lists, indptr)
    _refuse_unknown(argument, scores, indptr, real)
    return np.ascontiguousarray(scores[real])


def positive_scores(value: object, positives: object, n_queries: int) -> tuple[NDArray[np.float32], bool]:
    """Return scores of positives, and whether they are each anchor's lowest and not one per positive.

    A flat array is read as one score per anchor, but where the positives are flat too.
    """
    argument = "positive_scores"
    indptr, _, real = _lists_with_padding("positives", positives, n_queries)
    value = _plain_scores(argument, value)
    if is_flat(value) and not is_flat(positives) and not _one_each(argument, value, positives, indptr):
        return _per_anchor(argument, value, indptr, real), True
    scores = _parallel(argument, value, positives, indptr)
    _refuse_unknown(argument, scores, indptr, real)
    return np.ascontiguousarray(scores[real]), False


def _one_each(argument: str, scores: NDArray[Any] | list[Any], positives: object, indptr: Ints) -> bool:
    """Tell whether flat scores belong to the positives of a CSR tuple and not to the anchors."""
    total, n_queries = int(indptr[-1]), indptr.size - 1
    if not isinstance(positives, tuple) or len(scores) != total:
        return False
    if total == n_queries and (np.diff(indptr) != 1).any():
        raise InvalidValueError(
            f"{argument} must say whether it is one number per positive or per anchor, got shape ({total},) for "
            f"{n_queries} anchors with {total} positives in lists of several lengths; pass positives as a list of "
            "lists, and the scores as a list of lists (per positive) or as they are (per anchor)"
        )
    return True


def _per_anchor(argument: str, value: object, indptr: Ints, real: NDArray[np.bool_]) -> NDArray[np.float32]:
    scores = floats(argument, value)
    if scores.shape != (indptr.size - 1,):
        raise InvalidValueError(
            f"{argument} must be shaped as positives or of shape ({indptr.size - 1},), got {scores.shape}; "
            "pass each positive's score, or each anchor's lowest"
        )
    counts = np.diff(np.concatenate([[0], np.cumsum(real)])[indptr])
    lowest = np.where(counts > 0, scores, np.float32(np.nan))
    unknown = np.flatnonzero((counts > 0) & ~np.isfinite(lowest))
    if unknown.size:
        raise InvalidValueError(
            f"{argument} must be finite where an anchor has a positive, got {lowest[unknown[0]]} for anchor "
            f"{unknown[0]}; score its positives as its candidates are"
        )
    return np.ascontiguousarray(lowest, dtype=np.float32)


def _refuse_unknown(argument: str, scores: NDArray[np.float32], indptr: Ints, real: NDArray[np.bool_]) -> None:
    bad = np.flatnonzero(real & ~np.isfinite(scores))
    if bad.size:
        anchor = int(np.searchsorted(indptr, bad[0], side="right")) - 1
        raise InvalidValueError(
            f"{argument} must hold finite float32 numbers, got {scores[bad[0]]} for anchor {anchor}; "
            "drop or mend that entry"
        )


def label_pair(argument: str, value: object) -> tuple[Ints | Lists, Ints | Lists]:
    """Return labels of queries and corpus, each as an int64 array of one or two dimensions or in CSR form."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InvalidTypeError(
            f"{argument} must be a pair ({argument} of the queries, {argument} of the corpus), got "
            f"{type(value).__name__}; pass both, or None"
        )
    return labels(f"{argument} of the queries", value[0]), labels(f"{argument} of the corpus", value[1])


def labels(argument: str, value: object) -> Ints | Lists:
    """Return labels of rows as an int64 array of one or two dimensions or in CSR form."""
    if isinstance(value, tuple):
        ragged = _csr(argument, value)
    elif isinstance(value, list) and not is_flat(value):
        ragged = _joined(argument, value, "labels", "row")
    else:
        columns = integers(argument, value)
        if columns.ndim not in (1, 2):
            raise InvalidValueError(
                f"{argument} must be of shape (n,) or (n, columns), got {columns.shape}; one label per row and column"
            )
        _refuse_low_labels(argument, columns)
        return columns
    _refuse_low_labels(argument, ragged[1])
    return ragged


def anchor_rows(value: object) -> Ints:
    """Return rows of the queries as an int64 array; the compiled module looks at the numbers."""
    rows = integers("anchors", value)
    if rows.ndim != 1:
        raise InvalidValueError(
            f"anchors must be a list of row numbers of the queries, got an array of shape {rows.shape}; flatten it"
        )
    return rows


def forbidden_mask(value: object, n_corpus: int, argument: str = "forbidden") -> NDArray[np.uint8]:
    """Return a mask of the corpus rows from a mask or from row numbers."""
    array = plain_array(argument, value)
    if array is None and isinstance(value, list | tuple):
        array = np.asarray(value) if all(isinstance(x, bool | np.bool_) for x in value) and value else None
    if array is not None and array.dtype == np.bool_:
        if array.shape != (n_corpus,):
            raise InvalidValueError(
                f"{argument} must be a mask of shape ({n_corpus},), one entry per corpus row, got {array.shape}; "
                "reshape it, or pass row numbers"
            )
        return np.ascontiguousarray(array).view(np.uint8)
    rows = integers(argument, value)
    if rows.ndim != 1:
        raise InvalidValueError(
            f"{argument} must be a mask or a list of row numbers, got an array of shape {rows.shape}; flatten it"
        )
    outside = np.flatnonzero((rows < 0) | (rows >= n_corpus))
    if outside.size:
        raise RowIndexError(
            f"{argument} must hold row numbers of the corpus (0 to {n_corpus}, exclusive), got "
            f"{rows[outside[0]]} at position {outside[0]}; check which corpus the numbers belong to"
        )
    mask = np.zeros(n_corpus, dtype=np.uint8)
    mask[rows] = 1
    return mask


def fingerprints(**arrays: NDArray[Any] | None) -> dict[str, str]:
    """Return a hash of the bytes of each array that is there; layout and dtype are part of it."""
    return {
        name: f"{array.dtype.str}{array.shape}:{fingerprint(array.reshape(-1).view(np.uint8))}"
        for name, array in arrays.items()
        if array is not None and array.flags.c_contiguous
    }


def _lists_with_padding(argument: str, value: object, n_queries: int) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Return lists in CSR form with their padding, and which entries are real."""
    array = plain_array(argument, value)
    if isinstance(value, tuple):
        indptr, indices = _csr(argument, value)
    elif array is not None:
        indptr, indices = _padded(argument, value, n_queries)
    elif isinstance(value, list):
        indptr, indices = _nested(argument, value, n_queries)
    else:
        raise InvalidTypeError(
            f"{argument} must be an integer array padded with -1, a list of lists, or a CSR tuple "
            f"(indptr, indices), got {type(value).__name__}; pass one list per query, empty where it has none"
        )
    return indptr, indices, indices != -1


def _csr(argument: str, value: tuple[Any, ...]) -> Lists:
    if len(value) != 2:
        raise InvalidValueError(
            f"{argument} must be a CSR tuple (indptr, indices), got a tuple of {len(value)}; "
            "use a list for one entry per row"
        )
    indptr, indices = (integers(f"{argument}[{part}]", array) for part, array in enumerate(value))
    if indptr.ndim != 1 or indices.ndim != 1:
        raise InvalidValueError(
            f"{argument} must be two 1-dimensional arrays, got shapes {indptr.shape} and {indices.shape}; "
            "see the CSR convention of scipy.sparse"
        )
    rising = indptr.size > 0 and indptr[0] == 0 and indptr[-1] == indices.size and (np.diff(indptr) >= 0).all()
    if not rising:
        raise InvalidValueError(
            f"{argument} must be a CSR pair whose indptr rises from 0 to len(indices) = {indices.size}, got "
            f"{_brief(indptr)}; list i is indices[indptr[i]:indptr[i + 1]]"
        )
    return indptr, indices


def _padded(argument: str, value: object, n_queries: int) -> Lists:
    array = integers(argument, value)
    if array.ndim not in (1, 2) or array.shape[0] != n_queries:
        raise InvalidValueError(
            f"{argument} must be of shape ({n_queries},) or ({n_queries}, p), one row per query, got "
            f"{array.shape}; pad with -1 where a query has fewer"
        )
    width = 1 if array.ndim == 1 else array.shape[1]
    return np.arange(n_queries + 1, dtype=np.int64) * width, array.reshape(-1)


def _nested(argument: str, value: list[Any], n_queries: int) -> Lists:
    if len(value) != n_queries:
        raise InvalidValueError(
            f"{argument} must hold one list for each of the {n_queries} queries, got {len(value)}; "
            "use an empty list where a query has none"
        )
    if value and is_flat(value):
        return _padded(argument, value, n_queries)
    return _joined(argument, value, "row numbers", "query")


def _joined(argument: str, value: list[Any], holds: str, of: str) -> Lists:
    """Return a list of lists, one for each query or row, in CSR form."""
    for i, entry in enumerate(value):
        if not is_list(entry):
            raise InvalidTypeError(
                f"{argument} must hold lists of {holds}, got {type(entry).__name__} {shown(entry)} for {of} {i}; "
                "wrap a single number in a list"
            )
    indptr = np.concatenate([[0], np.cumsum([len(entry) for entry in value], dtype=np.int64)])
    entries = integers(argument, chained(argument, value))
    if entries.ndim != 1:
        raise InvalidValueError(
            f"{argument} must hold lists of {holds}, got lists of lists in them; flatten the list of each {of}"
        )
    return indptr.astype(np.int64), entries


def _refuse_low_labels(argument: str, labels: Ints) -> None:
    if labels.size and int(labels.min()) < -1:
        raise InvalidValueError(
            f"{argument} must be -1 (none) or more, got {labels.min()}; "
            "drop the highest bit of hashes (x & 0x7fffffffffffffff)"
        )


def _plain_scores(argument: str, value: object) -> NDArray[Any] | list[Any]:
    """Return scores as an array or as a list of numbers or lists."""
    array = plain_array(argument, value)
    if array is not None:
        return array
    if isinstance(value, list | tuple):
        return list(value)
    return floats(argument, value)


def _parallel(argument: str, value: NDArray[Any] | list[Any], lists: object, indptr: Ints) -> NDArray[np.float32]:
    """Return scores that are nested as `lists` are, as one flat array with its padding."""
    if isinstance(value, list) and not is_flat(value):
        return _nested_scores(argument, value, indptr)
    scores = floats(argument, value)
    array = plain_array("the lists", lists)
    expected = array.shape if array is not None else (int(indptr[-1]),)
    if scores.shape != expected:
        raise InvalidValueError(
            f"{argument} must be of shape {tuple(expected)}, as the lists it belongs to, got {scores.shape}; "
            f"{_PARALLEL}"
        )
    return scores.reshape(-1)


def _nested_scores(argument: str, value: list[Any], indptr: Ints) -> NDArray[np.float32]:
    if not all(is_list(entry) for entry in value):
        raise InvalidTypeError(f"{argument} must hold lists of numbers, got a mixture; {_PARALLEL}")
    lengths = np.array([len(entry) for entry in value], dtype=np.int64)
    if not np.array_equal(lengths, np.diff(indptr)):
        raise InvalidValueError(f"{argument} must have the lengths of the lists it belongs to, got others; {_PARALLEL}")
    scores = floats(argument, chained(argument, value))
    if scores.ndim != 1:
        raise InvalidValueError(f"{argument} must hold lists of numbers, got lists of lists in them; {_PARALLEL}")
    return scores


def _brief(array: Ints) -> str:
    shown = ", ".join(str(x) for x in array[:6])
    return f"[{shown}{', ...' if array.size > 6 else ''}]"
