"""Two ranks that all-reduce what they measured, and steer by it; printed as JSON by rank 0.

python all_reducing.py FOLDER
"""

import json
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import negfast
from negfast import AdaptiveCurriculum, Curriculum, MovingTiers, Signals
from negfast.torch import all_reduced

N_RANKS, N_STEPS = 2, 150


def measured(rank: int, step: int) -> Signals:
    """Return what a rank measures: not everything on each, and now and then something that is broken."""
    rng = np.random.default_rng((rank, step))
    return Signals(
        loss=float("nan") if (rank, step) == (1, 90) else float(1.0 + 0.1 * rng.normal()),
        positive_probability=float(0.9 + 0.03 * rng.normal()),
        spread=0.2 if rank == 0 else None,
        hardness_quantiles=tuple(np.sort(rng.normal(-0.3, 0.1, 5)).tolist()) if step % 2 == rank else None,
    )


def work(rank: int, folder: str) -> None:
    """Steer for some steps and write down where it ended."""
    torch.set_num_threads(1)
    store = f"file://{folder}/meet"
    dist.init_process_group("gloo", store, timeout=timedelta(seconds=30), rank=rank, world_size=N_RANKS)
    plan = Curriculum(hard=0.2, semi_hard=0.4, easy=0.2)
    adaptive = AdaptiveCurriculum(plan, moving_tiers=MovingTiers())
    for step in range(N_STEPS):
        adaptive.observe(step, all_reduced(measured(rank, step)))
    try:
        all_reduced(Signals(hardness_quantiles=(0.0,) * (rank + 1)))
        refused = ""
    except negfast.InvalidValueError as error:
        refused = str(error)
    one = all_reduced(Signals(loss=1.0 + rank, drift=0.5 if rank else None), dist.new_group([0, 1]))
    first = dist.new_group([0])
    try:
        outside = str(all_reduced(Signals(loss=float(rank)), first))
    except negfast.InvalidValueError as error:
        outside = str(error)
    result = {"state": adaptive.state_dict(), "refused": refused, "one": one.to_dict(), "outside": outside}
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


def alone_on_a_gpu() -> None:
    """All-reduce over a single rank whose backend moves what lies on the GPU only."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("nccl", f"file://{folder}/meet", rank=0, world_size=1)
        signals = Signals(loss=1 / 3, drift=float("inf"), hardness_quantiles=(-0.5, 0.1))
        assert all_reduced(signals) == signals
        dist.destroy_process_group()


def main() -> None:
    """Start both ranks and print what they wrote."""
    if sys.argv[1:] == ["nccl"]:
        alone_on_a_gpu()
        return
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (folder,), nprocs=N_RANKS)
        print(json.dumps([json.loads((Path(folder) / f"rank{rank}.json").read_text()) for rank in range(N_RANKS)]))


if __name__ == "__main__":
    main()
