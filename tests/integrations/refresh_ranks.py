"""One process of a training by `SentenceTransformerTrainer` that two run together, with a refresh on the way.

python refresh_ranks.py RANK PORT FOLDER

Accelerate finds the other one by the environment. What it saw is written to FOLDER/RANK.pt.
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


def told(run: Run) -> dict[str, Any]:
    return {
        "seen": run.seen,
        "weights": torch.from_numpy(run.weights()),
        "lists": torch.from_numpy(run.refresher.mined.indices),  # type: ignore[union-attr]
        "events": [str(event) for event in run.callback.events],
        "mines": run.refresher.miner.is_mined,
    }


def main(rank: str, port: str, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    path = Path(folder) / "run"
    settings: dict[str, Any] = {"per_device_train_batch_size": 4, "save_steps": 5}
    whole = told(Run(path, **settings).train())
    resumed = told(Run(path, **settings).train(resume_from_checkpoint=str(path / "checkpoint-5")))
    torch.save({"whole": whole, "resumed": resumed}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
