"""The training files of Tevatron: by id beside a corpus, or with the passages in them."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from os import PathLike

from negfast.errors import InvalidValueError
from negfast.files.writers import writing
from negfast.formats.builder import Builder, Rows
from negfast.formats.data import RetrievalData
from negfast.formats.layout import Kept, add_query, add_row, blocks, both, check_data, checked_path, rows_of
from negfast.formats.records import Record, encoded, records, scored


def read_tevatron(path: str | PathLike[str], *, corpus: str | PathLike[str]) -> RetrievalData:
    """Read a training file of Tevatron 2, and its corpus.

    Parameters
    ----------
    path : str or path-like
        A ``.jsonl`` file of ``query_id``, ``query_text`` (or ``query``), ``positive_document_ids`` and
        ``negative_document_ids``. ``.gz`` may follow.
    corpus : str or path-like
        A ``.jsonl`` file of ``docid``, ``text`` and, where there is one, ``title``. ``.gz`` may follow.

    Returns
    -------
    RetrievalData
        Integers as ids become their digits.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a line is something else, an id is there twice, or the corpus lacks one; the message names line and field.
    OSError
        If a file cannot be read.

    Notes
    -----
    The format is that of ``TrainDataset`` in ``tevatron/retriever/dataset.py``.
    """
    builder = Builder(_read_corpus(corpus))
    for record in records(checked_path("path", path, ".jsonl")):
        add_query(builder, record, record.identity("query_id"), record.text("query_text", "query"), "query_id")
        for entries, name in (
            (builder.positives, "positive_document_ids"),
            (builder.negatives, "negative_document_ids"),
        ):
            rows = rows_of(builder.corpus, record, name)
            entries.add(rows, [float("nan")] * len(rows))
    return builder.data()


def _read_corpus(path: str | PathLike[str]) -> Rows:
    corpus = Rows()
    for record in records(checked_path("corpus", path, ".jsonl")):
        add_row(corpus, record, record.identity("docid"), record.text("text"), record.title(), "docid")
    return corpus


def write_tevatron(
    path: str | PathLike[str], data: RetrievalData, *, corpus: str | PathLike[str] | None = None
) -> None:
    """Write a training file of Tevatron 2, by id.

    Parameters
    ----------
    path : str or path-like
        A ``.jsonl`` file, replaced if it exists. ``.gz`` may follow.
    data : RetrievalData
    corpus : str or path-like, optional
        Also write the corpus to this ``.jsonl`` file.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a path has another ending, both are one, or a text is none.
    OSError
        If a file cannot be written; then none is replaced.

    Notes
    -----
    Lost are scores and grades: the format has no place for them. Titles go into the corpus apart from the texts, as
    Tevatron encodes a corpus; its training by id takes the texts alone, which :func:`write_tevatron_passages` does not
    change: there the trainer puts titles before them.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from negfast.formats import RetrievalData, write_tevatron
    >>> data = RetrievalData.of(["fox"], ["a red fox", "red wine"], [0], negatives=[[1]], corpus_ids=["a", "b"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "train.jsonl"
    ...     write_tevatron(path, data)
    ...     print(path.read_text().strip())
    {"query_id": "0", "query_text": "fox", "positive_document_ids": ["a"], "negative_document_ids": ["b"]}
    """
    check_data(data)
    target = checked_path("path", path, ".jsonl")
    other = None if corpus is None else checked_path("corpus", corpus, ".jsonl")
    if other is not None and target.resolve() == other.resolve():
        raise InvalidValueError(f"corpus must be a file of its own, got {other}, which is path; name another")
    with ExitStack() as stack:  # the files get their names when both are written
        write = stack.enter_context(writing(target))
        if other is not None:
            _write_corpus(stack.enter_context(writing(other)), data)
        for queries in blocks(data):
            sides = both(data, queries)
            for place, query in enumerate(queries):
                known, others = (_ids(data, side.rows(place)) for side in sides)
                write(
                    f'{{"query_id": {encoded(data.query_ids[query])}, "query_text": {encoded(data.query(query))}, '
                    f'"positive_document_ids": [{known}], "negative_document_ids": [{others}]}}\n'
                )


def _write_corpus(write: Callable[[str], object], data: RetrievalData) -> None:
    for row in range(len(data.corpus)):
        write(f"{{{_document(data, row)}}}\n")


def _ids(data: RetrievalData, rows: Iterable[int]) -> str:
    return ", ".join([encoded(data.corpus_ids[row]) for row in rows])


def _document(data: RetrievalData, row: int) -> str:
    title = "" if data.titles is None else f'"title": {encoded(data.title(row))}, '
    return f'"docid": {encoded(data.corpus_ids[row])}, {title}"text": {encoded(data.text(row))}'


def read_tevatron_passages(path: str | PathLike[str]) -> RetrievalData:
    """Read a training file of Tevatron's first version, which later ones read too.

    Parameters
    ----------
    path : str or path-like
        A ``.jsonl`` file of ``query_id``, ``query``, ``positive_passages`` and ``negative_passages``, each passage with
        ``docid``, ``text`` and, where there are any, ``title`` and ``score``. ``.gz`` may follow.

    Returns
    -------
    RetrievalData
        The corpus is what passages there are, each id once.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a line is something else, or an id has two texts; the message names line and field.
    OSError
        If the file cannot be read.
    """
    builder = Builder()
    for record in records(checked_path("path", path, ".jsonl")):
        add_query(builder, record, record.identity("query_id"), record.text("query", "query_text"), "query_id")
        for entries, name in ((builder.positives, "positive_passages"), (builder.negatives, "negative_passages")):
            passages = record.objects(name)
            entries.add([_place(builder.corpus, passage) for passage in passages], [p.score() for p in passages])
    return builder.data()


def _place(corpus: Rows, passage: Record) -> int:
    """Return the row of a passage, which every query that has it writes out anew."""
    text, title = passage.text("text"), passage.title()
    row = corpus.add(passage.identity("docid"), text, title)
    if corpus.texts[row] != text or corpus.titles[row] != title:
        passage.refuse_value("docid", "one passage", corpus.ids[row], "give passages that differ ids of their own")
    return row


def write_tevatron_passages(path: str | PathLike[str], data: RetrievalData) -> None:
    """Write a training file of Tevatron's first version: queries with passages in them.

    Parameters
    ----------
    path : str or path-like
        A ``.jsonl`` file, replaced if it exists. ``.gz`` may follow.
    data : RetrievalData

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If the path has another ending or a text is none.
    OSError
        If the file cannot be written; what was there before stays.

    Notes
    -----
    Scores are those of the distillation data set of Tevatron; what is not known is left out. Lost are grades, and rows
    that no query has.
    """
    check_data(data)
    document = Kept(lambda row: _document(data, row))
    with writing(checked_path("path", path, ".jsonl")) as write:
        for queries in blocks(data):
            sides = both(data, queries)
            for place, query in enumerate(queries):
                known, others = (_passages(document, side.rows(place), side.scores(place)) for side in sides)
                write(
                    f'{{"query_id": {encoded(data.query_ids[query])}, "query": {encoded(data.query(query))}, '
                    f'"positive_passages": [{known}], "negative_passages": [{others}]}}\n'
                )


def _passages(document: Kept, rows: Iterable[int], scores: Iterable[str]) -> str:
    entries = zip(rows, scores, strict=True)
    return ", ".join([f"{{{document(row)}{scored(score)}}}" for row, score in entries])
