"""The loss on a GPU: as on the CPU, in half precision, compiled, and without waiting for the device."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

import loss_cases
from negfast.torch import CurriculumLoss, Negatives

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
ALL = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "directions": ALL,
        "relative_margin": 0.1,
        "hardness_strength": 2.0,
        "hard_weighted": 0.5,
        "debiased": 0.1,
        "angular_margin": 5.0,
        "temperature": 0.2,
    },
    "soft": {"soft_positives": 0.5, "max_score": 0.3},
    "learnable": {"learnable_temperature": True},
}


def moved(value: Any) -> Any:
    """Return a case on the device."""
    if isinstance(value, torch.Tensor):
        return value.cuda()
    if isinstance(value, dict):
        return {name: moved(part) for name, part in value.items()}
    return [moved(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", OPTIONS)
def test_as_on_the_cpu(name: str) -> None:
    results = []
    for on_device in (False, True):
        case = loss_cases.make(1, b=24, n_positives=2, n=30)
        loss = CurriculumLoss(**OPTIONS[name])
        if on_device:
            case, loss = moved(case), loss.cuda()
        case["anchors"].requires_grad_()
        found, statistics = loss_cases.call(loss, case, statistics=True)
        found.backward()
        results.append((found.detach().cpu(), case["anchors"].grad.cpu(), statistics))
    torch.testing.assert_close(results[0][:2], results[1][:2])
    plain, other = (result[2] for result in results)
    assert other.signals().to_dict() == pytest.approx(plain.signals().to_dict(), rel=1e-4, abs=1e-6)
    assert other.masked_shares == pytest.approx(plain.masked_shares)
    assert other.source_mass == pytest.approx(plain.source_mass, rel=1e-4)
    assert [entry.id for entry in other.offenders(3)] == [entry.id for entry in plain.offenders(3)]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_does_not_wait_for_the_device(name: str) -> None:
    case = moved(loss_cases.make(1, b=24, n=30))
    loss = CurriculumLoss(**OPTIONS[name]).cuda()
    case["anchors"].requires_grad_()
    loss_cases.call(loss, case).backward()  # what is set up once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, statistics = loss_cases.call(loss, case, statistics=True)
        found.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert statistics.signals().loss == pytest.approx(found.item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_scores(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32).cuda()
    texts = torch.randn(48, 64, device="cuda"), torch.randn(48, 64, device="cuda")
    loss = CurriculumLoss(relative_margin=0.05)
    with torch.autocast("cuda", dtype=dtype):
        rows = [layer(part) for part in texts]
        found = loss(*rows)
    assert found.dtype == torch.float32
    found.backward()
    assert torch.equal(found, loss(*(part.float() for part in rows)))
    assert layer.weight.grad.isfinite().all()


def test_a_gradient_scaler_sees_what_is_not_finite() -> None:
    rows = torch.randn(8, 16, device="cuda", requires_grad=True)
    bad = torch.randn(8, 16, device="cuda").index_fill(0, torch.tensor([3], device="cuda"), torch.nan)
    assert CurriculumLoss()(rows, bad).isnan()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["plain", "everything"])
def test_compiled(name: str) -> None:
    torch._dynamo.reset()
    loss = CurriculumLoss(**OPTIONS[name])
    fast = torch.compile(loss, fullgraph=True, dynamic=True)
    for b in (16, 24, 40):
        results = []
        for function in (loss, fast):
            torch.manual_seed(b)
            rows = [torch.randn(b, 32, device="cuda").requires_grad_() for _ in range(2)]
            given = [
                Negatives(
                    torch.randn(2 * b, 32, device="cuda"), index=torch.arange(2 * b, device="cuda").reshape(b, 2)
                ),
                Negatives(torch.randn(b, 3, 32, device="cuda"), source="bank"),
            ]
            found = function(*rows, given)
            found.backward()
            results.append([found.detach(), *(part.grad for part in rows)])
        for plain, other in zip(*results, strict=True):
            torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-5)
