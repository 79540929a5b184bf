"""The settings of one call: which candidates count, how many negatives of each anchor, in which layout."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

from negfast.errors import InvalidValueError, shown
from negfast.settings import whole

Layout = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]
Strategy = Literal["random", "top"]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What scores a candidate must have. ``None`` turns a filter off; the names are those of :class:`negfast.Rules`."""

    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None

    def active(self) -> dict[str, float]:
        """Return the filters that are on, in the order in which they apply."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def has_margin(self) -> bool:
        """Whether scores are compared with those of positives."""
        return self.absolute_margin is not None or self.relative_margin is not None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked settings; `range_max` is ``None`` only where there is no window of raw candidates."""

    num_negatives: int
    range_min: int
    range_max: int | None
    filters: Filters
    strategy: Strategy
    layout: Layout
    output_scores: bool
    include_positives: bool

    def __post_init__(self) -> None:
        """Refuse what cannot be mined at all."""
        if whole("num_negatives", self.num_negatives, low=-(2**62)) < 1:
            raise InvalidValueError(f"num_negatives must be at least 1, got num_negatives={self.num_negatives}.")
        if self.strategy not in get_args(Strategy):
            raise InvalidValueError(
                f"sampling_strategy must be 'top' or 'random', got {shown(self.strategy)}; choose one"
            )
        if self.layout not in get_args(Layout):
            raise InvalidValueError(
                f"Invalid output_format: {self.layout}. Must be one of 'triplet', 'n-tuple', 'labeled-pair', or "
                "'labeled-list'."
            )

    @property
    def wanted(self) -> int:
        """How many of the best allowed candidates decide the result if the best are taken."""
        return self.range_min + self.num_negatives

    def windowed(self, max_positives: int, *, spare: bool, say: Callable[[str], None]) -> Self:
        """Return the settings with a window of raw candidates, derived if none was given.

        Parameters
        ----------
        max_positives : int
            Rows of the anchor that has most.
        spare : bool
            Whether candidates may be refused, so that more of them are needed than negatives.
        say : callable
            Hears what was derived.
        """
        settings = self
        if self.range_max is None:
            width = self.num_negatives * (10 if spare else 1) + max_positives
            settings = replace(self, range_max=self.range_min + width)
            say(f"Setting range_max to {settings.range_max} based on the provided parameters.")
        settings.check_window()
        return settings

    def check_window(self) -> None:
        """Refuse a window that is too narrow."""
        if whole("range_min", self.range_min, low=-(2**62)) < 0:
            raise InvalidValueError(f"range_min must be non-negative, got range_min={self.range_min}.")
        if self.range_max is None:
            return
        width = whole("range_max", self.range_max, low=-(2**62)) - self.range_min
        if width <= 0:
            raise InvalidValueError(
                f"range_min must be smaller than range_max, got range_min={self.range_min} and "
                f"range_max={self.range_max}."
            )
        if self.num_negatives > width:
            raise InvalidValueError(
                f"Cannot mine {self.num_negatives} negatives per query: only {width} candidates remain after skipping "
                f"the first range_min={self.range_min} of range_max={self.range_max}. Consider decreasing "
                "num_negatives or range_min, or increasing range_max."
            )
