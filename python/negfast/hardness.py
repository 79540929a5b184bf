"""One number that says how hard negatives are to be, and what moves it."""

from collections.abc import Mapping
from typing import Any

from negfast.adaptive_settings import HardnessAlarms, HardnessControl
from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.settings import number, whole


class Hardness:
    """A number within bounds that a PI controller moves in small steps, and an alarm lowers in larger ones.

    Attributes
    ----------
    value : float
        From ``control.low`` to ``control.high``; 0 at the beginning.
    moved_by : str or None
        What moved it last: the cause of an alarm, ``"controller"``, ``"recovery"``, or nothing.

    Notes
    -----
    The controller is in velocity form (K. J. Åström and T. Hägglund, *PID controllers: theory, design, and tuning*,
    1995): it computes changes of `value`, which is itself bounded. So nothing winds up at a bound or at the rate limit,
    and an error of the other sign moves `value` at once. The error is measured from the inner edge of a dead band with
    hysteresis, and is 0 where the controller rests. While it must not act it follows the error, so that it goes on
    without a jump.

    An alarm leaves a ceiling halfway down, which rises again slowly, so that what was too hard a moment ago is not
    tried again at once. Where the controller then rests, what the alarm took comes back as slowly.
    """

    def __init__(self, control: HardnessControl, alarms: HardnessAlarms) -> None:
        self._control, self._alarms = control, alarms
        self.value = 0.0
        self.moved_by: str | None = None
        self._cause = ""  # of the last alarm
        self._side = 0  # on which side of the band it acts; 0 where it rests
        self._error = 0.0
        self._left = 0.0  # by how much it is still to be lowered
        self._held = 0  # observations in which it must not rise
        self._ceiling = control.high
        self._owed = 0.0  # what alarms took and was not given back
        self._alarms_so_far = 0  # those that came while another held count as one with it

    @property
    def is_held(self) -> bool:
        """Whether an alarm still keeps it from rising."""
        return self._held > 0

    @property
    def _pace(self) -> float:
        """By how much things recover in an observation: the less, the more alarms there were."""
        return self._alarms.recovery / max(self._alarms_so_far, 1)

    def alarm(self, cause: str) -> None:
        """Begin to back off."""
        self._alarms_so_far += not self.is_held
        self._cause, self._left, self._held = cause, self._alarms.backoff, self._alarms.hold + 1
        self._ceiling = max(min(self._ceiling, self.value - self._alarms.backoff / 2.0), self._control.low)

    def move(self, deviation: float | None, *, easily: bool, resting: bool) -> None:
        """Go on by one observation.

        Parameters
        ----------
        deviation : float or None
            By how much the running share of the positive is above its target; ``None`` where it is not known.
        easily : bool
            Whether half of the band is enough to harden.
        resting : bool
            Whether the controller must not act, alarms apart.
        """
        self._ceiling = min(self._ceiling + self._pace, self._control.high)
        asked = 0.0 if deviation is None else self._controlled(deviation, easily)
        before, self.moved_by = self.value, None
        if self._left > 0.0:
            self._back_off()
        elif not resting and asked:
            self._follow(asked)
        elif not resting and not self.is_held:
            self._recover()
        if self.value == before:
            self.moved_by = None
        self._held = max(self._held - 1, 0)

    def _back_off(self) -> None:
        """Go a step of the way that an alarm asked for."""
        step = min(self._left, self._alarms.backoff_rate)
        self._left = self._left - step if step else 0.0
        lower = max(self.value - step, self._control.low)
        self._owed += self.value - lower
        self.value, self.moved_by = lower, self._cause

    def _follow(self, asked: float) -> None:
        """Go where the controller asks."""
        if asked > 0.0:
            asked = min(asked, max(self._ceiling - self.value, 0.0))
            self._owed = max(self._owed - asked, 0.0)
        elif self._side < 0:
            self._owed = 0.0  # it would have softened by itself
        self.value = min(max(self.value + asked, self._control.low), self._control.high)
        self.moved_by = "controller"

    def _recover(self) -> None:
        """Give back a little of what alarms took, where the controller rests."""
        step = min(self._owed, self._pace)
        self._owed -= step
        self.value, self.moved_by = min(self.value + step, self._control.high), "recovery"

    def _controlled(self, deviation: float, easily: bool) -> float:
        """Return the change that the controller asks for."""
        control, error = self._control, self._beyond(deviation, easily)
        change = control.proportional * (error - self._error) + control.integral * error
        self._error = error
        return min(max(change, -control.rate), 0.0 if self.is_held else control.rate)

    def _beyond(self, deviation: float, easily: bool) -> float:
        """Return how far beyond the inner half of the band the deviation is, 0 where the controller rests."""
        inner, outer = self._control.band / 2.0, self._control.band
        if self._side * deviation < inner or not self._side:
            self._side = 0
            if deviation > (inner if easily else outer):
                self._side = 1
            elif deviation < -outer:
                self._side = -1
        return deviation - self._side * inner if self._side else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "value": self.value,
            "cause": self._cause,
            "side": self._side,
            "error": self._error,
            "left": self._left,
            "held": self._held,
            "ceiling": self._ceiling,
            "owed": self._owed,
            "alarms_so_far": self._alarms_so_far,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        if not isinstance(state, Mapping) or not isinstance(state.get("cause"), str):
            raise StateError("the state is damaged: hardness must be a mapping with a cause; save it again")
        bounds = {"low": self._control.low, "high": self._control.high}
        try:
            value, ceiling = (number(name, state.get(name), **bounds) for name in ("value", "ceiling"))
            left = number("left", state.get("left"), low=0.0, high=self._alarms.backoff)
            # Never more than the whole way, which sums of small steps round.
            way = self._control.high - self._control.low + 1e-6
            owed = number("owed", state.get("owed"), low=0.0, high=way)
            error_, side = number("error", state.get("error")), whole("side", state.get("side"), low=-1, high=1)
            held, so_far = (whole(name, state.get(name), low=0) for name in ("held", "alarms_so_far"))
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error
        self.value, self._ceiling, self._left, self._owed = value, ceiling, left, owed
        self._error, self._side, self._held, self._cause = error_, side, held, state["cause"]
        self._alarms_so_far = so_far
