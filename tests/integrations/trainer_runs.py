"""Trainings by `SentenceTransformerTrainer` that are small enough for tests."""

from pathlib import Path
from typing import Any

import datasets
import sentence_transformers as st
import torch

import negfast
from negfast.integrations.sentence_transformers import (
    CurriculumCallback,
    CurriculumLoss,
    HardBatchSampler,
    NegativesDataCollator,
    number_rows,
)
from negfast.torch import MemoryBank, MinedRows, NegativeSampler, UniformRows
from tiny_models import code_pairs, static_encoder

PAIRS = list(dict.fromkeys(code_pairs(80)))
ANCHORS, DOCUMENTS = [anchor for anchor, _ in PAIRS], [document for _, document in PAIRS]
POSITIVES = [[j for j, pair in enumerate(PAIRS) if pair[0] == anchor] for anchor in ANCHORS]


def table() -> Any:
    return number_rows(datasets.Dataset.from_dict({"anchor": ANCHORS, "positive": DOCUMENTS}))


def encoder(**arguments: Any) -> Any:
    return static_encoder([*ANCHORS, *DOCUMENTS], dim=16, **arguments)


def arguments(folder: Path, **settings: Any) -> Any:
    given = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-2,
        "save_steps": 5,
        "logging_steps": 2,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    }
    return st.SentenceTransformerTrainingArguments(output_dir=str(folder), **given | settings)


def mined_with(model: Any) -> negfast.MinedNegatives:
    rows = [model.encode(texts, show_progress_bar=False) for texts in (ANCHORS, DOCUMENTS)]
    return negfast.mine(*rows, POSITIVES, num_negatives=20)


def sampler_of(mined: negfast.MinedNegatives, *, random: bool = True, **settings: Any) -> NegativeSampler:
    given: dict[str, Any] = {
        "probabilities": {"hard": 0.5, "semi_hard": 0.2, "easy": 0.1},
        "min_random": 0.2,
        "num_negatives": 3,
        "positives": POSITIVES,
        "seed": 1,
    }
    sources = [MinedRows(mined), *([UniformRows(len(DOCUMENTS))] if random else [])]
    return NegativeSampler(sources, **given | settings, n_rows=len(DOCUMENTS))


def collator_of(model: Any, args: Any, sampler: Any = None, **settings: Any) -> NegativesDataCollator:
    if sampler is not None:
        settings = {"sampler": sampler, "corpus": DOCUMENTS, "positives": POSITIVES} | settings
    return NegativesDataCollator.for_training(model, args, **settings)


def weights_of(model: Any) -> torch.Tensor:
    return torch.cat([part.detach().flatten() for part in model.parameters()])


class Run:
    """A training with loss, collator, sampler and bank."""

    def __init__(
        self, folder: Path, *, callbacks: Any = None, model: Any = None, eval_dataset: Any = None, **settings: Any
    ) -> None:
        torch.set_num_threads(1)
        self.model = encoder() if model is None else model
        self.args = arguments(folder, **{"batch_sampler": HardBatchSampler} | settings)
        self.sampler = sampler_of(mined_with(encoder()))
        self.collator = collator_of(self.model, self.args, self.sampler, log_weight=False)
        curriculum = negfast.AdaptiveCurriculum(
            negfast.Curriculum.random_first(12, hard=0.4, semi_hard=0.3, easy=0.2, final_temperature=0.05)
        )
        self.bank = MemoryBank(48, 16, seed=2)
        self.loss = CurriculumLoss(self.model, curriculum, bank=self.bank, bank_negatives=4)
        self.trainer = st.SentenceTransformerTrainer(
            model=self.model,
            args=self.args,
            train_dataset=table(),
            eval_dataset=eval_dataset,
            loss=self.loss,
            data_collator=self.collator,
            callbacks=[CurriculumCallback(self.loss, observe_every=3)] if callbacks is None else callbacks,
        )
