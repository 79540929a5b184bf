"""Recipes: what they refuse, how they are kept, and what they say."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import negfast
from negfast import Recipe, Rules, Search, SimANS, Softmax, StateError, Tiers

Type, Value = negfast.InvalidTypeError, negfast.InvalidValueError

FULL = Recipe(
    num_negatives=3,
    metric="dot",
    rules=Rules(
        relative_margin=0.1, absolute_margin=0.2, max_score=0.9, min_score=0.1, range_min=2, range_max=40,
        duplicate_of_positive=0.95, distinct=0.9, max_exposure=7, exclude_self=True, transitive=True,
    ),
    tiers=Tiers(0.0, -0.1),
    draw=SimANS(8.0, 0.1),
    search=Search(max_memory=1 << 30),
    suspect_rank=50,
    seed=2**64 - 1,
    epoch=3,
)  # fmt: skip


def unit_floats(**options: Any) -> Any:
    return st.none() | st.floats(0, 1, **options)


recipes = st.builds(
    Recipe,
    num_negatives=st.integers(1, 10),
    metric=st.sampled_from(["cosine", "dot"]),
    rules=st.builds(
        Rules,
        relative_margin=unit_floats(),
        absolute_margin=unit_floats(),
        max_score=unit_floats(),
        distinct=unit_floats(),
        range_min=st.integers(0, 5),
        range_max=st.none() | st.integers(15, 2**40),
        max_exposure=st.none() | st.integers(1, 2**40),
        exclude_self=st.none() | st.booleans(),
        transitive=st.booleans(),
    ),
    tiers=st.builds(Tiers, st.floats(0, 1), st.floats(-1, 0)),
    draw=st.sampled_from(["top", "random"])
    | st.builds(Softmax, st.floats(1e-6, 1e6))
    | st.builds(SimANS, st.floats(0, 1e6), st.floats(-1, 1)),
    search=st.builds(Search, max_memory=st.none() | st.integers(1, 2**40)),
    suspect_rank=st.integers(1, 2**40),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**64 - 1),
)


@given(recipes)
def test_survives_json(recipe: Recipe) -> None:
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict(), allow_nan=False)))
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint


@given(recipes, recipes)
def test_fingerprints_are_equal_as_recipes_are(one: Recipe, other: Recipe) -> None:
    assert (one == other) == (one.fingerprint == other.fingerprint)


def test_fingerprints_stay() -> None:
    # Kept beside results: a change breaks the link between them and their recipes.
    assert Recipe().fingerprint == "15cd0b5d246292f0f98d55a0a2a338e3"
    assert FULL.fingerprint == "1f5ca39fe8bfdbae7e356d97699c1ad1"


def test_signed_zero_is_one_setting() -> None:
    assert Recipe(tiers=Tiers(-0.0, -1.0)).fingerprint == Recipe(tiers=Tiers(0.0, -1.0)).fingerprint


def test_saves_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    FULL.save(path)
    assert Recipe.load(path) == FULL
    assert list(tmp_path.iterdir()) == [path]
    path.write_text(json.dumps({"format": 1, "num_negatives": 2, "draw": "random", "job": {"any": "thing"}}))
    assert Recipe.load(path) == Recipe(num_negatives=2, draw="random")


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 1  # type: ignore[misc]


def test_repeats_a_call(rows: Any) -> None:
    corpus = rows(40, 8)
    mined = negfast.mine(corpus, corpus, np.arange(40), num_negatives=3, draw=Softmax(0.1), seed=5, epoch=2)
    assert mined.recipe.rules.exclude_self is True
    again = negfast.mine(corpus.copy(), corpus, np.arange(40), **mined.recipe.arguments())
    np.testing.assert_array_equal(again.indices, mined.indices)
    assert again.recipe == mined.recipe


TABLE: list[tuple[str, Any, type[Exception], str]] = [
    ("no mapping", [1], Type, "mapping.*list"),
    ("no format", {}, StateError, '"format".*must be 1, got None'),
    ("later format", {"format": 2}, StateError, "must be 1, got 2"),
    ("format true", {"format": True}, StateError, "got True"),
    ("unknown field", {"format": 1, "negatives": 3}, Value, "num_negatives.*'negatives'"),
    ("unknown rule", {"format": 1, "rules": {"margin": 0.1}}, Value, "Rules.*relative_margin.*'margin'"),
    ("rules a list", {"format": 1, "rules": []}, Type, "Rules.*mapping.*list"),
    ("rule of wrong type", {"format": 1, "rules": {"distinct": "0.9"}}, Type, "rules.distinct.*number.*'0.9'"),
    ("rule out of range", {"format": 1, "rules": {"distinct": 2}}, Value, "rules.distinct.*between -1 and 1"),
    ("tier unknown", {"format": 1, "tiers": {"easy": 0}}, Value, "Tiers.*'easy'"),
    ("tiers swapped", {"format": 1, "tiers": {"hard": -1, "semi_hard": 0}}, Value, "tiers.semi_hard.*swap"),
    ("search method", {"format": 1, "search": {"method": "ann"}}, Value, "search.method.*'ann'"),
    ("draw unknown", {"format": 1, "draw": {"name": "best"}}, Value, "draw.*top.*best"),
    ("draw number", {"format": 1, "draw": 3}, Type, "draw.*mapping.*3"),
    ("draw without name", {"format": 1, "draw": {"temperature": 1}}, Type, "draw.*name"),
    ("softmax without temperature", {"format": 1, "draw": "softmax"}, Value, "Softmax.*temperature"),
    ("top with temperature", {"format": 1, "draw": {"name": "top", "temperature": 1}}, Value, "draw.*temperature"),
    ("temperature 0", {"format": 1, "draw": {"name": "softmax", "temperature": 0}}, Value, "temperature.*above 0"),
    ("num_negatives 0", {"format": 1, "num_negatives": 0}, Value, "num_negatives.*at least 1"),
    ("num_negatives text", {"format": 1, "num_negatives": "8"}, Type, "num_negatives.*integer.*'8'"),
    ("window too small", {"format": 1, "rules": {"range_max": 3}}, Value, "num_negatives.*at most.*3.*got 8"),
    ("metric", {"format": 1, "metric": "euclidean"}, Value, "metric.*euclidean"),
    ("seed negative", {"format": 1, "seed": -1}, Value, "seed.*at least 0"),
    ("epoch fraction", {"format": 1, "epoch": 0.5}, Type, "epoch.*integer"),
]


@pytest.mark.parametrize(("values", "kind", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_refuses(values: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Recipe.from_dict(values)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", StateError),
        ('{"format": 1, "seed"', StateError),
        ("[]", StateError),
        ("[" * 100_000, StateError),
        ("\udcff", StateError),
        ('{"format": 1, "sed": 1}', Value),
    ],
)
def test_refuses_files_by_name(tmp_path: Path, text: str, kind: type[Exception]) -> None:
    path = tmp_path / "my recipe.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(kind, match=r"my recipe\.json"):
        Recipe.load(path)


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Recipe.load("nowhere/recipe.json")


def test_describes_every_rule() -> None:
    text = FULL.describe()
    for part in (
        "up to 3 negatives", "dot product", "positives of anchors that share", "the anchor itself,",
        "above p - 10% of |p|", "above p - 0.2", "above 0.9", "below 0.1", "above 0.95 with a positive",
        "above 0.9 with a better negative", "the best 2 are skipped", "next 38 are candidates",
        "exp(-8 * (score - (p + 0.1))**2)", f"seed {2**64 - 1} and epoch 3", "more than 7 anchors",
        "at least p, semi-hard if at least p - 0.1", "ranks below 50",
    ):  # fmt: skip
        assert part in text, part


@given(recipes)
def test_describes_whatever_it_holds(recipe: Recipe) -> None:
    lines = recipe.describe().splitlines()
    assert len(lines) >= 4
    assert all(line.endswith(".") and "None" not in line for line in lines)
