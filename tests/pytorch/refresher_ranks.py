"""Refreshers of two gloo processes beside one of a single process; run by test_refresher_ranks.py.

Argument: a folder for the file that the processes meet by, and for a state.
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import get_all_start_methods, start_processes

import negfast
from negfast.errors import InvalidValueError
from negfast.torch import HardBatchSampler, RankError
from refresher_parts import CORPUS, POSITIVES, QUERIES, WIDTH, Model, refresher_of

WORLD = 2
LOOK = negfast.RefreshPolicy(max_drift=0.3)


def of_all(value: Any) -> list[Any]:
    values: list[Any] = [None] * WORLD
    dist.all_gather_object(values, value)
    return values


def same_everywhere(value: Any) -> None:
    assert of_all(value) == [value] * WORLD


def lists(rank: int, folder: Path) -> None:  # noqa: ARG001
    """Each encodes its share, in pieces; all get the lists that one process would have mined."""
    model, refresher = Model(), refresher_of(chunk=7, policy=LOOK, look_every=2, sample=20)
    refresher.begin(model)
    assert model.encoded < len(QUERIES) + len(CORPUS) and sum(of_all(model.encoded)) == 100
    miner, own = negfast.Miner(num_negatives=WIDTH), Model()
    assert np.array_equal(refresher.mined.indices, miner.mine(*own.both(), POSITIVES).indices)
    assert of_all(refresher.miner.is_mined) == [True, False]
    for step in range(1, 9):
        model.step = own.step = 3 * step
        event = refresher.step(step, model)
        same_everywhere(None if event is None else (str(event), event.n_changed, event.n_encoded))
        if event is not None and event.refreshed:
            assert np.array_equal(refresher.mined.indices, miner.refresh(*own.both()).indices)
        same_everywhere(refresher.policy.last_step)
    same_everywhere(refresher.mined.indices.tolist())
    assert refresher.policy.last_step > 0, "lists were mined again"


def failures(rank: int, folder: Path) -> None:
    """What fails on one of them is an error on both, at once, and changes nothing."""
    model, refresher = Model(), refresher_of(chunk=8)
    refresher.begin(model)
    before = refresher.mined

    def broken(texts: list[str]) -> Any:
        if rank == 1:
            raise ZeroDivisionError("it broke")
        return model(texts)

    error: type[Exception] = ZeroDivisionError if rank == 1 else RankError
    message = (
        "it broke" if rank == 1 else "rank 1 failed, and this one has to stop with it: ZeroDivisionError: it broke"
    )
    with pytest.raises(error, match=re.escape(message)):
        refresher.refresh(1, broken)
    # Mining, on the first, refuses what the second has sent.
    with pytest.raises(RankError if rank else InvalidValueError):
        refresher.refresh(1, lambda texts: model(texts) * (np.nan if rank else 1))
    # Joining them too.
    with pytest.raises(RankError if rank else InvalidValueError):
        refresher.refresh(1, lambda texts: np.ones((len(texts), 8 + rank), np.float32))
    assert refresher.mined is before
    # Saving, which only the first does.
    (folder / "a-file").write_text("no folder")
    dist.barrier()
    with pytest.raises(RankError if rank else OSError):
        refresher.save(folder / "a-file")
    assert refresher.refresh(2, model).refreshed


def states(rank: int, folder: Path) -> None:
    """Anchors of other ranks keep their lists too."""

    def made() -> tuple[Any, Any, Any]:
        refresher = refresher_of()
        batches = HardBatchSampler(40, 4, seed=1, rank=rank, world_size=WORLD)
        return refresher, refresher.batches(batches), Model(0.3)

    def run(refresher: Any, batches: Any, model: Model, steps: int) -> list[Any]:
        seen = []
        dealt = iter(batches)
        ahead = next(dealt, None)
        for _ in range(steps):
            batch, ahead = ahead, next(dealt, None)
            drawn = refresher.negatives.draw(batch, 0)
            seen.append((batch, drawn.ids.tolist()))
            refresher.negatives.update(drawn.ids, np.random.default_rng(rank).random(drawn.ids.shape))
            refresher.consumed()
            model.step += 1
            refresher.step(model.step, model)
        return seen

    refresher, batches, model = made()
    refresher.begin(model)
    refresher.begin_epoch(0, model)
    whole = run(refresher, batches, model, 3)  # there was a refresh after the last, with a batch on its way
    refresher.save(folder / "state")
    kept = refresher.state_dict()
    rest = run(refresher, batches, model, 2)
    refresher.begin_epoch(1, model, step=5)
    rest += run(refresher, batches, model, 5)
    for load in (lambda each: each.load(folder / "state"), lambda each: each.load_state_dict(of_all(kept)[0])):
        again, batches, model = made()
        load(again)
        model.step = 3
        found = run(again, batches, model, 2)
        again.begin_epoch(1, model, step=5)
        found += run(again, batches, model, 5)
        assert found == rest
    assert whole[0][0] != of_all(whole[0][0])[1 - rank], "batches of their own"


def main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    for check in (lists, failures, states):
        check(rank, Path(folder))
        dist.barrier()
        if rank == 0:
            print(check.__name__, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    # Forked ones need not import torch again.
    start = "fork" if sys.platform == "linux" and "fork" in get_all_start_methods() else "spawn"
    start_processes(main, (sys.argv[1],), nprocs=WORLD, start_method=start)
