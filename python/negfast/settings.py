"""Settings: frozen values that say what may be a negative and how it is chosen."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from negfast.errors import InvalidTypeError, InvalidValueError, shown

Metric = Literal["cosine", "dot"]
DrawName = Literal["top", "random"]
Method = Literal["auto", "exact", "certified", "signatures", "clusters"]
UsedMethod = Literal["exact", "certified", "signatures", "clusters", "given", "refresh"]
METHODS: tuple[Method, ...] = ("auto", "exact", "certified", "signatures", "clusters")
"""The methods of :class:`Search`."""


class _Settings:
    """Conversion to and from plain dicts, shared by all settings."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of plain values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the settings from a dict of plain values, as :meth:`to_dict` returns it.

        Raises
        ------
        InvalidTypeError
            If `values` is no mapping.
        InvalidValueError
            If a key is no field of these settings, or one without a default is missing.
        """
        if not isinstance(values, Mapping):
            raise InvalidTypeError(
                f"{cls.__name__}.from_dict must be given a mapping, got {type(values).__name__} {shown(values)}; "
                "pass what to_dict returned"
            )
        known = {field.name: field.default for field in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(shown(key) for key in values if key not in known)
        if unknown:
            raise InvalidValueError(
                f"{cls.__name__} must have fields among {sorted(known)}, got {', '.join(unknown)}; correct their names"
            )
        missing = sorted(name for name, default in known.items() if default is MISSING and name not in values)
        if missing:
            raise InvalidValueError(f"{cls.__name__} must have fields {missing}, got none of them; add them")
        return cls(**values)

    def _set(self, name: str, value: object) -> None:
        """Replace a field by its checked, plain value: numpy's numbers are not fit for JSON."""
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class Rules(_Settings):
    """Guard rails: which rows of the corpus may be negatives. ``None`` turns a rule off.

    Known positives, the anchor itself (see `exclude_self`) and rows that share a key or group with the anchor or
    with one of its positives are never negatives, whatever the settings.

    Parameters
    ----------
    relative_margin : float or None, default 0.05
        Drop a row that scores more than ``p - abs(p) * relative_margin``, with ``p`` the lowest score of the
        anchor's positives. 0.05 is the positive-aware 95 % rule.
    absolute_margin : float or None
        Drop a row that scores more than ``p - absolute_margin``.
    max_score, min_score : float or None
        Drop a row that scores more, or less.
    range_min : int, default 0
        Skip this many of the best allowed rows.
    range_max : int or None
        Go no deeper than this rank among the allowed rows. ``None``: as deep as needed for ``draw="top"``, else
        ``range_min + 10 * num_negatives``.
    duplicate_of_positive : float or None
        Drop a row whose cosine with one of the anchor's positives is above this bound.
    distinct : float or None
        Drop a row whose cosine with a better negative of the same anchor is above this bound.
    max_exposure : int or None
        Let no row serve more anchors than this.
    exclude_self : bool or None
        Anchor ``i`` never gets row ``i``. ``None``: true if `queries` is `corpus`.
    transitive : bool, default False
        Also drop the positives of anchors that share a positive with the anchor.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field has a wrong type or lies out of its range.

    Notes
    -----
    The relative margin follows G. Moreira et al., *NV-Retriever: Improving text embedding models with effective
    hard-negative mining* (2024), with the sign taken care of.

    Both cosine bounds are between corpus rows and do not depend on the metric of the search.

    Examples
    --------
    >>> from negfast import Rules
    >>> Rules(relative_margin=0.1).range_min
    0
    """

    relative_margin: float | None = 0.05
    absolute_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    range_min: int = 0
    range_max: int | None = None
    duplicate_of_positive: float | None = None
    distinct: float | None = None
    max_exposure: int | None = None
    exclude_self: bool | None = None
    transitive: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("relative_margin", "absolute_margin"):
            self._set(name, optional_number(f"rules.{name}", getattr(self, name), low=0.0))
        for name in ("max_score", "min_score"):
            self._set(name, optional_number(f"rules.{name}", getattr(self, name)))
        for name in ("duplicate_of_positive", "distinct"):
            self._set(name, optional_number(f"rules.{name}", getattr(self, name), low=-1.0, high=1.0))
        # Leaves room for the window that is opened from here.
        self._set("range_min", whole("rules.range_min", self.range_min, low=0, high=2**62))
        for name in ("range_max", "max_exposure"):
            self._set(name, optional_whole(f"rules.{name}", getattr(self, name), low=1))
        if self.range_max is not None and self.range_max <= self.range_min:
            raise InvalidValueError(
                f"rules.range_max must be above range_min = {self.range_min}, got {self.range_max}; "
                "widen the window or leave range_max out"
            )
        if self.exclude_self is not None:
            self._set("exclude_self", truth("rules.exclude_self", self.exclude_self))
        self._set("transitive", truth("rules.transitive", self.transitive))


@dataclass(frozen=True)
class Tiers(_Settings):
    """Edges on hardness, the score of a negative minus the lowest score of its anchor's positives.

    Parameters
    ----------
    hard : float, default -0.05
        From here on a negative is hard (tier 3).
    semi_hard : float, default -0.15
        From here on it is semi-hard (tier 2), below easy (tier 1).

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an edge is not a finite number, or they are out of order.

    Notes
    -----
    ``Tiers(0.0, -0.1)`` are the edges of F. Schroff et al., *FaceNet* (2015), for rows of norm 1; their margin of
    0.2 is in squared distance.
    """

    hard: float = -0.05
    semi_hard: float = -0.15

    def __post_init__(self) -> None:
        """Check both edges."""
        self._set("hard", number("tiers.hard", self.hard))
        self._set("semi_hard", number("tiers.semi_hard", self.semi_hard))
        if self.semi_hard > self.hard:
            raise InvalidValueError(
                f"tiers.semi_hard must be at most tiers.hard = {self.hard}, got {self.semi_hard}; swap the two"
            )


@dataclass(frozen=True)
class Search(_Settings):
    """How to search.

    Parameters
    ----------
    recall : float, default 1.0
        The least recall that is asked for, above 0 and at most 1; 1 is exact, by proof. Less is measured: the lower end
        of its 95 % interval reaches what is asked, on anchors that nothing was fitted on. Recall is the share of the
        true best rows for which a row was returned that scores as much as the last of them.
    method : {"auto", "exact", "certified", "signatures", "clusters"}, default "auto"
        ``"auto"`` lets negfast choose from sizes and a sample of the rows. ``"exact"`` multiplies every pair in
        float32; its memory does not grow with the corpus. ``"certified"`` sorts out with short codes what provably does
        not matter: the same result, to the bit. ``"clusters"`` also leaves out parts of the corpus, and trusts
        estimates as far as `recall` allows. ``"signatures"`` estimates all scores from one bit an element, and trusts
        that as far.
    max_memory : int or None
        Bound on the bytes of the working buffers of all threads, codes of the corpus included, beyond inputs and
        results. Work that cannot do with so much is refused before it starts.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field has a wrong type or lies out of its range, or a recall of 1 is asked of a method that does not
        prove its result.
    """

    recall: float = 1.0
    method: Method = "auto"
    max_memory: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        self._set("recall", number("search.recall", self.recall))
        if not 0.0 < self.recall <= 1.0:
            raise InvalidValueError(
                f"search.recall must be above 0 and at most 1, got {self.recall}; 1.0 is an exact search"
            )
        self._set("method", one_of("search.method", self.method, METHODS))
        if self.recall == 1.0 and self.method in ("signatures", "clusters"):
            raise InvalidValueError(
                f'search.recall must be below 1 with method="{self.method}", got 1.0; ask for 0.99 or so, or use '
                'method="certified" or "auto"'
            )
        self._set("max_memory", optional_whole("search.max_memory", self.max_memory, low=1))


def search_to_core(search: Search) -> tuple[float, str, int | None]:
    """Return the search as the compiled module takes it."""
    return (search.recall, search.method, search.max_memory)


@dataclass(frozen=True)
class Softmax(_Settings):
    """Draw with weights ``exp(score / temperature)``.

    Parameters
    ----------
    temperature : float
        Above 0; the smaller, the closer to ``draw="top"``.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If the temperature is not a finite number above 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        """Check the temperature."""
        self._set("temperature", number("draw.temperature", self.temperature))
        if self.temperature <= 0.0:
            raise InvalidValueError(
                f'draw.temperature must be above 0, got {self.temperature}; use draw="top" for the limit'
            )


@dataclass(frozen=True)
class SimANS(_Settings):
    """Draw with weights ``exp(-a * (score - p - b)**2)`` around the lowest positive score ``p`` of the anchor.

    Where an anchor has no positive the draw is uniform.

    Parameters
    ----------
    a : float
        How sharply the weights fall off; 0 is uniform. The published values are for dot products in the tens:
        for cosines, multiply them by the square of the ratio of the scales.
    b : float, default 0.0
        Where the weights peak, relative to ``p``.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a parameter is not a finite number, or `a` is negative.

    Notes
    -----
    K. Zhou et al., *SimANS: Simple Ambiguous Negatives Sampling for Dense Text Retrieval* (2022).
    """

    a: float
    b: float = 0.0

    def __post_init__(self) -> None:
        """Check both parameters."""
        self._set("a", number("draw.a", self.a, low=0.0))
        self._set("b", number("draw.b", self.b))


Draw = DrawName | Softmax | SimANS


def draw_to_core(draw: object) -> tuple[str, float, float]:
    """Return the draw as the compiled module takes it."""
    if isinstance(draw, Softmax):
        return ("softmax", draw.temperature, 0.0)
    if isinstance(draw, SimANS):
        return ("simans", draw.a, draw.b)
    if isinstance(draw, str) and draw in ("top", "random"):
        return (str(draw), 0.0, 0.0)
    kind = InvalidValueError if isinstance(draw, str) else InvalidTypeError
    raise kind(f"draw must be 'top', 'random', Softmax(...) or SimANS(...), got {shown(draw)}; choose one")


def draw_to_dict(draw: Draw) -> dict[str, Any]:
    """Return the draw as a dict of plain values, with its kind under ``"name"``."""
    if isinstance(draw, str):
        return {"name": str(draw)}
    return {"name": type(draw).__name__.lower(), **draw.to_dict()}


def draw_from_dict(values: object) -> Draw:
    """Return the draw that :func:`draw_to_dict` made plain; a name alone will do for those without parameters."""
    if isinstance(values, str):
        values = {"name": values}
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise InvalidTypeError(
            f'draw must be a name or a mapping with an entry "name", got {shown(values)}; see Recipe.to_dict'
        )
    parameters = {name: value for name, value in values.items() if name != "name"}
    name = values["name"]
    if name in ("top", "random") and not parameters:
        return name  # type: ignore[no-any-return]
    for kind in (Softmax, SimANS):
        if name == kind.__name__.lower():
            return kind.from_dict(parameters)
    raise InvalidValueError(
        f'draw must be "top", "random", "softmax" with its temperature or "simans" with its a and b, got '
        f"{shown(dict(values))}; correct it"
    )


def number(argument: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Check that `value` is a finite real number within bounds, and return it as a float."""
    if isinstance(value, bool) or not (isinstance(value, int | float) or _is_numpy_number(value)):
        raise InvalidTypeError(f"{argument} must be a number, got {type(value).__name__} {shown(value)}; pass a float")
    try:
        result = float(value)  # type: ignore[arg-type]
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise InvalidValueError(f"{argument} must be finite, got {shown(value)}; leave it out to turn it off")
    if not low <= result <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise InvalidValueError(f"{argument} must be {bounds}, got {result}; correct the value")
    return result + 0.0  # -0.0 and 0.0 are one setting


def optional_number(argument: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float | None:
    """Check that `value` is ``None`` or a finite real number within bounds, and return it."""
    return None if value is None else number(argument, value, low=low, high=high)


def whole(argument: str, value: object, *, low: int, high: int = 2**63 - 1) -> int:
    """Check that `value` is a whole number within bounds, and return it as an int."""
    try:
        if isinstance(value, bool):
            raise TypeError
        result = int(value.__index__())  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise InvalidTypeError(
            f"{argument} must be an integer, got {type(value).__name__} {shown(value)}; pass an int"
        ) from None
    if not low <= result <= high:
        bounds = f"at least {low}" if result < low else f"at most {high}"
        raise InvalidValueError(f"{argument} must be {bounds}, got {shown(result)}; correct the value")
    return result


def optional_whole(argument: str, value: object, *, low: int) -> int | None:
    """Check that `value` is ``None`` or a whole number within bounds, and return it."""
    return None if value is None else whole(argument, value, low=low)


def truth(argument: str, value: object) -> bool:
    """Check that `value` is a bool, and return it as Python's own."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidTypeError(
            f"{argument} must be True or False, got {type(value).__name__} {shown(value)}; pass a bool"
        )
    return bool(value)


def one_of(argument: str, value: object, allowed: tuple[str, ...]) -> str:
    """Check that `value` is one of the allowed strings, and return it."""
    if isinstance(value, str) and value in allowed:
        return str(value)
    names = " or ".join(repr(name) for name in allowed)
    kind = InvalidValueError if isinstance(value, str) else InvalidTypeError
    raise kind(f"{argument} must be {names}, got {shown(value)}; choose one")


def instance(argument: str, value: object, kind: type) -> None:
    """Check that `value` is an instance of one of the settings classes."""
    if not isinstance(value, kind):
        raise InvalidTypeError(
            f"{argument} must be a negfast.{kind.__name__}, got {type(value).__name__}; "
            f"pass negfast.{kind.__name__}(...)"
        )


def _is_numpy_number(value: object) -> bool:
    # numpy's float32 is no Python float; arrays without an axis will do as well.
    if not isinstance(value, np.generic | np.ndarray) or isinstance(value, np.ma.MaskedArray):
        return False
    return value.ndim == 0 and value.dtype.kind in "iuf"
