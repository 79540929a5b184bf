"""Batches with everything in them, for tests of the loss."""

from typing import Any

import torch

from negfast.torch import Negatives

LABELS = (
    "positive_mask",
    "anchor_ids",
    "anchor_groups",
    "anchor_keys",
    "positive_ids",
    "positive_groups",
    "positive_keys",
    "known_positives",
    "in_batch_log_weight",
    "mask",
)


def make(seed: int, b: int = 5, n_positives: int = 1, dim: int = 6, n: int = 7, m: int = 3) -> dict[str, Any]:
    """Return a case: rows, labels, shared mined negatives and each anchor's own."""
    rng = torch.Generator().manual_seed(seed)

    def rows(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    def labels(*shape: int, most: int = 12) -> torch.Tensor:
        return torch.randint(-1, most, shape, generator=rng)

    anchors = rows(b, dim)
    positives = anchors[:, None] + 0.8 * rows(b, n_positives, dim)
    positive_mask = torch.rand(b, n_positives, generator=rng) < 0.8
    positive_mask[:, 0] |= torch.arange(b) > 0  # the first anchor may have none
    index = torch.stack([torch.randperm(n, generator=rng)[:m] for _ in range(b)])
    index[torch.rand(b, m, generator=rng) < 0.2] = -1
    mask = torch.rand(b, b * n_positives, generator=rng) < 0.9
    for i in range(b):
        mask[i, i * n_positives : (i + 1) * n_positives] = True
    return {
        "anchors": anchors,
        "positives": positives,
        "positive_mask": positive_mask,
        "anchor_ids": labels(b, most=8),
        "anchor_groups": labels(b),
        "anchor_keys": labels(b),
        "positive_ids": labels(b, n_positives, most=30),
        "positive_groups": labels(b, n_positives, most=30),
        "positive_keys": labels(b, n_positives, most=30),
        "known_positives": labels(b, 2, most=30),
        "in_batch_log_weight": rows(b, n_positives),
        "mask": mask,
        "negatives": [
            {
                "rows": rows(n, dim),
                "ids": labels(n, most=30),
                "groups": labels(n, most=30),
                "keys": labels(n, most=30),
                "index": index,
                "log_weight": rows(b, m).masked_fill(index < 0, -torch.inf),
                "mask": torch.rand(b, n, generator=rng) < 0.9,
            },
            {
                "rows": rows(b, m, dim),
                "ids": labels(b, m, most=30),
                "log_weight": rows(b, m),
                "source": "bank",
            },
            {
                "rows": rows(4, dim),
                "ids": labels(4, most=30),
                "log_weight": rows(4),
                "mask": torch.tensor([1, 1, 0, 1]) > 0,
            },
        ],
    }


def call(loss: Any, case: dict[str, Any], **more: Any) -> Any:
    """Return the loss of a case."""
    negatives = [Negatives(**part) for part in case["negatives"]]
    more |= {name: case[name] for name in (*LABELS, "guide") if name in case}
    return loss(case["anchors"], case["positives"], negatives, **more)
