"""`negfast near-duplicates`: which rows of a table or of embeddings are copies of each other, or nearly."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import negfast
from negfast import threads
from negfast.arrays import Ints
from negfast.cli.encoding import encode_all, encoder_for
from negfast.cli.options import fraction, positive
from negfast.cli.progress import Progress, is_progress_wanted
from negfast.cli.screen import Screen, fit, printable
from negfast.errors import InvalidValueError
from negfast.files.embeddings import open_embeddings, refuse_bad_rows, tensor_of
from negfast.files.joining import join_integers, refuse_column
from negfast.files.tables import SUFFIXES, ids, read_columns, texts
from negfast.files.writers import Kind, RowWriter, check_writable, replacing
from negfast.keys import content_keys, first_occurrences

DEFAULT_THRESHOLD = 0.95
DEFAULT_TEXT = "text"
N_SHOWN = 5
ROWS_PER_WRITE = 65_536
_EMBEDDINGS = (".npy", ".safetensors")
_OF_TABLES = ("text", "embeddings", "model", "prompt", "id")
"""Options that only a table has a use for."""


@dataclass(frozen=True)
class _Rows:
    """What to compare: embeddings of distinct rows, and which of them each row of the input is."""

    embeddings: NDArray[Any]
    places: Ints  # (n_rows,)
    texts: list[str] | None
    ids: Sequence[str] | Sequence[int]


def add_command(commands: Any) -> None:  # argparse has no public name for the type of its subparsers
    """Add `negfast near-duplicates` to the commands.

    Parameters
    ----------
    commands : action
        What `ArgumentParser.add_subparsers` returns.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "near-duplicates",
        help="number the groups of rows that are copies of each other, or nearly",
        description="Links rows whose cosine reaches a threshold, and numbers the groups that links hold together. "
        "With the group as a column of its table, `negfast mine --group COLUMN` gives no anchor a near-copy of one of "
        "its positives: negfast near-duplicates pairs.parquet --text positive --join -o grouped.parquet, then "
        "negfast mine grouped.parquet --group group -o negatives.parquet. Groups of two runs have nothing to do with "
        "each other.",
    )
    parser.add_argument(
        "input", metavar="INPUT", help="table of texts, .parquet or .jsonl, or embeddings, .npy or .safetensors"
    )
    parser.add_argument("--text", metavar="COLUMN", help=f'column of texts (default "{DEFAULT_TEXT}")')
    parser.add_argument("--id", metavar="COLUMN", help="column of ids, one for each row (default: the row's number)")
    parser.add_argument(
        "--embeddings", metavar="FILE", help=".npy or .safetensors (FILE:TENSOR if it holds several), one row a text"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="sentence-transformers model, by name or folder (default: the built-in encoder)"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="what the model is given before each text")
    parser.add_argument(
        "--threshold",
        type=fraction,
        default=DEFAULT_THRESHOLD,
        metavar="C",
        help=f"the least cosine of rows that are linked (default {DEFAULT_THRESHOLD})",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="id and group of each row, .parquet or .jsonl, or .npy"
    )
    parser.add_argument("--join", action="store_true", help="write the rows of INPUT instead, with the group")
    parser.add_argument("--column", default="group", metavar="NAME", help='name of the new column (default "group")')
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads (default: NEGFAST_NUM_THREADS, else all CPUs)"
    )
    parser.add_argument("--quiet", action="store_true", help="write the file and print nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Find the groups.

    Parameters
    ----------
    arguments : argparse.Namespace
        The options that `add_command` declares.

    Returns
    -------
    int
        Exit code 0; mistakes are raised.

    Raises
    ------
    NegfastError, OSError
        If the user has something to mend.
    """
    # What may have to be mended is found out before the long work.
    n_threads = threads.resolve(arguments.threads)
    is_table = tensor_of(arguments.input)[0].suffix not in _EMBEDDINGS
    _check_options(arguments, is_table=is_table)
    _check_output(arguments)
    shown = is_progress_wanted(arguments.quiet)
    rows = _table(arguments, shown=shown) if is_table else _plain(arguments.input)
    try:
        groups = negfast.near_duplicates(rows.embeddings, arguments.threshold, n_threads=n_threads, progress=shown)
    except InvalidValueError:
        spec = arguments.embeddings if is_table else arguments.input
        if spec is not None:
            refuse_bad_rows("--embeddings" if is_table else "INPUT", spec)
        raise
    groups = groups[rows.places]
    screen = Screen(quiet=arguments.quiet)
    _show(screen, groups, rows, arguments.threshold)
    if arguments.output is not None:
        _write(arguments, groups, rows)
        _show_use(screen, arguments)
    return 0


def _check_options(arguments: argparse.Namespace, *, is_table: bool) -> None:
    for name in _OF_TABLES:
        if not is_table and getattr(arguments, name) is not None:
            raise InvalidValueError(f"--{name} must be given with a table, got it with {arguments.input}; leave it out")
    if arguments.embeddings is not None and arguments.model is not None:
        raise InvalidValueError("--model must be given without --embeddings, got both; leave one out")
    if arguments.prompt is not None and arguments.model is None:
        raise InvalidValueError("--prompt must be given with --model, got it alone; name the model, or leave it out")
    if arguments.output is None and (arguments.join or arguments.quiet):
        option = "--join" if arguments.join else "--quiet"
        raise InvalidValueError(f"{option} must be given with --output, got it alone; name a file to write")


def _check_output(arguments: argparse.Namespace) -> None:
    source, output = Path(arguments.input), arguments.output
    if output is None:
        return
    if arguments.join and (source.suffix not in SUFFIXES or output.suffix != source.suffix):
        raise InvalidValueError(
            f"--join must be given with a table and an output of its kind, got {source} and {output}; name a "
            f"{source.suffix if source.suffix in SUFFIXES else 'table and another'} file"
        )
    check_writable(output, "--output", (*SUFFIXES, ".npy"))
    read = [tensor_of(spec)[0] for spec in (arguments.input, arguments.embeddings) if spec is not None]
    if output.exists() and any(path.exists() and path.samefile(output) for path in read):
        raise InvalidValueError(f"--output must be a file of its own, got {output}, which is read; name another")
    if not arguments.join and arguments.column in ("row", "id"):
        raise InvalidValueError(f"--column must be another name than row and id, got {arguments.column!r}; choose one")
    if arguments.join:
        refuse_column(source, arguments.column)


def _plain(spec: str) -> _Rows:
    rows = open_embeddings(spec)
    return _Rows(rows, np.arange(len(rows)), None, range(len(rows)))


def _table(arguments: argparse.Namespace, *, shown: bool) -> _Rows:
    """Read a table, and encode each text once: those that differ in white space or Unicode form alone are one."""
    path, column = Path(arguments.input), arguments.text or DEFAULT_TEXT
    with Progress("read", None, shown=shown):
        table = read_columns(path, list(dict.fromkeys(name for name in (column, arguments.id) if name is not None)))
        found = texts(f'column "{column}" of {path}', table[column])
        row_ids: Sequence[str] | Sequence[int] = range(len(found))
        if arguments.id is not None:
            row_ids = ids(f'column "{arguments.id}" of {path}', table[arguments.id])
    if arguments.embeddings is not None:
        rows = open_embeddings(arguments.embeddings)
        if len(rows) != len(found):
            raise InvalidValueError(
                f"--embeddings must have one row for each of the {len(found):,} texts of {path}, got {len(rows):,} in "
                f"{arguments.embeddings}; give the file that belongs to the table"
            )
        return _Rows(rows, np.arange(len(rows)), found, row_ids)
    first, places = first_occurrences(content_keys(found))
    distinct = [found[row] for row in first.tolist()]
    encoder = encoder_for(arguments.model)
    with Progress("encode", len(distinct), shown=shown) as progress:
        encoder.fit(distinct)
        rows = encode_all(encoder, distinct, progress, prompt=arguments.prompt, queries=False)
    return _Rows(rows, places, found, row_ids)


def _write(arguments: argparse.Namespace, groups: Ints, rows: _Rows) -> None:
    output, column = arguments.output, arguments.column
    if arguments.join:
        join_integers(Path(arguments.input), output, column, groups.tolist())
    elif output.suffix == ".npy":
        with replacing(output) as temporary, temporary.open("wb") as file:
            np.save(file, groups)
    else:
        name = "row" if arguments.id is None else "id"
        kind: Kind = "string" if rows.ids and isinstance(rows.ids[0], str) else "int"
        with RowWriter(output, {name: kind, column: "int"}) as writer:
            for start in range(0, len(groups), ROWS_PER_WRITE):
                stop = start + ROWS_PER_WRITE
                writer.write({name: rows.ids[start:stop], column: groups[start:stop].tolist()})


def _show(screen: Screen, groups: Ints, rows: _Rows, threshold: float) -> None:
    sizes = np.bincount(groups) if len(groups) else np.zeros(0, dtype=np.int64)
    several = np.flatnonzero(sizes > 1)
    n_members = int(sizes[several].sum())
    screen.line(f"{len(groups):,} rows, {len(sizes):,} groups at a cosine of {threshold:g}", "bold")
    share = 100 * n_members / max(len(groups), 1)
    counted = "1 group has" if len(several) == 1 else f"{len(several):,} groups have"
    screen.prose(f"{counted} several members: {n_members:,} rows in all ({share:.1f} %)")
    if not len(several):
        return
    screen.heading("The largest groups")
    for group in several[np.argsort(-sizes[several], kind="stable")][:N_SHOWN].tolist():
        members = np.flatnonzero(groups == group)
        screen.line(f"  group {group}: {len(members):,} rows")
        for row in (members[0], members[-1]):
            text = "" if rows.texts is None else printable(" ".join(rows.texts[row][: screen.width * 4].split()))
            screen.line(fit(f"    {printable(str(rows.ids[row]))}  {text}".rstrip(), screen.width), "dim")


def _show_use(screen: Screen, arguments: argparse.Namespace) -> None:
    output, column = arguments.output, arguments.column
    screen.heading("File")
    if arguments.join:
        screen.prose(f"{output}: the rows of {arguments.input} with the column {column}")
        screen.prose(f"To keep near-copies apart: negfast mine {output} --group {column}")
        return
    screen.prose(f"{output}: the group of each row")
    screen.prose(
        f"To keep near-copies apart, join it into the table as a column (with a table as INPUT, --join does that) and "
        f"name the column: negfast mine TABLE --group {column}"
    )
