"""Measurements as the plain numbers that logs take."""

import math
from collections.abc import Mapping
from typing import Any

from negfast.errors import InvalidTypeError
from negfast.signals import Signals
from negfast.torch.bank_values import BankStaleness
from negfast.torch.draw import Draw
from negfast.torch.loss_statistics import LossStatistics

_TIERS = ("hard", "semi_hard", "easy", "random")


def plain_numbers(value: Any) -> dict[str, float]:
    """Return what was measured as finite numbers by name.

    Parameters
    ----------
    value : LossStatistics, Signals, BankStaleness, Draw, mapping of str to number, or None
        Of a draw, what each tier fell short of, a slot and anchor on average. ``None``: nothing was measured.

    Returns
    -------
    dict of str to float

    Raises
    ------
    InvalidTypeError
        If it is something else.

    Examples
    --------
    >>> from negfast.torch import BankStaleness
    >>> from negfast.torch.told import plain_numbers
    >>> plain_numbers(BankStaleness(3, 2.0, (1.0, 1.0, 2.0, 3.0, 3.0, 3.0)))
    {'n_rows': 3.0, 'mean_age': 2.0, 'oldest': 3.0}
    """
    numbers = {name: float(number) for name, number in _numbers(value).items() if number is not None}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def _numbers(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, LossStatistics):
        value = value.signals()
    if isinstance(value, Signals):
        return {name: part for name, part in value.to_dict().items() if not isinstance(part, tuple)}
    if isinstance(value, BankStaleness):
        return {"n_rows": value.n_rows, "mean_age": value.mean, "oldest": value.quantiles[-1]}
    if isinstance(value, Draw):
        lacking = dict(zip(_TIERS, value.shortfall.mean(axis=0).tolist() if len(value) else [0.0] * 4, strict=True))
        return {f"shortfall_{tier}": lack for tier, lack in lacking.items()}
    if isinstance(value, Mapping):
        return value
    raise InvalidTypeError(
        f"statistics must be LossStatistics, Signals, a BankStaleness, a Draw or a mapping of numbers, got "
        f"{type(value).__name__}; return one of them, or None"
    )


class Told:
    """What is measured for a log: functions by name.

    Parameters
    ----------
    measures : mapping of str to callable
        Each returns what :func:`plain_numbers` takes, or ``None`` where there is nothing yet.
    """

    def __init__(self, measures: Any) -> None:
        if not isinstance(measures, Mapping) or not all(map(callable, measures.values())):
            raise InvalidTypeError(
                f"measures must be a mapping of names to functions without arguments, got {type(measures).__name__}; "
                'pass {"bank": bank.staleness} for example'
            )
        self._measures = dict(measures)

    def __call__(self) -> dict[str, float]:
        """Measure, and return all as ``negfast/NAME/WHAT``."""
        return {
            f"negfast/{name}/{what}": number
            for name, measure in self._measures.items()
            for what, number in plain_numbers(measure()).items()
        }
