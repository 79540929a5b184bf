"""Losses that are far above what is usual."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.settings import number

TO_SIGMA = 1.4826
"""The standard deviation of normal numbers over their median absolute deviation."""
_HIGHEST = 16
"""One deviation in so many is higher than the high one that is looked at besides the median."""
_HIGHEST_TO_SIGMA = 0.5369
"""The standard deviation of normal numbers over that deviation."""
_FLOOR = 1e-3
"""The least deviation that counts, relative to the median: losses that do not vary at all do not spike at a trifle."""
_FEWEST = 16
"""How many measurements tell what is usual, if not well enough to judge."""


class Spikes:
    """Robust z-scores of a measurement, against the last ones.

    Parameters
    ----------
    window : int
        How many measurements one is compared with; while there are fewer it is not judged.

    Notes
    -----
    The median and the median absolute deviation stand for mean and standard deviation, since spikes must not hide
    behind earlier ones (P. J. Rousseeuw and C. Croux, *Alternatives to the median absolute deviation*, 1993). Of losses
    that are often 0, as those with a margin are, both are next to nothing. So the deviation that one in sixteen
    exceeds, brought to the same scale, counts where it is larger: spikes hide behind earlier ones once more than a
    sixteenth of the window are spikes. Where more than half of the losses are the same, half of the second largest
    deviation counts too. What rises or falls in a straight line scores little more than 1.35, however steeply: its
    deviation grows with it.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._recent: deque[float] = deque(maxlen=window)

    def score(self, measurement: float) -> float | None:
        """Return the score of a finite measurement and take it in; None while there are too few."""
        score = None
        if len(self._recent) == self._window:
            middle, deviation = self._usual()
            score = (measurement - middle) / deviation
        self._recent.append(measurement)
        return score

    def clipped(self, measurement: float, limit: float) -> float:
        """Return a measurement, or what scores `limit` where it is above; as it is while there are very few."""
        if len(self._recent) < _FEWEST:
            return measurement
        middle, deviation = self._usual()
        return min(measurement, middle + limit * deviation)

    def _usual(self) -> tuple[float, float]:
        middle = _median(self._recent)
        deviations = sorted(abs(value - middle) for value in self._recent)
        high = _HIGHEST_TO_SIGMA * deviations[-1 - len(deviations) // _HIGHEST]
        if not _median(deviations):
            high = max(high, deviations[-2] / 2.0)  # the rest alone says how much they vary, and it is little
        return middle, max(TO_SIGMA * _median(deviations), high, _FLOOR * abs(middle), 1e-12)

    def clear(self) -> None:
        """Forget everything: what comes is not to be compared with what was."""
        self._recent.clear()

    def state_dict(self) -> list[float]:
        """Return the last measurements."""
        return list(self._recent)

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        if not isinstance(state, list | tuple) or len(state) > self._window:
            raise StateError(f"the state is damaged: it must hold at most {self._window} losses; save it again")
        try:
            values = [number("a loss of the state", value) for value in state]
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error
        self._recent.clear()
        self._recent.extend(values)


def _median(values: Sequence[float] | deque[float]) -> float:
    # numpy's takes ten times as long for so few.
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0
