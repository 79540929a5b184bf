"""Recipes: all settings of a mining run as one value that can be kept, compared and read aloud."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, Self

from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.files.writers import replacing
from negfast.settings import (
    Draw,
    Metric,
    Rules,
    Search,
    SimANS,
    Softmax,
    Tiers,
    draw_from_dict,
    draw_to_core,
    draw_to_dict,
    instance,
    one_of,
    whole,
)

FORMAT = 1
"""Version of the plain form of a recipe."""
MOST_PER_ROW = 2**31 - 1
"""Most rows that may be asked for per query."""
_NESTED = {"rules": Rules, "tiers": Tiers, "search": Search}
_JOB = "job"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a call of :func:`negfast.mine` but its data.

    Parameters
    ----------
    num_negatives : int, default 8
    metric : {"cosine", "dot"}, default "cosine"
    rules : Rules
    tiers : Tiers
    draw : {"top", "random"}, Softmax or SimANS, default "top"
    search : Search
    suspect_rank : int, default 1000
    seed, epoch : int, default 0
        All as in :func:`negfast.mine`.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field has a wrong type or lies out of its range.

    Examples
    --------
    >>> import negfast
    >>> recipe = negfast.Recipe(num_negatives=4, draw=negfast.Softmax(0.05), seed=7)
    >>> negfast.Recipe.from_dict(recipe.to_dict()) == recipe
    True
    >>> print(negfast.Recipe(num_negatives=4).describe())
    For each anchor, up to 4 negatives are taken from the corpus; rows are compared by cosine, in an exact search.
    Never taken: the anchor's positives, the anchor itself where queries and corpus are one, rows that share a key or
    group with the anchor or one of its positives, and rows that the caller excludes or forbids.
    Dropped: rows that score above p - 5% of |p|.
    Of the rows that are left the best are taken.
    A negative is hard if it scores at least p - 0.05, semi-hard if at least p - 0.15, and easy below.
    Here p is the lowest score of the anchor's positives.
    Pairs whose positive ranks below 1,000 in the corpus are reported as suspect.
    """

    num_negatives: int = 8
    metric: Metric = "cosine"
    rules: Rules = Rules()  # noqa: RUF009 - frozen
    tiers: Tiers = Tiers()  # noqa: RUF009 - frozen
    draw: Draw = "top"
    search: Search = Search()  # noqa: RUF009 - frozen
    suspect_rank: int = 1000
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, kind in _NESTED.items():
            instance(name, getattr(self, name), kind)
        draw_to_core(self.draw)
        checked = {
            "num_negatives": whole("num_negatives", self.num_negatives, low=1, high=MOST_PER_ROW),
            "metric": one_of("metric", self.metric, ("cosine", "dot")),
            "suspect_rank": whole("suspect_rank", self.suspect_rank, low=1),
            "seed": whole("seed", self.seed, low=0, high=2**64 - 1),
            "epoch": whole("epoch", self.epoch, low=0, high=2**64 - 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        window = self.window
        if window is not None and window < self.num_negatives:
            raise InvalidValueError(
                f"num_negatives must be at most range_max - range_min = {window}, got {self.num_negatives}; "
                "widen the window or ask for fewer"
            )

    @property
    def window(self) -> int | None:
        """Number of allowed rows that the draw chooses among, ``None`` for as many as there are."""
        rules = self.rules
        if rules.range_max is not None:
            return rules.range_max - rules.range_min
        return None if self.draw == "top" else 10 * self.num_negatives

    @property
    def last_rank(self) -> int | None:
        """Last rank among the allowed rows that the draw chooses from, ``None`` for as many as there are."""
        return None if self.window is None else self.rules.range_min + self.window

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name the settings: the same for equal recipes, on any machine.

        They are a BLAKE2b hash (Aumasson, Neves, Wilcox-O'Hearn and Winnerlein, 2013) of the plain form.
        """
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of :func:`negfast.mine`.

        Examples
        --------
        >>> import numpy as np, negfast
        >>> rows = np.eye(4, 8, dtype=np.float32)
        >>> mined = negfast.mine(rows, rows, np.arange(4), **negfast.Recipe(num_negatives=2).arguments())
        >>> again = negfast.mine(rows, rows, np.arange(4), **mined.recipe.arguments())
        >>> bool((mined.indices == again.indices).all())
        True
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, fit for JSON, with the version of this form under ``"format"``."""
        plain = {name: value.to_dict() if name in _NESTED else value for name, value in self.arguments().items()}
        return {"format": FORMAT, **plain, "draw": draw_to_dict(self.draw)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a recipe from plain values, as :meth:`to_dict` returns them; fields left out have their defaults.

        Raises
        ------
        StateError
            If the values are of another version.
        InvalidTypeError, InvalidValueError
            If a field is unknown, has a wrong type or lies out of its range; the message names it.
        """
        if not isinstance(values, Mapping):
            raise InvalidTypeError(
                f"a recipe must be a mapping, got {type(values).__name__} {shown(values)}; pass what to_dict returned"
            )
        version = values.get("format")
        if isinstance(version, bool) or version != FORMAT:
            raise StateError(
                f'"format" of a recipe must be {FORMAT}, got {shown(version)}; add "format": {FORMAT} to a new one, '
                "and read others with the version of negfast that wrote them"
            )
        known = sorted(field.name for field in fields(cls))
        unknown = sorted(shown(name) for name in values if name not in (*known, "format"))
        if unknown:
            raise InvalidValueError(
                f"a recipe must have fields among {known}, got {', '.join(unknown)}; correct their names"
            )
        given = {name: value for name, value in values.items() if name != "format"}
        for name, kind in _NESTED.items():
            if name in given:
                given[name] = kind.from_dict(given[name])  # type: ignore[attr-defined]
        if "draw" in given:
            given["draw"] = draw_from_dict(given["draw"])
        return cls(**given)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe as JSON, through a temporary name in the same folder.

        Parameters
        ----------
        path : str or path-like
            The file; it is replaced if it exists.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a recipe that :meth:`save` or ``negfast mine`` wrote.

        Parameters
        ----------
        path : str or path-like
            The file. What ``negfast mine`` adds, the files and columns of its job, is not looked at.

        Returns
        -------
        Recipe

        Raises
        ------
        StateError
            If the file is no JSON object, or of another version.
        InvalidTypeError, InvalidValueError
            If a field is unknown, has a wrong type or lies out of its range.
        OSError
            If it cannot be read.
        """
        recipe, _ = cls.load_with_job(path)
        return recipe

    @classmethod
    def load_with_job(cls, path: str | os.PathLike[str]) -> tuple[Self, Any]:
        """Read a recipe, and what the file holds under ``"job"``, ``None`` if nothing."""
        name = os.fsdecode(path)
        with open(path, encoding="utf-8") as file:
            try:
                values = json.load(file)
            except (ValueError, RecursionError) as error:
                raise StateError(f"{name} must be a recipe in JSON, got {error}; write it again") from error
        if not isinstance(values, dict):
            raise StateError(f"{name} must hold a JSON object, got {type(values).__name__}; write it again")
        job = values.pop(_JOB, None)
        try:
            return cls.from_dict(values), job
        except (InvalidTypeError, InvalidValueError, StateError) as error:
            raise type(error)(f"{name}: {error}") from error

    def describe(self) -> str:
        """Return the rules of sampling in plain sentences, one a line or more."""
        return "\n".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        search = (
            "an exact search" if self.search.recall == 1.0 else f"a search of recall {self.search.recall:g} or more"
        )
        yield (
            f"For each anchor, up to {_count(self.num_negatives, 'negative')} "
            f"{'is' if self.num_negatives == 1 else 'are'} taken from the corpus; rows are compared by "
            f"{'cosine' if self.metric == 'cosine' else 'dot product'}, in {search}."
        )
        yield f"Never taken: {self._identity()}."
        dropped = list(self._dropped())
        if dropped:
            yield f"Dropped: rows that {_listed(dropped, 'or')}."
        yield f"Of the rows that are left {self._choice()}."
        if self.rules.max_exposure is not None:
            yield (
                f"No row serves more than {_count(self.rules.max_exposure, 'anchor')}: where more want it, it goes to "
                "those it scores highest with."
            )
        yield (
            f"A negative is hard if it scores at least {_relative('p', self.tiers.hard)}, semi-hard if at least "
            f"{_relative('p', self.tiers.semi_hard)}, and easy below."
        )
        yield "Here p is the lowest score of the anchor's positives."
        yield f"Pairs whose positive ranks below {self.suspect_rank:,} in the corpus are reported as suspect."

    def _identity(self) -> str:
        rules = self.rules
        never = ["the anchor's positives"]
        if rules.transitive:
            never.append("the positives of anchors that share a positive with it")
        if rules.exclude_self is None:
            never.append("the anchor itself where queries and corpus are one")
        elif rules.exclude_self:
            never.append("the anchor itself")
        never.append("rows that share a key or group with the anchor or one of its positives")
        never.append("and rows that the caller excludes or forbids")
        return ", ".join(never)

    def _dropped(self) -> Iterator[str]:
        rules = self.rules
        if rules.relative_margin is not None:
            yield f"score above p - {100 * rules.relative_margin:g}% of |p|"
        if rules.absolute_margin is not None:
            yield f"score above p - {rules.absolute_margin:g}"
        if rules.max_score is not None:
            yield f"score above {rules.max_score:g}"
        if rules.min_score is not None:
            yield f"score below {rules.min_score:g}"
        if rules.duplicate_of_positive is not None:
            yield f"have a cosine above {rules.duplicate_of_positive:g} with a positive"
        if rules.distinct is not None:
            yield f"have a cosine above {rules.distinct:g} with a better negative of the anchor"

    def _choice(self) -> str:
        skipped, window = self.rules.range_min, self.window
        skip = f"the best {skipped:,} are skipped, and " if skipped else ""
        if self.draw == "top":
            last = f", down to rank {self.rules.range_max:,}" if self.rules.range_max is not None else ""
            return f"{skip}the best{' of the rest' if skipped else ''} are taken{last}"
        how = {
            "random": "evenly",
            "softmax": "with weights exp(score / {temperature:g})",
            "simans": "with weights exp(-{a:g} * (score - {peak})**2)",
        }[draw_to_core(self.draw)[0]]
        if isinstance(self.draw, Softmax):
            how = how.format(temperature=self.draw.temperature)
        if isinstance(self.draw, SimANS):
            peak = f"({_relative('p', self.draw.b)})" if self.draw.b else "p"
            how = how.format(a=self.draw.a, peak=peak)
        return (
            f"{skip}the {'next' if skipped else 'best'} {window:,} are candidates; negatives are drawn from them "
            f"{how}, by seed {self.seed} and epoch {self.epoch}"
        )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _relative(name: str, offset: float) -> str:
    return name if offset == 0 else f"{name} {'-' if offset < 0 else '+'} {abs(offset):g}"


def _listed(parts: list[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, {word} {parts[-1]}"
