"""The files of trec_eval: judgements in four columns, rankings in six."""

import math
from array import array
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.files.lines import raw_lines
from negfast.files.writers import writing
from negfast.formats.builder import Rows
from negfast.formats.data import RetrievalData
from negfast.formats.id_lists import IdLists
from negfast.formats.layout import check_text, refuse_white_space
from negfast.formats.records import MOST_SCORE, json_scores

_QRELS = ("query id", "iteration", "document id", "grade")
_RUN = ("query id", "Q0", "document id", "rank", "score", "tag")


class ListReader:
    """Gathers numbers of rows by query id and row id, in any order of queries.

    Parameters
    ----------
    path : Path
        The file, as messages name it.
    values : array
        Where the numbers go.
    rows : Rows, optional
        The corpus, where it is known.
    """

    def __init__(self, path: Path, values: "array[Any]", rows: Rows | None = None) -> None:
        self._path, self._values = path, values
        self._queries, self._rows = Rows(), Rows() if rows is None else rows
        self._of_query, self._of_row, self._lines = array("q"), array("q"), array("q")

    def add(self, line: int, query: str, row: str, value: float) -> None:
        """Add what a line says."""
        self._of_query.append(self._queries.add(query, ""))
        self._of_row.append(self._rows.add(row, ""))
        self._values.append(value)
        self._lines.append(line)

    def lists(self) -> IdLists:
        """Return the lists of all queries, each in the order of the file.

        Raises
        ------
        InvalidValueError
            If a row is there twice for a query.
        """
        owners, rows = np.array(self._of_query, dtype=np.int64), np.array(self._of_row, dtype=np.int64)
        self._refuse_repeats(owners * max(len(self._rows.ids), 1) + rows)
        order = np.argsort(owners, kind="stable")
        indptr = np.searchsorted(owners[order], np.arange(len(self._queries.ids) + 1)).astype(np.int64)
        return IdLists(self._queries.ids, self._rows.ids, (indptr, rows[order]), np.array(self._values)[order])

    def _refuse_repeats(self, codes: Ints) -> None:
        order = np.argsort(codes, kind="stable")
        again = np.flatnonzero(np.diff(codes[order]) == 0)
        if again.size:
            first, second = order[again[0]], order[again[0] + 1]
            raise InvalidValueError(
                f'{self._path}, line {self._lines[second]}, field "document id", must be there once for a query, got '
                f"{shown(self._rows.ids[self._of_row[second]])}, which line {self._lines[first]} has for "
                f"{shown(self._queries.ids[self._of_query[second]])}; drop one of them"
            )


def read_trec_qrels(path: str | PathLike[str]) -> IdLists:
    """Read judgements in four columns: query id, iteration, document id, grade.

    Parameters
    ----------
    path : str or path-like
        A text file, compressed where its name ends in ``.gz``. The second column is passed over.

    Returns
    -------
    IdLists
        With grades of int64.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a line is something else, or a document is judged twice; the message names line and column.
    OSError
        If the file cannot be read.
    """
    source = Path(path)
    reader = ListReader(source, array("q"))
    for line, raw in raw_lines(source):
        where = f"{source}, line {line}"
        query, _, row, grade = _columns(where, raw, _QRELS)
        reader.add(line, query, row, whole_number(where, "grade", grade))
    return reader.lists()


def read_trec_run(path: str | PathLike[str]) -> IdLists:
    """Read a ranking in six columns: query id, Q0, document id, rank, score, tag.

    Parameters
    ----------
    path : str or path-like
        A text file, compressed where its name ends in ``.gz``. Second and last column are passed over.

    Returns
    -------
    IdLists
        With scores of float32, each query's in the order of the file. Ranks may be equal, as beir writes them.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a line is something else, a document is ranked twice, or ranks fall or scores rise within a query; the
        message names line and column.
    OSError
        If the file cannot be read.
    """
    source = Path(path)
    reader = ListReader(source, array("f"))
    last: dict[str, tuple[int, float]] = {}
    for line, raw in raw_lines(source):
        where = f"{source}, line {line}"
        query, _, row, rank_text, score_text, _ = _columns(where, raw, _RUN)
        rank, score = whole_number(where, "rank", rank_text), _score(where, score_text)
        above, lowest = last.get(query, (0, math.inf))
        if rank < above:  # equal ones are ties, or, as beir writes them, no ranks at all
            _refuse(where, "rank", f"{above} or more" + ", as the rank before it" * bool(above), rank_text)
        if score > lowest:
            _refuse(where, "score", f"at most {lowest}, the score of the rank before it", score_text)
        last[query] = rank, score
        reader.add(line, query, row, score)
    return reader.lists()


def _columns(where: str, raw: bytes, names: tuple[str, ...]) -> list[str]:
    try:
        columns = [column.decode("utf-8") for column in raw.split()]
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{where}, must be text in UTF-8, got {error}; convert the file") from error
    if len(columns) != len(names):
        raise InvalidValueError(
            f"{where}, must have {len(names)} columns ({', '.join(names)}), got {len(columns)}: "
            f"{shown(' '.join(columns))}; mend that line"
        )
    return columns


def whole_number(where: str, name: str, text: str) -> int:
    """Return the integer of 64 bits that a column holds."""
    try:
        return int(np.int64(int(_plain(text))))
    except (ValueError, OverflowError) as error:
        raise InvalidTypeError(
            f'{where}, field "{name}", must be a whole number, got {shown(text)}; write one such as 1'
        ) from error


def _plain(text: str) -> str:
    """Refuse what Python alone takes for a number: other digits, and underscores between them."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return text


def _score(where: str, text: str) -> float:
    try:
        value = float(_plain(text))
    except ValueError as error:
        raise InvalidTypeError(
            f'{where}, field "score", must be a number, got {shown(text)}; score that pair again'
        ) from error
    if not -MOST_SCORE <= value <= MOST_SCORE:  # which is false for NaN
        _refuse(where, "score", "a finite float32 number", text)
    return value


def _refuse(where: str, name: str, expected: str, text: str) -> NoReturn:
    raise InvalidValueError(
        f'{where}, field "{name}", must be {expected}, got {shown(text)}; sort each query by falling score and number '
        "its ranks from 1"
    )


def write_trec_qrels(path: str | PathLike[str], qrels: RetrievalData | IdLists) -> None:
    """Write judgements in four columns.

    Parameters
    ----------
    path : str or path-like
        Replaced if it exists; compressed where its name ends in ``.gz``.
    qrels : RetrievalData or IdLists
        Of the former, its positives.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If it holds no grades, or an id is empty or has white space.
    OSError
        If the file cannot be written; what was there before stays.
    """
    lists = _checked("qrels", qrels.qrels() if isinstance(qrels, RetrievalData) else qrels, "i", "a run")
    with writing(Path(path)) as write:
        for query, rows, grades in _by_query(lists, lists.values.astype(str).tolist()):
            write("".join([f"{query} 0 {row} {grade}\n" for row, grade in zip(rows, grades, strict=True)]))


def write_trec_run(path: str | PathLike[str], run: RetrievalData | IdLists, *, tag: str = "negfast") -> None:
    """Write a ranking in six columns, with ranks from 1.

    Parameters
    ----------
    path : str or path-like
        Replaced if it exists; compressed where its name ends in ``.gz``.
    run : RetrievalData or IdLists
        Of the former, positives and negatives whose scores are known, see :meth:`RetrievalData.run`.
    tag : str, default "negfast"
        The last column, which names the system.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If there are no scores, or an id or the tag is empty or has white space.
    OSError
        If the file cannot be written; what was there before stays.

    Notes
    -----
    Rows go by falling score; equal ones stay in their order. trec_eval passes ranks over and puts equal scores into an
    order of its own.

    Examples
    --------
    >>> import negfast, numpy as np, tempfile, pathlib
    >>> from negfast.formats import IdLists, read_trec_run, write_trec_run
    >>> rows = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    >>> run = IdLists.from_topk(negfast.topk(rows, rows, 2), ["q1", "q2"], ["d1", "d2"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "run.txt"
    ...     write_trec_run(path, run, tag="exact")
    ...     print(path.read_text().splitlines()[0])
    ...     read_trec_run(path)
    q1 Q0 d1 1 1.0 exact
    IdLists: 2 queries, 4 rows ranked
    """
    lists = _checked("run", run.run() if isinstance(run, RetrievalData) else run, "f", "qrels")
    if isinstance(run, RetrievalData) and not lists.values.size and run.positives[1].size + run.negatives[1].size:
        raise InvalidValueError("run must have scores, got data without any; mine or score its rows first")
    check_text("tag", tag)
    refuse_white_space("tag", [tag])
    ordered = _sorted(lists)
    with writing(Path(path)) as write:
        for query, rows, scores in _by_query(ordered, json_scores(ordered.values.astype(np.float32))):
            ranked = enumerate(zip(rows, scores, strict=True), 1)
            write("".join([f"{query} Q0 {row} {rank} {score} {tag}\n" for rank, (row, score) in ranked]))


def _sorted(lists: IdLists) -> IdLists:
    """Return each list by falling score; equal scores stay in their order."""
    indptr, indices = lists.lists
    owners = np.repeat(np.arange(len(lists)), np.diff(indptr))
    order = np.lexsort((-lists.values, owners))
    return IdLists(lists.query_ids, lists.corpus_ids, (indptr, indices[order]), lists.values[order])


def _checked(argument: str, value: object, kind: Literal["i", "f"], other: str) -> IdLists:
    """Return lists whose numbers are of this kind and whose ids fit into columns."""
    if not isinstance(value, IdLists) or value.values.dtype.kind != kind:
        expected = "grades" if kind == "i" else "scores"
        raise InvalidTypeError(
            f"{argument} must be a RetrievalData, or an IdLists of {expected}, got {shown(value)}; write "
            f"others as {other}"
        )
    refuse_white_space("query_ids", value.query_ids)
    refuse_white_space("corpus_ids", value.corpus_ids, np.unique(value.lists[1]))
    return value


def _by_query(lists: IdLists, values: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each query's id, the ids of its rows, and their numbers as text."""
    indptr, indices = lists.lists
    bounds, ids = indptr.tolist(), lists.corpus_ids
    for place, query in enumerate(lists.query_ids):
        begin, end = bounds[place], bounds[place + 1]
        yield query, [ids[row] for row in indices[begin:end].tolist()], values[begin:end]
