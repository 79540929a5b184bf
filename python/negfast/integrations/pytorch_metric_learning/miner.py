"""A miner for the losses of pytorch-metric-learning."""

from typing import Any

import torch
from pytorch_metric_learning.miners import BaseMiner

from negfast import threads
from negfast.integrations.pytorch_metric_learning.batch import Batch, checked_batch
from negfast.integrations.pytorch_metric_learning.blocks import by_torch
from negfast.integrations.pytorch_metric_learning.choice import (
    Form,
    TripletType,
    Used,
    checked_choice,
    compiled_measure,
)
from negfast.integrations.pytorch_metric_learning.compiled import Found, by_core, can_read
from negfast.settings import Rules

_NO_MARGIN = Rules(relative_margin=None)


class NegfastMiner(BaseMiner):
    def __init__(
        self,
        margin: float = 0.2,
        type_of_triplets: TripletType = "all",
        *,
        num_negatives: int | None = 8,
        positives: Used = "all",
        tuples: Form = "triplets",
        rules: Rules = _NO_MARGIN,
        distance: Any = None,
        collect_stats: bool | None = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(distance=distance, collect_stats=collect_stats)
        self.choice = checked_choice(margin, type_of_triplets, positives, tuples, num_negatives, rules)
        self.margin, self.num_negatives = self.choice.margin, self.choice.num_negatives
        if n_threads is not None:
            threads.resolve(n_threads)
        self._n_threads = n_threads
        self.add_to_recordable_attributes(list_of_names=["margin", "num_negatives"], is_stat=False)
        self.add_to_recordable_attributes(
            list_of_names=["avg_triplet_margin", "pos_pair_dist", "neg_pair_dist"], is_stat=True
        )

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        ref_emb: torch.Tensor | None = None,
        ref_labels: torch.Tensor | None = None,
        *,
        groups: Any = None,
        keys: Any = None,
    ) -> tuple[torch.Tensor, ...]:
        self.reset_stats()
        batch = checked_batch(embeddings, labels, ref_emb, ref_labels, groups, keys)
        with torch.no_grad():
            found = self._find(batch)
        self._note(found)
        self.output_assertion(found.tuples)
        return found.tuples

    def mine(self, embeddings: Any, labels: Any, ref_emb: Any, ref_labels: Any) -> tuple[torch.Tensor, ...]:
        return self._find(checked_batch(embeddings, labels, ref_emb, ref_labels, None, None)).tuples

    def _find(self, batch: Batch) -> Found:
        measure = compiled_measure(self.distance)
        if measure is None or not can_read(batch):
            return by_torch(batch, self.choice, self.distance)
        if self.distance.collect_stats:
            unit = [self.distance.maybe_normalize(rows) for rows in (batch.anchors, batch.rows)]
            self.distance.reset_stats()
            self.distance.set_default_stats(batch.anchors, batch.rows, *unit)
        return by_core(batch, self.choice, measure, threads.resolve(self._n_threads))

    def _note(self, found: Found) -> None:
        if self.collect_stats and found.n_triplets:
            sign = 1.0 if self.distance.is_inverted else -1.0
            positive, negative = found.positives / found.n_triplets, found.negatives / found.n_triplets
            self.pos_pair_dist, self.neg_pair_dist = sign * positive, sign * negative
            self.avg_triplet_margin = positive - negative
