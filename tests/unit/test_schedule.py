"""Schedules: values worked out by hand, plain forms, compositions, and what is refused."""

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import negfast
from negfast import schedule
from negfast.schedule import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Maximum,
    Minimum,
    Periodic,
    Piecewise,
    Product,
    Schedule,
    Steps,
    Sum,
    Then,
    Warmup,
)

Type, Value = negfast.InvalidTypeError, negfast.InvalidValueError

# A schedule, a step, and the value there.
BY_HAND: list[tuple[Schedule, int, float]] = [
    (Constant(3), 0, 3.0),
    (Constant(3), 10**6, 3.0),
    (Linear(1.0, 3.0, steps=4), 0, 1.0),
    (Linear(1.0, 3.0, steps=4), 1, 1.5),
    (Linear(1.0, 3.0, steps=4), 4, 3.0),
    (Linear(3.0, 1.0, steps=4), 3, 1.5),
    (Linear(3.0, 1.0, steps=4), 99, 1.0),
    (Cosine(1.0, 3.0, steps=6), 0, 1.0),
    (Cosine(1.0, 3.0, steps=6), 2, 1.5),  # (1 - cos 60°) / 2 is a quarter
    (Cosine(1.0, 3.0, steps=6), 3, 2.0),
    (Cosine(1.0, 3.0, steps=6), 4, 2.5),
    (Cosine(1.0, 3.0, steps=6), 7, 3.0),
    (Exponential(1.0, 16.0, steps=4), 0, 1.0),
    (Exponential(1.0, 16.0, steps=4), 1, 2.0),
    (Exponential(1.0, 16.0, steps=4), 2, 4.0),
    (Exponential(16.0, 1.0, steps=4), 3, 2.0),
    (Exponential(16.0, 1.0, steps=4), 4, 1.0),
    # Kukleva et al.: low + (high - low) * (1 + cos(2 pi t / T)) / 2.
    (Periodic(0.1, 1.0, period=12), 0, 1.0),
    (Periodic(0.1, 1.0, period=12), 2, 0.1 + 0.9 * 0.75),
    (Periodic(0.1, 1.0, period=12), 3, 0.55),
    (Periodic(0.1, 1.0, period=12), 6, 0.1),
    (Periodic(0.1, 1.0, period=12), 12 + 9, 0.55),
    (Periodic(0.1, 1.0, period=12), 24, 1.0),
    (Steps((2, 5), (0.1, 0.2, 0.3)), 1, 0.1),
    (Steps((2, 5), (0.1, 0.2, 0.3)), 2, 0.2),
    (Steps((2, 5), (0.1, 0.2, 0.3)), 4, 0.2),
    (Steps((2, 5), (0.1, 0.2, 0.3)), 5, 0.3),
    (Steps((), (7.0,)), 9, 7.0),
    (Piecewise([(2, 1.0), (4, 3.0), (8, 2.0)]), 0, 1.0),
    (Piecewise([(2, 1.0), (4, 3.0), (8, 2.0)]), 3, 2.0),
    (Piecewise([(2, 1.0), (4, 3.0), (8, 2.0)]), 4, 3.0),
    (Piecewise([(2, 1.0), (4, 3.0), (8, 2.0)]), 5, 2.75),
    (Piecewise([(2, 1.0), (4, 3.0), (8, 2.0)]), 99, 2.0),
    (Warmup(4.0, steps=4), 0, 0.0),
    (Warmup(4.0, steps=4, start=2.0), 1, 2.5),
    (Warmup(Linear(4.0, 8.0, steps=4), steps=2), 1, 2.5),  # half of the way to 5
    (Warmup(Linear(4.0, 8.0, steps=4), steps=2), 3, 7.0),
    (Then(1.0, 3, Linear(5.0, 7.0, steps=2)), 2, 1.0),
    (Then(1.0, 3, Linear(5.0, 7.0, steps=2)), 3, 5.0),
    (Then(1.0, 3, Linear(5.0, 7.0, steps=2)), 4, 6.0),
    (Sum(Linear(0.0, 1.0, steps=2), 2.0), 1, 2.5),
    (Product(Linear(0.0, 1.0, steps=2), 3.0), 1, 1.5),
    (Minimum(Linear(0.0, 1.0, steps=2), 0.4), 1, 0.4),
    (Maximum(Linear(0.0, 1.0, steps=2), 0.6), 1, 0.6),
]
EACH = {type(entry): entry for entry, _, _ in BY_HAND}


@pytest.mark.parametrize(("entry", "step", "value"), BY_HAND)
def test_by_hand(entry: Schedule, step: int, value: float) -> None:
    assert entry(step) == pytest.approx(value, rel=1e-12)
    assert type(entry(step)) is float


def test_ends_are_exact() -> None:
    for kind in (Linear, Cosine, Exponential):
        for start, end in ((0.1, 0.7), (0.7, 0.1), (0.3, 0.3)):
            entry = kind(start, end, steps=7)
            assert (entry(0), entry(7), entry(10**9)) == (start, end, end)
    assert Periodic(0.1, 0.7, period=10)(5) == 0.1 and Periodic(0.1, 0.7, period=10)(10) == 0.7


def test_every_kind_is_listed_tried_and_named() -> None:
    assert set(EACH) == set(schedule.KINDS.values())
    names = {kind.__name__ for kind in schedule.KINDS.values()}
    assert names | {"Schedule", "as_schedule", "from_dict"} == set(schedule.__all__)


@pytest.mark.parametrize("entry", EACH.values(), ids=lambda entry: entry.kind)
def test_plain_forms_and_copies(entry: Schedule) -> None:
    plain = json.loads(json.dumps(entry.to_dict(), allow_nan=False))
    again = schedule.from_dict(plain)
    assert again == entry and type(again) is type(entry) and hash(again) == hash(entry)
    assert again.to_dict() == entry.to_dict() == plain
    assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - our own
    assert entry != Constant(123.0) and repr(entry).startswith(type(entry).__name__)
    with pytest.raises(AttributeError):
        entry.extra = 1  # type: ignore[attr-defined]


def test_kinds_with_the_same_fields_are_not_equal() -> None:
    assert Linear(0.0, 1.0, steps=2) != Cosine(0.0, 1.0, steps=2)
    assert Sum(1.0, 2.0) != Product(1.0, 2.0)


def test_numpy_numbers_and_lists_become_plain() -> None:
    entry = Steps(np.array([2, 5]), np.array([1, 2, 3], np.float32))  # type: ignore[arg-type]
    assert entry == Steps((2, 5), (1.0, 2.0, 3.0))
    json.dumps(entry.to_dict())
    assert Linear(np.float32(0.5), 1, steps=np.int64(3))(np.int64(0)) == 0.5  # type: ignore[arg-type]


def test_operators() -> None:
    ramp = Linear(0.0, 1.0, steps=10)
    assert ramp + 1.0 == Sum(ramp, Constant(1.0)) == 1.0 + ramp
    assert 2 * ramp == ramp * 2.0 == Product(ramp, Constant(2.0))
    assert ramp.at_least(0.25) == Maximum(ramp, Constant(0.25))
    assert ramp.at_most(ramp) == Minimum(ramp, ramp)
    assert ramp.then(5, 3.0) == Then(ramp, 5, Constant(3.0))
    both = ramp.at_least(0.2).at_most(0.8)
    assert [both(step) for step in (0, 5, 10)] == [0.2, 0.5, 0.8]
    with pytest.raises(Type, match="other must be a number or a schedule, got str 'x'"):
        ramp + "x"  # type: ignore[operator]


@pytest.mark.parametrize("entry", EACH.values(), ids=lambda entry: entry.kind)
def test_many_steps_at_once(entry: Schedule) -> None:
    steps = np.arange(24).reshape(4, 6)
    values = entry.values(steps)
    assert values.shape == (4, 6) and values.dtype == np.float64
    assert values.ravel().tolist() == [entry(step) for step in range(24)]
    assert entry.values([]).shape == (0,)


def test_knots() -> None:
    assert Constant(1.0).knots == (0,)
    assert Linear(0.0, 1.0, steps=7).knots == (0, 7)
    assert Periodic(0.0, 1.0, period=5).knots == (0, 2, 3, 5)
    assert Steps((2, 5), (0.0, 1.0, 2.0)).knots == (0, 1, 2, 4, 5)
    assert Piecewise([(3, 1.0), (9, 2.0)]).knots == (0, 3, 9)
    assert Warmup(Linear(0.0, 1.0, steps=7), steps=3).knots == (0, 3, 7)
    assert Then(Linear(0.0, 1.0, steps=7), 4, Linear(0.0, 1.0, steps=2)).knots == (0, 3, 4, 6)
    assert (Linear(0.0, 1.0, steps=7) * Linear(0.0, 1.0, steps=3)).knots == (0, 3, 7)


def simple() -> st.SearchStrategy[Schedule]:
    values = st.floats(-10.0, 10.0)
    steps = st.integers(1, 30)
    points = st.dictionaries(st.integers(0, 30), values, min_size=1, max_size=4).map(lambda d: sorted(d.items()))
    return st.one_of(
        st.builds(Constant, values),
        st.builds(Linear, values, values, steps),
        st.builds(Piecewise, points),
    )


lines = st.recursive(
    simple(),
    lambda inner: st.one_of(st.builds(Sum, inner, inner), st.builds(Then, inner, st.integers(1, 30), inner)),
    max_leaves=4,
)
anything = st.recursive(
    st.one_of(simple(), st.builds(Cosine, st.floats(-10.0, 10.0), st.floats(-10.0, 10.0), st.integers(1, 30))),
    lambda inner: st.one_of(
        *(st.builds(kind, inner, inner) for kind in (Sum, Product, Minimum, Maximum)),
        st.builds(Then, inner, st.integers(1, 30), inner),
        st.builds(Warmup, inner, st.integers(1, 30), st.floats(-1.0, 1.0)),
    ),
    max_leaves=6,
)


@given(lines)
def test_straight_lines_and_their_sums_are_extreme_at_knots(entry: Schedule) -> None:
    """So a curriculum that checks its knots has checked every step."""
    values = entry.values(range(entry.knots[-1] + 40))
    at_knots = entry.values(list(entry.knots))
    assert values.min() >= at_knots.min() - 1e-12 and values.max() <= at_knots.max() + 1e-12


@given(anything, st.integers(0, 100))
def test_any_composition_is_a_plain_pure_function(entry: Schedule, step: int) -> None:
    again = schedule.from_dict(json.loads(json.dumps(entry.to_dict())))
    assert again == entry and again(step) == entry(step) == entry(step)
    assert math.isfinite(entry(step))


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Constant("x"), Type, "constant.value must be a number, got str 'x'"),  # type: ignore[arg-type]
    (lambda: Constant(math.nan), Value, "constant.value must be finite, got nan"),
    (lambda: Constant(True), Type, "constant.value must be a number, got bool"),
    (lambda: Linear(0.0, math.inf, steps=3), Value, "linear.end must be finite, got inf"),
    (lambda: Linear(0.0, 1.0, steps=0), Value, "linear.steps must be at least 1, got 0"),
    (lambda: Cosine(0.0, 1.0, steps=1.5), Type, "cosine.steps must be an integer, got float 1.5"),  # type: ignore[arg-type]
    (lambda: Exponential(0.0, 1.0, steps=2), Value, "exponential.start must be above 0, got 0.0; use Linear"),
    (lambda: Exponential(1.0, -1.0, steps=2), Value, "exponential.end must be above 0, got -1.0"),
    (lambda: Periodic(0.0, 1.0, period=1), Value, "periodic.period must be at least 2, got 1"),
    (lambda: Steps((3, 3), (1.0, 2.0, 3.0)), Value, "steps.edges must increase, got 3 after 3"),
    (lambda: Steps((0,), (1.0, 2.0)), Value, "steps.edges[0] must be at least 1, got 0"),
    (lambda: Steps((3,), (1.0,)), Value, "steps.levels must be one more than steps.edges, 2, got 1"),
    (lambda: Steps(3, (1.0,)), Type, "steps.edges must be a list, got int 3"),  # type: ignore[arg-type]
    (lambda: Steps((3,), (1.0, None)), Type, "steps.levels[1] must be a number, got NoneType"),  # type: ignore[arg-type]
    (lambda: Piecewise(()), Value, "piecewise.points must have at least one point"),
    (lambda: Piecewise([(1, 2.0, 3)]), Value, "piecewise.points[0] must be a step and a value"),  # type: ignore[list-item]
    (lambda: Piecewise([1]), Type, "piecewise.points[0] must be a list, got int 1"),  # type: ignore[list-item]
    (lambda: Piecewise([(4, 1.0), (2, 1.0)]), Value, "piecewise.points (steps) must increase, got 2 after 4"),
    (lambda: Piecewise([(4, math.nan)]), Value, "piecewise.points (values)[0] must be finite"),
    (lambda: Warmup("x", steps=3), Type, "warmup.schedule must be a number or a schedule, got str"),  # type: ignore[arg-type]
    (lambda: Then(1.0, 0, 2.0), Value, "then.step must be at least 1, got 0"),
    (lambda: Sum(1.0, None), Type, "sum.second must be a number or a schedule, got NoneType"),  # type: ignore[arg-type]
    (lambda: Constant(1.0)(-1), Value, "step must be at least 0, got -1"),
    (lambda: Constant(1.0)(1.0), Type, "step must be an integer, got float"),  # type: ignore[arg-type]
    (lambda: Constant(1.0)(2**53 + 1), Value, "step must be at most 9007199254740992"),
    (lambda: Product(1e300, 1e300)(5), Value, "a schedule must be finite, got inf at step 5"),
    (lambda: Constant(1.0).values([0.5]), Type, "steps must be integers"),
    (lambda: schedule.from_dict({"kind": "curve"}), Value, "\"kind\" of a schedule must be among ['constant'"),
    (lambda: schedule.from_dict({"value": 1.0}), Value, '"kind" of a schedule must be among'),
    (lambda: schedule.from_dict({"kind": "constant", "x": 1}), Value, "got unknown [\"'x'\"] and no ['value']"),
    (lambda: schedule.from_dict({"kind": "_pair", "first": 1, "second": 1}), Value, '"kind" of a schedule must be'),
    (lambda: schedule.from_dict([1]), Type, "a schedule in plain form must be a number or a schedule, got list"),  # type: ignore[arg-type]
    (lambda: chain(101), Value, "then must be made of schedules at most 100 deep, got one 101 deep; write many levels"),
    (lambda: schedule.from_dict(deep(101)), Value, "at most 100 deep, got one 101 deep"),
    (lambda: schedule.from_dict(deep(5000)), Value, "a schedule must not be nested as deeply"),
]


def chain(n: int) -> schedule.Schedule:
    whole: schedule.Schedule = Constant(0.1)
    for step in range(n):
        whole = whole.then(step + 1, 0.1)
    return whole


def test_what_is_as_deep_as_can_be_works() -> None:
    whole = chain(100)
    again = schedule.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert again == whole == pickle.loads(pickle.dumps(whole)) and hash(again) == hash(whole)  # noqa: S301
    assert (
        whole(1000) == 0.1
        and len(whole.knots) == 101
        and negfast.Curriculum(hard=whole).at(7).probabilities["hard"] == 0.1
    )


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_large_numbers_of_both_signs_do_not_overflow(kind: type[Linear | Cosine]) -> None:
    ramp = kind(-1e308, 1e308, steps=10)
    assert [ramp(step) for step in (0, 5, 10)] == [-1e308, pytest.approx(0.0, abs=1e293), 1e308]


def deep(n: int) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": "constant", "value": 1.0}
    for _ in range(n):
        plain = {"kind": "sum", "first": plain, "second": 1.0}
    return plain


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_schedules_of_others_are_refused_where_they_are_used() -> None:
    class Mine(Schedule):
        def _at(self, step: int) -> float:
            return float(step)

    assert Mine()(3) == 3.0
    with pytest.raises(Type, match=r"temperature must be one of the schedules of negfast\.schedule, got Mine"):
        negfast.Curriculum(temperature=Mine())
