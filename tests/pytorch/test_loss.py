"""The loss: against its definition, at neutral values, and its gradients."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import cross_entropy, normalize

import loss_cases
from loss_oracle import naive_loss
from negfast.torch import CurriculumLoss, Negatives

ALL = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")
# Each alone, and then pairs of them.
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "temperature": {"temperature": 0.2},
    "dot": {"metric": "dot", "temperature": 1.0},
    "alone": {"in_batch": False},
    "directions": {"directions": ALL},
    "symmetric": {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
    "absolute": {"absolute_margin": 0.1},
    "relative": {"relative_margin": 0.05},
    "ceiling": {"max_score": 0.5},
    "hardness": {"hardness_strength": 5.0},
    "hardness of mined": {"hardness_strength": 5.0, "hardness_mode": "hard_negatives"},
    "hardness of others": {"hardness_strength": 5.0, "hardness_mode": "in_batch_negatives"},
    "hard weighted": {"hard_weighted": 0.5, "temperature": 0.3},
    "debiased": {"debiased": 0.1, "temperature": 0.3},
    "decoupled": {"decoupled": True},
    "angular": {"angular_margin": 10.0},
    "soft": {"soft_positives": 0.5, "relative_margin": 0.3},
}


def merged(*names: str) -> dict[str, Any] | None:
    """Return several options as one, or None if they say different things or do not go together."""
    found: dict[str, Any] = {}
    for name in names:
        for key, value in OPTIONS[name].items():
            if found.setdefault(key, value) != value:
                return None
    cosine = found.get("metric", "cosine") == "cosine"
    alone = not found.get("in_batch", True)
    wrong = (
        (not cosine and (found.get("debiased") or found.get("angular_margin")))
        or (alone and "directions" in found)
        or (found.get("soft_positives") and found.get("debiased"))
    )
    return None if wrong else found


PAIRS = [pair for pair in combinations(OPTIONS, 2) if merged(*pair) is not None]


@pytest.mark.parametrize("n_positives", [1, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_its_definition(name: str, n_positives: int) -> None:
    for seed in range(3):
        case = loss_cases.make(seed, n_positives=n_positives)
        found = loss_cases.call(CurriculumLoss(**OPTIONS[name]), case)
        assert found.dtype == torch.float64
        assert float(found) == pytest.approx(naive_loss(case, OPTIONS[name]), rel=1e-9), (name, seed)


@pytest.mark.parametrize("names", PAIRS)
def test_two_options_are_their_definition(names: tuple[str, str]) -> None:
    options = merged(*names)
    assert options is not None
    case = loss_cases.make(11, b=4, n_positives=2, n=5, m=2)
    found = loss_cases.call(CurriculumLoss(**options), case)
    assert float(found) == pytest.approx(naive_loss(case, options), rel=1e-9)
