"""What a memory bank returns."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""The quantiles that :class:`BankStaleness` holds."""


class Hardest(NamedTuple):
    """The rows of a bank that score most for each anchor, best first.

    Attributes
    ----------
    scores : float32 tensor, shape (n_anchors, k)
        Cosines or dot products, -inf where there is no row.
    ids : int64 tensor, shape (n_anchors, k)
        Ids of the rows, -1 where a row has none or there is no row.
    rows : tensor, shape (n_anchors, k, dim)
        The rows, of the bank's dtype, 0 where there is none. No gradient flows into the bank.
    """

    scores: torch.Tensor
    ids: torch.Tensor
    rows: torch.Tensor


class Sampled(NamedTuple):
    """Rows of a bank, drawn at random.

    Attributes
    ----------
    ids : int64 tensor, shape (n,)
        Ids of the rows, -1 where a row has none or there is no row.
    rows : tensor, shape (n, dim)
        The rows, of the bank's dtype, 0 where there is none.
    """

    ids: torch.Tensor
    rows: torch.Tensor


@dataclass(frozen=True)
class BankStaleness:
    """How old the rows of a bank are, in steps since they were written.

    Attributes
    ----------
    n_rows : int
        Rows held.
    mean : float
        Mean age, NaN without rows.
    quantiles : tuple of float
        The ages that a share of 0, 0.25, 0.5, 0.75, 0.9 and 1 of the rows does not exceed, NaN without rows.
    """

    n_rows: int
    mean: float
    quantiles: tuple[float, ...]

    @property
    def largest(self) -> float:
        """The age of the oldest row."""
        return self.quantiles[-1]
