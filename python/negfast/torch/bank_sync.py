"""What the ranks of a memory bank tell each other.

All tensors cross as bytes, so that any backend takes any dtype, and rows of unequal numbers are padded on the way.
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist


class Ranks:
    """The processes of the default group, or this one alone where there is none.

    Attributes
    ----------
    rank, size : int
    """

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1

    def numbers(self, values: Sequence[int]) -> list[list[int]]:
        """Return the whole numbers of each rank, as many of all."""
        if self.size == 1:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.int64, device=_device(torch.device("cpu")))
        all_values = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(all_values, own)
        return [line.tolist() for line in all_values]

    def gathered(self, rows: torch.Tensor, lengths: Sequence[int]) -> list[torch.Tensor]:
        """Return the rows of each rank, whose `lengths` are known; all other sizes are alike."""
        if self.size == 1:
            return [rows]
        device = _device(rows.device)
        own = rows.new_zeros((max(lengths), *rows.shape[1:]))
        own[: len(rows)] = rows
        sent = _bytes(own).to(device)
        received = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(received, sent)
        return [_as(part.to(rows.device), own)[:length] for part, length in zip(received, lengths, strict=True)]

    def exchanged(self, parts: Sequence[torch.Tensor], lengths: Sequence[int]) -> list[torch.Tensor]:
        """Send a part to each rank, and return what each sent here, of `lengths` rows."""
        if self.size == 1:
            return list(parts)
        like = parts[0]
        device = _device(like.device)
        sent = torch.cat([_bytes(part).to(device) for part in parts])
        width = sent.shape[1]
        received = torch.empty((sum(lengths), width), dtype=torch.uint8, device=device)
        dist.all_to_all_single(received, sent, list(lengths), [len(part) for part in parts])
        return [_as(part.to(like.device), like) for part in torch.split(received, list(lengths))]


def _device(own: torch.device) -> torch.device:
    """Return where the backend wants its tensors."""
    # "cpu:gloo,cuda:nccl"
    kinds = [entry.split(":")[0] for entry in str(dist.get_backend_config()).split(",")]
    if own.type in kinds:
        return own
    kind = kinds[0]
    return torch.device(kind, torch.accelerator.current_device_index()) if kind != "cpu" else torch.device("cpu")


def _bytes(rows: torch.Tensor) -> torch.Tensor:
    """Return rows as bytes, of two dimensions."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:])).contiguous().view(torch.uint8)


def _as(received: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return received.contiguous().view(like.dtype).reshape(len(received), *like.shape[1:])
