"""Measurements of all ranks as one."""

from dataclasses import fields
from typing import Any

import torch
import torch.distributed as dist

from negfast.errors import InvalidValueError
from negfast.settings import instance
from negfast.signals import Signals

_PLAIN = tuple(item.name for item in fields(Signals) if item.name != "hardness_quantiles")


def all_reduced(signals: Signals, group: Any = None) -> Signals:
    """Return the means of what the ranks measured, the same bits on each of them.

    Every rank of the group has to call it, in the same order among its other collectives; one that measured nothing
    passes ``Signals()``. Where no group was made, as in a single process, signals come back as they are.

    Parameters
    ----------
    signals : Signals
        Of this rank. Each field becomes the mean over those ranks that have it.
    group : torch.distributed.ProcessGroup, optional
        The ranks; all by default.

    Returns
    -------
    Signals

    Raises
    ------
    InvalidTypeError
        If `signals` are none.
    InvalidValueError
        If ranks have other numbers of quantiles; on all of them alike. If this rank is not in `group`.

    Notes
    -----
    Two gathers of a few numbers. They are summed here, in the order of ranks, so that no rank adds up in another order
    than the rest: an :class:`negfast.AdaptiveCurriculum` on each rank then decides alike.

    Examples
    --------
    >>> from negfast import Signals
    >>> from negfast.torch import all_reduced
    >>> all_reduced(Signals(loss=0.5))
    Signals(loss=0.5)
    """
    instance("signals", signals, Signals)
    if not dist.is_available() or not dist.is_initialized():
        return signals
    if dist.get_rank(group) < 0:
        raise InvalidValueError(
            f"group must be one that this rank is in, got one without rank {dist.get_rank()}; call all_reduced on the "
            "ranks of the group alone"
        )
    sizes = [int(row[0]) for row in _gathered([float(len(signals.hardness_quantiles or ()))], group)]
    given = sorted(set(sizes) - {0})
    if len(given) > 1:
        raise InvalidValueError(
            f"hardness_quantiles must be as many on all ranks, got {sizes}; measure them at the same levels"
        )
    width = given[0] if given else 0
    rows = _gathered(_plain(signals, width), group)
    return Signals.mean(_signals(row) for row in rows)


def _plain(signals: Signals, width: int) -> list[float]:
    """Return whether and what was measured, field by field, then the quantiles."""
    values = [getattr(signals, name) for name in _PLAIN]
    flags = [float(value is not None) for value in values] + [float(signals.hardness_quantiles is not None)]
    return [*flags, *(value or 0.0 for value in values), *(signals.hardness_quantiles or [0.0] * width)]


def _signals(row: list[float]) -> Signals:
    n = len(_PLAIN)
    flags, values, quantiles = row[: n + 1], row[n + 1 : 2 * n + 1], row[2 * n + 1 :]
    given = {name: value for name, value, flag in zip(_PLAIN, values, flags, strict=False) if flag}
    return Signals(**given, hardness_quantiles=tuple(quantiles) if flags[n] else None)


def _gathered(values: list[float], group: Any) -> list[list[float]]:
    """Return the numbers of all ranks, in their order."""
    # NCCL moves what lies on the device of the rank alone.
    on = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(group) == "nccl" else "cpu"
    own = torch.tensor(values, dtype=torch.float64, device=on)
    every = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, own, group=group)
    rows: list[list[float]] = torch.stack(every).tolist()
    return rows
