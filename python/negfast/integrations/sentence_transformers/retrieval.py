"""Negatives of every query: from a window of its nearest rows, or from as deep in the corpus as it takes."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.integrations.hard_negatives.screen import lowest_of, screen, skipped, take_out
from negfast.integrations.hard_negatives.settings import Settings
from negfast.integrations.hard_negatives.texts import Pairs, same_texts
from negfast.integrations.sentence_transformers.rescoring import CrossScores
from negfast.integrations.sentence_transformers.similarity import Similarity
from negfast.mining import mine, select
from negfast.results import MinedNegatives
from negfast.settings import Rules, Search

Scores = NDArray[np.float32]
_SPAN = 1 << 24
"""Candidates that are held at once: 192 MiB of row numbers and scores."""


class Mined(NamedTuple):
    """Negatives of every query, and how many candidates each filter refused."""

    indices: Ints
    scores: Scores
    refused: Counter[str]
    n_candidates: int
    """How many there were before any was refused."""

    @classmethod
    def empty(cls, n_queries: int, num_negatives: int, n_candidates: int) -> Self:
        """Return no negatives yet, as padding."""
        indices = np.full((n_queries, num_negatives), -1, dtype=np.int64)
        return cls(indices, np.full(indices.shape, -np.inf, dtype=np.float32), Counter(), n_candidates)

    @classmethod
    def of(cls, found: MinedNegatives) -> Self:
        """Return what a search of the corpus found; candidates are the rows that it counted."""
        refused = Counter(found.report.removed)
        n_candidates = refused.total() + int((found.indices >= 0).sum())
        return cls(found.indices, found.scores, refused, n_candidates)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call's work.

    Attributes
    ----------
    pairs, settings, rules, search, similarity : what to mine, among what, how
    seed : int
        Names the draws.
    at_once : int
        Queries that a model scores in one call, at most.
    verbose : bool
        Show bars, and count what filters refuse.
    """

    pairs: Pairs
    settings: Settings
    rules: Rules | None
    search: Search
    similarity: Similarity
    seed: int
    at_once: int
    verbose: bool

    @property
    def window_rules(self) -> Rules:
        """The rules for candidates that the filters of the settings have passed."""
        rules = Rules(relative_margin=None) if self.rules is None else self.rules
        settings = self.settings
        return replace(rules, range_min=settings.range_min, range_max=settings.range_max, exclude_self=False)

    @property
    def corpus_rules(self) -> Rules:
        """The rules and the filters together: of two that say how far, the tighter one."""
        rules = self.window_rules
        tightest: dict[str, Any] = {}
        for name, value in self.settings.filters.active().items():
            other = getattr(rules, name)
            pick = min if name == "max_score" else max
            tightest[name] = value if other is None else pick(value, other)
        return replace(rules, **tightest)

    @property
    def never(self) -> tuple[Ints, Ints]:
        """Rows of the corpus that each query must not get, in CSR form."""
        lists = (self.pairs.indptr, self.pairs.positives)
        if self.settings.include_positives:
            lists = (np.zeros_like(lists[0]), lists[1][:0])
        return lists

    @property
    def own_texts(self) -> Ints | None:
        """The row of the corpus that is the query's own text, -1 without; ``None`` if that is no matter."""
        if self.rules is None or not self.rules.exclude_self:
            return None
        return same_texts(self.pairs.queries, self.pairs.corpus)

    @property
    def own_lists(self) -> Ints | None:
        """The same, as :func:`negfast.mine` takes it."""
        own = self.own_texts
        return None if own is None else own[:, None]


class Window:
    """Mines among the `range_max` + (most rows of a query) nearest rows of each query, and no others.

    Parameters
    ----------
    job : Job
    positive_scores : float32 array, shape (n_pairs,)
        In the terms of the candidates' scores.
    crossed : CrossScores or None
        What scores the candidates in the place of their similarity.
    """

    def __init__(self, job: Job, positive_scores: Scores, crossed: CrossScores | None) -> None:
        self._job = job
        self._crossed = crossed
        self._positive_scores = positive_scores
        self._lowest = lowest_of(positive_scores, job.pairs.indptr)
        self._own_texts = job.own_texts

    @property
    def width(self) -> int:
        """How many nearest rows of each query are candidates."""
        assert self._job.settings.range_max is not None, "a window has an end"
        return self._job.settings.range_max + int(self._job.pairs.rows_per_query.max())

    def mine(self) -> Mined:
        """Mine for all queries.

        Where the best candidates are taken and few of the nearest hold enough that are allowed, deeper rows cannot
        change the result: only the other queries are searched as deep as the window goes.
        """
        n_queries, n_corpus = len(self._job.pairs.queries), len(self._job.pairs.corpus)
        mined = Mined.empty(n_queries, self._job.settings.num_negatives, n_queries * self.width)
        left = np.arange(n_queries)
        whole = min(self.width, n_corpus)
        for depth in (self._first_look(whole), whole):
            spans = _spans(left, depth, whole=self._whole)
            left = np.concatenate([self._mine(mined, rows, depth, number) for number, rows in enumerate(spans)])
            if not len(left):
                break
        return mined

    @property
    def _whole(self) -> bool:
        return self._job.rules is not None and self._job.rules.max_exposure is not None

    def _first_look(self, whole: int) -> int:
        """Return how deep to look first."""
        job = self._job
        # Rows below the floor may lie anywhere in the window, and are counted where somebody reads the counts.
        counted = job.verbose and job.settings.filters.min_score is not None
        if job.settings.strategy != "top" or job.rules is not None or self._crossed is not None or counted:
            return whole
        return min(4 * job.settings.wanted + 16, whole)

    def _mine(self, mined: Mined, rows: Ints, depth: int, number: int) -> Ints:
        """Mine for some queries among so many of their nearest rows; return those that have to look deeper."""
        job = self._job
        indices, scores = job.similarity.nearest(rows, depth, job.search, progress=job.verbose, at_once=job.at_once)
        take_out(indices, _lists_of(job.never, rows))
        if self._own_texts is not None:
            indices[indices == self._own_texts[rows, None]] = -1
        if self._crossed is not None:
            scores = self._crossed.of_candidates(rows, indices)
        screen(indices, scores, self._lowest[rows], job.settings.filters)
        done = (indices >= 0).sum(axis=1) >= job.settings.wanted
        done |= depth >= min(self.width, len(job.pairs.corpus))
        if not done.all():
            indices, scores = indices[done], scores[done]
        mined.refused.update(skipped(indices, job.settings.filters))
        self._choose(mined, rows[done], np.maximum(indices, -1), scores, number)
        left: Ints = rows[~done]
        return left

    def _choose(self, mined: Mined, rows: Ints, indices: Ints, scores: Scores, number: int) -> None:
        """Take the negatives of some queries from what is left of their candidates."""
        job = self._job
        positives, positive_scores = self._padded_positives(rows)
        chosen = select(
            *self._vectors(rows),
            indices,
            positives,
            scores=scores,
            positive_scores=positive_scores,
            num_negatives=job.settings.num_negatives,
            metric=job.similarity.metric or "cosine",
            rules=job.window_rules,
            draw=job.settings.strategy,
            seed=job.seed,
            epoch=number,  # queries are numbered anew in each call
        )
        mined.indices[rows] = chosen.indices
        mined.scores[rows] = chosen.scores

    def _vectors(self, rows: Ints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return embeddings for `select`: scores are given, so only further rules look at them."""
        if self._job.rules is None:
            return np.ones((len(rows), 1), np.float32), np.ones((len(self._job.pairs.corpus), 1), np.float32)
        return self._job.similarity.queries_of(rows), self._job.similarity.corpus

    def _padded_positives(self, rows: Ints) -> tuple[Ints, Scores]:
        """Return the positives of some queries and their scores, which only further rules ask for."""
        if self._job.rules is None:
            return np.full((len(rows), 1), -1), np.full((len(rows), 1), np.nan, np.float32)
        pairs, indptr = self._job.pairs, self._job.pairs.indptr
        counts = np.diff(indptr)[rows]
        held = np.arange(counts.max(initial=0)) < counts[:, None]
        places = (indptr[rows][:, None] + np.arange(held.shape[1]))[held]
        positives = np.full(held.shape, -1)
        scores = np.full(held.shape, np.nan, dtype=np.float32)
        positives[held], scores[held] = pairs.positives[places], self._positive_scores[places]
        return positives, scores


def from_corpus(job: Job) -> Mined:
    """Mine the best allowed rows of the corpus, however many are refused before them.

    The model's scores have to be those of negfast.
    """
    settings, similarity = job.settings, job.similarity
    assert similarity.metric is not None, "checked when the call was"
    found = mine(
        similarity.queries,
        similarity.corpus,
        job.never,
        exclude=job.own_lists,
        num_negatives=settings.num_negatives,
        metric=similarity.metric,
        rules=job.corpus_rules,
        draw=settings.strategy,
        search=job.search,
        seed=job.seed,
        progress=job.verbose,
    )
    return Mined.of(found)


def _lists_of(lists: tuple[Ints, Ints], rows: Ints) -> tuple[Ints, Ints]:
    """Return the lists of some rows, of lists in CSR form."""
    indptr, entries = lists
    if len(rows) == len(indptr) - 1:
        return lists
    counts = np.diff(indptr)[rows]
    starts = np.concatenate([[0], np.cumsum(counts)])
    places = np.arange(starts[-1]) + np.repeat(indptr[rows] - starts[:-1], counts)
    return starts, entries[places]


def _spans(rows: Ints, depth: int, *, whole: bool) -> list[Ints]:
    """Cut queries into runs whose candidates are held together."""
    step = len(rows) if whole else max(1, _SPAN // max(depth, 1))
    return [rows[start : start + step] for start in range(0, len(rows), max(step, 1))]
