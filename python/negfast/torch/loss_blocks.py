"""Blocks of candidates: what each anchor is compared with, in which direction, and what of it is refused."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch.nn.functional import pad

from negfast.torch.false_negatives import share_label
from negfast.torch.loss_batch import Labels, LossBatch, World
from negfast.torch.negatives import Negatives
from negfast.torch.weighting import LEAST

IN_BATCH = "in-batch"
_LEAST_NORM = 1e-12


@dataclass(eq=False)
class Block:
    """Candidates of all anchors, from one source and in one direction.

    Attributes
    ----------
    direction, source : str
    refused : dict of str to Tensor of bool
        By cause, in the order in which causes count; broadcasts to the scores, (b, n_positives or 1, n).
    log_weight : Tensor or None
        Broadcasts to the scores.
    mined : Tensor of bool, shape (b, 1, n), or bool
        Whether a candidate was mined for the anchor itself.
    ids : Tensor of int64, shape (n,) or (b, n), or None
    tiers : Tensor of uint8, shape (b, n), (n,) or that of `index`, or None
    given : Tensor, shape (b, n), or None
        Scores that came with the candidates, NaN where there are none.
    index : Tensor of int64, shape (b, m), or None
        Which were mined for each anchor.
    place : int or None
        Which of the negatives the block is of.
    """

    direction: str
    source: str
    refused: dict[str, torch.Tensor] = field(default_factory=dict)
    log_weight: torch.Tensor | None = None
    mined: torch.Tensor | bool = False
    ids: torch.Tensor | None = None
    tiers: torch.Tensor | None = None
    given: torch.Tensor | None = None
    index: torch.Tensor | None = None
    place: int | None = None


class Rows(NamedTuple):
    """Embeddings of one model, of length 1 under cosine; all positives are flat."""

    anchors: torch.Tensor  # (b, dim)
    positives: torch.Tensor  # (b, n_positives, dim)
    all_anchors: torch.Tensor  # (B, dim)
    all_positives: torch.Tensor  # (B * n_positives, dim)
    negatives: tuple[torch.Tensor | None, ...]  # (n, dim), or (b, m, dim) as they are; None where a guide has none

    def holds(self, block: "Block") -> bool:
        """Return whether the rows of a block are here."""
        return block.place is None or self.negatives[block.place] is not None


def make_blocks(world: World, directions: tuple[str, ...], in_batch: bool) -> list[Block]:
    """Return the blocks of a batch, each direction's together."""
    batch, blocks = world.local, []
    related = _related(batch, world.whole) if in_batch else {}
    for direction in directions:
        if in_batch:
            make = {"query_to_query": _queries, "doc_to_query": _queries_of_documents}.get(direction, _documents)
            blocks.append(make(world, direction, related))
        for place, negatives in enumerate(batch.negatives):
            if direction == "query_to_doc" or (direction == "doc_to_doc" and negatives.shared):
                blocks.append(_negatives(batch, direction, place, negatives, in_batch))
    return blocks


def unit_rows(world: World, cosine: bool, dtype: torch.dtype) -> Rows:
    """Return the rows of the model."""
    batch, whole = world.local, world.whole
    anchors, positives = _unit(whole.anchors, cosine, dtype), whole.positives
    if whole.positive_mask is not None:
        positives = positives.masked_fill(~whole.positive_mask[..., None], 0.0)
    positives = _unit(positives, cosine, dtype)
    own = slice(world.offset, world.offset + len(batch.anchors))
    negatives = tuple(_negative_rows(part.rows, part, cosine, dtype) for part in batch.negatives)
    return Rows(anchors[own], positives[own], anchors, positives.flatten(0, 1), negatives)


def guide_rows(world: World, dtype: torch.dtype) -> Rows | None:
    """Return the rows of the guide, whose scores are cosines."""
    if world.whole.guide is None:
        return None
    anchors, positives = (_unit(rows, True, dtype) for rows in world.whole.guide)
    own = slice(world.offset, world.offset + len(world.local.anchors))
    negatives = tuple(
        None if part.guide is None else _negative_rows(part.guide, part, True, dtype) for part in world.local.negatives
    )
    return Rows(anchors[own], positives[own], anchors, positives.flatten(0, 1), negatives)


def positive_scores(rows: Rows) -> torch.Tensor:
    """Return the score of each anchor with each of its positives, shape (b, n_positives)."""
    return (rows.anchors[:, None] * rows.positives).sum(dim=-1)


def block_scores(block: Block, rows: Rows, cosine: bool) -> torch.Tensor:
    """Return the scores of a block, shape (b, n_positives or 1, n)."""
    if block.direction == "query_to_query":
        return (rows.anchors @ rows.all_anchors.T)[:, None]
    if block.direction == "doc_to_query":
        return rows.positives @ rows.all_anchors.T
    candidates = rows.all_positives if block.place is None else rows.negatives[block.place]
    assert candidates is not None
    if block.direction == "doc_to_doc":
        return rows.positives @ candidates.T
    if candidates.ndim == 2:
        return (rows.anchors @ candidates.T)[:, None]
    scores = rows.anchors[:, None] @ candidates.mT  # (b, 1, m)
    if not cosine:
        return scores
    # Rows of an anchor's own are many: dividing their scores is cheaper than dividing them.
    return scores / _norms(candidates)[:, None]


def _unit(rows: torch.Tensor, cosine: bool, dtype: torch.dtype) -> torch.Tensor:
    rows = rows.to(dtype)
    # The gradient of a product takes fewer passes over the rows than that of a quotient.
    return rows * _norms(rows).reciprocal()[..., None] if cosine else rows


def _norms(rows: torch.Tensor) -> torch.Tensor:
    """Return the norms of rows, infinite for rows of zeros: they score 0, and have no direction to be moved in."""
    norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=-1)
    return norms.masked_fill(norms < _LEAST_NORM, torch.inf)


def _negative_rows(rows: torch.Tensor, negatives: Negatives, cosine: bool, dtype: torch.dtype) -> torch.Tensor:
    """Return rows with zeros for padding, which may hold anything: even zero times NaN is NaN in a gradient."""
    present = present_rows(negatives)
    if present is not None:
        rows = rows.masked_fill(~present[..., None], 0.0)
    return _unit(rows, cosine, dtype) if negatives.shared else rows.to(dtype)


def present_rows(negatives: Negatives) -> torch.Tensor | None:
    """Return which rows are no padding, of the shape of the rows; None for all."""
    present = None if negatives.mask is None or negatives.mask.ndim >= negatives.rows.ndim else negatives.mask
    if not negatives.shared and negatives.ids is not None:
        present = negatives.ids != -1 if present is None else present & (negatives.ids != -1)
    return present


def _documents(world: World, direction: str, related: dict[str, torch.Tensor]) -> Block:
    """Return the positives of all anchors, as negatives of the others."""
    whole = world.whole
    n_positives = whole.positives.shape[1]
    own = _own(world)
    refused = {"own": own if n_positives == 1 else own.repeat_interleave(n_positives, dim=1)}
    if whole.positive_mask is not None:
        refused["padding"] = ~whole.positive_mask.flatten()[None]
    mask = _local_mask(world)
    if mask is not None:
        refused["mask"] = mask
    return Block(
        direction,
        IN_BATCH,
        _with_axis(refused | related),
        None if whole.in_batch_log_weight is None else whole.in_batch_log_weight.flatten(),
        ids=None if whole.of_positives.ids is None else whole.of_positives.ids.flatten(),
    )


def _queries(world: World, direction: str, related: dict[str, torch.Tensor]) -> Block:
    """Return all anchors as negatives of the others. Those that share a positive are not each other's."""
    n_positives = world.whole.positives.shape[1]
    refused = {"own": _own(world)}
    mask = _local_mask(world)
    causes = related if mask is None else {"mask": mask, **related}
    for cause, found in causes.items():
        refused[cause] = torch.unflatten(found, 1, (-1, n_positives)).any(dim=2)
    anchors = _own_labels(world.local)
    for cause, labels in (("group", world.whole.of_anchors.groups), ("key", world.whole.of_anchors.keys)):
        same = share_label(anchors[cause], labels)
        if same is not None:
            refused[cause] = same | refused[cause] if cause in refused else same
    return Block(direction, IN_BATCH, _with_axis(refused))


def _queries_of_documents(world: World, direction: str, related: dict[str, torch.Tensor]) -> Block:
    """Return all anchors as negatives of the positives of others."""
    n_positives = world.whole.positives.shape[1]
    causes = dict(related)
    if world.whole is not world.local:
        causes = _related(world.whole, world.local)
    mask = _local_mask(world)
    refused = {"own": _own(world)[:, None]}
    if mask is not None:
        causes = {"mask": _transposed_mask(world), **causes}
    for cause, found in causes.items():  # (B, b * n_positives)
        refused[cause] = torch.unflatten(found.T, 0, (-1, n_positives))
    return Block(direction, IN_BATCH, refused)


def _negatives(batch: LossBatch, direction: str, place: int, negatives: Negatives, in_batch: bool) -> Block:
    """Return the negatives that a batch was given."""
    block = Block(direction, negatives.source, ids=negatives.ids, place=place, mined=not negatives.shared)
    if negatives.index is not None:
        _spread(block, negatives, negatives.index, direction, in_batch)
    else:
        block.log_weight = _as_block(negatives.log_weight)
        block.tiers, block.given = negatives.tiers, negatives.scores
    refused: dict[str, torch.Tensor] = {}
    if not negatives.shared and negatives.ids is not None:
        refused["padding"] = negatives.ids == -1
    if negatives.mask is not None:
        whole_rows = negatives.shared and negatives.mask.ndim == 1
        name = "mask" if negatives.shared and not whole_rows else "padding"
        found = ~negatives.mask if not whole_rows else ~negatives.mask[None]
        refused[name] = found | refused[name] if name in refused else found
    refused |= _identity(batch, Labels(negatives.ids, negatives.groups, negatives.keys))
    block.refused |= _with_axis(refused)
    return block


def _spread(block: Block, negatives: Negatives, index: torch.Tensor, direction: str, in_batch: bool) -> None:
    """Tell a block of shared rows which of them were mined for which anchor, and what came with those."""
    n = len(negatives.rows)
    drawn = index.new_zeros(len(index), n + 1, dtype=torch.bool)
    drawn = drawn.scatter(1, torch.where(index < 0, n, index), True)[:, :n]
    if direction == "doc_to_doc":
        block.refused["own"] = drawn[:, None]
        return
    block.mined, block.index = drawn[:, None], index
    if not in_batch:
        block.refused["other"] = ~drawn[:, None]
    if negatives.log_weight is not None:
        block.log_weight = _dense_weights(negatives.log_weight, index, n)[:, None]
    block.tiers = negatives.tiers
    if negatives.scores is not None:
        block.given = _dense(negatives.scores, index, n, torch.nan)


def _dense_weights(log_weight: torch.Tensor, index: torch.Tensor, n: int) -> torch.Tensor:
    """Return log weights by anchor and row, 0 for none; those of a row that was drawn twice are added up."""
    places, log_weight = torch.where(index < 0, n, index), log_weight.clamp(min=LEAST)
    dense = log_weight.new_zeros(len(index), n + 1)
    peak = dense.scatter_reduce(1, places, log_weight.detach(), "amax", include_self=False)
    total = dense.scatter_add(1, places, (log_weight - peak.gather(1, places)).exp())
    return (peak + torch.where(total > 0.0, total, 1.0).log())[:, :n]


def _dense(values: torch.Tensor, index: torch.Tensor, n: int, fill: float) -> torch.Tensor:
    """Return values by anchor and row."""
    dense = values.new_full((len(index), n + 1), fill)
    return dense.scatter(1, torch.where(index < 0, n, index), values)[:, :n]


def _related(anchors: LossBatch, documents: LossBatch) -> dict[str, torch.Tensor]:
    """Tell which positives of some anchors are positives of others too, by cause, shape (anchors, positives)."""
    labels = documents.of_positives
    flat = Labels(*(None if part is None else part.flatten() for part in (labels.ids, labels.groups, labels.keys)))
    found = _identity(anchors, flat)
    n_positives = documents.positives.shape[1]
    # Whoever asks the same has the same positives.
    for cause, name in (("id", "ids"), ("key", "keys")):
        own, others = getattr(anchors.of_anchors, name), getattr(documents.of_anchors, name)
        same = None if own is None else share_label([own[:, None]], others)
        if same is not None:
            same = same.repeat_interleave(n_positives, dim=1)
            found[cause] = found[cause] | same if cause in found else same
    return {cause: found[cause] for cause in ("id", "group", "key") if cause in found}


def _identity(batch: LossBatch, candidates: Labels) -> dict[str, torch.Tensor]:
    """Tell which candidates share a label with an anchor, by cause."""
    own = _own_labels(batch)
    found = {
        "id": share_label(own["id"], candidates.ids),
        "group": share_label(own["group"], candidates.groups),
        "key": share_label(own["key"], candidates.keys),
    }
    return {cause: mask for cause, mask in found.items() if mask is not None}


def _own_labels(batch: LossBatch) -> dict[str, list[torch.Tensor | None]]:
    anchors, positives = batch.of_anchors, batch.of_positives
    return {
        "id": [positives.ids, batch.known],
        "group": [None if anchors.groups is None else anchors.groups[:, None], positives.groups],
        "key": [None if anchors.keys is None else anchors.keys[:, None], positives.keys],
    }


def _own(world: World) -> torch.Tensor:
    """Tell which anchor of all is which of this rank, shape (b, B)."""
    places = torch.arange(len(world.whole.anchors), device=world.whole.anchors.device)
    return places == places[world.offset : world.offset + len(world.local.anchors), None]


def _local_mask(world: World) -> torch.Tensor | None:
    """Return what the mask refuses, among the positives of all ranks."""
    mask = world.local.mask
    if mask is None:
        return None
    n_positives = world.whole.positives.shape[1]
    before = world.offset * n_positives
    return pad(~mask, (before, len(world.whole.anchors) * n_positives - before - mask.shape[1]))


def _transposed_mask(world: World) -> torch.Tensor:
    """Return what the mask refuses, among all anchors and the positives of this rank."""
    mask = world.local.mask
    assert mask is not None
    after = len(world.whole.anchors) - world.offset - len(mask)
    return pad(~mask, (0, 0, world.offset, after))


def _with_axis(refused: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give masks of shape (b, n) the axis of positives."""
    return {cause: found[:, None] for cause, found in refused.items()}


def _as_block(values: torch.Tensor | None) -> torch.Tensor | None:
    return values if values is None or values.ndim == 1 else values[:, None]
