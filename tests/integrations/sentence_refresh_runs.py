"""Trainings by `SentenceTransformerTrainer` whose lists are refreshed on the way."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import sentence_transformers as st
import torch
from refresh_parts import ANCHORS, DOCUMENTS, POSITIVES, refreshing

import negfast
from negfast.integrations.sentence_transformers import (
    CurriculumCallback,
    CurriculumLoss,
    HardBatchSampler,
    NegativesDataCollator,
    RefreshCallback,
    number_rows,
)
from tiny_models import static_encoder


class Watched(CurriculumLoss):
    """The loss; `seen` is which rows, and which negatives of each, its batches had."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.seen: list[tuple[list[int], list[list[int]]]] = []

    def forward(self, features: Any, labels: Any = None) -> torch.Tensor:
        columns = list(features)
        drawn = next((column for column in columns if "negfast_index" in column), None)
        if drawn is not None:  # there are none in evaluation
            ids, index = drawn["negfast_ids"], drawn["negfast_index"]
            own = torch.where(index < 0, index, ids[index.clamp(min=0)])
            self.seen.append((columns[0]["negfast_ids"].tolist(), own.tolist()))
        return super().forward(columns, labels)


class Run:
    """A training of two epochs; `seen` is what each of its batches was made of."""

    def __init__(
        self, folder: Path, *, policy: Any = None, curriculum: Any = None, evaluation: Any = None, **settings: Any
    ) -> None:
        torch.set_num_threads(1)
        self.model = static_encoder([*ANCHORS, *DOCUMENTS], dim=16)
        policy = negfast.RefreshPolicy(every=4) if policy is None and curriculum is None else policy
        self.refresher = refreshing(policy, curriculum=curriculum)
        self.callback = RefreshCallback(self.refresher)
        given: dict[str, Any] = {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 8,
            "learning_rate": 3e-2,
            "save_steps": 6,
            "logging_steps": 3,
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            "seed": 3,
            "batch_sampler": self.callback.batches(HardBatchSampler.factory(community=4)),
        }
        self.args = st.SentenceTransformerTrainingArguments(output_dir=str(folder), **given | settings)
        collator = NegativesDataCollator.for_training(
            self.model, self.args, sampler=self.refresher.negatives, corpus=DOCUMENTS, positives=POSITIVES
        )
        self.loss = Watched(self.model, curriculum, temperature=None if curriculum else 0.05)
        self.seen = self.loss.seen
        self.trainer = st.SentenceTransformerTrainer(
            model=self.model,
            args=self.args,
            train_dataset=number_rows(datasets.Dataset.from_dict({"anchor": ANCHORS, "positive": DOCUMENTS})),
            eval_dataset=evaluation,
            loss=self.loss,
            data_collator=collator,
            callbacks=[CurriculumCallback(self.loss, observe_every=3), self.callback],
        )

    def train(self, **arguments: Any) -> "Run":
        self.trainer.train(**arguments)
        return self

    def weights(self) -> np.ndarray:
        return torch.cat([part.detach().flatten() for part in self.model.parameters()]).numpy()
