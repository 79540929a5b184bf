"""Look-ups in a bank whose rows are shared out over ranks: slot s is on rank s modulo their number."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.errors import InvalidValueError
from negfast.torch.bank_arguments import KINDS, Wanted
from negfast.torch.bank_lookup import in_order
from negfast.torch.bank_sync import Ranks

Search = Callable[[Wanted], tuple[torch.Tensor, torch.Tensor]]


def agreed(
    ranks: Ranks,
    check: Callable[[], Any],
    sizes: Callable[[Any], list[int]] = lambda _: [],
    n_sizes: int = 0,
    *,
    alike: Mapping[str, Any] | None = None,
) -> Any:
    """Return what `check` returns, and the sizes of all ranks; an error of one rank becomes one of all.

    Without that, the others would wait for it for ever. What is in `alike` must be so on all ranks.
    """
    failure, checked = None, None
    try:
        checked = check()
    except Exception as error:  # whatever it is, the others must not wait
        failure = error
    alike = alike or {}
    marks = [zlib.crc32(repr(value).encode()) for value in alike.values()]
    told = ranks.numbers([*marks, failure is None, *(sizes(checked) if failure is None else [0] * n_sizes)])
    for i, (name, value) in enumerate(alike.items()):
        others = [rank for rank, line in enumerate(told) if line[i] != marks[i]]
        if others:
            raise InvalidValueError(
                f"{name} of the bank must be the same on every rank, got {value!r} on rank {ranks.rank} and another on "
                f"{others}; make the bank with the same settings on each, and load states of one moment"
            ) from failure
    told = [line[len(marks) :] for line in told]
    if failure is not None:
        raise failure
    if not all(line[0] for line in told):
        failed = [rank for rank, line in enumerate(told) if not line[0]]
        raise InvalidValueError(
            f"arguments must be valid on every rank, got errors on {failed}; see what those ranks raised"
        )
    return checked, [line[1:] for line in told]


def sizes_of(wanted: Wanted) -> list[int]:
    """Return what other ranks need to know of a look-up before they hear the rest."""
    widths = [wanted.excluded[kind].shape[1] if kind in wanted.excluded else -1 for kind in KINDS]
    return [len(wanted.anchors), wanted.k, wanted.max_scores is not None, *widths]


N_SIZES = 3 + len(KINDS)


def hardest_of_shards(
    ranks: Ranks, wanted: Wanted, sizes: list[list[int]], numbers: torch.Tensor, search: Search
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slots and scores of the hardest rows on any rank.

    Parameters
    ----------
    ranks : Ranks
    wanted : Wanted
        Of this rank.
    sizes : list of list of int
        What :func:`sizes_of` returned on each rank.
    numbers : int64 tensor, shape (capacity,)
        What decides between rows of one score.
    search : callable
        Returns slots and scores of the hardest rows on this rank.
    """
    lengths = [line[0] for line in sizes]
    counts = [len(wanted.anchors)] * ranks.size
    joined = _joined(ranks, wanted, sizes)
    found, _ = agreed(ranks, lambda: search(joined))
    slots, scores = (torch.cat(ranks.exchanged(torch.split(part, lengths), counts), dim=1) for part in found)
    slots, scores = in_order(slots, scores, numbers)
    return slots[:, : wanted.k].contiguous(), scores[:, : wanted.k].contiguous()


def _joined(ranks: Ranks, wanted: Wanted, sizes: list[list[int]]) -> Wanted:
    """Return the look-ups of all ranks as one."""
    lengths = [line[0] for line in sizes]
    anchors = torch.cat(ranks.gathered(wanted.anchors.float(), lengths))
    excluded = {}
    for kind, widths in zip(KINDS, zip(*(line[3:] for line in sizes), strict=True), strict=True):
        if max(widths) > 0:
            own = np.full((len(wanted.anchors), max(widths)), -1, dtype=np.int64)
            if kind in wanted.excluded:
                own[:, : wanted.excluded[kind].shape[1]] = wanted.excluded[kind]
            excluded[kind] = _gathered_array(ranks, own, lengths)
    highest = None
    if any(line[2] for line in sizes):
        own = np.full(len(wanted.anchors), np.inf) if wanted.max_scores is None else wanted.max_scores
        highest = _gathered_array(ranks, own, lengths)
    return Wanted(anchors, max(line[1] for line in sizes), excluded, highest)


def _gathered_array(ranks: Ranks, own: Any, lengths: list[int]) -> Any:
    return torch.cat(ranks.gathered(torch.from_numpy(own), lengths)).numpy()


def fetched(ranks: Ranks, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Return the rows in these slots, wherever they are; zeros where a slot is -1."""
    flat = slots.reshape(-1)
    lengths = [line[0] for line in ranks.numbers([len(flat)])]
    holders = torch.where(flat >= 0, flat % ranks.size, -1)
    parts = []
    for asked in ranks.gathered(flat, lengths):
        here = asked[(asked >= 0) & (asked % ranks.size == ranks.rank)] // ranks.size
        parts.append(rows.index_select(0, here))
    counts = [int((holders == rank).sum()) for rank in range(ranks.size)]
    out = rows.new_zeros((len(flat), rows.shape[1]))
    for rank, part in enumerate(ranks.exchanged(parts, counts)):
        out[holders == rank] = part
    return out.reshape(*slots.shape, rows.shape[1])


def own_slots(shard: tuple[int, int], slots: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Tell which slots are on rank `shard[0]` of `shard[1]`, and where they are there."""
    rank, size = shard
    return slots % size == rank, slots // size
