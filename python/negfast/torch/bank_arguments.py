"""Checks of what goes into a memory bank, before anything is changed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from negfast.arrays import Ints, floats, integers
from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import whole

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What the rows of a bank can be kept in."""
MOST_K = 2**20
"""The most rows of a look-up for an anchor."""
KINDS = ("ids", "groups", "keys")
"""The labels of a row."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows on their way into a bank: as they are kept, and their labels, shape (3, n)."""

    rows: torch.Tensor
    labels: Ints
    step: int


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is looked up: anchors, labels to leave out, each of shape (n, m), highest scores, shape (n,)."""

    anchors: torch.Tensor
    k: int
    excluded: dict[str, Ints]
    max_scores: NDArray[np.float64] | None


def checked_dtype(dtype: Any) -> torch.dtype:
    """Return a dtype that rows can be kept in."""
    if dtype not in DTYPES:
        raise InvalidTypeError(
            f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {shown(dtype)}; choose one"
        )
    chosen: torch.dtype = dtype
    return chosen


def checked_matrix(argument: str, value: Any, dim: int) -> torch.Tensor:
    """Return a plain tensor of floats, shape (n, dim), without its history."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise InvalidTypeError(f"{argument} must be a tensor of floats, got {kind}; pass what the model returned")
    if value.layout != torch.strided or value.is_nested or value.device.type == "meta":
        raise InvalidTypeError(
            f"{argument} must be a plain, dense tensor, got a {value.layout} one on {value.device}; pass a dense one"
        )
    if value.ndim != 2 or value.shape[1] != dim:
        raise InvalidValueError(
            f"{argument} must be of shape (n, {dim}), got {tuple(value.shape)}; the bank was made for rows of dim {dim}"
        )
    return value.detach()


def checked_batch(bank: Any, rows: Any, labels: tuple[Any, Any, Any], step: Any) -> Batch:
    """Return a batch as `bank` keeps it; `labels` are ids, groups and keys."""
    rows = checked_matrix("rows", rows, bank.dim)
    table = np.full((len(KINDS), len(rows)), -1, dtype=np.int64)
    for i, (name, given) in enumerate(zip(KINDS, labels, strict=True)):
        if given is not None or name == "ids":
            table[i] = _row_labels(name, given, len(rows))
    return Batch(stored(rows.to(bank.device), bank.dtype, bank.normalize), table, _next_step(bank.step, step))


def _row_labels(name: str, given: Any, n: int) -> Ints:
    if given is None:
        raise InvalidTypeError(f"{name} must be integers, got None; pass -1 for a row without an id")
    labels = integers(name, given)
    if labels.shape != (n,):
        raise InvalidValueError(
            f"{name} must be of shape ({n},), one for each row, got {labels.shape}; use -1 for none"
        )
    _refuse_low(name, labels)
    return labels


def _refuse_low(name: str, labels: Ints) -> None:
    if labels.size and labels.min() < -1:
        at = int(np.flatnonzero(labels.reshape(-1) < -1)[0])
        raise InvalidValueError(
            f"{name} must be at least -1, got {labels.reshape(-1)[at]} at position {at}; use -1 where there is none"
        )


def _next_step(last: int, step: Any) -> int:
    if step is None:
        return last + 1
    given = whole("step", step, low=0, high=2**62)
    if given < last:
        raise InvalidValueError(
            f"step must be at least {last}, the last one, got {given}; steps are counted over the whole training"
        )
    return given


def stored(rows: torch.Tensor, dtype: torch.dtype, normalize: bool) -> torch.Tensor:
    """Return rows as they are kept; one that cannot be is refused by its number."""
    plain = rows.to(torch.float32)
    kept: torch.Tensor
    if normalize:
        # Divided by their largest elements first, no rows are too large or small for their squares.
        unit = plain / plain.abs().amax(dim=1, keepdim=True)
        kept = (unit / torch.linalg.vector_norm(unit, dim=1, keepdim=True)).to(dtype)
    else:
        kept = plain.to(dtype)
    bad = ~torch.isfinite(kept).all(dim=1)
    if bool(bad.any()):
        _refuse_row(rows, int(bad.nonzero()[0]), dtype)
    return kept


def _refuse_row(rows: torch.Tensor, row: int, dtype: torch.dtype) -> None:
    values = rows[row].to(torch.float64)
    if not bool(torch.isfinite(values).all()):
        raise InvalidValueError(
            f"rows must hold finite numbers, got NaN or infinity in row {row}; remove the row or encode it again"
        )
    if not bool(values.any()):
        raise InvalidValueError(f"rows must have a direction, got zeros only in row {row}; remove the row")
    largest = float(values.abs().max())
    way = "up" if largest < 1 else "down"
    raise InvalidValueError(f"rows must fit {dtype}, got {largest:.3e} in row {row}; scale the rows {way}")


def checked_wanted(bank: Any, anchors: Any, k: Any, excluded: dict[str, Any], max_score: Any) -> Wanted:
    """Return what is looked up; `excluded` is by the kind of label."""
    anchors = checked_matrix("anchors", anchors, bank.dim)
    bad = ~torch.isfinite(anchors).all(dim=1)
    if bool(bad.any()):
        raise InvalidValueError(
            f"anchors must hold finite numbers, got NaN or infinity in row {int(bad.nonzero()[0])}; remove the row or "
            "encode it again"
        )
    n = len(anchors)
    labels = {
        kind: _refused_labels(f"exclude_{kind}", given, n) for kind, given in excluded.items() if given is not None
    }
    k = whole("k", k, low=1, high=MOST_K)
    plain = anchors.to(bank.device)
    return Wanted(plain if plain.dtype in DTYPES else plain.float(), k, labels, _highest(max_score, n))


def _refused_labels(name: str, given: Any, n: int) -> Ints:
    labels = integers(name, given)
    if labels.ndim not in (1, 2) or len(labels) != n:
        raise InvalidValueError(
            f"{name} must be of shape ({n},) or ({n}, m), some for each anchor, got {labels.shape}; pad with -1"
        )
    _refuse_low(name, labels)
    return labels.reshape(n, -1) if n else labels.reshape(0, 0)


def _highest(max_score: Any, n: int) -> NDArray[np.float64] | None:
    if max_score is None:
        return None
    if isinstance(max_score, bool | str):
        raise InvalidTypeError(
            f"max_score must be a number or one for each anchor, got {shown(max_score)}; pass floats"
        )
    alone = not isinstance(max_score, list | tuple) and np.ndim(max_score) == 0
    highest = floats("max_score", [max_score] if alone else max_score, np.float64)
    if alone:
        highest = np.repeat(highest.reshape(1), n)
    if highest.shape != (n,):
        raise InvalidValueError(
            f"max_score must be a number or of shape ({n},), got {highest.shape}; one for each anchor"
        )
    if np.isnan(highest).any():
        raise InvalidValueError(
            f"max_score must be numbers, got NaN at position {int(np.isnan(highest).argmax())}; use inf for no bound"
        )
    return highest
