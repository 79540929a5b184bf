"""The folders of BEIR: a corpus, queries, and judgements of each split."""

import csv
import io
import re
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
from negfast.formats.layout import add_row, check_data, refuse_white_space
from negfast.formats.records import encoded, records
from negfast.formats.trec import ListReader, whole_number
from negfast.settings import whole

_NUMBER = re.compile(rb"\t[-+]?[0-9.]+$")
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
    corpus_file, queries_file, judgements = beir_files(Path(folder), _checked_split(split))
    whole("min_grade", min_grade, low=-(2**63))
    corpus, queries = _read_rows(corpus_file), _read_rows(queries_file)
    found = _read_qrels(judgements, queries, corpus)
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


def _checked_split(split: object) -> str:
    if not isinstance(split, str) or not split or Path(split).name != split:
        raise InvalidValueError(
            f"split must be the name of a file in qrels, got {shown(split)}; leave out .tsv and folders"
        )
    return split


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
    if len(header.split(b"\t")) != 3 or _NUMBER.search(header):  # a judgement, which other readers pass over
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
        reader.add(line, fields[0], fields[1], whole_number(where, "score", fields[2]))
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


def beir_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a folder: corpus, queries, and the judgements of a split."""
    return [folder / _CORPUS, folder / _QUERIES, folder / "qrels" / f"{split}.tsv"]


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
    check_data(data)
    root = Path(folder)
    paths = beir_files(root, _checked_split(split))
    refuse_white_space("query_ids", data.query_ids)
    refuse_white_space("corpus_ids", data.corpus_ids)
    (root / "qrels").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # the files get their names when all are written
        corpus, queries, qrels = (stack.enter_context(writing(path)) for path in paths)
        for row, identity in enumerate(data.corpus_ids):
            title, text = encoded(data.title(row)), encoded(data.text(row))
            corpus(f'{{"_id": {encoded(identity)}, "title": {title}, "text": {text}}}\n')
        for row, identity in enumerate(data.query_ids):
            queries(f'{{"_id": {encoded(identity)}, "text": {encoded(data.query(row))}}}\n')
        qrels("query-id\tcorpus-id\tscore\n")
        for query, rows in data.qrels().to_dict().items():
            qrels("".join([f"{_quoted(query)}\t{_quoted(row)}\t{grade}\n" for row, grade in rows.items()]))


def _quoted(identity: str) -> str:
    """Return an id as readers of quoted columns take it."""
    return '"' + identity.replace('"', '""') + '"' if '"' in identity else identity
