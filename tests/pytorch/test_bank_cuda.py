"""A memory bank on a GPU holds what one on the CPU does, and finds the same within rounding."""

import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from negfast.errors import InvalidValueError
from negfast.torch import MemoryBank
from negfast.torch.bank import POLICIES
from test_bank import DTYPES, numbers

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICE = "cuda"


def pair(n: int = 900, dim: int = 32, **options: Any) -> tuple[MemoryBank, MemoryBank]:
    """Return banks on the CPU and on the GPU that saw the same."""
    banks = MemoryBank(500, dim, **options), MemoryBank(500, dim, **options).to(DEVICE)
    rng = np.random.default_rng(0)
    for step, start in enumerate(range(0, n, 100)):
        rows, labels = numbers(100, dim, seed=start), rng.integers(-1, 700, (3, 100))
        banks[0].enqueue(rows, *labels, step=step)
        banks[1].enqueue(rows.to(DEVICE), *torch.from_numpy(labels).to(DEVICE), step=step)
    return banks


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", [True, False])
def test_both_hold_and_find_the_same(policy: Any, dtype: Any, normalize: bool) -> None:
    cpu, gpu = pair(policy=policy, dtype=dtype, normalize=normalize, momentum=0.5, seed=3)
    assert gpu.device.type == DEVICE and gpu.dtype == dtype
    assert torch.equal(cpu.ids, gpu.ids.cpu()) and torch.equal(cpu.ages, gpu.ages.cpu())
    assert cpu.staleness() == gpu.staleness()
    anchors, refused = numbers(40, 32, seed=7), np.random.default_rng(1).integers(-1, 700, (40, 5))
    limit = 0.5 if normalize else 10.0
    arguments: dict[str, Any] = {"exclude_ids": refused, "exclude_groups": refused[:, 0], "max_score": limit}
    with torch.autocast(DEVICE, torch.float16):
        found = gpu.hardest(anchors.to(DEVICE), 20, **arguments)
    expected = cpu.hardest(anchors, 20, **arguments)
    assert all(part.device.type == DEVICE for part in found)
    loose = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]  # momentum rounds differently
    torch.testing.assert_close(found.scores.cpu(), expected.scores, atol=loose * (1 if normalize else 30), rtol=loose)
    agree = (found.ids.cpu() == expected.ids).float().mean()
    assert agree > (0.99 if dtype == torch.float32 else 0.9)
    rows = torch.nn.functional.normalize(found.rows.float(), dim=-1) if normalize else found.rows.float()
    unit = torch.nn.functional.normalize(anchors) if normalize else anchors
    there = torch.isfinite(found.scores)
    products = (unit.to(DEVICE)[:, None] * rows).sum(-1)
    torch.testing.assert_close(products[there], found.scores[there], atol=1e-3, rtol=1e-4)


def test_it_goes_from_device_to_device() -> None:
    bank, _ = pair(policy="aged", seed=1)
    before = copy.deepcopy(bank)
    model = torch.nn.ModuleList([bank]).to(DEVICE).half()
    assert bank.device.type == DEVICE and bank.dtype == torch.float32
    bank.enqueue(numbers(30, 32, seed=4).to(DEVICE), range(30))
    model.to("cpu")
    before.enqueue(numbers(30, 32, seed=4), range(30))
    anchors = numbers(9, 32, seed=8)
    for mine, theirs in zip(bank.hardest(anchors, 5), before.hardest(anchors, 5), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_rows_and_anchors_come_from_anywhere() -> None:
    bank = MemoryBank(50, 8)
    bank.enqueue(numbers(20, 8).to(DEVICE), torch.arange(20, device=DEVICE))
    found = bank.hardest(numbers(3, 8).to(DEVICE), 2, exclude_ids=torch.arange(3, device=DEVICE))
    assert found.rows.device.type == DEVICE and not (found.ids[:, 0].cpu() == torch.arange(3)).any()


def test_states_cross_devices() -> None:
    cpu, gpu = pair(policy="reservoir", seed=2)
    other = MemoryBank(500, 32, policy="reservoir", seed=2)
    other.load_state_dict(gpu.state_dict())
    assert torch.equal(other.ids, cpu.ids) and torch.equal(other.sample(9).ids, gpu.sample(9).ids.cpu())
    gpu.load_state_dict(cpu.state_dict())
    assert torch.equal(gpu.ids.cpu(), cpu.ids)
    assert torch.equal(copy.deepcopy(gpu).ids, gpu.ids)


def test_bad_rows_are_refused_there_too() -> None:
    bank = MemoryBank(50, 4).to(DEVICE)
    rows = torch.eye(4, device=DEVICE)
    rows[2, 1] = torch.nan
    with pytest.raises(InvalidValueError, match="row 2"):
        bank.enqueue(rows, range(4))
    with pytest.raises(InvalidValueError, match="row 2"):
        bank.hardest(rows, 1)
    assert len(bank) == 0


def test_memory_is_bounded() -> None:
    bank = MemoryBank(1 << 17, 64).to(DEVICE)
    bank.enqueue(numbers(1 << 17, 64).to(DEVICE), range(1 << 17))
    anchors = numbers(4096, 64, seed=1).to(DEVICE)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    bank.hardest(anchors, 32, exclude_ids=np.arange(4096))
    # The table of all scores would be 2 GiB.
    assert torch.cuda.max_memory_allocated() - before < 1 << 30
