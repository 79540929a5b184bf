"""Ids and scores as data sets on the Hugging Face hub have them: queries, documents, and lists with scores."""

import ast
from collections.abc import Iterable
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from negfast.errors import InvalidValueError, shown
from negfast.files.writers import RowWriter, writing
from negfast.formats.builder import Builder, Rows
from negfast.formats.data import RetrievalData
from negfast.formats.layout import add_row, blocks, check_data, rows_of, write_texts
from negfast.formats.records import Record, parquet_records
from negfast.settings import one_of

_LISTS = ("scores", "train")
_COLUMNS = {"hard-negatives": ("scores", "query", "document"), "pylate": ("train", "text", "text")}
"""What the layouts call the lists, the column of queries and that of documents."""


def read_hugging_face(folder: str | PathLike[str]) -> RetrievalData:
    """Read queries, documents, and lists of ids with scores.

    Parameters
    ----------
    folder : str or path-like
        A data set that was downloaded or written: parquet files ``queries``, ``documents``, and ``scores`` or
        ``train``, each a file of that name or a folder of files. Columns are ``query_id`` and ``query`` or ``text``;
        ``document_id`` and ``document`` or ``text``; ``query_id``, ``document_ids`` and, where there is one,
        ``scores``. The last two are lists, or texts that spell lists.

    Returns
    -------
    RetrievalData
        The first id of a list is a positive, the others are negatives; rows of one query are put together, and
        what is a positive in one of them is no negative. Queries that have no list are left behind. Integers as ids
        become their digits.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a row is something else, an id is there twice, or a list has an unknown one; the message names row and
        column.
    MissingExtraError
        If pyarrow is not installed.
    OSError
        If a file cannot be read.

    Notes
    -----
    The layout is that of ``lightonai/ms-marco-en-bge``, which PyLate trains on, and of the output of the package
    hard-negatives.
    """
    root = Path(folder)
    queries = _read_rows(root, "queries", "query_id", "query")
    builder = Builder(_read_rows(root, "documents", "document_id", "document"))
    lists: dict[str, _Lists] = {}
    for part in _parts(root, *_LISTS):
        for record in parquet_records(part, ("query_id", "document_ids", "scores")):
            identity = record.identity("query_id")
            if identity not in queries:
                record.refuse_value("query_id", "an id of the queries", identity, "check which queries belong to it")
            _parse_lists(record)
            rows = rows_of(builder.corpus, record, "document_ids")
            lists.setdefault(identity, _Lists()).add(rows, _scores(record, len(rows)))
    for identity, found in lists.items():
        negatives = {row: score for row, score in found.negatives.items() if row not in found.positives}
        builder.queries.add(identity, queries.text_of(identity))
        builder.positives.add(found.positives.keys(), found.positives.values())
        builder.negatives.add(negatives.keys(), negatives.values())
    return builder.data()


def _parse_lists(record: Record) -> None:
    """Put lists in place of texts that spell them, as older data sets of PyLate have them."""
    for name in ("document_ids", "scores"):
        value = record.entry.get(name)
        if isinstance(value, str):
            try:
                record.entry[name] = ast.literal_eval(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                record.refuse(name, "a list, or a text that spells one", value, "write it as a list")


class _Lists:
    """Positives and negatives of one query with their scores."""

    def __init__(self) -> None:
        self.positives: dict[int, float] = {}
        self.negatives: dict[int, float] = {}

    def add(self, rows: list[int], scores: list[float]) -> None:
        for side, part in ((self.positives, slice(0, 1)), (self.negatives, slice(1, None))):
            for row, score in zip(rows[part], scores[part], strict=True):
                side.setdefault(row, score)


def _scores(record: Record, n: int) -> list[float]:
    """Return the scores of a list, NaN for those that are null."""
    values = record.entry.get("scores")
    if isinstance(values, list) and None in values and len(values) == n:
        known = Record(record.where, {"scores": [0.0 if value is None else value for value in values]})
        pairs = zip(values, known.scores("scores", n), strict=True)
        return [float("nan") if value is None else score for value, score in pairs]
    return record.scores("scores", n)


def _read_rows(root: Path, name: str, identity: str, text: str) -> Rows:
    rows = Rows()
    for part in _parts(root, name):
        for record in parquet_records(part, (identity, text, "text")):
            add_row(rows, record, record.identity(identity), record.text(text, "text"), "", identity)
    return rows


def _parts(root: Path, *names: str) -> list[Path]:
    for name in names:
        alone = root / f"{name}.parquet"
        if parts := [alone] if alone.exists() else sorted((root / name).glob("*.parquet")):
            return parts
    raise InvalidValueError(
        f"{root} must hold {' or '.join(f'{name}.parquet' for name in names)}, or a folder of that name, got none; "
        "name the folder of the data set"
    )


def hugging_face_files(folder: Path, lists: str = _LISTS[0]) -> list[Path]:
    """Return the files of a folder: queries, documents, lists, and the card that names them."""
    return [*(folder / f"{name}.parquet" for name in ("queries", "documents", lists)), folder / "README.md"]


def write_hugging_face(
    folder: str | PathLike[str], data: RetrievalData, *, layout: Literal["hard-negatives", "pylate"] = "hard-negatives"
) -> None:
    """Write queries, documents, and lists of ids with scores, as parquet files that ``datasets`` knows by name.

    Parameters
    ----------
    folder : str or path-like
        Made if it is not there. Its ``README.md`` and three parquet files are replaced.
    data : RetrievalData
    layout : {"hard-negatives", "pylate"}, default "hard-negatives"
        What lists and columns of texts are called: ``scores``, ``query`` and ``document``, or ``train`` and ``text``.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a query has no positive, a text is none, `layout` is another, or the folder holds other tables that readers
        would take for these.
    MissingExtraError
        If pyarrow is not installed.
    OSError
        If a file cannot be written; then none is replaced.

    Notes
    -----
    A query with several positives has a list for each of them. ``datasets.load_dataset(folder, "queries")`` reads the
    queries, and the others by their names. The package hard-negatives itself takes ids that are digits only. Lost are
    grades, titles as such (they are put before the text), and that a positive is a negative of the same query too.
    """
    check_data(data)
    lists, query, document = _COLUMNS[one_of("layout", layout, tuple(_COLUMNS))]
    alone = np.flatnonzero(np.diff(data.positives[0]) == 0)
    if alone.size:
        raise InvalidValueError(
            f"data must have a positive for every query, whose list begins with it, got none for "
            f"{shown(data.query_ids[alone[0]])}; write data.usable(0)"
        )
    root = Path(folder)
    own = queries_file, documents_file, lists_file, card = hugging_face_files(root, lists)
    _refuse_other_tables(root, own)
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # the files get their names when all are written
        texts = map(data.query, range(len(data)))
        write_texts(stack, queries_file, ("query_id", query), data.query_ids, texts)
        passages = map(data.passage, range(len(data.corpus)))
        write_texts(stack, documents_file, ("document_id", document), data.corpus_ids, passages)
        _write_lists(stack, lists_file, data)
        stack.enter_context(writing(card))(_card(("queries", "documents", lists)))


def _refuse_other_tables(root: Path, own: list[Path]) -> None:
    """Refuse a folder with other tables of these names, which readers would take for those that are written."""
    for name in ("queries", "documents", *_LISTS):
        for part in (root / f"{name}.parquet", *(root / name).glob("*.parquet")):
            if part.exists() and part not in own:
                raise InvalidValueError(f"folder must be one without other tables, got {part} in it; name another")


def _write_lists(stack: ExitStack, path: Path, data: RetrievalData) -> None:
    writer = stack.enter_context(RowWriter(path, {"query_id": "string", "document_ids": "strings", "scores": "floats"}))
    for queries in blocks(data):
        rows = [row for query in queries for row in _lists_of(data, query)]
        columns = zip(*rows, strict=True)
        writer.write(dict(zip(("query_id", "document_ids", "scores"), columns, strict=True)))


def _lists_of(data: RetrievalData, query: int) -> Iterable[tuple[str, list[str], list[Any]]]:
    """Yield the list of each positive of a query."""
    first, negatives = (slice(*lists[0][query : query + 2].tolist()) for lists in (data.positives, data.negatives))
    others = [data.corpus_ids[row] for row in data.negatives[1][negatives].tolist()]
    scores = _or_none(data.negative_scores[negatives].tolist())
    positives = zip(data.positives[1][first].tolist(), _or_none(data.positive_scores[first].tolist()), strict=True)
    for row, score in positives:
        yield data.query_ids[query], [data.corpus_ids[row], *others], [score, *scores]


def _or_none(scores: list[float]) -> list[float | None]:
    return [None if score != score else score for score in scores]  # NaN alone differs from itself


def _card(names: Iterable[str]) -> str:
    """Return what tells ``datasets`` which file is which."""
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet\n" for name in names
    )
    return f"---\nconfigs:\n{configs}---\n"
