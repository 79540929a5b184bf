"""One process of a training by `SentenceTransformerTrainer` that two run together.

python trainer_ranks.py RANK PORT FOLDER

Accelerate finds the other one by the environment. What it saw is written to FOLDER/RANK.pt.
"""

# ruff: noqa: E402 - warnings of libraries while they load are theirs

import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

warnings.simplefilter("ignore")

import sentence_transformers as st
import torch
import trainer_runs
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

import negfast
from negfast.errors import InvalidValueError
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
    model = trainer_runs.without_card(trainer_runs.encoder())
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


def of_other_data_sets() -> dict[str, Any]:
    """Return the gradients of three losses, of which each rank has seen its own, and none the last."""
    rank = torch.distributed.get_rank()
    losses = {name: CurriculumLoss(Scaled(), learnable_temperature=True) for name in ("0", "1", "2")}
    losses[str(rank)].criterion.log_scale.grad = torch.tensor(2.0 + rank)
    curricula = {name: negfast.AdaptiveCurriculum(negfast.Curriculum()) for name in losses}
    watched = {name: CurriculumLoss(Scaled(), curriculum) for name, curriculum in curricula.items()}
    watched[str(rank)].step = 0
    watched[str(rank)]([{"rows": torch.eye(8)}, {"rows": torch.eye(8)}])
    CurriculumCallback(losses).on_pre_optimizer_step(None, None, None)
    CurriculumCallback(watched, observe_every=1).on_step_end(None, SimpleNamespace(global_step=1), None)
    told = [part.criterion.log_scale.grad for part in losses.values()]
    refused = {"0": losses["0"], "1": CurriculumLoss(Scaled(), gather_across_devices=True)}
    try:
        CurriculumCallback(refused)._check_ranks()
    except InvalidValueError as error:
        return {"gradients": told, "refused": str(error)}
    return {"gradients": told, "refused": ""}


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
    told: dict[str, Any] = {"whole": trained(run), "gathered": gathered(), "others": of_other_data_sets()}
    told["resumed"] = trained(run, resume=run / "checkpoint-8")
    torch.save(told, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
