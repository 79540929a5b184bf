"""Negatives from the candidates of an index that is there already."""

import os
import time
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from negfast import threads
from negfast.arrays import Ints, floats, integers
from negfast.errors import InvalidValueError, RowIndexError
from negfast.inputs import Embeddings, Labels, RowLists, embeddings
from negfast.integrations.hnswlib.index import NONE, Space, checked_index, effort, loaded, nearest
from negfast.integrations.hnswlib.recall import Recall, audit
from negfast.mining import select
from negfast.recipe import Recipe
from negfast.results import MinedNegatives
from negfast.settings import Draw, Metric, Rules, Tiers, optional_whole, whole

_METRICS: dict[str, Metric] = {"cosine": "cosine", "ip": "dot", "l2": "cosine"}


class HnswSource:
    """Negatives from the candidates of an index of hnswlib: rules, margins, tiers and draws as in :func:`negfast.mine`.

    Parameters
    ----------
    index : hnswlib.Index
        Over rows of the corpus, in any of its spaces. It is read, and left as it was.
    labels : int array, shape (n_rows,), optional
        Under which label each corpus row is in the index, -1 for a row that is not. By default a label is the number of
        its row.
    ef : int, optional
        How many rows a search keeps in view; more find more. By default that of the index; never less than the
        candidates that are asked for.
    n_threads : as in :func:`negfast.mine`

    Attributes
    ----------
    index : hnswlib.Index
    metric : {"cosine", "dot"}
        What goes with its space, for scores: "dot" with "ip", else "cosine".

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or value, the index is empty, or a label stands for two rows.

    Notes
    -----
    The index is a graph that is searched greedily: Y. Malkov and D. Yashunin, *Efficient and robust approximate nearest
    neighbor search using hierarchical navigable small world graphs* (2018).

    Sources of one index search it one after the other. Other threads that search it meanwhile, without a source, do so
    with the `ef` of the source.

    Limitations
    -----------
    What the index does not propose is never a negative. :meth:`mine` measures how much that is.

    Rows in space "l2" are proposed by their distance, and scored by their cosine. Both put rows of one length into the
    same order; for others the recall that is measured tells how far they agree.

    Examples
    --------
    >>> import hnswlib, numpy as np
    >>> from negfast.integrations.hnswlib import HnswSource
    >>> rng = np.random.default_rng(0)
    >>> corpus = rng.standard_normal((1000, 16), dtype=np.float32)
    >>> queries = corpus[:100] + 0.5 * rng.standard_normal((100, 16), dtype=np.float32)
    >>> index = hnswlib.Index(space="cosine", dim=16)
    >>> index.init_index(max_elements=1000, random_seed=0)
    >>> index.add_items(corpus, np.arange(1000), num_threads=1)
    >>> mined = HnswSource(index).mine(queries, corpus, np.arange(100), num_negatives=4)
    >>> mined.indices.shape, mined.report.search.recall > 0.9
    ((100, 4), True)
    """

    def __init__(
        self, index: Any, *, labels: Labels | None = None, ef: int | None = None, n_threads: int | None = None
    ) -> None:
        self.index = checked_index(index)
        self.metric = _METRICS[index.space]
        self._ef = optional_whole("ef", ef, low=1)
        self._n_threads = n_threads
        self._threads()
        self._labels = None if labels is None else _Labels(labels)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        space: Space,
        dim: int,
        labels: Labels | None = None,
        ef: int | None = None,
        n_threads: int | None = None,
    ) -> Self:
        """Make a source of an index in a file that ``save_index`` wrote.

        Parameters
        ----------
        path : str or path-like
        space : {"cosine", "ip", "l2"}
            That in which the index was made; the file does not tell.
        dim : int
            Of its rows.
        labels, ef, n_threads : as for the class

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As for the class, and if the rows of the file have another dim.
        StateError
            If the file holds no index, or not all of one.
        OSError
            If it cannot be read.

        Notes
        -----
        Sizes and layout of the file are checked, the links of its graph are not: load files that you trust.
        """
        return cls(loaded(path, space, dim), labels=labels, ef=ef, n_threads=n_threads)

    def candidates(self, queries: Embeddings, k: int) -> Ints:
        """Return the rows that the index proposes.

        Parameters
        ----------
        queries : array or CPU tensor of floats, shape (n_queries, dim)
        k : int
            Rows for each.

        Returns
        -------
        ndarray of int64, shape (n_queries, k)
            Corpus rows, nearest first by the index, padded with -1: where it holds fewer, or does not reach more.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, or `queries` another dim than the index.
        RowIndexError
            If the index proposes a label that is no row's.
        """
        k = whole("k", k, low=0, high=2**31 - 1)
        rows = floats("queries", queries)
        if rows.ndim != 2 or rows.shape[1] != self.index.dim:
            raise InvalidValueError(
                f"queries must be of shape (n_queries, {self.index.dim}), as the index is, got {rows.shape}; encode "
                "both with one model"
            )
        if not (finite := np.isfinite(rows).all(axis=1)).all():
            raise InvalidValueError(
                f"queries must hold finite numbers, got NaN or infinity in row {finite.argmin()}; remove the row or "
                "encode it again"
            )
        proposed = np.full((len(rows), k), -1, dtype=np.int64)
        if k and len(rows):
            with effort(self.index, self._ef):
                found = nearest(self.index, rows, k, self._threads())
            proposed[:, : found.shape[1]] = self._rows(found)
        return proposed

    def mine(
        self,
        queries: Embeddings,
        corpus: Embeddings,
        positives: RowLists,
        *,
        num_negatives: int = 8,
        n_candidates: int | None = None,
        metric: Metric | None = None,
        groups: tuple[Labels, Labels] | None = None,
        keys: tuple[Labels, Labels] | None = None,
        exclude: RowLists | None = None,
        forbidden: Labels | None = None,
        rules: Rules = Rules(),  # noqa: B008 - frozen
        tiers: Tiers = Tiers(),  # noqa: B008 - frozen
        draw: Draw = "top",
        seed: int = 0,
        epoch: int = 0,
        n_audited: int = 256,
    ) -> MinedNegatives:
        """Mine negatives among the candidates of the index, and measure what it missed.

        Parameters
        ----------
        queries, corpus, positives : as in :func:`negfast.mine`
            The corpus may have rows that the index does not have.
        num_negatives : int, default 8
        n_candidates : int, optional
            Rows that the index proposes for each anchor, of which rules remove some. By default 64 and twice as many as
            are drawn from.
        metric : {"cosine", "dot"}, optional
            What scores are; by default that of the source.
        groups, keys, exclude, forbidden, rules, tiers, draw, seed, epoch : as in :func:`negfast.mine`
        n_audited : int, default 256
            Anchors that are also mined for by exact search, at random.

        Returns
        -------
        MinedNegatives
            As :func:`negfast.select` returns it, but that `recall`, its interval and `audited` of ``report.search`` are
            measured.

        Raises
        ------
        InvalidTypeError, InvalidValueError, RowIndexError
            As :func:`negfast.mine` and :meth:`candidates` do; and if there is not one label a row.

        Notes
        -----
        Recall is the share of the best rows, of all that rules allow, for which the index proposed one that scores as
        much as the last of them: of the negatives, or of those that they are drawn from. `distinct` and `max_exposure`
        are left out of it.
        """
        started = time.perf_counter()
        recipe = Recipe(
            num_negatives=num_negatives,
            metric=self.metric if metric is None else metric,
            rules=rules,
            tiers=tiers,
            draw=draw,
            seed=seed,
            epoch=epoch,
        )
        n_audited = whole("n_audited", n_audited, low=1)
        asked = optional_whole("n_candidates", n_candidates, low=1)
        depth = recipe.rules.range_min + (recipe.num_negatives if recipe.window is None else recipe.window)
        n_rows = len(embeddings("corpus", corpus))
        self._check_size(n_rows)
        proposed = self.candidates(queries, min(2 * depth + 64 if asked is None else asked, self.index.element_count))
        self._check_rows(proposed, n_rows)
        searched = time.perf_counter()
        known: dict[str, Any] = {
            "positives": positives,
            "groups": groups,
            "keys": keys,
            "exclude": exclude,
            "forbidden": forbidden,
        }
        mined = select(
            queries,
            corpus,
            proposed,
            **known,
            num_negatives=recipe.num_negatives,
            metric=recipe.metric,
            rules=rules,
            tiers=tiers,
            draw=draw,
            seed=seed,
            epoch=epoch,
            n_threads=self._threads(),
        )
        chosen = time.perf_counter()
        recall = audit((queries, corpus), proposed, known, recipe, n_audited, self._threads())
        return self._reported(mined, recall, (searched - started, time.perf_counter() - chosen))

    def _reported(self, mined: MinedNegatives, recall: Recall, took: tuple[float, float]) -> MinedNegatives:
        searching, auditing = took
        search, seconds = mined.report.search, dict(mined.report.search.seconds)
        for name, more in (("scan", searching), ("plan", auditing), ("total", searching + auditing)):
            seconds[name] += more
        why = f"an hnswlib index of {self.index.element_count:,} rows proposed candidates"
        search = replace(
            search,
            why=why,
            recall=recall.value,
            recall_interval=recall.interval,
            audited=recall.audited,
            seconds=seconds,
        )
        total = {**mined.report.seconds, "total": mined.report.seconds["total"] + searching + auditing}
        total["search"] += searching + auditing
        return replace(mined, report=replace(mined.report, search=search, seconds=total))

    def _threads(self) -> int:
        return threads.resolve(self._n_threads)

    def _rows(self, found: NDArray[np.uint64]) -> Ints:
        if self._labels is not None:
            return self._labels.rows(found)
        none = found == NONE
        rows = np.where(none, np.uint64(0), found)
        if (highest := rows.max(initial=0)) > np.iinfo(np.int64).max:
            raise _no_row("below 2**63", highest)
        return rows.astype(np.int64) - none

    def _check_size(self, n_rows: int) -> None:
        if self._labels is not None and self._labels.n_rows != n_rows:
            raise InvalidValueError(
                f"labels must be one for each of the {n_rows} corpus rows, got {self._labels.n_rows}; use -1 for a row "
                "that is not in the index"
            )

    def _check_rows(self, proposed: Ints, n_rows: int) -> None:
        if proposed.size and (highest := proposed.max()) >= n_rows:
            raise _no_row(f"0 to {n_rows}, exclusive", highest)


def _no_row(rows: str, label: Any) -> RowIndexError:
    return RowIndexError(
        f"index must hold labels that are rows of the corpus ({rows}), got {label}; pass labels=, the label of each row"
    )


class _Labels:
    """The labels of rows, in their order."""

    def __init__(self, labels: Labels) -> None:
        given = integers("labels", labels)
        if given.ndim != 1:
            raise InvalidValueError(f"labels must be of shape (n_rows,), got {given.shape}; pass one for each row")
        self.n_rows = len(given)
        held = np.flatnonzero(given >= 0)
        self._order = held[np.argsort(given[held], kind="stable")]
        self._sorted = given[self._order]
        twice = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if twice.size:
            rows = self._order[twice[0] : twice[0] + 2].tolist()
            raise InvalidValueError(
                f"labels must differ, got {self._sorted[twice[0]]} for rows {rows[0]} and {rows[1]}; a label stands "
                "for one row of the index"
            )

    def rows(self, found: NDArray[np.uint64]) -> Ints:
        """Return the rows of labels that an index found, -1 where there is none."""
        rows: Ints = np.full(found.shape, -1, dtype=np.int64)
        wanted = found[found != NONE]
        at = np.searchsorted(self._sorted, wanted.astype(np.int64))
        missing = (at >= len(self._sorted)) | (wanted > np.uint64(2**63 - 1))
        missing[~missing] = self._sorted[at[~missing]] != wanted[~missing].astype(np.int64)
        if missing.any():
            raise RowIndexError(
                f"labels must have every label of the index, got none that is {wanted[missing][0]}; add its row to the "
                "corpus, or mark it as deleted in the index"
            )
        rows[found != NONE] = self._order[at]
        return rows
