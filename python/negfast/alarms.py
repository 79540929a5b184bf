"""What makes an adaptive curriculum back off: measurements that say that training is in trouble."""

from collections.abc import Iterator, Mapping
from typing import Any

from negfast.adaptive_settings import HardnessAlarms
from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.settings import number
from negfast.spikes import Spikes
from negfast.trend import Trend

Alarm = tuple[str, dict[str, float], str]
"""A cause, what was measured and what it was compared with, and a sentence."""
_SHRINKING = 0.05
"""The part of itself that a distance loses in a half-life where it shrinks, and does not just vary."""
_WIDEST = ("left", "negative_distance", "separation")


class Alarms:
    """Judge measurements as they come.

    Parameters
    ----------
    settings : HardnessAlarms
    """

    def __init__(self, settings: HardnessAlarms) -> None:
        self._settings = settings
        self._spikes = Spikes(settings.window)
        # The most that the running values were: what spread leaves of 1, the distance of negatives, and how much
        # further away they are than positives.
        self._widest = dict.fromkeys(_WIDEST, 0.0)

    def judge(
        self, now: Mapping[str, float], running: Mapping[str, float], trends: Mapping[str, Trend]
    ) -> Iterator[Alarm]:
        """Say what there is to be alarmed about.

        Parameters
        ----------
        now : mapping of str to float
            What was measured.
        running : mapping of str to float
            Running means, of what was measured now and often enough.
        trends : mapping of str to Trend
        """
        yield from self._spiked(now)
        yield from self._spread(running)
        yield from self._shrunk(running, trends)
        limit, share = self._settings.max_false_negatives, running.get("false_negative_share")
        if limit is not None and share is not None and share > limit:
            numbers = {"false_negative_share": share, "max_false_negatives": limit}
            yield (
                "false_negatives",
                numbers,
                f"{share:.1%} of the negatives are false, max_false_negatives is {limit:g}",
            )

    def usual(self, loss: float) -> float:
        """Return a loss that was not judged yet, or the highest that is no spike."""
        limit = self._settings.spike
        return loss if limit is None else self._spikes.clipped(loss, limit)

    def forget_losses(self) -> None:
        """Compare no loss that comes with one that was."""
        self._spikes.clear()

    def _spiked(self, now: Mapping[str, float]) -> Iterator[Alarm]:
        limit, score = self._settings.spike, self._spikes.score(now["loss"]) if "loss" in now else None
        if limit is not None and score is not None and score > limit:
            numbers = {"loss": now["loss"], "score": score, "spike": limit}
            yield (
                "loss_spike",
                numbers,
                f"loss {now['loss']:.4g} is {score:.1f} deviations too high, spike is {limit:g}",
            )

    def _spread(self, running: Mapping[str, float]) -> Iterator[Alarm]:
        limit, spread = self._settings.collapse, running.get("spread")
        if limit is None or spread is None:
            return
        left, most = 1.0 - spread, self._wider("left", 1.0 - spread)
        if left < limit * most:
            numbers = {"spread": spread, "left": left, "most": most, "collapse": limit}
            yield "collapse", numbers, f"spread {spread:.3f} leaves {left:.3g} of 1, {most:.3g} at most so far"

    def _shrunk(self, running: Mapping[str, float], trends: Mapping[str, Trend]) -> Iterator[Alarm]:
        limit = self._settings.collapse
        negative, positive = running.get("negative_distance"), running.get("positive_distance")
        if limit is None or negative is None or positive is None:
            return
        apart = negative - positive
        widest, most = self._wider("negative_distance", negative), self._wider("separation", apart)
        shrink = all(_shrinks(trends[name]) for name in ("positive_distance", "negative_distance"))
        if shrink and negative < limit * widest and apart < limit * most:
            numbers = {"negative_distance": negative, "widest": widest, "separation": apart, "most": most}
            yield (
                "collapse",
                {**numbers, "collapse": limit},
                f"both distances shrink; negatives are at {negative:.3g}, {widest:.3g} at most so far",
            )

    def _wider(self, name: str, value: float) -> float:
        self._widest[name] = max(self._widest[name], value)
        return self._widest[name]

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"losses": self._spikes.state_dict(), "widest": dict(self._widest)}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        widest = state.get("widest") if isinstance(state, Mapping) else None
        if not isinstance(widest, Mapping):
            raise StateError("the state is damaged: alarms must have what was widest; save it again")
        try:
            values = {name: number(name, widest.get(name), low=0.0) for name in _WIDEST}
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error
        self._spikes.load_state_dict(state.get("losses"))
        self._widest = values


def _shrinks(trend: Trend) -> bool:
    return (trend.slope or 0.0) * trend.half_life < -_SHRINKING * (trend.mean or 0.0)
