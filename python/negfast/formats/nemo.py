"""The training files of NeMo Retriever and NeMo AutoModel: questions by id, beside a folder with the corpus."""

from collections.abc import Iterator
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Literal

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.files.writers import writing
from negfast.formats.builder import Builder, Rows
from negfast.formats.data import RetrievalData
from negfast.formats.json_items import json_items
from negfast.formats.layout import (
    add_query,
    add_row,
    blocks,
    both,
    check_data,
    check_text,
    checked_path,
    row_of,
    write_texts,
)
from negfast.formats.records import Record, encoded, parquet_records, records, scored
from negfast.settings import one_of

_METADATA = "merlin_metadata.json"
_CLASS = "TextQADataset"
_PARTS = ("*.parquet", "*.jsonl", "*.jsonl.gz")


def read_nemo(path: str | PathLike[str], *, corpus: str | PathLike[str] | None = None) -> RetrievalData:
    """Read a training file by id, and its corpus.

    Parameters
    ----------
    path : str or path-like
        A ``.json`` file of ``corpus`` and ``data``; items of the latter have ``question_id``, ``question``,
        ``corpus_id``, ``pos_doc`` and ``neg_doc``, whose entries are ids, or objects of ``id`` and, where there is one,
        ``score``. ``.gz`` may follow.
    corpus : str or path-like, optional
        The folder of the corpus, where it is not the one that the file names: ``merlin_metadata.json``, and parquet
        files or JSON lines of ``id`` and ``text``.

    Returns
    -------
    RetrievalData
        Instructions of the corpus, and fields of items other than those above, are left behind.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an item is something else, a question id is there twice, the corpus lacks an id, or there are several
        corpora; the message names line and field.
    MissingExtraError
        If the corpus is parquet and pyarrow is not installed.
    OSError
        If a file cannot be read.

    Notes
    -----
    The format is that of ``load_datasets`` in ``nemo_automodel/components/datasets/llm/retrieval_dataset.py``. Items
    are read one at a time.
    """
    source = checked_path("path", path, ".json")
    folder = corpus_folder(source) if corpus is None else Path(corpus)
    corpus_id = _corpus_id(folder)
    builder = Builder(_read_corpus(folder))
    for line, field, place, value in json_items(source, "data"):
        if field == "data":
            _add(builder, _item(source, line, place, value), corpus_id)
    return builder.data()


def _add(builder: Builder, record: Record, corpus_id: str) -> None:
    add_query(builder, record, record.identity("question_id"), record.text("question"), "question_id")
    found = record.text("corpus_id")
    if found != corpus_id:
        record.refuse_value("corpus_id", f"{corpus_id!r}, the one of the corpus", found, f"correct {_METADATA}")
    for entries, name in ((builder.positives, "pos_doc"), (builder.negatives, "neg_doc")):
        documents = _documents(record, name)
        rows = [row_of(builder.corpus, document, document.identity("id"), "id") for document in documents]
        entries.add(rows, [document.score() for document in documents])


def _documents(record: Record, name: str) -> list[Record]:
    """Return the objects of a field; an id alone is one."""
    values = record.entry.get(name)
    if isinstance(values, list):
        record.entry[name] = [value if isinstance(value, dict) else {"id": value} for value in values]
    return record.objects(name)


def _item(path: Path, line: int, place: int | None, value: object) -> Record:
    where = f"{path}, line {line}, data[{place}]"
    if not isinstance(value, dict):
        raise InvalidTypeError(f"{where}, must be an object, got {type(value).__name__} {shown(value)}; mend it")
    return Record(where, value)


def corpus_folder(path: Path) -> Path:
    """Return the folder of the corpus that a training file names.

    Raises
    ------
    InvalidValueError
        If it names none or several, or is damaged.
    OSError
        If it cannot be read.
    """
    found = next(((line, value) for line, field, _, value in json_items(path, "data") if field == "corpus"), None)
    if found is None:
        raise InvalidValueError(f'{path} must have a field "corpus", got none; pass corpus=FOLDER')
    line, value = found
    corpora = value if isinstance(value, list) else [value]
    if len(corpora) != 1 or not isinstance(corpora[0], dict) or not isinstance(corpora[0].get("path"), str):
        raise InvalidValueError(
            f'{path}, line {line}, field "corpus", must be one object with a path, got {shown(value)}; write a file '
            "for each corpus"
        )
    return path.parent / str(corpora[0]["path"])


def _corpus_id(folder: Path) -> str:
    fields = {field: (line, value) for line, field, _, value in json_items(folder / _METADATA, "")}
    for name, expected in (("class", _CLASS), ("corpus_id", None)):
        line, value = fields.get(name, (1, None))
        if not isinstance(value, str) or expected not in (None, value):
            raise InvalidValueError(
                f'{folder / _METADATA}, line {line}, field "{name}", must be {expected or "a text"}, got '
                f"{shown(value)}; name the folder of a corpus of texts"
            )
    return str(fields["corpus_id"][1])


def _read_corpus(folder: Path) -> Rows:
    parts = next((found for pattern in _PARTS if (found := sorted(folder.glob(pattern)))), None)
    if parts is None:
        raise InvalidValueError(f"{folder} must hold {' or '.join(_PARTS)}, got none; name the folder of the corpus")
    corpus = Rows()
    for part in parts:
        rows = parquet_records(part, ("id", "text")) if part.suffix == ".parquet" else records(part)
        for record in rows:
            add_row(corpus, record, record.identity("id"), record.text("text"), "", "id")
    return corpus


def nemo_corpus_files(folder: Path, kind: str = "jsonl") -> list[Path]:
    """Return the files of the folder of a corpus: its rows, and what it says of itself."""
    return [folder / f"train.{kind}", folder / _METADATA]


def write_nemo(
    path: str | PathLike[str],
    data: RetrievalData,
    *,
    corpus: str | PathLike[str] = "corpus",
    corpus_id: str | None = None,
    kind: Literal["jsonl", "parquet"] = "jsonl",
) -> None:
    """Write a training file by id, and the folder of its corpus.

    Parameters
    ----------
    path : str or path-like
        A ``.json`` file, replaced if it exists.
    data : RetrievalData
    corpus : str or path-like, default "corpus"
        The folder, as it is reached from that of `path`; made if it is not there. Its ``train.jsonl`` or
        ``train.parquet`` and its ``merlin_metadata.json`` are replaced.
    corpus_id : str, optional
        By default the name of the folder.
    kind : {"jsonl", "parquet"}, default "jsonl"
        What the corpus is written as; parquet needs pyarrow. ``datasets.load_dataset`` reads both.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If the path has another ending, a text is none, or the folder holds a corpus of the other kind.
    MissingExtraError
        If `kind` is parquet and pyarrow is not installed.
    OSError
        If a file cannot be written; then none is replaced.

    Notes
    -----
    Scores that are known are written beside the ids. Lost are grades, and titles as such: they are put before the
    text.
    """
    target = checked_path("path", path, ".json")
    check_data(data)
    beside = Path(corpus).as_posix()
    folder = target.parent / beside
    rows, about = nemo_corpus_files(folder, one_of("kind", kind, ("jsonl", "parquet")))
    others = [found for pattern in _PARTS for found in folder.glob(pattern) if found != rows]
    if others:
        raise InvalidValueError(f"corpus must be a folder without other tables, got {others[0]} in it; name another")
    name = folder.resolve().name if corpus_id is None else corpus_id
    check_text("corpus_id", name)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # the files get their names when all are written
        write, metadata = (stack.enter_context(writing(file)) for file in (target, about))
        metadata(encoded({"class": _CLASS, "corpus_id": name}) + "\n")
        _write_corpus(stack, rows, data)
        write(f'{{"corpus": [{{"path": {encoded(beside)}}}],\n"data": [')
        for place, item in enumerate(_items(data, name)):
            write(f"{',' if place else ''}\n{item}")
        write("\n]}\n")


def _items(data: RetrievalData, corpus_id: str) -> Iterator[str]:
    """Yield the item of each query as JSON."""
    for queries in blocks(data):
        sides = both(data, queries)
        for place, query in enumerate(queries):
            known, others = (_entries(data, side.rows(place), side.scores(place)) for side in sides)
            yield (
                f'{{"question_id": {encoded(data.query_ids[query])}, "question": {encoded(data.query(query))}, '
                f'"corpus_id": {encoded(corpus_id)}, "pos_doc": [{known}], "neg_doc": [{others}]}}'
            )


def _write_corpus(stack: ExitStack, path: Path, data: RetrievalData) -> None:
    rows = range(len(data.corpus))
    if path.suffix == ".parquet":
        write_texts(stack, path, ("id", "text"), data.corpus_ids, map(data.passage, rows))
        return
    write = stack.enter_context(writing(path))
    for row in rows:
        write(f'{{"id": {encoded(data.corpus_ids[row])}, "text": {encoded(data.passage(row))}}}\n')


def _entries(data: RetrievalData, rows: list[int], scores: list[str]) -> str:
    entries = zip(rows, scores, strict=True)
    return ", ".join([f'{{"id": {encoded(data.corpus_ids[row])}{scored(score)}}}' for row, score in entries])
