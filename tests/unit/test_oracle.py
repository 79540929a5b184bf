"""The oracle is trusted by every other test, so it is checked by hand and by exhaustion first."""

import itertools

import numpy as np

import oracle


def test_score_follows_the_documented_order_of_additions() -> None:
    rng = np.random.default_rng(5)
    left = rng.standard_normal((1, 19)).astype(np.float32)
    right = rng.standard_normal((1, 19)).astype(np.float32)
    lanes = [0.0] * 8
    for position in range(19):
        lanes[position % 8] += float(left[0, position]) * float(right[0, position])
    total = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
    assert oracle.score_matrix(left, right, "dot")[0, 0] == np.float32(total)


def test_score_is_within_one_rounding_of_float64() -> None:
    rng = np.random.default_rng(6)
    left = rng.standard_normal((9, 70)).astype(np.float32)
    right = rng.standard_normal((7, 70)).astype(np.float32)
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    np.testing.assert_allclose(oracle.score_matrix(left, right, "dot"), exact, rtol=1e-6, atol=1e-6)
    norms = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)[None, :]
    np.testing.assert_allclose(oracle.score_matrix(left, right), exact / norms, rtol=1e-5, atol=1e-6)


def test_zero_row_scores_zero() -> None:
    left = np.zeros((1, 3), dtype=np.float32)
    right = np.ones((2, 3), dtype=np.float32)
    assert not oracle.score_matrix(left, right).any()


def test_worked_example() -> None:
    queries = np.ones((1, 1), dtype=np.float32)
    corpus = np.array([[1.0], [0.75], [0.5], [0.5], [0.25]], dtype=np.float32)
    got = oracle.mine(queries, corpus, [[1]], num_negatives=2, metric="dot", rules=oracle.Rules(relative_margin=0.0))
    assert got.indices.tolist() == [[2, 3]]
    assert got.tiers.tolist() == [[1, 1]]
    assert got.positive_scores.tolist() == [0.75]
    assert {rule: count for rule, count in got.removed.items() if count} == {
        "positive": 1,
        "relative_margin": 1,
    }


def test_matching_is_stable_and_best_for_every_anchor() -> None:
    """Enumerate every assignment of small markets; the matching must be the anchors' best stable one."""
    rng = np.random.default_rng(7)
    for _ in range(60):
        n, rows = 3, 3
        wanted, capacity = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        scores = (rng.integers(0, 3, (n, rows)) / 2).astype(np.float32)
        preferences = [rng.permutation(rows)[: rng.integers(0, rows + 1)].tolist() for _ in range(n)]
        holds, _ = oracle.deferred_acceptance(preferences, scores, wanted, capacity)
        options = [
            [set(pick) for size in range(wanted + 1) for pick in itertools.combinations(wishes, size)]
            for wishes in preferences
        ]
        stable = []
        for assignment in itertools.product(*options):
            lists = [list(pick) for pick in assignment]
            served = [sum(row in pick for pick in lists) for row in range(rows)]
            if max(served) <= capacity and not oracle.blocking_pairs(lists, preferences, scores, wanted, capacity):
                stable.append(lists)
        assert list(map(sorted, holds)) in [list(map(sorted, lists)) for lists in stable]
        for anchor, wishes in enumerate(preferences):
            places = sorted(wishes.index(row) for row in holds[anchor])
            for lists in stable:
                other = sorted(wishes.index(row) for row in lists[anchor])
                assert len(other) == len(places)  # the same anchors go short in every stable matching
                assert all(mine <= theirs for mine, theirs in zip(places, other, strict=True))
