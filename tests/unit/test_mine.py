"""`mine`, one rule at a time, on examples small enough to check by hand."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import negfast
import oracle

Ladder = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

# The ladder fixture: one anchor; rows 0 to 5 score 1, .75, .5, .25, 0, -.25 (dot).
OFF = negfast.Rules(relative_margin=None)


def mine_ladder(ladder: Ladder, positives: Any, rules: negfast.Rules = OFF, **options: Any) -> Any:
    options = {"num_negatives": 3, "metric": "dot"} | options
    return negfast.mine(*ladder, positives, rules=rules, **options)


def counts(mined: negfast.MinedNegatives) -> dict[str, int]:
    return {rule: count for rule, count in mined.report.removed.items() if count}


def test_best_first_with_scores_and_types(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[0]])
    assert mined.indices.tolist() == [[1, 2, 3]]
    assert mined.scores.tolist() == [[0.75, 0.5, 0.25]]
    assert mined.positive_scores.tolist() == [1.0]
    assert mined.indices.dtype == np.int64
    assert mined.scores.dtype == np.float32
    assert mined.positive_scores.dtype == np.float32
    assert mined.tiers.dtype == np.uint8


def test_removed_has_every_rule_in_order(ladder: Ladder) -> None:
    assert tuple(mine_ladder(ladder, [[0]]).report.removed) == oracle.RULES


def test_padding_where_the_corpus_runs_out(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[0]], num_negatives=7)
    assert mined.indices.tolist() == [[1, 2, 3, 4, 5, -1, -1]]
    assert mined.scores[0, 5:].tolist() == [-np.inf, -np.inf]
    assert mined.tiers[0, 5:].tolist() == [0, 0]
    assert mined.report.anchors_underfilled == 1
    assert mined.report.missing_negatives == 2


def test_equal_scores_go_to_the_lower_index() -> None:
    corpus = np.ones((40, 3), dtype=np.float32)
    mined = negfast.mine(corpus[:1], corpus, [[2]], num_negatives=4, rules=OFF)
    assert mined.indices.tolist() == [[0, 1, 3, 4]]


@pytest.mark.parametrize(
    "positives",
    [
        np.array([[1, 0, 1, -1]]),
        [[1, 0, 1]],
        [np.array([0, 1])],
        (np.array([0, 3]), np.array([1, 0, 1])),
        np.array([[-1, 1, -1, 0]]),
    ],
    ids=["padded", "lists", "list of arrays", "csr", "padding between"],
)
def test_every_positive_is_dropped_in_every_container(ladder: Ladder, positives: Any) -> None:
    mined = mine_ladder(ladder, positives)
    assert mined.indices.tolist() == [[2, 3, 4]]
    assert mined.positive_scores.tolist() == [0.75]
    assert counts(mined) == {"positive": 2}


def test_one_positive_each_as_a_flat_array() -> None:
    rows = np.eye(3, dtype=np.float32)
    mined = negfast.mine(rows, rows.copy(), np.array([1, -1, 0]), num_negatives=2, rules=OFF)
    assert mined.indices.tolist() == [[0, 2], [1, 0], [2, 1]]
    assert mined.report.anchors_without_positive == 1


def test_anchor_without_positive_skips_the_margins(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[]], negfast.Rules(relative_margin=0.5, absolute_margin=0.5))
    assert mined.indices.tolist() == [[0, 1, 2]]
    assert np.isnan(mined.positive_scores).all()
    assert mined.tiers.tolist() == [[0, 0, 0]]
    assert mined.report.anchors_without_positive == 1


def test_anchor_without_positive_keeps_the_score_bounds(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[]], negfast.Rules(max_score=0.6, min_score=0.1))
    assert mined.indices.tolist() == [[2, 3, -1]]


# ------------------------------------------------------------------------------------------ identity rules


def test_transitive_is_one_hop_and_stays_out_of_the_margin(ladder: Ladder) -> None:
    _, corpus = ladder
    queries = np.ones((3, 1), dtype=np.float32)
    # anchors 0 and 1 share row 3, anchors 1 and 2 share row 5: row 4 is two hops from anchor 0
    positives = [[3], [3, 5], [5, 4]]
    near = negfast.mine(queries, corpus, positives, num_negatives=2, metric="dot", rules=OFF)
    far = negfast.mine(
        queries,
        corpus,
        positives,
        num_negatives=6,
        metric="dot",
        rules=negfast.Rules(relative_margin=None, transitive=True),
    )
    assert near.indices[0].tolist() == [0, 1]
    assert far.indices[0].tolist() == [0, 1, 2, 4, -1, -1]
    assert far.indices[1].tolist() == [0, 1, 2, -1, -1, -1]
    assert far.indices[2].tolist() == [0, 1, 2, -1, -1, -1]
    assert far.positive_scores.tolist() == [0.25, -0.25, -0.25]
    # every one of these relatives scores below the last negative, except row 3 of anchor 0
    assert counts(far) == {"positive": 1}


def test_self_is_dropped_when_queries_are_the_corpus() -> None:
    rows = np.eye(4, dtype=np.float32)
    rows[:, 0] = 1
    mined = negfast.mine(rows, rows, [[1], [0], [3], [2]], num_negatives=3, rules=OFF)
    for anchor in range(4):
        assert anchor not in mined.indices[anchor]
    assert mined.report.removed["self"] == 4
    copied = negfast.mine(rows, rows.copy(), [[1], [0], [3], [2]], num_negatives=3, rules=OFF)
    assert copied.report.removed["self"] == 0
    forced = negfast.mine(
        rows,
        rows.copy(),
        [[1], [0], [3], [2]],
        num_negatives=3,
        rules=negfast.Rules(relative_margin=None, exclude_self=True),
    )
    np.testing.assert_array_equal(forced.indices, mined.indices)
    kept = negfast.mine(
        rows,
        rows,
        [[1], [0], [3], [2]],
        num_negatives=3,
        rules=negfast.Rules(relative_margin=None, exclude_self=False),
    )
    assert kept.indices[1, 0] == 1


@pytest.mark.parametrize("name", ["keys", "groups"])
def test_label_of_the_anchor_or_of_a_positive(ladder: Ladder, name: str) -> None:
    labels = (np.array([7]), np.array([7, 1, 2, 1, -1, -1]))
    mined = mine_ladder(ladder, [[3]], **{name: labels})
    assert mined.indices.tolist() == [[2, 4, 5]]
    assert counts(mined) == {"positive": 1, name[:-1]: 2}


@pytest.mark.parametrize("name", ["keys", "groups"])
def test_labels_in_columns_are_a_set(ladder: Ladder, name: str) -> None:
    query_labels = np.array([[7, 8, -1]])
    corpus_labels = np.array([[-1, 8], [5, 7], [1, 2], [9, 1], [2, 9], [-1, -1]])
    mined = mine_ladder(ladder, [[4]], **{name: (query_labels, corpus_labels)})
    # rows 0 and 1 share with the anchor, rows 2 and 3 with its positive (2 and 9)
    assert mined.indices.tolist() == [[5, -1, -1]]
    assert mined.report.removed[name[:-1]] == 4


def test_minus_one_is_no_label(ladder: Ladder) -> None:
    none = (np.array([-1]), np.full(6, -1))
    assert mine_ladder(ladder, [[0]], groups=none, keys=none).indices.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    "exclude",
    [np.array([[2, 1, 2, -1]]), [[2, 1, 2]], (np.array([0, 3]), np.array([2, 1, 2]))],
    ids=["padded", "lists", "csr"],
)
def test_exclude(ladder: Ladder, exclude: Any) -> None:
    mined = mine_ladder(ladder, [[0]], exclude=exclude)
    assert mined.indices.tolist() == [[3, 4, 5]]
    assert counts(mined) == {"positive": 1, "exclude": 2}


@pytest.mark.parametrize(
    "forbidden",
    [
        np.array([1, 4, 1]),
        np.array([False, True, False, False, True, False]),
        [1, 4],
        [False, True, False, False, True, False],
    ],
    ids=["indices", "mask", "list", "list of truths"],
)
def test_forbidden(ladder: Ladder, forbidden: Any) -> None:
    mined = mine_ladder(ladder, [[0]], forbidden=forbidden)
    assert mined.indices.tolist() == [[2, 3, 5]]
    assert counts(mined) == {"positive": 1, "forbidden": 2}


def test_first_rule_in_the_documented_order_takes_the_count(ladder: Ladder) -> None:
    everything = np.arange(6)
    same = (np.array([1]), np.ones(6, dtype=np.int64))
    options: dict[str, Any] = {
        "keys": same,
        "groups": same,
        "exclude": [everything],
        "forbidden": everything,
    }
    rules = negfast.Rules(relative_margin=0.9, absolute_margin=5.0, max_score=-2.0)
    for expected, drop in [
        ("key", "keys"),
        ("group", "groups"),
        ("exclude", "exclude"),
        ("forbidden", "forbidden"),
    ]:
        mined = mine_ladder(ladder, [[0]], rules, **options)
        assert counts(mined) == {"positive": 1, expected: 5}
        assert (mined.indices == -1).all()
        del options[drop]
    assert counts(mine_ladder(ladder, [[0]], rules)) == {
        "positive": 1,
        "relative_margin": 3,
        "absolute_margin": 2,
    }
    bounds = negfast.Rules(relative_margin=None, max_score=0.6, min_score=0.6)
    assert counts(mine_ladder(ladder, [[0]], bounds)) == {"positive": 1, "max_score": 1, "min_score": 4}


# --------------------------------------------------------------------------------------------- score rules


def test_relative_margin_keeps_equality(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[0]], negfast.Rules(relative_margin=0.25))  # cap .75
    assert mined.indices.tolist() == [[1, 2, 3]]
    mined = mine_ladder(ladder, [[0]], negfast.Rules(relative_margin=0.26))
    assert mined.indices.tolist() == [[2, 3, 4]]
    assert counts(mined) == {"positive": 1, "relative_margin": 1}


def test_relative_margin_with_a_negative_positive_score(ladder: Ladder) -> None:
    """The cap lies below a negative score: -.25 - .25 * .5; nothing may be harder than the positive."""
    mined = mine_ladder(ladder, [[5]], negfast.Rules(relative_margin=0.5))
    assert (mined.indices == -1).all()
    assert counts(mined) == {"positive": 1, "relative_margin": 5}


def test_margin_uses_the_lowest_positive(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[0, 3]], negfast.Rules(relative_margin=0.0))
    assert mined.indices.tolist() == [[4, 5, -1]]


def test_absolute_margin_keeps_equality(ladder: Ladder) -> None:
    rules = negfast.Rules(relative_margin=None, absolute_margin=0.5)
    assert mine_ladder(ladder, [[0]], rules).indices.tolist() == [[2, 3, 4]]


def test_score_bounds_keep_equality(ladder: Ladder) -> None:
    rules = negfast.Rules(relative_margin=None, max_score=0.5, min_score=0.25)
    mined = mine_ladder(ladder, [[0]], rules)
    assert mined.indices.tolist() == [[2, 3, -1]]
    assert counts(mined) == {"positive": 1, "max_score": 1}  # rows below the last negative are not counted


def test_min_score_counts_when_nothing_is_returned(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[0]], negfast.Rules(relative_margin=None, min_score=0.9))
    assert counts(mined) == {"positive": 1, "min_score": 5}


def test_duplicate_of_positive_is_judged_between_corpus_rows(circle: Any) -> None:
    corpus = circle(0, 10, 120, 60)  # the positive is row 0
    queries = circle(50)
    rules = negfast.Rules(relative_margin=None, duplicate_of_positive=0.97)  # cos 10 deg is .985
    mined = negfast.mine(queries, corpus, [[0]], num_negatives=3, rules=rules)
    assert mined.indices.tolist() == [[3, 2, -1]]
    # the anchor is 10 degrees from row 3, 40 from row 1, 50 from the positive and 70 from row 2
    assert counts(mined) == {"positive": 1, "duplicate_of_positive": 1}


# ---------------------------------------------------------------------------------------------- list rules


def test_range_counts_allowed_rows_only(ladder: Ladder) -> None:
    rules = negfast.Rules(relative_margin=None, range_min=1, range_max=4)
    mined = mine_ladder(ladder, [[0]], rules, forbidden=[2])
    assert mined.indices.tolist() == [[3, 4, 5]]
    assert counts(mined) == {"positive": 1, "forbidden": 1, "range_min": 1}


def test_range_max_bounds_top(ladder: Ladder) -> None:
    rules = negfast.Rules(relative_margin=None, range_max=3, distinct=0.5)
    # all rows but the zero row are parallel: one of the window survives
    mined = mine_ladder(ladder, [[0]], rules)
    assert mined.indices.tolist() == [[1, -1, -1]]
    assert mined.report.removed["distinct"] == 0  # both dropped rows score below the last negative


def test_distinct_is_greedy_in_rank_order(circle: Any) -> None:
    corpus = circle(10, 20, 30, 40, 50)
    rules = negfast.Rules(relative_margin=None, distinct=0.97)  # cos 10 is .985, cos 20 is .94
    mined = negfast.mine(circle(0), corpus, [[]], num_negatives=3, rules=rules)
    assert mined.indices.tolist() == [[0, 2, 4]]
    assert counts(mined) == {"distinct": 2}


def test_copies_after_the_last_negative_do_not_count(ladder: Ladder) -> None:
    corpus = np.array([[1.0], [-1.0], [-1.0], [-1.0]], dtype=np.float32)
    rules = negfast.Rules(relative_margin=None, distinct=0.9)
    mined = negfast.mine(ladder[0], corpus, [[]], num_negatives=2, rules=rules)
    assert mined.indices.tolist() == [[0, 1]]
    assert counts(mined) == {}  # both score as much as the last negative, and rank after it


def test_distinct_searches_on_past_copies() -> None:
    """Hundreds of copies of the hardest row must not keep the list from being filled."""
    corpus = np.concatenate([np.tile([[1.0, 0.1]], (700, 1)), [[0.5, 0.5], [0.1, 1.0]]]).astype(np.float32)
    queries = np.array([[1.0, 0.0]], dtype=np.float32)
    rules = negfast.Rules(relative_margin=None, distinct=0.99)
    mined = negfast.mine(queries, corpus, [[]], num_negatives=3, rules=rules)
    assert mined.indices.tolist() == [[0, 700, 701]]
    assert counts(mined) == {"distinct": 699}


# --------------------------------------------------------------------------------------- tiers and draws


@pytest.mark.parametrize("max_exposure", [None, 3])
def test_distinct_among_crowds_of_copies(max_exposure: int | None) -> None:
    # More copies of one row than a list of its copies holds, and enough long lists that such lists are made.
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((6, 16)).astype(np.float32)
    corpus = np.concatenate([np.repeat(centres, 90, axis=0), rng.standard_normal((60, 16)).astype(np.float32)])
    corpus[::7] += np.float32(0.1) * rng.standard_normal((len(corpus[::7]), 16)).astype(np.float32)
    queries = rng.standard_normal((40, 16)).astype(np.float32)
    positives = rng.integers(0, len(corpus), 40)
    rules = negfast.Rules(relative_margin=None, distinct=0.98, max_exposure=max_exposure)
    mined = negfast.mine(queries, corpus, positives, num_negatives=5, rules=rules)
    oracle.assert_same(mined, oracle.mine(queries, corpus, [[p] for p in positives], num_negatives=5, rules=rules))


def test_tiers_keep_their_edges(ladder: Ladder) -> None:
    mined = mine_ladder(ladder, [[1]], num_negatives=5, tiers=negfast.Tiers(hard=-0.25, semi_hard=-0.75))
    # hardness .25, -.25, -.5, -.75, -1
    assert mined.indices.tolist() == [[0, 2, 3, 4, 5]]
    assert mined.tiers.tolist() == [[3, 3, 2, 2, 1]]


@pytest.mark.parametrize("draw", ["random", negfast.Softmax(0.1), negfast.SimANS(2.0, 0.1)])
def test_a_draw_of_everything_is_the_window_in_rank_order(ladder: Ladder, draw: Any) -> None:
    rules = negfast.Rules(relative_margin=None, range_min=1, range_max=4)
    mined = mine_ladder(ladder, [[0]], rules, draw=draw)
    assert mined.indices.tolist() == [[2, 3, 4]]
    assert mined.scores.tolist() == [[0.5, 0.25, 0.0]]


@pytest.mark.parametrize("draw", ["random", negfast.Softmax(1.0), negfast.SimANS(0.1)])
def test_other_draws_default_to_a_window_of_ten_times(draw: Any) -> None:
    corpus = np.arange(100, 0, -1, dtype=np.float32)[:, None]
    queries = np.ones((300, 1), dtype=np.float32)
    rules = negfast.Rules(relative_margin=None, range_min=3)
    mined = negfast.mine(queries, corpus, [[]] * 300, num_negatives=2, metric="dot", rules=rules, draw=draw)
    assert mined.indices.min() >= 3
    assert mined.indices.max() < 23
    assert (mined.indices[:, 0] < mined.indices[:, 1]).all()  # always sorted by score


# ----------------------------------------------------------------------------------------------- the edges


@pytest.mark.parametrize(("n", "rows"), [(0, 5), (4, 0), (0, 0)])
def test_empty_inputs_are_legal(n: int, rows: int) -> None:
    mined = negfast.mine(
        np.ones((n, 3), np.float32), np.ones((rows, 3), np.float32), [[] for _ in range(n)], num_negatives=2
    )
    assert mined.indices.shape == (n, 2)
    assert mined.scores.shape == (n, 2)
    assert mined.tiers.shape == (n, 2)
    assert mined.positive_scores.shape == (n,)
    if rows == 0:
        assert (mined.indices == -1).all()
        assert mined.report.missing_negatives == 2 * n
    str(mined.report)
    repr(mined)


@pytest.mark.parametrize("empty", [np.zeros((3, 0), np.int64), [[], [], []]], ids=["zero columns", "lists"])
def test_no_positives_at_all(empty: Any) -> None:
    rows = np.eye(3, dtype=np.float32)
    mined = negfast.mine(rows, rows, empty, num_negatives=2)
    assert mined.report.anchors_without_positive == 3


def test_zero_row_scores_zero_with_everything() -> None:
    corpus = np.array([[0, 0], [1, 0], [-1, 0]], dtype=np.float32)
    mined = negfast.mine(np.array([[1, 0], [0, 0]], np.float32), corpus, [[], []], num_negatives=3, rules=OFF)
    assert mined.indices.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert mined.scores.tolist() == [[1, 0, -1], [0, 0, 0]]


def test_cosine_of_huge_and_tiny_rows_is_exact() -> None:
    """Products that overflow or vanish in float32 must not disturb what is nominated."""
    rng = np.random.default_rng(11)
    base = rng.standard_normal((40, 9)).astype(np.float32)
    scale = (10.0 ** rng.integers(-30, 31, (40, 1))).astype(np.float32)
    rows = (base * scale).astype(np.float32)
    positives = [[int(p)] for p in rng.integers(0, 40, 40)]
    mined = negfast.mine(rows, rows, positives, num_negatives=6)
    want = oracle.mine(rows, rows, positives, num_negatives=6, rules=oracle.Rules(exclude_self=True))
    oracle.assert_same(mined, want)


def test_dot_of_huge_and_tiny_rows_is_exact() -> None:
    rng = np.random.default_rng(12)
    base = rng.standard_normal((40, 17)).astype(np.float32)
    scale = (10.0 ** rng.integers(-18, 18, (40, 1))).astype(np.float32)
    rows = (base * scale).astype(np.float32)
    mined = negfast.mine(rows[:10], rows, [[]] * 10, num_negatives=20, metric="dot")
    oracle.assert_same(mined, oracle.mine(rows[:10], rows, [[]] * 10, num_negatives=20, metric="dot"))


def test_nearly_equal_scores_are_ordered_by_the_exact_score() -> None:
    """Rows whose scores differ by less than float32 accumulation error."""
    rng = np.random.default_rng(13)
    base = rng.standard_normal(384).astype(np.float32)
    corpus = np.tile(base, (500, 1))
    corpus[np.arange(500), rng.integers(0, 384, 500)] *= np.float32(1 + 2**-20)
    queries = (base + 0.01 * rng.standard_normal((3, 384))).astype(np.float32)
    mined = negfast.mine(queries, corpus, [[]] * 3, num_negatives=40)
    oracle.assert_same(mined, oracle.mine(queries, corpus, [[]] * 3, num_negatives=40))


def test_the_arguments_after_the_arrays_are_keyword_only(ladder: Ladder) -> None:
    with pytest.raises(TypeError):
        negfast.mine(*ladder, [[0]], 3)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["groups", "keys"])
@pytest.mark.parametrize(
    "of_corpus",
    [
        [[], [7, 8], [5], [], [9], [8]],
        (np.array([0, 0, 2, 3, 3, 4, 5]), np.array([7, 8, 5, 9, 8])),
        ([0, 0, 2, 3, 3, 4, 5], [7, 8, 5, 9, 8]),
        [np.array([], dtype=int), np.array([7, 8]), (5,), [-1], [9, -1], [8]],
        np.array([[-1, -1], [7, 8], [5, -1], [-1, -1], [9, -1], [8, 8]]),
    ],
    ids=["lists", "csr", "csr of lists", "mixed lists", "columns"],
)
def test_labels_in_every_container(ladder: Ladder, name: str, of_corpus: Any) -> None:
    """The anchor has labels 3 and 9, its positive 7 and 8; each side comes in a container of its own."""
    for of_queries in (np.array([[3, 9]]), [[3, 9]], ([0, 2], [3, 9])):
        mined = mine_ladder(ladder, [[1]], **{name: (of_queries, of_corpus)})
        assert mined.indices.tolist() == [[0, 2, 3]]
        mined = mine_ladder(ladder, [[1]], num_negatives=6, **{name: [of_queries, of_corpus]})
        assert mined.indices.tolist() == [[0, 2, 3, -1, -1, -1]]


def test_ragged_labels_are_part_of_the_record(ladder: Ladder) -> None:
    def record(of_corpus: Any) -> dict[str, str]:
        fingerprints = mine_ladder(ladder, [[1]], groups=([[3]], of_corpus)).fingerprints
        return {name: value for name, value in fingerprints.items() if name.startswith("groups")}

    first = record([[1], [], [], [], [], [2]])
    assert len(first) == 4
    assert first == record(([0, 1, 1, 1, 1, 1, 2], [1, 2]))
    assert first != record([[1], [], [], [], [2], []])
