"""A model that moves, and a refresher of small lists, for tests."""

from typing import Any

import numpy as np

import negfast
from negfast.torch import LiveRows, NegativeSampler, Refresher, UniformRows

QUERIES = [f"q{i}" for i in range(40)]
CORPUS = [f"d{i}" for i in range(60)]
POSITIVES = np.arange(40)
WIDTH = 6


class Model:
    """Rows of texts, which move with every step; it counts what it encodes."""

    def __init__(self, speed: float = 0.05) -> None:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((2, 60, 8)).astype(np.float32)
        rows[0] = rows[1] + 0.4 * rows[0]
        self._rows, self._ways = rows, rng.standard_normal(rows.shape).astype(np.float32)
        self.speed, self.step, self.encoded = speed, 0, 0

    def __call__(self, texts: list[str]) -> Any:
        self.encoded += len(texts)
        side, numbers = int(texts[0][0] == "d"), [int(text[1:]) for text in texts]
        return self._rows[side, numbers] + self.speed * self.step * self._ways[side, numbers]

    def both(self) -> tuple[Any, Any]:
        return self(QUERIES), self(CORPUS)


def refresher_of(**settings: Any) -> Refresher:
    lists = LiveRows.empty(len(QUERIES), len(CORPUS), WIDTH)
    shares: dict[str, Any] = {"probabilities": {"hard": 0.3, "easy": 0.3}, "min_random": 0.3}
    sampler = NegativeSampler([lists, UniformRows(60)], num_negatives=4, positives=POSITIVES, seed=2, **shares)
    given: dict[str, Any] = {"positives": POSITIVES, "policy": negfast.RefreshPolicy(every=3)}
    return Refresher(QUERIES, CORPUS, negfast.Miner(num_negatives=WIDTH), sampler, **given | settings)
