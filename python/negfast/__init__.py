"""Fast mining of negatives for contrastive training of text embeddings."""

from negfast import schedule
from negfast._negfast import __version__, simd_level
from negfast.adaptive_curriculum import AdaptiveCurriculum
from negfast.adaptive_settings import HardnessAlarms, HardnessControl, MovingTiers
from negfast.anchor_quantiles import AnchorQuantiles
from negfast.concatenation import concatenate
from negfast.curriculum import Curriculum
from negfast.duplicates import near_duplicates
from negfast.errors import (
    InvalidTypeError,
    InvalidValueError,
    MissingExtraError,
    NegfastError,
    RowIndexError,
    StateError,
)
from negfast.keys import content_keys
from negfast.miner import Miner
from negfast.mining import mine, select, topk
from negfast.recipe import Recipe
from negfast.refresh_policy import RefreshPolicy
from negfast.refresh_report import RefreshReport
from negfast.report import Report, SearchReport
from negfast.reservoir import Reservoir
from negfast.results import MinedNegatives, TopK
from negfast.settings import Rules, Search, SimANS, Softmax, Tiers
from negfast.signals import Signals
from negfast.simhash import SimHash
from negfast.stage import Stage
from negfast.staleness import Staleness

__all__ = [
    "AdaptiveCurriculum",
    "AnchorQuantiles",
    "Curriculum",
    "HardnessAlarms",
    "HardnessControl",
    "InvalidTypeError",
    "InvalidValueError",
    "MinedNegatives",
    "Miner",
    "MissingExtraError",
    "MovingTiers",
    "NegfastError",
    "Recipe",
    "RefreshPolicy",
    "RefreshReport",
    "Report",
    "Reservoir",
    "RowIndexError",
    "Rules",
    "Search",
    "SearchReport",
    "Signals",
    "SimANS",
    "SimHash",
    "Softmax",
    "Stage",
    "Staleness",
    "StateError",
    "Tiers",
    "TopK",
    "__version__",
    "concatenate",
    "content_keys",
    "mine",
    "near_duplicates",
    "schedule",
    "select",
    "simd_level",
    "topk",
]
