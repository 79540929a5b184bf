"""Thresholds of anchors converge to the true quantiles of their scores, and follow where these move."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from negfast import AnchorQuantiles

N_ANCHORS, N_SCORES, WIDTH = 256, 64, 0.1
MEANS = np.linspace(0.0, 0.6, N_ANCHORS)
ANCHORS = np.arange(N_ANCHORS)


def draw(rng: np.random.Generator, means: NDArray[np.float64]) -> NDArray[np.float32]:
    return rng.normal(means[:, None], WIDTH, (len(means), N_SCORES)).astype(np.float32)


def shares_above(quantiles: AnchorQuantiles, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the true share of each anchor's scores above its threshold."""
    return np.array(
        [0.5 * math.erfc((t - m) / WIDTH / 2**0.5) for t, m in zip(quantiles.thresholds(ANCHORS), means, strict=True)]
    )


@pytest.mark.parametrize(
    ("alpha", "rate"), [(0.01, 0.05), (0.05, 0.05), (0.05, 0.02), (0.2, 0.05), (0.2, 0.01), (0.7, 0.05)]
)
def test_convergence(alpha: float, rate: float) -> None:
    """Thresholds are off by next to nothing on average, and waver as predicted, within a third.

    The standard deviation of the mean of 256 anchors is a sixteenth of `expected`, of which five are allowed, besides
    a fiftieth of alpha for what the first updates leave; that of their spread is 4.4 %. False alarms are below 1e-5.
    """
    rng, quantiles = np.random.default_rng(1), AnchorQuantiles(N_ANCHORS, alpha=alpha, rate=rate)
    for _ in range(600):
        quantiles.update(ANCHORS, draw(rng, MEANS))
    shares = shares_above(quantiles, MEANS)
    density = density_at(alpha) / WIDTH
    expected = density * math.sqrt(rate * alpha * (1 - alpha) / (2 * density * N_SCORES))
    assert abs(shares.mean() - alpha) < 5 * expected / 16 + alpha / 50
    assert 1 / 1.33 < shares.std() / expected < 1.33


def density_at(alpha: float) -> float:
    """Return the density of standard normal numbers at the score that a share `alpha` is above."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(middle / 2**0.5) > alpha else (low, middle)
    return math.exp(-low * low / 2) / math.sqrt(2 * math.pi)


def test_a_few_epochs_are_enough_to_be_of_use() -> None:
    """After five updates of 64 scores the shares are 0.05 on average, and within 0.02 to 0.1 for nine in ten."""
    rng, quantiles = np.random.default_rng(2), AnchorQuantiles(N_ANCHORS, alpha=0.05)
    for _ in range(5):
        quantiles.update(ANCHORS, draw(rng, MEANS))
    shares = shares_above(quantiles, MEANS)
    assert abs(shares.mean() - 0.05) < 0.005
    assert ((shares > 0.02) & (shares < 0.1)).mean() > 0.9


def test_they_follow_scores_that_move() -> None:
    rng, quantiles = np.random.default_rng(3), AnchorQuantiles(N_ANCHORS, alpha=0.05, rate=0.05)
    for step in range(600):
        quantiles.update(ANCHORS, draw(rng, MEANS + 0.2 * min(step / 400, 1.0)))
    assert abs(shares_above(quantiles, MEANS + 0.2).mean() - 0.05) < 0.005


def test_harder_negatives_have_a_larger_share() -> None:
    """Negatives of which a fifth are as close as positives: the share says so, to within two in a hundred."""
    rng, quantiles = np.random.default_rng(4), AnchorQuantiles(N_ANCHORS, alpha=0.01)
    for _ in range(100):
        quantiles.update(ANCHORS, draw(rng, MEANS))
    mined = draw(rng, MEANS)
    mined[:, : N_SCORES // 5] = (MEANS + 0.5)[:, None]
    share = quantiles.share(ANCHORS, mined)
    assert share is not None and abs(share - (N_SCORES // 5) / N_SCORES - 0.01) < 0.02
