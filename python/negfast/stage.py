"""What a curriculum says about one step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import Tiers, instance, number, optional_number, whole

SHARES = ("hard", "semi_hard", "easy")
"""The tiers, hardest first."""
LEAST_TEMPERATURE = 1e-6
"""The lowest temperature; cosines of 1 divided by less overflow float32 once they are exponentiated twice over."""
_ROUNDING = 1e-9
"""What shares may exceed 1 by, as in the sampler."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """All quantities of a curriculum at one step: what a sampler publishes and a loss uses.

    Parameters
    ----------
    temperature : float
        Of the loss, above 0.
    relative_margin : float or None
        Negatives that score more than ``p - abs(p) * relative_margin`` are masked, with p the score of the positive;
        ``None`` masks none.
    hardness_strength : float
        What the loss adds to a negative's logit, times its score; 0 is plain InfoNCE.
    probabilities : mapping of {"hard", "semi_hard", "easy"} to float
        What part of the slots that are not reserved each tier gets. What they leave to 1 is drawn at random.
    min_random : float
        The part of all slots that is reserved for random negatives.
    range_min : int
        How many of the best allowed rows are skipped.
    range_max : int or None
        The last rank that is drawn from; ``None``: all of the list.
    tiers : Tiers
        Where the tiers of hardness begin.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a value has a wrong type or lies out of its range.

    Examples
    --------
    >>> import negfast
    >>> stage = negfast.Curriculum(temperature=0.02, hard=0.2, easy=0.3).at(0)
    >>> stage.probabilities
    {'hard': 0.2, 'semi_hard': 0.0, 'easy': 0.3}
    """

    temperature: float
    relative_margin: float | None
    hardness_strength: float
    # A dict has no hash; the other fields have.
    probabilities: dict[str, float] = field(hash=False)
    min_random: float
    range_min: int
    range_max: int | None
    tiers: Tiers

    def __post_init__(self) -> None:
        """Check every field."""
        instance("tiers", self.tiers, Tiers)
        checked = {
            "temperature": number("temperature", self.temperature, low=LEAST_TEMPERATURE),
            "relative_margin": optional_number("relative_margin", self.relative_margin, low=0.0),
            "hardness_strength": number("hardness_strength", self.hardness_strength, low=0.0),
            "probabilities": _shares(self.probabilities),
            "min_random": number("min_random", self.min_random, low=0.0, high=1.0),
            "range_min": whole("range_min", self.range_min, low=0),
            "range_max": None if self.range_max is None else whole("range_max", self.range_max, low=1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.range_max is not None and self.range_max <= self.range_min:
            raise InvalidValueError(
                f"range_max must be above range_min = {self.range_min}, got {self.range_max}; widen the window"
            )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each tier and of random negatives in all slots; they add up to 1."""
        listed = {name: share * (1.0 - self.min_random) for name, share in self.probabilities.items()}
        return {**listed, "random": max(1.0 - sum(listed.values()), 0.0)}

    def to_dict(self) -> dict[str, Any]:
        """Return all quantities as plain values, fit for JSON."""
        return {**vars(self), "probabilities": dict(self.probabilities), "tiers": self.tiers.to_dict()}


def _shares(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise InvalidTypeError(
            f"probabilities must be a mapping of tiers to numbers, got {type(value).__name__} {shown(value)}; pass "
            '{"hard": 0.3, "semi_hard": 0.4, "easy": 0.2}'
        )
    unknown = [shown(name) for name in value if name not in SHARES]
    if unknown:
        raise InvalidValueError(
            f"probabilities must be for tiers among {list(SHARES)}, got {', '.join(unknown)}; what they leave to 1 is "
            "random"
        )
    shares = {name: number(name, value.get(name, 0.0), low=0.0, high=1.0) for name in SHARES}
    if sum(shares.values()) > 1.0 + _ROUNDING:
        raise InvalidValueError(
            f"hard, semi_hard and easy must add up to at most 1, got {sum(shares.values()):g}; what they leave to 1 is "
            "random"
        )
    return shares


def between(stage: Stage, end: Stage, share: float) -> Stage:
    """Return what lies at a share of the way from one stage to another, with the tiers of the first.

    Temperatures go by equal factors, all else in straight lines. What is ``None`` is so in both.
    """
    if share >= 1.0:
        return replace(end, tiers=stage.tiers)
    factor = math.exp(share * math.log(end.temperature / stage.temperature))
    mixed = {name: _line(value, end.probabilities[name], share) for name, value in stage.probabilities.items()}
    low, high = window(
        _line(stage.range_min, end.range_min, share), _optional_line(stage.range_max, end.range_max, share)
    )
    return Stage(
        temperature=stage.temperature * factor,
        relative_margin=_optional_line(stage.relative_margin, end.relative_margin, share),
        hardness_strength=_line(stage.hardness_strength, end.hardness_strength, share),
        probabilities=mixed,
        min_random=_line(stage.min_random, end.min_random, share),
        range_min=low,
        range_max=high,
        tiers=stage.tiers,
    )


def window(low: float, high: float | None) -> tuple[int, int | None]:
    """Return a window of ranks in the nearest whole numbers, of two the higher; rounding closes none that is open."""
    first = _nearest(low)
    if high is None:
        return first, None
    last = _nearest(high)
    return first, first + 1 if low < high and last <= first else last


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def _optional_line(one: float | None, other: float | None, share: float) -> float | None:
    return None if one is None or other is None else _line(one, other, share)


def _line(one: float, other: float, share: float) -> float:
    return min(max(one + (other - one) * share, min(one, other)), max(one, other))
