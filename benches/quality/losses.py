"""What a step is trained by: each library's loss, at the same temperature."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

import negfast
from negfast.torch import CurriculumLoss, MemoryBank, Negatives
from quality.draws import Tiered
from quality.learner import Learner

Ints = npt.NDArray[np.int64]
_OBSERVED_EVERY = 10  # steps from one observation of an adaptive curriculum to the next


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of b anchors.

    Attributes
    ----------
    pairs : int64 (b,)
    anchors : float32 (b, dim)
    documents : float32 (b + m, dim), the positives, then each other row that was drawn, once
    drawn : int64 (m,), the pairs that these are
    index : int64 (b, k), places in `drawn` of each anchor's own, -1 for none; None if nothing is drawn
    """

    pairs: Ints
    anchors: torch.Tensor
    documents: torch.Tensor
    drawn: Ints
    index: Ints | None


class Loss(Protocol):
    """Returns the loss of a step; `found` are rows that an anchor got beside those that were drawn, (b, k)."""

    found: Ints | None

    def __call__(self, batch: Batch, step: int) -> torch.Tensor: ...

    def after(self, batch: Batch, step: int) -> None:
        """Remember what later steps need, once the model was changed."""
        ...


class InBatch:
    """Cross-entropy over all documents of the batch, as sentence-transformers' MultipleNegativesRankingLoss has it.

    It knows no labels: another passage of the anchor's group, or the very same text, counts as a negative. A row that
    several anchors drew, or that is a positive of the batch, is there once.
    """

    found: Ints | None = None

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, batch: Batch, step: int) -> torch.Tensor:  # noqa: ARG002
        logits = batch.anchors @ batch.documents.T / self.temperature
        return cross_entropy(logits, torch.arange(len(batch.pairs)))

    def after(self, batch: Batch, step: int) -> None: ...


class CrossBatch(InBatch):
    """pytorch-metric-learning's CrossBatchMemory: anchors against passages of late batches, beside those of their own.

    With one positive SupConLoss is the InfoNCE of NTXentLoss, which lists all pairs and takes seconds for a step.
    """

    def __init__(self, temperature: float, dim: int, memory: int) -> None:
        from pytorch_metric_learning.losses import CrossBatchMemory, SupConLoss

        super().__init__(temperature)
        self.loss = CrossBatchMemory(SupConLoss(temperature), embedding_size=dim, memory_size=memory)

    def __call__(self, batch: Batch, step: int) -> torch.Tensor:
        b = len(batch.pairs)
        labels = torch.from_numpy(np.concatenate([batch.pairs, batch.pairs]))
        # The passages of the batch are enqueued without a gradient, so the loss over the batch itself is added.
        embeddings = torch.cat([batch.anchors, batch.documents[:b]])
        late = self.loss(embeddings, labels, enqueue_mask=torch.arange(2 * b) >= b)
        return super().__call__(batch, step) + late


class Negfast:
    """CurriculumLoss over the batch, what was drawn, and what a bank holds; labelled rows are masked."""

    def __init__(self, learner: Learner, curriculum: Any, drawer: Any) -> None:
        arm, run = learner.run.arm, learner.run
        self.learner, self.curriculum, self.drawer = learner, curriculum, drawer
        self.loss = CurriculumLoss(curriculum, directions=arm.directions, partition_mode=arm.partition_mode)
        self.bank: MemoryBank | None = None
        if arm.bank:
            self.bank = MemoryBank(arm.bank, learner.model.dim, seed=run.seed, n_threads=run.threads)
        self.labels = {name: torch.from_numpy(each) for name, each in learner.labels.items()}
        self.found: Ints | None = None
        self._told: Any = None

    def __call__(self, batch: Batch, step: int) -> torch.Tensor:
        b = len(batch.pairs)
        pairs = torch.from_numpy(batch.pairs)
        own = self._labels(pairs)
        negatives = [self._drawn(batch)] if batch.index is not None else []
        if self.bank is not None:
            negatives.append(self._found(batch, own))
        labels: dict[str, Any] = {f"{side}_{name}": own[name] for side in ("anchor", "positive") for name in own}
        if own:
            labels["anchor_keys"] = self.labels["keys"][pairs, 0]
        told = self._observes(step)
        value = self.loss(
            batch.anchors, batch.documents[:b], negatives, step=step, positive_ids=pairs, statistics=told, **labels
        )
        if told:
            value, self._told = value
        return value

    def after(self, batch: Batch, step: int) -> None:
        if self.bank is not None:
            with self.learner.clock.on("look up"):
                self.bank.enqueue(batch.documents[: len(batch.pairs)], batch.pairs, **self._labels(batch.pairs))
        if self._told is not None:
            if isinstance(self.drawer, Tiered) and batch.index is not None:
                self.drawer.update(*self._told.pairs("mined"))
            if isinstance(self.curriculum, negfast.AdaptiveCurriculum):
                self.curriculum.observe(step, self._told.signals())
            self._told = None

    def _observes(self, step: int) -> bool:
        return self.learner.run.arm.adaptive and step % _OBSERVED_EVERY == 0

    def _labels(self, pairs: Any) -> dict[str, torch.Tensor]:
        """Return groups of some pairs, and the keys of their passages, unless the arm withholds them."""
        if not self.labels:
            return {}
        return {"groups": self.labels["groups"][pairs], "keys": self.labels["keys"][pairs, 1]}

    def _drawn(self, batch: Batch) -> Negatives:
        ids = torch.from_numpy(batch.drawn)
        rows = batch.documents[len(batch.pairs) :]
        index = None if batch.index is None else torch.from_numpy(batch.index)
        return replace(Negatives(rows, ids, index=index), **self._labels(ids))

    def _found(self, batch: Batch, own: dict[str, torch.Tensor]) -> Negatives:
        assert self.bank is not None
        excluded: dict[str, Any] = {f"exclude_{name}": label for name, label in own.items()}
        if own:  # both texts of an anchor say what it must not get
            excluded["exclude_keys"] = self.labels["keys"][batch.pairs]
        k = self.learner.run.arm.bank_negatives
        with self.learner.clock.on("look up"):
            found = self.bank.hardest(batch.anchors.detach(), k, exclude_ids=batch.pairs, **excluded)
        self.found = found.ids.numpy()
        return Negatives(found.rows, found.ids, source="bank")


def loss(learner: Learner, curriculum: Any, drawer: Any) -> Loss:
    run = learner.run
    match run.arm.loss:
        case "in-batch":
            return InBatch(run.temperature)
        case "cross-batch memory":
            return CrossBatch(run.temperature, learner.model.dim, run.arm.memory)
        case _:
            return Negfast(learner, curriculum, drawer)
