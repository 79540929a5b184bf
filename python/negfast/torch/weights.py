"""Whether the weights of a model are those that they were."""

import torch
from torch import nn

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_sum(model: nn.Module) -> int:
    """Return the sum of all parameters, read as integers: exact, in any order and on any device."""
    total = 0
    for parameter in model.parameters():
        bits = parameter.detach().contiguous().view(_INTEGERS[min(parameter.element_size(), 8)])
        total = (31 * total + int(bits.sum(dtype=torch.int64))) % 2**64
    return total
