"""Methods of a search on sizes at which they leave out, join and estimate: against the exact one."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import negfast
from negfast import Rules, Search

N, DIM = 4500, 40
CERTIFIED = Search(method="certified")
EXACT = Search(method="exact")


def clustered(n: int, seed: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Rows around 60 centres, a spectrum that falls, and some copies."""
    rng = np.random.default_rng(seed)
    scales = np.exp(-np.arange(DIM) / 12)
    centres = np.random.default_rng(99).standard_normal((60, DIM)) * scales
    rows = centres[rng.integers(60, size=n)] + 0.5 * rng.standard_normal((n, DIM)) * scales
    rows[: n // 20] = rows[-(n // 20) :]
    return np.ascontiguousarray(rows, dtype=dtype)


def same(a: Any, b: Any) -> bool:
    return bool((a.indices == b.indices).all() and (a.scores.view(np.uint32) == b.scores.view(np.uint32)).all())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_a_join_finds_what_brute_force_finds(level: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEGFAST_SIMD", level)
    rows = clustered(N, 0, dtype)
    rows[7] = 0
    expected = negfast.topk(rows, rows, 12, search=EXACT)
    for n_threads in (1, 2, 7):
        joined = negfast.topk(rows, rows, 12, search=CERTIFIED, n_threads=n_threads)
        assert same(joined, expected)
        # Each pair once, but for the first lists and the blocks themselves.
        assert joined.report.search.rows_scanned < 0.85 * N * N
    assert same(negfast.topk(rows, rows.copy(), 12, search=CERTIFIED), expected)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_a_join_under_rules_mines_what_brute_force_mines(metric: Any) -> None:
    rows = clustered(N, 1)
    positives = (np.arange(N) + 1) % N
    groups = np.arange(N) // 3
    rules = Rules(relative_margin=0.02, distinct=0.99, max_score=0.98 if metric == "cosine" else None, max_exposure=40)
    arguments: dict[str, Any] = {"groups": (groups, groups), "rules": rules, "metric": metric, "suspect_rank": 50}
    expected = negfast.mine(rows, rows, positives, search=EXACT, **arguments)
    mined = negfast.mine(rows, rows, positives, search=CERTIFIED, **arguments)
    assert same(mined, expected)
    assert mined.report.removed == expected.report.removed
    assert (mined.positive_ranks == expected.positive_ranks).all()
    assert (mined.report.suspects.ranks == expected.report.suspects.ranks).all()
    assert mined.report.search.method == "certified" and mined.report.search.recall == 1.0


@pytest.mark.parametrize("method", ["signatures", "clusters"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_recall_is_what_was_asked_on_any_number_of_threads(method: Any, metric: Any) -> None:
    queries, corpus = clustered(2500, 2), clustered(N, 3)
    expected = negfast.topk(queries, corpus, 20, metric=metric, search=EXACT)
    search = Search(recall=0.95, method=method)
    found = [negfast.topk(queries, corpus, 20, metric=metric, search=search, n_threads=n) for n in (1, 2, 7)]
    assert all(same(other, found[0]) for other in found)
    report = found[0].report.search
    recall = float((found[0].scores >= expected.scores[:, -1:]).mean())
    # What was measured on some anchors holds for all, but for five standard errors: once in a million runs.
    low, high = report.recall_interval
    error = (high - low) / 4
    assert report.recall_interval[0] >= 0.95
    assert abs(recall - report.recall) <= 5 * error
    rows = np.sort(found[0].indices, axis=1)
    assert (rows[:, 1:] != rows[:, :-1]).all()
    best = np.take_along_axis(expected.scores, np.zeros((2500, 1), np.int64), axis=1)
    assert (found[0].scores <= best).all()


def test_an_approximate_search_keeps_to_the_rules() -> None:
    queries, corpus = clustered(2500, 4), clustered(N, 5)
    positives, groups = np.arange(2500), np.arange(N) // 2
    forbidden = np.arange(0, N, 7)
    arguments: dict[str, Any] = {
        "groups": (groups[:2500], groups), "forbidden": forbidden, "rules": Rules(max_score=0.9), "draw": "random",
    }  # fmt: skip
    mined = negfast.mine(queries, corpus, positives, search=Search(recall=0.9, method="clusters"), **arguments)
    expected = negfast.mine(queries, corpus, positives, search=EXACT, **arguments)
    # Whoever finds too few looks everywhere.
    chosen = mined.indices >= 0
    assert (chosen.sum(axis=1) == (expected.indices >= 0).sum(axis=1)).all()
    assert mined.scores.max() <= np.float32(0.9) and not np.isin(mined.indices, forbidden).any()
    assert ((groups[mined.indices] != groups[positives][:, None]) | ~chosen).all()
    assert mined.report.search.method in ("clusters", "certified")


@pytest.mark.parametrize("method", ["certified", "signatures", "clusters"])
def test_memory_is_refused_before_work_starts(method: Any) -> None:
    rows = clustered(N, 6)
    search = Search(recall=0.9, method=method, max_memory=200_000)
    with pytest.raises(negfast.InvalidValueError, match=rf"search\.max_memory must be at least \d+ bytes .*{method}"):
        negfast.topk(rows, rows.copy(), 10, search=search, n_threads=1)
    enough = Search(recall=0.9, method=method, max_memory=40_000_000)
    assert negfast.topk(rows, rows.copy(), 10, search=enough).report.search.working_bytes <= 40_000_000
