"""What a miner is given, checked: rows, labels, and what else keeps rows from being negatives of each other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.inputs import Lists

LABELS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Pair = tuple[torch.Tensor, torch.Tensor]
"""Labels of the anchors and of the rows, on the device of the rows, shape (n,) or (n, columns)."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Anchors, the rows that their positives and negatives are of, and what is known of both.

    Attributes
    ----------
    anchors, rows : Tensor, shapes (n_anchors, dim) and (n_rows, dim)
    labels, row_labels : Tensor of int64, shapes (n_anchors,) and (n_rows,)
    same : bool
        Whether rows are the anchors: none is a positive of itself.
    groups, keys : pair of Tensor or None
    """

    anchors: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor
    row_labels: torch.Tensor
    same: bool
    groups: Pair | None
    keys: Pair | None

    def positives(self) -> Lists:
        """Return the rows of each anchor's label, without itself, in CSR form."""
        labels, row_labels = (side.cpu().numpy() for side in (self.labels, self.row_labels))
        order = np.argsort(row_labels, kind="stable")
        first, end = (np.searchsorted(row_labels[order], labels, side) for side in ("left", "right"))
        counts = end - first
        starts = np.cumsum(counts) - counts
        found = order[np.arange(counts.sum()) + np.repeat(first - starts, counts)].astype(np.int64, copy=False)
        if self.same:
            found = found[found != np.repeat(np.arange(len(labels)), counts)]
            counts = counts - 1
        return _indptr(counts), found


def _indptr(counts: Any) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def checked_batch(embeddings: Any, labels: Any, ref_emb: Any, ref_labels: Any, groups: Any, keys: Any) -> Batch:
    """Return what was given, checked.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type, dtype or shape, or one of two that go together is missing.
    """
    anchors = _matrix("embeddings", embeddings)
    own = _labels("labels", labels, len(anchors))
    if (ref_emb is None) != (ref_labels is None):
        given, missing = ("ref_labels", "ref_emb") if ref_emb is None else ("ref_emb", "ref_labels")
        raise InvalidValueError(f"{missing} must be given with {given}, got None; pass both, or neither")
    if ref_emb is None:
        ref_emb, ref_labels = embeddings, labels
    rows = _matrix("ref_emb", ref_emb)
    if rows.shape[1] != anchors.shape[1]:
        raise InvalidValueError(
            f"ref_emb must be of dim {anchors.shape[1]}, as the embeddings are, got {rows.shape[1]}; take both from "
            "one model"
        )
    if rows.device != anchors.device:
        raise InvalidValueError(
            f"ref_emb must be on {anchors.device}, as the embeddings are, got {rows.device}; move it there"
        )
    device, same = anchors.device, ref_labels is labels
    sizes = (len(anchors), len(rows))
    return Batch(
        anchors,
        rows,
        own.to(device, torch.int64),
        _labels("ref_labels", ref_labels, len(rows)).to(device, torch.int64),
        same,
        *(_pair(name, value, sizes, same, device) for name, value in (("groups", groups), ("keys", keys))),
    )


def refuse_for_torch(batch: Batch) -> None:
    """Refuse what a distance would fail at or be silent about; the compiled module tells by itself.

    Raises
    ------
    InvalidTypeError
        If both sides are of different dtypes.
    InvalidValueError
        If a row is not finite.
    """
    if batch.rows.dtype != batch.anchors.dtype:
        raise InvalidTypeError(
            f"ref_emb must be of {batch.anchors.dtype}, as the embeddings are, got {batch.rows.dtype}; use "
            "ref_emb.to(embeddings.dtype)"
        )
    for name, rows in (("embeddings", batch.anchors), ("ref_emb", batch.rows)):
        bad = ~torch.isfinite(rows).all(dim=1)
        if bad.any():
            raise InvalidValueError(
                f"{name} must hold finite numbers, got NaN or infinity in row {int(bad.int().argmax())}; remove the "
                "row or encode it again"
            )


def _matrix(name: str, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise InvalidTypeError(f"{name} must be a tensor of floats, got {kind}; pass what the model returned")
    if value.ndim != 2:
        raise InvalidValueError(f"{name} must be of shape (n, dim), got {tuple(value.shape)}; reshape it")
    return value.detach()


def _labels(name: str, value: Any, n: int) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.dtype not in LABELS:
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise InvalidTypeError(f"{name} must be a tensor of integers, got {kind}; pass the number of each row's class")
    if value.shape != (n,):
        raise InvalidValueError(
            f"{name} must be of shape ({n},), one for each row, got {tuple(value.shape)}; reshape it"
        )
    return value


def _pair(name: str, value: Any, sizes: tuple[int, int], same: bool, device: torch.device) -> Pair | None:
    if value is None:
        return None
    if isinstance(value, tuple | list) and len(value) == 2:
        of_anchors, of_rows = value
    elif same:
        of_anchors = of_rows = value
    else:
        raise InvalidTypeError(
            f"{name} must be a pair with ref_emb, of the embeddings and of ref_emb, got {type(value).__name__}; pass "
            "both"
        )
    anchors, rows = (_columns(name, side, n) for side, n in zip((of_anchors, of_rows), sizes, strict=True))
    return anchors.to(device, torch.int64), rows.to(device, torch.int64)


def _columns(name: str, value: Any, n: int) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.dtype not in LABELS:
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise InvalidTypeError(f"{name} must be tensors of integers, got {kind}; use -1 for a row that has none")
    if value.ndim not in (1, 2) or len(value) != n:
        raise InvalidValueError(
            f"{name} must be of shape ({n},) or ({n}, columns), one for each row, got {tuple(value.shape)}; use -1 for "
            "a row that has none"
        )
    return value
