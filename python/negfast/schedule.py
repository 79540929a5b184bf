"""Schedules: numbers that are functions of the step of training, and of nothing else.

A schedule is a frozen value: it can be compared, pickled, and written as plain values. ``schedule(step)`` is its value.

>>> from negfast import schedule
>>> temperature = schedule.Cosine(0.07, 0.02, steps=1000)
>>> temperature(0), temperature(1000), temperature(5000)
(0.07, 0.02, 0.02)
>>> hard = schedule.Constant(0.0).then(500, schedule.Linear(0.0, 0.4, steps=1000))
>>> hard(499), hard(1000), hard(1500)
(0.0, 0.2, 0.4)
>>> schedule.from_dict(hard.to_dict()) == hard
True
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import integers
from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import number, whole

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "Linear",
    "Maximum",
    "Minimum",
    "Periodic",
    "Piecewise",
    "Product",
    "Schedule",
    "Steps",
    "Sum",
    "Then",
    "Warmup",
    "as_schedule",
    "from_dict",
]

LAST_STEP = 2**53
"""The last step; up to here a step is exact as a float."""
DEEPEST = 100
"""How many schedules within one another there can be; all that is done with them is recursive."""
KINDS: dict[str, "type[Schedule]"] = {}
"""All kinds by the name that the plain form has them under."""


class Schedule:
    """A number for each step of training.

    All kinds of this module are frozen dataclasses that derive from it. ``a + b``, ``a * b``, :meth:`at_least`,
    :meth:`at_most` and :meth:`then` make schedules of schedules, at most 100 deep; a number stands for a constant.
    """

    kind: ClassVar[str]
    """The name of the kind in the plain form."""
    _depth = 0  # of what is within

    def __init_subclass__(cls) -> None:
        """Take note of a kind of this module; those of others cannot be read back."""
        super().__init_subclass__()
        if cls.__module__ == __name__ and not cls.__name__.startswith("_"):
            cls.kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
            KINDS[cls.kind] = cls

    def __call__(self, step: int) -> float:
        """Return the value at a step.

        Parameters
        ----------
        step : int
            From 0 to 2**53.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `step` is no integer or out of range, or the value is too large for a float.
        """
        value = self._at(whole("step", step, low=0, high=LAST_STEP))
        if not math.isfinite(value):
            raise InvalidValueError(f"a schedule must be finite, got {value} at step {step}; use smaller numbers")
        return value

    def values(self, steps: Any) -> NDArray[np.float64]:
        """Return the values at many steps, the same as calls return.

        Parameters
        ----------
        steps : int array or sequence of int, any shape

        Returns
        -------
        ndarray of float64, shape of `steps`

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As in a call.
        """
        array = integers("steps", steps)
        return np.array([self(step) for step in array.ravel().tolist()], dtype=np.float64).reshape(array.shape)

    @property
    def knots(self) -> tuple[int, ...]:
        """The steps at which it begins, bends, jumps or ends, in order; the last before a jump too."""
        return tuple(sorted({0, *(min(knot, LAST_STEP) for knot in self._knots())}))

    def __add__(self, other: "float | Schedule") -> "Sum":
        """Return the sum."""
        return Sum(self, as_schedule("other", other))

    __radd__ = __add__

    def __mul__(self, other: "float | Schedule") -> "Product":
        """Return the product."""
        return Product(self, as_schedule("other", other))

    __rmul__ = __mul__

    def at_least(self, low: "float | Schedule") -> "Maximum":
        """Return the schedule, raised to `low` where it is below."""
        return Maximum(self, as_schedule("low", low))

    def at_most(self, high: "float | Schedule") -> "Minimum":
        """Return the schedule, lowered to `high` where it is above."""
        return Minimum(self, as_schedule("high", high))

    def then(self, step: int, second: "float | Schedule") -> "Then":
        """Return what this schedule is before `step`, and `second` from there on, which begins at its own step 0."""
        return Then(self, step, as_schedule("second", second))

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as plain values, fit for JSON, with its kind under ``"kind"``."""
        own = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind, **own}

    def _at(self, step: int) -> float:
        raise NotImplementedError

    def _knots(self) -> Sequence[int]:
        return ()

    def _check(self, **checks: Callable[[str, Any], Any]) -> None:
        """Replace fields by what their checks return."""
        for name, check in checks.items():
            value = check(f"{self.kind}.{name}", getattr(self, name))
            object.__setattr__(self, name, value)
        parts = [part for name in checks if isinstance(part := getattr(self, name), Schedule)]
        depth = max((part._depth + 1 for part in parts), default=0)
        if depth > DEEPEST:
            raise InvalidValueError(
                f"{self.kind} must be made of schedules at most {DEEPEST} deep, got one {depth} deep; write many "
                "levels as Steps, many lines as Piecewise"
            )
        if depth:
            object.__setattr__(self, "_depth", depth)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every step.

    Parameters
    ----------
    value : float
    """

    value: float

    def __post_init__(self) -> None:
        """Check the value."""
        self._check(value=number)

    def _at(self, step: int) -> float:  # noqa: ARG002 - of no account here
        return self.value


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From one value to another, which stays."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        """Check every field."""
        self._check(start=number, end=number, steps=_count)

    def _knots(self) -> Sequence[int]:
        return (self.steps,)


@dataclass(frozen=True)
class Linear(_Ramp):
    """From `start` to `end` in a straight line, and `end` from then on.

    Parameters
    ----------
    start, end : float
    steps : int
        Of the way, at least 1.
    """

    def _at(self, step: int) -> float:
        return _between(self.start, self.end, step / self.steps)


@dataclass(frozen=True)
class Cosine(_Ramp):
    """From `start` to `end` along half a cosine, level at both, and `end` from then on.

    Parameters
    ----------
    start, end : float
    steps : int
        Of the way, at least 1.

    Notes
    -----
    I. Loshchilov and F. Hutter, *SGDR: Stochastic gradient descent with warm restarts* (2017), of learning rates.
    """

    def _at(self, step: int) -> float:
        share = min(step / self.steps, 1.0)
        return _between(self.start, self.end, (1.0 - math.cos(math.pi * share)) / 2.0)


@dataclass(frozen=True)
class Exponential(_Ramp):
    """From `start` to `end` by the same factor each step, and `end` from then on.

    Parameters
    ----------
    start, end : float
        Above 0.
    steps : int
        Of the way, at least 1.
    """

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        for name in ("start", "end"):
            if getattr(self, name) <= 0.0:
                raise InvalidValueError(
                    f"exponential.{name} must be above 0, got {getattr(self, name)}; use Linear to reach 0"
                )

    def _at(self, step: int) -> float:
        if not 0 < step < self.steps:
            return self.end if step else self.start
        share = step / self.steps
        value = math.exp(math.log(self.start) * (1.0 - share) + math.log(self.end) * share)
        return _within(value, self.start, self.end)


@dataclass(frozen=True)
class Periodic(Schedule):
    """A cosine that begins at `high`, is at `low` after half of each period, and returns.

    Parameters
    ----------
    low, high : float
    period : int
        Steps of a period, at least 2.

    Notes
    -----
    A. Kukleva, M. Böhle, B. Schiele, H. Kuehne and C. Rupprecht, *Temperature schedules for self-supervised contrastive
    methods on long-tail data* (2023), of temperatures. They are about images, from 0.1 to 1 over 200 to 400 epochs; a
    high temperature learns groups and a low one tells instances apart. For text, temperatures lie between 0.01 and 0.1.
    """

    low: float
    high: float
    period: int

    def __post_init__(self) -> None:
        """Check every field."""
        self._check(low=number, high=number, period=lambda name, value: whole(name, value, low=2, high=LAST_STEP))

    def _at(self, step: int) -> float:
        share = (step % self.period) / self.period
        return _between(self.low, self.high, (1.0 + math.cos(2.0 * math.pi * share)) / 2.0)

    def _knots(self) -> Sequence[int]:
        half = self.period // 2
        return (half, half + self.period % 2, self.period)


@dataclass(frozen=True)
class Steps(Schedule):
    """A constant between each edge and the next.

    Parameters
    ----------
    edges : sequence of int
        Where the value changes: increasing, from 1 on.
    levels : sequence of float
        One more than edges: ``levels[0]`` before the first edge, ``levels[1]`` from there on, and so forth.
    """

    edges: tuple[int, ...]
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check every field."""
        self._check(edges=_edges, levels=_numbers)
        if len(self.levels) != len(self.edges) + 1:
            raise InvalidValueError(
                f"steps.levels must be one more than steps.edges, {len(self.edges) + 1}, got {len(self.levels)}; give "
                "one for before the first edge and one for each edge"
            )

    def _at(self, step: int) -> float:
        return self.levels[bisect_right(self.edges, step)]

    def _knots(self) -> Sequence[int]:
        return [knot for edge in self.edges for knot in (edge - 1, edge)]


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Straight lines from point to point, level before the first and after the last.

    Parameters
    ----------
    points : sequence of pairs (int, float)
        Steps, increasing, from 0 on, and the values there.
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        """Check the points."""
        self._check(points=_points)

    def _at(self, step: int) -> float:
        after = bisect_right(self.points, step, key=lambda point: point[0])
        if after in (0, len(self.points)):
            return self.points[max(after - 1, 0)][1]
        (left, start), (right, end) = self.points[after - 1 : after + 1]
        return _between(start, end, (step - left) / (right - left))

    def _knots(self) -> Sequence[int]:
        return [step for step, _ in self.points]


@dataclass(frozen=True)
class Warmup(Schedule):
    """Another schedule, led up to in a straight line.

    Parameters
    ----------
    schedule : Schedule or float
        What is in force after `steps`. Its own steps are counted from 0.
    steps : int
        Of the way, at least 1.
    start : float, default 0.0
        The value at step 0.
    """

    schedule: Schedule
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        self._check(schedule=as_schedule, steps=_count, start=number)

    def _at(self, step: int) -> float:
        return _between(self.start, self.schedule(step), step / self.steps)

    def _knots(self) -> Sequence[int]:
        return (self.steps, *self.schedule.knots)


@dataclass(frozen=True)
class Then(Schedule):
    """One schedule after another.

    Parameters
    ----------
    first : Schedule or float
        In force before `step`.
    step : int
        Where the second begins, at least 1.
    second : Schedule or float
        In force from `step` on, which is its step 0.
    """

    first: Schedule
    step: int
    second: Schedule

    def __post_init__(self) -> None:
        """Check every field."""
        self._check(first=as_schedule, step=_count, second=as_schedule)

    def _at(self, step: int) -> float:
        return self.first(step) if step < self.step else self.second(step - self.step)

    def _knots(self) -> Sequence[int]:
        before = [knot for knot in self.first.knots if knot < self.step]
        return (*before, self.step - 1, *(self.step + knot for knot in self.second.knots))


@dataclass(frozen=True)
class _Pair(Schedule):
    """Two schedules at the same step."""

    first: Schedule
    second: Schedule

    def __post_init__(self) -> None:
        """Check both."""
        self._check(first=as_schedule, second=as_schedule)

    def _knots(self) -> Sequence[int]:
        return (*self.first.knots, *self.second.knots)


@dataclass(frozen=True)
class Sum(_Pair):
    """The sum of two schedules.

    Parameters
    ----------
    first, second : Schedule or float
    """

    def _at(self, step: int) -> float:
        return self.first(step) + self.second(step)


@dataclass(frozen=True)
class Product(_Pair):
    """The product of two schedules.

    Parameters
    ----------
    first, second : Schedule or float
    """

    def _at(self, step: int) -> float:
        return self.first(step) * self.second(step)


@dataclass(frozen=True)
class Minimum(_Pair):
    """The smaller of two schedules: an upper bound.

    Parameters
    ----------
    first, second : Schedule or float
    """

    def _at(self, step: int) -> float:
        return min(self.first(step), self.second(step))


@dataclass(frozen=True)
class Maximum(_Pair):
    """The larger of two schedules: a lower bound.

    Parameters
    ----------
    first, second : Schedule or float
    """

    def _at(self, step: int) -> float:
        return max(self.first(step), self.second(step))


def as_schedule(argument: str, value: object) -> Schedule:
    """Return a schedule as it is, and a number as a constant.

    Parameters
    ----------
    argument : str
        What errors call the value.
    value : Schedule or float

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If `value` is neither, or not finite.
    """
    if isinstance(value, Schedule):
        if type(value) in KINDS.values():
            return value
        raise InvalidTypeError(
            f"{argument} must be one of the schedules of negfast.schedule, got {type(value).__name__}; its plain form "
            "could not be read back"
        )
    try:
        return Constant(number(argument, value))
    except InvalidTypeError:
        raise InvalidTypeError(
            f"{argument} must be a number or a schedule, got {type(value).__name__} {shown(value)}; pass a float"
        ) from None


def from_dict(values: Mapping[str, Any] | float) -> Schedule:
    """Return the schedule that :meth:`Schedule.to_dict` made plain; a number alone is a constant.

    Parameters
    ----------
    values : mapping or float

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If `values` is nothing of the kind, or a field is unknown, missing or wrong.
    """
    try:
        return _from_plain(values)
    except RecursionError:
        raise InvalidValueError(
            "a schedule must not be nested as deeply as what was given; write it with fewer parts"
        ) from None


def _from_plain(values: Any) -> Schedule:
    if not isinstance(values, Mapping):
        return as_schedule("a schedule in plain form", values)
    name = values.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidValueError(
            f'"kind" of a schedule must be among {sorted(KINDS)}, got {shown(name)}; see negfast.schedule'
        )
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(shown(key) for key in values if key not in known and key != "kind")
    missing = sorted(key for key, item in known.items() if key not in values and item.default is MISSING)
    if unknown or missing:
        raise InvalidValueError(
            f"a schedule of kind {name!r} must have fields {sorted(known)}, got unknown {unknown} and no {missing}; "
            "correct their names"
        )
    given = {key: _from_plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    del given["kind"]
    return kind(**given)


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _count(argument: str, value: object) -> int:
    return whole(argument, value, low=1, high=LAST_STEP)


def _listed(argument: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence | np.ndarray):
        raise InvalidTypeError(
            f"{argument} must be a list, got {type(value).__name__} {shown(value)}; write it with brackets"
        )
    return list(value)


def _numbers(argument: str, value: Any) -> tuple[float, ...]:
    return tuple(number(f"{argument}[{i}]", entry) for i, entry in enumerate(_listed(argument, value)))


def _edges(argument: str, value: Any, low: int = 1) -> tuple[int, ...]:
    edges: list[int] = []
    for i, entry in enumerate(_listed(argument, value)):
        edges.append(whole(f"{argument}[{i}]", entry, low=low, high=LAST_STEP))
        if i and edges[i] <= edges[i - 1]:
            raise InvalidValueError(
                f"{argument} must increase, got {edges[i]} after {edges[i - 1]}; sort them and drop copies"
            )
    return tuple(edges)


def _points(argument: str, value: Any) -> tuple[tuple[int, float], ...]:
    pairs = _listed(argument, value)
    if not pairs:
        raise InvalidValueError(f"{argument} must have at least one point, got none; add (0, value)")
    for i, pair in enumerate(pairs):
        if len(_listed(f"{argument}[{i}]", pair)) != 2:
            raise InvalidValueError(f"{argument}[{i}] must be a step and a value, got {shown(pair)}; write a pair")
    steps = _edges(f"{argument} (steps)", [pair[0] for pair in pairs], low=0)
    return tuple(zip(steps, _numbers(f"{argument} (values)", [pair[1] for pair in pairs]), strict=True))


def _between(start: float, end: float, share: float) -> float:
    """Return the value at a share of the way, exact at both ends and never beyond them."""
    if share <= 0.0:
        return start
    return end if share >= 1.0 else _within(start * (1.0 - share) + end * share, start, end)


def _within(value: float, one: float, other: float) -> float:
    return min(max(value, min(one, other)), max(one, other))
