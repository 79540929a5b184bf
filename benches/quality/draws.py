"""Which negatives an anchor gets in a step, of those that were proposed for it."""

from collections import Counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

import negfast
from negfast.torch import MinedRows, NegativeSampler, UniformRows
from quality.learner import Learner
from quality.miners import Lists

Ints = npt.NDArray[np.int64]
_RANDOM = 2  # stream of random numbers of a seed; 1 is that of the order of the data
TIERS = ("unknown", "easy", "semi_hard", "hard")


class Drawer(Protocol):
    """Draws; `tiers` counts what was drawn in the epoch, by hardness, where it is known."""

    tiers: Counter[str]

    def begin(self, epoch: int, step: int, lists: Lists | None) -> None:
        """Go to an epoch; `lists` are new ones, if there are any."""
        ...

    def draw(self, pairs: Ints, step: int) -> Ints | None:
        """Return negatives of these anchors, (n, k), -1 for none."""
        ...


class Nothing:
    """No negatives but those of the batch."""

    def __init__(self) -> None:
        self.tiers: Counter[str] = Counter()

    def begin(self, epoch: int, step: int, lists: Lists | None) -> None: ...

    def draw(self, pairs: Ints, step: int) -> Ints | None: ...


class Random(Nothing):
    """Any rows at all."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def begin(self, epoch: int, step: int, lists: Lists | None) -> None:  # noqa: ARG002
        self.rng = np.random.default_rng((self.learner.run.seed, _RANDOM, epoch))

    def draw(self, pairs: Ints, step: int) -> Ints:  # noqa: ARG002
        return self.rng.integers(0, len(self.learner), (len(pairs), self.learner.run.arm.num_negatives))


class First(Nothing):
    """The first rows of each list."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.ids: Ints | None = None

    def begin(self, epoch: int, step: int, lists: Lists | None) -> None:  # noqa: ARG002
        if lists is not None:
            self.ids = lists.ids[:, : self.k]

    def draw(self, pairs: Ints, step: int) -> Ints | None:  # noqa: ARG002
        return None if self.ids is None else self.ids[pairs]


class Tiered(Nothing):
    """By tier, in shares that a curriculum says."""

    def __init__(self, learner: Learner, curriculum: negfast.Curriculum | negfast.AdaptiveCurriculum) -> None:
        super().__init__()
        self.learner, self.curriculum = learner, curriculum
        self.sampler: NegativeSampler | None = None

    def begin(self, epoch: int, step: int, lists: Lists | None) -> None:
        self.tiers.clear()
        with self.learner.clock.on("draw"):
            if lists is not None:
                self._propose([MinedRows(lists.mined), UniformRows(len(self.learner))])
            if self.sampler is not None:
                self.sampler.set_epoch(epoch)
                self.sampler.publish(stage=self.curriculum.at(step))

    def _propose(self, sources: list[MinedRows | UniformRows]) -> None:
        if self.sampler is not None:
            self.sampler.publish(sources=sources)
            return
        run, stage = self.learner.run, self.curriculum.at(0)
        self.sampler = NegativeSampler(
            sources,
            num_negatives=run.arm.num_negatives,
            probabilities=stage.probabilities,
            min_random=stage.min_random,
            positives=np.arange(len(self.learner)),
            seed=run.seed,
            n_threads=run.threads,
            **{name: (each, each) for name, each in self.learner.labels.items()},
        )

    def draw(self, pairs: Ints, step: int) -> Ints | None:
        if self.sampler is None:
            return None
        with self.learner.clock.on("draw"):
            drawn = self.sampler.draw(pairs, step)
        self.tiers.update({TIERS[tier]: count for tier, count in enumerate(np.bincount(drawn.tiers[drawn.ids >= 0]))})
        return drawn.ids

    def update(self, ids: object, mass: object) -> None:
        """Tell the sampler what drawn rows made up of the loss."""
        if self.sampler is not None:
            self.sampler.update(ids, mass)


def drawer(learner: Learner, curriculum: negfast.Curriculum | negfast.AdaptiveCurriculum | None) -> Drawer:
    arm = learner.run.arm
    if arm.source == "none" or arm.num_negatives == 0:
        return Nothing()
    if arm.source == "random":
        return Random(learner)
    if arm.tiers and curriculum is not None:
        return Tiered(learner, curriculum)
    return First(arm.num_negatives)
