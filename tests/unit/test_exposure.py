"""`max_exposure`: deferred acceptance between anchors and rows."""

from typing import Any

import numpy as np
import pytest

import negfast
import oracle


def market(n: int, rows: int, seed: int) -> tuple[Any, Any, list[list[int]]]:
    """Make anchors that crowd around the same few rows, with many equal scores."""
    rng = np.random.default_rng(seed)
    queries = rng.integers(0, 3, (n, 3)).astype(np.float32)
    corpus = rng.integers(0, 3, (rows, 3)).astype(np.float32)
    return queries, corpus, [[int(p)] for p in rng.integers(0, rows, n)]


def test_worked_example() -> None:
    """Three anchors, two slots each, rows that may serve twice.

    Scores (dot)    row 0  1  2  3        wishes in order
    anchor 0            9  5  4  1        0 1 2 3
    anchor 1            8  6  3  2        0 1 2 3
    anchor 2            7  7  2  1        0 1 2 3

    Row 0 keeps anchors 0 and 1 (9, 8) and turns 2 away; row 1 keeps 2 and 1 (7, 6) and turns 0 away;
    anchor 0 goes on to row 2, anchor 2 to row 2 as well, which may serve both.
    """
    queries = np.eye(3, dtype=np.float32)
    corpus = np.array([[9, 8, 7], [5, 6, 7], [4, 3, 2], [1, 2, 1]], dtype=np.float32)
    mined = negfast.mine(
        queries,
        corpus,
        [[], [], []],
        num_negatives=2,
        metric="dot",
        rules=negfast.Rules(max_exposure=2),
    )
    assert mined.indices.tolist() == [[0, 2], [0, 1], [1, 2]]
    assert mined.report.removed["max_exposure"] == 2


def test_lower_anchor_wins_a_tie() -> None:
    queries = np.ones((3, 1), dtype=np.float32)
    corpus = np.ones((2, 1), dtype=np.float32)
    mined = negfast.mine(queries, corpus, [[]] * 3, num_negatives=1, rules=negfast.Rules(max_exposure=1))
    assert mined.indices.tolist() == [[0], [1], [-1]]
    assert mined.report.anchors_underfilled == 1
    assert mined.report.missing_negatives == 1
    assert mined.report.removed["max_exposure"] == 1 + 2  # anchor 1 by row 0, anchor 2 by both


def test_a_search_goes_as_deep_as_it_must() -> None:
    """Every anchor wants the same rows in the same order; the last one ends deep in the corpus."""
    rng = np.random.default_rng(4)
    corpus = rng.standard_normal((1500, 6)).astype(np.float32)
    queries = np.tile(rng.standard_normal((1, 6)).astype(np.float32), (300, 1))
    mined = negfast.mine(queries, corpus, [[]] * 300, num_negatives=5, rules=negfast.Rules(max_exposure=1))
    order, _ = oracle.topk(queries[:1], corpus, 1500)
    np.testing.assert_array_equal(mined.indices.ravel(), order[0])
    assert mined.report.missing_negatives == 0


@pytest.mark.parametrize("capacity", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_oracle_and_is_stable(seed: int, capacity: int) -> None:
    queries, corpus, positives = market(25, 30, seed)
    options: dict[str, Any] = {"max_exposure": capacity, "relative_margin": None}
    mined = negfast.mine(queries, corpus, positives, num_negatives=4, metric="dot", rules=negfast.Rules(**options))
    want = oracle.mine(queries, corpus, positives, num_negatives=4, metric="dot", rules=oracle.Rules(**options))
    oracle.assert_same(mined, want)
    holds = [[int(row) for row in rows if row >= 0] for rows in mined.indices]
    assert np.bincount([row for rows in holds for row in rows]).max() <= capacity
    scores = oracle.score_matrix(queries, corpus, "dot")
    assert oracle.blocking_pairs(holds, want.pools, scores, 4, capacity) == []


@pytest.mark.parametrize("draw", ["random", negfast.Softmax(0.5), negfast.SimANS(1.0)])
def test_no_row_serves_more_whatever_the_draw(draw: Any) -> None:
    queries, corpus, positives = market(40, 60, 9)
    mined = negfast.mine(
        queries,
        corpus,
        positives,
        num_negatives=2,
        rules=negfast.Rules(max_exposure=2, relative_margin=None),
        draw=draw,
    )
    used = mined.indices[mined.indices >= 0]
    assert np.bincount(used).max() <= 2
    want = oracle.mine(queries, corpus, positives, num_negatives=2, rules=oracle.Rules(relative_margin=None), window=20)
    for anchor, pool in enumerate(want.pools):
        row = mined.indices[anchor]
        assert set(row[row >= 0].tolist()) <= set(pool)
        missing = int((row < 0).sum())
        if missing:  # an anchor goes short only when everything left in its window is taken
            full = {r for r in pool if np.count_nonzero(used == r) >= 2 or r in row}
            assert full == set(pool)


def test_a_wide_capacity_changes_nothing() -> None:
    queries, corpus, positives = market(25, 30, 1)
    free = negfast.mine(queries, corpus, positives, num_negatives=4, rules=negfast.Rules())
    wide = negfast.mine(queries, corpus, positives, num_negatives=4, rules=negfast.Rules(max_exposure=25))
    np.testing.assert_array_equal(free.indices, wide.indices)
    assert wide.report.removed["max_exposure"] == 0


def test_distinct_is_decided_before_exposure() -> None:
    """A copy stays out even when the row it copies went to someone else."""
    queries = np.ones((2, 1), dtype=np.float32)
    corpus = np.array([[1.0], [1.0], [-1.0]], dtype=np.float32)
    mined = negfast.mine(
        queries,
        corpus,
        [[], []],
        num_negatives=1,
        rules=negfast.Rules(max_exposure=1, distinct=0.9),
    )
    assert mined.indices.tolist() == [[0], [2]]
    assert mined.report.removed["distinct"] == 1  # for the first anchor it ranks after the last negative
    assert mined.report.removed["max_exposure"] == 1


def test_threads_agree() -> None:
    queries, corpus, positives = market(60, 80, 2)
    results = [
        negfast.mine(
            queries,
            corpus,
            positives,
            num_negatives=3,
            rules=negfast.Rules(max_exposure=2),
            n_threads=threads,
        ).indices
        for threads in (1, 2, 7)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
