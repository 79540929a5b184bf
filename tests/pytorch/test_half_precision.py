"""Masked losses in bfloat16, where -inf and large scores have to stay harmless."""

import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import cross_entropy, normalize

from made import N_PAIRS, dataset
from negfast.torch import NegativesBatch, NegativesCollator


def encode(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[float(text.count(digit)) for digit in "0123456789"] for text in texts])


def loss_of(model: torch.nn.Module, batch: NegativesBatch) -> torch.Tensor:
    scores = normalize(model(batch.anchors)) @ normalize(model(batch.documents)).T / 0.05
    return cross_entropy(scores.masked_fill(~batch.mask, -torch.inf), torch.arange(len(batch)))


@pytest.mark.parametrize("positives", [None, [[0]] * N_PAIRS], ids=["nothing known", "all other positives masked"])
def test_gradients_flow_in_bfloat16(positives: list[list[int]] | None) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(10, 4)
    data = dataset()
    batch = NegativesCollator(encode, positives)([data[i] for i in range(N_PAIRS)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.item() == pytest.approx(loss_of(model, batch).item(), rel=0.1)
    for parameter in model.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any()
