"""The arguments of a call of the loss, checked."""

from typing import Any

import torch

from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.torch.collator import NegativesBatch
from negfast.torch.loss_batch import Labels, LossBatch
from negfast.torch.loss_blocks import present_rows
from negfast.torch.negatives import Negatives
from negfast.torch.tensor_arguments import tensor


def checked_batch(anchors: Any, positives: Any, negatives: Any, guide: Any, named: dict[str, Any]) -> LossBatch:
    """Return the arguments of a call as one batch, with all axes; `named` has the rest by name."""
    tensor("anchors", anchors, "floats")
    tensor("positives", positives, "floats", like=anchors)
    if anchors.ndim != 2:
        raise InvalidValueError(
            f"anchors must be of shape (b, dim), got {tuple(anchors.shape)}; give each anchor a row"
        )
    parts = _as_list(negatives)
    positives, guide = _without_batch(anchors, positives, parts, guide, named)
    b, dim = anchors.shape
    if positives.ndim not in (2, 3) or positives.shape[:: positives.ndim - 1] != (b, dim) or 0 in positives.shape[1:2]:
        raise InvalidValueError(
            f"positives must be of shape ({b}, {dim}) or ({b}, n_positives, {dim}), got {tuple(positives.shape)}; give "
            "each anchor its positives"
        )
    n = 1 if positives.ndim == 2 else positives.shape[1]
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "positive_mask": (torch.bool, (b, n)),
        "in_batch_log_weight": ("floats", (b, n)),
        "mask": (torch.bool, (b, b * n)),
        "mined_positive_scores": ("floats", (b,)),
    }
    checked = {name: _shaped(name, named[name], kind, anchors, shape) for name, (kind, shape) in shapes.items()}
    batch = LossBatch(
        anchors=anchors,
        positives=positives.reshape(b, n, dim),
        of_anchors=_labels("anchor", named, anchors, (b,)),
        of_positives=_labels("positive", named, anchors, (b, n)),
        known=_known(named["known_positives"], anchors),
        negatives=tuple(parts),
        guide=None if guide is None else _checked_guide(guide, anchors, n),
        **checked,
    )
    for i, part in enumerate(parts):
        _check_negatives(part, f"negatives[{i}]" if isinstance(negatives, list | tuple) else "negatives", batch)
    return batch


def _without_batch(anchors: torch.Tensor, positives: Any, parts: list[Any], guide: Any, named: dict[str, Any]) -> Any:
    """Take a batch of the collator apart; return the positives and the guide."""
    places = [i for i, part in enumerate(parts) if isinstance(part, NegativesBatch)]
    if not places:
        return positives, guide
    if len(places) > 1:
        raise InvalidValueError(f"negatives must hold at most one NegativesBatch, got {len(places)}; pass one")
    batch = parts[places[0]]
    b = len(batch)
    if named["mask"] is not None:
        raise InvalidValueError("mask must be left out beside a NegativesBatch, which has its own; leave it out")
    if len(anchors) != b:
        raise InvalidValueError(
            f"anchors must be the {b} of the NegativesBatch, got {len(anchors)} rows; pass what the model made of "
            "batch.anchors"
        )
    of_guide = guide[1] if isinstance(guide, tuple | list) and len(guide) == 2 else None
    parts[places[0]] = Negatives.from_batch(batch, positives, of_guide)
    named["mask"] = batch.mask[:, :b]
    if named["anchor_ids"] is None:
        named["anchor_ids"] = batch.rows
    return positives[:b], guide if of_guide is None else (guide[0], of_guide[:b])


def find_bad_row(batch: LossBatch) -> str | None:
    """Return where the first row is that is not finite, if there is one. Padding may hold anything."""
    named: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {
        "anchors": (batch.anchors, None),
        "positives": (batch.positives, batch.positive_mask),
    }
    for i, part in enumerate(batch.negatives):
        named[f"rows of negatives[{i}] ({part.source!r})"] = part.rows, present_rows(part)
    if batch.guide is not None:
        named |= {"guide anchors": (batch.guide[0], None), "guide positives": (batch.guide[1], batch.positive_mask)}
    for name, (rows, present) in named.items():
        place = _first((~rows.detach().isfinite()).any(dim=-1), present)
        if place is not None:
            return (
                f"{name} must be finite, got NaN or infinity in row {place}; look at the model, or at the step before"
            )
    return None


def check_values(batch: LossBatch) -> None:
    """Refuse weights that are NaN or infinite, and places outside of the rows. On a device this would wait for it."""
    weights = {"in_batch_log_weight": (batch.in_batch_log_weight, batch.positive_mask)}
    for i, part in enumerate(batch.negatives):
        present = present_rows(part)
        if part.index is not None:
            place = _first((part.index < -1) | (part.index >= len(part.rows)), None)
            if place is not None:
                raise InvalidValueError(
                    f"index of negatives[{i}] must be places in its {len(part.rows)} rows, or -1 for none, got "
                    f"{int(part.index[place])} at {place}; pass the index of these rows"
                )
            present = part.index >= 0
        weights[f"log_weight of negatives[{i}]"] = part.log_weight, present
    for name, (values, present) in weights.items():
        if values is None:
            continue
        place = _first(values.isnan() | (values == torch.inf), present)
        if place is not None:
            raise InvalidValueError(
                f"{name} must be finite, or -inf for none, got {float(values.detach()[place])} at {place}; look at the "
                "probabilities that it is made of"
            )


def _first(bad: torch.Tensor, present: torch.Tensor | None) -> Any:
    """Return the first place that is bad and present, a number where there is one axis, or None."""
    found = (bad if present is None else bad & present).nonzero()
    if not len(found):
        return None
    place = tuple(found[0].tolist())
    return place[0] if len(place) == 1 else place


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
            f"rows of {name} must be of shape (n, {dim}) or ({b}, m, {dim}), got {tuple(part.rows.shape)}; pass rows "
            "of the same model for the same anchors"
        )
    tensor(f"rows of {name}", part.rows, "floats", like=anchors)
    if part.index is not None and len(part.index) != b:
        raise InvalidValueError(
            f"index of {name} must have a row for each of the {b} anchors, got {len(part.index)}; pass that of this "
            "batch"
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
            f"guide must be a pair of tensors, of anchors and positives, got {type(guide).__name__}; pass what the "
            "guide made of both"
        )
    own, positives = guide
    for name, value in (("guide anchors", own), ("guide positives", positives)):
        tensor(name, value, "floats", like=anchors)
    b = len(anchors)
    if own.ndim != 2 or len(own) != b or positives.shape not in ((b, own.shape[-1]), (b, n_positives, own.shape[-1])):
        raise InvalidValueError(
            f"guide must be of shapes ({b}, guide_dim) and ({b}, {n_positives}, guide_dim), got {tuple(own.shape)} and "
            f"{tuple(positives.shape)}; encode the same texts"
        )
    return own.detach(), positives.detach().reshape(b, n_positives, own.shape[-1])


def _labels(kind: str, named: dict[str, Any], anchors: torch.Tensor, shape: tuple[int, ...]) -> Labels:
    names = [f"{kind}_{name}" for name in ("ids", "groups", "keys")]
    return Labels(*(_shaped(name, named[name], torch.int64, anchors, shape) for name in names))


def _known(value: Any, anchors: torch.Tensor) -> torch.Tensor | None:
    if value is None:
        return None
    found = tensor("known_positives", value, torch.int64, like=anchors)
    if found.ndim != 2 or len(found) != len(anchors):
        raise InvalidValueError(
            f"known_positives must be of shape ({len(anchors)}, most), padded with -1, got {tuple(found.shape)}; give "
            "each anchor a row"
        )
    return found


def _shaped(name: str, value: Any, kind: Any, anchors: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Check a tensor of one value for each anchor or positive; one axis will do where there is one positive each."""
    if value is None:
        return None
    found = tensor(name, value, kind, like=anchors)
    short = len(shape) == 2 and shape[1] == 1 and tuple(value.shape) == shape[:1]
    if tuple(value.shape) != shape and not short:
        raise InvalidValueError(f"{name} must be of shape {shape}, got {tuple(value.shape)}; give each row its value")
    return found.reshape(shape)
