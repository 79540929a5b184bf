"""A miner for the losses of pytorch-metric-learning."""

from dataclasses import replace
from typing import Any

import torch
from pytorch_metric_learning.miners import BaseMiner

from negfast import threads
from negfast.integrations.pytorch_metric_learning.batch import Batch, checked_batch, refuse_for_torch
from negfast.integrations.pytorch_metric_learning.blocks import by_torch
from negfast.integrations.pytorch_metric_learning.choice import (
    Form,
    TripletType,
    Used,
    checked_choice,
    checked_distance,
    checked_margin,
    checked_number,
    compiled_measure,
)
from negfast.integrations.pytorch_metric_learning.compiled import Found, by_core, can_read
from negfast.settings import Rules

_NO_MARGIN = Rules(relative_margin=None)


class NegfastMiner(BaseMiner):
    """Mine triplets or pairs of a batch, the closest negatives of each positive pair, in bounded memory.

    Works in every loss that takes an ``indices_tuple``, inside ``CrossBatchMemory`` and inside
    ``DistributedMinerWrapper``.

    Parameters
    ----------
    margin : float, default 0.2
        The margin of a triplet is the distance of its negative less that of its positive; of a similarity, that of the
        positive less that of the negative. May be infinite.
    type_of_triplets : {"any", "all", "hard", "semihard", "easy"}, default "all"
        Triplets of any margin; those whose margin is at most `margin`; of these, those whose margin is at most 0, or
        above it; or those whose margin is above `margin`. All but the first are those of ``TripletMarginMiner``.
    num_negatives : int or None, default 8
        The most negatives of a positive pair; of an anchor for pairs. The closest are taken, best first. ``None``: all,
        in the order of their rows.
    positives : {"all", "hardest", "easiest"}, default "all"
        Which positives of an anchor are used: all, the farthest or the closest.
    tuples : {"triplets", "pairs"}, default "triplets"
        Return ``(anchors, positives, negatives)``; or ``(anchors, positives, anchors, negatives)``, with each positive
        and each negative that is in some triplet once for its anchor.
    rules : Rules, optional
        Guard rails, none by default: `relative_margin`, `absolute_margin`, `max_score`, `min_score` and
        `duplicate_of_positive`. Scores are what `distance` measures, distances with a minus sign.
    distance : BaseDistance, optional
        ``LpDistance(p=2)`` by default, as for their miners.
    collect_stats : bool, optional
        Note statistics, as their miners do; by default as their library is set.
    n_threads : as in :func:`negfast.mine`

    Attributes
    ----------
    margin, num_negatives : float, int or None
        May be set between calls, as on a schedule.
    num_triplets, num_pos_pairs, num_neg_pairs : int
        What the last call returned, with `collect_stats`.
    avg_triplet_margin, pos_pair_dist, neg_pair_dist : float
        Means over all triplets that the last call chose from, with `collect_stats`.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or value, or a rule is set that looks at whole lists.

    Notes
    -----
    With ``num_negatives=None`` the triplets are those of ``TripletMarginMiner``, in its order. Others of their miners
    are settings of this one: ``BatchHardMiner`` is ``type_of_triplets="any", positives="hardest", num_negatives=1``,
    and ``MultiSimilarityMiner(epsilon)`` is ``margin=epsilon, tuples="pairs", num_negatives=None`` with
    ``CosineSimilarity()``, but that a margin may be `epsilon` itself.

    Semi-hard triplets are those of F. Schroff, D. Kalenichenko and J. Philbin, *FaceNet: A unified embedding for face
    recognition and clustering* (2015); the hardest of a batch are from A. Hermans, L. Beyer and B. Leibe, *In defense
    of the triplet loss for person re-identification* (2017), pairs from X. Wang et al., *Multi-similarity loss with
    general pair weighting for deep metric learning* (2019).

    **On the CPU**, rows in float32, float16 or bfloat16 go to the compiled module under ``CosineSimilarity``,
    ``DotProductSimilarity`` and ``LpDistance(p=2)`` of normalised rows, of any power up to 64. Triplets are exact
    there: the same for any number of threads and any SIMD level. Beyond rows and result, memory is a packed copy of the
    rows that negatives are of, a table of 48 anchors and these rows for each thread, and some 40 bytes a positive pair.

    **Elsewhere**, and by any other distance, torch does the same where the rows are, in blocks of 4 million numbers.

    Limitations
    -----------
    A margin within rounding of an edge may be on either side of it, here and there: their distances are rounded at
    every step. In half precision the edges of both differ more, since here nothing is rounded but the rows.

    ``CrossBatchMemory`` and the efficient ``DistributedMinerWrapper`` take an anchor's own row out only after mining.
    It is its easiest positive, so that ``positives="easiest"`` leaves nothing there.

    Negatives that are equally close come in the order of their rows on the CPU, elsewhere in that of torch.

    Examples
    --------
    >>> import torch
    >>> from pytorch_metric_learning.losses import TripletMarginLoss
    >>> from negfast.integrations.pytorch_metric_learning import NegfastMiner
    >>> generator = torch.Generator().manual_seed(0)
    >>> embeddings, labels = torch.randn(64, 16, generator=generator), torch.arange(64) % 16
    >>> miner = NegfastMiner(0.2, "semihard", num_negatives=2)
    >>> anchors, positives, negatives = miner(embeddings, labels)
    >>> bool((labels[anchors] == labels[positives]).all()), bool((labels[anchors] != labels[negatives]).all())
    (True, True)
    >>> loss = TripletMarginLoss(0.2)(embeddings, labels, (anchors, positives, negatives))
    >>> bool(loss > 0)
    True
    """

    def __init__(
        self,
        margin: float = 0.2,
        type_of_triplets: TripletType = "all",
        *,
        num_negatives: int | None = 8,
        positives: Used = "all",
        tuples: Form = "triplets",
        rules: Rules = _NO_MARGIN,
        distance: Any = None,
        collect_stats: bool | None = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(distance=checked_distance(distance), collect_stats=collect_stats)
        self.choice = checked_choice(margin, type_of_triplets, positives, tuples, num_negatives, rules)
        if n_threads is not None:
            threads.resolve(n_threads)
        self._n_threads = n_threads
        self.add_to_recordable_attributes(list_of_names=["margin", "num_negatives"], is_stat=False)
        self.add_to_recordable_attributes(
            list_of_names=["avg_triplet_margin", "pos_pair_dist", "neg_pair_dist"], is_stat=True
        )

    @property
    def margin(self) -> float:
        """The margin; may be set between calls, as that of their miners."""
        return self.choice.margin

    @margin.setter
    def margin(self, value: float) -> None:
        self.choice = replace(self.choice, margin=checked_margin(value))

    @property
    def num_negatives(self) -> int | None:
        """The most negatives; may be set between calls."""
        return self.choice.num_negatives

    @num_negatives.setter
    def num_negatives(self, value: int | None) -> None:
        self.choice = replace(self.choice, num_negatives=checked_number(value))

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        ref_emb: torch.Tensor | None = None,
        ref_labels: torch.Tensor | None = None,
        *,
        groups: Any = None,
        keys: Any = None,
    ) -> tuple[torch.Tensor, ...]:
        """Return the tuples of a batch.

        Parameters
        ----------
        embeddings : Tensor of floats, shape (n, dim)
            The anchors.
        labels : Tensor of integers, shape (n,)
            Rows of one label are positives of each other.
        ref_emb : Tensor of floats, shape (m, dim), optional
            Where positives and negatives come from, the anchors by default.
        ref_labels : Tensor of integers, shape (m,), optional
            Their labels.
        groups, keys : Tensor of integers, shape (n,) or (n, columns), or pair of them, optional
            Labels of further kinds; -1 is none. A row that shares one with its anchor, or with a positive of it, is no
            negative, nor a positive for that. With `ref_emb` a pair, of the anchors and of its rows.

        Returns
        -------
        tuple of Tensor of int64
            Three for triplets, four for pairs, on the device of the rows. Anchors are rows of `embeddings`, the others
            of `ref_emb`.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, dtype or shape, a row is not finite, or one of two that go together is
            missing.
        """
        self.reset_stats()
        batch = checked_batch(embeddings, labels, ref_emb, ref_labels, groups, keys)
        with torch.no_grad():
            found = self._find(batch)
        self._note(found)
        self.output_assertion(found.tuples)
        return found.tuples

    def mine(self, embeddings: Any, labels: Any, ref_emb: Any, ref_labels: Any) -> tuple[torch.Tensor, ...]:
        """Return the tuples of a batch, as their base class asks for them; nothing is noted."""
        return self._find(checked_batch(embeddings, labels, ref_emb, ref_labels, None, None)).tuples

    def _find(self, batch: Batch) -> Found:
        measure = compiled_measure(self.distance)
        if measure is None or not can_read(batch):
            refuse_for_torch(batch)
            return by_torch(batch, self.choice, self.distance)
        if self.distance.collect_stats:
            unit = [self.distance.maybe_normalize(rows) for rows in (batch.anchors, batch.rows)]
            self.distance.reset_stats()
            self.distance.set_default_stats(batch.anchors, batch.rows, *unit)
        return by_core(batch, self.choice, measure, threads.resolve(self._n_threads))

    def _note(self, found: Found) -> None:
        if self.collect_stats and found.n_triplets:
            sign = 1.0 if self.distance.is_inverted else -1.0
            positive, negative = found.positives / found.n_triplets, found.negatives / found.n_triplets
            self.pos_pair_dist, self.neg_pair_dist = sign * positive, sign * negative
            self.avg_triplet_margin = positive - negative
