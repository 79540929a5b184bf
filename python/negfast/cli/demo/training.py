"""The training of `negfast demo --train`: a static encoder learns the pairs, plainly or with everything in its place.

`examples/train_static.py` has the same loop written out, with checkpoints; a test holds both to the same bits. Here any
part can be left out, which the bench of the loop does to say what it is good for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import negfast
from negfast.cli.demo.held_out import Pairs
from negfast.signals import Signals
from negfast.torch import (
    CurriculumLoss,
    Example,
    HardBatchSampler,
    MemoryBank,
    MinedRows,
    Negatives,
    NegativeSampler,
    NegativesBatch,
    NegativesCollator,
    NegativesDataset,
    Source,
    UniformRows,
)
from negfast.torch.static_encoder import StaticEncoder

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingSettings:
    """What is trained with. Parts are left out by 0 and by False.

    Attributes
    ----------
    epochs, batch_size, dim, seed : int
    learning_rate : float
        Of Adam, which falls to nothing in a straight line, after `warmup` steps in which it rises.
    warmup : int
    temperature : float
    clean : bool
        Keep rows with a key or a group in common apart: in batches, draws, and the loss.
    hard_batches : bool
        Compose batches of mined neighbours.
    num_negatives : int
        Mined negatives of an anchor.
    bank, bank_negatives : int
        Rows of the memory bank, and how many of them an anchor gets.
    relative_margin : float or None
        Of the loss.
    curriculum : bool
        Begin with random negatives, and let measurements move temperature and tiers; else both stay.
    max_drift : float
        Mean movement of rows after which lists are mined anew, at the end of an epoch.
    observed_every : int
        Steps from one observation to the next.
    """

    epochs: int = 8
    batch_size: int = 256
    dim: int = 256
    seed: int = 0
    learning_rate: float = 1e-3
    warmup: int = 20
    temperature: float = 0.05
    clean: bool = True
    hard_batches: bool = True
    num_negatives: int = 4
    bank: int = 4096
    bank_negatives: int = 32
    relative_margin: float | None = 0.0
    curriculum: bool = True
    max_drift: float = 0.1
    observed_every: int = 10

    @classmethod
    def plain(cls, **changes: object) -> "TrainingSettings":
        """Return in-batch negatives alone, of batches as they come."""
        bare = cls(clean=False, hard_batches=False, num_negatives=0, bank=0, relative_margin=None, curriculum=False)
        return replace(bare, **changes)  # type: ignore[arg-type]

    @property
    def mines(self) -> bool:
        """Whether negatives are mined at all."""
        return self.hard_batches or self.num_negatives > 0


class Done(NamedTuple):
    """What an epoch was like.

    Attributes
    ----------
    epoch : int
    loss : float
        The mean over its steps.
    refreshes : int
        How often lists were mined anew so far.
    """

    epoch: int
    loss: float
    refreshes: int


class Training:
    """A model, what trains it, and the loop.

    Parameters
    ----------
    pairs : Pairs
    settings : TrainingSettings
    n_threads : as in :func:`negfast.mine`

    Attributes
    ----------
    model : StaticEncoder
    steps : int
        Of all epochs.
    refreshes, encoded : int
        How often lists were mined anew, and how many texts were encoded, so far.
    """

    def __init__(self, pairs: Pairs, settings: TrainingSettings, *, n_threads: int | None = None) -> None:
        import torch

        self.pairs, self.settings = pairs, settings
        n, seed = len(pairs), settings.seed
        self.model = StaticEncoder([*pairs.queries, *pairs.passages], settings.dim, seed=seed)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate, fused=True)
        labels: dict[str, Any] = {"keys": pairs.keys, "groups": pairs.groups} if settings.clean else {}
        self.batches = HardBatchSampler(n, settings.batch_size, **labels, seed=seed)
        self.steps = settings.epochs * len(self.batches)
        self.curriculum = negfast.AdaptiveCurriculum(
            plan(settings, self.steps), refresh=negfast.RefreshPolicy(max_drift=settings.max_drift)
        )
        self.loss = CurriculumLoss(self.curriculum)
        self.bank = MemoryBank(max(settings.bank, 1), settings.dim, seed=seed, n_threads=n_threads)
        self.refreshes = self.encoded = 0
        self._pairs = list(zip(pairs.queries, pairs.passages, strict=True))
        self._groups, self._keys = torch.from_numpy(pairs.groups), torch.from_numpy(pairs.keys)
        self._n_threads = n_threads
        if settings.mines:
            self._mine()

    def _mine(self) -> None:
        pairs, settings = self.pairs, self.settings
        labels: dict[str, Any] = {}
        if settings.clean:
            labels = {"groups": (pairs.groups, pairs.groups), "keys": (pairs.keys, pairs.keys)}
        rows = np.arange(len(pairs))
        rules = negfast.Rules(relative_margin=0.05 if settings.clean else None)
        self.miner = negfast.Miner(num_negatives=100, rules=rules, n_threads=self._n_threads)
        mined = self.miner.mine(*self._rows(), rows, **labels)
        stage = self.curriculum.at(0)
        self._sources: list[Source] = [MinedRows(mined), UniformRows(len(pairs))]
        self.negatives = NegativeSampler(
            self._sources,
            num_negatives=max(settings.num_negatives, 1),
            probabilities=stage.probabilities,
            min_random=stage.min_random,
            positives=rows,
            seed=settings.seed,
            n_threads=self._n_threads,
            **labels,
        )
        if settings.hard_batches:
            self.batches.update(mined)

    def _rows(self) -> tuple[Floats, Floats]:
        self.encoded += 2 * len(self.pairs)
        return self.model.encode(self.pairs.queries), self.model.encode(self.pairs.passages)

    def train(self) -> Iterator[Done]:
        """Train, an epoch for each value that is taken."""
        from torch.utils.data import DataLoader

        step = 0
        for epoch in range(self.settings.epochs):
            self.batches.set_epoch(epoch)
            if self.settings.mines:
                self._begin(epoch, step)
            losses = []
            for batch in DataLoader(self._data(), batch_sampler=self.batches, collate_fn=self._collator()):
                losses.append(self._step(step, batch))
                self.batches.consumed()
                step += 1
            yield Done(epoch, sum(losses) / max(len(losses), 1), self.refreshes)

    def _begin(self, epoch: int, step: int) -> None:
        """Bring lists, tiers and shares up to date."""
        if self.curriculum.refresh_due:
            mined = self.miner.refresh(*self._rows())
            self.curriculum.refreshed(step)
            self.refreshes += 1
            self._sources = [MinedRows(mined), UniformRows(len(self.pairs))]
            if self.settings.hard_batches:
                self.batches.update(mined)
        self.negatives.set_epoch(epoch)
        self.negatives.publish(stage=self.curriculum.at(step), sources=self._sources)

    def _data(self) -> Any:
        if self.settings.num_negatives:
            return NegativesDataset(self._pairs, self.negatives, self.pairs.passages)
        none, floats = np.empty(0, np.int64), np.empty(0, np.float32)
        parts = enumerate(self._pairs)
        return [Example(*pair, [], row, none, floats, none.astype(np.uint8), floats) for row, pair in parts]

    def _collator(self) -> NegativesCollator:
        return NegativesCollator(self.model.tokenize)

    def _step(self, step: int, batch: NegativesBatch) -> float:
        settings = self.settings
        self.optimizer.param_groups[0]["lr"] = learning_rate(settings, step, self.steps)
        anchors, documents = self.model(*batch.anchors), self.model(*batch.documents)
        self.encoded += len(anchors) + len(documents)
        positives, rows = documents[: len(batch)], batch.rows
        groups, keys = self._groups[rows], self._keys[rows]
        # Batches are clean already; what other anchors drew need not be.
        labels = {"anchor_groups": groups, "anchor_keys": keys[:, 1]} if settings.clean else {}
        negatives = []
        if settings.num_negatives:
            mined = Negatives.from_batch(batch, documents)
            if settings.clean:
                own = batch.negative_rows
                mined = replace(mined, groups=self._groups[own], keys=self._keys[own, 1])
            negatives.append(replace(mined, log_weight=None))
        if settings.bank:
            found = self.bank.hardest(
                anchors, settings.bank_negatives, exclude_ids=rows, exclude_groups=groups, exclude_keys=keys
            )
            negatives.append(Negatives(found.rows, found.ids, source="bank"))
        loss, told = self.loss(anchors, positives, negatives, step=step, statistics=True, **labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if settings.bank:
            self.bank.enqueue(positives, rows, groups, keys[:, 1])
        if settings.num_negatives:
            self.negatives.update(*told.pairs("mined"))
        if (settings.curriculum or settings.mines) and step % settings.observed_every == 0:
            self._observe(step, told.signals())
        return float(loss.detach())

    def _observe(self, step: int, signals: Signals) -> None:
        if self.settings.mines:
            some = self.miner.sampled_anchors
            self.encoded += len(some)
            vectors = self.model.encode([self.pairs.passages[row] for row in some])
            signals = replace(signals, drift=self.miner.staleness(some, vectors).drift.mean)
        if not self.settings.curriculum:
            signals = Signals(drift=signals.drift)
        self.curriculum.observe(step, signals)


SHARES: dict[str, Any] = {"hard": 0.5, "semi_hard": 0.3, "easy": 0.1}


def plan(settings: TrainingSettings, steps: int) -> negfast.Curriculum:
    """Return the curriculum: random negatives first, then more and more hard ones; or the same at every step."""
    if settings.curriculum:
        temperatures = {"temperature": settings.temperature, "final_temperature": settings.temperature}
        stages = negfast.Curriculum.random_first(max(steps, 10), **SHARES, **temperatures)
    else:
        stages = negfast.Curriculum(temperature=settings.temperature, min_random=0.1, **SHARES)
    return replace(stages, relative_margin=settings.relative_margin)


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """Return the rate of a step."""
    return settings.learning_rate * min(1.0, (step + 1) / settings.warmup) * (1.0 - step / steps)
