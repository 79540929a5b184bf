"""The texts of a job, each once, and what is known about them.

A text that occurs several times is one row here: an anchor with all of its positives, a corpus row with all of its
groups. Texts that differ in white space or Unicode form alone are one, as in `content_keys`.
"""

from dataclasses import dataclass, replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.cli.mine.job import Job
from negfast.errors import InvalidValueError
from negfast.files.tables import group_numbers, ids, read_columns, text_lists, texts
from negfast.formats import read_beir
from negfast.keys import content_keys, first_occurrences

Lists: TypeAlias = tuple[Ints, Ints]
Ids: TypeAlias = list[str] | list[int]
SOURCES = ("corpus", "pairs")
"""Where a corpus row comes from: the corpus file, or the positives of the pairs."""


@dataclass(frozen=True)
class Texts:
    """Distinct texts.

    Attributes
    ----------
    texts : list of str
    ids : list of str or of int
    rows : ndarray of int64
        Where each text occurs first, among all texts that were read.
    n_read : int
        How many those were.
    keys : ndarray of int64
        The content key of each.
    groups : pair of int64 arrays, or None
        The groups of each, in CSR form.
    """

    texts: list[str]
    ids: Ids
    rows: Ints
    n_read: int
    keys: Ints
    groups: Lists | None

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)


@dataclass(frozen=True)
class Pairs:
    """Everything that a job knows beside embeddings.

    Attributes
    ----------
    anchors, corpus : Texts
    sources : ndarray of uint8, one for each corpus row
        Indices into :data:`SOURCES`.
    n_corpus_file : int
        Rows of the corpus file.
    positives : pair of int64 arrays
        The positives of each anchor, in CSR form.
    pairs : ndarray of int64, shape (n, 2)
        Distinct pairs of anchor and corpus row, in the order of the input.
    exclude : pair of int64 arrays, or None
    forbidden : ndarray of bool, or None
    """

    anchors: Texts
    corpus: Texts
    sources: NDArray[np.uint8]
    n_corpus_file: int
    positives: Lists
    pairs: Ints
    exclude: Lists | None
    forbidden: NDArray[np.bool_] | None

    def arguments(self) -> dict[str, Any]:
        """Return what is known as keyword arguments of :func:`negfast.mine`."""
        groups = None
        if self.anchors.groups is not None and self.corpus.groups is not None:
            groups = (self.anchors.groups, self.corpus.groups)
        return {
            "positives": self.positives,
            "keys": (self.anchors.keys, self.corpus.keys),
            "groups": groups,
            "exclude": self.exclude,
            "forbidden": self.forbidden,
        }


def read_pairs(job: Job) -> Pairs:
    """Read the tables of a job.

    Raises
    ------
    NegfastError, OSError
        If a file cannot be read, or holds something else.
    """
    if job.corpus is not None and (job.group is None) != (job.corpus_group is None):
        raise InvalidValueError(
            "--group and --corpus-group must be given together, got one of them; rows share a group only if both "
            "tables have the column"
        )
    if job.is_folder:
        return _read_pairs(*_from_folder(job))
    return _read_pairs(
        job, _columns(job.input, job.anchor, job.positive, job.group, job.id, job.exclude), _corpus_file(job)
    )


def _from_folder(job: Job) -> tuple[Job, dict[str, list[Any]], "_CorpusFile"]:
    """Return the job, the table and the corpus that a folder of BEIR amounts to."""
    data = read_beir(job.input, split=job.split or "train").usable(0)
    indptr, indices = data.positives
    table: dict[str, list[Any]] = {
        "id": data.query_ids,
        job.anchor: list(data.queries),
        job.positive: [
            [data.passage(row) for row in indices[begin:end].tolist()] for begin, end in pairwise(indptr.tolist())
        ],
    }
    corpus = [data.passage(row) for row in range(len(data.corpus))]
    return replace(job, id="id"), table, _CorpusFile(corpus, data.corpus_ids, None)


def _read_pairs(job: Job, table: dict[str, list[Any]], further: "_CorpusFile") -> Pairs:
    anchor_texts = texts(_label(job.anchor, job.input), table[job.anchor])
    n_rows = len(anchor_texts)
    row_ids: Ids = list(range(n_rows)) if job.id is None else ids(_label(job.id, job.input), table[job.id])
    positive_lists = text_lists(_label(job.positive, job.input), table[job.positive])
    counts = np.fromiter(map(len, positive_lists), dtype=np.int64, count=n_rows)
    row_of_positive = np.repeat(np.arange(n_rows), counts)

    row_groups, corpus_groups = None, further.groups
    if job.group is not None:
        row_groups, corpus_groups = group_numbers(
            (_label(job.group, job.input), table[job.group]),
            (_label(str(job.corpus_group), str(job.corpus)), further.groups or []),
        )
    anchors = _distinct(anchor_texts, row_ids, row_groups)
    positive_groups = None if row_groups is None else [row_groups[row] for row in row_of_positive]
    listed = any(isinstance(value, list) for value in table[job.positive])
    corpus = _distinct(
        further.texts + list(chain.from_iterable(positive_lists)),
        _joined_ids(further.ids, _positive_ids(row_ids, counts, listed=listed)),
        None if positive_groups is None else (corpus_groups or []) + positive_groups,
    )
    anchor_of_row = _places(content_keys(anchor_texts), anchors.keys)
    flat = _places(content_keys(list(chain.from_iterable(positive_lists))), corpus.keys)
    found = np.stack([anchor_of_row[row_of_positive], flat], axis=1)
    return Pairs(
        anchors=anchors,
        corpus=corpus,
        sources=(corpus.rows >= len(further.texts)).astype(np.uint8),
        n_corpus_file=len(further.texts),
        positives=_lists(found, len(anchors)),
        pairs=_first_of_each(found),
        exclude=_excluded(job, table, anchor_of_row, anchors, corpus),
        forbidden=_forbidden(job, corpus),
    )


@dataclass(frozen=True)
class _CorpusFile:
    texts: list[str]
    ids: Ids
    groups: list[Any] | None


def _corpus_file(job: Job) -> _CorpusFile:
    if job.corpus is None:
        return _CorpusFile([], [], None)
    table = _columns(job.corpus, job.corpus_text, job.corpus_group, job.corpus_id)
    found = texts(_label(job.corpus_text, job.corpus), table[job.corpus_text])
    row_ids: Ids = list(range(len(found)))
    if job.corpus_id is not None:
        row_ids = ids(_label(job.corpus_id, job.corpus), table[job.corpus_id])
    return _CorpusFile(found, row_ids, None if job.corpus_group is None else table[job.corpus_group])


def _columns(path: str, *names: str | None) -> dict[str, list[Any]]:
    return read_columns(Path(path), list(dict.fromkeys(name for name in names if name is not None)))


def _label(column: str, path: str) -> str:
    return f'column "{column}" of {path}'


def _positive_ids(row_ids: Ids, counts: Ints, *, listed: bool) -> Ids:
    """Return the id of each positive: that of its row, with its place where rows have lists of them."""
    if not listed:
        return [row_ids[row] for row in np.flatnonzero(counts).tolist()]  # type: ignore[return-value]
    return [f"{row_ids[row]}:{place}" for row, count in enumerate(counts.tolist()) for place in range(count)]


def _joined_ids(first: Ids, second: Ids) -> Ids:
    """Join ids of two files: of one type, since a column of a result has one."""
    kinds = {type(value) for value in (*first[:1], *second[:1])}
    if len(kinds) > 1:
        return [str(value) for value in chain(first, second)]
    return [*first, *second]


def _distinct(found: list[str], row_ids: Ids, groups: list[list[int]] | None) -> Texts:
    keys = content_keys(found)
    rows, places = first_occurrences(keys)
    merged = None
    if groups is not None:
        sizes = np.fromiter(map(len, groups), dtype=np.int64, count=len(groups))
        numbers = np.fromiter(chain.from_iterable(groups), dtype=np.int64, count=int(sizes.sum()))
        owners = np.repeat(places, sizes)
        merged = _lists(np.stack([owners, numbers], axis=1), len(rows))
    return Texts(
        texts=[found[row] for row in rows.tolist()],
        ids=[row_ids[row] for row in rows.tolist()],
        rows=rows,
        n_read=len(found),
        keys=keys[rows],
        groups=merged,
    )


def _places(keys: Ints, known: Ints) -> Ints:
    """Return where in `known` each key is, -1 if nowhere."""
    if known.size == 0:
        return np.full(keys.shape, -1, dtype=np.int64)
    order = np.argsort(known)
    found = order[np.minimum(np.searchsorted(known, keys, sorter=order), known.size - 1)]
    return np.where(known[found] == keys, found, -1)


def _lists(pairs: Ints, n: int) -> Lists:
    """Return distinct pairs (owner, member) as one sorted list of members for each of the `n` owners."""
    pairs = np.unique(pairs, axis=0)
    indptr = np.searchsorted(pairs[:, 0], np.arange(n + 1)).astype(np.int64)
    return indptr, np.ascontiguousarray(pairs[:, 1])


def _first_of_each(pairs: Ints) -> Ints:
    return pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]


def _excluded(
    job: Job, table: dict[str, list[Any]], anchor_of_row: Ints, anchors: Texts, corpus: Texts
) -> Lists | None:
    if job.exclude is None:
        return None
    lists = text_lists(_label(job.exclude, job.input), table[job.exclude])
    owners = chain.from_iterable(repeat(anchor, len(entry)) for anchor, entry in zip(anchor_of_row, lists, strict=True))
    rows = _places(content_keys(list(chain.from_iterable(lists))), corpus.keys)
    pairs = np.stack([np.fromiter(owners, dtype=np.int64, count=rows.size), rows], axis=1)
    return _lists(pairs[rows >= 0], len(anchors))


def _forbidden(job: Job, corpus: Texts) -> NDArray[np.bool_] | None:
    if job.forbidden is None:
        return None
    table = _columns(job.forbidden, job.forbidden_text)
    held_out = texts(_label(job.forbidden_text, job.forbidden), table[job.forbidden_text])
    return np.isin(corpus.keys, content_keys(held_out))
