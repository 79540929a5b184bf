"""A table with one more column: all else stays as it is."""

import json
from collections.abc import Sequence
from pathlib import Path

from negfast.errors import InvalidValueError
from negfast.files.tables import json_objects, parquet_names, parquet_table
from negfast.files.writers import replacing


def refuse_column(path: Path, name: str) -> None:
    """Raise an error if a table has a column of that name."""
    if path.suffix == ".parquet":
        taken = name in parquet_names(path)
    else:
        taken = any(name in entry for _, _, entry in json_objects(path))
    if taken:
        raise InvalidValueError(f"{path} must have no column {name!r} yet, got one; name the new column otherwise")


def join_integers(source: Path, target: Path, name: str, values: Sequence[int]) -> None:
    """Write the rows of a table with a column of integers at its end.

    Parameters
    ----------
    source, target : Path
        Two ``.parquet`` or two ``.jsonl`` files.
    name : str
        The new column, which the table does not have.
    values : sequence of int
        One for each row.

    Raises
    ------
    InvalidValueError
        If the table is damaged or has another number of rows.
    OSError
        If a file cannot be read or written.
    """
    join = _parquet if source.suffix == ".parquet" else _jsonl
    join(source, target, name, values)


def _parquet(source: Path, target: Path, name: str, values: Sequence[int]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = parquet_table(source)
    _check_rows(source, table.num_rows, len(values))
    with replacing(target) as temporary:
        pq.write_table(table.append_column(name, pa.array(values, pa.int64())), temporary, compression="zstd")


def _jsonl(source: Path, target: Path, name: str, values: Sequence[int]) -> None:
    n_rows = 0
    with replacing(target) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for n_rows, (_, text, entry) in enumerate(json_objects(source), 1):
                if n_rows <= len(values):
                    # Letter by letter, since a number that is read and written again may be another one.
                    start = text.removesuffix("}").rstrip() + (", " if entry else "")
                    file.write(f"{start}{json.dumps(name)}: {values[n_rows - 1]}}}\n")
        _check_rows(source, n_rows, len(values))


def _check_rows(source: Path, found: int, expected: int) -> None:
    if found != expected:
        raise InvalidValueError(f"{source} must stay as it is, got {found} rows after {expected}; start again")
