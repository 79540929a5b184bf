"""`AnchorQuantiles`: updates worked out by hand, state, and what is refused. Convergence is among the statistics."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import negfast
from negfast import AnchorQuantiles

Type, Value, State = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.StateError
SCORES = [[0.1, 0.9, 0.5, 0.3]]


def test_the_first_update_is_the_quantile_of_its_scores() -> None:
    for alpha, expected in ((0.1, 0.9), (0.25, 0.5), (0.5, 0.3), (0.75, 0.1), (0.99, 0.1)):
        quantiles = AnchorQuantiles(3, alpha=alpha)
        quantiles.update([1], SCORES)
        np.testing.assert_array_equal(quantiles.thresholds([0, 1, 2]), np.float32([np.inf, expected, np.inf]))


def test_later_updates_by_hand() -> None:
    quantiles = AnchorQuantiles(1, alpha=0.25, rate=0.1, first_rate=0.3)
    quantiles.update([0], SCORES)  # 0.5
    quantiles.update([0], [[0.6, 0.7, 0.8, 0.4]])  # three of four above; 0.3 / 2
    assert quantiles.thresholds([0])[0] == pytest.approx(0.5 + 0.15 * (0.75 - 0.25))
    for _ in range(2):
        quantiles.update([0], [[0.0]])  # none above; 0.3 / 3, and 0.3 / 4, which is less than the rate
    assert quantiles.thresholds([0])[0] == pytest.approx(0.575 - 0.1 * 0.25 - 0.1 * 0.25)


def test_rows_of_one_anchor_count_one_after_another() -> None:
    rng = np.random.default_rng(0)
    anchors = np.array([2, 0, 2, 2, 1, 0])
    scores = rng.normal(size=(6, 9)).astype(np.float32)
    together, apart = AnchorQuantiles(4, alpha=0.2), AnchorQuantiles(4, alpha=0.2)
    together.update(anchors, scores)
    for anchor, row in zip(anchors, scores, strict=True):
        apart.update([anchor], row[None])
    np.testing.assert_array_equal(together.thresholds(range(4)), apart.thresholds(range(4)))
    np.testing.assert_array_equal(together.state_dict()["counts"], [2, 1, 3, 0])


def test_what_is_masked_or_not_finite_does_not_count() -> None:
    plain, masked = AnchorQuantiles(2, alpha=0.3), AnchorQuantiles(2, alpha=0.3)
    for shift in (0.0, 0.1):
        plain.update([0], [[0.2 + shift, 0.4, 0.6]])
        masked.update(
            [0, 1],
            [[0.2 + shift, 0.4, math.nan, 0.6, -math.inf, 0.99], [math.nan] * 6],
            [[True] * 5 + [False], [True] * 6],
        )
    np.testing.assert_array_equal(plain.thresholds([0, 1]), masked.thresholds([0, 1]))
    assert masked.thresholds([1])[0] == np.inf


def test_the_share_is_over_anchors_that_were_met() -> None:
    quantiles = AnchorQuantiles(3, alpha=0.25)
    assert quantiles.share([0], SCORES) is None
    quantiles.update([0, 1], [[0.5] * 4, [0.2] * 4])
    scores = [[0.6, 0.5, 0.4, 0.1], [0.3, 0.3, 0.1, 0.1], [0.9] * 4]
    assert quantiles.share([0, 1, 2], scores) == 3 / 8
    assert quantiles.share([0, 1, 2], scores, [[True, False, False, False]] * 3) == 1.0
    assert quantiles.share([2], [[0.9]]) is None and quantiles.share([], np.zeros((0, 4))) is None
    assert negfast.Signals(false_negative_share=quantiles.share([2], [[0.9]])) == negfast.Signals()


def test_nothing_is_legal() -> None:
    quantiles = AnchorQuantiles(0)
    quantiles.update([], np.zeros((0, 5), np.float32))
    assert quantiles.thresholds([]).shape == (0,)
    AnchorQuantiles(2).update([0], np.zeros((1, 0), np.float32))


def test_repr_and_arrays_are_on_their_own() -> None:
    quantiles = AnchorQuantiles(1000, alpha=0.1)
    quantiles.update([5], SCORES)
    assert repr(quantiles) == "AnchorQuantiles(1000, alpha=0.1, rate=0.05, first_rate=1): 1 anchors met"
    quantiles.thresholds([5])[:] = 7.0
    quantiles.state_dict()["thresholds"][:] = 7.0
    assert quantiles.thresholds([5])[0] == np.float32(0.9)


def test_resuming_is_never_having_stopped() -> None:
    rng = np.random.default_rng(0)
    calls = [(rng.integers(0, 20, 8), rng.normal(size=(8, 16)).astype(np.float32)) for _ in range(60)]
    whole, first, second = (AnchorQuantiles(20, alpha=0.1) for _ in range(3))
    for call in calls:
        whole.update(*call)
    for call in calls[:31]:
        first.update(*call)
    second.load_state_dict(first.state_dict())
    third = pickle.loads(pickle.dumps(copy.deepcopy(first)))  # noqa: S301
    for call in calls[31:]:
        second.update(*call)
        third.update(*call)
    for other in (second, third):
        for name, value in whole.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[name], value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("n_anchors", {"n_anchors": 3}),
        ("alpha", {"alpha": 0.2}),
        ("rate", {"rate": 0.1}),
        ("first_rate", {"first_rate": 2.0}),
    ],
)
def test_states_of_others_are_refused_by_name(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(State, match=f"^{name} of the state must be"):
        AnchorQuantiles(**{"n_anchors": 2, **change}).load_state_dict(AnchorQuantiles(2).state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": None},
        {"thresholds": np.zeros(2)},
        {"thresholds": np.zeros(3, np.float32)},
        {"thresholds": np.full(2, np.nan, np.float32)},
        {"counts": np.full(2, -1, np.int32)},
        {"counts": [0, 0]},
    ],
)
def test_damaged_states_change_nothing(change: dict[str, Any]) -> None:
    quantiles = AnchorQuantiles(2)
    quantiles.update([0], SCORES)
    with pytest.raises(State):
        quantiles.load_state_dict({**quantiles.state_dict(), **change})
    assert quantiles.thresholds([0])[0] == np.float32(0.9)


Q = AnchorQuantiles(4)
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: AnchorQuantiles(-1), Value, "n_anchors must be at least 0, got -1"),
    (lambda: AnchorQuantiles(2.0), Type, "n_anchors must be an integer, got float"),  # type: ignore[arg-type]
    (lambda: AnchorQuantiles(2, alpha=0.0), Value, "alpha must be above 0 and below 1, got 0.0"),
    (lambda: AnchorQuantiles(2, alpha=1.0), Value, "alpha must be above 0 and below 1, got 1.0"),
    (lambda: AnchorQuantiles(2, rate=-0.1), Value, "rate must be at least 0, got -0.1"),
    (lambda: AnchorQuantiles(2, first_rate=math.inf), Value, "first_rate must be finite, got inf"),
    (
        lambda: Q.update([4], SCORES),
        negfast.RowIndexError,
        "anchors must be from 0 to 4, exclusive, got 4 at position 0",
    ),
    (lambda: Q.update([-1], SCORES), negfast.RowIndexError, "anchors must be from 0 to 4, exclusive, got -1"),
    (lambda: Q.update([[0]], SCORES), Value, "anchors must be of shape (n_anchors,), got (1, 1)"),
    (lambda: Q.update([0.5], SCORES), Type, "anchors must be integers"),
    (
        lambda: Q.update([0, 1], SCORES),
        Value,
        "scores must be of shape (n_anchors, n_negatives), with 2 rows, got (1, 4)",
    ),
    (lambda: Q.update([0], [0.5]), Value, "scores must be of shape (n_anchors, n_negatives), with 1 rows, got (1,)"),
    (lambda: Q.update([0], [["a"]]), Type, "scores must be numbers"),
    (lambda: Q.update([0], SCORES, [[1, 0, 0, 1]]), Type, "mask must be bool, got dtype int64"),
    (lambda: Q.share([0], SCORES, [[True]]), Value, "mask must be of the shape of scores, (1, 4), got (1, 1)"),
    (lambda: Q.thresholds([9]), negfast.RowIndexError, "anchors must be from 0 to 4, exclusive, got 9"),
    (lambda: Q.load_state_dict(1), Type, "state must be a mapping, got int"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
