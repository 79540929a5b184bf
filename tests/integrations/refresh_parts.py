"""Texts, and what is refreshed while trainers train on them."""

from typing import Any

import numpy as np

import negfast
from negfast.cli.demo.installed_code import gather
from negfast.torch import LiveRows, NegativeSampler, Refresher, UniformRows

CODE = gather(limit=90)
ANCHORS = list(CODE.queries)
DOCUMENTS = [passage[:300] for passage in CODE.passages]
POSITIVES = np.arange(len(ANCHORS))
WIDTH = 20


def refreshing(policy: Any, **settings: Any) -> Refresher:
    """Return a refresher with a sampler, whose lists are mined when training begins."""
    sources = [LiveRows.empty(len(ANCHORS), len(DOCUMENTS), width=WIDTH), UniformRows(len(DOCUMENTS))]
    shares: dict[str, Any] = {"probabilities": {"hard": 0.5, "semi_hard": 0.2, "easy": 0.1}, "min_random": 0.2}
    sampler = NegativeSampler(sources, num_negatives=3, positives=POSITIVES, seed=1, **shares)
    miner = negfast.Miner(num_negatives=WIDTH, reserve=40)
    given: dict[str, Any] = {"positives": POSITIVES, "policy": policy, "sample": 40, "look_every": 2}
    return Refresher(ANCHORS, DOCUMENTS, miner, sampler, **given | settings)
