"""The main job: for every anchor, the hardest rows of a corpus that are allowed negatives.

:func:`mine` searches for them under rules, :func:`select` applies the same rules to candidates from elsewhere, and
:func:`topk` searches without rules. Here arguments are checked and completed; the work is done in the compiled module.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from negfast import _negfast, inputs, threads
from negfast import progress as progress_bar
from negfast.errors import InvalidValueError
from negfast.inputs import Embeddings, Labels, RowLists
from negfast.progress import Wanted
from negfast.recipe import MOST_PER_ROW, Recipe
from negfast.refresh_report import RefreshReport
from negfast.report import FalseNegatives, Report, SearchReport, Suspects, TopKReport
from negfast.results import MinedNegatives, TopK
from negfast.settings import (
    Draw,
    Metric,
    Rules,
    Search,
    Tiers,
    draw_to_core,
    instance,
    one_of,
    search_to_core,
    whole,
)
from negfast.summary import Lists, summarise


def mine(
    queries: Embeddings,
    corpus: Embeddings,
    positives: RowLists,
    *,
    num_negatives: int = 8,
    metric: Metric = "cosine",
    groups: tuple[Labels, Labels] | None = None,
    keys: tuple[Labels, Labels] | None = None,
    exclude: RowLists | None = None,
    forbidden: Labels | None = None,
    anchors: NDArray[np.integer[Any]] | Sequence[int] | None = None,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    tiers: Tiers = Tiers(),  # noqa: B008 - frozen
    draw: Draw = "top",
    search: Search = Search(),  # noqa: B008 - frozen
    suspect_rank: int = 1000,
    seed: int = 0,
    epoch: int = 0,
    n_threads: int | None = None,
    progress: Wanted = False,
) -> MinedNegatives:
    """Mine, for every anchor, the hardest corpus rows that are allowed negatives.

    Parameters
    ----------
    queries : array or CPU tensor of float32, float16 or bfloat16 (torch), shape (n_queries, dim)
        Embeddings of the anchors; C-contiguous, read in place. Memory maps are arrays.
    corpus : the same, shape (n_corpus, dim)
        Embeddings of the rows that negatives are taken from.
    positives : int array of shape (n_queries,) or (n_queries, p), list of lists, or CSR tuple (indptr, indices)
        Corpus rows that are right for each anchor; arrays are padded with -1. Repeats count once. An anchor
        without a positive is legal: margin rules do not apply to it.
    num_negatives : int, default 8
        Negatives per anchor.
    metric : {"cosine", "dot"}, default "cosine"
        What "close" means.
    groups : pair, of the queries and of the corpus
        Each an int array of shape (n,) or (n, columns), a list of lists, or a CSR tuple (indptr, groups). Rows of one
        group are variants of the same thing: a row that shares a group with the anchor or with one of its positives is
        never a negative. -1 is no group.
    keys : pair, as `groups`
        The same for identical texts; see :func:`content_keys`.
    exclude : as `positives`
        Further corpus rows that an anchor must not get.
    forbidden : int array of row numbers, or bool array of shape (n_corpus,)
        Corpus rows that never appear, such as held-out data.
    anchors : int array of shape (n_anchors,), optional
        Distinct rows of `queries` to mine for, all by default. Row i of the result belongs to ``anchors[i]``.
    rules : Rules
        The guard rails. Their `exclude_self` is inferred only if `queries` *is* `corpus`, the very same object: set
        it for copies and views.
    tiers : Tiers
        Edges between easy, semi-hard and hard negatives.
    draw : {"top", "random"}, Softmax or SimANS, default "top"
        How negatives are chosen, without replacement, among the allowed rows of the window: the best, uniformly,
        or with weights. The result is sorted by score whatever the draw.
    search : Search
        What recall is asked for, how to search, and with how much memory.
    suspect_rank : int, default 1000
        Positives that rank below this for their own anchor are reported.
    seed, epoch : int, default 0
        Name the draws: the same numbers give the same negatives on any machine and number of threads.
    n_threads : int, optional
        Threads. By default ``NEGFAST_NUM_THREADS``, else 1 inside a worker process, else the CPUs that this
        process may use.
    progress : bool or callable, default False
        Show a progress bar; or call this, about twenty times a second, with the share that is done, from 0 to 1. What
        it raises ends the call.

    Returns
    -------
    MinedNegatives
        Indices, scores, positive scores, tiers and a report, of `anchors`.

    Raises
    ------
    InvalidTypeError
        If an argument has a wrong type or dtype.
    InvalidValueError
        If an argument has a wrong shape, layout or value, or an embedding is not finite.
    RowIndexError
        If a list names a row that the corpus does not have, or `anchors` one that the queries do not have.

    Notes
    -----
    By default the result is exact: that of brute force with one scoring function (products in float64, summed in a
    fixed order, rounded once to float32), ties going to the lower row. It is the same bits for any number of threads
    and any SIMD level, whether all pairs are multiplied in float32 (``"exact"``) or most are ruled out by codes whose
    error is bounded (``"certified"``).

    With ``search.recall`` below 1 a search may be approximate (``"clusters"``, ``"signatures"``). Its recall is
    measured on some of the anchors, which are solved exactly: the lower end of ``report.search.recall_interval``
    reaches what was asked, or the result is proven instead. Scores are exact. ``report.removed`` and `positive_ranks`
    then count rows that the search met, so they are lower bounds.

    Rules are asked while the search runs, so a rejected row never takes the place of an allowed one; the order in which
    they are asked is that of ``report.removed``.

    A cap on exposure is settled by deferred acceptance (D. Gale and L. Shapley, 1962): anchors prefer rows in the
    order of the draw, rows prefer the anchors they score highest with, then the lower anchor.

    What an anchor gets from an exact search, and what is counted for it, does not depend on which others are asked for:
    `transitive` looks at the positives of all queries, draws and suspects go by the row in `queries`. So mining in
    parts and putting the rows of the results together gives the same bits. A cap on exposure is the exception: it
    counts over the anchors of a call.

    Limitations
    -----------
    With ``max_exposure`` the candidates of all anchors are held in memory until all are in.

    An approximate search depends on which anchors are asked for together, and may differ between SIMD levels; not
    between numbers of threads. Its recall is measured on the first pass: lists that run out are searched again,
    deeper, with the effort that was fitted then. A positive that ranks low may be missing among the suspects.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> rng = np.random.default_rng(0)
    >>> corpus = rng.standard_normal((1000, 32)).astype(np.float32)
    >>> queries = corpus[:10] + 0.1 * rng.standard_normal((10, 32)).astype(np.float32)
    >>> mined = negfast.mine(queries, corpus, np.arange(10), num_negatives=4)
    >>> mined.indices.shape
    (10, 4)
    >>> mined.report.search.method
    'exact'
    >>> part = negfast.mine(queries, corpus, np.arange(10), num_negatives=4, anchors=[7, 2])
    >>> bool((part.indices == mined.indices[[7, 2]]).all())
    True
    """
    call = Call(
        queries,
        corpus,
        positives,
        groups=groups,
        keys=keys,
        exclude=exclude,
        forbidden=forbidden,
        recipe=Recipe(
            num_negatives=num_negatives,
            metric=metric,
            rules=rules,
            tiers=tiers,
            draw=draw,
            search=search,
            suspect_rank=suspect_rank,
            seed=seed,
            epoch=epoch,
        ),
        n_threads=n_threads,
        progress=progress,
    )
    rows = None if anchors is None else inputs.anchor_rows(anchors)
    with progress_bar.bar("mine", wanted=call.progress) as shown:
        core = _negfast.mine(call.queries, call.corpus, call.known, rows, call.settings, call.n_threads, shown)
    return call.result(core, SearchReport.from_core(core["search"]), anchors=rows)


def select(
    queries: Embeddings,
    corpus: Embeddings,
    candidates: RowLists,
    positives: RowLists,
    *,
    scores: NDArray[np.floating[Any]] | list[Any] | None = None,
    positive_scores: NDArray[np.floating[Any]] | list[Any] | None = None,
    num_negatives: int = 8,
    metric: Metric = "cosine",
    groups: tuple[Labels, Labels] | None = None,
    keys: tuple[Labels, Labels] | None = None,
    exclude: RowLists | None = None,
    forbidden: Labels | None = None,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    tiers: Tiers = Tiers(),  # noqa: B008 - frozen
    draw: Draw = "top",
    suspect_rank: int = 1000,
    seed: int = 0,
    epoch: int = 0,
    n_threads: int | None = None,
    progress: Wanted = False,
) -> MinedNegatives:
    """Apply the rules and the draw of :func:`mine` to candidates that came from elsewhere.

    Parameters
    ----------
    queries, corpus : as in :func:`mine`
    candidates : int array of shape (n_queries, c) padded with -1, list of lists, or CSR tuple (indptr, indices)
        Candidate rows of each anchor, in any order. Repeats count once.
    positives : as in :func:`mine`
    scores : float array or lists, shaped as `candidates`, optional
        Scores that replace those of the embeddings for order and score rules, such as a teacher's. Of a repeated
        candidate the first counts.
    positive_scores : float array or lists, optional; required with `scores`
        Scores of the positives in the same terms: shaped as `positives`, or of shape (n_queries,) with each
        anchor's lowest, NaN without a positive. Where flat scores fit the positives of a CSR tuple as well as the
        anchors, they are refused: use lists of lists. With the lowest alone, anchors with several positives are not
        looked at for suspect pairs.
    num_negatives, metric, groups, keys, exclude, forbidden, rules, tiers, draw : as in :func:`mine`
    suspect_rank, seed, epoch, n_threads, progress : as in :func:`mine`

    Returns
    -------
    MinedNegatives
        As :func:`mine` returns it. Counts and ranks of its report are among the candidates.

    Raises
    ------
    InvalidTypeError, InvalidValueError, RowIndexError
        As :func:`mine` does; and if `scores` is given without `positive_scores`, or is not finite.

    Notes
    -----
    `duplicate_of_positive` and `distinct` compare embeddings, with given scores too.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> corpus = np.eye(6, dtype=np.float32) + 0.1
    >>> bm25 = [[1, 2, 3], [0, 4, 5]]
    >>> chosen = negfast.select(corpus[:2], corpus, bm25, np.array([0, 1]), num_negatives=2)
    >>> chosen.indices.tolist()
    [[1, 2], [0, 4]]
    """
    call = Call(
        queries,
        corpus,
        positives,
        groups=groups,
        keys=keys,
        exclude=exclude,
        forbidden=forbidden,
        recipe=Recipe(
            num_negatives=num_negatives,
            metric=metric,
            rules=rules,
            tiers=tiers,
            draw=draw,
            suspect_rank=suspect_rank,
            seed=seed,
            epoch=epoch,
        ),
        n_threads=n_threads,
        progress=progress,
    )
    n_queries = len(call.queries)
    lists = inputs.row_lists("candidates", candidates, n_queries)
    given = of_positives = None
    lowest = False
    if scores is not None:
        if positive_scores is None:
            raise InvalidValueError(
                "positive_scores must be given with scores, got None; margins compare the two, so score the "
                "positives in the same way"
            )
        given = inputs.list_scores("scores", scores, candidates, n_queries)
        of_positives, lowest = inputs.positive_scores(positive_scores, positives, n_queries)
    elif positive_scores is not None:
        raise InvalidValueError(
            "scores must be given with positive_scores, got None; leave both out to score by the embeddings"
        )
    with progress_bar.bar("select", wanted=call.progress) as shown:
        core = _negfast.select(
            call.queries, call.corpus, call.known, lists, given, of_positives, lowest, call.settings,
            call.n_threads, shown,
        )  # fmt: skip
    indptr, indices = lists
    return call.result(
        core,
        SearchReport.of_given(core["search"], int(indices.size)),
        candidates_indptr=indptr,
        candidates_indices=indices,
        scores=given,
        positive_scores=of_positives,
    )


def topk(
    queries: Embeddings,
    corpus: Embeddings,
    k: int,
    *,
    metric: Metric = "cosine",
    search: Search = Search(),  # noqa: B008 - frozen
    n_threads: int | None = None,
    progress: Wanted = False,
) -> TopK:
    """Find the `k` nearest corpus rows of each query, without any rules.

    Parameters
    ----------
    queries, corpus : as in :func:`mine`
    k : int
        Rows per query; 0 is legal.
    metric, search, n_threads, progress : as in :func:`mine`

    Returns
    -------
    TopK
        Indices and scores, best first, padded with -1 and -inf, and a report.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        As :func:`mine` does.

    Notes
    -----
    By default the result is that of brute force, the same bits for any number of threads and any SIMD level. With
    ``search.recall`` below 1 it may be approximate, with a measured recall, as in :func:`mine`.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> rows = np.eye(3, dtype=np.float32)
    >>> found = negfast.topk(rows, rows, 2)
    >>> found.indices.tolist()
    [[0, 1], [1, 0], [2, 0]]

    The methods differ in what they cost, and in what they promise:

    >>> rng = np.random.default_rng(0)
    >>> corpus = rng.standard_normal((4000, 32)).astype(np.float32)
    >>> certified = negfast.topk(corpus[:50], corpus, 5, search=negfast.Search(method="certified"))
    >>> exact = negfast.topk(corpus[:50], corpus, 5, search=negfast.Search(method="exact"))
    >>> bool((certified.indices == exact.indices).all()), certified.report.search.recall
    (True, 1.0)
    >>> asked = negfast.Search(recall=0.8, method="clusters")
    >>> found = negfast.topk(corpus[:500], corpus, 5, search=asked)
    >>> found.report.search.recall_interval[0] >= 0.8
    True
    """
    k = whole("k", k, low=0, high=MOST_PER_ROW)
    name = one_of("metric", metric, ("cosine", "dot"))
    instance("search", search, Search)
    shows = progress_bar.wish(progress)
    rows, others = inputs.embeddings("queries", queries), inputs.embeddings("corpus", corpus)
    with progress_bar.bar("topk", wanted=shows) as shown:
        core = _negfast.topk(rows, others, k, name, search_to_core(search), threads.resolve(n_threads), shown)
    report = TopKReport(
        search=SearchReport.from_core(core["search"]),
        n_queries=len(rows),
        n_corpus=len(others),
        dim=rows.shape[1],
        metric=name,
    )
    return TopK(core["indices"], core["scores"], report)


def core_settings(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as the compiled module takes it, for a call that remembers nothing."""
    rules = {**recipe.rules.to_dict(), "range_max": recipe.last_rank, "exclude_self": bool(recipe.rules.exclude_self)}
    return {
        "metric": recipe.metric,
        "num_negatives": recipe.num_negatives,
        "rules": rules,
        "tiers": (recipe.tiers.hard, recipe.tiers.semi_hard),
        "draw": draw_to_core(recipe.draw),
        "suspect_rank": recipe.suspect_rank,
        "seed": recipe.seed,
        "epoch": recipe.epoch,
        "search": search_to_core(recipe.search),
        "reserve": 0,
    }


class Call:
    """The checked arguments of a call, in the form of the compiled module."""

    def __init__(
        self,
        queries: Embeddings,
        corpus: Embeddings,
        positives: RowLists,
        *,
        groups: tuple[Labels, Labels] | None,
        keys: tuple[Labels, Labels] | None,
        exclude: RowLists | None,
        forbidden: Labels | None,
        recipe: Recipe,
        n_threads: int | None,
        progress: Wanted,
    ) -> None:
        self._begin(queries, corpus, recipe, n_threads, progress)
        if self.recipe.rules.exclude_self and len(self.queries) != len(self.corpus):
            raise InvalidValueError(
                f"queries must have as many rows as the corpus with exclude_self=True, got {len(self.queries)} and "
                f"{len(self.corpus)}; use exclude= to name the rows"
            )
        self.known = self._known(positives, groups, keys, exclude, forbidden)
        self.prepared = time.perf_counter()

    @classmethod
    def of_known(
        cls,
        queries: Embeddings,
        corpus: Embeddings,
        known: dict[str, Any],
        *,
        recipe: Recipe,
        n_threads: int | None,
        progress: Wanted,
    ) -> Self:
        """Make a call whose ids are those of an earlier one."""
        call = cls.__new__(cls)
        call._begin(queries, corpus, recipe, n_threads, progress)
        call.known = known
        call.prepared = time.perf_counter()
        return call

    def _begin(
        self, queries: Embeddings, corpus: Embeddings, recipe: Recipe, n_threads: int | None, progress: Wanted
    ) -> None:
        self.started = time.perf_counter()
        self.progress = progress_bar.wish(progress)
        self.queries = inputs.embeddings("queries", queries)
        self.corpus = self.queries if corpus is queries else inputs.embeddings("corpus", corpus)
        self.dtype = inputs.dtype_name(corpus)
        self.recipe = self._complete(recipe, same=queries is corpus)
        self.n_threads = threads.resolve(n_threads)
        self.settings = core_settings(self.recipe)

    def _complete(self, recipe: Recipe, *, same: bool) -> Recipe:
        """Fill in the rules whose default depends on other arguments."""
        exclude_self = same if recipe.rules.exclude_self is None else recipe.rules.exclude_self
        rules = replace(recipe.rules, range_max=recipe.last_rank, exclude_self=exclude_self)
        return replace(recipe, rules=rules)

    def _known(
        self,
        positives: RowLists,
        groups: tuple[Labels, Labels] | None,
        keys: tuple[Labels, Labels] | None,
        exclude: RowLists | None,
        forbidden: Labels | None,
    ) -> dict[str, Any]:
        n_queries, n_corpus = len(self.queries), len(self.corpus)
        return {
            "positives": inputs.row_lists("positives", positives, n_queries),
            "keys": None if keys is None else inputs.label_pair("keys", keys),
            "groups": None if groups is None else inputs.label_pair("groups", groups),
            "exclude": None if exclude is None else inputs.row_lists("exclude", exclude, n_queries),
            "forbidden": None if forbidden is None else inputs.forbidden_mask(forbidden, n_corpus),
        }

    def result(
        self,
        core: dict[str, Any],
        search: SearchReport,
        *,
        refresh: RefreshReport | None = None,
        **given: NDArray[Any] | None,
    ) -> MinedNegatives:
        """Wrap what the compiled module returned; `given` are the arrays of the call that no field here holds."""
        searched = time.perf_counter()
        fingerprints = {**self._fingerprints(), **inputs.fingerprints(**given)}
        report = replace(self._report(core, search), refresh=refresh)
        done = time.perf_counter()
        report.seconds.update(
            prepare=self.prepared - self.started,
            search=searched - self.prepared,
            report=done - searched,
            total=done - self.started,
        )
        arrays = {name: core[name] for name in Lists._fields}
        anchors = given.get("anchors")
        if anchors is None:
            anchors = np.arange(len(self.queries))
        return MinedNegatives(anchors=anchors, **arrays, report=report, recipe=self.recipe, fingerprints=fingerprints)

    def _fingerprints(self) -> dict[str, str]:
        known = self.known
        arrays = {"queries": self.queries, "corpus": self.corpus, "forbidden": known["forbidden"]}
        for name in ("positives", "exclude"):
            arrays |= _parts(name, known[name])
        for name in ("keys", "groups"):
            if known[name] is not None:
                of_queries, of_corpus = known[name]
                arrays |= _parts(f"{name}_of_queries", of_queries) | _parts(f"{name}_of_corpus", of_corpus)
        return inputs.fingerprints(**arrays)

    def _report(self, core: dict[str, Any], search: SearchReport) -> Report:
        known = self.known["keys"] is not None or self.known["groups"] is not None
        return summarise(
            Lists(*(core[name] for name in Lists._fields)),
            recipe=self.recipe,
            search=search,
            n_corpus=len(self.corpus),
            dim=self.corpus.shape[1],
            dtype=self.dtype,
            removed=core["removed"],
            anchors_deepened=core["deepened"],
            suspects=Suspects(*(core[f"suspect_{part}"] for part in ("anchors", "positives", "scores", "ranks"))),
            false_negatives=FalseNegatives(*core["false_negatives"]) if known else None,
        )


def _parts(name: str, value: Any) -> dict[str, Any]:
    """Return the arrays that an argument consists of, by name: an array alone or a CSR tuple."""
    if not isinstance(value, tuple):
        return {name: value}
    return {f"{name}_indptr": value[0], f"{name}_indices": value[1]}
