"""What a step tells about its negatives, worked out when it is asked for."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import torch

from negfast.settings import whole
from negfast.signals import Signals
from negfast.torch.loss_blocks import Block, Rows
from negfast.torch.loss_pool import Pool, lowest_positive
from negfast.torch.weighting import LEAST

TIER_NAMES = ("unknown", "easy", "semi_hard", "hard")
CAUSES = ("mask", "id", "group", "key", "score")
"""Why a candidate is no negative, in the order in which a cause counts."""
_APART = ("own", "other", "padding")  # no candidates at all
_NUMBERS = (
    "positive_distance",
    "negative_distance",
    "effective_negatives",
    "positive_probability",
    "false_negative_share",
    "spread",
)
_QUANTILES = 9
_SAMPLE = 1 << 13  # of hardness, for quantiles


class Offender(NamedTuple):
    """A row of the corpus that makes up much of the loss.

    Attributes
    ----------
    id : int
    mass : float
        Its softmax share, summed over anchors. For those that score masked it is what they would have.
    n_anchors : int
        How many anchors it was a candidate of.
    masked : int
        For how many of them its score masked it: it may be a false negative.
    """

    id: int
    mass: float
    n_anchors: int
    masked: int


class _Cut(NamedTuple):
    """Takes the columns of one block from values of a pool."""

    begin: int
    end: int

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return values[..., self.begin : self.end]


class LossStatistics:
    """What made up the loss of a step.

    Made by :class:`CurriculumLoss`. Nothing is worked out before it is asked for, nothing needs a gradient, and on a
    device nothing waits for it before a number is read.

    Attributes
    ----------
    loss : Tensor without an axis
        Detached.

    Notes
    -----
    Shares are those of the softmax over the positive and its negatives, with all their weights, and before `debiased`
    corrects it; averaged over the positives of an anchor, then over anchors, and over directions where these have
    denominators of their own. They say how strongly a negative pulls: the gradient of the loss for its logit is its
    share (P. Khosla et al., *Supervised contrastive learning*, 2020).

    Limitations
    -----------
    It holds on to the scores of the batch. Let go of it before the next step.
    """

    def __init__(
        self,
        loss: torch.Tensor,
        scores: torch.Tensor,
        logits: torch.Tensor,
        positive_mask: torch.Tensor | None,
        pools: Sequence[Pool],
        rows: Rows,
    ) -> None:
        self.loss = loss.detach()
        self._scores, self._logits, self._mask = scores.detach(), logits.detach(), positive_mask
        self._pools = [_detached(pool) for pool in pools]
        self._documents = rows.all_positives.detach()

    def signals(self) -> Signals:
        """Return what an :class:`negfast.AdaptiveCurriculum` observes; one transfer from the device.

        What there was nothing to measure of, such as the distance of negatives where all are masked, is None.
        """
        names = ("loss", *_NUMBERS)
        values, counts = [self.loss, *(getattr(self, f"_{name}") for name in _NUMBERS)], self._measured
        plain = _plain([*values, *(counts[name] for name in names)], self._hardness_quantiles)
        found = zip(names, plain, plain[len(names) :], strict=False)
        numbers = {name: value if count else None for name, value, count in found}
        quantiles = tuple(plain[2 * len(names) :])
        return Signals(**numbers, hardness_quantiles=None if math.isnan(quantiles[0]) else quantiles)

    @property
    def positive_probability(self) -> float:
        """The mean share of the positive."""
        return float(self._positive_probability)

    @property
    def positive_distance(self) -> float:
        """1 minus the mean score of anchors and their positives."""
        return float(self._positive_distance)

    @property
    def negative_distance(self) -> float:
        """1 minus the mean score of anchors and their negatives, weighted by their shares among these."""
        return float(self._negative_distance)

    @property
    def effective_negatives(self) -> float:
        """The exponential of the entropy of shares among an anchor's negatives; the mean over anchors."""
        return float(self._effective_negatives)

    @property
    def false_negative_share(self) -> float:
        """What part of the candidates is masked, by whatever cause."""
        return float(self._false_negative_share)

    @property
    def spread(self) -> float:
        """The mean score of pairs of positives; near 1 all rows point the same way."""
        return float(self._spread)

    @property
    def hardness_quantiles(self) -> tuple[float, ...]:
        """The nine deciles of the hardness of negatives, NaN without any; of a sample of 8,192, if there are more."""
        return tuple(self._hardness_quantiles.tolist())

    @cached_property
    def masked_shares(self) -> dict[str, float]:
        """What part of the candidates is masked by each cause; by the first one where there are several."""
        counts = self._masked_counts
        return dict(zip(CAUSES, _plain([counts[cause] for cause in CAUSES]), strict=True))

    @cached_property
    def source_shares(self) -> dict[str, float]:
        """What part of the negatives is from each source."""
        return _in_parts(_by_source(self._pools, self._counts))

    @cached_property
    def source_mass(self) -> dict[str, float]:
        """What share negatives of each source have; with :attr:`positive_probability` they add up to 1."""
        mass = _by_source(self._pools, self._column_mass)
        return dict(zip(mass, _plain(list(mass.values())), strict=True))

    @cached_property
    def tier_shares(self) -> dict[str, float]:
        """What part of the negatives that were mined for an anchor, and whose tier is known, is of each tier."""
        return _in_parts(self._by_tier(mass=False))

    @cached_property
    def tier_mass(self) -> dict[str, float]:
        """What share these have."""
        mass = self._by_tier(mass=True)
        return dict(zip(mass, _plain([value / self._n_anchors for value in mass.values()]), strict=True))

    def pairs(self, source: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ids of negatives and their shares, as :meth:`NegativeSampler.update` takes them.

        Parameters
        ----------
        source : str, optional
            Only of these. By default, of all that were mined or found for an anchor.

        Returns
        -------
        ids : Tensor of int64, shape (n,)
            -1 where there is none, or it was masked.
        mass : Tensor of float32 or float64, shape (n,)
            The share in the softmax of that anchor, from 0 to 1.
        """
        ids, mass = [self._logits.new_empty(0, dtype=torch.int64)], [self._logits.new_empty(0)]
        for block, kept, share in self._mined:
            if block.ids is not None and source in (None, block.source):
                known = block.ids if block.index is None else _picked(block.ids, block.index)
                ids.append(torch.where(kept, known, -1).flatten())
                mass.append(share.flatten())
        return torch.cat(ids), torch.cat(mass)

    def offenders(self, k: int = 10) -> list[Offender]:
        """Return the ids that make up most of the loss, those that only their score masked included.

        Parameters
        ----------
        k : int, default 10
            The most that are returned.

        Returns
        -------
        list of Offender
            By mass, largest first. Only candidates with an id, of the direction from queries to documents.
        """
        k = whole("k", k, low=0)
        pool, parts = self._pools[0], []
        for (block, cut), mass in zip(_parts(pool), self._column_mass[0], strict=True):
            if block.ids is not None and block.direction == "query_to_doc":
                masked = _masked_by_score(block)
                parts.append((block.ids, cut, mass + self._would_be(block, cut, masked), masked))
        if not parts or not k:
            return []
        ids, places = torch.unique(torch.cat([part[0].flatten() for part in parts]), return_inverse=True)
        mass = torch.cat([part[2].flatten() for part in parts])
        total = mass.new_zeros(len(ids)).index_add(0, places, mass)
        ids, total = ids[ids != -1], total[ids != -1]
        best = total.argsort(descending=True, stable=True)[:k]
        if not len(best):
            return []
        met = self._met(ids[best], parts)
        entries = zip(ids[best].tolist(), (total[best] * self._n_anchors).tolist(), *met.tolist(), strict=True)
        return [Offender(row, share, n, masked) for row, share, n, masked in entries if n]

    def _would_be(self, block: Block, cut: _Cut, masked: torch.Tensor | None) -> torch.Tensor:
        """Return what shares candidates would have that only their score masked, summed as those of a block."""
        pool, shape = self._pools[0], cut(self._pools[0].logits).shape
        total = self._logits.new_zeros(shape[0] if _of_anchors(block) else 1, shape[2])
        if masked is not None:
            i, q, j = masked.expand(shape).nonzero(as_tuple=True)
            would = pool.unmasked(i, q, j + cut.begin)[:, None]
            everything = torch.logaddexp(self._own(pool), pool.mass[..., 0])  # (b, n_positives), with the positive
            if shape[1] > 1:
                everything, weights = everything[i, q][:, None], self._weights[i, q][:, None]
            else:
                everything, weights = everything[i], self._weights[i]
            share = (weights * (would - torch.logaddexp(everything, would)).exp()).sum(dim=1)
            total.index_put_((i if _of_anchors(block) else torch.zeros_like(i), j), share, accumulate=True)
        return total if _of_anchors(block) else total[0]

    def _met(
        self, ids: torch.Tensor, parts: Sequence[tuple[torch.Tensor, _Cut, torch.Tensor, torch.Tensor | None]]
    ) -> torch.Tensor:
        """Return how many anchors met each of some ids, and for how many their score masked them; shape (2, n)."""
        logits, met = self._pools[0].logits, ids.new_zeros(2, len(ids))
        for own, cut, _, masked in parts:
            places = torch.isin(own, ids).nonzero(as_tuple=True)
            which = (own[places][:, None] == ids).int().argmax(dim=1)
            if own.ndim == 2:
                i, j = places
                kept = _kept(cut(logits)[i, :, j]).any(dim=1)
                false = torch.zeros_like(kept) if masked is None else masked[i, :, j].any(dim=1)
                counts = kept | false, false
            else:
                kept = _kept(cut(logits)[..., places[0]]).any(dim=1)
                false = torch.zeros_like(kept) if masked is None else masked[..., places[0]].any(dim=1)
                counts = (kept | false).sum(dim=0), false.sum(dim=0)
            for row, count in zip(met, counts, strict=True):
                row.index_add_(0, which, count.to(row.dtype))
        return met

    def _own(self, pool: Pool) -> torch.Tensor:
        """Return logits of positives, as often as they are in the denominator; shape (b, n_positives)."""
        return self._logits + math.log(pool.copies)

    @property
    def _n_anchors(self) -> torch.Tensor:
        """How many anchors have a positive."""
        return (self._weights > 0.0).any(dim=1).sum().clamp(min=1)

    @property
    def _measured(self) -> dict[str, torch.Tensor]:
        """How much each signal is a mean of; 0 for nothing."""
        positives = (self._weights > 0.0).sum()
        met = torch.stack([(_kept(pool.mass[..., 0]) & (self._weights > 0.0)).sum() for pool in self._pools]).sum()
        documents = (self._documents.square().sum(dim=1) > 0.0).sum()
        return {
            "loss": positives,
            "positive_distance": positives,
            "negative_distance": met,
            "effective_negatives": met,
            "positive_probability": met,
            "false_negative_share": self._n_candidates,
            "spread": documents > 1,
        }

    @cached_property
    def _weights(self) -> torch.Tensor:
        """The weight of each positive, shape (b, n_positives); they add up to 1."""
        if self._mask is None:
            return torch.full_like(self._logits, 1.0 / max(self._logits.numel(), 1))
        n = self._mask.sum(dim=1, keepdim=True)
        return self._mask / n.clamp(min=1) / (n > 0).sum().clamp(min=1)

    @cached_property
    def _conditional(self) -> list[torch.Tensor]:
        """Shares among the negatives, of each pool; shape (b, n_positives or 1, n)."""
        return [(pool.logits - torch.where(_kept(pool.mass), pool.mass, 0.0)).exp_() for pool in self._pools]

    @cached_property
    def _outer(self) -> torch.Tensor:
        """The share of all negatives beside each positive, in the first pool; shape (b, n_positives)."""
        return self._negative_share(self._pools[0])

    def _negative_share(self, pool: Pool) -> torch.Tensor:
        present = self._weights > 0.0
        return torch.where(present, (pool.mass[..., 0] - self._own(pool)).sigmoid(), 0.0)

    @cached_property
    def _column_mass(self) -> list[list[torch.Tensor]]:
        """Shares of the rows of each block of each pool, over all anchors; (n,), and (b, n) for an anchor's own."""
        found = []
        for pool, shares in zip(self._pools, self._conditional, strict=True):
            outer = self._weights * self._negative_share(pool) / len(self._pools)
            outer = outer.sum(dim=1, keepdim=True) if shares.shape[1] == 1 else outer
            found.append([_columns(block, cut(shares), outer) for block, cut in _parts(pool)])
        return found

    @cached_property
    def _counts(self) -> list[list[torch.Tensor]]:
        """How many negatives each block of each pool has."""
        found = []
        for pool in self._pools:
            # Counting is slow where values do not lie side by side; comparing puts them there.
            found.append([_kept(cut(pool.logits)).contiguous().count_nonzero() for _, cut in _parts(pool)])
        return found

    @cached_property
    def _positive_probability(self) -> torch.Tensor:
        shares = [(self._weights * (self._own(pool) - pool.mass[..., 0]).sigmoid()).sum() for pool in self._pools]
        return torch.stack(shares).mean()

    @cached_property
    def _positive_distance(self) -> torch.Tensor:
        return 1.0 - (self._weights * self._scores).sum()

    @cached_property
    def _negative_distance(self) -> torch.Tensor:
        found = [
            _mean(_dot(shares, pool.scores), _kept(pool.mass[..., 0]))
            for pool, shares in zip(self._pools, self._conditional, strict=True)
        ]
        return 1.0 - torch.stack(found).mean()

    @cached_property
    def _effective_negatives(self) -> torch.Tensor:
        found = []
        for pool, shares in zip(self._pools, self._conditional, strict=True):
            entropy = pool.mass[..., 0] - _dot(shares, pool.logits)
            found.append(_mean(entropy.exp(), _kept(pool.mass[..., 0])))
        return torch.stack(found).mean()

    @cached_property
    def _n_candidates(self) -> torch.Tensor:
        n = self._logits.new_zeros(())
        for pool in self._pools:
            for block, cut in _parts(pool):
                like, apart = cut(pool.logits), _together(block, _APART)
                n = n + (like.numel() if apart is None else like.numel() - apart.expand_as(like).count_nonzero())
        return n

    @cached_property
    def _masked_counts(self) -> dict[str, torch.Tensor]:
        """The part of the candidates that each cause masks."""
        counts = {cause: self._logits.new_zeros(()) for cause in CAUSES}
        for pool in self._pools:
            for block, cut in _parts(pool):
                like, before = cut(pool.logits), _together(block, _APART)
                for cause in CAUSES:
                    if cause in block.refused:
                        found = block.refused[cause].expand_as(like)
                        counts[cause] = counts[cause] + (found if before is None else found & ~before).count_nonzero()
                        before = found if before is None else before | found
        return {cause: count / self._n_candidates.clamp(min=1) for cause, count in counts.items()}

    @cached_property
    def _false_negative_share(self) -> torch.Tensor:
        kept = torch.stack([counts for pool in self._counts for counts in pool]).sum()
        n = self._n_candidates
        return (n - kept) / n.clamp(min=1)

    @cached_property
    def _spread(self) -> torch.Tensor:
        rows = self._documents
        kept = rows.square().sum(dim=1) > 0.0  # padding is zeros
        n = kept.sum()
        together = rows.sum(dim=0).square().sum() - rows.square().sum()
        return together / (n * (n - 1)).clamp(min=1)

    @cached_property
    def _hardness_quantiles(self) -> torch.Tensor:
        lowest = lowest_positive(self._scores, self._mask)
        sample = torch.cat([_sampled(pool, lowest, _SAMPLE // len(self._pools)) for pool in self._pools])
        levels = torch.arange(1, _QUANTILES + 1, device=sample.device, dtype=sample.dtype) / (_QUANTILES + 1)
        if not len(sample):
            return torch.full_like(levels, torch.nan)
        return sample.nanquantile(levels)

    @cached_property
    def _mined(self) -> list[tuple[Block, torch.Tensor, torch.Tensor]]:
        """Blocks that were mined or found for anchors, what is kept of them, and its shares for its anchor, (b, m)."""
        pool, shares, found = self._pools[0], self._conditional[0], []
        n = (self._weights > 0.0).sum(dim=1).clamp(min=1)[:, None]
        for block, cut in _parts(pool):
            if block.direction != "query_to_doc" or block.mined is False:
                continue
            part, kept = cut(shares), _kept(cut(pool.logits))
            if block.index is not None:
                index = block.index[:, None].expand(-1, part.shape[1], -1)
                part, kept = _picked(part, index), _picked(kept, index)
            found.append((block, kept.any(dim=1), (self._outer[..., None] * part).sum(dim=1) / n))
        return found

    def _by_tier(self, *, mass: bool) -> dict[str, torch.Tensor]:
        """Return how many mined negatives are of each tier, or their shares."""
        found = {name: self._logits.new_zeros(()) for name in TIER_NAMES}
        for block, kept, share in self._mined:
            if block.tiers is not None:
                for tier, name in enumerate(TIER_NAMES):
                    found[name] = found[name] + ((share if mass else kept) * (block.tiers == tier)).sum()
        return found


def _parts(pool: Pool) -> Iterator[tuple[Block, _Cut]]:
    begin = 0
    for block, width in zip(pool.blocks, pool.widths, strict=True):
        yield block, _Cut(begin, begin + width)
        begin += width


def _of_anchors(block: Block) -> bool:
    """Return whether a block has other rows for each anchor."""
    return block.ids is not None and block.ids.ndim == 2


def _columns(block: Block, shares: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
    """Return shares of shape (b, q, n), weighted by `outer` of shape (b, q), for each row of a block."""
    if _of_anchors(block):
        return (outer[..., None] * shares).sum(dim=1)
    return outer.flatten() @ shares.expand(-1, outer.shape[1], -1).flatten(0, 1)


def _kept(logits: torch.Tensor) -> torch.Tensor:
    return logits > LEAST / 2


def _together(block: Block, causes: Sequence[str]) -> torch.Tensor | None:
    """Return what any of some causes refuses, or None where there are none of them."""
    found = None
    for cause in causes:
        if cause in block.refused:
            found = block.refused[cause] if found is None else found | block.refused[cause]
    return found


def _masked_by_score(block: Block) -> torch.Tensor | None:
    """Return what a score masks and nothing else refuses."""
    if "score" not in block.refused:
        return None
    others = _together(block, (*_APART, *CAUSES[:-1]))
    return block.refused["score"] if others is None else block.refused["score"] & ~others


def _sampled(pool: Pool, lowest: torch.Tensor, n: int) -> torch.Tensor:
    """Return the hardness of every so many candidates, NaN for what is no negative."""
    width = max(pool.logits.shape[-1], 1)
    stride = max(-(-pool.logits.numel() // n), 1)
    while stride > 1 and math.gcd(stride, width) > 1:
        stride += 1  # so that all columns are met
    logits, scores = (values.flatten()[::stride] for values in (pool.logits, pool.scores))
    rows = torch.arange(len(logits), device=logits.device) * stride // (width * pool.logits.shape[1])
    below = lowest.flatten()[rows]
    return torch.where(_kept(logits) & below.isfinite(), scores - below, torch.nan)


def _picked(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return values of shared rows at the places of each anchor's own, and nothing for padding."""
    if not values.shape[-1]:
        return values.new_zeros(index.shape)
    if values.ndim == 1:
        return torch.where(index >= 0, values[index.clamp(min=0)], -1)
    return torch.where(index >= 0, values.gather(-1, index.clamp(min=0)), values.new_zeros(()))


def _dot(shares: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the sum of products over the last axis, without writing the products down."""
    return (shares[..., None, :] @ values[..., None])[..., 0, 0]


def _mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)


def _by_source(pools: Sequence[Pool], columns: Sequence[Sequence[torch.Tensor]]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for pool, parts in zip(pools, columns, strict=True):
        for block, part in zip(pool.blocks, parts, strict=True):
            total = part.sum()
            found[block.source] = found[block.source] + total if block.source in found else total
    return found


def _in_parts(counts: dict[str, torch.Tensor]) -> dict[str, float]:
    plain = _plain(list(counts.values()))
    return {name: count / max(sum(plain), 1.0) for name, count in zip(counts, plain, strict=True)}


def _plain(values: Sequence[torch.Tensor], more: torch.Tensor | None = None) -> list[float]:
    """Return numbers from the device in one transfer."""
    if not values:
        return []
    numbers = torch.stack([value.double() for value in values])
    found: list[float] = (numbers if more is None else torch.cat([numbers, more.double()])).tolist()
    return found


def _detached(pool: Pool) -> Pool:
    return pool._replace(scores=pool.scores.detach(), logits=pool.logits.detach(), mass=pool.mass.detach(), soft=None)
