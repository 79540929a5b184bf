"""Queries, a corpus, and which of its rows are positives and negatives of each query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints, integers
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, shown
from negfast.formats.id_lists import IdLists, Lists, checked_ids, refuse_other_length
from negfast.inputs import RowLists, list_scores, row_lists
from negfast.results import MinedNegatives
from negfast.settings import whole

Scores = NDArray[np.float32]
_MOST_GRADE = 1 << 24
"""Beyond, float32 holds some whole numbers only."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RetrievalData:
    """What training formats hold a part of; made by :meth:`of` or read from a file.

    Attributes
    ----------
    queries, corpus : sequence of str
        Texts, one for each row.
    query_ids, corpus_ids : list of str
        Their ids, each once.
    titles : sequence of str, or None
        Titles of the rows of the corpus, empty where there is none.
    positives, negatives : pair of int64 arrays
        Rows of the corpus for each query, in CSR form, as :func:`negfast.mine` takes them.
    positive_grades : ndarray of int64, shape (n_positives,)
        How relevant each positive is, 1 where nothing else is known.
    positive_scores, negative_scores : ndarray of float32, shape (n_positives,) and (n_negatives,)
        Their scores, NaN where unknown.

    Examples
    --------
    >>> import negfast, numpy as np
    >>> from negfast.formats import RetrievalData
    >>> rows = np.array([[2, 0, 1], [1, 0, 2], [1, 2, 0]], dtype=np.float32)
    >>> mined = negfast.mine(rows[:2], rows, [0, 1], num_negatives=1)
    >>> data = RetrievalData.of(["fox", "wine"], ["a red fox", "red wine", "bread"], [0, 1], mined)
    >>> data
    RetrievalData: 2 queries, 3 rows, 2 positives, 2 negatives
    >>> [data.corpus[row] for row in data.negatives[1]]
    ['red wine', 'a red fox']
    """

    queries: Sequence[str]
    corpus: Sequence[str]
    query_ids: list[str]
    corpus_ids: list[str]
    titles: Sequence[str] | None
    positives: Lists
    negatives: Lists
    positive_grades: Ints
    positive_scores: Scores
    negative_scores: Scores

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        corpus: Sequence[str],
        positives: RowLists,
        mined: MinedNegatives | None = None,
        *,
        negatives: RowLists | None = None,
        query_ids: Sequence[str] | None = None,
        corpus_ids: Sequence[str] | None = None,
        titles: Sequence[str] | None = None,
        positive_grades: Any = None,
        positive_scores: Any = None,
        negative_scores: Any = None,
    ) -> "RetrievalData":
        """Put texts, ids and mined rows together.

        Parameters
        ----------
        queries, corpus : sequence of str
            Texts of the rows that were mined with and in. Anything with ``len`` and ``[]``; nothing is copied.
        positives : as in :func:`negfast.mine`
        mined : MinedNegatives, optional
            Negatives with their scores. The score of a positive is known from it where a query has one positive.
        negatives : lists of rows in any form that positives may have, optional
            In place of `mined`.
        query_ids, corpus_ids : sequence of str, optional
            By default the numbers of the rows.
        titles : sequence of str, optional
            Titles of the rows of the corpus.
        positive_grades : integers, nested as `positives`, optional
            How relevant each positive is, by default 1.
        positive_scores, negative_scores : nested as `positives` and `negatives`, optional
            Scores, where `mined` does not give them.

        Returns
        -------
        RetrievalData

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument is of another kind, or lengths do not fit.
        RowIndexError
            If a row lies outside of the corpus, or a query outside of the queries.
        """
        for argument, texts in (("queries", queries), ("corpus", corpus), ("titles", titles)):
            if texts is not None:
                _check_texts(argument, texts)
        n_queries, n_corpus = len(queries), len(corpus)
        if titles is not None:
            refuse_other_length("titles", titles, n_corpus, "rows of the corpus")
        known = _rows("positives", positives, n_queries, n_corpus)
        none = np.zeros(n_queries + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
        listed = none if negatives is None else _rows("negatives", negatives, n_queries, n_corpus)
        data = cls(
            queries=queries,
            corpus=corpus,
            query_ids=_ids("query_ids", query_ids, n_queries, "queries"),
            corpus_ids=_ids("corpus_ids", corpus_ids, n_corpus, "rows of the corpus"),
            titles=titles,
            positives=known,
            negatives=listed,
            positive_grades=_grades(positive_grades, positives, known),
            positive_scores=_scores("positive_scores", positive_scores, positives, known),
            negative_scores=_scores("negative_scores", negative_scores, negatives, listed),
        )
        if mined is None:
            return data
        if negatives is not None or negative_scores is not None:
            raise InvalidValueError("negatives must be given alone, got mined as well; leave one of them out")
        joined = data.with_negatives(mined)
        return joined if positive_scores is None else replace(joined, positive_scores=data.positive_scores)

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.queries)

    def __repr__(self) -> str:
        """Return one line for people."""
        return (
            f"RetrievalData: {len(self):,} queries, {len(self.corpus):,} rows, {self.positives[1].size:,} positives, "
            f"{self.negatives[1].size:,} negatives"
        )

    def passage(self, row: int) -> str:
        """Return what is encoded of a row of the corpus: title and text with a space between, as beir joins them.

        Raises
        ------
        InvalidTypeError
            If it is no text.
        """
        text, title = self.text(row), self.title(row)
        return f"{title} {text}" if title else text

    def text(self, row: int) -> str:
        """Return the text of a row of the corpus, without its title.

        Raises
        ------
        InvalidTypeError
            If it is no text.
        """
        return _text("corpus", self.corpus, row)

    def title(self, row: int) -> str:
        """Return the title of a row of the corpus, empty where there is none.

        Raises
        ------
        InvalidTypeError
            If it is no text.
        """
        return "" if self.titles is None else _text("titles", self.titles, row)

    def query(self, row: int) -> str:
        """Return the text of a query.

        Raises
        ------
        InvalidTypeError
            If it is no text.
        """
        return _text("queries", self.queries, row)

    @property
    def pair_rows(self) -> Ints:
        """The query of each pair in `pairs`: ``rows`` of :class:`negfast.torch.NegativesDataset`."""
        return np.repeat(np.arange(len(self)), np.diff(self.positives[0]))

    def pairs(self) -> list[tuple[str, str]]:
        """Return each query with each of its positives."""
        rows = zip(self.pair_rows.tolist(), self.positives[1].tolist(), strict=True)
        return [(self.query(query), self.passage(row)) for query, row in rows]

    def query_rows(self, ids: Sequence[str]) -> Ints:
        """Return the rows of queries, given by id.

        Raises
        ------
        RowIndexError
            If there is no query of one of the ids.
        """
        return _places("query_ids", self._query_places, ids)

    def corpus_rows(self, ids: Sequence[str]) -> Ints:
        """Return rows of the corpus, given by id.

        Raises
        ------
        RowIndexError
            If there is no row of one of the ids.
        """
        return _places("corpus_ids", self._corpus_places, ids)

    def qrels(self) -> IdLists:
        """Return the positives by id, each once, with their grades."""
        return self._listed(self.pair_rows, self.positives[1], self.positive_grades)

    def run(self) -> IdLists:
        """Return positives and negatives whose scores are known as one ranking by id, best first.

        Equal scores stay in their order, positives before negatives. A row that is there twice counts where it is
        better.
        """
        owners = np.concatenate([self.pair_rows, np.repeat(np.arange(len(self)), np.diff(self.negatives[0]))])
        rows = np.concatenate([self.positives[1], self.negatives[1]])
        scores = np.concatenate([self.positive_scores, self.negative_scores])
        known = np.flatnonzero(~np.isnan(scores))
        order = known[np.lexsort((-scores[known], owners[known]))]
        return self._listed(owners[order], rows[order], scores[order])

    def _listed(self, owners: Ints, rows: Ints, values: NDArray[Any]) -> IdLists:
        """Return what is listed for each query, in order, by id; of a row that is there twice, the first."""
        first = np.sort(np.unique(self._codes(owners, rows), return_index=True)[1])
        indptr = np.searchsorted(owners[first], np.arange(len(self) + 1)).astype(np.int64)
        return IdLists(self.query_ids, self.corpus_ids, (indptr, rows[first]), values[first])

    def with_negatives(self, found: MinedNegatives | IdLists) -> "RetrievalData":
        """Return the same data with other negatives.

        Parameters
        ----------
        found : MinedNegatives or IdLists
            What was mined for these queries and this corpus; or a ranking by id, whose rows that are not positives
            become negatives, and whose queries that are not in this data are left behind. Scores of positives are
            taken from it too, and are unknown where it does not tell them:
            scores of two searches do not compare.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `found` is something else, such as judgements, or was mined in another corpus.
        RowIndexError
            If it names rows that are not in this data, or no query that is.
        """
        if isinstance(found, IdLists):
            return self._with_ranking(found)
        if not isinstance(found, MinedNegatives):
            raise InvalidTypeError(
                f"found must be a MinedNegatives or an IdLists, got {type(found).__name__}; pass what negfast.mine "
                "returned"
            )
        if found.report.n_corpus != len(self.corpus):
            raise InvalidValueError(
                f"corpus must have the {found.report.n_corpus} rows that were mined, got {len(self.corpus)}; pass the "
                "texts of the same rows in the same order"
            )
        if len(found) and found.anchors.max() >= len(self):
            raise RowIndexError(
                f"queries must have the rows that were mined with, got {len(self)} and a list for row "
                f"{found.anchors.max()}; pass the texts of the same rows in the same order"
            )
        order = np.argsort(found.anchors, kind="stable")
        real = found.indices[order] >= 0
        counts = np.zeros(len(self), dtype=np.int64)
        counts[found.anchors[order]] = real.sum(axis=1)
        lowest = np.full(len(self), np.nan, dtype=np.float32)
        lowest[found.anchors] = found.positive_scores
        n_positives = np.diff(self.positives[0])
        lowest[n_positives != 1] = np.nan  # it is not known whose score it is
        return replace(
            self,
            negatives=(_indptr(counts), found.indices[order][real]),
            negative_scores=found.scores[order][real],
            positive_scores=np.repeat(lowest, n_positives),
        )

    def _with_ranking(self, found: IdLists) -> "RetrievalData":
        if found.values.dtype.kind != "f":
            raise InvalidTypeError(
                f"found must be a ranking with scores, got {found!r}; pass what read_trec_run returned"
            )
        indptr, places = found.lists
        queries = np.array([self._query_places.get(identity, -1) for identity in found.query_ids], dtype=np.int64)
        if queries.size and queries.max() < 0:
            raise RowIndexError(
                f"found must rank queries of this data, got {shown(found.query_ids[0])} and no other that is one of "
                f"its {len(self)}; check which data the ranking belongs to"
            )
        owners = np.repeat(queries, np.diff(indptr))
        order = np.argsort(owners, kind="stable")
        order = order[owners[order] >= 0]
        listed, where = np.unique(places[order], return_inverse=True)
        rows = self.corpus_rows([found.corpus_ids[place] for place in listed.tolist()])[where]
        owners, scores = owners[order], found.values[order].astype(np.float32)
        codes, known = self._codes(owners, rows), self._codes(self.pair_rows, self.positives[1])
        wanted = ~np.isin(codes, known)
        return replace(
            self,
            negatives=(_indptr(np.bincount(owners[wanted], minlength=len(self))), rows[wanted]),
            negative_scores=scores[wanted],
            positive_scores=_looked_up(known, codes, scores),
        )

    def _codes(self, owners: Ints, rows: Ints) -> Ints:
        """Return one number for each query and row."""
        codes: Ints = owners * max(len(self.corpus), 1) + rows
        return codes

    def take(self, rows: NDArray[np.integer[Any]] | Sequence[int]) -> "RetrievalData":
        """Return some of the queries, with the whole corpus.

        Parameters
        ----------
        rows : integers, shape (n,)
            Each once, in the order wanted.

        Raises
        ------
        InvalidTypeError, InvalidValueError, RowIndexError
            If `rows` are no rows of the queries, or one is there twice.
        """
        chosen = integers("rows", rows)
        if chosen.ndim != 1 or (chosen.size and (chosen.min() < 0 or chosen.max() >= len(self))):
            raise RowIndexError(f"rows must be rows of the {len(self)} queries, got {shown(rows)}; see len(data)")
        if np.unique(chosen).size < chosen.size:  # ids would be there twice too
            raise InvalidValueError(f"rows must hold each row once, got {shown(rows)}; drop repeats")
        positives, of_positives = _taken(self.positives, chosen)
        negatives, of_negatives = _taken(self.negatives, chosen)
        return replace(
            self,
            queries=[self.queries[row] for row in chosen.tolist()],
            query_ids=[self.query_ids[row] for row in chosen.tolist()],
            positives=positives,
            negatives=negatives,
            positive_grades=self.positive_grades[of_positives],
            positive_scores=self.positive_scores[of_positives],
            negative_scores=self.negative_scores[of_negatives],
        )

    def usable(self, num_negatives: int = 1) -> "RetrievalData":
        """Return the queries that have a positive and at least `num_negatives` negatives.

        Trainers that read these formats stop at any other.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `num_negatives` is no integer, or below 0.
        """
        whole("num_negatives", num_negatives, low=0)
        enough = (np.diff(self.positives[0]) > 0) & (np.diff(self.negatives[0]) >= num_negatives)
        return self.take(np.flatnonzero(enough))

    @cached_property
    def _query_places(self) -> dict[str, int]:
        return {value: row for row, value in enumerate(self.query_ids)}

    @cached_property
    def _corpus_places(self) -> dict[str, int]:
        return {value: row for row, value in enumerate(self.corpus_ids)}


def _check_texts(argument: str, texts: Any) -> None:
    if isinstance(texts, str | bytes | Mapping | set) or hasattr(texts, "iloc") or not hasattr(texts, "__getitem__"):
        raise InvalidTypeError(
            f"{argument} must be a sequence of texts, got {type(texts).__name__}; use a list in row order"
        )


def _text(argument: str, texts: Sequence[str], row: int) -> str:
    text = texts[row]
    if not isinstance(text, str):
        raise InvalidTypeError(
            f"{argument} must hold texts, got {type(text).__name__} {shown(text)} in row {row}; convert it"
        )
    return text


def _ids(argument: str, ids: Sequence[str] | None, n: int, what: str) -> list[str]:
    if ids is None:
        return [str(row) for row in range(n)]
    found = checked_ids(argument, ids)
    refuse_other_length(argument, found, n, what)
    return found


def _rows(argument: str, value: Any, n_queries: int, n_corpus: int) -> Lists:
    lists = row_lists(argument, value, n_queries)
    if lists[0].size != n_queries + 1:
        raise InvalidValueError(
            f"{argument} must have one list for each of the {n_queries} queries, got {lists[0].size - 1}; use an "
            "empty list where a query has none"
        )
    outside = np.flatnonzero((lists[1] < 0) | (lists[1] >= n_corpus))
    if outside.size:
        raise RowIndexError(
            f"{argument} must hold rows of the corpus (0 to {n_corpus}, exclusive), got {lists[1][outside[0]]}; check "
            "which corpus the numbers belong to"
        )
    return lists


def _scores(argument: str, value: Any, nested_as: Any, lists: Lists) -> Scores:
    if value is None:
        return np.full(lists[1].size, np.nan, dtype=np.float32)
    if nested_as is None:
        raise InvalidValueError(f"{argument} must be given with the rows that they belong to, got them alone")
    return list_scores(argument, value, nested_as, lists[0].size - 1)


def _grades(value: Any, positives: Any, lists: Lists) -> Ints:
    if value is None:
        return np.ones(lists[1].size, dtype=np.int64)
    grades = list_scores("positive_grades", value, positives, lists[0].size - 1)
    odd = np.flatnonzero(grades != np.rint(grades))
    if odd.size:
        raise InvalidValueError(f"positive_grades must be whole numbers, got {grades[odd[0]]}; round them")
    if grades.size and np.abs(grades).max() >= _MOST_GRADE:
        raise InvalidValueError(
            f"positive_grades must be below {_MOST_GRADE}, got {np.abs(grades).max():.0f}; use few grades"
        )
    return grades.astype(np.int64)


def _places(argument: str, known: dict[str, int], ids: Any) -> Ints:
    if isinstance(ids, str) or not isinstance(ids, Sequence | np.ndarray):
        raise InvalidTypeError(
            f"{argument} must be a list of texts, got {type(ids).__name__} {shown(ids)}; put it into one"
        )
    places = (known.get(value, -1) if isinstance(value, str) else -1 for value in ids)
    rows = np.fromiter(places, dtype=np.int64, count=len(ids))
    if rows.size and rows.min() < 0:
        raise RowIndexError(
            f"{argument} must hold each id that is asked for, got none {shown(ids[int(rows.argmin())])} among "
            f"{len(known)}; check which data the id belongs to"
        )
    return rows


def _indptr(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _taken(lists: Lists, rows: Ints) -> tuple[Lists, Ints]:
    """Return the lists of some queries, and which entries these are."""
    indptr, indices = lists
    counts = np.diff(indptr)[rows]
    starts = _indptr(counts)
    entries = np.repeat(indptr[rows] - starts[:-1], counts) + np.arange(starts[-1])
    return (starts, indices[entries]), entries


def _looked_up(wanted: Ints, codes: Ints, scores: Scores) -> Scores:
    """Return the score that belongs to each of the wanted codes, NaN for none."""
    found = np.full(wanted.size, np.nan, dtype=np.float32)
    if codes.size:
        order = np.argsort(codes, kind="stable")
        places = order[np.minimum(np.searchsorted(codes, wanted, sorter=order), codes.size - 1)]
        found = np.where(codes[places] == wanted, scores[places], found).astype(np.float32)
    return found
