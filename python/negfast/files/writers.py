"""Files that are whole or not there: each is written under a temporary name and renamed when it is done."""

import errno
import gzip
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from negfast.errors import InvalidValueError, MissingExtraError
from negfast.files.lines import is_compressed
from negfast.files.tables import SUFFIXES

Kind = Literal["string", "int", "float", "strings", "ints", "floats"]
"""What a column holds: a value, or a list of them."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_written = itertools.count()
_COMPRESSION = 6


@contextmanager
def naming(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of writing name `path`, unless they name a file that is none of the `others`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and error.filename not in [os.fspath(other) for other in others]:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), os.fsdecode(path)) from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; rename it when the block ends, remove it if the block fails.

    A link stays, and what it points to is replaced.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`.
    """
    final = Path(os.path.realpath(os.fsdecode(path)))
    temporary = final.with_name(f".{final.name[:100]}.{os.getpid()}-{next(_written)}.part")
    try:
        with naming(path, temporary):
            yield temporary
            temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[Callable[[str], object]]:
    """Yield what writes text to a file that gets its name when the block ends; the same text gives the same bytes.

    Half a surrogate pair, which no UTF-8 file can hold, becomes a question mark.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`.
    """
    with replacing(path) as temporary, ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(temporary.open("wb"))
        if is_compressed(path):  # without a time and a name, which would differ each time
            raw = stack.enter_context(
                gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0)  # type: ignore[arg-type]
            )
        text = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="\n")
        yield text.write
        text.flush()
        text.detach()


def write_json(path: Path, value: Any) -> None:
    """Write plain values as one JSON file that people can read.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def check_writable(path: Path, argument: str, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Refuse a path that a table could not be written to, before the work that leads to it.

    Parameters
    ----------
    path : Path
    argument : str
        What messages call it.
    suffixes : sequence of str
        The kinds of files that can be written.

    Raises
    ------
    InvalidValueError
        If its suffix is unknown, or there is no folder that can be written.
    MissingExtraError
        If it is parquet and pyarrow is not installed.
    """
    if path.suffix not in suffixes:
        known = " or ".join(part for part in (", ".join(suffixes[:-1]), suffixes[-1]) if part)
        raise InvalidValueError(f"{argument} must be a {known} file, got {path}; name one")
    final = Path(os.path.realpath(path))
    if path.is_dir():
        raise InvalidValueError(f"{argument} must be a file, got the folder {path}; name a file in it")
    if os.path.lexists(final) and not final.is_file():  # renaming would do away with a device or a pipe
        raise InvalidValueError(f"{argument} must be a plain file, got {path}, which is none; name another")
    folder = path.parent if final.parent == Path(os.path.realpath(path.parent)) else final.parent
    if not folder.is_dir():
        raise InvalidValueError(f"{argument} must be in a folder that is there, got {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise InvalidValueError(f"{argument} must be in a folder that can be written, got {folder}; name another")
    if path.suffix == ".parquet":
        _pyarrow(path)


def _pyarrow(path: Path) -> Any:  # the module, whose types are not at hand where it is not installed
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(f"{path} needs pyarrow; use pip install 'negfast[cli]', or a .jsonl file") from error
    return pa


class RowWriter:
    """Writes a table piece by piece; the same pieces give the same bytes.

    Parameters
    ----------
    path : Path
        A ``.parquet`` file, one row group a piece, or a ``.jsonl`` file, one object a line.
    columns : mapping of str to Kind
        The columns, in order.

    Raises
    ------
    OSError
        If the file cannot be written.

    Notes
    -----
    Half a surrogate pair, which no UTF-8 file can hold, becomes a question mark.
    """

    def __init__(self, path: Path, columns: Mapping[str, Kind]) -> None:
        self._path, self._columns = path, dict(columns)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the file."""
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            opened = self._parquet if self._path.suffix == ".parquet" else self._jsonl
            self._write: Callable[[Mapping[str, Sequence[Any]]], None] = opened(temporary, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the file and give it its name, or remove it after a failure."""
        self._stack.__exit__(kind, error, traceback)

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write rows, given by column; ``None`` is no value."""
        self._write({name: [_clean(value) for value in columns[name]] for name in self._columns})

    def _jsonl(self, temporary: Path, stack: ExitStack) -> Callable[[Mapping[str, Sequence[Any]]], None]:
        file = stack.enter_context(temporary.open("w", encoding="utf-8", newline="\n"))

        def write(columns: Mapping[str, Sequence[Any]]) -> None:
            for row in zip(*columns.values(), strict=True):
                entry = dict(zip(columns, row, strict=True))
                file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")

        return write

    def _parquet(self, temporary: Path, stack: ExitStack) -> Callable[[Mapping[str, Sequence[Any]]], None]:
        pa = _pyarrow(self._path)
        plain = {"string": pa.string(), "int": pa.int64(), "float": pa.float32()}
        kinds = {**plain, **{f"{name}s": pa.list_(kind) for name, kind in plain.items()}}
        schema = pa.schema([(name, kinds[kind]) for name, kind in self._columns.items()])
        writer = stack.enter_context(pa.parquet.ParquetWriter(temporary, schema, compression="zstd"))
        return lambda columns: writer.write_table(pa.table(dict(columns), schema=schema))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("?", value)
    return [_clean(part) for part in value] if isinstance(value, list) else value
