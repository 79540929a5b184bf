"""The loop, the same for every arm: an encoder, Adam, one pass over the training pairs an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import negfast
from quality.batches import batches
from quality.draws import drawer
from quality.learner import Learner
from quality.losses import Batch, loss
from quality.miners import Lists, miner
from quality.settings import Run
from quality.tally import Tally

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """What an epoch was like.

    Attributes
    ----------
    loss : mean over its steps
    seconds : of all training so far, without evaluation
    false : share of false ones among negatives
    tiers : how many negatives of each tier were drawn
    hardness : of an adaptive curriculum
    mined : whether lists were made
    """

    step: int
    loss: float
    seconds: float
    false: dict[str, float]
    tiers: dict[str, int]
    hardness: float | None
    mined: bool


class Training:
    """Trains the model of a learner."""

    def __init__(self, learner: Learner) -> None:
        run = learner.run
        self.learner, self.run = learner, run
        self.batches = batches(learner)
        self.steps = run.epochs * len(self.batches)
        self.curriculum = curriculum(run, self.steps)
        self.miner = miner(learner)
        self.drawer = drawer(learner, self.curriculum)
        self.loss = loss(learner, self.curriculum, self.drawer)
        self.optimizer = torch.optim.Adam(learner.model.parameters(), lr=run.encoder.learning_rate, fused=True)
        self.tally = Tally(learner.keys, learner.groups)
        self.lists: Lists | None = None

    def train(self) -> Iterator[Epoch]:
        step = 0
        for number in range(self.run.epochs):
            fresh = self._mine(number, step)
            self.tally.clear()
            self.drawer.begin(number, step, self.lists if fresh else None)
            losses = []
            for pairs in self.batches.epoch(number, self.lists if fresh else None):
                losses.append(self._step(pairs, step))
                step += 1
            yield self._told(step, losses, fresh)

    def _mine(self, epoch: int, step: int) -> bool:
        if self.miner is None or not self.miner.due(epoch, step):
            return False
        self.lists = self.miner.lists(step)
        return True

    def _step(self, pairs: Ints, step: int) -> float:
        drawn = self.drawer.draw(pairs, step)
        before = self.learner.clock.total
        with self.learner.clock.on("train"):
            batch = self._embedded(pairs, drawn)
            value = self.loss(batch, step)
            self.optimizer.param_groups[0]["lr"] = learning_rate(self.run, step, self.steps)
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()
            self.loss.after(batch, step)
            inner = self.learner.clock.total - before
        self.learner.clock.seconds["train"] -= inner  # look-ups have a clock of their own
        self._count(pairs, drawn)
        return float(value.detach())

    def _embedded(self, pairs: Ints, drawn: Ints | None) -> Batch:
        """Return the batch; each row that was drawn is embedded once, and one that is a positive already not again."""
        learner, split = self.learner, self.learner.prepared
        others, index = (np.empty(0, np.int64), None) if drawn is None else distinct(pairs, drawn)
        rows = learner.rows
        learner.clock.texts["steps"] += 2 * len(pairs) + len(others)
        anchors = learner.model(split.queries, rows[pairs])
        documents = learner.model(split.passages, rows[np.concatenate([pairs, others])])
        return Batch(pairs, anchors, documents, others, index)

    def _count(self, pairs: Ints, drawn: Ints | None) -> None:
        self.tally.add_batch(pairs)
        for chosen in (drawn, self.loss.found):
            if chosen is not None:
                self.tally.add("chosen", pairs, chosen)

    def _told(self, step: int, losses: list[float], fresh: bool) -> Epoch:
        adaptive = isinstance(self.curriculum, negfast.AdaptiveCurriculum)
        return Epoch(
            step=step,
            loss=float(np.mean(losses)),
            seconds=self.learner.clock.total,
            false=self.tally.shares(),
            tiers={name: int(count) for name, count in self.drawer.tiers.items()},
            hardness=self.curriculum.hardness if adaptive else None,
            mined=fresh,
        )


def distinct(pairs: Ints, drawn: Ints) -> tuple[Ints, Ints]:
    """Return the rows that were drawn and are no positive of the batch, and where each anchor's own are, (n, k)."""
    others = np.setdiff1d(drawn[drawn >= 0], pairs)
    places = np.searchsorted(others, drawn)
    held = others[np.minimum(places, max(len(others) - 1, 0))] == drawn if len(others) else np.zeros(drawn.shape, bool)
    return others, np.where(held, places, -1)


def learning_rate(run: Run, step: int, steps: int) -> float:
    warmup = max(run.encoder.warmup * steps, 1.0)
    return run.encoder.learning_rate * min(1.0, (step + 1) / warmup) * (1.0 - step / steps)


def curriculum(run: Run, steps: int) -> Any:
    """Return what leads the tiers and the loss of negfast's arms; None for the others."""
    arm = run.arm
    if arm.loss != "negfast":
        return None
    plan = negfast.Curriculum(temperature=run.temperature)
    if arm.tiers:
        plan = negfast.Curriculum.random_first(
            max(steps, 10),
            hard=arm.hard,
            semi_hard=arm.semi_hard,
            easy=arm.easy,
            min_random=arm.min_random,
            temperature=run.temperature,
            final_temperature=run.temperature,
        )
    plan = replace(plan, relative_margin=arm.loss_margin, hardness_strength=arm.hardness_strength)
    return negfast.AdaptiveCurriculum(plan) if arm.adaptive else plan
