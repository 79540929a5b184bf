"""What a batch tells the loss beside texts: names that the trainer takes for parts of a column, and their tensors.

The trainer hands a loss one dict for each column, with everything in the batch whose name begins with that of the
column. So labels travel as further entries of their column.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

PREFIX = "negfast_"
DRAWN = "negfast_drawn"
"""The column of negatives that were drawn for a batch."""


@dataclass(frozen=True, eq=False)
class ColumnLabels:
    """What is known of the texts of one column.

    Attributes
    ----------
    ids, groups, keys : Tensor of int64, shape (n,), or None
        Labels of each text, -1 for none.
    known_positives : Tensor of int64, shape (n, most), or None
        Beside positives: rows of the corpus that are positives of the anchor, padded with -1.
    index : Tensor of int64, shape (n_anchors, m), or None
        Beside drawn negatives: which texts were drawn for each anchor, -1 for none.
    tiers : Tensor of uint8, shape (n_anchors, m), or None
    log_weight : Tensor of float32, shape (n_anchors, m), or None
    """

    ids: torch.Tensor | None = None
    groups: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    known_positives: torch.Tensor | None = None
    index: torch.Tensor | None = None
    tiers: torch.Tensor | None = None
    log_weight: torch.Tensor | None = None

    def entries(self, column: str) -> dict[str, torch.Tensor]:
        """Return the entries of a batch, by their names."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f"{column}_{PREFIX}{name}": value for name, value in given.items() if value is not None}


def split(features: Mapping[str, Any]) -> tuple[dict[str, Any], ColumnLabels]:
    """Return what the model takes of one column, and what is known of its texts."""
    inputs = {name: value for name, value in features.items() if not name.startswith(PREFIX)}
    known = {name.removeprefix(PREFIX): value for name, value in features.items() if name.startswith(PREFIX)}
    return inputs, ColumnLabels(**known)
