"""`RefreshPolicy`: decisions that were worked out by hand."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import negfast
from negfast.refresh_report import Drift

CALM = negfast.Staleness(
    drift=Drift(0.1, 0.1, 0.2, 0.3),
    drift_corpus=Drift(0.1, 0.1, 0.2, 0.3),
    drift_queries=None,
    mean_squared=0.01,
    mean_shift=0.0,
    overlap=0.9,
    turnover=0.2,
    k=8,
    depth=8.0,
    n_rows=100,
    n_queries=10,
    n_served=5,
)


def test_every_so_many_steps() -> None:
    policy = negfast.RefreshPolicy(every=100)
    assert [bool(policy.decide(step)) for step in (0, 99, 100, 250)] == [False, False, True, True]
    policy.refreshed(150)
    assert [policy.decide(step).refresh for step in (150, 249, 250)] == [False, False, True]
    assert policy.decide(249).why == "99 steps since the last refresh, and nothing that was measured asks for one"
    assert policy.decide(260).why == "110 steps since the last refresh, every is 100"


def test_deciding_changes_nothing() -> None:
    policy = negfast.RefreshPolicy(every=10)
    assert policy.decide(10) == policy.decide(10)
    assert policy.last_step == 0


@pytest.mark.parametrize(("overlap", "refresh"), [(0.701, False), (0.7, False), (0.699, True)])
def test_overlap_below_its_bound(overlap: float, refresh: bool) -> None:
    policy = negfast.RefreshPolicy(min_overlap=0.7)
    decision = policy.decide(5, replace(CALM, overlap=overlap))
    assert decision.refresh is refresh
    if refresh:
        assert decision.why == "overlap 0.699 is below min_overlap 0.7"


@pytest.mark.parametrize(("mean", "refresh"), [(0.149, False), (0.15, False), (0.151, True)])
def test_drift_above_its_bound(mean: float, refresh: bool) -> None:
    policy = negfast.RefreshPolicy(max_drift=0.15)
    decision = policy.decide(5, replace(CALM, drift=Drift(mean, 0.0, 9.0, 9.0)))
    assert decision.refresh is refresh
    if refresh:
        assert decision.why == "mean drift 0.151 is above max_drift 0.15"


@pytest.mark.parametrize(("drift", "refresh"), [(0.149, False), (0.15, False), (0.151, True)])
def test_drift_that_was_measured_alone(drift: float, refresh: bool) -> None:
    policy = negfast.RefreshPolicy(max_drift=0.15)
    assert policy.decide(5, drift=drift).refresh is refresh
    # Where staleness is given, its own counts.
    assert not policy.decide(5, CALM, drift=drift)
    assert not negfast.RefreshPolicy(min_overlap=0.5).decide(5, drift=drift)
    with pytest.raises(negfast.InvalidValueError, match="drift must be at least 0, got -1"):
        policy.decide(5, drift=-1.0)


def test_a_condition_without_its_measurement_is_not_judged() -> None:
    policy = negfast.RefreshPolicy(max_drift=0.0, min_overlap=1.0, easy_share=0.0)
    assert not policy.decide(10**9)


# 1.15 * now < then, and |now| < 0.8, on the mean of each anchor.
@pytest.mark.parametrize(
    ("now", "then", "easy"),
    [
        (0.5, 0.576, True),  # 0.575 < 0.576
        (0.5, 0.574, False),
        (0.5, 0.5, False),  # as they were
        (0.6, 0.5, False),  # harder
        (0.79, 0.95, True),  # 0.9085 < 0.95
        (0.81, 0.95, False),  # 0.9315 < 0.95, but they are still hard
        (-0.1, -0.1, True),  # below zero the rule holds of negatives that stand still
        (-0.9, 0.5, False),  # and not of those far below
        (0.0, 0.0, False),
    ],
)
def test_the_two_constants(now: float, then: float, easy: bool) -> None:
    policy = negfast.RefreshPolicy(easy_share=1.0)
    assert policy.decide(1, negative_scores=[now], initial_scores=[then]).refresh is easy
    spread = np.array([[now - 0.05, now + 0.05]]), np.array([[then + 0.01, then - 0.01]])
    assert policy.decide(1, negative_scores=spread[0], initial_scores=spread[1]).refresh is easy


def test_own_constants() -> None:
    policy = negfast.RefreshPolicy(easy_share=1.0, easy_ratio=2.0, easy_ceiling=0.3)
    pairs = ((0.2, 0.41, True), (0.2, 0.39, False), (0.31, 0.9, False))
    for now, then, easy in pairs:
        assert policy.decide(1, negative_scores=[now], initial_scores=[then]).refresh is easy


def test_a_share_of_the_anchors() -> None:
    policy = negfast.RefreshPolicy(easy_share=0.5)
    then = np.full((5, 2), 0.6, np.float32)
    now = then.copy()
    now[:2] = 0.3
    assert not policy.decide(1, negative_scores=now, initial_scores=then)
    now[2] = 0.3
    decision = policy.decide(1, negative_scores=now, initial_scores=then)
    assert decision.why == "negatives of 3 of 5 anchors have gone easy, easy_share is 0.5"
    # Two of four: an anchor without negatives does not count.
    now[2], now[4] = 0.6, -np.inf
    assert policy.decide(1, negative_scores=now, initial_scores=then)


def test_padding_is_left_out_on_both_sides() -> None:
    policy = negfast.RefreshPolicy(easy_share=1.0)
    then = np.array([[0.9, 0.5, -np.inf]])
    now = np.array([[np.nan, 0.5, 0.0]])  # the mean of what is left stays 0.5
    assert not policy.decide(1, negative_scores=now, initial_scores=then)
    none = np.full((3, 2), -np.inf)
    assert not policy.decide(1, negative_scores=none, initial_scores=none)
    assert not policy.decide(1, negative_scores=none[:0], initial_scores=none[:0])


def test_no_share_still_asks_for_one_anchor() -> None:
    policy = negfast.RefreshPolicy(easy_share=0.0)
    assert not policy.decide(1, negative_scores=[0.5, 0.5], initial_scores=[0.5, 0.5])
    assert policy.decide(1, negative_scores=[0.5, 0.1], initial_scores=[0.5, 0.5])


def test_steps_between_two_refreshes() -> None:
    policy = negfast.RefreshPolicy(min_overlap=0.95, min_steps=20)
    assert policy.decide(19, CALM).why == "19 steps since the last refresh, min_steps is 20"
    assert not policy.decide(19, CALM)
    assert policy.decide(20, CALM)
    policy.refreshed(20)
    assert not policy.decide(39, CALM)
    assert policy.decide(40, CALM)


def test_all_causes_are_named() -> None:
    policy = negfast.RefreshPolicy(every=5, min_overlap=0.95, max_drift=0.05)
    assert policy.decide(5, CALM).why == (
        "5 steps since the last refresh, every is 5; overlap 0.900 is below min_overlap 0.95; "
        "mean drift 0.100 is above max_drift 0.05"
    )


def test_what_a_miner_measures_goes_in() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    miner = negfast.Miner(num_negatives=2, n_threads=1)
    mined = miner.mine(rows, rows, np.arange(200))
    stale = miner.staleness(range(200), -rows)
    assert negfast.RefreshPolicy(min_overlap=0.5).decide(1, stale)
    policy = negfast.RefreshPolicy(easy_share=0.5)
    assert policy.decide(1, negative_scores=mined.scores / 2, initial_scores=mined.scores)
    assert not policy.decide(1, negative_scores=mined.scores, initial_scores=mined.scores)


def test_state() -> None:
    policy = negfast.RefreshPolicy(every=100, max_drift=0.2, min_steps=10)
    policy.refreshed(150)
    state = json.loads(json.dumps(policy.state_dict()))
    again = negfast.RefreshPolicy(every=100, max_drift=0.2, min_steps=10)
    again.load_state_dict(state)
    assert again.last_step == 150
    assert again.state_dict() == policy.state_dict()
    assert repr(again) == (
        "RefreshPolicy(every=100, max_drift=0.2, easy_ratio=1.15, easy_ceiling=0.8, min_steps=10): "
        "last refresh at step 150"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format of the state must be 1, as of this policy, got 2"),
        ({"every": 7}, "every of the state must be 100"),
        ({"last_step": -1}, "the state is damaged: last_step must be at least 0"),
        ({"last_step": None}, "the state is damaged"),
    ],
)
def test_another_state_is_refused(change: dict[str, Any], message: str) -> None:
    policy = negfast.RefreshPolicy(every=100)
    policy.refreshed(3)
    with pytest.raises(negfast.StateError, match=message):
        policy.load_state_dict({**policy.state_dict(), **change})
    with pytest.raises(negfast.StateError):
        policy.load_state_dict({})
    with pytest.raises(negfast.InvalidTypeError, match="state must be a mapping"):
        policy.load_state_dict([])  # type: ignore[arg-type]
    assert policy.last_step == 3


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({}, negfast.InvalidValueError, "one of every, min_overlap, max_drift, easy_share must be given"),
        ({"every": 0}, negfast.InvalidValueError, "every must be at least 1"),
        ({"every": 1.5}, negfast.InvalidTypeError, "every must be an integer"),
        ({"every": 5, "min_steps": 6}, negfast.InvalidValueError, "every must be at least min_steps = 6, got 5"),
        ({"min_overlap": 1.5}, negfast.InvalidValueError, "min_overlap must be between 0 and 1"),
        ({"max_drift": -0.1}, negfast.InvalidValueError, "max_drift must be at least 0"),
        ({"max_drift": "a"}, negfast.InvalidTypeError, "max_drift must be a number"),
        ({"easy_share": 2}, negfast.InvalidValueError, "easy_share must be between 0 and 1"),
        ({"every": 1, "easy_ratio": -1}, negfast.InvalidValueError, "easy_ratio must be at least 0"),
        ({"every": 1, "easy_ceiling": None}, negfast.InvalidTypeError, "easy_ceiling must be a number"),
        ({"every": 1, "min_steps": -1}, negfast.InvalidValueError, "min_steps must be at least 0"),
    ],
)
def test_bad_settings(settings: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        negfast.RefreshPolicy(**settings)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"step": 1.0}, negfast.InvalidTypeError, "step must be an integer"),
        ({"step": 4}, negfast.InvalidValueError, "step must be at least that of the last refresh, 5, got 4"),
        ({"staleness": 0.3}, negfast.InvalidTypeError, "staleness must be a negfast.Staleness, got float"),
        ({"negative_scores": [0.1]}, negfast.InvalidValueError, "given together, got negative_scores alone"),
        ({"initial_scores": [0.1]}, negfast.InvalidValueError, "given together, got initial_scores alone"),
        (
            {"negative_scores": [0.1], "initial_scores": [0.1, 0.2]},
            negfast.InvalidValueError,
            r"as initial_scores, got \(1,\) and \(2,\); score the same negatives as then",
        ),
        ({"negative_scores": [[[0.1]]], "initial_scores": [[[0.1]]]}, negfast.InvalidValueError, "must be of shape"),
        ({"negative_scores": ["a"], "initial_scores": [0.1]}, negfast.InvalidTypeError, "must be numbers"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    policy = negfast.RefreshPolicy(every=100)
    policy.refreshed(5)
    with pytest.raises(kind, match=message):
        policy.decide(**{"step": 5, **arguments})
    with pytest.raises(negfast.InvalidValueError, match="at least that of the last refresh"):
        policy.refreshed(4)
