"""The settings of a recipe as command-line options."""

import argparse
from collections.abc import Mapping
from typing import Any

from negfast.cli.options import fraction, memory, natural, number, positive
from negfast.errors import InvalidValueError
from negfast.recipe import Recipe
from negfast.settings import METHODS, Rules, Search, Tiers

_OFF = "off"


def _or_off(text: str) -> float | str:
    return _OFF if text == _OFF else number(text)


def _count_or_off(text: str) -> int | str:
    return _OFF if text == _OFF else positive(text)


# Option, its type, and what it means; the field has the option's name.
_RULES: tuple[tuple[str, Any, str, str], ...] = (
    ("relative_margin", _or_off, "M", "drop rows above p - M * |p|, p the score of the lowest positive (default 0.05)"),
    ("absolute_margin", _or_off, "M", "drop rows above p - M"),
    ("max_score", _or_off, "S", "drop rows that score more"),
    ("min_score", _or_off, "S", "drop rows that score less"),
    ("range_min", natural, "N", "skip this many of the best allowed rows"),
    ("range_max", _count_or_off, "N", "go no deeper than this rank among the allowed rows"),
    ("duplicate_of_positive", _or_off, "C", "drop rows whose cosine with a positive is above this"),
    ("distinct", _or_off, "C", "drop rows whose cosine with a better negative of the anchor is above this"),
    ("max_exposure", _count_or_off, "N", "let no row serve more anchors; the job is then one block"),
)  # fmt: skip
_TIERS = (
    ("hard", "H", "a negative is hard from score - p = H on (default -0.05)"),
    ("semi_hard", "H", "and semi-hard from here on (default -0.15)"),
)
_DRAW = ("draw", "temperature", "a", "b")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for every field of a recipe; those that are not given leave it as it is."""
    main = parser.add_argument_group("settings")
    main.add_argument("--num-negatives", type=positive, metavar="N", help="negatives of each anchor (default 8)")
    main.add_argument("--metric", choices=("cosine", "dot"), help="what close means (default cosine)")
    main.add_argument("--seed", type=natural, metavar="S", help="names the draws (default 0)")
    main.add_argument("--epoch", type=natural, metavar="E", help="names the draws (default 0)")
    main.add_argument(
        "--suspect-rank", type=positive, metavar="R", help="report positives that rank below (default 1000)"
    )
    rules = parser.add_argument_group("rules", 'which rows may be negatives; "off" turns a rule off')
    for name, kind, metavar, text in _RULES:
        rules.add_argument(_option(name), type=kind, metavar=metavar, help=text)
    rules.add_argument(
        "--transitive",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also keep out the positives of anchors that share a positive with the anchor",
    )
    tiers = parser.add_argument_group("tiers")
    for name, metavar, text in _TIERS:
        tiers.add_argument(_option(name), type=number, metavar=metavar, help=text)
    draw = parser.add_argument_group("draw")
    draw.add_argument(
        "--draw", choices=("top", "random", "softmax", "simans"), help="how to choose among allowed rows (default top)"
    )
    draw.add_argument("--temperature", type=number, metavar="T", help="of softmax: weights exp(score / T)")
    draw.add_argument("--a", type=number, metavar="A", help="of simans: weights exp(-A * (score - p - B)**2)")
    draw.add_argument("--b", type=number, metavar="B", help="of simans (default 0)")
    search = parser.add_argument_group("search")
    search.add_argument("--recall", type=fraction, metavar="R", help="the least recall asked for (default 1: exact)")
    search.add_argument("--method", choices=METHODS, help="how to search (default auto)")
    search.add_argument(
        "--max-memory", type=memory, metavar="BYTES", help="bound on working buffers, such as 512MiB or 2GiB"
    )


def recipe_of(arguments: argparse.Namespace, start: Recipe) -> Recipe:
    """Return `start` with what the command line gives put in its place."""
    given = vars(arguments)
    changes: dict[str, Any] = _given(given, ("num_negatives", "metric", "seed", "epoch", "suspect_rank"))
    rules = _given(given, (*(name for name, *_ in _RULES), "transitive"))
    rules = {name: None if value == _OFF else value for name, value in rules.items()}
    if start.rules.exclude_self:
        raise InvalidValueError(
            "rules.exclude_self of the recipe must be off for files, got True; it compares row numbers, and here an "
            "anchor is told from the corpus by its text: take it out of the recipe"
        )
    plain = start.to_dict()
    changes["rules"] = Rules.from_dict({**plain["rules"], **rules, "exclude_self": False})
    changes["tiers"] = Tiers.from_dict({**plain["tiers"], **_given(given, [name for name, *_ in _TIERS])})
    changes["search"] = Search.from_dict({**plain["search"], **_given(given, ("recall", "method", "max_memory"))})
    changes["draw"] = _draw(_given(given, _DRAW), plain["draw"])
    return Recipe.from_dict({**plain, **{name: _plain(value) for name, value in changes.items()}})


def _draw(given: dict[str, Any], start: Mapping[str, Any]) -> dict[str, Any]:
    """Return the draw in its plain form: parameters that are not given stay if the kind does."""
    name = given.pop("draw", start["name"])
    return {**(start if name == start["name"] else {}), **given, "name": name}


def _given(values: Mapping[str, Any], names: Any) -> dict[str, Any]:
    return {name: values[name] for name in names if values[name] is not None}


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, Rules | Tiers | Search) else value


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
