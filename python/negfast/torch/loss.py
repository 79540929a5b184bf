"""The loss: InfoNCE over in-batch, mined and bank negatives, masked, weighted, and led by a curriculum."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import Metric
from negfast.torch.collator import NegativesBatch
from negfast.torch.gather import gathered, mean_over_ranks, tell_failure
from negfast.torch.infonce import infonce_terms, mean_over, per_anchor
from negfast.torch.loss_arguments import check_values, checked_batch, find_bad_row
from negfast.torch.loss_batch import LossBatch, World
from negfast.torch.loss_blocks import Block, block_scores, guide_rows, make_blocks, positive_scores, unit_rows
from negfast.torch.loss_pool import Judge, Pool, make_pool
from negfast.torch.loss_settings import (
    MOST_SCALE,
    Direction,
    HardnessMode,
    LossSettings,
    PartitionMode,
    Stand,
    check_bounds,
    check_soft_positives,
    stand_of,
)
from negfast.torch.loss_statistics import LossStatistics
from negfast.torch.negatives import Negatives

_LEAST_SINE = 1e-3
_LED = ("temperature", "relative_margin", "hardness_strength")  # by a curriculum


class StageLike(Protocol):
    """What a curriculum says of a step."""

    @property
    def temperature(self) -> float:
        """What scores are divided by."""

    @property
    def relative_margin(self) -> float | None:
        """Below a positive, what counts as one."""

    @property
    def hardness_strength(self) -> float:
        """What hard negatives weigh more."""


class CurriculumLike(Protocol):
    """What leads the loss, such as a :class:`negfast.Curriculum`."""

    def at(self, step: int) -> StageLike:
        """Return the stage of a step."""
        ...


class CurriculumLoss(nn.Module):
    """InfoNCE over the positives of others, mined negatives and those of a bank, led by a curriculum.

    Without arguments it is the plain loss at a temperature of 0.05, in-batch negatives included. Every option is that
    loss again at its neutral value, to the bit. Scores are computed in float32 (float64 for such rows), under autocast
    too.

    Parameters
    ----------
    curriculum : Curriculum, optional
        Says `temperature`, `relative_margin` and `hardness_strength` of each step; these are left out then. Anything
        with a method ``at(step)`` that returns them will do.
    temperature : float, default 0.05
        What scores are divided by, above 0; 1 / `scale` of sentence-transformers.
    learnable_temperature : bool, default False
        Make it a parameter: ``log_scale``, the logarithm of its inverse. That is set back to the logarithm of 100
        before it is used, if it is above, as in CLIP; `temperature` must be at least 0.01.
    metric : {"cosine", "dot"}, default "cosine"
        The score of two rows. A row of zeros scores 0 and has no gradient.
    in_batch : bool, default True
        Whether the positives of other anchors, and what was mined for them, are negatives too.
    directions : tuple of {"query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"}
        What is compared: anchors with documents (always), a positive with other anchors, anchors with each other, and
        a positive with the documents of others.
    partition_mode : {"joint", "per_direction"}, default "joint"
        One denominator for all directions, or one for each, and the mean of their losses.
    absolute_margin, relative_margin, max_score : float or None
        Mask what scores as a false negative would, see :func:`mask_false_negatives`.
    hardness_mode : {"all_negatives", "in_batch_negatives", "hard_negatives"}, default "all_negatives"
        Which negatives `hardness_strength` is for; "hard_negatives" are those that were mined or found for the anchor.
    hardness_strength : float, default 0.0
        Adds ``hardness_strength * score`` to logits, without a gradient; of queries with documents only.
    hard_weighted : float, default 0.0
        HCL: `beta` of :func:`weight_negatives`.
    debiased : float, default 0.0
        DCL: the share of negatives that are thought to be false, `debiased` of :func:`infonce`.
    decoupled : bool, default False
        Leave the positive out of the denominator.
    angular_margin : float, default 0.0
        Degrees that are added to the angle between an anchor and its positive. What `debiased` takes off is by the
        angle with the margin too.
    soft_positives : float, default 0.0
        What its score masks counts as a positive of this weight. In its term, unlike in false negative cancellation,
        the other false negatives are left out of the denominator.
    gather_across_devices : bool, default False
        Compare with the rows of all ranks of the default process group.
    check_finite : bool, optional
        Refuse rows that are not finite, weights that are NaN or infinite, and an `index` out of range, and name the
        first. By default on the CPU alone; on a device this would wait for it, and the loss is NaN instead, which a
        gradient scaler sees.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range, or two do not go together: the message says which.

    Notes
    -----
    **The loss** of an anchor is that of :func:`infonce`, averaged over its positives; the mean is over anchors that
    have one. Scores become logits by :func:`weight_negatives`.

    **Masks.** A candidate is no negative of an anchor if it shares an id with a positive or with `known_positives`, a
    group or a key with the anchor or a positive, or is a positive of an anchor with the same id or key. Two anchors
    that share a positive are not compared. All this is symmetric: a positive meets no query that it is a positive of.
    Then come bounds on scores.

    **Weights.** `log_weight` belongs to an anchor and what was drawn for it. What others drew is like the rest of the
    batch: a document with weight 0, which stands for itself alone. With :class:`NegativeSampler` an anchor's own draw
    is an unbiased estimate of the sum over the corpus already, to which the batch adds a little; with
    ``in_batch=False`` the estimate is left as it is. `in_batch_log_weight` corrects in-batch negatives for how often
    they come up (X. Yi et al., *Sampling-bias-corrected neural modeling for large corpus item recommendations*, 2019).

    **Directions** are those of sentence-transformers' ``MultipleNegativesRankingLoss``, and so is the result. With both
    "query_to_doc" and "doc_to_query" in one denominator the positive is in it twice, as in Z. Li et al., *Towards
    general text embeddings with multi-stage contrastive learning* (2023).

    **The angular margin** is that of Y. Zhang et al., *A contrastive framework for learning sentence representations
    from pairwise and triple-wise perspective in angular space* (2022), there 10 degrees. The other options name their
    papers where they are implemented.

    **Gathering.** Each rank compares its own anchors with the rows of all ranks. The gradient of a row is the sum of
    those from all ranks, so that DistributedDataParallel, which averages, has the gradient of one process with the
    whole batch. Ranks may hold different numbers of anchors and negatives. `mask`, `index`, and an anchor's own rows
    stay local; across ranks, ids, groups and keys tell positives from negatives. What one rank refuses is raised on
    all of them.

    **Gradient caching** needs nothing from here: the loss is a function of representations.

    Limitations
    -----------
    A document that is in the batch and in the bank, or twice in `rows`, counts twice. A place that is twice in an
    anchor's `index` counts with the sum of its weights, and once where there are none. Of a `guide` or of mined scores
    only masks are made. `hardness_strength`, margins and weights tell nothing of each other: a `log_weight` of 8
    outweighs most scores. Where ranks gather, scores of finite rows that overflow are not refused: the loss is
    NaN.

    Examples
    --------
    >>> import torch
    >>> from negfast.torch import CurriculumLoss, Negatives
    >>> _ = torch.manual_seed(0)
    >>> anchors, positives, mined = (torch.randn(4, 8, requires_grad=True) for _ in range(3))
    >>> loss = CurriculumLoss(relative_margin=0.05)
    >>> index = torch.arange(4)[:, None]  # row i was mined for anchor i
    >>> value, statistics = loss(anchors, positives, Negatives(mined, index=index), statistics=True)
    >>> value.backward()
    >>> sorted(statistics.source_mass)
    ['in-batch', 'mined']
    """

    def __init__(
        self,
        curriculum: CurriculumLike | None = None,
        *,
        temperature: float | None = None,
        learnable_temperature: bool = False,
        metric: Metric = "cosine",
        in_batch: bool = True,
        directions: Sequence[Direction] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        absolute_margin: float | None = None,
        relative_margin: float | None = None,
        max_score: float | None = None,
        hardness_mode: HardnessMode = "all_negatives",
        hardness_strength: float | None = None,
        hard_weighted: float = 0.0,
        debiased: float = 0.0,
        decoupled: bool = False,
        angular_margin: float = 0.0,
        soft_positives: float = 0.0,
        gather_across_devices: bool = False,
        check_finite: bool | None = None,
    ) -> None:
        super().__init__()
        if curriculum is not None:
            led = (temperature, relative_margin, hardness_strength)
            _check_curriculum(curriculum, dict(zip(_LED, led, strict=True)), learnable_temperature)
        self.curriculum = curriculum
        self.settings = LossSettings(
            temperature=0.05 if temperature is None else temperature,
            learnable_temperature=learnable_temperature,
            metric=metric,
            in_batch=in_batch,
            directions=directions,  # type: ignore[arg-type]
            partition_mode=partition_mode,
            absolute_margin=absolute_margin,
            relative_margin=relative_margin,
            max_score=max_score,
            hardness_mode=hardness_mode,
            hardness_strength=0.0 if hardness_strength is None else hardness_strength,
            hard_weighted=hard_weighted,
            debiased=debiased,
            decoupled=decoupled,
            angular_margin=angular_margin,
            soft_positives=soft_positives,
            gather_across_devices=gather_across_devices,
            check_finite=check_finite,
        )
        check_soft_positives(self.settings, curriculum is not None)
        if self.settings.learnable_temperature:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(self.settings.temperature)))

    def forward(
        self,
        anchors: torch.Tensor,
        positives: torch.Tensor,
        negatives: Negatives | NegativesBatch | Sequence[Negatives | NegativesBatch] | None = None,
        *,
        step: int | None = None,
        positive_mask: torch.Tensor | None = None,
        anchor_ids: torch.Tensor | None = None,
        anchor_groups: torch.Tensor | None = None,
        anchor_keys: torch.Tensor | None = None,
        positive_ids: torch.Tensor | None = None,
        positive_groups: torch.Tensor | None = None,
        positive_keys: torch.Tensor | None = None,
        known_positives: torch.Tensor | None = None,
        in_batch_log_weight: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        guide: tuple[torch.Tensor, torch.Tensor] | None = None,
        mined_positive_scores: torch.Tensor | None = None,
        statistics: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, LossStatistics]:
        """Return the loss.

        Parameters
        ----------
        anchors : float tensor of shape (b, dim)
        positives : float tensor of shape (b, dim) or (b, n_positives, dim)
            The positives of each anchor; beside a NegativesBatch what the model made of ``batch.documents``, all of
            them.
        negatives : Negatives, NegativesBatch, or a list of them, optional
        step : int, optional
            For the curriculum.
        positive_mask : bool tensor of shape (b, n_positives), optional
            False where there is no positive. An anchor without one has no loss.
        anchor_ids : int64 tensor of shape (b,), optional
            Rows of the queries, -1 for none. Anchors of one id have the same positives. A NegativesBatch brings them.
            They are ids of queries, which mask no row of a bank, and none that was mined, of the same id.
        anchor_groups, anchor_keys : int64 tensor of shape (b,), optional
        positive_ids, positive_groups, positive_keys : int64 tensor of shape (b, n_positives), optional
            Labels, -1 for none; of shape (b,) too where there is one positive each. Any other number is a label.
        known_positives : int64 tensor of shape (b, most), optional
            Ids of everything that is a positive of each anchor, padded with -1.
        in_batch_log_weight : float tensor of shape (b, n_positives), optional
            Added to the logits of positives where they are negatives of others.
        mask : bool tensor of shape (b, b * n_positives), optional
            False where a positive is no negative of an anchor. A NegativesBatch brings it.
        guide : pair of float tensors of shapes (b, guide_dim) and (b, n_positives, guide_dim), optional
            What a guide made of anchors and positives. Bounds on scores are then by its cosines, for negatives with a
            `guide` too; others are compared by the model. Needs a bound; a `relative_margin` of 0.0 is GISTEmbed's.
        mined_positive_scores : float tensor of shape (b,), optional
            Lowest positive scores by whoever mined. Bounds, of which it needs one, are then by the `scores` of
            negatives that have them.
        statistics : bool, default False

        Returns
        -------
        Tensor without an axis, or the pair of it and LossStatistics
            float32, or float64 if any rows are.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, shape or device, or rows are not finite.
        """
        named = {
            "positive_mask": positive_mask,
            "anchor_ids": anchor_ids,
            "anchor_groups": anchor_groups,
            "anchor_keys": anchor_keys,
            "positive_ids": positive_ids,
            "positive_groups": positive_groups,
            "positive_keys": positive_keys,
            "known_positives": known_positives,
            "in_batch_log_weight": in_batch_log_weight,
            "mask": mask,
            "mined_positive_scores": mined_positive_scores,
        }
        try:
            stand = self._stand(step)
            for name, value in (("guide", guide), ("mined_positive_scores", mined_positive_scores)):
                if value is not None:
                    check_bounds(self.settings, stand, name)
            batch = checked_batch(anchors, positives, negatives, guide, named)
            self._check_values(batch)
        except Exception as error:
            if self.settings.gather_across_devices:
                tell_failure(error)  # the other ranks would wait for this one
            raise
        with torch.autocast(anchors.device.type, enabled=False):
            return self._loss(batch, stand, statistics)

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for model cards and recipes; and the curriculum, if it has `to_dict`.

        A temperature that is learned is that of now.
        """
        config = self.settings.to_dict()
        if self.settings.learnable_temperature:
            config["temperature"] = max(math.exp(-self.log_scale.item()), 1.0 / MOST_SCALE)
        if self.curriculum is None:
            return config
        config = {name: value for name, value in config.items() if name not in _LED}
        plain = getattr(self.curriculum, "to_dict", None)
        return {**config, "curriculum": plain() if callable(plain) else type(self.curriculum).__name__}

    def extra_repr(self) -> str:
        """Return the settings."""
        return ", ".join(f"{name}={value!r}" for name, value in self.get_config_dict().items())

    def _loss(
        self, batch: LossBatch, stand: Stand, statistics: bool
    ) -> torch.Tensor | tuple[torch.Tensor, LossStatistics]:
        settings, cosine, dtype = self.settings, self.settings.metric == "cosine", _dtype(batch)
        world = gathered(batch) if settings.gather_across_devices else World(batch, batch)
        rows, mask = unit_rows(world, cosine, dtype), batch.positive_mask
        scores = positive_scores(rows)
        blocks = make_blocks(world, settings.directions, settings.in_batch)
        found = [block_scores(block, rows, cosine) for block in blocks]
        self._check_finite(batch, [scores, *found])
        judge = Judge(settings, stand, scores, guide_rows(world, dtype), mask, batch.mined_positive_scores)
        pools = [make_pool(*part, settings, stand, judge) for part in self._parts(blocks, found)]
        logits = with_margin(scores, settings.angular_margin) / stand.temperature
        terms = torch.stack([self._terms(logits, pool, stand) for pool in pools]).mean(dim=0)
        each, valid = per_anchor(terms, mask)
        loss = mean_over_ranks(each, valid) if settings.gather_across_devices else mean_over(each, valid)
        return (loss, LossStatistics(loss, scores, logits, mask, pools, rows)) if statistics else loss

    def _terms(self, logits: torch.Tensor, pool: Pool, stand: Stand) -> torch.Tensor:
        settings = self.settings
        options = settings.decoupled, settings.debiased, stand.temperature, pool.log_count, pool.soft
        return infonce_terms(logits, pool.mass, *options, settings.soft_positives, pool.copies)

    def _parts(
        self, blocks: list[Block], scores: list[torch.Tensor]
    ) -> Iterator[tuple[list[Block], list[torch.Tensor]]]:
        """Yield the blocks that share a denominator, with their scores."""
        if self.settings.partition_mode == "joint":
            yield blocks, scores
            return
        for direction in self.settings.directions:
            places = [i for i, block in enumerate(blocks) if block.direction == direction]
            yield [blocks[i] for i in places], [scores[i] for i in places]

    def _stand(self, step: int | None) -> Stand:
        settings = self.settings
        if self.curriculum is not None:
            if step is None:
                raise InvalidTypeError("step must be given with a curriculum, got None; pass the number of the step")
            return stand_of(self.curriculum.at(step))
        temperature: float | torch.Tensor = settings.temperature
        if settings.learnable_temperature:
            # Held as CLIP does it: a clamp in the graph would have no gradient beyond, and never lead back.
            with torch.no_grad():
                self.log_scale.clamp_(max=math.log(MOST_SCALE))
            temperature = self.log_scale.exp().reciprocal()
        return Stand(temperature, settings.relative_margin, settings.hardness_strength)

    def _check_values(self, batch: LossBatch) -> None:
        """Refuse what this rank alone can tell."""
        if not self.settings.in_batch and not batch.negatives:
            raise InvalidValueError("negatives must be given with in_batch=False, got none; pass some")
        if not self._checks(batch.anchors):
            return
        check_values(batch)
        # Other ranks have to be told before anything is gathered. Alone, scores tell the same at less cost.
        bad = find_bad_row(batch) if self.settings.gather_across_devices else None
        if bad is not None:
            raise InvalidValueError(bad)

    def _check_finite(self, batch: LossBatch, scores: list[torch.Tensor]) -> None:
        """Refuse rows that are not finite."""
        if self.settings.gather_across_devices or not self._checks(scores[0]):
            return
        if not all(bool(part.detach().sum().isfinite()) for part in scores):
            raise InvalidValueError(
                find_bad_row(batch)
                or "scores must be finite, got NaN or infinity where rows are finite: they overflow; normalize the rows"
            )

    def _checks(self, values: torch.Tensor) -> bool:
        """Return whether values are looked at. On a device this would wait for it, so not unless asked for."""
        wanted = self.settings.check_finite
        if wanted is None:
            wanted = values.device.type == "cpu"
        return wanted and not torch.compiler.is_compiling()


def with_margin(scores: torch.Tensor, margin: float) -> torch.Tensor:
    """Return cosines of angles that are `margin` degrees wider, and still fall where that passes a half turn."""
    if not margin:
        return scores
    cos, sin = math.cos(math.radians(margin)), math.sin(math.radians(margin))
    # The slope of a sine is infinite where an angle is 0.
    sines = (1.0 - scores * scores).clamp(min=_LEAST_SINE**2).sqrt()
    return torch.where(scores > -cos, scores * cos - sines * sin, scores - sin * math.radians(margin))


def _dtype(batch: LossBatch) -> torch.dtype:
    """Return what is computed in: margins have to hold, for which half precision is too coarse."""
    rows = [batch.anchors, batch.positives, *(part.rows for part in batch.negatives)]
    return torch.float64 if any(part.dtype == torch.float64 for part in rows) else torch.float32


def _check_curriculum(curriculum: object, led: dict[str, Any], learnable: bool) -> None:
    if not callable(getattr(curriculum, "at", None)):
        raise InvalidTypeError(
            f"curriculum must have a method at(step), got {type(curriculum).__name__} {shown(curriculum)}; pass a "
            "negfast.Curriculum"
        )
    for name, value in led.items():
        if value is not None:
            raise InvalidValueError(f"{name} must be left out with a curriculum, which says it, got {shown(value)}")
    if learnable:
        raise InvalidValueError(
            "learnable_temperature must be False with a curriculum, which says the temperature, got True; choose one"
        )
