"""Bounds, rates and states of an adaptive curriculum hold whatever is measured."""

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import settings as configured
from hypothesis import strategies as st

from negfast import AdaptiveCurriculum, Curriculum, HardnessAlarms, HardnessControl, MovingTiers, RefreshPolicy, Signals
from negfast.adaptive_curriculum import MEASURED, RANGES

# Numbers as they should be, as they should not, and nothing.
some = st.one_of(st.none(), st.floats(0.0, 1.0), st.floats(allow_nan=True, allow_infinity=True))
measured = st.builds(
    Signals,
    **dict.fromkeys(MEASURED, some),
    hardness_quantiles=st.one_of(
        st.none(), st.lists(st.one_of(st.floats(-1.0, 1.0), st.floats()), min_size=1, max_size=5)
    ),
)
runs = st.lists(st.tuples(st.integers(1, 50), measured, st.integers(1, 12)), min_size=1, max_size=25)
controls = st.builds(
    HardnessControl,
    target=st.floats(0.0, 1.0),
    band=st.floats(0.0, 0.3),
    proportional=st.floats(0.0, 100.0),
    integral=st.floats(0.0, 100.0),
    rate=st.floats(0.0, 0.5),
    low=st.floats(-1.0, 0.0),
    high=st.floats(0.0, 1.0),
)
alarms = st.builds(
    HardnessAlarms,
    backoff=st.floats(0.0, 2.0),
    backoff_rate=st.floats(0.0, 1.0),
    hold=st.integers(0, 5),
    recovery=st.floats(0.0, 0.1),
    window=st.just(16),
)
moving = st.builds(MovingTiers, rate=st.floats(0.0, 0.5), band=st.floats(0.0, 0.1))
PLAN = Curriculum(hard=0.2, semi_hard=0.4, easy=0.4, min_random=0.1, relative_margin=0.05, range_min=3, range_max=4)
settings = st.fixed_dictionaries(
    {
        "control": controls,
        "alarms": alarms,
        "moving_tiers": moving,
        "half_life": st.floats(0.1, 50.0),
        "warmup": st.integers(2, 5),
        "log_size": st.just(20),
    }
)


def steps_of(run: list[tuple[int, Signals, int]]) -> list[tuple[int, Signals]]:
    """Return steps and signals, each measured several times over."""
    step, entries = 0, []
    for gap, signals, times in run:
        for _ in range(times):
            entries.append((step, signals))
            step += gap
    return entries


def make(chosen: dict[str, Any]) -> AdaptiveCurriculum:
    return AdaptiveCurriculum(PLAN, refresh=RefreshPolicy(max_drift=0.1, min_steps=5), **chosen)


@configured(max_examples=150)
@given(settings, runs)
def test_bounds_and_rates_hold_for_any_signals(chosen: dict[str, Any], run: list[tuple[int, Signals, int]]) -> None:
    adaptive, control, back = make(chosen), chosen["control"], chosen["alarms"]
    rate, tiers = max(control.rate, back.recovery), chosen["moving_tiers"]
    for step, signals in steps_of(run):
        hardness, edges = adaptive.hardness, adaptive.tiers
        decisions = adaptive.observe(step, signals)
        assert control.low <= adaptive.hardness <= control.high
        change = adaptive.hardness - hardness
        assert -max(control.rate, back.backoff_rate) - 1e-12 <= change <= rate + 1e-12
        for name in ("hard", "semi_hard"):
            edge = getattr(adaptive.tiers, name)
            assert tiers.low <= edge <= tiers.high
            assert abs(edge - getattr(edges, name)) <= tiers.rate + 1e-12
        assert adaptive.tiers.semi_hard <= adaptive.tiers.hard
        assert any(decision.action in ("harden", "soften") for decision in decisions) == (change != 0.0)
        assert any(decision.action == "tiers" for decision in decisions) == (adaptive.tiers != edges)
        broken = any(not abs(value) <= 1e30 for value in numbers(signals)) or any(
            not low - 1e-6 <= value <= high + 1e-6
            for name, (low, high) in RANGES.items()
            if (value := getattr(signals, name)) is not None
        )
        assert any(decision.cause == "not_finite" and decision.action == "alarm" for decision in decisions) == broken
        stage = adaptive.at(step)  # which checks itself
        assert all(math.isfinite(value) for value in (stage.temperature, stage.hardness_strength))
    json.dumps(adaptive.state_dict(), allow_nan=False)


def numbers(signals: Signals) -> list[float]:
    given_ = [getattr(signals, name) for name in MEASURED]
    return [value for value in given_ if value is not None] + list(signals.hardness_quantiles or ())


@configured(max_examples=80)
@given(settings, runs, st.integers(0, 300))
def test_any_state_can_be_resumed(chosen: dict[str, Any], run: list[tuple[int, Signals, int]], stop: int) -> None:
    whole, first, second = make(chosen), make(chosen), make(chosen)
    entries = steps_of(run)
    for step, signals in entries:
        whole.observe(step, signals)
    for step, signals in entries[:stop]:
        first.observe(step, signals)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for step, signals in entries[stop:]:
        second.observe(step, signals)
    assert second.state_dict() == whole.state_dict()
