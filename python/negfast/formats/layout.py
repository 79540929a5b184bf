"""What several formats have in common: their paths, their corpora, and queries written block by block."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from os import PathLike
from pathlib import Path

import numpy as np

from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.files.writers import RowWriter
from negfast.formats.builder import Builder, Rows
from negfast.formats.data import RetrievalData, Scores
from negfast.formats.id_lists import Lists
from negfast.formats.records import Record, json_scores

QUERIES_PER_BLOCK = 4096
# What readers of columns take for one: they part at white space of ASCII, and no file holds half a surrogate pair.
_COLUMN = re.compile("[^ \t\n\r\v\f\ud800-\udfff]+")


def checked_path(argument: str, path: str | PathLike[str], *suffixes: str) -> Path:
    """Return a path whose name has one of these endings, ``.gz`` after it or not."""
    found = Path(path)
    if not found.name.removesuffix(".gz").endswith(suffixes):
        known = " or ".join(suffixes)
        raise InvalidValueError(f"{argument} must be a {known} file, or that with .gz after it, got {found}; name one")
    return found


def check_data(data: object) -> None:
    """Refuse what is no data, such as a result without its texts."""
    if not isinstance(data, RetrievalData):
        raise InvalidTypeError(
            f"data must be a RetrievalData, got {type(data).__name__}; make one with RetrievalData.of(queries, corpus, "
            "positives, mined)"
        )


def check_text(argument: str, value: object) -> None:
    """Refuse what is no text, or empty."""
    if not isinstance(value, str):
        raise InvalidTypeError(f"{argument} must be a text, got {type(value).__name__} {shown(value)}; write it as one")
    if not value:
        raise InvalidValueError(f"{argument} must be a text with letters, got ''; leave it out")


def add_query(builder: Builder, record: Record, identity: str, text: str, name: str) -> None:
    """Add a query, and refuse an id that is there already."""
    if identity in builder.queries:
        record.refuse_value(name, "an id of its own", identity, "give each query one line")
    builder.queries.add(identity, text)


def add_row(corpus: Rows, record: Record, identity: str, text: str, title: str, name: str) -> None:
    """Add a row of a corpus, and refuse an id that is there already."""
    if identity in corpus:
        record.refuse_value(name, "an id of its own", identity, "give each row of the corpus one line")
    corpus.add(identity, text, title)


def row_of(corpus: Rows, record: Record, identity: str, name: str) -> int:
    """Return the row of an id, and refuse one that the corpus does not have."""
    row = corpus.place(identity)
    if row is None:
        record.refuse_value(name, "an id of the corpus", identity, "check which corpus belongs to the file")
    return row


def rows_of(corpus: Rows, record: Record, name: str) -> list[int]:
    """Return the rows of the ids of a field."""
    return [row_of(corpus, record, identity, name) for identity in record.identities(name)]


def blocks(data: RetrievalData) -> Iterator[range]:
    """Yield queries, some at a time: what is made of them in between is small."""
    for start in range(0, len(data), QUERIES_PER_BLOCK):
        yield range(start, min(start + QUERIES_PER_BLOCK, len(data)))


def write_texts(stack: ExitStack, path: Path, names: tuple[str, str], ids: Sequence[str], texts: Iterable[str]) -> None:
    """Write a table of ids and texts to a parquet file that gets its name when the stack is closed."""
    writer = stack.enter_context(RowWriter(path, dict.fromkeys(names, "string")))
    rest = iter(texts)
    for start in range(0, len(ids), QUERIES_PER_BLOCK):
        some = ids[start : start + QUERIES_PER_BLOCK]
        writer.write({names[0]: some, names[1]: list(islice(rest, len(some)))})


class Block:
    """Lists of a block of queries as Python values.

    Parameters
    ----------
    queries : range
    lists : pair of int64 arrays
    scores : ndarray of float32
    """

    def __init__(self, queries: range, lists: Lists, scores: Scores) -> None:
        indptr, indices = lists
        bounds = indptr[queries.start : queries.stop + 1]
        inside = slice(int(bounds[0]), int(bounds[-1]))
        self._bounds: list[int] = (bounds - bounds[0]).tolist()
        self._rows: list[int] = indices[inside].tolist()
        self._scores = json_scores(scores[inside])

    def rows(self, place: int) -> list[int]:
        """Return the rows of the query at this place of the block."""
        return self._rows[self._bounds[place] : self._bounds[place + 1]]

    def scores(self, place: int) -> list[str]:
        """Return the scores of the query at this place of the block, as JSON."""
        return self._scores[self._bounds[place] : self._bounds[place + 1]]


def both(data: RetrievalData, queries: range) -> tuple[Block, Block]:
    """Return positives and negatives of a block of queries."""
    return (
        Block(queries, data.positives, data.positive_scores),
        Block(queries, data.negatives, data.negative_scores),
    )


class Kept:
    """Makes a text of a row, and keeps what it made: the best negatives of one query are those of others too.

    Parameters
    ----------
    make : callable
        Returns the text of a row.
    most : int, default 2 ** 26
        Letters that are kept; beyond, all is forgotten and made anew.
    """

    def __init__(self, make: Callable[[int], str], most: int = 1 << 26) -> None:
        self._make, self._most = make, most
        self._texts: dict[int, str] = {}
        self._letters = 0

    def __call__(self, row: int) -> str:
        """Return the text of a row."""
        text = self._texts.get(row)
        if text is None:
            text = self._make(row)
            self._letters += len(text)
            if self._letters > self._most:
                self._texts.clear()
                self._letters = len(text)
            self._texts[row] = text
        return text


def any_known(scores: Scores) -> bool:
    """Tell whether any score is known."""
    return not bool(np.isnan(scores).all())


def refuse_white_space(argument: str, ids: list[str], rows: Ints | None = None) -> None:
    """Refuse ids that a file of columns could not hold; of all, or of those in some rows."""
    for row in range(len(ids)) if rows is None else rows.tolist():
        if not _COLUMN.fullmatch(ids[row]):
            raise InvalidValueError(
                f"{argument} must be texts without white space for a file of columns, got {shown(ids[row])} in row "
                f"{row}; replace it, for example by '_'"
            )
