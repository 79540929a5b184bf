"""The batches of all ranks as one, with gradients."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.nn.functional import pad

from negfast.errors import InvalidValueError
from negfast.torch.infonce import mean_over
from negfast.torch.loss_batch import Labels, LossBatch, World
from negfast.torch.negatives import Negatives

_LABELS = ("ids", "groups", "keys")
_KNOWN, _WIDTH = "known_positives", "width of known_positives"


class _Piece(NamedTuple):
    """Something that every rank sends."""

    name: str
    value: torch.Tensor  # (rows, width)


def gathered(batch: LossBatch) -> World:
    """Return the batches of all ranks of the default group as one; without such a group, the batch alone.

    Ranks may have different numbers of anchors and of negatives, but pass the same kinds of arguments. What they pass
    is compared first, for which the host waits.

    Raises
    ------
    InvalidValueError
        On every rank, if ranks pass different arguments, or one of them refused its own.
    """
    if not several_ranks():
        return World(batch, batch)
    sent = [_rows(batch), _guide(batch), _labels(batch), _weights(batch)]
    sizes = _sizes_of_all(batch, [piece for pieces in sent for piece in pieces])
    found: dict[str, torch.Tensor] = {}
    for pieces in filter(None, [_as_wide(part, sizes) for part in sent]):
        found |= _gather(pieces, sizes)
    before = {name: sum(own[name] for own in sizes[: dist.get_rank()]) for name in sizes[0]}
    negatives = tuple(_widened(part, i, found, before) for i, part in enumerate(batch.negatives))
    return World(replace(batch, negatives=negatives), _whole(batch, found), before["anchors"])


def tell_failure(error: Exception) -> None:
    """Tell the other ranks, which wait in :func:`gathered`, that this one has nothing to send."""
    if several_ranks():
        of_all: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(of_all, str(error))


def several_ranks() -> bool:
    """Return whether there are other ranks to gather from."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_over_ranks(each: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """Return a loss whose mean over ranks is the mean over all their anchors."""
    if not several_ranks():
        return mean_over(each, valid)
    count = each.new_tensor(len(each)) if valid is None else valid.sum().to(each.dtype)
    dist.all_reduce(count)
    return each.sum() * (dist.get_world_size() / count.clamp(min=1.0))


class _AllGather(torch.autograd.Function):
    """Gather rows of all ranks; the gradient of a row is the sum of those from all of them."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - nothing is kept
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]


def _gather(pieces: Sequence[_Piece], sizes: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
    """Return each piece with the rows of all ranks, by one collective."""
    width = max(piece.value.shape[1] for piece in pieces)
    packed = torch.cat([pad(piece.value, (0, width - piece.value.shape[1])) for piece in pieces])
    of_ranks = [[own[piece.name] for piece in pieces] for own in sizes]
    everything = _AllGather.apply(pad(packed, (0, 0, 0, max(map(sum, of_ranks)) - len(packed))))
    parts = [everything[rank, : sum(own)].split(own) for rank, own in enumerate(of_ranks)]
    return {
        piece.name: torch.cat([part[i][:, : piece.value.shape[1]] for part in parts]) for i, piece in enumerate(pieces)
    }


def _sizes_of_all(batch: LossBatch, pieces: Sequence[_Piece]) -> list[dict[str, int]]:
    """Return how many rows of each piece every rank sends, if all send the same kinds of them."""
    kinds = {
        name: f"{value.dtype}, {'any width' if name == _KNOWN else f'{value.shape[1]} wide'}" for name, value in pieces
    }
    kinds["negatives"] = ", ".join(f"{part.source}{'' if _is_sent(part) else ' (kept)'}" for part in batch.negatives)
    width = 0 if batch.known is None else batch.known.shape[1]
    own = (kinds, {_WIDTH: width, **{piece.name: len(piece.value) for piece in pieces}})
    of_all: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, own)
    for rank, theirs in enumerate(of_all):
        if isinstance(theirs, str):
            raise InvalidValueError(
                f"the arguments of rank {rank} must be as on this one, got an error there: {theirs}"
            )
    for rank, (theirs, _) in enumerate(of_all):
        for name in sorted(of_all[0][0].keys() | theirs.keys()):
            first, other = of_all[0][0].get(name, "nothing"), theirs.get(name, "nothing")
            if first != other:
                raise InvalidValueError(
                    f"{name} must be of the same kind on all ranks, got {first} on rank 0 and {other} on rank {rank}; "
                    "pass the same arguments everywhere"
                )
    return [sizes for _, sizes in of_all]


def _as_wide(pieces: list[_Piece], sizes: Sequence[dict[str, int]]) -> list[_Piece]:
    """Make known positives, which ranks may have different numbers of, as wide as the widest."""
    most = max(own[_WIDTH] for own in sizes)
    return [
        _Piece(name, pad(value, (0, most - value.shape[1]), value=-1)) if name == _KNOWN else _Piece(name, value)
        for name, value in pieces
    ]


def _is_sent(part: Negatives) -> bool:
    return part.shared and part.gather


def _rows(batch: LossBatch) -> list[_Piece]:
    pieces = [_Piece("anchors", batch.anchors), _Piece("positives", batch.positives.flatten(0, 1))]
    pieces += [_Piece(f"rows {i}", part.rows) for i, part in enumerate(batch.negatives) if _is_sent(part)]
    return _of_one_dtype(pieces)


def _guide(batch: LossBatch) -> list[_Piece]:
    if batch.guide is None:
        return []
    pieces = [_Piece("guide anchors", batch.guide[0]), _Piece("guide positives", batch.guide[1].flatten(0, 1))]
    pieces += [
        _Piece(f"guide {i}", part.guide.detach())
        for i, part in enumerate(batch.negatives)
        if _is_sent(part) and part.guide is not None
    ]
    return _of_one_dtype(pieces)


def _labels(batch: LossBatch) -> list[_Piece]:
    named = {f"anchor_{name}": getattr(batch.of_anchors, name) for name in _LABELS}
    named |= {f"positive_{name}": getattr(batch.of_positives, name) for name in _LABELS}
    named |= {_KNOWN: batch.known, "positive_mask": batch.positive_mask}
    for i, part in enumerate(batch.negatives):
        if _is_sent(part):
            named |= {f"{name} {i}": getattr(part, name) for name in _LABELS}
            named[f"mask {i}"] = part.mask if part.mask is not None and part.mask.ndim == 1 else None
            named[f"tiers {i}"] = part.tiers if part.index is None else None
    return _pieces(named, torch.int64)


def _weights(batch: LossBatch) -> list[_Piece]:
    named = {"in_batch_log_weight": batch.in_batch_log_weight}
    for i, part in enumerate(batch.negatives):
        if _is_sent(part) and part.index is None:
            named[f"log_weight {i}"] = part.log_weight
    return _pieces(named, torch.float64)


def _pieces(named: dict[str, torch.Tensor | None], dtype: torch.dtype) -> list[_Piece]:
    # Labels of one axis are columns; a width of -1 would be no width where there are no rows.
    return [
        _Piece(name, (value if value.ndim == 2 else value[:, None]).detach().to(dtype))
        for name, value in named.items()
        if value is not None
    ]


def _of_one_dtype(pieces: list[_Piece]) -> list[_Piece]:
    dtype = pieces[0].value.dtype
    for piece in pieces:
        dtype = torch.promote_types(dtype, piece.value.dtype)
    return [_Piece(piece.name, piece.value.to(dtype)) for piece in pieces]


def _whole(batch: LossBatch, found: dict[str, torch.Tensor]) -> LossBatch:
    """Return the batch of all ranks, without negatives and masks, which stay where they are."""
    n_positives = batch.positives.shape[1]
    flat = {name: None if f"anchor_{name}" not in found else found[f"anchor_{name}"][:, 0] for name in _LABELS}
    mask, guide = found.get("positive_mask"), found.get("guide anchors")
    return LossBatch(
        anchors=found["anchors"],
        positives=torch.unflatten(found["positives"], 0, (-1, n_positives)),
        positive_mask=None if mask is None else mask.bool(),
        of_anchors=Labels(**flat),
        of_positives=Labels(**{name: found.get(f"positive_{name}") for name in _LABELS}),
        known=found.get(_KNOWN),
        in_batch_log_weight=found.get("in_batch_log_weight"),
        guide=None if guide is None else (guide, torch.unflatten(found["guide positives"], 0, (-1, n_positives))),
    )


def _widened(part: Negatives, i: int, found: dict[str, torch.Tensor], before: dict[str, int]) -> Negatives:
    """Return negatives with the shared rows of all ranks; those of others were mined for none of the anchors here."""
    if not _is_sent(part):
        return part
    rows, start = found[f"rows {i}"], before[f"rows {i}"]
    changes: dict[str, Any] = {name: _column(found, f"{name} {i}") for name in (*_LABELS, "mask")}
    if part.mask is not None and part.mask.ndim == 2:
        changes["mask"] = pad(part.mask, (start, len(rows) - start - len(part.rows)), value=True)
    elif part.mask is not None:
        changes["mask"] = changes["mask"].bool()
    if part.index is None:
        changes["log_weight"] = _column(found, f"log_weight {i}")
        changes["tiers"] = None if part.tiers is None else _column(found, f"tiers {i}").to(torch.uint8)
    else:
        changes["index"] = torch.where(part.index < 0, part.index, part.index + start)
    return replace(part, rows=rows, guide=found.get(f"guide {i}"), **changes)


def _column(found: dict[str, torch.Tensor], name: str) -> Any:
    return found[name][:, 0] if name in found else None
