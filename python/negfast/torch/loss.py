"""The loss: InfoNCE over in-batch, mined and bank negatives, masked, weighted, and led by a curriculum."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import Metric
from negfast.torch.collator import NegativesBatch
from negfast.torch.gather import gathered, mean_over_ranks
from negfast.torch.infonce import infonce_terms, mean_over, per_anchor
from negfast.torch.loss_arguments import checked_batch, find_bad_row
from negfast.torch.loss_batch import LossBatch, World
from negfast.torch.loss_blocks import Block, block_scores, guide_rows, make_blocks, positive_scores, unit_rows
from negfast.torch.loss_pool import Judge, Pool, make_pool
from negfast.torch.loss_settings import (
    Direction,
    HardnessMode,
    LossSettings,
    PartitionMode,
    Stand,
    check_soft_positives,
    stand_of,
)
from negfast.torch.loss_statistics import LossStatistics
from negfast.torch.negatives import Negatives

_MOST_SCALE = 100.0  # of CLIP
_LEAST_SINE = 1e-3


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
    """InfoNCE over the positives of others, mined negatives and those of a bank."""

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
        led = {"temperature": temperature, "relative_margin": relative_margin, "hardness_strength": hardness_strength}
        if curriculum is not None:
            _check_curriculum(curriculum, led, learnable_temperature)
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
        """Return the loss, and with `statistics` also what a monitor needs."""
        stand = self._stand(step)
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
        batch = checked_batch(anchors, positives, negatives, guide, named)
        if not self.settings.in_batch and not batch.negatives:
            raise InvalidValueError("negatives must be given with in_batch=False, got none; pass some")
        with torch.autocast(anchors.device.type, enabled=False):
            return self._loss(batch, stand, statistics)

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
        return infonce_terms(logits, pool.logits, *options, settings.soft_positives)

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
            temperature = self.log_scale.exp().clamp(max=_MOST_SCALE).reciprocal()
        return Stand(temperature, settings.relative_margin, settings.hardness_strength)

    def _check_finite(self, batch: LossBatch, scores: list[torch.Tensor]) -> None:
        """Refuse rows that are not finite. On a device this would wait for it, so it is left out unless asked for."""
        wanted = self.settings.check_finite
        if wanted is None:
            wanted = scores[0].device.type == "cpu"
        if not wanted or torch.compiler.is_compiling():
            return
        if not all(bool(part.detach().sum().isfinite()) for part in scores):
            raise InvalidValueError(f"{find_bad_row(batch)}; look at the model, or at the step before")


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
