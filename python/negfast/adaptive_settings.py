"""Settings of an adaptive curriculum: when it acts, how fast, and what alarms it."""

from dataclasses import dataclass

from negfast.errors import InvalidValueError
from negfast.settings import _Settings, number, optional_number, whole


@dataclass(frozen=True, kw_only=True)
class HardnessControl(_Settings):
    """How an :class:`AdaptiveCurriculum` moves its hardness: a PI controller of the share of the positive.

    Parameters
    ----------
    target : float from 0 to 1, default 0.7
        The mean softmax share of the positive, p⁺, that is aimed at.
    band : float, default 0.15
        The controller begins to act where the running p⁺ is further than this from `target`, and ends where it is
        nearer than half of it.
    proportional, integral : float, default 0.2 and 0.02
        The gains: hardness changes by ``proportional`` times the change of the error and ``integral`` times the error,
        which is how far p⁺ is beyond the inner half of the band.
    rate : float, default 0.02
        The most that it changes hardness by in one observation.
    low, high : float, default -1.0 and 1.0
        Bounds of hardness; they include 0, where it begins.
    progress : float, default 0.002
        While the running loss falls by more than this share in an observation the model learns by itself, and
        hardness stays.
    min_effective : float or None, default 3.0
        Where fewer effective negatives than this are left, and p⁺ is not below `target`, half of the band is enough to
        harden. ``None`` turns it off.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field has a wrong type or lies out of its range.
    """

    target: float = 0.7
    band: float = 0.15
    proportional: float = 0.2
    integral: float = 0.02
    rate: float = 0.02
    low: float = -1.0
    high: float = 1.0
    progress: float = 2e-3
    min_effective: float | None = 3.0

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("target", "band", "rate", "high"):
            self._set(name, number(f"control.{name}", getattr(self, name), low=0.0, high=1.0))
        for name in ("proportional", "integral", "progress"):
            self._set(name, number(f"control.{name}", getattr(self, name), low=0.0, high=1e6))
        self._set("low", number("control.low", self.low, low=-1.0, high=0.0))
        self._set("min_effective", optional_number("control.min_effective", self.min_effective, low=0.0))


@dataclass(frozen=True, kw_only=True)
class HardnessAlarms(_Settings):
    """What makes an :class:`AdaptiveCurriculum` back off, and how far.

    Parameters
    ----------
    backoff : float, default 0.3
        By how much an alarm lowers hardness.
    backoff_rate : float, default 0.1
        The most of that in one observation.
    hold : int, default 20
        Observations after an alarm in which nothing is hardened, and no alarm but that for NaN is raised anew.
    recovery : float, default 0.001
        An alarm also leaves a ceiling of hardness, half of `backoff` below what it was. By so much it rises in an
        observation, and so does hardness, where the controller rests, until it is back where it was; after the n-th
        alarm by ``recovery / n``, so that what is too hard is tried more and more rarely.
    spike : float or None, default 6.0
        The robust z-score of a loss, against the last `window` ones, that is a spike. ``None`` turns an alarm off.
    window : int, default 64
        From 16 on. It has to be full before a loss is judged.
    collapse : float or None, default 0.5
        The rows collapse where 1 minus the running spread is below this part of the most that it was; or where both
        running distances shrink by a twentieth in a half-life, and that of negatives and its lead over that of
        positives are below this part of the most that they were.
    max_false_negatives : float or None, default 0.25
        The running share of false negatives that is too much.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field has a wrong type or lies out of its range.
    """

    backoff: float = 0.3
    backoff_rate: float = 0.1
    hold: int = 20
    recovery: float = 1e-3
    spike: float | None = 6.0
    window: int = 64
    collapse: float | None = 0.5
    max_false_negatives: float | None = 0.25

    def __post_init__(self) -> None:
        """Check every field."""
        self._set("backoff", number("alarms.backoff", self.backoff, low=0.0, high=2.0))
        self._set("backoff_rate", number("alarms.backoff_rate", self.backoff_rate, low=0.0, high=2.0))
        self._set("recovery", number("alarms.recovery", self.recovery, low=0.0, high=2.0))
        self._set("hold", whole("alarms.hold", self.hold, low=0))
        self._set("spike", optional_number("alarms.spike", self.spike, low=0.0))
        self._set("window", whole("alarms.window", self.window, low=16, high=2**20))
        for name in ("collapse", "max_false_negatives"):
            self._set(name, optional_number(f"alarms.{name}", getattr(self, name), low=0.0, high=1.0))


@dataclass(frozen=True, kw_only=True)
class MovingTiers(_Settings):
    """How the edges of tiers follow the hardness of negatives, as the space changes.

    Parameters
    ----------
    hard, semi_hard : float above 0 and below 1, default 0.9 and 0.5
        Levels of the quantiles that the edges follow: 0.9 calls the hardest tenth hard.
    rate : float, default 0.005
        The most that an edge moves in one observation.
    band : float, default 0.02
        An edge begins to move where it is further than this from its quantile, and ends where it is nearer than half.
    low, high : float, default -0.6 and 0.1
        Bounds of both edges.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field has a wrong type or lies out of its range, or fields are out of order.
    """

    hard: float = 0.9
    semi_hard: float = 0.5
    rate: float = 0.005
    band: float = 0.02
    low: float = -0.6
    high: float = 0.1

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("hard", "semi_hard"):
            self._set(name, number(f"moving_tiers.{name}", getattr(self, name)))
            if not 0.0 < getattr(self, name) < 1.0:
                raise InvalidValueError(
                    f"moving_tiers.{name} must be above 0 and below 1, got {getattr(self, name)}; it is a level"
                )
        for name in ("rate", "band"):
            self._set(name, number(f"moving_tiers.{name}", getattr(self, name), low=0.0))
        for name in ("low", "high"):
            self._set(name, number(f"moving_tiers.{name}", getattr(self, name)))
        for low, high in (("semi_hard", "hard"), ("low", "high")):
            if getattr(self, low) > getattr(self, high):
                raise InvalidValueError(
                    f"moving_tiers.{low} must be at most moving_tiers.{high} = {getattr(self, high)}, got "
                    f"{getattr(self, low)}; swap the two"
                )
