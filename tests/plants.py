"""Simulated learners for tests of a controller: each says what is measured at a step under a hardness."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import negfast
from negfast import Signals

Plant = Callable[[int, float], Signals]
CURRICULUM = negfast.Curriculum.random_first(100)


def train(
    plant: Plant, n: int, *, begin: int = 0, adaptive: negfast.AdaptiveCurriculum | None = None, **settings: Any
) -> tuple[negfast.AdaptiveCurriculum, NDArray[np.float64]]:
    """Let an adaptive curriculum steer a plant, and return it with its hardness after each observation."""
    adaptive = adaptive or negfast.AdaptiveCurriculum(CURRICULUM, log_size=10**6, **settings)
    path = []
    for step in range(begin, n):
        adaptive.observe(step, plant(step, adaptive.hardness))
        path.append(adaptive.hardness)
    return adaptive, np.array(path)


def limited(value: float) -> float:
    """Return a probability."""
    return min(max(value, 0.0), 1.0)


@dataclass
class Learner:
    """Learns from what is neither trivial nor hopeless: where negatives stay as they are it stalls."""

    seed: int
    noise: float = 0.02
    skill: float = 0.0
    probability: float = 0.0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, _step: int, hardness: float) -> Signals:
        self.probability = 1.0 / (1.0 + math.exp(2.5 * hardness + 1.0 - self.skill))
        self.skill += 0.05 * self.probability * (1.0 - self.probability)
        return Signals(
            loss=-math.log(self.probability) * math.exp(self.rng.normal(0.0, 0.05)),
            positive_probability=limited(self.probability + self.rng.normal(0.0, self.noise)),
        )


@dataclass
class Collapser:
    """Finds everything easy, and collapses where it is pushed beyond an edge; it comes back where it is not."""

    seed: int
    edge: float = 0.4
    spread: float = 0.1
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, _step: int, hardness: float) -> Signals:
        pushed = hardness - self.edge
        self.spread += 0.05 * pushed * (1.0 - self.spread) if pushed > 0.0 else -0.03 * (self.spread - 0.1)
        return Signals(
            loss=1.0 + self.rng.normal(0.0, 0.05),
            positive_probability=limited(0.95 + self.rng.normal(0.0, 0.02)),
            spread=limited(self.spread + self.rng.normal(0.0, 0.005)),
        )


@dataclass
class Lagging:
    """A share of the positive that follows hardness late: by a delay, and then over `lag` observations."""

    gain: float
    lag: float
    delay: int
    seed: int = 0
    share: float = 0.9
    past: list[float] = field(default_factory=list)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, _step: int, hardness: float) -> Signals:
        self.past.append(hardness)
        then = self.past[max(len(self.past) - 1 - self.delay, 0)]
        self.share += (1.0 - self.gain * then - self.share) / self.lag
        return Signals(positive_probability=limited(self.share + self.rng.normal(0.0, 0.02)))


@dataclass
class Noise:
    """Measurements that say nothing."""

    seed: int
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, _step: int, _hardness: float) -> Signals:
        draw = self.rng.normal(0.0, 1.0, 7)
        return Signals(
            loss=1.0 + 0.1 * draw[0],
            positive_distance=0.3 + 0.03 * draw[1],
            negative_distance=0.8 + 0.08 * draw[2],
            effective_negatives=20.0 + 3.0 * draw[3],
            positive_probability=limited(0.7 + 0.1 * draw[4]),
            false_negative_share=limited(0.1 + 0.03 * draw[5]),
            spread=limited(0.2 + 0.05 * draw[6]),
        )
