"""Schedules for everything that makes negatives harder or easier, as one value."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self

from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.schedule import Constant, Linear, Schedule, as_schedule, from_dict
from negfast.settings import Tiers, instance, number, whole
from negfast.stage import SHARES, Stage, window
from negfast.states import check_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1
"""Version of the plain form of a curriculum."""
_OPTIONAL = ("relative_margin", "range_max")


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What the sampler and the loss use at each step: a number or a schedule for each quantity.

    As it is made without arguments it is neutral: plain InfoNCE over random negatives.

    Parameters
    ----------
    temperature : float or Schedule, default 0.05
        Of the loss, above 0. The lower, the more the hardest negatives count.
    relative_margin : float, Schedule or None
        Negatives that score more than ``p - abs(p) * relative_margin`` are masked, with p the score of the positive.
    hardness_strength : float or Schedule, default 0.0
        What the loss adds to a negative's logit, times its score.
    hard, semi_hard, easy : float or Schedule, default 0.0
        What part of the slots that are not reserved each tier gets; at most 1 together. What they leave is random.
    min_random : float or Schedule, default 0.0
        The part of all slots that is reserved for random negatives.
    range_min : int or Schedule, default 0
        How many of the best allowed rows are skipped. Schedules of ranks are rounded; where both
        round to one number, `range_max` is the next.
    range_max : int, Schedule or None
        The last rank that is drawn from; ``None``: all of the list.
    tiers : Tiers, optional
        Where the tiers of hardness begin.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a value has a wrong type, or lies out of its range at a step at which a schedule begins, bends, jumps or ends
        (see `Schedule.knots`). Straight lines and their sums cannot be wrong anywhere else; other schedules are checked
        at each step that :meth:`at` is asked for.

    Notes
    -----
    A curriculum goes from easy to hard (Y. Bengio, J. Louradour, R. Collobert and J. Weston, *Curriculum learning*,
    2009). Negatives that are hard from the start tend to collapse an untrained model (F. Schroff, D. Kalenichenko and
    J. Philbin, *FaceNet*, 2015, who train on semi-hard ones for that reason), and some random ones stay useful (J. Zhan
    et al., *Optimizing dense retrieval model training with hard negatives*, 2021).

    Examples
    --------
    >>> import negfast
    >>> from negfast import schedule
    >>> curriculum = negfast.Curriculum(
    ...     temperature=schedule.Cosine(0.07, 0.02, steps=1000),
    ...     hard=schedule.Linear(0.0, 0.4, steps=1000),
    ...     easy=schedule.Linear(0.4, 0.0, steps=1000),
    ...     min_random=0.25,
    ... )
    >>> curriculum.at(500).probabilities
    {'hard': 0.2, 'semi_hard': 0.0, 'easy': 0.2}
    >>> negfast.Curriculum.from_dict(curriculum.to_dict()) == curriculum
    True
    """

    temperature: Schedule | float = Constant(0.05)  # noqa: RUF009 - frozen
    relative_margin: Schedule | float | None = None
    hardness_strength: Schedule | float = Constant(0.0)  # noqa: RUF009 - frozen
    hard: Schedule | float = Constant(0.0)  # noqa: RUF009 - frozen
    semi_hard: Schedule | float = Constant(0.0)  # noqa: RUF009 - frozen
    easy: Schedule | float = Constant(0.0)  # noqa: RUF009 - frozen
    min_random: Schedule | float = Constant(0.0)  # noqa: RUF009 - frozen
    range_min: Schedule | float = Constant(0.0)  # noqa: RUF009 - frozen
    range_max: Schedule | float | None = None
    tiers: Tiers = Tiers()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        """Check every field, at every step where something changes."""
        instance("tiers", self.tiers, Tiers)
        for name, value in self._quantities().items():
            if value is not None or name not in _OPTIONAL:
                object.__setattr__(self, name, as_schedule(name, value))
        for step in self.knots:
            self.at(step)

    @classmethod
    def random_first(
        cls,
        steps: int,
        *,
        warmup: float = 0.1,
        hard: float = 0.2,
        semi_hard: float = 0.4,
        easy: float = 0.2,
        min_random: float = 0.1,
        temperature: float = 0.05,
        final_temperature: float = 0.02,
    ) -> Self:
        """Make the usual curriculum for text retrieval: random negatives first, then harder ones, step by step.

        Parameters
        ----------
        steps : int
            Of the whole training, at least 10.
        warmup : float from 0 to 0.9, default 0.1
            The share of the steps with random negatives alone.
        hard, semi_hard, easy, min_random : float
            The shares at half of the way after that, when they are all there, and from then on.
        temperature, final_temperature : float
            At the beginning and, in a straight line over all steps, at the end.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type or lies out of its range.
        """
        steps = whole("steps", steps, low=10)
        begin = max(round(number("warmup", warmup, low=0.0, high=0.9) * steps), 1)
        way = max((steps - begin) // 2, 1)
        shares: dict[str, Any] = {
            name: Constant(0.0).then(begin, Linear(0.0, share, steps=way))
            for name, share in {"hard": hard, "semi_hard": semi_hard, "easy": easy}.items()
        }
        return cls(temperature=Linear(temperature, final_temperature, steps=steps), min_random=min_random, **shares)

    @property
    def knots(self) -> tuple[int, ...]:
        """The steps at which any of its schedules begins, bends, jumps or ends, in order."""
        schedules = [value for value in self._quantities().values() if value is not None]
        return tuple(sorted({0, *(knot for schedule in schedules for knot in schedule.knots)}))

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name the settings: the same for equal curricula, on any machine.

        They are a BLAKE2b hash (Aumasson, Neves, Wilcox-O'Hearn and Winnerlein, 2013) of the plain form.
        """
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def at(self, step: int) -> Stage:
        """Return what is in force at a step.

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
            If `step` is no integer or out of range, or a schedule lies out of its range there.
        """
        values: dict[str, Any] = {}
        for name, schedule in self._quantities().items():
            values[name] = None if schedule is None else schedule(step)
        values["range_min"], values["range_max"] = window(values["range_min"], values["range_max"])
        probabilities = {name: values.pop(name) for name in SHARES}
        try:
            return Stage(**values, probabilities=probabilities, tiers=self.tiers)
        except InvalidValueError as error:
            raise InvalidValueError(f"at step {step}, {error}") from error

    def plot(self, steps: int | Iterable[int] | None = None) -> "Figure":
        """Draw every quantity over the steps; shares of tiers together.

        Parameters
        ----------
        steps : int or iterable of int, optional
            The last step, or the steps to draw. Default: a little beyond the last step at which anything changes.

        Returns
        -------
        matplotlib.figure.Figure
            It is not registered with pyplot: save it with ``savefig``, or show it in a notebook.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        InvalidTypeError, InvalidValueError
            If `steps` are no steps.
        """
        from negfast.curriculum_plot import draw

        return draw(self, steps)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON, with the version of this form under ``"format"``."""
        plain = {name: None if value is None else value.to_dict() for name, value in self._quantities().items()}
        return {"format": FORMAT, **plain, "tiers": self.tiers.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a curriculum from plain values, as :meth:`to_dict` returns them; what is left out has its default.

        Raises
        ------
        StateError
            If the values are of another version.
        InvalidTypeError, InvalidValueError
            If a field is unknown, has a wrong type or lies out of its range; the message names it.
        """
        if not isinstance(values, Mapping):
            raise InvalidTypeError(
                f"a curriculum must be a mapping, got {type(values).__name__} {shown(values)}; pass what to_dict "
                "returned"
            )
        version = values.get("format")
        if isinstance(version, bool) or version != FORMAT:
            raise StateError(
                f'"format" of a curriculum must be {FORMAT}, got {shown(version)}; add "format": {FORMAT} to a new '
                "one, and read others with the version of negfast that wrote them"
            )
        known = sorted(item.name for item in fields(cls))
        unknown = sorted(shown(name) for name in values if name not in (*known, "format"))
        if unknown:
            raise InvalidValueError(
                f"a curriculum must have fields among {known}, got {', '.join(unknown)}; correct their names"
            )
        given = {name: _from_plain(name, value) for name, value in values.items() if name != "format"}
        return cls(**given)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings: a function of the step has no other state."""
        return self.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a state is of this curriculum.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or another curriculum; the message names the first difference.
        """
        check_state(state, self.to_dict(), "this curriculum")

    def harder(self, amount: float = 0.5, *, temperature: float = 0.7) -> Self:
        """Return a curriculum of which that part of each tier has moved one tier up, at a lower temperature.

        Parameters
        ----------
        amount : float from 0 to 1, default 0.5
            What part of the easy negatives turn semi-hard, and of the semi-hard ones hard.
        temperature : float above 0, default 0.7
            What the temperature is multiplied with.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type or lies out of its range.
        """
        amount, temperature = _checked(amount, temperature)
        hard = self.hard + self.semi_hard * amount
        semi_hard = self.semi_hard * (1.0 - amount) + self.easy * amount
        easy = self.easy * (1.0 - amount)
        return replace(self, hard=hard, semi_hard=semi_hard, easy=easy, temperature=self.temperature * temperature)

    def easier(self, amount: float = 0.5, *, temperature: float = 1.4) -> Self:
        """Return a curriculum of which that part of each tier has moved one tier down, at a higher temperature.

        Parameters
        ----------
        amount : float from 0 to 1, default 0.5
            What part of the hard negatives turn semi-hard, of the semi-hard ones easy, and of the easy ones random.
        temperature : float above 0, default 1.4
            What the temperature is multiplied with.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type or lies out of its range.
        """
        amount, temperature = _checked(amount, temperature)
        hard = self.hard * (1.0 - amount)
        semi_hard = self.semi_hard * (1.0 - amount) + self.hard * amount
        easy = self.easy * (1.0 - amount) + self.semi_hard * amount
        return replace(self, hard=hard, semi_hard=semi_hard, easy=easy, temperature=self.temperature * temperature)

    def _quantities(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "tiers"}


def _from_plain(name: str, value: Any) -> Any:
    if name == "tiers":
        return Tiers.from_dict(value)
    return None if value is None and name in _OPTIONAL else from_dict(value)


def _checked(amount: object, temperature: object) -> tuple[float, float]:
    factor = number("temperature", temperature)
    if factor <= 0.0:
        raise InvalidValueError(f"temperature must be above 0, got {factor}; it is a factor, 1 leaves it as it is")
    return number("amount", amount, low=0.0, high=1.0), factor
