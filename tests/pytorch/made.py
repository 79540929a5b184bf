"""Small data for the tests of the PyTorch layer; also imported by processes of their own."""

from typing import Any

import numpy as np

import negfast
from negfast.torch import NegativesDataset

N_PAIRS, N_CORPUS = 12, 20
CORPUS = [f"text {row}" for row in range(N_CORPUS)]
PAIRS = [(f"anchor {row}", f"text {row}") for row in range(N_PAIRS)]
_ROWS = np.random.default_rng(0).standard_normal((N_CORPUS, 8)).astype(np.float32)


def mined(num_negatives: int = 6, **options: Any) -> negfast.MinedNegatives:
    """Mine with lists of several lengths: rows of a group are no negatives of each other."""
    groups = np.minimum(np.arange(N_CORPUS) // 2, 2)  # from row 4 on, all rows are of one group
    rules = negfast.Rules(relative_margin=None, max_score=0.5)
    return negfast.mine(
        _ROWS[:N_PAIRS],
        _ROWS,
        np.arange(N_PAIRS),
        num_negatives=num_negatives,
        groups=(groups[:N_PAIRS], groups),
        **{"rules": rules, **options},
    )


def dataset(**options: Any) -> NegativesDataset:
    return NegativesDataset(PAIRS, mined(), CORPUS, **options)


def plain(examples: Any) -> list[tuple[Any, ...]]:
    """Return examples as values that can be compared."""
    names = ("negative_rows", "scores", "tiers")
    return [
        (x.anchor, x.positive, x.row, x.negatives, *(getattr(x, name).tolist() for name in names)) for x in examples
    ]
