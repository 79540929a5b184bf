"""What an adaptive curriculum decided, and why."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.settings import number, whole

Action = Literal["harden", "soften", "alarm", "tiers", "refresh"]


@dataclass(frozen=True, kw_only=True)
class CurriculumDecision:
    """A decision of an :class:`AdaptiveCurriculum`.

    Attributes
    ----------
    step : int
        When.
    action : {"harden", "soften", "alarm", "tiers", "refresh"}
        Hardness rose or fell, an alarm was raised, edges of tiers moved, or a refresh is due.
    cause : str
        What led to it: ``"easy"``, ``"few_negatives"`` and ``"difficult"`` (the controller), ``"not_finite"``,
        ``"loss_spike"``, ``"collapse"`` and ``"false_negatives"`` (alarms), ``"recovery"`` from one, ``"geometry"``,
        ``"staleness"``.
    before, after : tuple of float
        Hardness; the edges hard and semi-hard for ``"tiers"``; nothing for ``"refresh"``.
    numbers : dict of str to float
        What was measured, and what it was compared with.
    why : str
        The same in a sentence.
    """

    step: int
    action: Action
    cause: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    numbers: dict[str, float] = field(hash=False)
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON."""
        return {**asdict(self), "before": list(self.before), "after": list(self.after)}

    def __str__(self) -> str:
        """Return a line for people."""
        return f"step {self.step}: {self.why}"


class DecisionLog:
    """The last decisions, and a count of those before.

    Parameters
    ----------
    size : int
        How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._kept: deque[CurriculumDecision] = deque(maxlen=size)
        self.dropped = 0
        """How many are no longer kept."""

    @property
    def kept(self) -> tuple[CurriculumDecision, ...]:
        """Those that are kept, the latest last."""
        return tuple(self._kept)

    def add(self, decision: CurriculumDecision) -> None:
        """Keep a decision; the earliest goes where there are too many."""
        self.dropped += len(self._kept) == self._kept.maxlen
        self._kept.append(decision)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"dropped": self.dropped, "kept": [decision.to_dict() for decision in self._kept]}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state, which is checked."""
        if not isinstance(state, Mapping) or not isinstance(state.get("kept"), list | tuple):
            raise StateError("the state is damaged: the log must have a list of decisions; save it again")
        try:
            dropped = whole("dropped", state.get("dropped"), low=0)
            kept = [_decision(values) for values in state["kept"]]
        except (InvalidTypeError, InvalidValueError, TypeError, KeyError) as error:
            raise StateError(f"the state is damaged: a decision of the log: {error}") from error
        self.dropped = dropped
        self._kept.clear()
        self._kept.extend(kept)


def _decision(values: Any) -> CurriculumDecision:
    if not isinstance(values, Mapping):
        raise InvalidTypeError(f"must be a mapping, got {type(values).__name__} {shown(values)}; save it again")
    if values["action"] not in get_args(Action):
        raise InvalidValueError(
            f"action must be among {list(get_args(Action))}, got {shown(values['action'])}; save it again"
        )
    for name, kind in (("cause", str), ("why", str), ("before", list | tuple), ("after", list | tuple)):
        if not isinstance(values[name], kind):
            raise InvalidTypeError(f"{name} must not be {type(values[name]).__name__}; save it again")
    lists = {name: tuple(number(name, entry) for entry in values[name]) for name in ("before", "after")}
    numbers = {str(name): number(str(name), value) for name, value in dict(values["numbers"]).items()}
    step = whole("step", values["step"], low=0)
    return CurriculumDecision(**{**values, **lists, "step": step, "numbers": numbers})
