"""Columns of tables that users bring, as plain Python values, and what they must hold."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from negfast.errors import InvalidTypeError, InvalidValueError, MissingExtraError, shown
from negfast.files.lines import raw_lines

SUFFIXES = (".parquet", ".jsonl")
MOST = 2**63 - 1
ROWS_PER_BATCH = 4096


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of a table.

    Parameters
    ----------
    path : Path
        A ``.parquet`` file, or a ``.jsonl`` file with one JSON object a line; blank lines are passed over.
    names : sequence of str
        The columns.

    Returns
    -------
    dict of str to list
        The values of each column, as long as the table.

    Raises
    ------
    InvalidValueError
        If the file is of another kind, damaged, or lacks a column.
    MissingExtraError
        If it is parquet and pyarrow is not installed.
    OSError
        If it cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidValueError(f"{path} must be a .parquet or .jsonl file, got {path.suffix!r}; convert it")
    return _parquet(path, names) if path.suffix == ".parquet" else _jsonl(path, names)


def parquet_names(path: Path) -> list[str]:
    """Return the columns of a parquet file; errors are those of :func:`read_columns`."""
    with _open_parquet(path) as file:
        names: list[str] = file.schema_arrow.names
    return names


def parquet_table(path: Path, names: Sequence[str] | None = None) -> Any:
    """Return these columns of a parquet file, or all, as a pyarrow table; errors are those of :func:`read_columns`."""
    with _open_parquet(path) as file:
        known = file.schema_arrow.names
        for name in names or ():
            _check_column(path, name, known)
        return file.read(columns=None if names is None else list(names))


def parquet_objects(path: Path, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and fields of each row of a parquet file, of those columns among `names` that it has.

    Some rows are read at a time; errors are those of :func:`read_columns`.
    """
    row = 0
    with _open_parquet(path) as file:
        known = [name for name in dict.fromkeys(names) if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=known):
            columns = [_values(path, name, batch.column(name)) for name in known]
            for values in zip(*columns, strict=True):
                yield row, dict(zip(known, values, strict=True))
                row += 1


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:  # a ParquetFile, whose type is not at hand where it is not installed
    with path.open("rb"):  # a file that cannot be read is not one that is damaged
        pass
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(f"{path} needs pyarrow; use pip install 'negfast[cli]', or a .jsonl file") from error
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{path} must be a parquet file, got {_one_line(error)}; write it again") from error


def _parquet(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    table = parquet_table(path, names)
    return {name: _values(path, name, table.column(name)) for name in names}


def _values(path: Path, name: str, column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (ArithmeticError, ValueError, LookupError) as error:  # texts that are no UTF-8, dates that Python lacks
        raise InvalidValueError(
            f"column {name!r} of {path} must hold texts or integers, got {column.type} that Python cannot hold "
            f"({_one_line(error)}); convert it"
        ) from error
    return values


def _check_column(path: Path, name: str, known: Sequence[str]) -> None:
    if list(known).count(name) != 1:
        among = ", ".join(map(repr, known[:20]))
        raise InvalidValueError(
            f"{path} must have one column {name!r}, got {known.count(name) or 'none'} among {among}; name another"
        )


def _jsonl(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for line, _, entry in json_objects(path):
        for name in names:
            if name not in entry:
                known = ", ".join(map(repr, list(entry)[:20]))
                raise InvalidValueError(
                    f"{path}, line {line}, must have an entry {name!r}, got {known}; name another or write null"
                )
            columns[name].append(entry[name])
    return columns


def json_objects(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield number, text and object of each line that is not blank; errors are those of :func:`read_columns`."""
    for line, raw in raw_lines(path):
        try:
            text = raw.decode("utf-8")
            entry = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidValueError(
                f"{path}, line {line}, must be a JSON object in UTF-8, got {_one_line(error)}; mend that line"
            ) from error
        if not isinstance(entry, dict):
            raise InvalidValueError(
                f"{path}, line {line}, must be a JSON object, got {type(entry).__name__} {shown(entry)}; mend that line"
            )
        yield line, text, entry


def texts(label: str, values: list[Any]) -> list[str]:
    """Check that a column holds texts.

    Parameters
    ----------
    label : str
        The column, as messages name it.
    values : list
        Its values.

    Raises
    ------
    InvalidTypeError
        If a value is no text.
    """
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidTypeError(_not(label, "texts", row, value, "drop the row or give it a text"))
    return values


def text_lists(label: str, values: list[Any]) -> list[list[str]]:
    """Check that a column holds texts or lists of texts, and return lists; nothing is the empty list."""
    lists = []
    for row, value in enumerate(values):
        entry = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(entry, list) or not all(isinstance(text, str) for text in entry):
            raise InvalidTypeError(_not(label, "texts or lists of texts", row, value, "use null where there is none"))
        lists.append(entry)
    return lists


def ids(label: str, values: list[Any]) -> list[str] | list[int]:
    """Check that a column holds distinct ids, all of them texts or all of them integers of 64 bits.

    Raises
    ------
    InvalidTypeError
        If a value is neither, or they are mixed.
    InvalidValueError
        If an id is there twice or too large.
    """
    kind = str if values and isinstance(values[0], str) else int
    seen: dict[Any, int] = {}
    for row, value in enumerate(values):
        if not isinstance(value, kind) or isinstance(value, bool):
            expected = "texts like the first" if kind is str else "integers, or texts throughout"
            raise InvalidTypeError(_not(label, expected, row, value, "use one type of id"))
        if isinstance(value, int) and not -MOST <= value <= MOST:
            raise InvalidValueError(_not(label, "integers of 64 bits", row, value, "use texts"))
        if value in seen:
            raise InvalidValueError(
                f"{label} must hold each id once, got {shown(value)} in rows {seen[value]} and {row}; name a column "
                "that tells rows apart, or leave it out to use row numbers"
            )
        seen[value] = row
    return values


def group_numbers(*columns: tuple[str, list[Any]]) -> tuple[list[list[int]], ...]:
    """Give numbers to the groups of several columns, in the order in which they are first seen.

    Parameters
    ----------
    *columns : pair of str and list
        A column's name for messages, and its values: a text, an integer, a list of them, or nothing.

    Returns
    -------
    tuple of list of list of int
        For each column and row the numbers of its groups; equal values have one number.
    """
    numbers: dict[Any, int] = {}
    return tuple(
        [
            [numbers.setdefault(group, len(numbers)) for group in _groups(label, row, value)]
            for row, value in enumerate(values)
        ]
        for label, values in columns
    )


def _groups(label: str, row: int, value: Any) -> list[Any]:
    entry = [] if value is None else value if isinstance(value, list) else [value]
    for group in entry:
        if not isinstance(group, str | int) or isinstance(group, bool):
            raise InvalidTypeError(_not(label, "texts, integers or lists of them", row, value, "use null for no group"))
    return list(entry)


def _not(label: str, expected: str, row: int, value: object, remedy: str) -> str:
    return f"{label} must hold {expected}, got {type(value).__name__} {shown(value)} in row {row}; {remedy}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
