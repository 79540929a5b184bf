"""A data set, a collator and samplers for training loops in PyTorch.

The only part of the package that imports torch.
"""

from negfast.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingExtraError("negfast.torch needs torch; install negfast[torch]") from error

from negfast.torch.batches import HardBatchSampler
from negfast.torch.collator import NegativesBatch, NegativesCollator
from negfast.torch.dataset import Example, NegativesDataset
from negfast.torch.sampler import EpochSampler

__all__ = ["EpochSampler", "Example", "HardBatchSampler", "NegativesBatch", "NegativesCollator", "NegativesDataset"]
