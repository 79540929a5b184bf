"""Embeddings in files: mapped into memory as they are, and written piece by piece."""

import ast
import os
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from negfast import _negfast
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.files.writers import naming

_DTYPES = ("float32", "float16", "bfloat16")
_CONVERT = "convert it with numpy: np.save(path, np.load(path).astype('float32'))"
_NUMBERS = re.compile("[<>=|]?([fiu][248]|c8|c16|[iub]1)")
MOST_HEADER = 10_000
MOST_ROWS = 2**40
MOST_DIM = 2**24
ROWS_PER_LOOK = 8192
HEADER = 128
"""Bytes that the header of a written file takes, whatever the number of rows."""


def tensor_of(spec: str) -> tuple[Path, str | None]:
    """Split the name of an embedding file from that of the tensor that may follow it after a colon."""
    path, colon, name = spec.rpartition(":")
    return (Path(path), name) if colon and path.endswith(".safetensors") else (Path(spec), None)


def open_embeddings(spec: str | os.PathLike[str]) -> NDArray[Any]:
    """Map the embeddings in a file into memory, to be read in place.

    Parameters
    ----------
    spec : str or path-like
        A ``.npy`` file, a ``.safetensors`` file with one matrix, or ``FILE.safetensors:NAME``.

    Returns
    -------
    ndarray of float32 or float16, shape (n_rows, dim)
        Read-only. bfloat16 is widened to float32, and a tensor at an odd place in its file is copied.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If the file holds something else.
    StateError
        If it is damaged.
    OSError
        If it cannot be read.
    """
    path, name = tensor_of(os.fsdecode(spec))
    if path.suffix == ".npy":
        return _npy(path)
    if path.suffix == ".safetensors":
        return _safetensors(path, name)
    raise InvalidValueError(f"{path} must be a .npy or .safetensors file, got {path.suffix!r}; convert it")


def _npy(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        fields = _npy_header(file)
        offset = file.tell()
    if fields is None:
        raise StateError(f"{path} must be a .npy file, got a damaged header or none; write it again")
    descr, fortran, shape = fields
    if fortran and len(shape) == 2 and min(shape) > 1:
        raise InvalidValueError(
            f"{path} must hold rows one after the other, got Fortran order; save np.ascontiguousarray of it"
        )
    if not _NUMBERS.fullmatch(descr):
        return _mapped(path, np.dtype(np.uint8), shown(descr), shape, offset)
    dtype = np.dtype(descr)
    return _mapped(path, dtype, dtype.name if dtype.isnative else descr, shape, offset)


def _npy_header(file: IO[bytes]) -> tuple[str, bool, tuple[int, ...]] | None:
    """Read a header: element type, whether columns come first, and shape; ``None`` if it is none.

    numpy's own reader takes headers of Python 2 too, and what its tokenizer raises about damage is not documented.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        return None
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    text = file.read(min(length, MOST_HEADER))
    try:
        fields = ast.literal_eval(text.decode("utf-8").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        return None
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n <= MOST_ROWS for n in shape)
    return (str(descr), fortran, shape) if len(text) == length and sizes and isinstance(fortran, bool) else None


def _safetensors(path: Path, name: str | None) -> NDArray[Any]:
    tensors = {found: (dtype, shape, offset) for found, dtype, shape, offset, _ in _negfast.safetensors_layout(path)}
    matrices = [found for found, (_, shape, _) in tensors.items() if len(shape) == 2]
    if name is None and len(matrices) != 1:
        raise InvalidValueError(
            f"{path} must hold one matrix or be followed by the name of one, got {len(matrices)}: "
            f"{shown(matrices)}; use {path}:NAME"
        )
    chosen = matrices[0] if name is None else name
    if chosen not in tensors:
        raise InvalidValueError(f"{path} must hold the tensor {shown(chosen)}, got {shown([*tensors])}; name another")
    dtype, shape, offset = tensors[chosen]
    if dtype == "bfloat16":
        bits = _mapped(path, np.dtype(np.uint16), dtype, tuple(shape), offset)
        return (bits.astype(np.uint32) << 16).view(np.float32)
    plain = np.dtype(dtype) if dtype in _DTYPES else np.dtype(np.uint8)
    return _mapped(path, plain, dtype, tuple(shape), offset)


def _mapped(path: Path, dtype: np.dtype[Any], name: str, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    if name not in _DTYPES:
        raise InvalidTypeError(f"{path} must hold float32, float16 or bfloat16, got {name} {shown(shape)}; {_CONVERT}")
    if len(shape) != 2 or not 0 < shape[1] <= MOST_DIM:
        raise InvalidValueError(
            f"{path} must hold rows of shape (n_rows, dim), got {shown(shape)}; save one row per text"
        )
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    there = path.stat().st_size - offset
    if there < n_bytes:
        raise StateError(f"{path} must hold {n_bytes} bytes of rows, got {there}: it was cut off; write it again")
    if n_bytes == 0:  # nothing cannot be mapped
        return np.zeros(shape, dtype=dtype)
    rows = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(n_bytes,)).view(np.ndarray)
    if offset % dtype.itemsize:
        rows = rows.copy()
    return rows.view(dtype).reshape(shape)


def refuse_bad_rows(argument: str, spec: str) -> None:
    """Raise an error that names the first row of a file that is not finite, if there is one."""
    rows = open_embeddings(spec)
    for start in range(0, len(rows), ROWS_PER_LOOK):
        bad = np.flatnonzero(~np.isfinite(rows[start : start + ROWS_PER_LOOK]).all(axis=1))
        if bad.size:
            raise InvalidValueError(
                f"{argument} must hold finite numbers, got NaN or infinity in row {start + bad[0]} of {spec}; encode "
                "that text again"
            )


class EmbeddingWriter:
    """Writes a ``.npy`` file of rows piece by piece, and goes on with one that was broken off.

    Until `close` the file has another name, so that a file of the name asked for is whole.

    Parameters
    ----------
    path : Path
        The file to write.
    dim : int
        Width of the rows.
    dtype : float32 or float16, default float32
    resume : bool, default False
        Whether to go on with the rows of an earlier writer.

    Raises
    ------
    OSError
        If the file cannot be written, as when the disk is full.
    """

    def __init__(self, path: Path, dim: int, *, dtype: DTypeLike = np.float32, resume: bool = False) -> None:
        self._path, self._dim, self._dtype = path, dim, np.dtype(dtype)
        self._temporary = path.with_name(f"{path.name}.growing")
        exists = resume and self._temporary.exists()
        with naming(path, self._temporary):
            self._file: IO[bytes] = self._temporary.open("r+b" if exists else "w+b")
        size = self._file.seek(0, os.SEEK_END)
        self.rows = max(size - HEADER, 0) // self._row_bytes
        self.truncate(self.rows)

    @property
    def _row_bytes(self) -> int:
        return self._dim * self._dtype.itemsize

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, and give it its name if all went well."""
        if kind is None:
            self.close()
            return
        with suppress(OSError):  # what could not be written before cannot be now
            self._file.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows, shape (n, dim), after those that are there."""
        if rows.shape[1:] != (self._dim,):
            raise InvalidValueError(f"rows must be of width {self._dim}, got {rows.shape}; encode with one model")
        with naming(self._path):
            self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
            self._file.flush()
        self.rows += len(rows)

    def truncate(self, n_rows: int) -> None:
        """Keep the first `n_rows` rows."""
        with naming(self._path):
            self._file.seek(0)
            self._file.write(self._header(n_rows))
            self._file.truncate(HEADER + n_rows * self._row_bytes)
            self._file.seek(0, os.SEEK_END)
        self.rows = n_rows

    def close(self) -> None:
        """Write the number of rows into the header, and give the file its name."""
        with naming(self._path, self._temporary):
            with self._file:
                self._file.seek(0)
                self._file.write(self._header(self.rows))
            self._temporary.replace(self._path)

    def _header(self, n_rows: int) -> bytes:
        fields = {"descr": self._dtype.str, "fortran_order": False, "shape": (n_rows, self._dim)}
        text = repr(fields).encode("ascii")
        start = np.lib.format.magic(1, 0) + (HEADER - 10).to_bytes(2, "little")
        return bytes(start + text.ljust(HEADER - 11) + b"\n")
