"""What a miner is asked to choose, checked."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from pytorch_metric_learning.distances import CosineSimilarity, DotProductSimilarity, LpDistance

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import Metric, Rules, instance, number, one_of, whole

TripletType = Literal["any", "all", "hard", "semihard", "easy"]
Used = Literal["all", "hardest", "easiest"]
Form = Literal["triplets", "pairs"]

_MOST_POWER = 64
_OVER_LISTS = ("range_min", "range_max", "distinct", "max_exposure", "exclude_self", "transitive")


@dataclass(frozen=True)
class Choice:
    """Which tuples are wanted.

    Attributes
    ----------
    margin : float
    type_of_triplets, positives, tuples : str
    num_negatives : int or None
    rules : Rules
    """

    margin: float
    type_of_triplets: str
    positives: str
    tuples: str
    num_negatives: int | None
    rules: Rules

    @property
    def band(self) -> tuple[float | None, float | None]:
        """Margins of the triplets that are chosen: above the first, up to the second."""
        return {
            "any": (None, None),
            "all": (None, self.margin),
            "hard": (None, min(self.margin, 0.0)),
            "semihard": (0.0, self.margin),
            "easy": (self.margin, None),
        }[self.type_of_triplets]

    @property
    def score_rules(self) -> tuple[float | None, ...]:
        """The rules on what two rows score, in the order of the compiled module."""
        rules = self.rules
        return (
            rules.relative_margin,
            rules.absolute_margin,
            rules.max_score,
            rules.min_score,
            rules.duplicate_of_positive,
        )


def checked_choice(
    margin: object, type_of_triplets: object, positives: object, tuples: object, num_negatives: object, rules: object
) -> Choice:
    """Return what is wanted.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or value, or a rule is set that looks at whole lists.
    """
    instance("rules", rules, Rules)
    chosen = Choice(
        margin=checked_margin(margin),
        type_of_triplets=one_of("type_of_triplets", type_of_triplets, ("any", "all", "hard", "semihard", "easy")),
        positives=one_of("positives", positives, ("all", "hardest", "easiest")),
        tuples=one_of("tuples", tuples, ("triplets", "pairs")),
        num_negatives=checked_number(num_negatives),
        rules=rules,  # type: ignore[arg-type]
    )
    defaults = {field.name: field.default for field in fields(Rules)}
    for name in _OVER_LISTS:
        if getattr(chosen.rules, name) != defaults[name]:
            raise InvalidValueError(
                f"rules.{name} must be {defaults[name]} for a miner of batches, got {getattr(chosen.rules, name)}; it "
                "is for lists of a whole corpus, leave it out"
            )
    return chosen


def checked_margin(value: object) -> float:
    """Return a margin; infinity is one."""
    if isinstance(value, float) and math.isinf(value):
        return float(value)
    if isinstance(value, float) and math.isnan(value):
        raise InvalidValueError("margin must be a number, got nan; 0.2 is a common one")
    return number("margin", value)


def checked_number(value: object) -> int | None:
    """Return the most negatives that are wanted, ``None`` for all."""
    return None if value is None else whole("num_negatives", value, low=1, high=2**31 - 1)


def checked_distance(value: Any) -> Any:
    """Return a distance, or ``None`` for that of their miners."""
    if value is not None and not (isinstance(value, torch.nn.Module) and hasattr(value, "is_inverted")):
        raise InvalidTypeError(
            f"distance must be a distance of pytorch_metric_learning, got {type(value).__name__} {shown(value)}; pass "
            "one, as CosineSimilarity()"
        )
    return value


def compiled_measure(distance: Any) -> tuple[Metric, float | None] | None:
    """Return the metric of the compiled module that a distance is a function of, and the power that it raises to.

    The power is ``None`` for similarities. ``None`` alone: it is another distance.
    """
    kind = type(distance)
    if kind in (CosineSimilarity, DotProductSimilarity) and distance.power == 1:
        if not distance.normalize_embeddings:
            return "dot", None
        return ("cosine", None) if distance.p == 2 else None
    if kind is LpDistance and distance.p == 2 and distance.normalize_embeddings and 0 < distance.power <= _MOST_POWER:
        return "cosine", float(distance.power)
    return None
