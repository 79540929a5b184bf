"""The folders of BEIR: a corpus, queries, and judgements of each split."""

import csv
import io
from array import array
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

import numpy as np

from negfast.errors import InvalidValueError, shown
from negfast.files.lines import raw_lines
from negfast.files.writers import writing
from negfast.formats.builder import Builder, Rows
from negfast.formats.data import RetrievalData
from negfast.formats.id_lists import IdLists
from negfast.formats.layout import add_row, refuse_white_space
from negfast.formats.records import encoded, records
from negfast.formats.trec import ListReader, whole

_CORPUS, _QUERIES = "corpus.jsonl", "queries.jsonl"


def read_beir(folder: str | PathLike[str], *, split: str = "train", min_grade: int = 1) -> RetrievalData:
    """Read the corpus, and the queries that are judged in a split.

    Parameters
    ----------
    folder : str or path-like
        Holds ``corpus.jsonl`` (``_id``, ``text``, ``title``), ``queries.jsonl`` (``_id``, ``text``) and
        ``qrels/SPLIT.tsv`` (a header, then ``query-id``, ``corpus-id``, ``score``); each may be compressed, with
        ``.gz`` after its name.
    split : str, default "train"
        The judgements that are read.
    min_grade : int, default 1
        Rows that are judged lower are no positives.

    Returns
    -------
    RetrievalData
        The queries of the split, in the order in which they are judged first, without negatives. A query none of
        whose rows reaches `min_grade` has no positive.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a line is something else, an id is there twice, or a judgement has an id that the folder lacks; the message
        names line and field.
    OSError
        If a file cannot be read.

    Notes
    -----
    The format is that of ``GenericDataLoader`` in ``beir/datasets/data_loader.py``; Thakur, Reimers, Rücklé,
    Srivastava and Gurevych (2021), BEIR: a heterogeneous benchmark for zero-shot evaluation of information retrieval
    models.
    """
    root = Path(folder)
    corpus, queries = _read_rows(root / _CORPUS), _read_rows(root / _QUERIES)
    found = _read_qrels(root / "qrels" / f"{split}.tsv", queries, corpus)
    indptr, indices = found.lists
    wanted = found.values >= min_grade
    kept = np.concatenate([[0], np.cumsum(wanted)])[indptr]
    builder = Builder(corpus)
    for identity in found.query_ids:
        builder.queries.add(identity, queries.text_of(identity))
        builder.negatives.add([], [])
    rows = indices[wanted].tolist()
    for begin, end in zip(kept[:-1].tolist(), kept[1:].tolist(), strict=True):
        builder.positives.add(rows[begin:end], [float("nan")] * (end - begin))
    return builder.data(found.values[wanted])


def _there(path: Path) -> Path:
    """Return the path of a file, or of that compressed where only that is there."""
    compressed = path.with_name(f"{path.name}.gz")
    return compressed if compressed.exists() and not path.exists() else path


def _read_rows(path: Path) -> Rows:
    rows = Rows()
    for record in records(_there(path)):
        add_row(rows, record, record.identity("_id"), record.text("text"), record.title(), "_id")
    return rows


def _read_qrels(path: Path, queries: Rows, corpus: Rows) -> IdLists:
    found = _there(path)
    reader = ListReader(found, array("q"), corpus)
    lines = raw_lines(found)
    _, header = next(lines, (0, b""))
    if not header or header.split(b"\t")[-1].strip().isdigit():  # a judgement, which other readers pass over
        raise InvalidValueError(
            f"{found}, line 1, must be the header query-id, corpus-id, score, got {shown(header)}; write one"
        )
    for line, raw in lines:
        where = f"{found}, line {line}"
        fields = _fields(where, raw)
        for identity, rows, name in ((fields[0], queries, "query-id"), (fields[1], corpus, "corpus-id")):
            if identity not in rows:
                raise InvalidValueError(
                    f'{where}, field "{name}", must be an id of {"queries" if rows is queries else "corpus"}.jsonl, '
                    f"got {shown(identity)}; check which corpus belongs to the file"
                )
        reader.add(line, fields[0], fields[1], whole(where, "score", fields[2]))
    return reader.lists()


def _fields(where: str, raw: bytes) -> list[str]:
    try:
        fields = next(csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), delimiter="\t", strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidValueError(f"{where}, must be columns with tabs between in UTF-8, got {error}; mend it") from error
    if len(fields) != 3:
        raise InvalidValueError(
            f"{where}, must have 3 columns with tabs between, got {len(fields)}: {shown(fields)}; mend that line"
        )
    return fields


def write_beir(folder: str | PathLike[str], data: RetrievalData, *, split: str = "train") -> None:
    """Write corpus, queries and judgements.

    Parameters
    ----------
    folder : str or path-like
        Made if it is not there. Its ``corpus.jsonl`` and ``queries.jsonl`` are replaced, and of ``qrels`` the split.
    data : RetrievalData
        Its positives are the judgements.
    split : str, default "train"

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a text is none, or an id is empty or has white space.
    OSError
        If a file cannot be written; then none of the three is replaced.

    Notes
    -----
    Lost are negatives, for which :func:`write_trec_run` has a place, and all scores.
    """
    root = Path(folder)
    refuse_white_space("query_ids", data.query_ids)
    refuse_white_space("corpus_ids", data.corpus_ids)
    (root / "qrels").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # the files get their names when all are written
        corpus, queries, qrels = (
            stack.enter_context(writing(root / name)) for name in (_CORPUS, _QUERIES, f"qrels/{split}.tsv")
        )
        for row, identity in enumerate(data.corpus_ids):
            title, text = encoded(data.title(row)), encoded(data.text(row))
            corpus(f'{{"_id": {encoded(identity)}, "title": {title}, "text": {text}}}\n')
        for row, identity in enumerate(data.query_ids):
            queries(f'{{"_id": {encoded(identity)}, "text": {encoded(data.query(row))}}}\n')
        qrels("query-id\tcorpus-id\tscore\n")
        triples = zip(data.pair_rows.tolist(), data.positives[1].tolist(), data.positive_grades.tolist(), strict=True)
        for query, row, grade in triples:
            qrels(f"{_quoted(data.query_ids[query])}\t{_quoted(data.corpus_ids[row])}\t{grade}\n")


def _quoted(identity: str) -> str:
    """Return an id as readers of quoted columns take it."""
    return '"' + identity.replace('"', '""') + '"' if '"' in identity else identity
