"""What readers gather while they go through a file: every text once, and rows as numbers."""

from array import array
from collections.abc import Iterable

import numpy as np

from negfast.arrays import Ints
from negfast.formats.data import RetrievalData, Scores
from negfast.formats.id_lists import Lists


class Rows:
    """Rows of a corpus in the order in which they are first seen, each once."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.titles: list[str] = []
        self._places: dict[str, int] = {}

    def __contains__(self, identity: str) -> bool:
        """Tell whether there is a row of that id."""
        return identity in self._places

    def place(self, identity: str) -> int | None:
        """Return the row of that id."""
        return self._places.get(identity)

    def text_of(self, identity: str) -> str:
        """Return the text of the row of an id that is there."""
        return self.texts[self._places[identity]]

    def add(self, identity: str, text: str, title: str = "") -> int:
        """Return the row of that id, made if there was none."""
        place = self._places.setdefault(identity, len(self.ids))
        if place == len(self.ids):
            self.ids.append(identity)
            self.texts.append(text)
            self.titles.append(title)
        return place


class Entries:
    """Lists of rows with their scores, one list for each query."""

    def __init__(self) -> None:
        self._indptr = array("q", [0])
        self._rows = array("q")
        self._scores = array("f")

    def add(self, rows: Iterable[int], scores: Iterable[float]) -> None:
        """Add the list of the next query."""
        self._rows.extend(rows)
        self._scores.extend(scores)
        self._indptr.append(len(self._rows))

    @property
    def lists(self) -> Lists:
        """All lists, in CSR form."""
        return _ints(self._indptr), _ints(self._rows)

    @property
    def scores(self) -> Scores:
        """The scores of all rows."""
        return np.array(self._scores, dtype=np.float32)


class Builder:
    """Queries and rows that become a :class:`RetrievalData`.

    Parameters
    ----------
    corpus : Rows, optional
        The corpus, where it was read before.
    """

    def __init__(self, corpus: Rows | None = None) -> None:
        self.queries = Rows()
        self.corpus = Rows() if corpus is None else corpus
        self.positives, self.negatives = Entries(), Entries()

    def data(self, grades: Ints | None = None) -> RetrievalData:
        """Return what was gathered; grades of positives are 1 where none are given."""
        positives, negatives = self.positives.lists, self.negatives.lists
        return RetrievalData(
            queries=self.queries.texts,
            corpus=self.corpus.texts,
            query_ids=self.queries.ids,
            corpus_ids=self.corpus.ids,
            titles=self.corpus.titles if any(self.corpus.titles) else None,
            positives=positives,
            negatives=negatives,
            positive_grades=np.ones(positives[1].size, dtype=np.int64) if grades is None else grades,
            positive_scores=self.positives.scores,
            negative_scores=self.negatives.scores,
        )


def _ints(values: "array[int]") -> Ints:
    return np.array(values, dtype=np.int64)
