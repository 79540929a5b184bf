"""What a step tells about its negatives, worked out when it is asked for."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import torch

from negfast.settings import whole
from negfast.signals import Signals
from negfast.torch.infonce import log_mass
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
_SAMPLE = 1 << 14  # of hardness, for quantiles


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
        """Return what an :class:`negfast.AdaptiveCurriculum` observes; one transfer from the device."""
        measured = {name: getattr(self, f"_{name}") for name in _NUMBERS}
        plain = _plain([self.loss, *measured.values()], self._hardness_quantiles)
        numbers = dict(zip(("loss", *measured), plain, strict=False))
        quantiles = tuple(plain[len(numbers) :])
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
        """The nine deciles of the hardness of negatives, NaN without any; of a sample of 16,384, if there are more."""
        return tuple(self._hardness_quantiles.tolist())

    @cached_property
    def masked_shares(self) -> dict[str, float]:
        """What part of the candidates is masked by each cause; by the first one where there are several."""
        counts = self._masked_counts
        return dict(zip(CAUSES, _plain([counts[cause] for cause in CAUSES]), strict=True))

    @cached_property
    def source_shares(self) -> dict[str, float]:
        """What part of the negatives is from each source."""
        counts: dict[str, torch.Tensor] = {}
        for pool in self._pools:
            for block, part in _parts(pool):
                counts[block.source] = counts.get(block.source, 0.0) + part(_kept(pool.logits)).sum()
        return _shares(counts)

    @cached_property
    def source_mass(self) -> dict[str, float]:
        """What share negatives of each source have; with :attr:`positive_probability` they add up to 1."""
        mass: dict[str, torch.Tensor] = {}
        for pool, shares in zip(self._pools, self._candidate_shares, strict=True):
            for block, part in _parts(pool):
                found = part(shares).sum() / len(self._pools)
                mass[block.source] = mass[block.source] + found if block.source in mass else found
        return dict(zip(mass, _plain(list(mass.values())), strict=True))

    @cached_property
    def tier_shares(self) -> dict[str, float]:
        """What part of the negatives that were mined for an anchor, and whose tier is known, is of each tier."""
        return _shares(self._by_tier(lambda pool, _: _kept(pool.logits)[:, 0]))

    @cached_property
    def tier_mass(self) -> dict[str, float]:
        """What share these have."""
        found = self._by_tier(lambda _, shares: shares)
        return dict(zip(found, _plain(list(found.values())), strict=True))

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
        for block, kept, share in self._mined_blocks():
            if source is None or block.source == source:
                known = torch.where(kept, -1 if block.ids is None else block.ids, -1)
                if block.index is not None:
                    known = torch.where(block.index >= 0, _gathered(known, block.index), -1)
                    share = _gathered(share, block.index)
                ids.append(known.flatten())
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
        found = [self._weighed(block, pool, part) for pool in self._pools[:1] for block, part in _parts(pool)]
        found = [entry for entry in found if entry is not None]
        if not found:
            return []
        ids, mass, masked = (torch.cat(values) for values in zip(*found, strict=True))
        distinct, places = torch.unique(ids, return_inverse=True)
        total, n, n_masked = (
            mass.new_zeros(len(distinct)).index_add(0, places, values)
            for values in (mass, torch.ones_like(mass), masked.to(mass.dtype))
        )
        best = total.argsort(descending=True, stable=True)[:k]
        columns = (values[best].tolist() for values in (distinct, total, n, n_masked))
        return [Offender(row, share, int(a), int(m)) for row, share, a, m in zip(*columns, strict=True)]

    @cached_property
    def _weights(self) -> torch.Tensor:
        """The weight of each positive, shape (b, n_positives); they add up to 1."""
        if self._mask is None:
            return torch.full_like(self._logits, 1.0 / max(self._logits.numel(), 1))
        n = self._mask.sum(dim=1, keepdim=True)
        return self._mask / n.clamp(min=1) / (n > 0).sum().clamp(min=1)

    @cached_property
    def _masses(self) -> list[torch.Tensor]:
        """Log mass of the negatives, of each pool; shape (b, n_positives or 1, 1)."""
        return [log_mass(pool.logits) for pool in self._pools]

    @cached_property
    def _conditional(self) -> list[torch.Tensor]:
        """Shares among the negatives, of each pool; shape (b, n_positives or 1, n)."""
        return [
            torch.where(_kept(mass), (pool.logits - mass).exp(), 0.0)
            for pool, mass in zip(self._pools, self._masses, strict=True)
        ]

    @cached_property
    def _candidate_shares(self) -> list[torch.Tensor]:
        """Shares in the softmax, averaged over positives and divided by the number of anchors; shape (b, n)."""
        found = []
        for mass, shares in zip(self._masses, self._conditional, strict=True):
            outer = self._weights * (mass[..., 0] - self._logits).sigmoid()  # (b, n_positives)
            found.append(
                (outer.sum(dim=1, keepdim=True)[..., None] if shares.shape[1] == 1 else outer[..., None]) * shares
            )
        return [entry.sum(dim=1) for entry in found]

    @cached_property
    def _positive_probability(self) -> torch.Tensor:
        shares = [(self._weights * (self._logits - mass[..., 0]).sigmoid()).sum() for mass in self._masses]
        return torch.stack(shares).mean()

    @cached_property
    def _positive_distance(self) -> torch.Tensor:
        return 1.0 - (self._weights * self._scores).sum()

    @cached_property
    def _negative_distance(self) -> torch.Tensor:
        found = [
            _mean((shares * pool.scores).sum(dim=-1), _kept(mass[..., 0]))
            for pool, shares, mass in zip(self._pools, self._conditional, self._masses, strict=True)
        ]
        return 1.0 - torch.stack(found).mean()

    @cached_property
    def _effective_negatives(self) -> torch.Tensor:
        found = []
        for pool, shares, mass in zip(self._pools, self._conditional, self._masses, strict=True):
            entropy = mass[..., 0] - (shares * pool.logits).sum(dim=-1)
            found.append(_mean(entropy.exp(), _kept(mass[..., 0])))
        return torch.stack(found).mean()

    @cached_property
    def _masked_counts(self) -> dict[str, torch.Tensor]:
        """The part of the candidates that each cause masks."""
        counts = {cause: self._logits.new_zeros(()) for cause in CAUSES}
        total = self._logits.new_zeros(())
        for pool in self._pools:
            for block, part in _parts(pool):
                shape = part(pool.logits)
                left = _candidates(block, shape)
                total = total + left.sum()
                for cause in CAUSES:
                    if cause in block.refused:
                        hit = left & block.refused[cause]
                        counts[cause] = counts[cause] + hit.sum()
                        left = left & ~hit
        return {cause: count / total.clamp(min=1.0) for cause, count in counts.items()}

    @cached_property
    def _false_negative_share(self) -> torch.Tensor:
        return torch.stack(list(self._masked_counts.values())).sum()

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

    def _mined_blocks(self) -> Iterator[tuple[Block, torch.Tensor, torch.Tensor]]:
        """Yield blocks with ids that were mined or found for anchors, which are kept, and their shares; (b, n)."""
        pool, shares = self._pools[0], self._candidate_shares[0]
        n_anchors = self._weights.sum(dim=1, keepdim=True)
        own = torch.where(n_anchors > 0.0, shares / n_anchors.clamp(min=1e-30), 0.0)
        for block, part in _parts(pool):
            if block.direction == "query_to_doc" and block.ids is not None and block.mined is not False:
                yield block, part(_kept(pool.logits))[:, 0], part(own)

    def _by_tier(self, of: Callable[[Pool, torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {name: self._logits.new_zeros(()) for name in TIER_NAMES}
        pool, shares = self._pools[0], self._candidate_shares[0]
        for block, part in _parts(pool):
            if block.tiers is None or block.direction != "query_to_doc":
                continue
            values = part(of(pool, shares)) * (block.mined[:, 0] if isinstance(block.mined, torch.Tensor) else 1)
            for tier, name in enumerate(TIER_NAMES):
                found[name] = found[name] + (values * (block.tiers == tier)).sum()
        return found

    def _weighed(self, block: Block, pool: Pool, part: _Cut) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Return ids, masses and whether a score masked them, of a block's candidates."""
        if block.ids is None or block.direction != "query_to_doc":
            return None
        scores, kept = part(pool.scores), part(_kept(pool.logits))
        masked = torch.zeros_like(kept)
        if "score" in block.refused:
            masked = _candidates(block, scores) & block.refused["score"]
            for cause in CAUSES[:-1]:
                if cause in block.refused:
                    masked = masked & ~block.refused[cause]
        would = part(pool.unmasked())
        everything = torch.logaddexp(self._logits, self._masses[0][..., 0])[..., None]  # with the positive
        joined = torch.where(masked, torch.logaddexp(everything, would), everything)
        share = (self._weights[..., None] * (would - joined).exp()).sum(dim=1) * max(len(self._logits), 1)
        shown = (kept | masked).any(dim=1)
        ids = block.ids.expand_as(shown)
        shown = shown & (ids >= 0)
        return ids[shown], share[shown], masked.any(dim=1)[shown]


def _parts(pool: Pool) -> Iterator[tuple[Block, _Cut]]:
    begin = 0
    for block, width in zip(pool.blocks, pool.widths, strict=True):
        yield block, _Cut(begin, begin + width)
        begin += width


def _kept(logits: torch.Tensor) -> torch.Tensor:
    return logits > LEAST / 2


def _candidates(block: Block, like: torch.Tensor) -> torch.Tensor:
    """Return what of a block might be a negative at all."""
    found = torch.ones_like(like, dtype=torch.bool)
    for cause in _APART:
        if cause in block.refused:
            found = found & ~block.refused[cause]
    return found


def _sampled(pool: Pool, lowest: torch.Tensor, n: int) -> torch.Tensor:
    """Return the hardness of every so many candidates, NaN for what is no negative."""
    hardness = torch.where(_kept(pool.logits), pool.scores - lowest, torch.nan).masked_fill(lowest.isinf(), torch.nan)
    stride = -(-hardness.numel() // n)
    while stride > 1 and math.gcd(stride, hardness.shape[-1]) > 1:
        stride += 1  # so that all columns are met
    return hardness.flatten()[:: max(stride, 1)]


def _gathered(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return values of a block by the places of an anchor's own, with nothing for padding."""
    if not values.shape[1]:
        return values.new_zeros(index.shape)
    return torch.where(index >= 0, values.gather(1, index.clamp(min=0)), values.new_zeros(()))


def _mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)


def _shares(counts: dict[str, torch.Tensor]) -> dict[str, float]:
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
    return pool._replace(scores=pool.scores.detach(), logits=pool.logits.detach(), soft=None)
