"""What a loss is computed of: rows and labels of a batch, of this rank or of all."""

from dataclasses import dataclass, field

import torch

from negfast.torch.negatives import Negatives


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of some rows, int64, -1 for none; or None where there are none."""

    ids: torch.Tensor | None = None
    groups: torch.Tensor | None = None
    keys: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class LossBatch:
    """Anchors with their positives, and the negatives of all.

    Attributes
    ----------
    anchors : Tensor, shape (b, dim)
    positives : Tensor, shape (b, n_positives, dim)
    positive_mask : Tensor of bool, shape (b, n_positives), or None
    of_anchors : Labels of shape (b,)
    of_positives : Labels of shape (b, n_positives)
    known : Tensor of int64, shape (b, any), or None
        Ids of all known positives of each anchor.
    in_batch_log_weight : Tensor, shape (b, n_positives), or None
        Of positives, where they are negatives of other anchors.
    mask : Tensor of bool, shape (b, b * n_positives), or None
        Which positives may stand in which anchor's denominator; among rows of this rank.
    mined_positive_scores : Tensor, shape (b,), or None
        Of whoever mined the negatives.
    negatives : tuple of Negatives
    guide : pair of Tensors, shapes (b, guide_dim) and (b, n_positives, guide_dim), or None
    """

    anchors: torch.Tensor
    positives: torch.Tensor
    positive_mask: torch.Tensor | None = None
    of_anchors: Labels = field(default_factory=Labels)
    of_positives: Labels = field(default_factory=Labels)
    known: torch.Tensor | None = None
    in_batch_log_weight: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    mined_positive_scores: torch.Tensor | None = None
    negatives: tuple[Negatives, ...] = ()
    guide: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True, eq=False)
class World:
    """The batches of all ranks as one, and which part of it is this rank's.

    Anchors ``offset`` to ``offset + b`` are those of the local batch. Masks and what belongs to negatives of a local
    anchor are local.
    """

    local: LossBatch
    whole: LossBatch
    offset: int = 0
