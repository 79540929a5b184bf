"""Pools: the candidates that share a denominator, with their logits."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from negfast.torch.false_negatives import score_mask
from negfast.torch.infonce import log_mass
from negfast.torch.loss_blocks import Block, Rows, block_scores, positive_scores
from negfast.torch.loss_settings import LossSettings, Stand
from negfast.torch.weighting import LEAST, log_count, weighted


class Pool(NamedTuple):
    """Candidates that share a denominator.

    Attributes
    ----------
    blocks : list of Block
        What they are, side by side.
    scores : Tensor, shape (b, n_positives or 1, n)
    logits : Tensor, shape (b, n_positives or 1, n)
        About -1e30 for what is refused.
    mass : Tensor, shape (b, n_positives or 1, 1)
        Logarithm of the sum of their exponentials; about -1e30 for none.
    unmasked : callable
        Returns logits at some places as they would be if nothing were refused.
    widths : list of int
        Candidates of each block.
    copies : int
        How often the positive is among them: once for each direction that leads from one of its sides to the other.
    log_count : Tensor, shape (b, n_positives or 1, 1), or None
        Logarithm of how many negatives there are, where that is asked for.
    soft : Tensor, shape (b, n_positives or 1, n), or None
        Logits of false negatives that count as positives, about -1e30 elsewhere.
    """

    blocks: list[Block]
    scores: torch.Tensor
    logits: torch.Tensor
    mass: torch.Tensor
    unmasked: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    widths: list[int]
    copies: int
    log_count: torch.Tensor | None
    soft: torch.Tensor | None


class Judge:
    """Compare scores of candidates with those of positives, by the model, a guide, or whoever mined them.

    Parameters
    ----------
    settings : LossSettings
    stand : Stand
    scores : Tensor, shape (b, n_positives)
        Of positives.
    guide : Rows or None
    mask : Tensor of bool, shape (b, n_positives), or None
        Which positives there are.
    mined : Tensor, shape (b,), or None
        Lowest positive scores by whoever mined the negatives.
    """

    def __init__(
        self,
        settings: LossSettings,
        stand: Stand,
        scores: torch.Tensor,
        guide: Rows | None,
        mask: torch.Tensor | None,
        mined: torch.Tensor | None,
    ) -> None:
        self._bounds = (settings.absolute_margin, stand.relative_margin, settings.max_score)
        self._lowest, self._guide = lowest_positive(scores, mask), guide
        self._guide_lowest = None if guide is None else lowest_positive(positive_scores(guide), mask)
        self._mined_lowest = None if mined is None else mined.to(scores.dtype)[:, None, None]

    def false_negatives(self, block: Block, scores: torch.Tensor) -> torch.Tensor | None:
        """Return which candidates of a block score too high, or None if there is no bound."""
        if self._bounds == (None, None, None):
            return None
        if self._guide is not None and self._guide_lowest is not None and self._guide.holds(block):
            return score_mask(block_scores(block, self._guide, True), self._guide_lowest, *self._bounds)
        found = score_mask(scores, self._lowest, *self._bounds)
        if block.given is None or self._mined_lowest is None:
            return found
        given = block.given.to(scores.dtype)[:, None]
        return torch.where(given.isnan(), found, score_mask(given, self._mined_lowest, *self._bounds))


def lowest_positive(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the lowest positive score of each anchor, shape (b, 1, 1), infinite for none."""
    scores = scores.detach() if mask is None else scores.detach().masked_fill(~mask, torch.inf)
    return scores.amin(dim=1)[:, None, None]


def make_pool(
    blocks: Sequence[Block],
    all_scores: Sequence[torch.Tensor],
    settings: LossSettings,
    stand: Stand,
    judge: Judge,
) -> Pool:
    """Return blocks as one pool; what their scores refuse is noted in them."""
    refused: list[torch.Tensor | None] = []
    attracted: list[torch.Tensor | None] = []
    for block, scores in zip(blocks, all_scores, strict=True):
        known = _any(block.refused, scores)
        false = judge.false_negatives(block, scores.detach())
        if false is not None:
            attracted.append(false if known is None else false & ~known)
            block.refused["score"] = false
            known = false if known is None else known | false
        refused.append(known)
    hardness = [_hardness(block, part, settings, stand) for block, part in zip(blocks, all_scores, strict=True)]
    dtype = all_scores[0].dtype
    scores = _together(all_scores)
    mask = _side_by_side(refused, all_scores, torch.bool)
    log_weight = _side_by_side([block.log_weight for block in blocks], all_scores, dtype)
    added = _side_by_side(hardness, all_scores, dtype)
    temperature = stand.temperature
    logits = weighted(scores, temperature, log_weight, added, settings.hard_weighted, mask)
    plain = partial(_unmasked, scores.detach(), temperature, log_weight, added)
    count = log_count(scores.detach(), log_weight, mask) if settings.debiased else None
    soft = None
    if settings.soft_positives and attracted:
        kept = _side_by_side(attracted, all_scores, torch.bool)
        soft = None if kept is None else (scores / temperature).masked_fill(~kept, LEAST)
    widths = [part.shape[2] for part in all_scores]
    copies = len({block.direction for block in blocks} & {"query_to_doc", "doc_to_query"})
    return Pool(list(blocks), scores, logits, log_mass(logits), plain, widths, copies, count, soft)


def _unmasked(
    scores: torch.Tensor,
    temperature: float | torch.Tensor,
    log_weight: torch.Tensor | None,
    hardness: torch.Tensor | None,
    *places: torch.Tensor,
) -> torch.Tensor:
    """Return logits at some places as if nothing were refused. What needs a mean over negatives is left out."""
    logits = scores[places] / (temperature.detach() if isinstance(temperature, torch.Tensor) else temperature)
    for added in (log_weight, hardness):
        if added is not None:
            logits = logits + added.detach().expand_as(scores)[places]
    return logits


def _hardness(block: Block, scores: torch.Tensor, settings: LossSettings, stand: Stand) -> torch.Tensor | None:
    """Return what hardness adds to the logits of a block."""
    if not stand.hardness_strength or block.direction != "query_to_doc":
        return None
    wanted: torch.Tensor | bool = True
    if settings.hardness_mode != "all_negatives":
        wanted = block.mined if settings.hardness_mode == "hard_negatives" else _not(block.mined)
    if wanted is False:
        return None
    added = stand.hardness_strength * scores.detach()
    return added if wanted is True else torch.where(wanted, added, 0.0)


def _not(value: torch.Tensor | bool) -> torch.Tensor | bool:
    return ~value if isinstance(value, torch.Tensor) else not value


def _any(refused: dict[str, torch.Tensor], scores: torch.Tensor) -> torch.Tensor | None:
    found = None
    for mask in refused.values():
        found = mask if found is None else found | mask
    return None if found is None else found.expand_as(scores)


def _together(scores: Sequence[torch.Tensor]) -> torch.Tensor:
    found = _side_by_side(scores, scores, scores[0].dtype)
    assert found is not None
    return found


def _side_by_side(
    parts: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor], dtype: torch.dtype
) -> torch.Tensor | None:
    """Return what broadcasts to scores, zero for none, side by side; None if there is nothing."""
    if all(part is None for part in parts):
        return None
    if len(parts) == 1:
        return parts[0] if parts[0] is None else parts[0].to(dtype)
    n_positives = max(scores.shape[1] for scores in like)
    shapes = [(len(scores), n_positives, scores.shape[2]) for scores in like]
    return torch.cat(
        [
            like[0].new_zeros(shape, dtype=dtype) if part is None else part.to(dtype).expand(shape)
            for part, shape in zip(parts, shapes, strict=True)
        ],
        dim=2,
    )
