"""Keys of texts: rows that hold the same text get the same integer."""

import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from negfast.errors import InvalidTypeError, InvalidValueError

_NO_KEY = -1
_LARGEST_KEY = 2**63 - 1
# Texts whose keys are held at once, to find again those that repeat: few, so that memory does not grow with the column.
_SPAN = 1 << 16


def content_keys(texts: Sequence[str | None] | Sequence[Sequence[str | None]]) -> npt.NDArray[np.int64]:
    r"""Return one integer per text; texts that read the same get the same integer.

    Before hashing, a text is brought to Unicode form NFKC, its runs of white space become one space and those
    at its ends are dropped. Case is kept. The result is what the ``keys`` argument of `mine` and `select`
    takes: rows that share a key are never negatives of each other.

    Parameters
    ----------
    texts : sequence of str or None, length n; or sequence of such columns, each of length n
        One text per row, or several columns of texts per row. Lists, tuples, one-dimensional numpy arrays,
        pandas series and pyarrow arrays are all sequences here. None (or NaN, which pandas uses for it) is a
        row without text.

    Returns
    -------
    ndarray of int64, shape (n,) or (n, n_columns)
        Keys from 0 to 2**63 - 1; -1 where there is no text. The same on every machine.

    Raises
    ------
    InvalidTypeError
        If `texts` is a single text, a mapping, a set or a table, or if a value is neither a text nor None.
    InvalidValueError
        If the columns differ in length.

    Notes
    -----
    The hash is BLAKE2b (Aumasson, Neves, Wilcox-O'Hearn and Winnerlein, 2013, BLAKE2: simpler, smaller, fast
    as MD5) with a digest of 8 bytes, read as a little-endian integer without its highest bit. Among ten
    million different texts the chance that any two share a key is below one in 100,000. An empty text is a
    text, and has a key.

    Examples
    --------
    >>> import negfast
    >>> a, b, c, missing = negfast.content_keys(["two  words", " two words\n", "Two words", None]).tolist()
    >>> a == b, a == c, missing
    (True, False, -1)
    >>> negfast.content_keys([["first question", "second"], ["its answer", None]]).shape
    (2, 2)
    """
    values = _values(texts, "texts")
    if not values or not _is_column(values[0]):
        return _column_keys(values, "texts")
    columns = [_values(column, f"texts[{i}]") for i, column in enumerate(values)]
    _check_lengths(columns)
    return np.stack([_column_keys(column, f"texts[{i}]") for i, column in enumerate(columns)], axis=1)


def first_occurrences(keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each key occurs first, in order, and for each entry of `keys` which of these it is."""
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[places]


def _is_column(value: object) -> bool:
    return hasattr(value, "__getitem__") and not isinstance(value, str | bytes)


def _values(column: Any, name: str) -> list[Any]:  # whatever holds a column, from a list to a pyarrow array
    """Return the values of a column as a list, refusing what would silently give something else."""
    if isinstance(column, Mapping) or not _is_column(column) or not hasattr(column, "__len__"):
        remedy = f"use [{name}]" if isinstance(column, str) else "use a list of the texts in row order"
        raise InvalidTypeError(f"{name} must be a sequence of texts, got {type(column).__name__}; {remedy}")
    if getattr(column, "ndim", 1) != 1:
        raise InvalidTypeError(
            f"{name} must be a sequence of texts or of columns, got {type(column).__name__} of {column.ndim} "
            "dimensions; pass its columns as a list of one-dimensional sequences"
        )
    for method in ("to_pylist", "tolist"):  # plain values at once, where the container has them to give
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _check_lengths(columns: list[list[Any]]) -> None:
    for i, column in enumerate(columns):
        if len(column) != len(columns[0]):
            raise InvalidValueError(
                f"texts must hold columns of one length, got {len(columns[0])} texts in texts[0] and "
                f"{len(column)} in texts[{i}]; pass one list per column, not per row, and None for a gap"
            )


def _column_keys(texts: list[Any], name: str) -> npt.NDArray[np.int64]:
    keys = np.empty(len(texts), dtype=np.int64)
    for begin in range(0, len(texts), _SPAN):
        keys[begin : begin + _SPAN] = _span_keys(texts[begin : begin + _SPAN], name, begin)
    return keys


def _span_keys(texts: list[Any], name: str, begin: int) -> npt.NDArray[np.int64]:
    """Return the keys of some texts, each hashed once however often it is there."""
    if all(type(text) is str for text in texts):
        known = {text: _key(text) for text in set(texts)}
        return np.fromiter(map(known.__getitem__, texts), dtype=np.int64, count=len(texts))
    keys = (
        _key(text) if isinstance(text, str) else _key_of_gap(text, f"{name}[{begin + i}]")
        for i, text in enumerate(texts)
    )
    return np.fromiter(keys, dtype=np.int64, count=len(texts))


def _key(text: str) -> int:
    normal = text if text.isascii() else unicodedata.normalize("NFKC", text)
    folded = " ".join(normal.split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(folded, digest_size=8).digest(), "little") & _LARGEST_KEY


def _key_of_gap(value: object, name: str) -> int:
    if value is None or (isinstance(value, float) and value != value):  # NaN alone differs from itself
        return _NO_KEY
    raise InvalidTypeError(f"{name} must be a str or None, got {type(value).__name__}; convert it to its text first")
