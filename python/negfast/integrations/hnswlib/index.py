"""An index of hnswlib, asked with what it does not check itself checked, and left as it was."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from weakref import WeakKeyDictionary

import hnswlib
import numpy as np
from numpy.typing import NDArray

from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.settings import one_of, whole

Space = Literal["cosine", "ip", "l2"]
SPACES: tuple[Space, ...] = ("cosine", "ip", "l2")
NONE = np.iinfo(np.uint64).max
"""What stands where an index found no more rows."""
_LOCKS: WeakKeyDictionary[Any, Lock] = WeakKeyDictionary()
_OF_ALL = Lock()
_ASKED = 256
"""Queries of one call: it cannot be interrupted."""
# Six sizes, the highest level and where to begin, three numbers of links, the level factor, the effort of building.
_HEADER = struct.Struct("=6QiI3QdQ")


def loaded(path: str | os.PathLike[str], space: Space, dim: int) -> Any:
    """Return the index that a file holds.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If `space` or `dim` is none, or the rows of the file have another dim.
    StateError
        If the file holds no index, or not all of one.
    OSError
        If it cannot be read.
    """
    one_of("space", space, SPACES)
    dim = whole("dim", dim, low=1, high=2**31 - 1)
    name = os.fsdecode(path)
    held = _dim_in(name)
    if held != dim:
        raise InvalidValueError(
            f"dim must be that of the rows in {name}, {held}, got {dim}; hnswlib would read beyond their ends"
        )
    index = hnswlib.Index(space=space, dim=dim)
    try:
        index.load_index(name)
    except RuntimeError as error:
        raise StateError(f"{name} must hold a whole index of hnswlib, got {error}; save it again") from error
    return index


def _dim_in(name: str) -> int:
    """Return the dim of the rows in a file; hnswlib believes what it is told."""
    with Path(name).open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) == _HEADER.size:
        first, most, held, element, label_at, row_at, levels, begin, above, ground, links, *_ = _HEADER.unpack(header)
        fits = held <= most and len(header) + held * element <= Path(name).stat().st_size
        # An element is links, a row and a label; where to begin is a row of the graph.
        laid_out = first == 0 and row_at == 4 * (ground + 1) and row_at < label_at == element - 8
        graph = above == links and ground == 2 * links and (held == 0 or (begin < held and levels >= 0))
        if fits and laid_out and graph and (label_at - row_at) % 4 == 0:
            return int(label_at - row_at) // 4
    raise StateError(f"{name} must hold an index of hnswlib, got another file; pass what save_index wrote")


def checked_index(index: Any) -> Any:
    """Return an index that holds rows.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If it is none, or is empty.
    """
    if not isinstance(index, hnswlib.Index):
        raise InvalidTypeError(
            f"index must be an hnswlib.Index, got {type(index).__name__} {shown(index)}; load a file with "
            "HnswSource.load"
        )
    if not index.element_count:
        raise InvalidValueError("index must hold rows, got an empty one; add them, or load the index")
    return index


@contextmanager
def effort(index: Any, ef: int | None) -> Iterator[None]:
    """Search with this `ef` in the block; ``None``: with that of the index.

    One block at a time of an index: a second one would take the first one's `ef` for that of the index.
    """
    with _lock_of(index):
        before = index.ef
        try:
            if ef is not None:
                index.set_ef(ef)
            yield
        finally:
            index.set_ef(before)


def _lock_of(index: Any) -> Lock:
    with _OF_ALL:
        return _LOCKS.setdefault(index, Lock())


def nearest(index: Any, queries: NDArray[np.float32], k: int, n_threads: int) -> NDArray[np.uint64]:
    """Return the labels of up to `k` rows near each query, nearest first, padded with :data:`NONE`.

    hnswlib refuses a whole call if one query reaches fewer than `k` rows, as where rows are marked as deleted.
    """
    k = min(k, index.element_count)
    labels = np.full((len(queries), k), NONE, dtype=np.uint64)
    for start in range(0, len(queries), _ASKED):
        part = np.ascontiguousarray(queries[start : start + _ASKED])
        found = _asked(index, part, k, n_threads)
        if found is not None:
            labels[start : start + _ASKED] = found
            continue
        for row, query in enumerate(part, start):
            best = _as_many_as_reached(index, query[None], k)
            labels[row, : len(best)] = best
    return labels


def _as_many_as_reached(index: Any, query: NDArray[np.float32], k: int) -> NDArray[np.uint64]:
    low, high, best = 0, k + 1, np.empty(0, dtype=np.uint64)
    while high - low > 1:
        middle = (low + high) // 2
        found = _asked(index, query, middle, 1)
        if found is None:
            high = middle
        else:
            low, best = middle, found[0]
    return best


def _asked(index: Any, queries: NDArray[np.float32], k: int, n_threads: int) -> NDArray[np.uint64] | None:
    try:
        labels: NDArray[np.uint64] = index.knn_query(queries, k=k, num_threads=n_threads)[0]
    except RuntimeError as error:
        if "contiguous 2D array" in str(error):
            return None
        raise
    return labels
