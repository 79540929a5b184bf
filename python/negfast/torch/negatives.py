"""Negatives as the loss takes them."""

from dataclasses import dataclass
from typing import Literal

import torch

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.torch.collator import NegativesBatch
from negfast.torch.tensor_arguments import tensor

_KINDS: dict[str, torch.dtype | Literal["floats"]] = {
    "ids": torch.int64,
    "groups": torch.int64,
    "keys": torch.int64,
    "log_weight": "floats",
    "mask": torch.bool,
    "tiers": torch.uint8,
    "scores": "floats",
    "index": torch.int64,
    "guide": "floats",
}


@dataclass(frozen=True, eq=False)
class Negatives:
    """Rows that are negatives, with what is known of them.

    Parameters
    ----------
    rows : float tensor of shape (n, dim) or (n_anchors, m, dim)
        Embeddings: the same for all anchors, or each anchor's own, such as those that a bank found for it.
    ids : Tensor of int64, shape (n,) or (n_anchors, m), optional
        Rows of the corpus that they are, -1 for none. Beside rows of an anchor's own, -1 is padding.
    groups, keys : Tensor of int64, of the shape of `ids`, optional
        Labels, -1 for none, as :func:`negfast.mine` takes them. Any other number is a label, below -1 too.
    log_weight : float tensor of shape (n_anchors, m), or (n,) for shared rows without `index`, optional
        What to add to the logits, as a draw says.
    mask : bool tensor, optional
        False for what is no negative: of shape (n,) or (n_anchors, n) for shared rows, (n_anchors, m) for an anchor's
        own.
    tiers : Tensor of uint8, shape as `log_weight`, optional
        3 hard, 2 semi-hard, 1 easy, 0 not known; only counted.
    scores : float tensor of shape (n_anchors, m), optional
        Scores with each anchor when they were mined, so not for shared rows without `index`; compared with
        ``mined_positive_scores`` of a call, if that is given.
    index : Tensor of int64, shape (n_anchors, m), optional
        For shared rows: which of them were mined for each anchor, as places in `rows`, -1 for none. For other anchors
        they are in-batch negatives.
    guide : float tensor of shape (n, guide_dim) or (n_anchors, m, guide_dim), optional
        Embeddings of the same documents by a guide.
    source : str, default "mined"
        What statistics call them.
    gather : bool, default True
        Whether shared rows are sent to other ranks where the loss gathers. Rows that every rank holds alike, as those
        of a replicated bank, should not be. An anchor's own rows never are.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a field has a wrong type or shape.

    Examples
    --------
    >>> import torch
    >>> from negfast.torch import Negatives
    >>> Negatives(torch.zeros(8, 64), torch.arange(8), source="bank").shared
    True
    """

    rows: torch.Tensor
    ids: torch.Tensor | None = None
    groups: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    log_weight: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    tiers: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    index: torch.Tensor | None = None
    guide: torch.Tensor | None = None
    source: str = "mined"
    gather: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        if not isinstance(self.source, str):
            raise InvalidTypeError(f"source must be a str, got {shown(self.source)}; name where the rows come from")
        tensor("rows of negatives", self.rows, "floats")
        for name, kind in _KINDS.items():
            if getattr(self, name) is not None:
                tensor(f"{name} of negatives", getattr(self, name), kind, like=self.rows)
        if self.rows.ndim not in (2, 3):
            raise InvalidValueError(
                f"rows of negatives must be of shape (n, dim) or (n_anchors, m, dim), got {tuple(self.rows.shape)}; "
                "give each negative a row"
            )
        self._check_shapes()

    @property
    def shared(self) -> bool:
        """Whether all anchors have the same rows."""
        return self.rows.ndim == 2

    @classmethod
    def from_batch(
        cls, batch: NegativesBatch, documents: torch.Tensor, guide: torch.Tensor | None = None
    ) -> "Negatives":
        """Return the mined negatives of a batch.

        Parameters
        ----------
        batch : NegativesBatch
        documents : float tensor of shape (b + n, dim)
            What the model made of ``batch.documents``.
        guide : float tensor of shape (b + n, guide_dim), optional
            What a guide made of them.

        Returns
        -------
        Negatives
            ``documents[b:]``, with `ids`, `index`, `log_weight`, `tiers`, `scores` and `mask` of the batch.
        """
        b, n = batch.mask.shape
        given = {"documents": documents} if guide is None else {"documents": documents, "guide": guide}
        for name, value in given.items():
            if tensor(name, value, "floats").ndim != 2 or len(value) != n:
                raise InvalidValueError(
                    f"{name} must be of shape ({n}, dim), the positives and then the negatives of the batch, got "
                    f"{tuple(value.shape)}; pass what a model made of batch.documents"
                )
        return cls(
            documents[b:],
            batch.negative_rows,
            log_weight=batch.log_weight,
            mask=batch.mask[:, b:],
            tiers=batch.tiers,
            scores=batch.scores,
            index=batch.negative_index,
            guide=None if guide is None else guide[b:],
        )

    def _check_shapes(self) -> None:
        each = tuple(self.rows.shape[:-1])
        if self.index is not None and (not self.shared or self.index.ndim != 2):
            raise InvalidValueError(
                f"index must be of shape (n_anchors, m) and beside shared rows, got {tuple(self.index.shape)} beside "
                f"rows of shape {tuple(self.rows.shape)}; leave it out where each anchor has its own rows"
            )
        drawn = each if self.index is None else tuple(self.index.shape)
        shapes = dict.fromkeys(("ids", "groups", "keys"), each) | dict.fromkeys(
            ("log_weight", "tiers", "scores"), drawn
        )
        if self.scores is not None and self.shared and self.index is None:
            raise InvalidValueError(
                "scores must come with index beside shared rows, which says whose scores they are, got "
                f"{tuple(self.scores.shape)} without it; leave them out, or give each anchor its own rows"
            )
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise InvalidValueError(
                    f"{name} must be of shape {shape} beside rows of shape {tuple(self.rows.shape)}"
                    f"{'' if self.index is None else ' and this index'}, got {tuple(value.shape)}; give each one"
                )
        axes = (1, 2) if self.shared else (2,)
        if self.mask is not None and (self.mask.ndim not in axes or tuple(self.mask.shape[-len(each) :]) != each):
            raise InvalidValueError(
                f"mask must be of shape {each}{' or (n_anchors, n)' if self.shared else ''}, got "
                f"{tuple(self.mask.shape)}; mark each negative"
            )
        if self.guide is not None and tuple(self.guide.shape[:-1]) != each:
            raise InvalidValueError(
                f"guide must be of shape {(*each, 'guide_dim')}, got {tuple(self.guide.shape)}; encode the same texts"
            )
