"""Which anchors meet in a step."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from negfast.torch import HardBatchSampler
from quality.learner import Learner
from quality.miners import Lists

Ints = npt.NDArray[np.int64]
_ORDER = 1  # stream of random numbers of a seed


class Batches(Protocol):
    """Composes the batches of an epoch; `len` is how many there are."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, lists: Lists | None) -> Iterator[Ints]: ...


class Shuffled:
    """Full batches in an order that depends on the seed and the epoch alone, so that it is the same for all arms."""

    def __init__(self, n: int, size: int, seed: int) -> None:
        self.n, self.size, self.seed = n, size, seed

    def __len__(self) -> int:
        return self.n // self.size

    def epoch(self, epoch: int, lists: Lists | None) -> Iterator[Ints]:  # noqa: ARG002
        order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(self.n)
        for batch in range(len(self)):
            yield order[batch * self.size : (batch + 1) * self.size]


class Hard:
    """negfast's, of mined neighbours."""

    def __init__(self, learner: Learner) -> None:
        run = learner.run
        self.learner = learner
        self.sampler = HardBatchSampler(
            len(learner),
            run.batch_size,
            **learner.labels,
            community=run.arm.community,
            random_share=run.arm.random_share,
            seed=run.seed,
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, lists: Lists | None) -> Iterator[Ints]:
        with self.learner.clock.on("draw"):
            self.sampler.set_epoch(epoch)
            if lists is not None and lists.mined is not None:
                self.sampler.update(lists.mined)
            composed = list(self.sampler)
        yield from (np.array(batch) for batch in composed)


def batches(learner: Learner) -> Batches:
    run = learner.run
    return Hard(learner) if run.arm.hard_batches else Shuffled(len(learner), run.batch_size, run.seed)
