"""Banks of two gloo processes beside one of a single process; run by test_bank_ranks.py.

Argument: a folder for the file that the processes meet by.
"""

import copy
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.torch import MemoryBank

WORLD, DIM, CAPACITY = 2, 8, 41
POLICIES = ("fifo", "reservoir", "aged")


def batch(rank: int, step: int) -> tuple[torch.Tensor, Any, Any]:
    """Rows of a rank, some ids of which the other has too; one batch is empty, one larger than the bank."""
    rng = np.random.default_rng((rank, step))
    n = [7, 0, 60, 12, 5][step] if rank == 0 else [3, 9, 1, 12, 0][step]
    return (
        torch.from_numpy(rng.standard_normal((n, DIM), dtype=np.float32)),
        rng.integers(-1, 70, n),
        rng.integers(0, 5, n),
    )


def joint(step: int) -> tuple[torch.Tensor, Any, Any]:
    rows, ids, groups = zip(*(batch(rank, step) for rank in range(WORLD)), strict=True)
    return torch.cat(rows), np.concatenate(ids), np.concatenate(groups)


def anchors(rank: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng((9, rank)).standard_normal((4 + rank, DIM), dtype=np.float32))


def look(bank: MemoryBank, rank: int, k: int = 6) -> tuple[torch.Tensor, ...]:
    """Look up with exclusions of other widths on each rank, and a cap on one."""
    own = anchors(rank)
    ids = np.random.default_rng(rank).integers(-1, 70, (len(own), 3 + rank))
    groups = np.arange(len(own)) % 5 if rank else None
    return tuple(bank.hardest(own, k + rank, exclude_ids=ids, exclude_groups=groups, max_score=0.6 if rank else None))


def equal(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs), (mine, theirs)


def as_one(sync: Any, rank: int) -> None:
    """Banks that are in step hold and find what one bank of a single process does."""
    for policy, dtype in zip(POLICIES, (torch.float32, torch.bfloat16, torch.float16), strict=True):
        options: dict[str, Any] = {"policy": policy, "dtype": dtype, "momentum": 0.5, "seed": 5}
        bank, single = MemoryBank(CAPACITY, DIM, sync=sync, **options), MemoryBank(CAPACITY, DIM, **options)
        for step in range(5):
            rows, ids, groups = batch(rank, step)
            bank.enqueue(rows, ids, groups, step=step)
            rows, ids, groups = joint(step)
            single.enqueue(rows, ids, groups, step=step)
            assert torch.equal(bank.ids, single.ids) and torch.equal(bank.ages, single.ages)
            assert (len(bank), bank.seen, bank.step) == (len(single), single.seen, single.step)
            equal(look(bank, rank), look(single, rank))
            equal(tuple(bank.sample(5)), tuple(single.sample(5)))
        held = bank.state_dict()["rows"]
        assert len(held) == (CAPACITY if sync == "all" else len(range(rank, CAPACITY, WORLD)))


def together(rank: int) -> None:
    as_one("all", rank)


def shards(rank: int) -> None:
    as_one("shard", rank)


def start_step(rank: int) -> None:
    bank = MemoryBank(CAPACITY, DIM, sync="shard", start_step=1)
    for step in range(3):
        bank.enqueue(*batch(rank, step), step=step)
        assert bool((bank.hardest(anchors(rank), 2).ids >= 0).any()) == (step >= 1)


def state(rank: int) -> None:
    """A shard is saved and loaded rank by rank, and into no other."""
    bank = MemoryBank(CAPACITY, DIM, sync="shard", policy="aged")
    for step in range(3):
        bank.enqueue(*batch(rank, step), step=step)
    file = io.BytesIO()
    torch.save(bank.state_dict(), file)
    file.seek(0)
    other = MemoryBank(CAPACITY, DIM, sync="shard", policy="aged")
    other.load_state_dict(torch.load(file, weights_only=True))
    for each in (bank, other):
        each.enqueue(*batch(rank, 3))
    equal(look(bank, rank), look(other, rank))
    files: list[Any] = [None] * WORLD
    dist.all_gather_object(files, bank.state_dict())
    refuses(lambda: other.load_state_dict(files[1 - rank]), StateError, "rank of the state must be")
    whole = MemoryBank(CAPACITY, DIM, policy="aged")
    message = "rank of the state must be" if rank else "world_size of the state must be"
    refuses(lambda: whole.load_state_dict(bank.state_dict()), StateError, message)


def refuses(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def errors(rank: int) -> None:
    """What is wrong on one rank is an error on all, at once, and changes nothing."""
    for sync in ("all", "shard"):
        bank = MemoryBank(CAPACITY, DIM, sync=sync)
        bank.enqueue(*batch(rank, 0))
        before = copy.deepcopy(bank)
        rows, ids, groups = batch(rank, 3)
        if rank == 1:
            rows[2, 3] = torch.nan
        message = "row 2" if rank == 1 else "got errors on [1]"
        refuses(lambda: bank.enqueue(rows, ids, groups), InvalidValueError, message)  # noqa: B023
        refuses(lambda: bank.enqueue(*batch(rank, 3), step=rank + 4), InvalidValueError, "[4, 5]")  # noqa: B023
        assert torch.equal(bank.ids, before.ids) and bank.step == before.step
        equal(look(bank, rank), look(before, rank))
    found = bank.hardest if rank == 0 else lambda a, k: bank.hardest(a.long(), k)
    error = InvalidValueError if rank == 0 else InvalidTypeError
    refuses(lambda: found(anchors(rank), 3), error, "got errors on [1]" if rank == 0 else "anchors must be")


def differing(rank: int) -> None:
    """Banks of other settings, or of other moments, are noticed by the first call of all ranks."""
    rows, ids, _ = batch(rank, 3)
    for name, values in {
        "seed": (0, 1),
        "policy": ("aged", "fifo"),
        "start_step": (0, 9),
        "capacity": (41, 42),
    }.items():
        for sync in ("all", "shard"):
            bank = MemoryBank(**{"capacity": CAPACITY, "dim": DIM, "sync": sync, name: values[rank]})
            message = f"{name} of the bank must be the same on every rank, got {values[rank]!r} on rank {rank}"
            refuses(lambda: bank.enqueue(rows, ids), InvalidValueError, message)  # noqa: B023
            if sync == "shard":
                refuses(lambda: bank.hardest(anchors(rank), 3), InvalidValueError, message)  # noqa: B023
    refuses(lambda: MemoryBank(1, DIM, sync="shard"), InvalidValueError, "capacity must be at least 1 for each rank")
    bank = MemoryBank(CAPACITY, DIM, sync="shard")
    first = copy.deepcopy(bank.state_dict())
    bank.enqueue(rows, ids)
    if rank:
        bank.load_state_dict(first)
    refuses(lambda: bank.sample(3), InvalidValueError, "seen of the bank must be the same on every rank")


def local_errors(rank: int) -> None:
    """What only one rank notices, whatever it is, keeps none of them waiting."""
    bank = MemoryBank(CAPACITY, DIM, sync="shard", normalize=False)
    bank.enqueue(torch.full((1, DIM), 1e30) if rank == 0 else torch.zeros(1, DIM), [rank])
    other = "got errors on [0]"
    message = other if rank else "n must be"
    refuses(lambda: bank.sample(3 if rank else -1), InvalidValueError, message)
    message = other if rank else "max_score must be a rectangular list"
    ragged = None if rank else [[1], [1, 2]]
    refuses(lambda: bank.hardest(anchors(0), 2, max_score=ragged), InvalidValueError, message)
    message = other if rank else "anchors must be small enough"
    refuses(lambda: bank.hardest(torch.full((2, DIM), 1e20), 2), InvalidValueError, message)
    assert len(bank.hardest(anchors(rank), 2).ids) == 4 + rank


def in_ddp(rank: int) -> None:
    """DDP sends the buffers of rank 0 to the others before each forward, but leaves the bank alone."""
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(DIM, DIM), nn.BatchNorm1d(DIM))
            self.extra = nn.ModuleDict({"bank": MemoryBank(CAPACITY, DIM, sync="shard")})

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.body(rows)

    model = nn.parallel.DistributedDataParallel(Model())
    bank, single = model.module.extra["bank"], MemoryBank(CAPACITY, DIM)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in (0, 2, 3):
        for each, source in ((bank, batch(rank, step)), (single, joint(step))):
            each.enqueue(*source, step=step)
        kept = bank.state_dict()["rows"].clone()
        found = bank.hardest(anchors(rank), 5)
        loss = torch.einsum("nd,nkd->", model(anchors(rank)), found.rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model(anchors(rank))
        assert torch.equal(kept, bank.state_dict()["rows"])
        equal(tuple(bank.hardest(anchors(rank), 5)), tuple(single.hardest(anchors(rank), 5)))
    mine = [torch.empty_like(kept[: CAPACITY // 2]) for _ in range(WORLD)]
    dist.all_gather(mine, kept[: CAPACITY // 2])
    assert not torch.equal(mine[0], mine[1])
    assert "module.extra.bank.rows" in model.state_dict()
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def made_too_early(rank: int, bank: MemoryBank) -> None:
    refuses(lambda: bank.enqueue(*batch(rank, 0)), InvalidValueError, "start torch.distributed before")


def main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    early = MemoryBank(CAPACITY, DIM, sync="shard", n_threads=1)
    early.enqueue(*batch(0, 0))  # one process is all there is
    assert len(early.hardest(anchors(0), 2).ids) == 4
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    for check in (together, shards, start_step, state, errors, differing, local_errors, in_ddp):
        check(rank)
        if rank == 0:
            print(check.__name__, flush=True)
    made_too_early(rank, early)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    spawn(main, (str(Path(sys.argv[1])),), nprocs=WORLD)
