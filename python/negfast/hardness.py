"""One number that says how hard negatives are to be, and what moves it."""

from collections.abc import Mapping
from typing import Any

from negfast.adaptive_settings import HardnessAlarms, HardnessControl
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.settings import number, whole


class Hardness:
    """A number within bounds that a PI controller moves in small steps, and an alarm lowers in larger ones.

    Attributes
    ----------
    value : float
        From ``control.low`` to ``control.high``; 0 at the beginning.
    backing_off : str or None
        The alarm because of which it is being lowered.

    Notes
    -----
    The controller is in velocity form (K. J. Åström and T. Hägglund, *PID controllers: theory, design, and tuning*,
    1995): it computes changes of `value`, which is itself bounded. So nothing winds up at a bound or at the rate limit,
    and an error of the other sign moves `value` at once. The error is measured from the inner edge of a dead band with
    hysteresis, and is 0 where the controller rests. While it must not act it follows the error, so that it goes on
    without a jump.

    An alarm leaves a ceiling halfway down, which rises again slowly, so that what was too hard a moment ago is not
    tried again at once.
    """

    def __init__(self, control: HardnessControl, alarms: HardnessAlarms) -> None:
        self._control, self._alarms = control, alarms
        self.value = 0.0
        self.backing_off: str | None = None
        self._side = 0  # on which side of the band it acts; 0 where it rests
        self._error = 0.0
        self._left = 0.0  # by how much it is still to be lowered
        self._held = 0  # observations in which it must not rise
        self._ceiling = control.high

    @property
    def is_held(self) -> bool:
        """Whether an alarm still keeps it from rising."""
        return self._held > 0

    def alarm(self, cause: str) -> None:
        """Begin to back off."""
        self.backing_off, self._left, self._held = cause, self._alarms.backoff, self._alarms.hold + 1
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
        self._held = max(self._held - 1, 0)
        self._ceiling = min(self._ceiling + self._alarms.recovery, self._control.high)
        change = self._controlled(deviation, easily)
        if resting:
            change = 0.0
        if self._left > 0.0:
            change = -min(self._left, self._alarms.backoff_rate)
            self._left = self._left + change if change else 0.0
        else:
            self.backing_off = None
        if change > 0.0:
            change = min(change, max(self._ceiling - self.value, 0.0))
        self.value = min(max(self.value + change, self._control.low), self._control.high)

    def _controlled(self, deviation: float | None, easily: bool) -> float:
        """Return the change that the controller asks for."""
        if deviation is None:
            return 0.0
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
            "backing_off": self.backing_off,
            "side": self._side,
            "error": self._error,
            "left": self._left,
            "held": self._held,
            "ceiling": self._ceiling,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        if not isinstance(state, Mapping):
            raise StateError(f"the state is damaged: hardness must be a mapping, got {shown(state)}; save it again")
        cause = state.get("backing_off")
        if cause is not None and not isinstance(cause, str):
            raise StateError(f"the state is damaged: backing_off must be a name, got {shown(cause)}; save it again")
        try:
            value = number("hardness", state.get("value"), low=self._control.low, high=self._control.high)
            side = whole("side", state.get("side"), low=-1, high=1)
            error = number("error", state.get("error"))
            left = number("left", state.get("left"), low=0.0)
            held = whole("held", state.get("held"), low=0)
            ceiling = number("ceiling", state.get("ceiling"), low=self._control.low, high=self._control.high)
        except (InvalidTypeError, InvalidValueError) as error_:
            raise StateError(f"the state is damaged: {error_}") from error_
        self.value, self.backing_off = value, cause
        self._side, self._error, self._left, self._held = side, error, left, held
        self._ceiling = ceiling
