"""The draws have the distributions that they claim.

Every draw is repeated by giving one call many equal anchors: each has its own stream. Seeds are fixed, so a
test that passes once always passes; had the seeds been drawn afresh, each chi-square test here would raise a
false alarm with probability 1e-7, all of them together with less than 3e-6.

Drawing without replacement makes inclusion counts negatively correlated, so a plain Pearson statistic over
them could never fail; the uniform tests use T = (n - 1) / n * sum((c - R p)^2) / (R p (1 - p)), which is
chi-square with n - 1 degrees of freedom (p = k / n). The weighted tests count whole subsets, whose
probabilities come from enumerating all orders.
"""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import negfast
from chances import inclusion_statistic, subset_probabilities, subset_statistic, tail

OFF = negfast.Rules(relative_margin=None)
FALSE_ALARM = 1e-7
REPEATS = 20_000


def draw_many(
    scores: list[float], num_negatives: int, draw: Any, *, repeats: int = REPEATS, **options: Any
) -> npt.NDArray[np.int64]:
    """Draw from rows with the given dot products, `repeats` times over."""
    corpus = np.array(scores, dtype=np.float32)[:, None]
    queries = np.ones((repeats, 1), dtype=np.float32)
    options = {"positives": [[]] * repeats, "rules": OFF} | options
    mined = negfast.mine(queries, corpus, num_negatives=num_negatives, metric="dot", draw=draw, **options)
    return mined.indices


@pytest.mark.parametrize(("df", "point"), [(1, 3.841), (2, 5.991), (4, 9.488), (9, 16.919), (30, 43.773)])
def test_tail_has_the_table_values(df: int, point: float) -> None:
    assert tail(point, df) == pytest.approx(0.05, abs=2e-5)


@pytest.mark.parametrize("k", [1, 3, 11])
def test_random_is_uniform(k: int) -> None:
    scores = [1.0 - i / 16 for i in range(12)]
    indices = draw_many(scores, k, "random", rules=negfast.Rules(relative_margin=None, range_max=12))
    assert tail(inclusion_statistic(indices, 12), 11) > FALSE_ALARM


def test_random_subsets_are_equally_likely() -> None:
    indices = draw_many([1.0, 0.9, 0.9, 0.1, -1.0], 2, "random")
    uniform = dict.fromkeys(itertools.combinations(range(5), 2), 0.1)
    assert tail(subset_statistic(indices, uniform), 9) > FALSE_ALARM


def test_random_is_uniform_over_the_window_only() -> None:
    scores = [1.0 - i / 64 for i in range(50)]
    indices = draw_many(scores, 3, "random", rules=negfast.Rules(relative_margin=None, range_min=4))
    assert indices.min() == 4
    assert indices.max() == 33  # range_min + 10 * num_negatives - 1
    assert tail(inclusion_statistic(indices - 4, 30), 29) > FALSE_ALARM


SCORES = [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_softmax_first_draw(temperature: float) -> None:
    weights = [math.exp(s / temperature) for s in SCORES]
    indices = draw_many(SCORES, 1, negfast.Softmax(temperature))
    assert tail(subset_statistic(indices, subset_probabilities(weights, 1)), 4) > FALSE_ALARM


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_softmax_without_replacement(temperature: float) -> None:
    weights = [math.exp(s / temperature) for s in SCORES]
    indices = draw_many(SCORES, 2, negfast.Softmax(temperature))
    assert tail(subset_statistic(indices, subset_probabilities(weights, 2)), 9) > FALSE_ALARM


def test_softmax_of_cosines_uses_cosines() -> None:
    """Row lengths must not enter the weights when the metric is cosine."""
    angles = np.arccos(np.array(SCORES))
    corpus = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [9], [0.1], [5], [30]])
    queries = np.tile(np.array([[7.0, 0.0]], dtype=np.float32), (REPEATS, 1))
    mined = negfast.mine(
        queries,
        corpus.astype(np.float32),
        [[]] * REPEATS,
        num_negatives=1,
        rules=OFF,
        draw=negfast.Softmax(0.5),
    )
    weights = [math.exp(s / 0.5) for s in SCORES]
    assert tail(subset_statistic(mined.indices, subset_probabilities(weights, 1)), 4) > FALSE_ALARM


@pytest.mark.parametrize(("a", "b"), [(3.0, 0.0), (3.0, -0.5), (2.0, 0.25)])
@pytest.mark.parametrize("k", [1, 2])
def test_simans(a: float, b: float, k: int) -> None:
    """Weight exp(-a (s - p - b)^2) around the lowest positive, here .5; b > 0 moves the centre up."""
    scores = [*SCORES, 0.5, 2.0]
    positives = np.tile([5, 6], (REPEATS, 1))
    weights = [math.exp(-a * (s - 0.5 - b) ** 2) for s in SCORES]
    indices = draw_many(scores, k, negfast.SimANS(a, b), positives=positives)
    assert tail(subset_statistic(indices, subset_probabilities(weights, k)), 4 if k == 1 else 9) > FALSE_ALARM


def test_simans_is_uniform_without_a_positive() -> None:
    indices = draw_many(SCORES, 2, negfast.SimANS(50.0, 0.3))
    uniform = dict.fromkeys(itertools.combinations(range(5), 2), 0.1)
    assert tail(subset_statistic(indices, uniform), 9) > FALSE_ALARM


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e30])
def test_softmax_survives_extreme_temperatures(temperature: float) -> None:
    indices = draw_many(SCORES, 2, negfast.Softmax(temperature), repeats=2000)
    if temperature < 1:
        np.testing.assert_array_equal(indices, np.tile([0, 1], (2000, 1)))  # the best ones, for certain
    else:
        uniform = dict.fromkeys(itertools.combinations(range(5), 2), 0.1)
        assert tail(subset_statistic(indices, uniform), 9) > FALSE_ALARM


def test_simans_survives_weights_that_vanish() -> None:
    """All weights underflow; the nearest to the positive still wins."""
    indices = draw_many(
        [100.0, 90.0, 80.0, 0.0], 2, negfast.SimANS(1000.0), positives=np.full((500, 1), 3), repeats=500
    )
    np.testing.assert_array_equal(indices, np.tile([1, 2], (500, 1)))


# --------------------------------------------------------------------------------- a draw is a pure function

DRAWS = ["random", negfast.Softmax(0.5), negfast.SimANS(1.0)]


@pytest.mark.parametrize("draw", DRAWS, ids=repr)
def test_seed_and_epoch_decide(draw: Any) -> None:
    def drawn(**options: int) -> Any:
        return draw_many([1.0 - i / 32 for i in range(30)], 3, draw, repeats=50, **options)

    first = drawn(seed=5, epoch=2)
    np.testing.assert_array_equal(first, drawn(seed=5, epoch=2))
    assert (first != drawn(seed=6, epoch=2)).any()
    assert (first != drawn(seed=5, epoch=3)).any()
    assert (drawn(seed=5, epoch=3) != drawn(seed=6, epoch=2)).any()
    for threads in (1, 2, 7):
        np.testing.assert_array_equal(first, drawn(seed=5, epoch=2, n_threads=threads))


@pytest.mark.parametrize("draw", DRAWS, ids=repr)
def test_epochs_are_independent_draws(draw: Any) -> None:
    """The same anchor over many epochs is as random as many anchors in one."""
    flat = [0.5] * 5
    picks = np.concatenate([draw_many(flat, 2, draw, repeats=10, epoch=epoch) for epoch in range(400)])
    uniform = dict.fromkeys(itertools.combinations(range(5), 2), 0.1)
    assert tail(subset_statistic(picks, uniform), 9) > FALSE_ALARM


@pytest.mark.parametrize("draw", DRAWS, ids=repr)
def test_an_anchor_does_not_depend_on_the_others(draw: Any, rows: Any) -> None:
    corpus, queries = rows(200, 6), rows(80, 6, seed=1)
    together = negfast.mine(queries, corpus, [[0]] * 80, num_negatives=3, draw=draw)
    fewer = negfast.mine(queries[:31], corpus, [[0]] * 31, num_negatives=3, draw=draw)
    np.testing.assert_array_equal(fewer.indices, together.indices[:31])


def test_top_has_nothing_random(rows: Any) -> None:
    corpus, queries = rows(200, 6), rows(80, 6, seed=1)
    one = negfast.mine(queries, corpus, [[0]] * 80, num_negatives=3, seed=1)
    two = negfast.mine(queries, corpus, [[0]] * 80, num_negatives=3, seed=2, epoch=9)
    np.testing.assert_array_equal(one.indices, two.indices)


def test_neighbouring_anchors_are_not_correlated() -> None:
    """Streams of neighbouring rows share nothing: pairs of successive picks fall evenly over all 25 cells."""
    picks = draw_many([0.5] * 5, 1, "random", repeats=20_000)[:, 0]
    cells = np.bincount(picks[0::2] * 5 + picks[1::2], minlength=25)
    statistic = float(((cells - 400) ** 2 / 400).sum())
    assert tail(statistic, 24) > FALSE_ALARM
