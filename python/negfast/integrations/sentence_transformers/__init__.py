"""For those who train with sentence-transformers: what they import from there, done by negfast."""

from importlib.metadata import version
from importlib.util import find_spec

from negfast.errors import MissingExtraError

if find_spec("sentence_transformers") is None or find_spec("datasets") is None:
    raise MissingExtraError(
        "negfast.integrations.sentence_transformers needs sentence-transformers and datasets; install "
        "negfast[sentence-transformers]"
    )
if int(version("sentence-transformers").split(".")[0]) < 6:
    raise MissingExtraError(
        "negfast.integrations.sentence_transformers needs sentence-transformers 6 or newer, got "
        f"{version('sentence-transformers')}; install negfast[sentence-transformers]"
    )

from negfast.integrations.sentence_transformers.batches import HardBatches, HardBatchSampler
from negfast.integrations.sentence_transformers.callback import CurriculumCallback
from negfast.integrations.sentence_transformers.collator import NegativesDataCollator
from negfast.integrations.sentence_transformers.epochs import EpochCallback
from negfast.integrations.sentence_transformers.loss import CurriculumLoss
from negfast.integrations.sentence_transformers.mining import mine_hard_negatives
from negfast.integrations.sentence_transformers.refresh import RefreshCallback
from negfast.integrations.sentence_transformers.rows import number_rows

__all__ = [
    "CurriculumCallback",
    "CurriculumLoss",
    "EpochCallback",
    "HardBatchSampler",
    "HardBatches",
    "NegativesDataCollator",
    "RefreshCallback",
    "mine_hard_negatives",
    "number_rows",
]
