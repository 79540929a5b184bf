"""Fast mining of negatives for contrastive training of text embeddings."""

from negfast._negfast import __version__, simd_level
from negfast.concatenation import concatenate
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
from negfast.simhash import SimHash
from negfast.staleness import Staleness

__all__ = [
    "InvalidTypeError",
    "InvalidValueError",
    "MinedNegatives",
    "Miner",
    "MissingExtraError",
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
    "SimANS",
    "SimHash",
    "Softmax",
    "Staleness",
    "StateError",
    "Tiers",
    "TopK",
    "__version__",
    "concatenate",
    "content_keys",
    "mine",
    "near_duplicates",
    "select",
    "simd_level",
    "topk",
]
