"""`AdaptiveCurriculum`: decisions worked out by hand, the log, state, and what is refused."""

import copy
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import negfast
from negfast import AdaptiveCurriculum, Curriculum, HardnessAlarms, HardnessControl, MovingTiers, Signals, Tiers
from negfast.adaptive_curriculum import MEASURED
from negfast.hardness import Hardness
from negfast.spikes import Spikes

Type, Value, State = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.StateError
PLAN = Curriculum(temperature=0.05, hard=0.2, semi_hard=0.4, easy=0.2)
CALM: dict[str, float] = {
    "loss": 1.0,
    "positive_distance": 0.3,
    "negative_distance": 0.8,
    "effective_negatives": 20.0,
    "positive_probability": 0.7,
    "false_negative_share": 0.1,
    "spread": 0.2,
    "drift": 0.0,
}


def settled(n: int = 100, **settings: Any) -> AdaptiveCurriculum:
    """Make one that has seen calm steps."""
    adaptive = AdaptiveCurriculum(PLAN, **settings)
    for step in range(n):
        assert adaptive.observe(step, Signals(**CALM)) == ()
    return adaptive


def observed(
    adaptive: AdaptiveCurriculum, n: int, **signals: Any
) -> list[negfast.adaptive_curriculum.CurriculumDecision]:
    begin = adaptive._last_step + 1
    return [d for step in range(begin, begin + n) for d in adaptive.observe(step, Signals(**{**CALM, **signals}))]


def test_without_decisions_it_is_the_plan() -> None:
    adaptive = settled()
    assert adaptive.hardness == 0.0 and adaptive.log == () and not adaptive.refresh_due
    assert adaptive.at(7) == PLAN.at(7) and adaptive.tiers == PLAN.tiers


def test_the_ends_of_hardness_are_the_other_curricula() -> None:
    adaptive = settled()
    observed(adaptive, 800, positive_probability=0.99)
    assert adaptive.hardness == 1.0 and adaptive.at(5) == PLAN.harder().at(5)
    observed(adaptive, 800, positive_probability=0.01)
    assert adaptive.hardness == -1.0 and adaptive.at(5) == PLAN.easier().at(5)


def test_own_ends() -> None:
    plan = Curriculum(relative_margin=0.05, range_max=100)
    harder = Curriculum(relative_margin=0.01, range_max=20, hardness_strength=5.0, min_random=0.0)
    easier = Curriculum(relative_margin=0.2, range_max=500, min_random=0.5)
    adaptive = AdaptiveCurriculum(plan, easier=easier, harder=harder)
    for step in range(120):
        adaptive.observe(step, Signals(positive_probability=0.95))
    share, stage = adaptive.hardness, adaptive.at(0)
    assert 0.2 < share < 0.9
    assert stage.relative_margin == pytest.approx(0.05 - 0.04 * share)
    assert stage.hardness_strength == pytest.approx(5.0 * share)
    assert stage.range_max == math.floor(100 - 80 * share + 0.5)


def test_the_first_move_by_hand() -> None:
    control = HardnessControl(target=0.5, band=0.2, proportional=0.1, integral=0.01, rate=0.05)
    adaptive = AdaptiveCurriculum(PLAN, control=control, warmup=3)
    signals = Signals(positive_probability=0.8)
    assert [adaptive.observe(step, signals) for step in range(2)] == [(), ()]
    (decision,) = adaptive.observe(2, signals)
    # The error is 0.3 less half of the band; 0.1 of its change and 0.01 of itself.
    assert adaptive.hardness == pytest.approx(0.11 * 0.2)
    assert (decision.action, decision.cause, decision.before) == ("harden", "easy", (0.0,))
    assert decision.after == (adaptive.hardness,)
    assert decision.numbers == {"positive_probability": pytest.approx(0.8), "target": 0.5}
    (decision,) = adaptive.observe(3, signals)
    assert adaptive.hardness == pytest.approx(0.11 * 0.2 + 0.01 * 0.2)  # the error stays: the integral part alone


def test_the_rate_is_limited() -> None:
    adaptive = AdaptiveCurriculum(PLAN, warmup=2, control=HardnessControl(proportional=10.0, integral=1.0))
    path = [0.0]
    for step in range(300):
        adaptive.observe(step, Signals(positive_probability=0.99 if step < 150 else 0.01))
        path.append(adaptive.hardness)
    moves = np.diff(path)
    assert moves.max() == pytest.approx(0.02) and moves.min() == pytest.approx(-0.02)


def test_the_band_has_hysteresis() -> None:
    """Outer edge 0.85, inner edge 0.775: between them it goes on if it acts, and rests if it rests."""
    resting, acting = (AdaptiveCurriculum(PLAN, half_life=0.1) for _ in range(2))
    for step in range(30):
        resting.observe(step, Signals(positive_probability=0.7))
        acting.observe(step, Signals(positive_probability=0.9))
    moves = [(resting.hardness, acting.hardness)]
    for step in range(30, 40):
        for adaptive in (resting, acting):
            adaptive.observe(step, Signals(positive_probability=0.81))
        moves.append((resting.hardness, acting.hardness))
    assert {move[0] for move in moves} == {0.0}
    assert all(later[1] > earlier[1] for earlier, later in pairwise(moves[1:]))
    for step in range(40, 60):
        acting.observe(step, Signals(positive_probability=0.76))
    still = acting.hardness
    for step in range(60, 80):
        acting.observe(step, Signals(positive_probability=0.81))
    assert acting.hardness == still


def test_nothing_winds_up_at_a_bound() -> None:
    adaptive = AdaptiveCurriculum(PLAN, control=HardnessControl(high=0.1), half_life=1.0)
    for step in range(5000):
        adaptive.observe(step, Signals(positive_probability=1.0))
    assert adaptive.hardness == 0.1
    for step in range(5000, 5010):
        adaptive.observe(step, Signals(positive_probability=0.0))
    assert adaptive.hardness < 0.05


def test_a_loss_that_falls_by_itself_is_left_alone() -> None:
    adaptive = AdaptiveCurriculum(PLAN)
    for step in range(200):
        adaptive.observe(step, Signals(loss=0.99**step, positive_probability=0.95))
    assert adaptive.hardness == 0.0
    for step in range(200, 300):
        adaptive.observe(step, Signals(loss=0.99**200, positive_probability=0.95))
    assert adaptive.hardness > 0.1


def test_a_loss_that_is_no_longer_measured_holds_nothing_back() -> None:
    adaptive = AdaptiveCurriculum(PLAN)
    for step in range(60):
        adaptive.observe(step, Signals(loss=5.0 * 0.97**step, positive_probability=0.97))
    assert adaptive.hardness == 0.0
    for step in range(60, 160):
        adaptive.observe(step, Signals(positive_probability=0.97))
    assert adaptive.hardness > 0.1


def test_few_effective_negatives_are_a_reason_to_harden_sooner() -> None:
    many, few, difficult = settled(), settled(), settled()
    assert observed(many, 60, positive_probability=0.81) == []
    decisions = observed(few, 60, positive_probability=0.81, effective_negatives=1.5)
    assert {decision.cause for decision in decisions} == {"few_negatives"} and few.hardness > 0.0
    assert observed(difficult, 60, positive_probability=0.65, effective_negatives=1.5) == []


def test_what_is_not_measured_is_not_judged() -> None:
    adaptive = AdaptiveCurriculum(PLAN, moving_tiers=MovingTiers(), refresh=negfast.RefreshPolicy(max_drift=0.0))
    for step in range(0, 600, 2):
        assert adaptive.observe(step, Signals()) == ()
        assert adaptive.observe(step + 1, Signals(loss=2.0)) == ()
    hardened = settled()
    observed(hardened, 60, positive_probability=0.95)
    hardness = hardened.hardness
    for step in range(1000, 1050):
        assert hardened.observe(step, Signals(loss=1.0)) == ()
    assert hardened.hardness == hardness > 0.0


def test_a_spike_softens_at_once_and_comes_back_slowly() -> None:
    adaptive = settled()
    first, second = adaptive.observe(100, Signals(**{**CALM, "loss": 3.0}))
    assert (first.action, first.cause, second.action, second.cause) == ("alarm", "loss_spike", "soften", "loss_spike")
    assert first.numbers["loss"] == 3.0 and first.numbers["score"] > 6.0
    path = [adaptive.hardness]
    for _ in range(400):
        observed(adaptive, 1)
        path.append(adaptive.hardness)
    assert path[:3] == pytest.approx([-0.1, -0.2, -0.3])
    assert path[20] == pytest.approx(-0.3) and path[-1] == pytest.approx(0.0, abs=1e-12)
    assert max(np.diff(path)) <= 1e-3 + 1e-12
    assert {decision.cause for decision in adaptive.log} == {"loss_spike", "recovery"}


def test_losses_that_are_often_zero_are_no_spikes() -> None:
    """Of 20,000 losses of each kind at most 20 are alarms, one in a thousand, and larger ones are still seen."""
    for share in (0.3, 0.5, 0.7):
        rng = np.random.default_rng(round(10 * share))
        spikes, alarms = Spikes(64), 0
        losses = np.maximum(rng.normal(-NormalDist().inv_cdf(share), 1.0, 20_064), 0.0)
        for loss in losses.tolist():
            alarms += (spikes.score(loss) or 0.0) > 6.0
        assert alarms <= 20, share
        assert (spikes.score(10.0) or 0.0) > 6.0


def test_spikes_do_not_hide_behind_some_others() -> None:
    spikes = Spikes(64)
    rng = np.random.default_rng(0)
    for loss in rng.normal(1.0, 0.1, 64).tolist():
        spikes.score(loss)
    for _ in range(5):
        assert (spikes.score(5.0) or 0.0) > 6.0
        spikes.score(1.0)


def test_after_a_spike_nothing_is_hardened_for_a_while() -> None:
    adaptive = settled()
    adaptive.observe(100, Signals(**{**CALM, "loss": 3.0}))
    decisions = observed(adaptive, 20, positive_probability=0.99)
    assert {decision.action for decision in decisions} == {"soften"}
    assert {decision.action for decision in observed(adaptive, 40, positive_probability=0.99)} == {"harden"}
    # The ceiling: half of what the alarm took, and what has recovered since.
    observed(adaptive, 60, positive_probability=0.99)
    assert adaptive.hardness == pytest.approx(-0.15 + 0.001 * 121, abs=1e-9)


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e31])
def test_what_is_not_finite_is_an_alarm(name: str, value: float) -> None:
    adaptive = settled()
    momentum = copy.deepcopy(adaptive.momentum)
    decisions = adaptive.observe(100, Signals(**{name: value}))
    assert [decision.cause for decision in decisions] == ["not_finite", "not_finite"]
    assert decisions[0].why == f"not finite: {name}" and adaptive.hardness == pytest.approx(-0.1)
    assert adaptive.momentum == momentum
    for step in range(101, 130):
        adaptive.observe(step, Signals(**{name: value}))
    assert adaptive.hardness == -1.0 and math.isfinite(adaptive.at(5).temperature)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("positive_probability", 7.0, "above 1"),
        ("positive_probability", 1e6, "above 1"),
        ("positive_probability", -0.01, "below 0"),
        ("false_negative_share", 1.1, "above 1"),
        ("false_negative_share", -1.0, "below 0"),
        ("spread", 1.01, "above 1"),
        ("spread", -2.0, "below -1"),
        ("effective_negatives", -1.0, "below 0"),
    ],
)
def test_what_cannot_be_is_an_alarm_like_nan(name: str, value: float, why: str) -> None:
    adaptive = settled()
    momentum = copy.deepcopy(adaptive.momentum)
    decisions = adaptive.observe(100, Signals(**{name: value}))
    assert [decision.cause for decision in decisions] == ["not_finite", "not_finite"]
    assert decisions[0].why == f"not finite: {name}, {value:g} is {why}"
    assert adaptive.momentum == momentum


def test_ranges_leave_room_for_rounding() -> None:
    rounded = {"positive_probability": 1 + 1e-7, "false_negative_share": -1e-7, "spread": -1 - 1e-7}
    assert settled().observe(100, Signals(**rounded, effective_negatives=-1e-7)) == ()


def test_quantiles_that_are_not_finite_are_an_alarm_too() -> None:
    adaptive = settled(moving_tiers=MovingTiers())
    decisions = adaptive.observe(100, Signals(hardness_quantiles=(0.0, math.nan)))
    assert decisions[0].why == "not finite: hardness_quantiles" and adaptive.tiers == PLAN.tiers


def test_rising_spread_is_a_collapse() -> None:
    adaptive = settled()
    decisions = observed(adaptive, 60, spread=0.9)
    alarms = [decision for decision in decisions if decision.action == "alarm"]
    assert {alarm.cause for alarm in alarms} == {"collapse"}
    # Half of the 0.8 is left where the running mean is 0.6. It is 0.9 - 0.7 / 2 ** (13 / 10) after the thirteenth.
    assert alarms[0].step == 112 and alarms[0].numbers["spread"] == pytest.approx(0.6157, abs=1e-3)
    assert observed(settled(), 200, spread=0.55) == []


def test_distances_that_shrink_together_are_a_collapse() -> None:
    def shrinking(positive: float, negative: float) -> set[str]:
        adaptive, causes = settled(), set()
        for step in range(100, 300):
            part = step - 100
            signals = Signals(positive_distance=0.3 * positive**part, negative_distance=0.8 * negative**part)
            causes |= {decision.cause for decision in adaptive.observe(step, signals) if decision.action == "alarm"}
        return causes

    assert shrinking(0.985, 0.985) == {"collapse"}
    assert shrinking(0.985, 1.0) == set()  # positives come nearer: it learns
    assert shrinking(1.0, 0.985) == set()  # negatives come nearer: they are harder
    assert shrinking(0.9985, 0.9985) == set()  # slowly, and not yet far


def test_too_many_false_negatives() -> None:
    adaptive = settled()
    decisions = observed(adaptive, 30, false_negative_share=0.5)
    assert decisions[0].cause == "false_negatives" and adaptive.hardness < -0.2
    assert observed(settled(), 100, false_negative_share=0.24) == []


def test_alarms_can_be_turned_off() -> None:
    off = HardnessAlarms(spike=None, collapse=None, max_false_negatives=None)
    adaptive = settled(alarms=off)
    assert observed(adaptive, 50, loss=50.0, spread=0.99, false_negative_share=0.9) == []


def test_each_alarm_makes_recovery_slower() -> None:
    adaptive, times = settled(), []
    for _ in range(3):
        adaptive.observe(adaptive.state_dict()["last_step"] + 1, Signals(loss=math.nan))
        observed(adaptive, 22)
        low = adaptive.hardness
        observed(adaptive, 10)
        times.append(adaptive.hardness - low)
    assert times == pytest.approx([0.01, 0.005, 0.01 / 3])


def test_alarms_while_one_holds_are_one() -> None:
    once, often = settled(), settled()
    once.observe(100, Signals(loss=math.nan))
    for step in range(100, 103):
        often.observe(step, Signals(loss=math.nan))
    assert once.state_dict()["hardness"]["alarms_so_far"] == often.state_dict()["hardness"]["alarms_so_far"] == 1


def test_tiers_follow_quantiles() -> None:
    adaptive = AdaptiveCurriculum(PLAN, moving_tiers=MovingTiers(hard=0.75, semi_hard=0.5), warmup=5)
    path = []
    for step in range(200):
        decisions = adaptive.observe(step, Signals(hardness_quantiles=(-0.5, -0.4, -0.3)))  # the quartiles
        path.append((adaptive.tiers.hard, adaptive.tiers.semi_hard))
        assert all(decision.action == "tiers" and decision.cause == "geometry" for decision in decisions)
    assert path[3] == (-0.05, -0.15) and path[4] == pytest.approx((-0.055, -0.155))
    assert np.abs(np.diff(path, axis=0)).max() <= 0.005 + 1e-12
    # They stop where they are nearer than half of the band.
    assert path[-1] == pytest.approx((-0.29, -0.39), abs=0.0051) and path[-1] == path[-30]
    assert adaptive.at(3).tiers == adaptive.tiers and adaptive.log[-1].after == path[-1]
    for step in range(200, 250):
        assert adaptive.observe(step, Signals(hardness_quantiles=(-0.5, -0.405, -0.305))) == ()


def test_tiers_stay_within_bounds_and_in_order() -> None:
    moving = MovingTiers(low=-0.2, high=0.0, rate=0.05)
    adaptive = AdaptiveCurriculum(PLAN, moving_tiers=moving, warmup=2)
    rng = np.random.default_rng(0)
    for step in range(400):
        centre = math.sin(step / 40)
        adaptive.observe(step, Signals(hardness_quantiles=np.sort(rng.normal(centre, 0.1, 9))))  # type: ignore[arg-type]
        assert -0.2 <= adaptive.tiers.semi_hard <= adaptive.tiers.hard <= 0.0
    assert len({decision.after for decision in adaptive.log}) > 10


@pytest.mark.parametrize(
    ("quantiles", "level", "expected"),
    [
        ((1.0, 2.0, 3.0), 0.5, 2.0),
        ((1.0, 2.0, 3.0), 0.75, 3.0),
        ((1.0, 2.0, 3.0), 0.625, 2.5),
        ((1.0, 2.0, 3.0), 0.9, 3.0),
        ((1.0, 2.0, 3.0), 0.1, 1.0),
        ((4.0,), 0.9, 4.0),
        ((0.0, 9.0), 0.5, 4.5),
    ],
)
def test_levels_between_quantiles(quantiles: tuple[float, ...], level: float, expected: float) -> None:
    from negfast.moving_edges import _at_level

    assert _at_level(quantiles, level) == pytest.approx(expected)


def test_drift_asks_for_a_refresh_once() -> None:
    policy = negfast.RefreshPolicy(max_drift=0.1, min_steps=20)
    adaptive = AdaptiveCurriculum(PLAN, refresh=policy)
    asked = []
    last = 0
    for step in range(1, 400):
        decisions = adaptive.observe(step, Signals(drift=0.002 * (step - last)))
        asked += [step for decision in decisions if decision.action == "refresh"]
        if adaptive.refresh_due and step == asked[-1] + 10:  # it takes a while
            adaptive.refreshed(step)
            last = step
            assert not adaptive.refresh_due
    assert asked == [51, 112, 173, 234, 295, 356]  # 0.1 / 0.002 steps after each refresh, which takes 10
    assert policy.last_step == 0  # a copy of it was told
    assert adaptive.log[0].why == "mean drift 0.102 is above max_drift 0.1"


def test_staleness_and_steps_ask_for_a_refresh_too() -> None:
    adaptive = AdaptiveCurriculum(PLAN, refresh=negfast.RefreshPolicy(every=100))
    steps = [step for step in range(150) if adaptive.observe(step, Signals())]
    assert steps == [100]
    miner = negfast.Miner(num_negatives=2, n_threads=1)
    rows = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    miner.mine(rows, rows, np.arange(200))
    stale = miner.staleness(range(200), -rows)
    other = AdaptiveCurriculum(PLAN, refresh=negfast.RefreshPolicy(min_overlap=0.9))
    assert other.observe(3, Signals()) == () and other.observe(4, Signals(), staleness=stale)[0].action == "refresh"


def test_losses_before_a_refresh_are_no_measure_for_those_after() -> None:
    adaptive = settled()
    adaptive.refreshed(100)
    assert "loss" not in adaptive.momentum
    assert observed(adaptive, 150, loss=3.0) == []


def test_a_loss_that_fell_before_a_refresh_says_nothing_after_it() -> None:
    adaptive = AdaptiveCurriculum(PLAN)
    for step in range(100):
        adaptive.observe(step, Signals(loss=0.9**step, positive_probability=0.97))
    assert adaptive.hardness == 0.0
    adaptive.refreshed(100)
    adaptive.observe(100, Signals(loss=0.9**100, positive_probability=0.97))
    assert adaptive.hardness > 0.0


def test_hardness_in_the_log_is_a_chain_without_a_gap() -> None:
    rng = np.random.default_rng(3)
    adaptive, hardness = AdaptiveCurriculum(PLAN, log_size=10**5), 0.0
    for step in range(2000):
        probability = 0.5 + 0.5 * math.sin(step / 100)
        loss = math.nan if rng.random() < 0.003 else 1.0
        adaptive.observe(step, Signals(loss=loss, positive_probability=probability))
    for decision in adaptive.log:
        if decision.action in ("harden", "soften", "alarm"):
            assert decision.before == (hardness,)
            assert (decision.after[0] > hardness) == (decision.action == "harden")
            (hardness,) = decision.after
    assert hardness == adaptive.hardness and {d.cause for d in adaptive.log} == {
        "easy",
        "difficult",
        "not_finite",
        "recovery",
    }
    json.dumps([decision.to_dict() for decision in adaptive.log], allow_nan=False)
    assert str(adaptive.log[0]) == f"step {adaptive.log[0].step}: {adaptive.log[0].why}"


def test_what_the_log_drops_is_counted() -> None:
    short, long = settled(log_size=10), settled()
    for adaptive in (short, long):
        observed(adaptive, 60, positive_probability=0.99)
    assert short.log == long.log[-10:] and len(short.log) == 10
    assert short.log_dropped == len(long.log) - 10 > 0 and long.log_dropped == 0


def test_momentum() -> None:
    adaptive = AdaptiveCurriculum(PLAN)
    for step in range(50):
        adaptive.observe(step, Signals(positive_distance=1.0 - 0.01 * step, loss=1.0))
    momentum = adaptive.momentum["positive_distance"]
    assert momentum["value"] == pytest.approx(0.51) and momentum["slope"] == pytest.approx(-0.01)
    assert (
        momentum["mean"] > 0.51 and momentum["count"] == 50 and set(adaptive.momentum) == {"positive_distance", "loss"}
    )


def signals_of(step: int) -> Signals:
    rng = np.random.default_rng((7, step))
    return Signals(
        loss=math.nan if step in (150, 151, 420) else float(1.0 + 0.1 * rng.normal() + (step == 300) * 5.0),
        positive_probability=float(np.clip(0.7 + 0.3 * math.sin(step / 60) + 0.05 * rng.normal(), 0, 1)),
        effective_negatives=float(3.0 + rng.normal()),
        spread=float(0.3 + 0.01 * rng.normal()),
        negative_distance=float(0.8 + 0.01 * rng.normal()),
        positive_distance=float(0.3 + 0.01 * rng.normal()),
        false_negative_share=0.1,
        drift=0.001 * (step % 130),
        hardness_quantiles=tuple(np.sort(rng.normal(-0.2 + step / 2000, 0.1, 9)).tolist()),
    )


def made() -> AdaptiveCurriculum:
    policy = negfast.RefreshPolicy(max_drift=0.1, min_steps=20)
    alarms = HardnessAlarms(window=16)
    return AdaptiveCurriculum(PLAN, alarms=alarms, moving_tiers=MovingTiers(), refresh=policy, log_size=50)


def go_on(adaptive: AdaptiveCurriculum, begin: int, end: int) -> None:
    for step in range(begin, end):
        adaptive.observe(step, signals_of(step))
        if adaptive.refresh_due and step % 7 == 0:
            adaptive.refreshed(step)


@pytest.mark.parametrize("stop", [1, 19, 77, 150, 151, 160, 301, 305, 420, 499])
def test_resuming_is_never_having_stopped(stop: int) -> None:
    whole, first, second = made(), made(), made()
    go_on(whole, 0, 500)
    go_on(first, 0, stop)
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    second.load_state_dict(state)
    assert second.state_dict() == first.state_dict()
    go_on(second, stop, 500)
    assert second.state_dict() == whole.state_dict() and second.log == whole.log
    assert second.at(500) == whole.at(500)
    hardness = whole.state_dict()["hardness"]
    assert hardness["alarms_so_far"] == 3 and whole.log_dropped > 100 and whole.tiers != PLAN.tiers


def test_a_state_is_a_copy() -> None:
    adaptive = made()
    go_on(adaptive, 0, 100)
    state = adaptive.state_dict()
    frozen = json.dumps(state)
    go_on(adaptive, 100, 200)
    assert json.dumps(state) == frozen
    other = made()
    other.load_state_dict(state)
    go_on(other, 100, 200)
    assert json.dumps(state) == frozen


def test_copies_are_on_their_own() -> None:
    adaptive = made()
    go_on(adaptive, 0, 100)
    for twin in (copy.deepcopy(adaptive), pickle.loads(pickle.dumps(adaptive))):  # noqa: S301
        before = adaptive.state_dict()
        go_on(twin, 100, 300)
        assert adaptive.state_dict() == before != twin.state_dict()


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("curriculum", {"curriculum": Curriculum()}),
    ("easier", {"easier": PLAN.easier(0.2)}),
    ("harder", {"harder": PLAN.harder(0.2)}),
    ("control", {"control": HardnessControl(target=0.6)}),
    ("alarms", {"alarms": HardnessAlarms(hold=5)}),
    ("moving_tiers", {"moving_tiers": None}),
    ("moving_tiers", {"moving_tiers": MovingTiers(rate=0.01)}),
    ("refresh", {"refresh": None}),
    ("refresh", {"refresh": negfast.RefreshPolicy(every=5)}),
    ("half_life", {"half_life": 11.0}),
    ("warmup", {"warmup": 30}),
    ("log_size", {"log_size": 10}),
]


@pytest.mark.parametrize(("name", "change"), OTHERS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(OTHERS)])
def test_states_of_others_are_refused_by_name(name: str, change: dict[str, Any]) -> None:
    own: dict[str, Any] = {
        "curriculum": PLAN,
        "alarms": HardnessAlarms(window=16),
        "moving_tiers": MovingTiers(),
        "refresh": negfast.RefreshPolicy(max_drift=0.1, min_steps=20),
        "log_size": 50,
    }
    state = made().state_dict()
    AdaptiveCurriculum(**own).load_state_dict(state)
    with pytest.raises(State, match=f"^{name} of the state must be"):
        AdaptiveCurriculum(**{**own, **change}).load_state_dict(state)


def leaves(state: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all values within a state."""
    if isinstance(state, dict) and state:
        return [path, *(leaf for key, value in state.items() for leaf in leaves(value, (*path, key)))]
    if isinstance(state, list) and state:
        return [path, *leaves(state[0], (*path, 0))]
    return [path]


def damaged(state: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    part = dict(state) if isinstance(state, dict) else list(state)
    part[path[0]] = damaged(state[path[0]], path[1:], value)
    return part


def test_damaged_states_are_refused_and_change_nothing() -> None:
    adaptive = made()
    go_on(adaptive, 0, 200)
    state = adaptive.state_dict()
    before = json.dumps(state)
    tried = 0
    for path in leaves(state):
        if not path:
            continue
        with pytest.raises(State):
            adaptive.load_state_dict(damaged(state, path, object()))
        tried += 1
    assert tried > 60 and json.dumps(adaptive.state_dict()) == before
    with pytest.raises(State, match="a decision of the log"):
        adaptive.load_state_dict(damaged(state, ("log", "kept", 0), {"step": 1}))
    for path, value in (
        (("log", "kept", 0, "step"), "x"),
        (("log", "kept", 0, "step"), -1),
        (("log", "kept", 0, "action"), "none"),
        (("log", "kept", 0, "before"), "0"),
        (("log", "kept", 0, "numbers"), {"loss": "1"}),
        (("hardness", "left"), 1e308),
        (("hardness", "owed"), 1e308),
        (("hardness", "owed"), 2.1),
    ):
        with pytest.raises(State, match="the state is damaged"):
            adaptive.load_state_dict(damaged(state, path, value))
    with pytest.raises(State, match="version of the state must be 1"):
        adaptive.load_state_dict({**state, "version": 2})
    with pytest.raises(Type, match="state must be a mapping, got NoneType"):
        adaptive.load_state_dict(None)  # type: ignore[arg-type]


def test_steps_must_rise_and_nothing_changes_where_they_do_not() -> None:
    adaptive = settled()
    state = adaptive.state_dict()
    for step, error in ((99, Value), (-1, Value), (1.5, Type), (2**60, Value)):
        with pytest.raises(error, match="step must be"):
            adaptive.observe(step, Signals(loss=5.0))  # type: ignore[arg-type]
    with pytest.raises(Type, match=r"signals must be a negfast\.Signals, got dict"):
        adaptive.observe(100, {"loss": 1.0})  # type: ignore[arg-type]
    with pytest.raises(Type, match=r"staleness must be a negfast\.Staleness, got float"):
        adaptive.observe(100, Signals(), staleness=0.5)  # type: ignore[arg-type]
    assert adaptive.state_dict() == state
    refreshing = made()
    refreshing.refreshed(50)
    with pytest.raises(Value, match="step must be at least that of the last refresh, 50, got 49"):
        refreshing.observe(49, Signals())
    with pytest.raises(Value, match="step must be at least that of the last refresh"):
        refreshing.refreshed(10)


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: AdaptiveCurriculum(1), Type, "curriculum must be a negfast.Curriculum, got int"),  # type: ignore[arg-type]
    (lambda: AdaptiveCurriculum(PLAN, harder=0.5), Type, "harder must be a negfast.Curriculum, got float"),  # type: ignore[arg-type]
    (lambda: AdaptiveCurriculum(PLAN, control={}), Type, "control must be a negfast.HardnessControl, got dict"),  # type: ignore[arg-type]
    (lambda: AdaptiveCurriculum(PLAN, alarms=None), Type, "alarms must be a negfast.HardnessAlarms, got NoneType"),  # type: ignore[arg-type]
    (lambda: AdaptiveCurriculum(PLAN, moving_tiers=Tiers()), Type, "moving_tiers must be a negfast.MovingTiers"),  # type: ignore[arg-type]
    (lambda: AdaptiveCurriculum(PLAN, refresh=5), Type, "refresh must be a negfast.RefreshPolicy, got int"),  # type: ignore[arg-type]
    (lambda: AdaptiveCurriculum(PLAN, half_life=0.0), Value, "half_life must be at least 0.1, got 0.0"),
    (lambda: AdaptiveCurriculum(PLAN, warmup=1), Value, "warmup must be at least 2, got 1"),
    (lambda: AdaptiveCurriculum(PLAN, log_size=0), Value, "log_size must be at least 1, got 0"),
    (
        lambda: AdaptiveCurriculum(PLAN, harder=replace(PLAN, relative_margin=0.1)),
        Value,
        "harder.relative_margin must be None where that of curriculum is",
    ),
    (
        lambda: AdaptiveCurriculum(replace(PLAN, range_max=5), easier=PLAN),
        Value,
        "easier.range_max must be None where that of curriculum is, and a number where that is one, got None",
    ),
    (
        lambda: AdaptiveCurriculum(PLAN, easier=replace(PLAN, tiers=Tiers(0.0, -0.1))),
        Value,
        "easier.tiers must be those of curriculum",
    ),
    (
        lambda: AdaptiveCurriculum(PLAN, moving_tiers=MovingTiers(high=-0.1)),
        Value,
        "tiers.hard of the curriculum must be within the bounds of moving_tiers, -0.6 to -0.1, got -0.05",
    ),
    (
        lambda: AdaptiveCurriculum(Curriculum(temperature=1e-6)),
        Value,
        "harder is curriculum.harder() by default, which cannot be made: at step 0, temperature must be at least 1e-06",
    ),
    (lambda: HardnessControl(target=1.5), Value, "control.target must be between 0 and 1, got 1.5"),
    (lambda: HardnessControl(low=0.5), Value, "control.low must be between -1 and 0, got 0.5"),
    (lambda: HardnessControl(high=-0.5), Value, "control.high must be between 0 and 1, got -0.5"),
    (lambda: HardnessControl(rate=math.nan), Value, "control.rate must be finite, got nan"),
    (lambda: HardnessControl(integral=-1.0), Value, "control.integral must be between 0 and 1e+06, got -1.0"),
    (lambda: HardnessControl(min_effective="x"), Type, "control.min_effective must be a number, got str"),  # type: ignore[arg-type]
    (lambda: HardnessAlarms(window=3), Value, "alarms.window must be at least 16, got 3"),
    (lambda: HardnessAlarms(hold=-1), Value, "alarms.hold must be at least 0, got -1"),
    (lambda: HardnessAlarms(collapse=2.0), Value, "alarms.collapse must be between 0 and 1, got 2.0"),
    (lambda: HardnessAlarms(backoff=-0.1), Value, "alarms.backoff must be between 0 and 2, got -0.1"),
    (lambda: MovingTiers(hard=1.0), Value, "moving_tiers.hard must be above 0 and below 1, got 1.0"),
    (lambda: MovingTiers(hard=0.2), Value, "moving_tiers.semi_hard must be at most moving_tiers.hard = 0.2, got 0.5"),
    (lambda: MovingTiers(low=0.5), Value, "moving_tiers.low must be at most moving_tiers.high = 0.1, got 0.5"),
    (lambda: MovingTiers(rate=-1.0), Value, "moving_tiers.rate must be at least 0, got -1.0"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_settings_have_plain_forms() -> None:
    for settings in (HardnessControl(target=0.6), HardnessAlarms(spike=None), MovingTiers(band=0.1)):
        assert type(settings).from_dict(json.loads(json.dumps(settings.to_dict()))) == settings  # type: ignore[attr-defined]


@pytest.mark.parametrize(("deviations", "recovers"), [((0.2, 0.1), True), ((-0.3,), False)])
def test_what_an_alarm_took_is_forgotten_only_where_the_controller_softens_too(
    deviations: tuple[float, ...], recovers: bool
) -> None:
    """A controller that hardens takes a little back as its error shrinks; that does not count as softening."""
    hardness = Hardness(HardnessControl(), HardnessAlarms(hold=0))
    hardness.alarm("any")
    for _ in range(3):
        hardness.move(0.0, easily=False, resting=False)
    path = [hardness.value]
    for deviation in (*deviations, 0.0):
        hardness.move(deviation, easily=False, resting=False)
        path.append(hardness.value)
    assert path[0] == pytest.approx(-0.3) and min(np.diff(path)) < 0.0
    for _ in range(100):
        hardness.move(0.0, easily=False, resting=False)
    assert (hardness.value > path[-1] + 0.05) == recovers
