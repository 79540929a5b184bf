"""A curriculum that listens: measurements move it, within bounds and at a limited rate."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from negfast.adaptive_settings import HardnessAlarms, HardnessControl, MovingTiers
from negfast.alarms import Alarm, Alarms
from negfast.curriculum import Curriculum
from negfast.decision_log import CurriculumDecision, DecisionLog
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.hardness import Hardness
from negfast.moving_edges import MovingEdges
from negfast.refresh_policy import RefreshPolicy
from negfast.schedule import LAST_STEP
from negfast.settings import Tiers, instance, number, truth, whole
from negfast.signals import Signals
from negfast.stage import Stage, between
from negfast.staleness import Staleness
from negfast.states import check_state
from negfast.trend import Trend

VERSION = 1
"""Version of the state of :class:`AdaptiveCurriculum`."""
LARGEST = 1e30
"""Measurements beyond this count as not finite."""
RANGES = {
    "positive_probability": (0.0, 1.0),
    "false_negative_share": (0.0, 1.0),
    "spread": (-1.0, 1.0),
    "effective_negatives": (0.0, LARGEST),
}
"""What signals can be; what lies beyond counts as not finite too."""
_ROUNDING = 1e-6
"""What a signal may be beyond its range by."""
MEASURED = tuple(item.name for item in fields(Signals) if item.name != "hardness_quantiles")


class AdaptiveCurriculum:
    """A curriculum that measured signals make harder or easier.

    One number, `hardness`, from -1 to 1, says where between an easy and a hard end training is: at 0 the curriculum is
    as it was made, at 1 it is `harder`, at -1 `easier`, and in between every quantity lies in between. :meth:`observe`
    takes in what was measured and moves it; :meth:`at` says what is in force.

    Parameters
    ----------
    curriculum : Curriculum
        The plan, which still says what changes by itself over the steps.
    easier, harder : Curriculum, optional
        Both ends; by default :meth:`Curriculum.easier` and :meth:`Curriculum.harder` of the plan. A quantity that may
        be ``None`` is so in all three or in none.
    control : HardnessControl, optional
        How the share of the positive moves hardness.
    alarms : HardnessAlarms, optional
        What makes it back off.
    moving_tiers : MovingTiers, optional
        Let the edges of tiers follow the hardness of negatives. By default they stay.
    refresh : RefreshPolicy, optional
        When a refresh is due, by steps, by the signal `drift`, and by staleness where :meth:`observe` gets one. A copy
        is taken, and is told by :meth:`refreshed`.
    half_life : float, default 10.0
        Observations after which one counts half in running values.
    warmup : int, default 20
        How often a signal has to have been measured before it is judged.
    log_size : int, default 1000
        How many decisions are kept.

    Attributes
    ----------
    curriculum, easier, harder, control, alarms, moving_tiers, half_life, warmup, log_size
        As given.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range, or the three curricula do not go together.

    Notes
    -----
    **It hardens** where the running share of the positive p⁺ is above its target by more than the band, so that there
    is little left to learn, or by half of that where few effective negatives are left: the rest is too easy to count.
    **It softens** where p⁺ is as far below. While a loss that is measured falls by itself it does neither: what begins
    untrained is no harder than it should be. The controller is a PI controller in velocity form with a dead band and
    hysteresis (K. J. Åström and T. Hägglund, *PID controllers: theory, design, and tuning*, 1995); bounds and the limit
    of its rate are kept whatever is measured, and nothing winds up at them.

    **Alarms** lower hardness at once, and for a while nothing is hardened: a loss that spikes, by its robust z-score; a
    collapse, which the mean cosine of different documents and shrinking distances show; too many false negatives; and
    NaN, infinity, a number beyond 1e30 in any signal, or one beyond its range, such as a share of 7, which are all kept
    out of all running values. What an alarm took comes back slowly; the more alarms there were, the more slowly.

    **Running values** are exponentially weighted lines (:attr:`momentum`), so that each has a slope. A loss that spikes
    goes in as the highest that does not, from the seventeenth on; none does where that alarm is off.

    **The log** holds every change of hardness and tiers, every alarm and every refresh that was asked for, with its
    cause and numbers; that of `hardness` is a chain without a gap. Signals that are missing are not judged.

    Curricula whose pace follows what the learner does are called self-paced or adaptive. Of text embeddings, S. Li et
    al., *Conan-embedding: General text embedding with more and better negative samples* (2024), replace negatives that
    have become easy; :class:`RefreshPolicy` has their rule.

    **Ranks.** Decisions are sums, products and comparisons of the signals in float64, in one order. Ranks that observe
    the same signals, as :func:`negfast.torch.all_reduced` returns them, decide alike to the bit.

    Limitations
    -----------
    The defaults suit batches of some hundred negatives at temperatures of text. p⁺ depends on how many negatives there
    are, on how they were drawn, and on the temperature: look at it in a run without control, and set the target to
    where it should stay. One scalar cannot tell which quantity would help. Observe at a regular pace: rates, half-life,
    hold and slopes count observations, not steps. A plan whose schedules jump makes the loss jump, which is an alarm.
    Of losses that vary normally, two in a million are taken for spikes; of those with heavy tails more, and of those
    that are often 0 one in a thousand or fewer. Quantiles of
    negatives that were drawn by tier move with the tiers: measure them on all negatives of a batch, or on mined
    candidates. A collapse that was there from the first observation on is not seen: what spread leaves of 1 is
    compared with the most that it was.

    Examples
    --------
    >>> import negfast
    >>> from negfast import Signals
    >>> plan = negfast.Curriculum(temperature=0.05, hard=0.2, semi_hard=0.4, easy=0.2)
    >>> adaptive = negfast.AdaptiveCurriculum(plan)
    >>> for step in range(100):
    ...     decisions = adaptive.observe(step, Signals(loss=0.1, positive_probability=0.97))
    >>> print(decisions[0])
    step 99: hardness 0.328 to 0.332, easy: running p⁺ 0.970, target 0.7
    >>> adaptive.at(100).temperature < 0.05
    True
    >>> print(adaptive.observe(100, Signals(loss=float("nan")))[0])
    step 100: not finite: loss
    """

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
        self.easier = _end("easier", _default("easier", curriculum) if easier is None else easier, curriculum)
        self.harder = _end("harder", _default("harder", curriculum) if harder is None else harder, curriculum)
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
        self._alarms = Alarms(alarms)
        self._trends = {name: Trend(self.half_life) for name in MEASURED}
        self._edges = None if moving_tiers is None else MovingEdges(moving_tiers, curriculum.tiers, self.half_life)
        self._refresh = copy.deepcopy(refresh)
        self._refresh_due = False
        self._log = DecisionLog(self.log_size)
        self._last_step = -1

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
    def momentum(self) -> dict[str, dict[str, float]]:
        """The running values of every signal that was measured twice.

        Of each: ``"mean"``, exponentially weighted; ``"value"`` and ``"slope"`` of a line through it, now and from one
        observation to the next; ``"count"``, how often it was measured.
        """
        return {name: trend.summary() for name, trend in self._trends.items() if trend.count > 1}

    @property
    def log(self) -> tuple[CurriculumDecision, ...]:
        """The last decisions, at most `log_size`, the latest last."""
        return self._log.kept

    @property
    def log_dropped(self) -> int:
        """How many earlier decisions are no longer in :attr:`log`."""
        return self._log.dropped

    def at(self, step: int) -> Stage:
        """Return what is in force at a step, with the hardness and the tiers of now.

        Parameters
        ----------
        step : int
            From 0 to 2**53.

        Returns
        -------
        Stage

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As by :meth:`Curriculum.at`.
        """
        stage, hardness = self.curriculum.at(step), self.hardness
        if hardness:
            end = self.harder if hardness > 0.0 else self.easier
            stage = between(stage, end.at(step), abs(hardness))
        return stage if self._edges is None else replace(stage, tiers=self.tiers)

    def observe(
        self, step: int, signals: Signals, *, staleness: Staleness | None = None
    ) -> tuple[CurriculumDecision, ...]:
        """Take in what was measured, and decide.

        Parameters
        ----------
        step : int
            Above that of the last observation.
        signals : Signals
            What was measured since then; the same on all ranks.
        staleness : Staleness, optional
            What :meth:`Miner.staleness` measured, for the refresh policy.

        Returns
        -------
        tuple of CurriculumDecision
            What was decided, in this order: alarms, hardness, tiers, refresh. They are in :attr:`log` too.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, or `step` is not above the last. Nothing has changed then.
        """
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
        """Take note of a refresh: losses and drift from before it are no measure for what comes.

        Parameters
        ----------
        step : int
            When it was done.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `step` is no integer, or below that of the last refresh.
        """
        step = whole("step", step, low=0, high=LAST_STEP)
        if self._refresh is not None:
            self._refresh.refreshed(step)
        self._refresh_due = False
        self._alarms.forget_losses()
        for name in ("loss", "drift"):
            self._trends[name] = Trend(self.half_life)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON."""
        return {
            **self._fixed(),
            "last_step": self._last_step,
            "hardness": self._hardness.state_dict(),
            "alarmed": self._alarms.state_dict(),
            "trends": {name: trend.state_dict() for name, trend in self._trends.items()},
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
        self._alarms.load_state_dict(state.get("alarmed"))
        self._log.load_state_dict(state.get("log"))
        if self._edges is not None:
            self._edges.load_state_dict(state.get("edges"))
        trends = state.get("trends")
        if not isinstance(trends, Mapping):
            raise StateError("the state is damaged: it must have trends; save it again")
        for name, trend in self._trends.items():
            trend.load_state_dict(trends.get(name))
        try:
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
            # A single glitch would look like learning for as long as it fades.
            self._trends[name].update(self._alarms.usual(value) if name == "loss" else value)
        yield from self._alarm(step, now, broken)
        yield from self._move(step, now)
        yield from self._move_tiers(step, signals)
        yield from self._ask(step, now, staleness)

    def _alarm(self, step: int, now: dict[str, float], broken: list[str]) -> Iterator[CurriculumDecision]:
        raised: list[Alarm] = [("not_finite", {}, f"not finite: {', '.join(broken)}")] if broken else []
        others = list(self._alarms.judge(now, self._running(now), self._trends))
        if not self._hardness.is_held:
            raised += others
        for cause, numbers, why in raised:
            self._hardness.alarm(cause)
            at = (self.hardness,)
            yield CurriculumDecision(
                step=step, action="alarm", cause=cause, before=at, after=at, numbers=numbers, why=why
            )

    def _move(self, step: int, now: dict[str, float]) -> Iterator[CurriculumDecision]:
        before, running = self.hardness, self._running(now)
        probability = running.get("positive_probability")
        deviation = None if probability is None else probability - self.control.target
        few = deviation is not None and deviation >= 0.0 and self._few_negatives(running)
        self._hardness.move(deviation, easily=few, resting=self._learns(now))
        if self.hardness == before:
            return
        cause, why = self._hardness.moved_by or "", ""
        numbers: dict[str, float] = {}
        if cause == "controller" and probability is not None:
            cause = "few_negatives" if few else "easy" if probability > self.control.target else "difficult"
            numbers = {"positive_probability": probability, "target": self.control.target}
            why = f": running p⁺ {probability:.3f}, target {self.control.target:g}"
        yield CurriculumDecision(
            step=step,
            action="harden" if self.hardness > before else "soften",
            cause=cause,
            before=(before,),
            after=(self.hardness,),
            numbers=numbers,
            why=f"hardness {before:.3f} to {self.hardness:.3f}, {cause}{why}",
        )

    def _few_negatives(self, running: Mapping[str, float]) -> bool:
        limit, effective = self.control.min_effective, running.get("effective_negatives")
        return limit is not None and effective is not None and effective < limit

    def _learns(self, now: Mapping[str, float]) -> bool:
        """Tell whether the loss, measured just now, falls by itself."""
        loss = self._trends["loss"]
        if "loss" not in now or loss.count < self.warmup or loss.mean is None or loss.slope is None:
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

    def _running(self, now: Mapping[str, float]) -> dict[str, float]:
        """Return the running means of what was measured just now, and often enough."""
        counted = {name: self._trends[name] for name in now if self._trends[name].count >= self.warmup}
        return {name: trend.mean for name, trend in counted.items() if trend.mean is not None}


def _default(name: str, curriculum: Curriculum) -> Curriculum:
    """Return the end that there is where none is given."""
    try:
        return curriculum.harder() if name == "harder" else curriculum.easier()
    except InvalidValueError as error:
        raise InvalidValueError(
            f"{name} is curriculum.{name}() by default, which cannot be made: {error}; pass {name} too"
        ) from error


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
    finite = {name: value for name, value in given.items() if _is_finite(value) and _is_within(name, value)}
    broken = [_broken(name, value) for name, value in given.items() if name not in finite]
    if signals.hardness_quantiles is not None and not all(map(_is_finite, signals.hardness_quantiles)):
        broken.append("hardness_quantiles")
    return finite, broken


def _broken(name: str, value: float) -> str:
    """Return a name, and of a finite value its range."""
    if not _is_finite(value):
        return name
    low, high = RANGES[name]
    return f"{name}, {value:g} is {f'below {low:g}' if value < low else f'above {high:g}'}"


def _is_within(name: str, value: float) -> bool:
    low, high = RANGES.get(name, (-LARGEST, LARGEST))
    return low - _ROUNDING <= value <= high + _ROUNDING


def _is_finite(value: float) -> bool:
    return abs(value) <= LARGEST  # false of NaN
