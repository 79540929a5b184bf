"""What a draw returns."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from negfast.arrays import Ints


class DrawTensors(NamedTuple):
    """The arrays of a :class:`Draw` as torch tensors.

    Attributes
    ----------
    ids : Tensor of int64, shape (n_anchors, num_negatives)
    scores : Tensor of float32, shape (n_anchors, num_negatives)
    tiers : Tensor of uint8, shape (n_anchors, num_negatives)
    sources : Tensor of int8, shape (n_anchors, num_negatives)
    log_weight : Tensor of float32, shape (n_anchors, num_negatives)
    """

    ids: torch.Tensor
    scores: torch.Tensor
    tiers: torch.Tensor
    sources: torch.Tensor
    log_weight: torch.Tensor


@dataclass(frozen=True, eq=False)
class Draw:
    """The negatives that were drawn for some anchors.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_anchors, num_negatives)
        Rows of the corpus, hardest tier first and random ones last, -1 where there were too few.
    scores : ndarray of float32, shape (n_anchors, num_negatives)
        Their scores as their source knew them, NaN where it did not, -inf beside -1.
    tiers : ndarray of uint8, shape (n_anchors, num_negatives)
        3 hard, 2 semi-hard, 1 easy, 0 where no hardness is known.
    sources : ndarray of int8, shape (n_anchors, num_negatives)
        Where each came from, as a place in `names`, -1 beside -1.
    log_weight : ndarray of float32, shape (n_anchors, num_negatives)
        What to add to a score divided by the temperature so that sums of exponentials over the draw estimate those over
        all allowed rows of the corpus; -inf beside -1.
    shortfall : ndarray of float32, shape (n_anchors, 4)
        Slots that hard, semi-hard, easy and random candidates were too few for. Those of a tier went to the next easier
        one, and from easy ones to random; what random ones lacked too is missing. On average over draws, so not always
        whole.
    names : tuple of str
        Names of the sources.
    """

    ids: Ints
    scores: NDArray[np.float32]
    tiers: NDArray[np.uint8]
    sources: NDArray[np.int8]
    log_weight: NDArray[np.float32]
    shortfall: NDArray[np.float32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of anchors."""
        return len(self.ids)

    def to_torch(self, device: torch.device | str | int | None = None) -> DrawTensors:
        """Return the arrays as tensors, which share their memory on the CPU.

        Parameters
        ----------
        device : optional
            Where to bring them.

        Returns
        -------
        DrawTensors
            ``ids``, ``scores``, ``tiers``, ``sources`` and ``log_weight``.
        """
        tensors = DrawTensors(*(torch.from_numpy(getattr(self, name)) for name in DrawTensors._fields))
        return tensors if device is None else DrawTensors(*(tensor.to(device) for tensor in tensors))
