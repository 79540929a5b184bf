"""A training by `SentenceTransformerTrainer` that two processes run together, with a refresh on the way.

python refresh_ranks.py PORT FOLDER

Accelerate finds the other one by the environment. What each saw is written to FOLDER/RANK.pt.
"""

# ruff: noqa: E402 - warnings of libraries while they load are theirs

import os
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import torch
from sentence_refresh_runs import Run
from torch.multiprocessing import get_all_start_methods, start_processes


def told(run: Run) -> dict[str, Any]:
    return {
        "seen": run.seen,
        "weights": torch.from_numpy(run.weights()),
        "lists": torch.from_numpy(run.refresher.mined.indices),  # type: ignore[union-attr]
        "events": [str(event) for event in run.callback.events],
        "mines": run.refresher.miner.is_mined,
    }


def train(rank: int, port: str, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    path = Path(folder) / "run"
    settings: dict[str, Any] = {"per_device_train_batch_size": 4, "save_steps": 5}
    whole = told(Run(path, **settings).train())
    resumed = told(Run(path, **settings).train(resume_from_checkpoint=str(path / "checkpoint-5")))
    torch.save({"whole": whole, "resumed": resumed}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    # Forked ones need not import everything again.
    start = "fork" if sys.platform == "linux" and "fork" in get_all_start_methods() else "spawn"
    start_processes(train, (sys.argv[1], sys.argv[2]), nprocs=2, start_method=start)
