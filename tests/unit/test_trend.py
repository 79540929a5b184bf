"""`Trend` and `Spikes`: running values against plain least squares, and scores worked out by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import negfast
from negfast.spikes import TO_SIGMA, Spikes
from negfast.trend import Trend

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def oracle(values: list[float], half_life: float) -> tuple[float, float, float]:
    """Return weighted mean, value now and slope, from all values at once."""
    age = np.arange(len(values))[::-1]
    weights = 0.5 ** (age / half_life)
    mean = float((weights * values).sum() / weights.sum())
    if len(values) == 1:
        return mean, mean, 0.0
    design = np.stack([np.ones(len(values)), -age], axis=1) * np.sqrt(weights)[:, None]
    (value, slope), *_ = np.linalg.lstsq(design, np.sqrt(weights) * values, rcond=None)
    return mean, float(value), float(slope)


@given(numbers, st.floats(0.5, 100.0))
def test_as_least_squares_over_everything(values: list[float], half_life: float) -> None:
    trend = Trend(half_life)
    for value in values:
        trend.update(value)
    scale = max(map(abs, values)) + 1e-3
    mine = (trend.mean or 0.0, trend.value or 0.0, trend.slope or 0.0)
    for own, other in zip(mine, oracle(values, half_life), strict=True):
        assert own == pytest.approx(other, abs=1e-6 * scale)


def test_a_line_is_exact_from_the_second_measurement_on() -> None:
    trend = Trend(10.0)
    for step in range(500):
        trend.update(3.0 - 0.25 * step)
        if step:
            assert trend.value == pytest.approx(3.0 - 0.25 * step, rel=1e-9)
            assert trend.slope == pytest.approx(-0.25, rel=1e-9)
    # The mean is behind: by the mean age, 1 / (2 ** (1 / 10) - 1) measurements.
    assert trend.mean == pytest.approx(3.0 - 0.25 * (499 - 1 / (2**0.1 - 1)), rel=1e-9)


def test_nothing_and_one_measurement() -> None:
    trend = Trend(5.0)
    assert (trend.mean, trend.value, trend.slope, trend.count) == (None, None, None, 0)
    trend.update(4.0)
    assert (trend.mean, trend.value, trend.slope, trend.count) == (4.0, 4.0, None, 1)


def test_trends_go_on_from_their_state() -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    whole, first, second = Trend(7.0), Trend(7.0), Trend(7.0)
    for value in values:
        whole.update(value)
    for value in values[:20]:
        first.update(value)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for value in values[20:]:
        second.update(value)
    assert second.state_dict() == whole.state_dict() and second.slope == whole.slope


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"count": -1, "sums": [0.0] * 5},
        {"count": 1.0, "sums": [1.0] * 5},
        {"count": 1, "sums": [1.0] * 4},
        {"count": 1, "sums": [1.0, 0.0, 0.0, math.nan, 0.0]},
        {"count": 0, "sums": [1.0, 0.0, 0.0, 1.0, 0.0]},
        {"count": 3, "sums": [1.0, 1.0, 1.0, 1.0, 1.0]},
    ],
)
def test_damaged_trends(state: object) -> None:
    with pytest.raises(negfast.StateError, match="damaged"):
        Trend(5.0).load_state_dict(state)


@pytest.mark.parametrize(
    ("last", "deviation"),
    [
        (4.0, TO_SIGMA * 1.0),  # deviations 1.5, 0.5, 0.5, 1.5, whose median is 1
        (6.0, 0.5369 * 3.5),  # deviations 1.5, 0.5, 0.5, 3.5; one in sixteen is above 3.5
    ],
)
def test_scores_by_hand(last: float, deviation: float) -> None:
    spikes = Spikes(16)
    for _ in range(4):
        for value in (1.0, 2.0, 3.0, last):
            assert spikes.score(value) is None
    assert spikes.score(5.5) == pytest.approx((5.5 - 2.5) / deviation)


def test_an_earlier_spike_hides_none() -> None:
    spikes = Spikes(32)
    rng = np.random.default_rng(1)
    for value in rng.normal(1.0, 0.1, 40):
        spikes.score(value)
    assert (spikes.score(100.0) or 0.0) > 500.0
    assert (spikes.score(3.0) or 0.0) > 10.0


@pytest.mark.parametrize("slope", [1e-3, 1.0, -1.0, 1e6])
def test_a_straight_line_is_no_spike(slope: float) -> None:
    spikes = Spikes(64)
    scores = [spikes.score(slope * step) for step in range(200)]
    assert max(score for score in scores if score is not None) < 1.5


def test_losses_that_do_not_vary_do_not_spike_at_a_trifle() -> None:
    spikes = Spikes(16)
    for _ in range(16):
        spikes.score(2.0)
    assert spikes.score(2.001) == pytest.approx(0.5, rel=1e-6)


def test_after_clearing_nothing_is_judged() -> None:
    spikes = Spikes(16)
    for _ in range(20):
        spikes.score(1.0)
    spikes.clear()
    assert spikes.score(100.0) is None


@pytest.mark.parametrize("state", [None, {"a": 1}, [1.0] * 17, [math.nan], ["x"]])
def test_damaged_losses(state: object) -> None:
    with pytest.raises(negfast.StateError, match="damaged"):
        Spikes(16).load_state_dict(state)
