"""The arms: where the negatives of a model come from. All else is the same for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

Source = Literal["none", "random", "nearest", "sentence-transformers", "negfast"]
Loss = Literal["in-batch", "cross-batch memory", "negfast"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Settings of an arm. Parts of negfast are left out by 0, None and False.

    Attributes
    ----------
    source : what proposes negatives beside the batch
        "random": any rows; "nearest": the best-scoring rows but an anchor's own, by exact search;
        "sentence-transformers": its mine_hard_negatives; "negfast": its mine.
    num_negatives : of an anchor
    remined : epochs after which lists are mined anew; None: never
    first_mined : epoch before which the first lists are mined
    loss : "in-batch": cross-entropy over the batch and all its negatives, as MultipleNegativesRankingLoss has it;
        "cross-batch memory": pytorch-metric-learning's, with SupConLoss; "negfast": its CurriculumLoss
    memory : rows of the cross-batch memory
    labelled : keep rows with a key or a group in common apart: in lists, draws, the loss, and batches that are composed
    relative_margin : of what mines
    recall : of negfast's search; below 1 it may be approximate
    loss_margin : relative margin of negfast's loss
    directions, partition_mode, hardness_strength : of negfast's loss
    depth : negatives that are mined for an anchor, of which `tiers` draws or `num_negatives` are the first
    tiers : draw by tier, random rows first and harder ones later, rather than the first of each list
    hard, semi_hard, easy, min_random : shares of tiers in the end
    adaptive : let measurements move the curriculum, and what rows are to the loss how often they are drawn
    bank, bank_negatives : rows of the memory bank, and how many of them an anchor gets
    hard_batches : compose batches of mined neighbours, in communities of so many at most, with a share of random rows
    refresh : mean movement of rows after which lists are refreshed, at the end of an epoch, in place of `remined`
    """

    source: Source = "none"
    num_negatives: int = 4
    remined: int | None = None
    first_mined: int = 0
    loss: Loss = "in-batch"
    memory: int = 1024
    labelled: bool = False
    relative_margin: float | None = None
    recall: float = 1.0
    loss_margin: float | None = None
    directions: tuple[str, ...] = ("query_to_doc",)
    partition_mode: Literal["joint", "per_direction"] = "joint"
    hardness_strength: float = 0.0
    depth: int = 0
    tiers: bool = False
    hard: float = 0.5
    semi_hard: float = 0.3
    easy: float = 0.1
    min_random: float = 0.1
    adaptive: bool = False
    bank: int = 0
    bank_negatives: int = 32
    hard_batches: bool = False
    community: int = 32
    random_share: float = 0.1
    refresh: float | None = None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        return cls(**{**plain, "directions": tuple(plain["directions"])})

    @property
    def listed(self) -> int:
        """How many rows an anchor's list has."""
        return max(self.depth, self.num_negatives)


BASE = "in-batch"
WHOLE = "negfast: all"

_GUARDED = Arm(source="negfast", loss="negfast", remined=1, labelled=True, relative_margin=0.05)
_TIERED = replace(_GUARDED, tiers=True, depth=50)
_ALL = replace(_TIERED, adaptive=True, bank=4096, hard_batches=True, refresh=0.1)

PLAIN: dict[str, Arm] = {
    BASE: Arm(),
    "random": Arm(source="random"),
    # What is mined by a model that knows nothing yet is noise; these begin after an epoch, which is kind to them.
    "nearest, once": Arm(source="nearest", first_mined=1),
    "nearest, each epoch": Arm(source="nearest", remined=1),
    "sentence-transformers, once": Arm(source="sentence-transformers", relative_margin=0.05, first_mined=1),
    "sentence-transformers, each epoch": Arm(source="sentence-transformers", relative_margin=0.05, remined=1),
    "cross-batch memory": Arm(loss="cross-batch memory"),
}
"""What there is without negfast."""

PARTS: dict[str, Arm] = {
    "negfast: masks, no lists": Arm(loss="negfast", labelled=True),
    "negfast: masks, nearest": Arm(source="nearest", remined=1, loss="negfast", labelled=True),
    "negfast: margin alone": replace(_GUARDED, labelled=False),
    "negfast: guards": _GUARDED,
    "negfast: guards, tiers": _TIERED,
    "negfast: guards, adaptive tiers": replace(_TIERED, adaptive=True),
    "negfast: guards, bank": replace(_GUARDED, bank=4096),
    "negfast: guards, hard batches": replace(_GUARDED, hard_batches=True, depth=50),
    "negfast: guards, refresh": replace(_GUARDED, refresh=0.1),
}
"""Masks of the loss by keys and groups; guards, which lists have too; and each part beside guards."""

WITHOUT: dict[str, Arm] = {
    "all without guards": replace(_ALL, labelled=False, relative_margin=None),
    "all without tiers": replace(_ALL, tiers=False, adaptive=False),
    "all without adaptive": replace(_ALL, adaptive=False),
    "all without bank": replace(_ALL, bank=0),
    "all without hard batches": replace(_ALL, hard_batches=False),
    "all without refresh": replace(_ALL, refresh=None, remined=None),
}
"""Everything, less each part."""

ARMS: dict[str, Arm] = {**PLAIN, **PARTS, WHOLE: _ALL, **WITHOUT}


def of_negfast(name: str) -> bool:
    return name in ARMS and name not in PLAIN
