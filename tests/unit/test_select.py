"""`select`: the rules and draws over candidate lists that came from elsewhere."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import negfast
import oracle

Ladder = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
OFF = negfast.Rules(relative_margin=None)


def select_ladder(ladder: Ladder, candidates: Any, positives: Any, rules: negfast.Rules = OFF, **options: Any) -> Any:
    options = {"num_negatives": 2, "metric": "dot"} | options
    return negfast.select(*ladder, candidates, positives, rules=rules, **options)


@pytest.mark.parametrize(
    "candidates",
    [np.array([[4, 2, 4, 0, -1]]), [[4, 2, 4, 0]], (np.array([0, 4]), np.array([4, 2, 4, 0]))],
    ids=["padded", "lists", "csr"],
)
def test_only_candidates_in_score_order(ladder: Ladder, candidates: Any) -> None:
    mined = select_ladder(ladder, candidates, [[0]], num_negatives=3)
    assert mined.indices.tolist() == [[2, 4, -1]]
    assert mined.scores.tolist() == [[0.5, 0.0, -np.inf]]
    assert mined.report.removed["positive"] == 1


def test_every_row_as_candidate_equals_mine(rows: Any) -> None:
    corpus, queries = rows(30, 5), rows(9, 5, seed=1)
    positives = [[i, i + 9] for i in range(9)]
    rules = negfast.Rules(relative_margin=0.1, distinct=0.9, max_exposure=2)
    mined = negfast.mine(queries, corpus, positives, num_negatives=3, rules=rules)
    shuffled = [np.random.default_rng(i).permutation(30) for i in range(9)]
    chosen = negfast.select(queries, corpus, shuffled, positives, num_negatives=3, rules=rules)
    np.testing.assert_array_equal(chosen.indices, mined.indices)
    np.testing.assert_array_equal(chosen.scores, mined.scores)
    np.testing.assert_array_equal(chosen.tiers, mined.tiers)
    assert chosen.report.removed == mined.report.removed


def test_given_scores_decide_order_margins_and_tiers(ladder: Ladder) -> None:
    given = np.array([[0.25, 3.0, 2.0, 1.0]], dtype=np.float32)
    mined = select_ladder(
        ladder,
        np.array([[1, 2, 3, 4]]),
        np.array([0]),
        negfast.Rules(relative_margin=0.25),
        scores=given,
        positive_scores=np.array([2.0], dtype=np.float32),
        tiers=negfast.Tiers(hard=-1.0, semi_hard=-1.5),
        num_negatives=3,
    )
    assert mined.indices.tolist() == [[4, 1, -1]]
    assert mined.scores.tolist() == [[1.0, 0.25, -np.inf]]
    assert mined.positive_scores.tolist() == [2.0]
    assert mined.tiers.tolist() == [[3, 1, 0]]
    assert mined.report.removed["relative_margin"] == 2


def test_first_of_repeated_candidates_gives_the_score(ladder: Ladder) -> None:
    mined = select_ladder(
        ladder,
        [[3, 2, 3]],
        [[0]],
        scores=[[1.0, 2.0, 3.0]],
        positive_scores=np.array([9.0], dtype=np.float32),
    )
    assert mined.indices.tolist() == [[2, 3]]
    assert mined.scores.tolist() == [[2.0, 1.0]]


def test_scores_as_csr_values(ladder: Ladder) -> None:
    mined = select_ladder(
        ladder,
        (np.array([0, 3]), np.array([1, 2, 3])),
        [[0]],
        scores=np.array([1.0, 2.0, 3.0], dtype=np.float32),
        positive_scores=np.array([9.0], dtype=np.float32),
    )
    assert mined.indices.tolist() == [[3, 2]]


@pytest.mark.parametrize(("values", "lowest"), [([7.0, 2.0], 7.0), ([2.0, 7.0], 2.0)])
def test_lists_of_positives_take_one_score_per_anchor(values: list[float], lowest: float) -> None:
    """Two positives in all and two anchors: the scores still belong to the anchors, not to the entries."""
    corpus = np.eye(4, dtype=np.float32)
    mined = negfast.select(
        corpus[:2],
        corpus,
        [[2], [2]],
        [[0, 1], []],
        num_negatives=1,
        scores=[[1.0], [1.0]],
        positive_scores=np.array(values, dtype=np.float32),
    )
    np.testing.assert_array_equal(mined.positive_scores, np.array([lowest, np.nan], dtype=np.float32))


@pytest.mark.parametrize("given", [False, True], ids=["own scores", "given scores"])
def test_suspects_name_the_positive_that_has_the_score(ladder: Ladder, given: bool) -> None:
    options: dict[str, Any] = {}
    if given:
        options = {"scores": [[1.0, 0.75]], "positive_scores": [[0.5, 0.25]]}
    suspects = select_ladder(ladder, [[0, 1]], [[2, 3]], suspect_rank=1, **options).report.suspects
    pairs = dict(zip(suspects.positives.tolist(), suspects.scores.tolist(), strict=True))
    assert pairs == {2: 0.5, 3: 0.25}
    assert suspects.ranks.tolist() == [3, 3]


def test_nothing_outside_the_candidates_is_counted(ladder: Ladder) -> None:
    """Not even where nothing is returned and every removed row counts."""
    rules = negfast.Rules(relative_margin=None, min_score=0.9)
    mined = select_ladder(ladder, [[1, 4]], [[0]], rules, forbidden=[2, 5])
    assert mined.indices.tolist() == [[-1, -1]]
    assert {rule: count for rule, count in mined.report.removed.items() if count} == {"min_score": 2}


def test_counts_are_among_the_candidates(ladder: Ladder) -> None:
    mined = select_ladder(ladder, [[5, 2, 3]], [[0]], forbidden=[1, 2, 3, 4], groups=(np.array([1]), np.full(6, -1)))
    assert mined.indices.tolist() == [[5, -1]]
    assert {rule: count for rule, count in mined.report.removed.items() if count} == {"forbidden": 2}


def test_self_rule_holds_for_candidates(rows: Any) -> None:
    corpus = rows(4, 3)
    mined = negfast.select(corpus, corpus, [[0, 1, 2, 3]] * 4, [[]] * 4, num_negatives=4)
    assert [sorted(row[:3].tolist()) for row in mined.indices] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert mined.report.removed["self"] == 4


def test_duplicates_are_judged_by_embedding_even_with_given_scores(circle: Any) -> None:
    corpus = circle(0, 1, 60, 61)
    rules = negfast.Rules(relative_margin=None, duplicate_of_positive=0.99, distinct=0.99)
    mined = negfast.select(
        circle(90),
        corpus,
        [[1, 2, 3]],
        [[0]],
        scores=[[0.9, 0.5, 0.8]],
        positive_scores=np.array([1.0], dtype=np.float32),
        num_negatives=3,
        rules=rules,
    )
    assert mined.indices.tolist() == [[3, -1, -1]]
    assert mined.report.removed["duplicate_of_positive"] == 1


def test_no_candidates(ladder: Ladder) -> None:
    mined = select_ladder(ladder, [[]], [[0]])
    assert mined.indices.tolist() == [[-1, -1]]
    assert sum(mined.report.removed.values()) == 0
    mined = select_ladder(ladder, np.zeros((1, 0), np.int64), [[0]])
    assert mined.indices.tolist() == [[-1, -1]]


def test_draws_stay_among_the_candidates(rows: Any) -> None:
    corpus, queries = rows(50, 4), rows(20, 4, seed=1)
    options: dict[str, Any] = {"num_negatives": 2, "draw": "random"}
    mined = negfast.select(queries, corpus, [[3, 5, 8, 13, 21]] * 20, [[]] * 20, **options)
    assert set(mined.indices.ravel().tolist()) <= {3, 5, 8, 13, 21}
    again = negfast.select(queries, corpus, [[21, 5, 3, 8, 13]] * 20, [[]] * 20, **options)
    np.testing.assert_array_equal(mined.indices, again.indices)  # the order of the lists does not matter


def test_matches_the_oracle_with_everything_on() -> None:
    rng = np.random.default_rng(3)
    corpus = rng.integers(-2, 3, (25, 6)).astype(np.float32)
    queries = rng.integers(-2, 3, (12, 6)).astype(np.float32)
    candidates = [rng.integers(0, 25, rng.integers(0, 30)).tolist() for _ in range(12)]
    positives = [rng.integers(0, 25, rng.integers(0, 3)).tolist() for _ in range(12)]
    options: dict[str, Any] = {
        "relative_margin": 0.1,
        "max_score": 0.9,
        "range_min": 1,
        "distinct": 0.95,
        "max_exposure": 3,
    }
    groups = (rng.integers(-1, 6, 12), rng.integers(-1, 6, 25))
    mined = negfast.select(
        queries,
        corpus,
        candidates,
        positives,
        num_negatives=4,
        groups=groups,
        suspect_rank=1,
        rules=negfast.Rules(**options),
    )
    want = oracle.select(
        queries,
        corpus,
        candidates,
        positives,
        num_negatives=4,
        groups=groups,
        suspect_rank=1,
        rules=oracle.Rules(**options),
    )
    oracle.assert_same(mined, want)


def test_scores_in_tensors() -> None:
    """Whatever they come in, the same scores give the same negatives."""
    torch = pytest.importorskip("torch")
    corpus = np.eye(8, dtype=np.float32)
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4) / 16
    lists = np.tile(np.arange(4, 8), (3, 1))
    plain = negfast.select(
        corpus[:3], corpus, lists, np.arange(3), scores=numbers, positive_scores=np.ones(3, np.float32)
    )
    tensor, ones, csr = torch.from_numpy(numbers), torch.ones(3), (torch.arange(4) * 4, torch.from_numpy(lists.ravel()))
    for candidates, scores, lowest in (
        (lists, tensor, ones),
        (torch.from_numpy(lists), tensor, np.ones(3)),
        (lists, tensor.bfloat16(), ones.bfloat16()),
        (lists, tensor.clone().requires_grad_(), ones.clone().requires_grad_()),
        (csr, tensor.ravel(), ones),
        (list(torch.from_numpy(lists)), list(tensor), list(ones)),
        (lists.tolist(), list(tensor.clone().requires_grad_()), list(ones.clone().requires_grad_())),
    ):
        got = negfast.select(corpus[:3], corpus, candidates, np.arange(3), scores=scores, positive_scores=lowest)
        np.testing.assert_array_equal(got.indices, plain.indices)
        np.testing.assert_array_equal(got.scores, plain.scores)
        np.testing.assert_array_equal(got.positive_scores, plain.positive_scores)


def test_flat_scores_beside_csr_positives() -> None:
    """One number per positive where there are as many, else one per anchor."""
    corpus = np.eye(6, dtype=np.float32)

    def lowest(indptr: list[int], scores: list[float]) -> list[float]:
        positives = (np.array(indptr), np.arange(indptr[-1]))
        chosen = negfast.select(
            corpus[:2], corpus, [[4], [5]], positives, num_negatives=1, scores=[[0.0], [0.0]], positive_scores=scores
        )
        return list(chosen.positive_scores.tolist())

    assert lowest([0, 2, 3], [0.5, 0.25, 0.75]) == [0.25, 0.75]
    assert lowest([0, 2, 3], [0.5, 0.25]) == [0.5, 0.25]
    assert lowest([0, 1, 2], [0.5, 0.25]) == [0.5, 0.25]
    with pytest.raises(negfast.InvalidValueError, match="per positive or per anchor"):
        lowest([0, 2, 2], [0.5, 0.25])


def test_fingerprints_and_report_tell_calls_apart(rows: Any) -> None:
    corpus = rows(6, 3)
    queries, ones = corpus[:2].copy(), np.ones(2, np.float32)

    def call(candidates: Any, **options: Any) -> negfast.MinedNegatives:
        return negfast.select(queries, corpus, candidates, [0, 1], num_negatives=1, **options)

    first = {"scores": [[0.5, 0.4]] * 2, "positive_scores": ones}
    seen = [
        call([[2, 3]] * 2),
        call([[3, 2]] * 2),
        call([[2, 3]] * 2, **first),
        call([[2, 3]] * 2, **first | {"scores": [[0.5, 0.3]] * 2}),
        call([[2, 3]] * 2, **first | {"positive_scores": ones * 2}),
        negfast.mine(queries, corpus, [0, 1], num_negatives=1),
    ]
    assert len({str(sorted(mined.fingerprints.items())) for mined in seen}) == len(seen)
    again = call([[2, 3]] * 2, **first)
    assert (again.fingerprints, again.recipe) == (seen[2].fingerprints, seen[2].recipe)
    assert [mined.report.search.method for mined in seen] == ["given"] * 5 + ["exact"]
