"""Settings are frozen, validated values that survive a trip through plain dictionaries."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast


def test_defaults_are_the_documented_ones() -> None:
    assert {f.name: f.default for f in dataclasses.fields(negfast.Rules)} == {
        "relative_margin": 0.05,
        "absolute_margin": None,
        "max_score": None,
        "min_score": None,
        "range_min": 0,
        "range_max": None,
        "duplicate_of_positive": None,
        "distinct": None,
        "max_exposure": None,
        "exclude_self": None,
        "transitive": False,
    }
    assert negfast.Tiers() == negfast.Tiers(hard=-0.05, semi_hard=-0.15)
    assert negfast.Search() == negfast.Search(recall=1.0, method="auto", max_memory=None)
    assert negfast.SimANS(2.0) == negfast.SimANS(a=2.0, b=0.0)


def test_mine_takes_the_documented_keywords() -> None:
    parameters = inspect.signature(negfast.mine).parameters
    assert {name: p.default for name, p in parameters.items() if p.default is not p.empty} == {
        "num_negatives": 8,
        "metric": "cosine",
        "groups": None,
        "keys": None,
        "exclude": None,
        "forbidden": None,
        "anchors": None,
        "rules": negfast.Rules(),
        "tiers": negfast.Tiers(),
        "draw": "top",
        "search": negfast.Search(),
        "suspect_rank": 1000,
        "seed": 0,
        "epoch": 0,
        "n_threads": None,
        "progress": False,
    }
    shared = set(parameters) - {"anchors", "search"} | {"candidates", "scores", "positive_scores"}
    assert set(inspect.signature(negfast.select).parameters) == shared


ALL = [
    negfast.Rules(),
    negfast.Rules(
        relative_margin=None,
        absolute_margin=0.1,
        max_score=0.9,
        min_score=-0.5,
        range_min=2,
        range_max=50,
        duplicate_of_positive=0.98,
        distinct=0.97,
        max_exposure=3,
        exclude_self=True,
        transitive=True,
    ),
    negfast.Tiers(hard=0.0, semi_hard=-0.1),
    negfast.Search(recall=0.95, method="exact", max_memory=1 << 30),
    negfast.Softmax(0.05),
    negfast.SimANS(30.0, 0.1),
]


@pytest.mark.parametrize("value", ALL, ids=repr)
def test_dictionary_round_trip_through_json(value: Any) -> None:
    plain = json.loads(json.dumps(value.to_dict()))
    assert type(value).from_dict(plain) == value


@pytest.mark.parametrize("value", ALL, ids=repr)
def test_frozen_and_hashable(value: Any) -> None:
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, 0.5)
    assert hash(value) == hash(type(value).from_dict(value.to_dict()))


@pytest.mark.parametrize("value", ALL, ids=repr)
def test_unknown_key_is_refused_by_name(value: Any) -> None:
    with pytest.raises(negfast.NegfastError, match="colour"):
        type(value).from_dict(value.to_dict() | {"colour": 1})


def test_rules_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        negfast.Rules(0.05)  # type: ignore[misc]


def test_integers_are_as_good_as_floats() -> None:
    assert negfast.Rules(max_score=1) == negfast.Rules(max_score=1.0)
    assert negfast.Softmax(1) == negfast.Softmax(1.0)


NUMPY = [
    negfast.Rules(
        relative_margin=np.float32(0.25),
        absolute_margin=np.float16(0.5),
        max_score=np.int64(1),
        min_score=np.array(0.5, np.float32),
        range_min=np.uint8(2),
        range_max=np.int64(50),
        duplicate_of_positive=np.float64(0.5),
        distinct=np.longdouble(0.5),
        max_exposure=np.int32(3),
        exclude_self=np.True_,
        transitive=np.False_,
    ),
    negfast.Tiers(np.float32(0.0), np.float16(-0.5)),
    negfast.Search(recall=np.float32(1.0), method=np.str_("exact"), max_memory=np.int64(1 << 30)),  # type: ignore[arg-type]
    negfast.Softmax(np.float32(0.5)),
    negfast.SimANS(np.int64(3), np.float32(0.5)),
]


@pytest.mark.parametrize("value", NUMPY, ids=repr)
def test_numpy_scalars_become_plain_values(value: Any) -> None:
    plain = value.to_dict()
    assert {type(field) for field in plain.values()} <= {int, float, bool, str}
    assert type(value).from_dict(json.loads(json.dumps(plain))) == value
    assert "np." not in repr(value)


@pytest.mark.parametrize("value", NUMPY, ids=lambda value: type(value).__name__)
def test_numpy_scalars_can_be_saved(value: Any, tmp_path: Path) -> None:
    name = {"Softmax": "draw", "SimANS": "draw"}.get(type(value).__name__, type(value).__name__.lower())
    rows = np.eye(4, dtype=np.float32)
    mined = negfast.mine(rows, rows, np.arange(4), num_negatives=np.int64(2), **{name: value})
    mined.save(tmp_path / "mined")
    assert negfast.MinedNegatives.load(tmp_path / "mined").recipe == mined.recipe
