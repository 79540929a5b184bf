"""The running value and slope of a measurement."""

from collections.abc import Mapping
from typing import Any

from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.settings import number


class Trend:
    """A straight line through what was measured, in which old measurements count for less and less.

    Parameters
    ----------
    half_life : float
        Measurements after which one counts half.

    Attributes
    ----------
    half_life : float

    Notes
    -----
    Least squares with weights ``2 ** (-age / half_life)``, in sums that are carried along (R. G. Brown, *Smoothing,
    forecasting and prediction of discrete time series*, 1963); C. C. Holt's two recursions (*Forecasting seasonals and
    trends by exponentially weighted moving averages*, 1957) tend to the same. It needs no correction for how it begins:
    of measurements that lie on a line, value and slope are exact from the second on.
    """

    def __init__(self, half_life: float) -> None:
        self.half_life = number("half_life", half_life, low=0.1)
        self._keep = 0.5 ** (1.0 / self.half_life)
        # Sums of w, w * age, w * age**2; of w * x, w * age * x; w is the weight, the age of the newest is 0.
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self.count = 0
        """How much was measured."""

    def update(self, measurement: float) -> None:
        """Take in a finite measurement."""
        w, wa, waa, wx, wax = (self._keep * total for total in self._sums)
        # All that was there is one older.
        self._sums = (w + 1.0, wa + w, waa + 2.0 * wa + w, wx + measurement, wax + wx)
        self.count += 1

    @property
    def mean(self) -> float | None:
        """The weighted mean: calmer than :attr:`value`, and behind where there is a slope; None before the first."""
        return self._sums[3] / self._sums[0] if self.count else None

    @property
    def value(self) -> float | None:
        """Where the line is now; None before the first measurement."""
        if self.count < 2:
            return self.mean
        w, wa, waa, wx, wax = self._sums
        return (waa * wx - wa * wax) / (w * waa - wa * wa)

    @property
    def slope(self) -> float | None:
        """By how much the line rises from one measurement to the next; None before the second."""
        if self.count < 2:
            return None
        w, wa, waa, wx, wax = self._sums
        return (wa * wx - w * wax) / (w * waa - wa * wa)

    def summary(self) -> dict[str, float]:
        """Return mean, value, slope and count; 0 for what there is none of."""
        line = {"mean": self.mean or 0.0, "value": self.value or 0.0, "slope": self.slope or 0.0}
        return {**line, "count": self.count}

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"count": self.count, "sums": list(self._sums)}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        count, sums = _checked(state)
        self.count, self._sums = count, sums


def _checked(state: Any) -> tuple[int, tuple[float, float, float, float, float]]:
    if not isinstance(state, Mapping) or type(state.get("count")) is not int or state["count"] < 0:
        raise StateError("the state is damaged: a trend has no count; save it again")
    sums = state.get("sums")
    if not isinstance(sums, list | tuple) or len(sums) != 5:
        raise StateError("the state is damaged: a trend must have five sums; save it again")
    try:
        w, wa, waa, wx, wax = (number("a sum of the state", total) for total in sums)
    except (InvalidTypeError, InvalidValueError) as error:
        raise StateError(f"the state is damaged: {error}") from error
    if (w > 0.0) != (state["count"] > 0) or (state["count"] > 1 and w * waa <= wa * wa):
        raise StateError("the state is damaged: the sums of a trend contradict each other; save it again")
    return state["count"], (w, wa, waa, wx, wax)
