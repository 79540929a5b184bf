"""Mining that remembers: the lists of one call are the head start of the next, after the vectors have moved."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from negfast import _negfast, inputs, threads
from negfast import progress as progress_bar
from negfast.arrays import integers
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.inputs import Embeddings, Labels, RowLists
from negfast.keys import content_keys
from negfast.miner_state import SAMPLE, MinerState
from negfast.mining import Call
from negfast.progress import Wanted
from negfast.recipe import Recipe
from negfast.refresh_report import Drift, RefreshReport
from negfast.report import SearchReport
from negfast.results import MinedNegatives
from negfast.settings import Draw, Metric, Rules, Search, Tiers, optional_whole, whole
from negfast.staleness import Known, Staleness, measured

Ids = Sequence[int] | Sequence[str] | NDArray[Any]
MOST_RESERVED = 1 << 27
"""Candidates that ``reserve="auto"`` remembers of all anchors at most: 1 GiB of row numbers and scores."""


class Miner:
    """Mines negatives, remembers more candidates than it returns, and mines again from these when vectors move.

    Parameters
    ----------
    num_negatives, metric, rules, tiers, draw, search, suspect_rank, seed, n_threads : as in :func:`mine`
    reserve : int or "auto", default "auto"
        Candidates per anchor that are remembered, those that are returned included. ``"auto"`` is four times what the
        search for the anchor's negatives keeps, 64 at least, and less where that would take more than 1 GiB.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a setting has a wrong type or lies out of its range.

    Notes
    -----
    A miner holds copies of the queries and of the corpus in their own dtype, because drift is measured against them,
    and 8 bytes for each candidate remembered, its row and its score: for 63,000 anchors and rows of 384 float32 with
    400 candidates, 194 MB and 202 MB.

    How a refresh works: every remembered candidate is scored with the new vectors. How far each row has moved bounds
    what any row that is not remembered can score now; where that is less than what the anchor's negatives score, its
    list is *proven* to be that of brute force. With ``search.recall`` of 1 all other lists are searched again. With
    less, some anchors are solved exactly, which tells how many of the remembered candidates have to be scored and which
    recall that gives; the rest is trusted (*estimated*). Where it would be too little, everything is searched again.
    Rows that moved far more than others, or that `changed` or :meth:`add` name, are compared with every anchor.

    Proven lists are the same bits as a fresh call's. What a refresh counts (``report.removed``, `positive_ranks`, and
    with them suspect pairs) is among the candidates that it looked at.

    Limitations
    -----------
    A miner serves one call at a time: a refresh writes over the vectors that the miner holds. A search that also makes
    a reserve looks at more rows than a plain one, and takes longer.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> rng = np.random.default_rng(0)
    >>> corpus = rng.standard_normal((2000, 32)).astype(np.float32)
    >>> queries = corpus[:500] + 0.1 * rng.standard_normal((500, 32)).astype(np.float32)
    >>> miner = negfast.Miner(num_negatives=4)
    >>> mined = miner.mine(queries, corpus, np.arange(500))
    >>> moved = corpus + 1e-4 * rng.standard_normal(corpus.shape).astype(np.float32)
    >>> again = miner.refresh(queries, moved)
    >>> fresh = negfast.mine(queries, moved, np.arange(500), num_negatives=4)
    >>> bool((again.indices == fresh.indices).all())
    True
    """

    def __init__(
        self,
        *,
        num_negatives: int = 8,
        metric: Metric = "cosine",
        rules: Rules = Rules(),  # noqa: B008 - frozen
        tiers: Tiers = Tiers(),  # noqa: B008 - frozen
        draw: Draw = "top",
        search: Search = Search(),  # noqa: B008 - frozen
        suspect_rank: int = 1000,
        seed: int = 0,
        n_threads: int | None = None,
        reserve: int | Literal["auto"] = "auto",
    ) -> None:
        self._recipe = Recipe(
            num_negatives=num_negatives,
            metric=metric,
            rules=rules,
            tiers=tiers,
            draw=draw,
            search=search,
            suspect_rank=suspect_rank,
            seed=seed,
        )
        if n_threads is not None:
            threads.resolve(n_threads)
        self._n_threads = n_threads
        self._reserve = _reserve_setting(reserve)
        self._state: MinerState | None = None

    @property
    def recipe(self) -> Recipe:
        """The settings of the next call, with the epoch of the last."""
        return self._recipe if self._state is None else self._state.recipe

    @property
    def is_mined(self) -> bool:
        """Whether there is something to refresh."""
        return self._state is not None

    @property
    def positives(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positives of each query in CSR form: ``indices[indptr[i]:indptr[i + 1]]`` are those of query ``i``.

        Raises
        ------
        StateError
            If nothing was mined yet.
        """
        indptr, indices = self._mined().known["positives"]
        return indptr, indices

    def __repr__(self) -> str:
        """Return the settings that differ most, and what is remembered."""
        held = "nothing mined" if self._state is None else repr(self._state)
        return f"Miner(num_negatives={self._recipe.num_negatives}, reserve={self._reserve!r}): {held}"

    def __copy__(self) -> Self:
        """Return a deep copy: a refresh writes over the vectors that it held, so two miners cannot share them."""
        return copy.deepcopy(self)

    def mine(
        self,
        queries: Embeddings,
        corpus: Embeddings,
        positives: RowLists,
        *,
        groups: tuple[Labels, Labels] | None = None,
        keys: tuple[Labels, Labels] | None = None,
        exclude: RowLists | None = None,
        forbidden: Labels | None = None,
        ids: tuple[Ids, Ids] | None = None,
        epoch: int = 0,
        progress: Wanted = False,
    ) -> MinedNegatives:
        """Mine from nothing, as :func:`mine` does, and remember.

        Parameters
        ----------
        queries, corpus, positives, groups, keys, exclude, forbidden, epoch, progress : as in :func:`mine`
        ids : pair, of the queries and of the corpus, optional
            One distinct integer or text for each row. With them a refresh refuses rows in another order.

        Returns
        -------
        MinedNegatives
            What :func:`mine` returns, for all queries.

        Raises
        ------
        InvalidTypeError, InvalidValueError, RowIndexError
            As :func:`mine` does. What was remembered before stays then.
        """
        call = Call(
            queries,
            corpus,
            positives,
            groups=groups,
            keys=keys,
            exclude=exclude,
            forbidden=forbidden,
            recipe=replace(self._recipe, epoch=epoch),
            n_threads=self._n_threads,
            progress=progress,
        )
        hashed = None if ids is None else _hashed_ids(ids, (len(call.queries), len(call.corpus)))
        settings = {**call.settings, "reserve": self._reserved(call)}
        with progress_bar.bar("mine", wanted=call.progress) as bar:
            core = _negfast.mine(call.queries, call.corpus, call.known, None, settings, call.n_threads, bar)
        reserve = core.pop("reserve", None) or _nothing(len(call.queries))
        mined = call.result(core, SearchReport.from_core(core["search"]))
        self._state = MinerState.of_call(call, reserve, hashed, _sampled(mined.indices))
        return mined

    def refresh(
        self,
        queries: Embeddings,
        corpus: Embeddings,
        *,
        changed: Labels | None = None,
        ids: tuple[Ids, Ids] | None = None,
        epoch: int | None = None,
        progress: Wanted = False,
    ) -> MinedNegatives:
        """Mine again for the same rows, whose vectors have moved.

        Parameters
        ----------
        queries, corpus : as in :func:`mine`
            All rows, in the order of :meth:`mine`; rows that :meth:`add` added follow at the end of the corpus.
        changed : int array of row numbers, or bool array of shape (n_corpus,), optional
            The only corpus rows whose vectors differ from the last call's; another that differs is an error.
        ids : as in :meth:`mine`, required if they were given there
        epoch : int, optional
            Names the draws; by default the one after the last.
        progress : as in :func:`mine`

        Returns
        -------
        MinedNegatives
            With ``report.refresh``, what became of the lists that were remembered.

        Raises
        ------
        StateError
            If nothing was mined yet.
        InvalidTypeError, InvalidValueError, RowIndexError
            If an argument has a wrong type, shape or value, rows stand in another order, or an embedding is not finite.
            What was remembered before stays then.
        """
        state = self._mined()
        call = state.call(
            queries, corpus, epoch=state.recipe.epoch + 1 if epoch is None else epoch,
            n_threads=self._n_threads, progress=progress,
        )  # fmt: skip
        state.check_ids(None if ids is None else _hashed_ids(ids, (len(call.queries), len(call.corpus))))
        rows = None
        if changed is not None:
            rows = np.flatnonzero(inputs.forbidden_mask(changed, len(call.corpus), "changed"))
        past = state.past(rows, call.corpus.dtype)
        settings = {**call.settings, "reserve": self._reserved(call)}
        with progress_bar.bar("refresh", wanted=call.progress) as bar:
            core = _negfast.refresh(call.queries, call.corpus, call.known, past, settings, call.n_threads, bar)
        told = core.pop("refresh")
        reserve = core.pop("reserve", None) or _nothing(len(call.queries))
        served = _sampled(core["indices"])
        report = _report(core, told, _turnover(state.served, served))
        mined = call.result(core, _search(core["search"], report), refresh=report)
        # Its memory is written over: whoever interrupts that must not find half of it.
        self._state = None
        self._state = state.moved(call, reserve, served)
        return mined

    @property
    def sampled_anchors(self) -> NDArray[np.int64]:
        """Queries whose negatives :meth:`staleness` knows, shape (n,): evenly spaced, 1,000 at most.

        Raises
        ------
        StateError
            If nothing was mined yet.
        """
        return _sample_of(len(self._mined().queries))

    def staleness(
        self,
        rows: Labels,
        vectors: Embeddings,
        *,
        query_rows: Labels | None = None,
        query_vectors: Embeddings | None = None,
        k: int | None = None,
    ) -> Staleness:
        """Say how stale the lists are, from a few rows that were encoded again. Nothing that is remembered changes.

        Parameters
        ----------
        rows : int array of shape (n_rows,)
            Distinct corpus rows, drawn at random: a thousand or more.
        vectors : as `corpus` in :func:`mine`, shape (n_rows, dim)
            Their new embeddings.
        query_rows : int array of shape (n_queries,), optional
            Distinct queries, best :attr:`sampled_anchors`; by default these serve with the vectors of the last call.
        query_vectors : as `queries` in :func:`mine`, shape (n_queries, dim), required with `query_rows`
            Their new embeddings.
        k : int, optional
            The depth of the lists in the whole corpus; by default `num_negatives`.

        Returns
        -------
        Staleness

        Raises
        ------
        StateError
            If nothing was mined yet.
        InvalidTypeError, InvalidValueError, RowIndexError
            If an argument has a wrong type, shape or value, or a vector is not finite.

        Notes
        -----
        Drift is between directions under cosine and between the rows themselves under dot. `mean_squared` is the
        staleness of E. Lindgren et al., *Efficient Training of Retrieval Models using Negative Cache* (2021), summed
        over the sample.

        The estimator of `overlap`: each sampled query ranks the sampled rows by old vectors and by new. Rank r among n
        sampled rows stands for rank r * n_corpus / n in the corpus, so the best ``k * n / n_corpus`` of the sample are
        compared, rounded and at least one; ``Staleness.depth`` is the rank that this stands for. A row stays if it
        scores as much as the last of the new best. Rows that are forbidden, and positives and excluded rows of a query,
        are left out.

        The estimator of `turnover`: for each negative in the sample that is served to a sampled query, the sampled rows
        that have come to score more, less those that have ceased to, times n_corpus / n, are added to its rank. It
        leaves if that is past the end of its list.

        Limitations
        -----------
        Both hold for rows drawn at random; with all rows, and without further rules, they are exact. A small sample
        tells nothing about depths below ``n_corpus / n``. Where `Staleness.depth` is more than `k`, the overlap is that
        of lists of that depth; and turnover sees only negatives that fall so far, so it comes out too low: with a
        twentieth of 6,000 rows, .05 and .32 where .19 and .49 left. Standard errors are about ``sqrt(p * (1 - p) / n)``
        for n independent pairs, and those of one query are not. Groups, keys, score rules and list rules are not
        applied, and turnover means what it says for the draw ``"top"`` alone. Queries that are not encoded again are
        taken to stand still: where one model encodes both sides, encode some again.

        Examples
        --------
        >>> import numpy as np, negfast
        >>> rng = np.random.default_rng(0)
        >>> corpus = rng.standard_normal((2000, 32)).astype(np.float32)
        >>> miner = negfast.Miner(num_negatives=4)
        >>> mined = miner.mine(corpus[:500], corpus, np.arange(500))
        >>> rows = np.sort(rng.choice(2000, 400, replace=False))
        >>> miner.staleness(rows, corpus[rows]).overlap
        1.0
        >>> moved = corpus[rows] + 0.3 * rng.standard_normal((400, 32)).astype(np.float32)
        >>> stale = miner.staleness(rows, moved)
        >>> stale.overlap < 0.9, 0.2 < stale.drift.mean < 0.4
        (True, True)
        """
        state = self._mined()
        depth = optional_whole("k", k, low=1) or state.recipe.num_negatives
        lists = [state.known[name] for name in ("positives", "exclude") if state.known[name] is not None]
        known = Known(
            queries=state.queries,
            corpus=state.corpus,
            anchors=_sample_of(len(state.queries)),
            served=state.served,
            lists=lists,
            forbidden=state.known["forbidden"],
            exclude_self=bool(state.recipe.rules.exclude_self),
            metric=state.recipe.metric,
        )
        return measured(known, rows, vectors, query_rows, query_vectors, depth)

    def add(
        self,
        rows: Embeddings,
        *,
        groups: Labels | None = None,
        keys: Labels | None = None,
        ids: Ids | None = None,
    ) -> NDArray[np.int64]:
        """Add rows to the end of the corpus; the next refresh compares them with every anchor.

        Parameters
        ----------
        rows : as `corpus` in :func:`mine`, shape (n_rows, dim)
            In the dtype of the corpus. They are none of the queries, whatever `exclude_self` says.
        groups, keys : labels of the rows, required if those of the corpus were given, and as they were
        ids : the rows' ids, required if those of the corpus were given

        Returns
        -------
        ndarray of int64, shape (n_rows,)
            The numbers of the new rows. The numbers of others stay what they were.

        Raises
        ------
        StateError
            If nothing was mined yet.
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, shape or value.
        """
        state = self._mined()
        array = inputs.embeddings("rows", rows)
        hashed = None if ids is None else _hashed("ids", ids, len(array))
        self._state, numbers = state.with_rows(array, groups=groups, keys=keys, ids=hashed)
        return numbers

    def remove(self, rows: Labels) -> None:
        """Let rows of the corpus serve no more. Their numbers stay taken, and later corpora still hold them.

        Parameters
        ----------
        rows : int array of row numbers, or bool array of shape (n_corpus,)

        Raises
        ------
        StateError
            If nothing was mined yet.
        InvalidTypeError, InvalidValueError, RowIndexError
            If a row is none of the corpus.
        """
        self._state = self._mined().without_rows(rows)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a refresh needs: settings as plain values under "settings", the rest as arrays of its own."""
        return self._mined().to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what another miner of the same settings remembers.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or other settings, or damaged. This object is as before then.
        """
        if not isinstance(state, Mapping):
            raise InvalidTypeError(
                f"state must be a mapping, got {type(state).__name__} {shown(state)}; pass what state_dict returned"
            )
        loaded = MinerState.from_dict(state)
        loaded.check_settings(self._recipe)
        self._state = loaded

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings and state to a safetensors file, through a temporary name in the same folder.

        Parameters
        ----------
        path : str or path-like
            The file; it is replaced if it exists.

        Raises
        ------
        StateError
            If nothing was mined yet.
        OSError
            If it cannot be written.
        """
        self._mined().save(path, {"recipe": self._recipe.to_dict(), "reserve": self._reserve})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, metric: Metric | None = None, n_threads: int | None = None) -> Self:
        """Read what :meth:`save` wrote: a refresh equals one of the miner that was saved.

        Parameters
        ----------
        path : str or path-like
            The file.
        metric : {"cosine", "dot"}, optional
            The metric that the miner must have.
        n_threads : as in :func:`mine`

        Returns
        -------
        Miner

        Raises
        ------
        StateError
            If the file is corrupt, holds something else, or is of another version or metric.
        OSError
            If it cannot be read.
        """
        state, settings = MinerState.load(path)
        try:
            recipe, reserve = Recipe.from_dict(settings["recipe"]), _reserve_setting(settings["reserve"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"{os.fsdecode(path)} is damaged: {error!r}; mine again") from error
        if metric is not None and recipe.metric != metric:
            raise StateError(
                f"metric of {os.fsdecode(path)} must be {metric!r}, got {recipe.metric!r}; load it with its own metric"
            )
        miner = cls(n_threads=n_threads, reserve=reserve)
        miner._recipe, miner._state = recipe, state
        return miner

    def _mined(self) -> MinerState:
        if self._state is None:
            raise StateError("the miner must have mined before, got one that has not; call mine first")
        return self._state

    def _reserved(self, call: Call) -> int:
        """Return how many candidates of each anchor to remember."""
        n_queries, n_corpus = len(call.queries), len(call.corpus)
        if self._reserve != "auto":
            return min(self._reserve, n_corpus)
        depth = _negfast.search_depth(call.settings, n_corpus)
        return min(max(4 * depth, 64), max(MOST_RESERVED // max(n_queries, 1), depth), n_corpus)


def _reserve_setting(value: object) -> int | Literal["auto"]:
    if isinstance(value, str):
        if value == "auto":
            return "auto"
        raise InvalidValueError(f'reserve must be "auto" or a number of candidates, got {value!r}; choose one')
    return whole("reserve", value, low=0, high=2**31 - 1)


def _nothing(n_queries: int) -> dict[str, NDArray[Any]]:
    """Return the reserve of a miner that remembers no candidates."""
    return {
        "indptr": np.zeros(n_queries + 1, np.int64),
        "rows": np.zeros(0, np.uint32),
        "scores": np.zeros(0, np.float32),
        "ceilings": np.full(n_queries, np.inf, np.float32),
        "floors": np.full(n_queries, -np.inf, np.float32),
    }


def _hashed_ids(ids: object, lengths: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not isinstance(ids, tuple | list) or len(ids) != 2:
        raise InvalidTypeError(
            f"ids must be a pair (ids of the queries, ids of the corpus), got {type(ids).__name__}; pass both, or None"
        )
    queries, corpus = (
        _hashed(f"ids of the {name}", side, n)
        for name, side, n in zip(("queries", "corpus"), ids, lengths, strict=True)
    )
    return queries, corpus


def _hashed(argument: str, ids: Any, length: int) -> NDArray[np.int64]:
    """Return ids as integers, those of texts by their keys."""
    several = hasattr(ids, "__iter__") and not isinstance(ids, str) and getattr(ids, "ndim", 1) > 0
    first = next(iter(ids), None) if several else None
    numbers = content_keys(ids) if isinstance(first, str) else integers(argument, ids)
    if numbers.shape != (length,):
        raise InvalidValueError(
            f"{argument} must be one for each of the {length} rows, got shape {numbers.shape}; name every row once"
        )
    if len(np.unique(numbers)) < length:
        raise InvalidValueError(f"{argument} must be distinct, got one twice; name every row once")
    return numbers


def _sample_of(n_anchors: int) -> NDArray[np.int64]:
    """Return evenly spaced anchors."""
    return np.unique(np.linspace(0, max(n_anchors - 1, 0), min(SAMPLE, n_anchors)).astype(np.int64))


def _sampled(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the negatives of evenly spaced anchors."""
    return indices[_sample_of(len(indices))]


def _turnover(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """Return the share of negatives that an anchor did not have before."""
    held = after >= 0
    if not held.any():
        return 0.0
    # Rows of different anchors become different numbers.
    apart = np.arange(len(after))[:, None] * (1 + max(int(before.max(initial=0)), int(after.max())))
    return float((~np.isin((after + apart)[held], (before + apart)[before >= 0])).mean())


def _report(core: dict[str, Any], told: dict[str, Any], turnover: float) -> RefreshReport:
    queries, corpus = core.pop("drift_queries"), core.pop("drift_corpus")
    deciding, judging = told.pop("seconds")
    lists = {name: told.pop(name) for name in ("proven", "estimated", "searched", "movers")}
    seconds = {"drift": core.pop("drift_seconds"), "decide": deciding, "lists": judging}
    total = core["search"]["seconds"]["total"]
    seconds |= {"search": max(total - sum(seconds.values()), 0.0), "total": total}
    return RefreshReport(
        **{f"n_{name}": count for name, count in lists.items()},
        **{**told, "recall_interval": tuple(told["recall_interval"])},
        widened=bool(lists["searched"]) and not (lists["proven"] or lists["estimated"]),
        drift=Drift.of(np.concatenate([queries, corpus])),
        drift_queries=Drift.of(queries),
        drift_corpus=Drift.of(corpus),
        turnover=turnover,
        seconds=seconds,
    )


def _search(core: dict[str, Any], report: RefreshReport) -> SearchReport:
    """Return the report of the search, whose recall is no better than that of lists that were trusted."""
    search = SearchReport.from_core(core)
    if not (report.n_proven or report.n_estimated):
        return search
    if not report.n_searched:
        search = replace(search, method="refresh", why=report.why)
    if report.n_estimated and report.recall_interval[0] < search.recall_interval[0]:
        search = replace(search, recall=report.recall, recall_interval=report.recall_interval, audited=report.audited)
    return search
