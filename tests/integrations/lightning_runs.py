"""Fits by the trainer of Lightning whose lists are refreshed on the way."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from refresh_parts import ANCHORS, DOCUMENTS, refreshing
from torch.utils.data import DataLoader

import negfast
from negfast.integrations.lightning import RefreshCallback, StatisticsCallback
from negfast.torch import (
    CurriculumLoss,
    HardBatchSampler,
    Negatives,
    NegativesBatch,
    NegativesCollator,
    NegativesDataset,
)
from negfast.torch.static_encoder import StaticEncoder

KEYS = negfast.content_keys([ANCHORS, DOCUMENTS])


class Module(pl.LightningModule):
    """A small encoder; `seen` is what each of its batches was made of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = StaticEncoder([*ANCHORS, *DOCUMENTS], dim=16, buckets=512)
        self.criterion = CurriculumLoss(temperature=0.05)
        self.seen: list[tuple[list[int], list[int]]] = []
        self.told: Any = None

    def training_step(self, batch: NegativesBatch, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        own = batch.negative_rows[batch.negative_index].tolist()
        self.seen.append((batch.rows.tolist(), own))
        anchors, documents = self.encoder(*batch.anchors), self.encoder(*batch.documents)
        mined = Negatives.from_batch(batch, documents)
        loss, self.told = self.criterion(anchors, documents[: len(anchors)], [mined], statistics=True)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-2)


class Run:
    """A fit of two epochs, with a checkpoint every so many steps."""

    def __init__(
        self, folder: Path, *, workers: int = 0, policy: Any = None, save_every: int = 5, **settings: Any
    ) -> None:
        torch.set_num_threads(1)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.folder, self.module = folder, Module()
        self.refresher = refreshing(negfast.RefreshPolicy(every=4) if policy is None else policy)
        self.callback = RefreshCallback(self.refresher, self.module.encoder.encode)
        batches = self.refresher.batches(HardBatchSampler(len(ANCHORS), 8, keys=KEYS, community=4, seed=3))
        data = NegativesDataset(list(zip(ANCHORS, DOCUMENTS, strict=True)), self.refresher.negatives, DOCUMENTS)
        self.loader = DataLoader(
            data,
            batch_sampler=batches,
            collate_fn=NegativesCollator(self.module.encoder.tokenize),
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.save_every, self.settings = save_every, settings
        self.trainer = self.made_trainer()

    def made_trainer(self) -> pl.Trainer:
        saves = ModelCheckpoint(self.folder, every_n_train_steps=self.save_every, save_top_k=-1, filename="{step}")
        return pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            devices=1,
            callbacks=[self.callback, StatisticsCallback({"loss": lambda: self.module.told}), saves],
            logger=CSVLogger(self.folder),
            log_every_n_steps=2,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **self.settings,
        )

    def fit(self, **arguments: Any) -> "Run":
        pl.seed_everything(5, verbose=False)
        self.trainer.fit(self.module, self.loader, **arguments)
        return self

    def weights(self) -> torch.Tensor:
        return torch.cat([part.detach().flatten() for part in self.module.parameters()])
