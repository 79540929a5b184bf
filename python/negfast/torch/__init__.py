"""A data set, a collator and samplers for training loops in PyTorch.

With the adapters in ``negfast.integrations``, the only part of the package that imports torch.
"""

from negfast.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingExtraError("negfast.torch needs torch; install negfast[torch]") from error

from negfast.torch.all_reduce import all_reduced
from negfast.torch.bank import MemoryBank
from negfast.torch.bank_values import BankStaleness, Hardest, Sampled
from negfast.torch.batches import HardBatchSampler
from negfast.torch.collator import NegativesBatch, NegativesCollator
from negfast.torch.dataset import Example, NegativesDataset
from negfast.torch.draw import Draw, DrawTensors
from negfast.torch.encoding import RankError
from negfast.torch.false_negatives import mask_false_negatives
from negfast.torch.infonce import infonce
from negfast.torch.live_batches import LiveBatches
from negfast.torch.live_rows import LiveRows
from negfast.torch.loss import CurriculumLoss
from negfast.torch.loss_statistics import LossStatistics, Offender
from negfast.torch.negative_sampler import NegativeSampler
from negfast.torch.negatives import Negatives
from negfast.torch.portable import as_tensors
from negfast.torch.refresh_event import RefreshEvent
from negfast.torch.refresher import Refresher
from negfast.torch.sampler import EpochSampler
from negfast.torch.sources import Candidates, MinedRows, Request, Source, UniformRows
from negfast.torch.weighting import weight_negatives

__all__ = [
    "BankStaleness",
    "Candidates",
    "CurriculumLoss",
    "Draw",
    "DrawTensors",
    "EpochSampler",
    "Example",
    "HardBatchSampler",
    "Hardest",
    "LiveBatches",
    "LiveRows",
    "LossStatistics",
    "MemoryBank",
    "MinedRows",
    "NegativeSampler",
    "Negatives",
    "NegativesBatch",
    "NegativesCollator",
    "NegativesDataset",
    "Offender",
    "RankError",
    "RefreshEvent",
    "Refresher",
    "Request",
    "Sampled",
    "Source",
    "UniformRows",
    "all_reduced",
    "as_tensors",
    "infonce",
    "mask_false_negatives",
    "weight_negatives",
]
