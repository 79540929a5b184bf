"""Look-ups in a memory bank: by the compiled module on the CPU, by torch elsewhere, block by block."""

import numpy as np
import torch
from numpy.typing import NDArray

from negfast._negfast import BankShelf
from negfast.arrays import Ints
from negfast.errors import InvalidValueError
from negfast.torch.bank_arguments import Wanted

_MOST_SCORES = 1 << 25
"""Scores of a block that torch computes at a time."""


def in_place(rows: torch.Tensor) -> NDArray[np.generic]:
    """Return the rows of a CPU tensor as the compiled module reads them."""
    if rows.dtype == torch.bfloat16:
        return rows.view(torch.int16).numpy().view(np.uint16)
    return rows.numpy()


def compiled(
    shelf: BankShelf,
    rows: torch.Tensor,
    labels: dict[str, Ints],
    numbers: Ints,
    wanted: Wanted,
    n_threads: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slots and scores of the hardest rows, the exact ones.

    Parameters
    ----------
    shelf : BankShelf
        Codes of the rows.
    rows : tensor, shape (n_slots, dim)
        On the CPU.
    labels : dict of int64 array, shape (n_slots,)
        By kind.
    numbers : int64 array, shape (n_slots,)
        What decides between rows of one score: the lowest comes first.
    wanted : Wanted
    n_threads : int
    """
    excluded = [(f"exclude_{kind}", labels[kind], refused) for kind, refused in wanted.excluded.items()]
    anchors = in_place(wanted.anchors.contiguous())
    slots, scores = shelf.hardest(in_place(rows), numbers, anchors, wanted.k, excluded, wanted.max_scores, n_threads)
    return torch.from_numpy(slots), torch.from_numpy(scores)


def by_torch(
    rows: torch.Tensor,
    labels: dict[str, torch.Tensor],
    numbers: torch.Tensor,
    wanted: Wanted,
    normalize: bool,
    block: int = _MOST_SCORES,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slots and scores of the hardest rows, computed where the rows are.

    Parameters are those of :func:`compiled`; a slot whose number is -1 is free, and at most `block` scores are computed
    at a time. Scores are rounded as torch rounds them, so that rows of nearly one score may change places, and which of
    those that tie at the end of a list are in it is torch's choice.

    Raises
    ------
    InvalidValueError
        If a dot product is too large for float32.
    """
    with torch.autocast(rows.device.type, enabled=False):
        anchors = wanted.anchors.to(torch.float32)
        if normalize:
            anchors = _directions(anchors)
        n, k, device = len(anchors), wanted.k, rows.device
        excluded = {kind: torch.from_numpy(refused).to(device) for kind, refused in wanted.excluded.items()}
        highest = None if wanted.max_scores is None else torch.from_numpy(wanted.max_scores).to(device, torch.float32)
        scores = torch.full((n, k), -torch.inf, dtype=torch.float32, device=device)
        finite = torch.ones((), dtype=torch.bool, device=device)
        slots = torch.full((n, k), -1, dtype=torch.int64, device=device)
        size = max(block // max(n, 1), 1)
        for start in range(0, len(rows), size):
            end = min(start + size, len(rows))
            part = _scores(anchors, rows[start:end], normalize)
            finite &= torch.isfinite(part).all()
            refused = (numbers[start:end] < 0).expand(n, -1)
            for kind, banned in excluded.items():
                refused = refused | _holds(labels[kind][start:end], banned)
            if highest is not None:
                refused = refused | (part > highest[:, None])
            part = part.masked_fill(refused, -torch.inf)
            best, at = part.topk(min(k, end - start), dim=1)
            scores, order = torch.cat((scores, best), dim=1).topk(k, dim=1)
            slots = torch.cat((slots, at + start), dim=1).gather(1, order)
        if not bool(finite):
            raise InvalidValueError(
                "anchors must be small enough for dot products in float32, got infinite ones; scale them down"
            )
        slots = slots.masked_fill(scores == -torch.inf, -1)
        return in_order(slots, scores, numbers)


def _directions(anchors: torch.Tensor) -> torch.Tensor:
    """Return anchors at length 1, zeros as they are; none is too large or small for its squares."""
    largest = anchors.abs().amax(dim=1, keepdim=True)
    return torch.nn.functional.normalize(anchors / torch.where(largest > 0, largest, 1), dim=1)


def _scores(anchors: torch.Tensor, rows: torch.Tensor, normalize: bool) -> torch.Tensor:
    plain = rows.to(torch.float32)
    if normalize and rows.dtype != torch.float32:  # half precision keeps norms no better than directions
        plain = torch.nn.functional.normalize(plain, dim=1)
    return anchors @ plain.T


def _holds(labels: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """Tell which rows have one of the labels that an anchor refuses, shape (n_anchors, n_rows)."""
    held = torch.zeros((len(banned), len(labels)), dtype=torch.bool, device=labels.device)
    for column in banned.T:  # one at a time: all of them could take m times the memory
        held |= labels == column[:, None]
    return held & (labels >= 0)


def in_order(slots: torch.Tensor, scores: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put rows of one score into the order in which they were written."""
    written = numbers[slots.clamp(min=0)]
    order = written.argsort(dim=1, stable=True)
    order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return slots.gather(1, order), scores.gather(1, order)


def gathered(rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Return the rows in `slots`, zeros where a slot is -1, in one more dimension."""
    found = rows.index_select(0, slots.clamp(min=0).reshape(-1)).reshape(*slots.shape, rows.shape[1])
    return found.masked_fill_((slots < 0).unsqueeze(-1), 0)
