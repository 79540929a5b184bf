"""Settings of a loss, and what of them holds at a step."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import Metric, number, one_of, optional_number, truth

Direction = Literal["query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"]
PartitionMode = Literal["joint", "per_direction"]
HardnessMode = Literal["all_negatives", "in_batch_negatives", "hard_negatives"]
DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
MOST_SCALE = 100.0
"""The largest inverse of a temperature that is learned, of CLIP."""
_SAME_SIDE = ("query_to_query", "doc_to_doc")


class Stand(NamedTuple):
    """What holds at a step."""

    temperature: float | torch.Tensor
    relative_margin: float | None
    hardness_strength: float


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The settings of :class:`CurriculumLoss`, checked; see there."""

    temperature: float
    learnable_temperature: bool
    metric: Metric
    in_batch: bool
    directions: tuple[str, ...]
    partition_mode: PartitionMode
    absolute_margin: float | None
    relative_margin: float | None
    max_score: float | None
    hardness_mode: HardnessMode
    hardness_strength: float
    hard_weighted: float
    debiased: float
    decoupled: bool
    angular_margin: float
    soft_positives: float
    gather_across_devices: bool
    check_finite: bool | None

    def __post_init__(self) -> None:
        """Check every field, and which of them go together."""
        put = object.__setattr__
        put(self, "temperature", _above_zero("temperature", self.temperature))
        for name in ("learnable_temperature", "in_batch", "decoupled", "gather_across_devices"):
            put(self, name, truth(name, getattr(self, name)))
        one_of("metric", self.metric, ("cosine", "dot"))
        put(self, "directions", _checked_directions(self.directions))
        one_of("partition_mode", self.partition_mode, ("joint", "per_direction"))
        for name in ("absolute_margin", "relative_margin"):
            put(self, name, optional_number(name, getattr(self, name), low=0.0))
        put(self, "max_score", optional_number("max_score", self.max_score))
        one_of("hardness_mode", self.hardness_mode, ("all_negatives", "in_batch_negatives", "hard_negatives"))
        for name in ("hardness_strength", "hard_weighted", "debiased", "angular_margin", "soft_positives"):
            put(self, name, number(name, getattr(self, name), low=0.0))
        if self.check_finite is not None:
            put(self, "check_finite", truth("check_finite", self.check_finite))
        if self.debiased >= 1.0:
            raise InvalidValueError(f"debiased must be below 1, got {self.debiased}; it is a share of the negatives")
        if self.angular_margin >= 180.0:
            raise InvalidValueError(
                f"angular_margin must be below 180 degrees, got {self.angular_margin}; 10 is what was published"
            )
        self._check_together()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {**asdict(self), "directions": list(self.directions)}

    def _check_together(self) -> None:
        if self.learnable_temperature and self.temperature < 1.0 / MOST_SCALE:
            raise InvalidValueError(
                f"temperature must be at least {1.0 / MOST_SCALE} with learnable_temperature, got {self.temperature}; "
                "start from 0.07 as CLIP does"
            )
        sides = [name for name in _SAME_SIDE if name in self.directions]
        if self.partition_mode == "per_direction" and sides:
            raise InvalidValueError(
                f'partition_mode must be "joint" with the direction {sides[0]!r}, got "per_direction"; its candidates '
                "never include the positive, so that a loss of its own would fall below 0"
            )
        if not self.in_batch and len(self.directions) > 1:
            raise InvalidValueError(
                f"directions must be ('query_to_doc',) with in_batch=False, got {self.directions}; the others are "
                "between rows of the batch"
            )
        if not self.in_batch and self.gather_across_devices:
            raise InvalidValueError(
                "gather_across_devices must be False with in_batch=False, got True; what other devices hold would not "
                "be used"
            )
        for name in ("debiased", "angular_margin"):
            if self.metric == "dot" and getattr(self, name):
                raise InvalidValueError(
                    f'{name} must be 0 with metric="dot", got {getattr(self, name)}; it is defined for cosines'
                )
        if self.soft_positives and self.debiased:
            raise InvalidValueError(
                f"debiased must be 0 with soft_positives, got {self.debiased}; one expects false negatives among what "
                "the other took out"
            )


def check_soft_positives(settings: LossSettings, curriculum: bool) -> None:
    """Refuse soft positives where no bound could ever find one."""
    bounds = (settings.absolute_margin, settings.relative_margin, settings.max_score)
    if settings.soft_positives and not curriculum and all(bound is None for bound in bounds):
        raise InvalidValueError(
            "soft_positives needs relative_margin, absolute_margin or max_score, which say what is a false negative, "
            "got none of them; set one"
        )


def check_bounds(settings: LossSettings, stand: Stand, name: str) -> None:
    """Refuse scores of others where no bound would ever compare them."""
    bounds = (settings.absolute_margin, stand.relative_margin, settings.max_score)
    if all(bound is None for bound in bounds):
        raise InvalidValueError(
            f"{name} needs relative_margin, absolute_margin or max_score, which say what is a false negative, got none "
            "of them; a relative_margin of 0.0 is GISTEmbed's"
        )


def stand_of(stage: Any) -> Stand:
    """Return what a stage of a curriculum says, checked."""
    try:
        values = stage.temperature, stage.relative_margin, stage.hardness_strength
    except AttributeError as error:
        raise InvalidTypeError(
            "curriculum.at(step) must return an object with temperature, relative_margin and hardness_strength, got "
            f"{shown(stage)}; pass a negfast.Curriculum"
        ) from error
    return Stand(
        _above_zero("temperature of the stage", values[0]),
        optional_number("relative_margin of the stage", values[1], low=0.0),
        number("hardness_strength of the stage", values[2], low=0.0),
    )


def _above_zero(name: str, value: object) -> float:
    result = number(name, value)
    if result <= 0.0 or math.isinf(1.0 / result):
        raise InvalidValueError(f"{name} must be above 0, got {result}; 0.05 is a common one")
    return result


def _checked_directions(directions: Any) -> tuple[str, ...]:
    if isinstance(directions, str) or not isinstance(directions, tuple | list):
        raise InvalidTypeError(
            f"directions must be a tuple of names, got {shown(directions)}; pass ('query_to_doc',) for the usual one"
        )
    unknown = [name for name in directions if name not in DIRECTIONS]
    if unknown or len(set(directions)) != len(directions):
        raise InvalidValueError(
            f"directions must be distinct names among {DIRECTIONS}, got {shown(tuple(directions))}; correct them"
        )
    if "query_to_doc" not in directions:
        raise InvalidValueError(
            f"directions must include 'query_to_doc', which has the positives, got {tuple(directions)}; add it"
        )
    return tuple(name for name in DIRECTIONS if name in directions)
