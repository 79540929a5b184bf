"""A curriculum that listens: measurements move it, within bounds and at a limited rate."""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from negfast.adaptive_settings import HardnessAlarms, HardnessControl, MovingTiers
from negfast.curriculum import Curriculum
from negfast.decision_log import Action, CurriculumDecision, DecisionLog
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.hardness import Hardness
from negfast.moving_edges import MovingEdges
from negfast.refresh_policy import RefreshPolicy
from negfast.schedule import LAST_STEP
from negfast.settings import Tiers, instance, number, truth, whole
from negfast.signals import Signals
from negfast.spikes import Spikes
from negfast.stage import Stage
from negfast.staleness import Staleness
from negfast.states import check_state
from negfast.trend import Trend

VERSION = 1
"""Version of the state of :class:`AdaptiveCurriculum`."""
LARGEST = 1e30
"""Measurements beyond this count as not finite."""
Alarm = tuple[str, dict[str, float], str]
"""A cause, what was measured, and a sentence."""
MEASURED = tuple(item.name for item in fields(Signals) if item.name != "hardness_quantiles")


class AdaptiveCurriculum:
    """A curriculum that measured signals make harder or easier."""

    def __init__(
        self,
        curriculum: Curriculum,
        *,
        easier: Curriculum | None = None,
        harder: Curriculum | None = None,
        control: HardnessControl = HardnessControl(),  # noqa: B008 - frozen
        alarms: HardnessAlarms = HardnessAlarms(),  # noqa: B008 - frozen
        moving_tiers: MovingTiers | None = None,
        refresh: RefreshPolicy | None = None,
        half_life: float = 10.0,
        warmup: int = 20,
        log_size: int = 1000,
    ) -> None:
        instance("curriculum", curriculum, Curriculum)
        self.curriculum = curriculum
        self.easier = _end("easier", curriculum.easier() if easier is None else easier, curriculum)
        self.harder = _end("harder", curriculum.harder() if harder is None else harder, curriculum)
        instance("control", control, HardnessControl)
        instance("alarms", alarms, HardnessAlarms)
        self.control, self.alarms = control, alarms
        if moving_tiers is not None:
            instance("moving_tiers", moving_tiers, MovingTiers)
        if refresh is not None:
            instance("refresh", refresh, RefreshPolicy)
        self.moving_tiers = moving_tiers
        self.half_life = number("half_life", half_life, low=0.1)
        self.warmup = whole("warmup", warmup, low=2)
        self.log_size = whole("log_size", log_size, low=1)
        self._hardness = Hardness(control, alarms)
        self._spikes = Spikes(alarms.window, alarms.window // 2)
        self._trends = {name: Trend(self.half_life) for name in MEASURED}
        self._edges = None if moving_tiers is None else MovingEdges(moving_tiers, curriculum.tiers, self.half_life)
        self._refresh = copy.deepcopy(refresh)
        self._refresh_due = False
        self._log = DecisionLog(self.log_size)
        self._last_step = -1
        self._most = {"spread": 0.0, "negative_distance": 0.0}  # 1 - spread, and the distance, at their largest

    @property
    def hardness(self) -> float:
        """From -1 (the easier end) to 1 (the harder end); 0 is the curriculum as it is."""
        return self._hardness.value

    @property
    def tiers(self) -> Tiers:
        """Where the tiers of hardness begin now."""
        return self.curriculum.tiers if self._edges is None else self._edges.tiers

    @property
    def refresh_due(self) -> bool:
        """Whether a refresh was asked for and not yet done."""
        return self._refresh_due

    @property
    def log(self) -> tuple[CurriculumDecision, ...]:
        """The last decisions, at most `log_size`, the latest last."""
        return self._log.kept

    @property
    def log_dropped(self) -> int:
        """How many earlier decisions are no longer in :attr:`log`."""
        return self._log.dropped

    def at(self, step: int) -> Stage:
        """Return what is in force at a step, with the hardness and the tiers of now."""
        stage, hardness = self.curriculum.at(step), self.hardness
        if hardness:
            end = self.harder if hardness > 0.0 else self.easier
            stage = _blend(stage, end.at(step), abs(hardness))
        return stage if self._edges is None else replace(stage, tiers=self.tiers)

    def observe(
        self, step: int, signals: Signals, *, staleness: Staleness | None = None
    ) -> tuple[CurriculumDecision, ...]:
        """Take in what was measured, and decide."""
        checked = self._check_step(step)
        instance("signals", signals, Signals)
        if staleness is not None:
            instance("staleness", staleness, Staleness)
        decisions = tuple(self._decide(checked, signals, staleness))
        self._last_step = checked
        for decision in decisions:
            self._log.add(decision)
        return decisions

    def refreshed(self, step: int) -> None:
        """Take note of a refresh: losses and drift from before it are no measure for what comes."""
        if self._refresh is not None:
            self._refresh.refreshed(step)
        self._refresh_due = False
        self._spikes.clear()
        self._trends["drift"] = Trend(self.half_life)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON."""
        return {
            **self._fixed(),
            "last_step": self._last_step,
            "hardness": self._hardness.state_dict(),
            "losses": self._spikes.state_dict(),
            "trends": {name: trend.state_dict() for name, trend in self._trends.items()},
            "most": dict(self._most),
            "edges": None if self._edges is None else self._edges.state_dict(),
            "last_refresh": None if self._refresh is None else self._refresh.last_step,
            "refresh_due": self._refresh_due,
            "log": self._log.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another adaptive curriculum of the same settings was.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version, another curriculum or other settings, or damaged. This object is as before
            then.
        """
        check_state(state, self._fixed(), "this adaptive curriculum")
        loaded = copy.deepcopy(self)
        loaded._load(state)
        vars(self).update(vars(loaded))

    def _load(self, state: Mapping[str, Any]) -> None:
        self._hardness.load_state_dict(state.get("hardness"))
        self._spikes.load_state_dict(state.get("losses"))
        self._log.load_state_dict(state.get("log"))
        if self._edges is not None:
            self._edges.load_state_dict(state.get("edges"))
        trends, most = state.get("trends"), state.get("most")
        if not isinstance(trends, Mapping) or not isinstance(most, Mapping):
            raise StateError("the state is damaged: it must have trends and what was most; save it again")
        for name, trend in self._trends.items():
            trend.load_state_dict(trends.get(name))
        try:
            self._most = {name: number(name, most.get(name)) for name in self._most}
            self._last_step = whole("last_step", state.get("last_step"), low=-1)
            self._refresh_due = truth("refresh_due", state.get("refresh_due"))
            if self._refresh is not None:
                self._refresh.last_step = whole("last_refresh", state.get("last_refresh"), low=0)
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error

    def _fixed(self) -> dict[str, Any]:
        """Return what a state and its curriculum have to agree on."""
        policy = None if self._refresh is None else self._refresh.state_dict()
        if policy is not None:
            del policy["last_step"]
        return {
            "version": VERSION,
            "curriculum": self.curriculum.fingerprint,
            "easier": self.easier.fingerprint,
            "harder": self.harder.fingerprint,
            "control": self.control.to_dict(),
            "alarms": self.alarms.to_dict(),
            "moving_tiers": None if self.moving_tiers is None else self.moving_tiers.to_dict(),
            "refresh": policy,
            "half_life": self.half_life,
            "warmup": self.warmup,
            "log_size": self.log_size,
        }

    def _check_step(self, step: object) -> int:
        checked = whole("step", step, low=0, high=LAST_STEP)
        if checked <= self._last_step:
            raise InvalidValueError(
                f"step must be above that of the last observation, {self._last_step}, got {checked}; count steps over "
                "restarts"
            )
        if self._refresh is not None and checked < self._refresh.last_step:
            raise InvalidValueError(
                f"step must be at least that of the last refresh, {self._refresh.last_step}, got {checked}; count "
                "steps over restarts"
            )
        return checked

    def _decide(self, step: int, signals: Signals, staleness: Staleness | None) -> Iterator[CurriculumDecision]:
        now, broken = _finite(signals)
        for name, value in now.items():
            self._trends[name].update(value)
        yield from self._alarm(step, now, broken)
        yield from self._move(step, now)
        yield from self._move_tiers(step, signals)
        yield from self._ask(step, now, staleness)

    def _alarm(self, step: int, now: dict[str, float], broken: list[str]) -> Iterator[CurriculumDecision]:
        raised: list[Alarm] = [("not_finite", {}, f"not finite: {', '.join(broken)}")] if broken else []
        others = [*self._spiked(now), *self._collapsed(now), *self._false_negatives(now)]
        if not self._hardness.is_held:
            raised += others
        for cause, numbers, why in raised:
            self._hardness.alarm(cause)
            at = (self.hardness,)
            yield CurriculumDecision(
                step=step, action="alarm", cause=cause, before=at, after=at, numbers=numbers, why=why
            )

    def _spiked(self, now: dict[str, float]) -> Iterator[Alarm]:
        score = self._spikes.score(now["loss"]) if "loss" in now else None
        if self.alarms.spike is not None and score is not None and score > self.alarms.spike:
            numbers = {"loss": now["loss"], "score": score, "spike": self.alarms.spike}
            why = f"loss {now['loss']:.4g} is {score:.1f} deviations above the median, spike is {self.alarms.spike:g}"
            yield "loss_spike", numbers, why

    def _collapsed(self, now: dict[str, float]) -> Iterator[Alarm]:
        limit = self.alarms.collapse
        if limit is None:
            return
        spread, distance = self._running("spread", now), self._running("negative_distance", now)
        if spread is not None:
            left = 1.0 - spread
            most = self._most["spread"] = max(self._most["spread"], left)
            if left < limit * most:
                numbers = {"spread": spread, "left": left, "most": most, "collapse": limit}
                yield ("collapse", numbers, f"spread {spread:.3f} leaves {left:.3g} of 1, {most:.3g} at most so far")
        if distance is not None:
            most = self._most["negative_distance"] = max(self._most["negative_distance"], distance)
            slopes = [self._trends[name].slope for name in ("positive_distance", "negative_distance")]
            if distance < limit * most and all(slope is not None and slope < 0.0 for slope in slopes):
                numbers = {"negative_distance": distance, "most": most, "collapse": limit}
                yield (
                    "collapse",
                    numbers,
                    f"positive and negative distances shrink, the latter to {distance:.3g}, {most:.3g} at most so far",
                )

    def _false_negatives(self, now: dict[str, float]) -> Iterator[Alarm]:
        limit, share = self.alarms.max_false_negatives, self._running("false_negative_share", now)
        if limit is not None and share is not None and share > limit:
            numbers = {"false_negative_share": share, "max_false_negatives": limit}
            yield ("false_negatives", numbers, f"share of false negatives {share:.3f}, at most {limit:g} is wanted")

    def _move(self, step: int, now: dict[str, float]) -> Iterator[CurriculumDecision]:
        before, probability = self.hardness, self._running("positive_probability", now)
        deviation = None if probability is None else probability - self.control.target
        few = deviation is not None and deviation >= 0.0 and self._few_negatives(now)
        self._hardness.move(deviation, easily=few, resting=self._learns())
        if self.hardness == before:
            return
        cause = self._hardness.backing_off
        numbers = {"target": self.control.target, "band": self.control.band}
        why = f"after an alarm ({cause})"
        if cause is None:
            numbers["positive_probability"] = probability
            cause = "few_negatives" if few else "easy" if deviation > 0.0 else "difficult"
            why = f"running p⁺ {probability:.3f}, target {self.control.target:g}"
        action: Action = "harden" if self.hardness > before else "soften"
        yield CurriculumDecision(
            step=step,
            action=action,
            cause=cause,
            before=(before,),
            after=(self.hardness,),
            numbers=numbers,
            why=f"hardness {before:.3f} to {self.hardness:.3f}: {why}",
        )

    def _few_negatives(self, now: dict[str, float]) -> bool:
        limit, effective = self.control.min_effective, self._running("effective_negatives", now)
        return limit is not None and effective is not None and effective < limit

    def _learns(self) -> bool:
        """Tell whether the loss falls by itself."""
        loss = self._trends["loss"]
        if loss.count < self.warmup or loss.mean is None or loss.slope is None:
            return False
        return -loss.slope > self.control.progress * abs(loss.mean)

    def _move_tiers(self, step: int, signals: Signals) -> Iterator[CurriculumDecision]:
        quantiles = signals.hardness_quantiles
        if self._edges is None or quantiles is None or not all(map(_is_finite, quantiles)):
            return
        before = self.tiers
        goals = self._edges.move(quantiles, self.warmup)
        if self.tiers != before:
            yield CurriculumDecision(
                step=step,
                action="tiers",
                cause="geometry",
                before=(before.hard, before.semi_hard),
                after=(self.tiers.hard, self.tiers.semi_hard),
                numbers=goals,
                why=f"hard from {self.tiers.hard:.3f}, semi-hard from {self.tiers.semi_hard:.3f}: running quantiles "
                f"{goals['hard']:.3f} and {goals['semi_hard']:.3f}",
            )

    def _ask(self, step: int, now: dict[str, float], staleness: Staleness | None) -> Iterator[CurriculumDecision]:
        if self._refresh is None or self._refresh_due:
            return
        drift = None
        if "drift" in now:
            drift = max(self._trends["drift"].value or 0.0, 0.0)
        decision = self._refresh.decide(step, staleness, drift=drift)
        if decision:
            self._refresh_due = True
            numbers = {} if drift is None else {"drift": drift}
            yield CurriculumDecision(
                step=step, action="refresh", cause="staleness", before=(), after=(), numbers=numbers, why=decision.why
            )

    def _running(self, name: str, now: dict[str, float]) -> float | None:
        """Return the running mean of what was measured just now, and often enough."""
        trend = self._trends[name]
        return trend.mean if name in now and trend.count >= self.warmup else None


def _end(name: str, end: Curriculum, curriculum: Curriculum) -> Curriculum:
    """Check that a curriculum can be the other end of a mixture."""
    instance(name, end, Curriculum)
    if end.tiers != curriculum.tiers:
        raise InvalidValueError(
            f"{name}.tiers must be those of curriculum, {curriculum.tiers}, got {end.tiers}; hardness leaves them"
        )
    for quantity in ("relative_margin", "range_max"):
        if (getattr(end, quantity) is None) != (getattr(curriculum, quantity) is None):
            raise InvalidValueError(
                f"{name}.{quantity} must be None where that of curriculum is, and a number where that is one, got "
                f"{shown(getattr(end, quantity))}; there is nothing between None and a number"
            )
    return end


def _finite(signals: Signals) -> tuple[dict[str, float], list[str]]:
    """Return what was measured and is finite, and the names of what is not."""
    given = {name: value for name in MEASURED if (value := getattr(signals, name)) is not None}
    finite = {name: value for name, value in given.items() if _is_finite(value)}
    broken = [name for name in given if name not in finite]
    if signals.hardness_quantiles is not None and not all(map(_is_finite, signals.hardness_quantiles)):
        broken.append("hardness_quantiles")
    return finite, broken


def _is_finite(value: float) -> bool:
    return abs(value) <= LARGEST  # false of NaN


def _blend(stage: Stage, end: Stage, share: float) -> Stage:
    """Return what lies at a share of the way between two stages."""
    if share >= 1.0:
        return end
    # A way of equal factors: from 0.05 to 0.025 is as far as from 0.1 to 0.05.
    temperature = stage.temperature * math.exp(share * math.log(end.temperature / stage.temperature))
    return Stage(
        temperature=temperature,
        relative_margin=_optional(stage.relative_margin, end.relative_margin, share),
        hardness_strength=_line(stage.hardness_strength, end.hardness_strength, share),
        probabilities={
            name: _line(value, end.probabilities[name], share) for name, value in stage.probabilities.items()
        },
        min_random=_line(stage.min_random, end.min_random, share),
        range_min=_rounded(_line(stage.range_min, end.range_min, share)),
        range_max=_rounded(_optional(stage.range_max, end.range_max, share)),
        tiers=stage.tiers,
    )


def _line(one: float, other: float, share: float) -> float:
    return min(max(one + (other - one) * share, min(one, other)), max(one, other))


def _optional(one: float | None, other: float | None, share: float) -> float | None:
    return None if one is None or other is None else _line(one, other, share)


def _rounded(value: float | None) -> Any:
    # Half always up, so that a window of one rank never becomes one of none.
    return None if value is None else math.floor(value + 0.5)
