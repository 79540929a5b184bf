"""Losses that are far above what is usual."""

from collections import deque
from typing import Any

import numpy as np

from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.settings import number

TO_SIGMA = 1.4826
"""The standard deviation of normal numbers over their median absolute deviation."""
_FLOOR = 1e-3
"""The least deviation that counts, relative to the median: losses that do not vary at all do not spike at a trifle."""


class Spikes:
    """Robust z-scores of a measurement, against the last ones.

    Parameters
    ----------
    window : int
        How many measurements it is compared with.
    least : int
        How many there have to be.

    Notes
    -----
    The median and the median absolute deviation stand for mean and standard deviation, since spikes must not hide
    behind earlier ones (P. J. Rousseeuw and C. Croux, *Alternatives to the median absolute deviation*, 1993). What
    rises or falls in a straight line scores 1.35 at most, however steeply: its deviation grows with it.
    """

    def __init__(self, window: int, least: int) -> None:
        self._least = least
        self._recent: deque[float] = deque(maxlen=window)

    def score(self, measurement: float) -> float | None:
        """Return the score of a finite measurement and take it in; None while there are too few."""
        score = None
        if len(self._recent) >= self._least:
            values = np.array(self._recent)
            middle = float(np.median(values))
            deviation = TO_SIGMA * float(np.median(np.abs(values - middle)))
            score = (measurement - middle) / max(deviation, _FLOOR * abs(middle), 1e-12)
        self._recent.append(measurement)
        return score

    def clear(self) -> None:
        """Forget everything: what comes is not to be compared with what was."""
        self._recent.clear()

    def state_dict(self) -> list[float]:
        """Return the last measurements."""
        return list(self._recent)

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        if not isinstance(state, list | tuple) or len(state) > (self._recent.maxlen or 0):
            raise StateError(f"the state is damaged: it must hold at most {self._recent.maxlen} losses; save it again")
        try:
            values = [number("a loss of the state", value) for value in state]
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error
        self._recent.clear()
        self._recent.extend(values)
