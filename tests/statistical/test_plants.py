"""An adaptive curriculum in closed loop with simulated learners, as controllers are tested.

Seeds are fixed, so that nothing here fails by chance; what is said of chances is about other seeds.
"""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from negfast import AdaptiveCurriculum, HardnessAlarms, HardnessControl, RefreshPolicy, Signals
from plants import CURRICULUM, Collapser, Lagging, Learner, Noise, limited, train

AMPLITUDE = 0.02
"""The most that hardness still moves by where a plant has settled."""


def turns(path: Any) -> int:
    """Count how often hardness changes its direction."""
    moves = np.diff(path)
    signs = np.sign(moves[moves != 0.0])
    return int((np.diff(signs) != 0).sum())


@pytest.mark.parametrize("seed", range(3))
def test_a_learner_that_stalls_gets_on(seed: int) -> None:
    alone = Learner(seed)
    for step in range(3000):
        alone(step, 0.0)
    learner = Learner(seed)
    adaptive, path = train(learner, 3000)
    assert learner.skill > 1.25 * alone.skill
    assert path[-1] > 0.9 and {decision.cause for decision in adaptive.log} <= {"easy"}
    # While it learned by itself nothing was done.
    assert path[:100].max() == 0.0


@pytest.mark.parametrize("seed", range(2))
def test_a_learner_that_collapses_is_kept_from_it(seed: int) -> None:
    """Its spread would be 1; it stays below 0.85, and an alarm is met more and more rarely."""
    pushed = Collapser(seed)
    off = HardnessAlarms(collapse=None)
    train(pushed, 4000, alarms=off)
    assert pushed.spread > 0.99
    held, spreads = Collapser(seed), []

    def watched(step: int, hardness: float) -> Signals:
        signals = held(step, hardness)
        spreads.append(held.spread)
        return signals

    adaptive, path = train(watched, 6000)
    alarms = [decision.step for decision in adaptive.log if decision.action == "alarm"]
    assert max(spreads) < 0.85 and np.mean(spreads[1000:]) < 0.35
    gaps = np.diff(alarms[1:])
    assert 5 <= len(alarms) <= 15 and gaps[-1] > 2.5 * gaps[0]
    # It stays near the edge of 0.4, as hard as can be.
    assert np.ptp(path[1000:]) < 0.35 and 0.3 < path[1000:].mean() < 0.5


def test_a_spike_is_met_at_once_and_forgotten_in_time() -> None:
    rng = np.random.default_rng(0)

    def plant(step: int, _hardness: float) -> Signals:
        spike = 1.0 if 500 <= step < 510 else 0.0
        return Signals(
            loss=1.0 + rng.normal(0.0, 0.05) + spike, positive_probability=limited(0.7 + rng.normal(0.0, 0.03))
        )

    adaptive, path = train(plant, 1200)
    assert not path[:500].any()
    assert path[500:503] == pytest.approx([-0.1, -0.2, -0.3])
    assert path.min() == pytest.approx(-0.3) and path[-1] == pytest.approx(0.0, abs=1e-9)
    assert Counter(decision.action for decision in adaptive.log)["alarm"] == 1


def test_of_noise_nothing_is_made() -> None:
    """Decisions over 24,000 observations of noise: at most one alarm.

    A normal loss is taken for a spike twice in a million times, so that two or more alarms have a chance of 0.1 %. All
    other conditions lie over seven standard deviations of a running value away.
    """
    alarms = []
    for seed in range(3):
        adaptive, path = train(Noise(seed), 8000)
        alarms += [decision for decision in adaptive.log if decision.action == "alarm"]
        assert {decision.cause for decision in adaptive.log} <= {"loss_spike", "recovery"}
        assert path.max() <= 0.0 and path.min() >= -0.3 - 1e-12
    assert len(alarms) <= 1


@pytest.mark.parametrize("gain", [0.1, 0.3, 1.0, 2.0])
@pytest.mark.parametrize(("lag", "delay"), [(1, 0), (10, 5), (50, 20), (200, 20)])
def test_no_limit_cycle(gain: float, lag: float, delay: int) -> None:
    """Hardness settles to within `AMPLITUDE`, where p⁺ is inside the band or hardness at its bound."""
    plant = Lagging(gain, lag, delay)
    _, path = train(plant, 6000)
    assert np.ptp(path[4500:]) <= AMPLITUDE
    inside = 1.0 - gain * path[-1] - 0.7
    assert abs(inside) <= 0.15 or path[-1] == 1.0


def test_the_check_for_limit_cycles_can_fail() -> None:
    """Gains far too high, without a band: hardness swings from bound to bound."""
    wild = HardnessControl(integral=0.5, band=0.0, rate=1.0)
    _, path = train(Lagging(1.0, 50, 20), 4000, control=wild)
    assert np.ptp(path[2500:]) > 1.0 and turns(path) > 20


def test_drift_that_accumulates_is_met_in_time() -> None:
    """Rows move by 0.001 a step, 10 % more or less; 0.1 is allowed; a refresh takes 30 steps."""
    rng = np.random.default_rng(0)
    adaptive = AdaptiveCurriculum(CURRICULUM, refresh=RefreshPolicy(max_drift=0.1, min_steps=50))
    drift, due, refreshed, highest = 0.0, None, [0], 0.0
    for step in range(1, 5000):
        drift += 0.001 * rng.uniform(0.9, 1.1)
        adaptive.observe(step, Signals(drift=drift * rng.normal(1.0, 0.05)))
        if adaptive.refresh_due and due is None:
            due, highest = step, max(highest, drift)
        if due is not None and step == due + 30:
            adaptive.refreshed(step)
            refreshed.append(step)
            drift, due = 0.0, None
    gaps = np.diff(refreshed)
    assert gaps.min() >= 115 and gaps.max() <= 140 and highest < 0.11
    quiet = AdaptiveCurriculum(CURRICULUM, refresh=RefreshPolicy(max_drift=0.1))
    for step in range(2000):
        quiet.observe(step, Signals(drift=0.08 * rng.normal(1.0, 0.05)))
    assert not quiet.refresh_due


def test_hysteresis_keeps_an_edge_from_chattering() -> None:
    """A share that wavers about the outer edge of the band: with a band, fewer turns than without."""

    def plant(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        share = {"now": 0.0}

        def measure(step: int, hardness: float) -> Signals:
            share["now"] += (0.85 + 0.02 * math.sin(step / 40) - 0.3 * hardness - share["now"]) / 5.0
            return Signals(positive_probability=limited(share["now"] + rng.normal(0.0, 0.05)))

        return measure

    _, with_band = train(plant(1), 3000)
    _, without = train(plant(1), 3000, control=HardnessControl(target=0.85, band=0.0))
    assert turns(with_band) < turns(without) / 20
