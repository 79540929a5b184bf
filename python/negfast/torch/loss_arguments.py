"""The arguments of a call of the loss, checked."""

from collections.abc import Sequence
from typing import Any

import torch

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.torch.collator import NegativesBatch
from negfast.torch.loss_batch import Labels, LossBatch
from negfast.torch.negatives import Negatives


def checked_batch(
    anchors: Any,
    positives: Any,
    negatives: Any,
    *,
    positive_mask: Any,
    anchor_labels: Labels,
    positive_labels: Labels,
    known_positives: Any,
    in_batch_log_weight: Any,
    mask: Any,
    guide: Any,
) -> LossBatch:
    """Return the arguments of a call as one batch, with all axes."""
    _floats("anchors", anchors)
    _floats("positives", positives)
    if anchors.ndim != 2:
        raise InvalidValueError(
            f"anchors must be of shape (b, dim), got {tuple(anchors.shape)}; give each anchor a row"
        )
    parts = _as_list(negatives)
    batches = [part for part in parts if isinstance(part, NegativesBatch)]
    if len(batches) > 1:
        raise InvalidValueError(f"negatives must hold at most one NegativesBatch, got {len(batches)}; pass one")
    for batch in batches:
        if mask is not None:
            raise InvalidValueError("mask must be left out beside a NegativesBatch, which has its own, got a tensor")
        if len(batch) != len(anchors):
            raise InvalidValueError(
                f"anchors must be the {len(batch)} of the NegativesBatch, got {len(anchors)} rows; pass what the model made "
                "of batch.anchors"
            )
        documents, guide_documents = positives, None if guide is None else guide[1]
        mined = Negatives.from_batch(batch, documents, guide_documents)
        parts = [mined if part is batch else part for part in parts]
        positives, mask = documents[: len(batch)], batch.mask[:, : len(batch)]
        if anchor_labels.ids is None:
            anchor_labels = Labels(batch.rows, anchor_labels.groups, anchor_labels.keys)
        if guide is not None:
            guide = (guide[0], guide_documents[: len(batch)])
    if positives.ndim not in (2, 3) or len(positives) != len(anchors) or positives.shape[-1] != anchors.shape[1]:
        raise InvalidValueError(
            f"positives must be of shape ({len(anchors)}, {anchors.shape[1]}) or ({len(anchors)}, n_positives, "
            f"{anchors.shape[1]}), got {tuple(positives.shape)}; give each anchor its positives"
        )
    b, n = len(anchors), 1 if positives.ndim == 2 else positives.shape[1]
    found = LossBatch(
        anchors,
        positives.reshape(b, n, anchors.shape[1]),
        _shaped("positive_mask", positive_mask, torch.bool, anchors, (b, n)),
        _labels("anchor", anchor_labels, anchors, (b,)),
        _labels("positive", positive_labels, anchors, (b, n)),
        _padded("known_positives", known_positives, anchors),
        _shaped("in_batch_log_weight", in_batch_log_weight, "floats", anchors, (b, n)),
        _shaped("mask", mask, torch.bool, anchors, (b, b * n)),
        tuple(parts),
        None if guide is None else _checked_guide(guide, anchors, n),
    )
    for i, part in enumerate(parts):
        _check_negatives(part, f"negatives[{i}]" if isinstance(negatives, list | tuple) else "negatives", found)
    return found


def find_bad_row(batch: LossBatch) -> str:
    """Return where the first row is that is not finite."""
    named = {"anchors": batch.anchors, "positives": batch.positives}
    named |= {f"rows of negatives[{i}] ({part.source!r})": part.rows for i, part in enumerate(batch.negatives)}
    if batch.guide is not None:
        named |= {"guide anchors": batch.guide[0], "guide positives": batch.guide[1]}
    for name, rows in named.items():
        bad = (~rows.detach().isfinite()).any(dim=-1).nonzero()
        if len(bad):
            place = tuple(bad[0].tolist())
            return f"{name} must be finite, got NaN or infinity in row {place[0] if len(place) == 1 else place}"
    return "scores must be finite, got NaN or infinity where rows are finite: they overflow, or a weight is none"


def _as_list(negatives: Any) -> list[Any]:
    parts = [] if negatives is None else list(negatives) if isinstance(negatives, list | tuple) else [negatives]
    for part in parts:
        if not isinstance(part, Negatives | NegativesBatch):
            raise InvalidTypeError(
                f"negatives must be a Negatives, a NegativesBatch or a list of them, got {type(part).__name__}; pass "
                "Negatives(rows)"
            )
    return parts


def _check_negatives(part: Negatives, name: str, batch: LossBatch) -> None:
    anchors = batch.anchors
    b, dim = anchors.shape
    if part.rows.shape[-1] != dim or (not part.shared and len(part.rows) != b):
        raise InvalidValueError(
            f"rows of {name} must be of shape (n, {dim}) or ({b}, m, {dim}), got {tuple(part.rows.shape)}; pass rows of the "
            "same model for the same anchors"
        )
    if part.rows.device != anchors.device:
        raise InvalidValueError(
            f"rows of {name} must be on {anchors.device}, as anchors, got {part.rows.device}; move them there"
        )
    if part.index is not None and len(part.index) != b:
        raise InvalidValueError(
            f"index of {name} must have a row for each of the {b} anchors, got {len(part.index)}; pass that of this batch"
        )
    if part.shared and part.mask is not None and part.mask.ndim == 2 and len(part.mask) != b:
        raise InvalidValueError(
            f"mask of {name} must have a row for each of the {b} anchors, got {len(part.mask)}; pass that of this batch"
        )
    if part.guide is not None and batch.guide is not None and part.guide.shape[-1] != batch.guide[0].shape[-1]:
        raise InvalidValueError(
            f"guide of {name} must have rows of {batch.guide[0].shape[-1]} elements, as those of the anchors, got "
            f"{part.guide.shape[-1]}; use one guide"
        )


def _checked_guide(guide: Any, anchors: torch.Tensor, n_positives: int) -> tuple[torch.Tensor, torch.Tensor]:
    if not isinstance(guide, tuple | list) or len(guide) != 2:
        raise InvalidTypeError(
            f"guide must be a pair of tensors, of anchors and positives, got {type(guide).__name__}; pass what the guide "
            "made of both"
        )
    own, positives = guide
    for name, value in (("guide anchors", own), ("guide positives", positives)):
        _floats(name, value, anchors)
    b = len(anchors)
    if own.ndim != 2 or len(own) != b or positives.shape not in ((b, own.shape[-1]), (b, n_positives, own.shape[-1])):
        raise InvalidValueError(
            f"guide must be of shapes ({b}, guide_dim) and ({b}, {n_positives}, guide_dim), got {tuple(own.shape)} and "
            f"{tuple(positives.shape)}; encode the same texts"
        )
    return own.detach(), positives.detach().reshape(b, n_positives, -1)


def _labels(kind: str, labels: Labels, anchors: torch.Tensor, shape: tuple[int, ...]) -> Labels:
    named = {"ids": labels.ids, "groups": labels.groups, "keys": labels.keys}
    return Labels(*(_shaped(f"{kind}_{name}", value, torch.int64, anchors, shape) for name, value in named.items()))


def _padded(name: str, value: Any, anchors: torch.Tensor) -> torch.Tensor | None:
    if value is None:
        return None
    _tensor(name, value, torch.int64, anchors)
    if value.ndim != 2 or len(value) != len(anchors):
        raise InvalidValueError(
            f"{name} must be of shape ({len(anchors)}, most), padded with -1, got {tuple(value.shape)}; give each anchor a "
            "row"
        )
    return value  # type: ignore[no-any-return]


def _shaped(name: str, value: Any, kind: Any, anchors: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Check a tensor of one value for each anchor or positive; one axis will do where there is one positive each."""
    if value is None:
        return None
    _tensor(name, value, kind, anchors)
    short = len(shape) == 2 and shape[1] == 1 and tuple(value.shape) == shape[:1]
    if tuple(value.shape) != shape and not short:
        raise InvalidValueError(f"{name} must be of shape {shape}, got {tuple(value.shape)}; give each row its value")
    return value.reshape(shape)  # type: ignore[no-any-return]


def _floats(name: str, value: Any, like: torch.Tensor | None = None) -> None:
    _tensor(name, value, "floats", like)


def _tensor(name: str, value: Any, kind: Any, like: torch.Tensor | None) -> None:
    tensor = isinstance(value, torch.Tensor)
    if not tensor or not (value.is_floating_point() if kind == "floats" else value.dtype == kind):
        got = str(value.dtype) if tensor else f"{type(value).__name__} {shown(value)}"
        raise InvalidTypeError(f"{name} must be a tensor of {kind}, got {got}; convert it")
    if like is not None and value.device != like.device:
        raise InvalidValueError(f"{name} must be on {like.device}, as anchors, got {value.device}; move it there")
