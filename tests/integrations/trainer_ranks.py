"""One process of a training by `SentenceTransformerTrainer` that two run together.

python trainer_ranks.py RANK PORT FOLDER

Accelerate finds the other one by the environment. What it saw is written to FOLDER/RANK.pt.
"""

# ruff: noqa: E402 - warnings of libraries while they load are theirs

import os
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import sentence_transformers as st
import torch
import trainer_runs
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from negfast.integrations.sentence_transformers import CurriculumCallback, CurriculumLoss, HardBatchSampler
from negfast.torch import MemoryBank


class Recorder(CurriculumLoss):
    """The loss, and which rows it saw."""

    seen: list[list[int]]

    def forward(self, features: Any, labels: Any = None) -> torch.Tensor:
        self.seen.append(features[0]["negfast_ids"].tolist())
        return super().forward(features, labels)


def trained(folder: Path, *, resume: Path | None = None) -> dict[str, Any]:
    """Train with a shared bank, an epoch of batches that accelerate deals out, and a learnable temperature."""
    model = trainer_runs.encoder()
    args = trainer_runs.arguments(folder, batch_sampler=HardBatchSampler, per_device_train_batch_size=8, save_steps=8)
    bank = MemoryBank(40, 16, sync="shard")
    loss = Recorder(model, bank=bank, bank_negatives=4, learnable_temperature=True, temperature=0.2)
    loss.seen = []
    trainer = st.SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=trainer_runs.table(),
        loss=loss,
        data_collator=trainer_runs.collator_of(model, args),
        callbacks=[CurriculumCallback(loss)],
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return {
        "seen": loss.seen,
        "weights": trainer_runs.weights_of(model),
        "log_scale": loss.criterion.log_scale.item(),
        "bank": bank.state_dict(),
        "steps": trainer.state.global_step,
    }


def gathered() -> list[tuple[float, torch.Tensor, float, torch.Tensor]]:
    """Return the loss over both ranks and its gradient, ours and theirs, for columns of each kind."""
    rank, found = torch.distributed.get_rank(), []
    for n_columns in (2, 4):
        torch.manual_seed(10 + rank)
        rows = [torch.randn(6, 8) for _ in range(n_columns)]
        pair = []
        for kind in (CurriculumLoss, MultipleNegativesRankingLoss):
            model = Scaled()
            loss = kind(model, gather_across_devices=True)([{"rows": part} for part in rows], None)
            loss.backward()
            pair += [loss.item(), model.weight.grad.clone()]
        found.append(tuple(pair))
    return found


class Scaled(torch.nn.Module):
    """Rows that are multiplied by a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(8) + 0.1)

    def forward(self, features: Any) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": features["rows"] @ self.weight}


def main(rank: str, port: str, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    run = Path(folder) / "run"
    told: dict[str, Any] = {"whole": trained(run), "gathered": gathered()}
    told["resumed"] = trained(run, resume=run / "checkpoint-8")
    torch.save(told, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
