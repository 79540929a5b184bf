"""Edges of tiers that follow quantiles of hardness."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from negfast.adaptive_settings import MovingTiers
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.settings import Tiers, number, truth
from negfast.trend import Trend

EDGES = ("hard", "semi_hard")


class MovingEdges:
    """Both edges of :class:`Tiers`, each on its way to a running quantile.

    Attributes
    ----------
    tiers : Tiers
        Where they are.
    """

    def __init__(self, settings: MovingTiers, tiers: Tiers, half_life: float) -> None:
        for name in EDGES:
            if not settings.low <= getattr(tiers, name) <= settings.high:
                raise InvalidValueError(
                    f"tiers.{name} of the curriculum must be within the bounds of moving_tiers, {settings.low:g} to "
                    f"{settings.high:g}, got {getattr(tiers, name):g}; widen the bounds"
                )
        self._settings = settings
        self.tiers = tiers
        self._quantiles = {name: Trend(half_life) for name in EDGES}
        self._moving = dict.fromkeys(EDGES, False)

    def move(self, quantiles: Sequence[float], warmup: int) -> dict[str, float]:
        """Take in finite quantiles at evenly spaced levels, and go on by one observation.

        Returns
        -------
        dict of str to float
            The running quantiles, once there were `warmup` of them; nothing before.
        """
        for name in EDGES:
            self._quantiles[name].update(_at_level(quantiles, getattr(self._settings, name)))
        if self._quantiles["hard"].count < warmup:
            return {}
        goals = {name: float(trend.mean or 0.0) for name, trend in self._quantiles.items()}
        hard, semi_hard = (self._nearer(name, goals[name]) for name in EDGES)
        # Both follow at one rate, so that none is pulled faster than that where they meet.
        self.tiers = Tiers(hard, min(semi_hard, hard))
        return goals

    def _nearer(self, name: str, goal: float) -> float:
        settings, edge = self._settings, float(getattr(self.tiers, name))
        goal = min(max(goal, settings.low), settings.high)
        away = abs(goal - edge)
        self._moving[name] = away > (settings.band / 2.0 if self._moving[name] else settings.band)
        if not self._moving[name]:
            return edge
        # The goal itself where it is near: a sum of differences may round to beyond a bound.
        return goal if away <= settings.rate else edge + math.copysign(settings.rate, goal - edge)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        trends = {name: trend.state_dict() for name, trend in self._quantiles.items()}
        return {"tiers": self.tiers.to_dict(), "moving": dict(self._moving), "quantiles": trends}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        parts = [state.get(name) if isinstance(state, Mapping) else None for name in ("tiers", "moving", "quantiles")]
        if not all(isinstance(part, Mapping) and set(part) == set(EDGES) for part in parts):
            raise StateError(f"the state is damaged: edges of tiers must be named, got {shown(state)}; save it again")
        tiers, moving, quantiles = parts
        try:
            bounds = {"low": self._settings.low, "high": self._settings.high}
            edges = Tiers(**{name: number(name, tiers[name], **bounds) for name in EDGES})  # type: ignore[index]
            flags = {name: truth(name, moving[name]) for name in EDGES}  # type: ignore[index]
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error
        for name in EDGES:
            self._quantiles[name].load_state_dict(quantiles[name])  # type: ignore[index]
        self.tiers, self._moving = edges, flags


def _at_level(quantiles: Sequence[float], level: float) -> float:
    """Return the quantile at a level, on the straight line between those given, and the outer ones beyond them."""
    place = level * (len(quantiles) + 1) - 1.0
    left = min(max(int(place), 0), len(quantiles) - 1)
    right = min(left + 1, len(quantiles) - 1)
    share = min(max(place - left, 0.0), 1.0)
    return quantiles[left] + (quantiles[right] - quantiles[left]) * share
