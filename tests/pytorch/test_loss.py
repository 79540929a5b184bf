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


NEUTRAL: dict[str, dict[str, Any]] = {
    "hardness": {"hardness_strength": 0.0, "hardness_mode": "hard_negatives"},
    "hard weighted": {"hard_weighted": 0.0},
    "debiased": {"debiased": 0.0},
    "coupled": {"decoupled": False},
    "angular": {"angular_margin": 0.0},
    "soft": {"soft_positives": 0.0},
    "margins that no row reaches": {"absolute_margin": 0.0, "max_score": 1.1, "relative_margin": None},
    "one direction of its own": {"partition_mode": "per_direction"},
    "unasked gathering": {"gather_across_devices": True},
    "learnable": {"learnable_temperature": True},
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_values_are_plain(name: str) -> None:
    """To the bit, gradients too; the temperature that is learned goes by way of its logarithm."""
    case = loss_cases.make(0)
    if "margins" in name:  # positives on top, so that a margin of 0 finds nothing
        case["positives"] = case["anchors"][:, None] * 1.5
    results = []
    for options in ({}, NEUTRAL[name]):
        anchors = case["anchors"].clone().requires_grad_()
        found = loss_cases.call(CurriculumLoss(**options), {**case, "anchors": anchors})
        found.backward()
        results.append((found.detach(), anchors.grad))
    for plain, other in zip(*results, strict=True):
        if name == "learnable":
            torch.testing.assert_close(plain, other, rtol=1e-6, atol=1e-9)
        else:
            assert torch.equal(plain, other)


def test_labels_that_say_nothing_change_nothing() -> None:
    rows = torch.randn(6, 8), torch.randn(6, 8)
    none = torch.full((6,), -1)
    labels = {name: none for name in loss_cases.LABELS if name.split("_")[-1] in ("ids", "groups", "keys")}
    more = {"mask": torch.ones(6, 6, dtype=torch.bool), "positive_mask": torch.ones(6, dtype=torch.bool)}
    more |= {"in_batch_log_weight": torch.zeros(6), "known_positives": torch.full((6, 3), -1)}
    assert torch.equal(CurriculumLoss()(*rows), CurriculumLoss()(*rows, **labels, **more))


def test_plain_loss_is_cross_entropy() -> None:
    torch.manual_seed(0)
    anchors, positives, mined = torch.randn(32, 16), torch.randn(32, 16), torch.randn(64, 16)
    documents = normalize(torch.cat([positives, mined]))
    expected = cross_entropy(normalize(anchors) @ documents.T / 0.05, torch.arange(32))
    torch.testing.assert_close(CurriculumLoss()(anchors, positives, Negatives(mined)), expected)


def leaves(case: dict[str, Any]) -> list[torch.Tensor]:
    """Return the rows of a case, which then need gradients."""
    found = [case["anchors"], case["positives"], *(part["rows"] for part in case["negatives"])]
    return [rows.requires_grad_() for rows in found]


# What hardness adds has no gradient, so that numerical ones differ; see the test after this one.
SMOOTH = [(name,) for name in OPTIONS if "hardness" not in name]
SMOOTH += [pair for pair in PAIRS if not any("hardness" in name or name in ("plain", "temperature") for name in pair)]


@pytest.mark.parametrize("names", SMOOTH)
def test_gradients_are_those_of_differences(names: tuple[str, ...]) -> None:
    options = merged(*names)
    assert options is not None
    case = loss_cases.make(5, b=4, n_positives=2, dim=4, n=4, m=2)
    loss = CurriculumLoss(**options)
    rows = leaves(case)
    assert torch.autograd.gradcheck(lambda *_: loss_cases.call(loss, case), rows, fast_mode=True)


def test_the_temperature_learns() -> None:
    case = loss_cases.make(1)
    loss = CurriculumLoss(learnable_temperature=True, debiased=0.1, temperature=0.3).double()
    assert torch.autograd.gradcheck(lambda _: loss_cases.call(loss, case), [loss.log_scale])
    with torch.no_grad():
        loss.log_scale.fill_(50.0)  # clamped at a scale of 100, as in CLIP
    plain = CurriculumLoss(temperature=0.01, debiased=0.1)
    torch.testing.assert_close(loss_cases.call(loss, case), loss_cases.call(plain, case))


def test_the_temperature_comes_back_from_its_bound() -> None:
    torch.manual_seed(0)
    loss = CurriculumLoss(learnable_temperature=True, temperature=0.01)
    with torch.no_grad():
        loss.log_scale.fill_(50.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        loss(torch.randn(16, 8), torch.randn(16, 8)).backward()
        optimizer.step()
    now = loss.log_scale.exp().item()
    assert 0.1 < now < 99.0
    assert loss.get_config_dict()["temperature"] == pytest.approx(1.0 / now)


def test_a_row_that_was_drawn_twice_has_the_sum_of_its_weights() -> None:
    torch.manual_seed(0)
    anchors, positives, rows = torch.randn(2, 8), torch.randn(2, 8), torch.randn(3, 8)
    loss = CurriculumLoss(in_batch=False)
    weights = torch.tensor([[1.0, 2.0], [-torch.inf, 0.5]], requires_grad=True)
    twice = loss(anchors, positives, Negatives(rows, index=torch.tensor([[0, 0], [1, 2]]), log_weight=weights))
    added = torch.stack([weights.detach()[0].logsumexp(0), torch.tensor(0.0)])
    once = Negatives(
        rows,
        index=torch.tensor([[0, -1], [1, 2]]),
        log_weight=torch.stack([added, weights.detach()[1]]),
    )
    torch.testing.assert_close(twice, loss(anchors, positives, once))
    twice.backward()
    assert weights.grad is not None and weights.grad.isfinite().all() and weights.grad[0].all()


@pytest.mark.parametrize("mode", ["all_negatives", "hard_negatives", "in_batch_negatives"])
def test_hardness_adds_a_constant(mode: str) -> None:
    """Its gradient is that of weights which are what it adds."""
    torch.manual_seed(0)
    anchors, positives, mined = (torch.randn(shape, dtype=torch.float64) for shape in ((6, 5), (6, 5), (6, 3, 5)))
    scores = normalize(anchors) @ normalize(positives).T
    of_mined = (normalize(anchors)[:, None] * normalize(mined, dim=-1)).sum(-1)
    added = [scores * (mode != "hard_negatives"), of_mined * (mode != "in_batch_negatives")]
    grads = []
    for weights in (None, added):
        rows = [part.clone().requires_grad_() for part in (anchors, positives, mined)]
        if weights is None:
            CurriculumLoss(hardness_strength=4.0, hardness_mode=mode)(rows[0], rows[1], Negatives(rows[2])).backward()
        else:
            unit = [normalize(part, dim=-1) for part in rows]
            logits = torch.cat([unit[0] @ unit[1].T, (unit[0][:, None] * unit[2]).sum(-1)], dim=1) / 0.05
            logits = logits + 4.0 * torch.cat(weights, dim=1).masked_fill(torch.eye(6, 9) > 0, 0.0)
            cross_entropy(logits, torch.arange(6)).backward()
        grads.append([part.grad for part in rows])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_of_logits_are_shares() -> None:
    """The identities of InfoNCE: p_ij / temperature for negatives, -(1 - p_ii) / temperature for positives."""
    torch.manual_seed(2)
    anchors, documents = (torch.randn(9, 6, dtype=torch.float64).requires_grad_() for _ in range(2))
    CurriculumLoss(metric="dot", temperature=0.7)(anchors, documents).backward()
    with torch.no_grad():
        p = (anchors @ documents.T / 0.7).softmax(dim=1)
        expected = (p @ documents - documents) / 0.7 / 9
        of_documents = (p - torch.eye(9)).T @ anchors / 0.7 / 9
    torch.testing.assert_close(anchors.grad, expected)
    torch.testing.assert_close(documents.grad, of_documents)
    # Under cosine the same, in the plane that a row of length 1 moves in, divided by its length.
    unit = [rows.detach().clone().requires_grad_() for rows in (anchors, documents)]
    CurriculumLoss(temperature=0.7)(*unit).backward()
    with torch.no_grad():
        a, d = (normalize(rows) for rows in unit)
        along = ((a @ d.T / 0.7).softmax(dim=1) @ d - d) / 0.7 / 9
        across = (along - (along * a).sum(1, keepdim=True) * a) / unit[0].norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit[0].grad, across)


def test_anchor_by_anchor_is_all_at_once() -> None:
    """The loss is a mean over anchors, each against everything."""
    case = loss_cases.make(3, b=6)
    case["negatives"], case["positive_mask"][:] = [], True
    whole = CurriculumLoss(relative_margin=0.1)
    alone = []
    for i in range(6):
        mask = torch.zeros_like(case["positive_mask"])
        mask[i] = True
        # Documents of others stay as negatives that are given.
        others = [j for j in range(6) if j != i]
        shared = Negatives(case["positives"][others, 0])
        alone.append(whole(case["anchors"], case["positives"], shared, positive_mask=mask))
    plain = whole(case["anchors"], case["positives"])
    torch.testing.assert_close(torch.stack(alone).mean(), plain)


@pytest.mark.parametrize("name", OPTIONS)
def test_more_anchors_than_rows_of_padding(name: str) -> None:
    """Padding may hold anything: neither the loss nor a gradient changes, and none is without a value."""
    options = OPTIONS[name]
    results = []
    for junk in (0.0, torch.nan, torch.inf):
        case = loss_cases.make(8, n_positives=2)
        case["positives"][~case["positive_mask"]] = junk
        bank, shared = case["negatives"][1], case["negatives"][2]
        bank["rows"][bank["ids"] < 0] = junk
        shared["rows"][~shared["mask"]] = junk
        rows = leaves(case)
        found = loss_cases.call(CurriculumLoss(**options), case)
        found.backward()
        results.append([found.detach(), *(part.grad for part in rows)])
    assert all(part.isfinite().all() for part in results[0])
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


EXTREME: dict[str, Callable[[dict[str, Any]], Any]] = {
    "everything is masked": lambda case: (
        case["mask"].zero_() is None or [part["mask"].zero_() for part in case["negatives"][::2]]
    ),
    "no positive at all": lambda case: case["positive_mask"].zero_(),
    "no weight": lambda case: [part["log_weight"].fill_(-torch.inf) for part in case["negatives"]],
    "one and the same row": lambda case: [case[name].fill_(1.0) for name in ("anchors", "positives")],
    "zeros": lambda case: [case[name].zero_() for name in ("anchors", "positives")],
    "opposites": lambda case: case["positives"].copy_(-case["anchors"][:, None].expand_as(case["positives"])),
    "the anchor itself": lambda case: case["positives"].copy_(case["anchors"][:, None].expand_as(case["positives"])),
    "huge weights": lambda case: [part["log_weight"].fill_(80.0) for part in case["negatives"]],
    "no negatives but ones without rows": lambda case: case.update(
        negatives=[{"rows": torch.zeros(0, 6)}, {"rows": torch.zeros(5, 0, 6)}]
    ),
}


DTYPES = [(name, torch.float32) for name in OPTIONS]
DTYPES += [(name, dtype) for name in ("plain", "directions") for dtype in (torch.float16, torch.bfloat16)]


@pytest.mark.parametrize("extreme", EXTREME)
@pytest.mark.parametrize(("name", "dtype"), DTYPES)
def test_nothing_is_without_a_value(name: str, extreme: str, dtype: torch.dtype) -> None:
    case = loss_cases.make(4)
    EXTREME[extreme](case)
    for entry in (case, *case["negatives"]):
        for key, value in entry.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                entry[key] = value.to(dtype if key in ("anchors", "positives", "rows") else torch.float32)
    rows = leaves(case)
    found, statistics = loss_cases.call(CurriculumLoss(**OPTIONS[name]), case, statistics=True)
    found.backward()
    assert found.isfinite(), found
    for part in rows:
        assert part.grad is None or part.grad.isfinite().all()
    signals = statistics.signals().to_dict()
    assert all(np.isfinite(value).all() for value in signals.values() if value is not None), signals


@pytest.mark.parametrize("directions", [("query_to_doc",), ALL])
def test_an_empty_batch_has_no_loss(directions: tuple[str, ...]) -> None:
    rows = torch.zeros(0, 4, requires_grad=True)
    found, statistics = CurriculumLoss(directions=directions, relative_margin=0.1)(
        rows, torch.zeros(0, 4), Negatives(torch.zeros(0, 3, 4)), statistics=True
    )
    found.backward()
    assert found.item() == 0.0 and rows.grad.shape == (0, 4)
    assert statistics.signals().effective_negatives is None  # of nothing
    alone = CurriculumLoss()(torch.randn(1, 4), torch.randn(1, 4))
    assert alone.item() == 0.0
