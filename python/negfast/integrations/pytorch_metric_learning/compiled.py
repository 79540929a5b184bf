"""Tuples of a batch in memory, chosen by the compiled module."""

from dataclasses import dataclass
from typing import Any

import torch

from negfast._negfast import index_tuples
from negfast.inputs import embeddings
from negfast.integrations.pytorch_metric_learning.batch import Batch, Pair
from negfast.integrations.pytorch_metric_learning.choice import Choice
from negfast.settings import Metric

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What the compiled module reads."""


@dataclass(frozen=True, eq=False)
class Found:
    """Tuples, and what they were chosen from.

    Attributes
    ----------
    tuples : tuple of Tensor of int64
        Three for triplets, four for pairs.
    n_triplets : int
        Triplets of a positive that is used and a negative that is allowed.
    positives, negatives : float
        Sums over them of how close both are.
    """

    tuples: tuple[torch.Tensor, ...]
    n_triplets: int
    positives: float
    negatives: float


def can_read(batch: Batch) -> bool:
    """Tell whether the rows are where the compiled module reads, in a type that it knows."""
    return batch.anchors.device.type == "cpu" and {batch.anchors.dtype, batch.rows.dtype} <= set(DTYPES)


def by_core(batch: Batch, choice: Choice, measure: tuple[Metric, float | None], n_threads: int) -> Found:
    """Return the tuples of a batch whose rows :func:`can_read`, by the metric and power of `measure`."""
    metric, power = measure
    settings = {
        "metric": metric,
        "power": power,
        "band": choice.band,
        "positives": choice.positives,
        "pairs": choice.tuples == "pairs",
        "num_negatives": choice.num_negatives,
        "rules": choice.score_rules,
        "exclude_self": batch.same,
    }
    core = index_tuples(
        embeddings("embeddings", batch.anchors.contiguous()),
        embeddings("ref_emb", batch.rows.contiguous()),
        batch.positives(),
        (_arrays(batch.keys), _arrays(batch.groups)),
        settings,
        n_threads,
    )
    anchors, positives, counts, negatives = (
        torch.from_numpy(core[name]) for name in ("anchors", "positives", "counts", "negatives")
    )
    if choice.tuples == "pairs":
        of_negatives = torch.arange(len(counts)).repeat_interleave(counts)
        return Found((anchors, positives, of_negatives, negatives), *core["all"])
    return Found((anchors.repeat_interleave(counts), positives.repeat_interleave(counts), negatives), *core["all"])


def _arrays(pair: Pair | None) -> Any:
    return None if pair is None else (pair[0].contiguous().numpy(), pair[1].contiguous().numpy())
