"""Publishes to the workers of a data loader while they run: what a worker that is spawned can import."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

import negfast
from negfast.integrations.sentence_transformers import NegativesDataCollator
from negfast.torch import MinedRows, NegativeSampler

N = 40
CORPUS = [f"document {row}" for row in range(N)]


def lengths(texts: list[str], prompt: str | None = None, task: str | None = None) -> dict[str, Any]:
    """Be a tokenizer that a spawned worker can import."""
    del prompt, task
    return {"input_ids": torch.tensor([[len(text)] for text in texts])}


def mined() -> negfast.MinedNegatives:
    rows = np.random.default_rng(0).standard_normal((N, 8)).astype(np.float32)
    return negfast.mine(rows, rows, np.arange(N), num_negatives=10, rules=negfast.Rules(relative_margin=None))


def check(method: str) -> None:
    """Draw the first of each list, then, published amid an epoch, the sixth, and in the next epoch the third."""
    lists, tiers = mined(), negfast.Tiers(hard=3.0, semi_hard=2.5)
    sampler = NegativeSampler(
        [MinedRows(lists)],
        num_negatives=1,
        probabilities={"easy": 1.0},
        min_random=0.0,
        positives=np.arange(N),
        tiers=tiers,
        window=(0, 1),
    )
    collator = NegativesDataCollator(lengths, sampler=sampler, corpus=CORPUS, positives=np.arange(N))
    rows = [{"anchor": f"query {row}", "positive": CORPUS[row], "row": row} for row in range(N)]
    loader: Any = DataLoader(
        rows,
        1,
        collate_fn=collator,
        num_workers=1,
        multiprocessing_context=method,
        persistent_workers=True,
        timeout=60,
    )
    ranks = []
    for epoch in range(2):
        if epoch:
            sampler.publish(window=(2, 3))
        for place, batch in enumerate(loader):
            row, drawn = batch["anchor_negfast_ids"].item(), batch["negfast_drawn_negfast_ids"].item()
            ranks.append(lists.indices[row].tolist().index(drawn))
            if epoch == 0 and place == 3:
                sampler.publish(window=(5, 6))
    assert set(ranks[:4]) == {0}, ranks
    assert set(ranks[4:N]) <= {0, 5}, ranks
    assert set(ranks[4 + 2 : N]) == {5}, ranks  # but for those that were made ahead
    assert set(ranks[N:]) == {2}, ranks
