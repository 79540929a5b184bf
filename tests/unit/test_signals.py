"""`Signals`: what is taken, means over several, and what is refused."""

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import negfast
from negfast import Signals

Type, Value = negfast.InvalidTypeError, negfast.InvalidValueError


def test_nothing_is_measured_unless_it_is_given() -> None:
    empty = Signals()
    assert set(empty.to_dict().values()) == {None}
    assert repr(empty) == "Signals()" and repr(Signals(loss=1)) == "Signals(loss=1.0)"


def test_numbers_become_plain() -> None:
    signals = Signals(loss=np.float32(0.5), drift=3, spread=np.array(0.25), hardness_quantiles=np.array([-0.5, 0.0]))  # type: ignore[arg-type]
    assert signals == Signals(loss=0.5, drift=3.0, spread=0.25, hardness_quantiles=(-0.5, 0.0))
    json.dumps(signals.to_dict())
    assert pickle.loads(pickle.dumps(signals)) == signals  # noqa: S301 - our own
    assert hash(signals) == hash(Signals(**signals.to_dict()))


def test_what_is_not_finite_is_news() -> None:
    signals = Signals(loss=math.nan, drift=math.inf, spread=10**400)  # type: ignore[arg-type]
    assert math.isnan(signals.loss or 0.0) and signals.drift == signals.spread == math.inf


def test_means_are_over_those_that_measured() -> None:
    one = Signals(loss=1.0, drift=0.2, hardness_quantiles=(0.0, 1.0))
    two = Signals(loss=3.0, hardness_quantiles=(1.0, 2.0))
    assert Signals.mean([one, two, Signals()]) == Signals(loss=2.0, drift=0.2, hardness_quantiles=(0.5, 1.5))
    assert Signals.mean([]) == Signals.mean([Signals()]) == Signals()
    assert Signals.mean(iter([one])) == one


def test_a_mean_hides_no_nan_and_does_not_overflow() -> None:
    assert math.isnan(Signals.mean([Signals(loss=math.nan), Signals(loss=1.0)]).loss or 0.0)
    assert math.isnan(Signals.mean([Signals(loss=math.inf), Signals(loss=-math.inf)]).loss or 0.0)
    assert Signals.mean([Signals(loss=1e308), Signals(loss=1e308)]).loss == 1e308


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Signals(loss="x"), Type, "loss must be a number, got str 'x'; pass a float, of a tensor its .item()"),  # type: ignore[arg-type]
    (lambda: Signals(drift=True), Type, "drift must be a number, got bool"),
    (lambda: Signals(spread=np.zeros(2)), Type, "spread must be a number, got ndarray"),  # type: ignore[arg-type]
    (lambda: Signals(hardness_quantiles=0.5), Type, "hardness_quantiles must be a list of numbers"),  # type: ignore[arg-type]
    (lambda: Signals(hardness_quantiles=()), Type, "leave it out where nothing was measured"),
    (lambda: Signals(hardness_quantiles=(0.1, None)), Type, "hardness_quantiles[1] must be a number"),  # type: ignore[arg-type]
    (lambda: Signals.mean([1]), Type, "signals must be a negfast.Signals, got int"),  # type: ignore[list-item]
    (
        lambda: Signals.mean([Signals(hardness_quantiles=(0.1,)), Signals(hardness_quantiles=(0.1, 0.2))]),
        Value,
        "hardness_quantiles must be as many in all signals, got [1, 2]",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
