"""What is measured while training, as plain numbers."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import instance


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Measurements of one step, or means over several. ``None``: not measured, and not judged by anybody.

    Values out of the ranges below are taken. To :class:`AdaptiveCurriculum` they are as NaN is: an alarm.

    Parameters
    ----------
    loss : float, optional
    positive_distance : float, optional
        1 minus the mean cosine of anchors and their positives.
    negative_distance : float, optional
        1 minus the mean cosine of anchors and their negatives, weighted by their softmax shares.
    effective_negatives : float from 0 on, optional
        ``exp(H(p))``, with H the entropy of the softmax shares p among an anchor's negatives; the mean over anchors.
    positive_probability : float from 0 to 1, optional
        The mean softmax share of the positive.
    false_negative_share : float from 0 to 1, optional
        The share of the negatives that masks or :class:`AnchorQuantiles` call false.
    spread : float from -1 to 1, optional
        The mean cosine of pairs of different documents; near 1 all rows point the same way.
    drift : float, optional
        The mean distance that rows moved since the last refresh.
    hardness_quantiles : sequence of float, optional
        Of the hardness of negatives, at n evenly spaced levels: entry i is the quantile at ``(i + 1) / (n + 1)``, so
        that three are the quartiles.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field is no number, or the quantiles are none. NaN and infinity are taken: they are news.

    Examples
    --------
    >>> from negfast import Signals
    >>> Signals.mean([Signals(loss=1.0), Signals(loss=2.0, drift=0.25), Signals()])
    Signals(loss=1.5, drift=0.25)
    """

    loss: float | None = None
    positive_distance: float | None = None
    negative_distance: float | None = None
    effective_negatives: float | None = None
    positive_probability: float | None = None
    false_negative_share: float | None = None
    spread: float | None = None
    drift: float | None = None
    hardness_quantiles: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Bring every field to a plain float."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None:
                check = _quantiles if item.name == "hardness_quantiles" else _measured
                object.__setattr__(self, item.name, check(item.name, value))

    def __repr__(self) -> str:
        """Return what was measured."""
        given = (f"{name}={value!r}" for name, value in asdict(self).items() if value is not None)
        return f"Signals({', '.join(given)})"

    @classmethod
    def mean(cls, signals: "Iterable[Signals]") -> "Signals":
        """Return the means of several, such as the steps of an accumulation, each over those that measured it.

        Parameters
        ----------
        signals : iterable of Signals

        Returns
        -------
        Signals
            With a NaN wherever there was one.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If there is something else among them, or some have other numbers of quantiles.
        """
        given = list(signals)
        for entry in given:
            instance("signals", entry, Signals)
        means: dict[str, Any] = {}
        for item in fields(cls):
            values = [value for entry in given if (value := getattr(entry, item.name)) is not None]
            if values and item.name == "hardness_quantiles":
                means[item.name] = _mean_quantiles(values)
            elif values:
                means[item.name] = _mean(values)
        return cls(**means)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


def _mean(values: list[float]) -> float:
    # Divided first, so that large values do not overflow.
    return sum(value / len(values) for value in values)


def _mean_quantiles(values: list[tuple[float, ...]]) -> tuple[float, ...]:
    sizes = sorted({len(entry) for entry in values})
    if len(sizes) > 1:
        raise InvalidValueError(
            f"hardness_quantiles must be as many in all signals, got {sizes}; measure them at the same levels"
        )
    return tuple(_mean(list(column)) for column in zip(*values, strict=True))


def _measured(argument: str, value: Any) -> float:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain and not (isinstance(value, np.generic | np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"):
        raise InvalidTypeError(
            f"{argument} must be a number, got {type(value).__name__} {shown(value)}; pass a float, of a tensor its "
            ".item()"
        )
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _quantiles(argument: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, str | bytes) or not hasattr(value, "__len__") or not len(value):
        raise InvalidTypeError(
            f"{argument} must be a list of numbers, got {type(value).__name__} {shown(value)}; leave it out where "
            "nothing was measured"
        )
    return tuple(_measured(f"{argument}[{i}]", entry) for i, entry in enumerate(value))
