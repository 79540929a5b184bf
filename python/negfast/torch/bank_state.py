"""The state of a memory bank: tensors only, so that every way of saving a module saves it."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from negfast._negfast import BankPlaces
from negfast.errors import StateError, shown
from negfast.states import check_state

VERSION = 1
"""Version of the state of :class:`MemoryBank`."""
NAMES = ("rows", "book", "counts", "settings")
"""The tensors of a state."""


def packed(settings: Mapping[str, Any]) -> torch.Tensor:
    """Return plain values as the bytes of their JSON, which any file of tensors can hold."""
    return torch.frombuffer(bytearray(json.dumps(settings).encode()), dtype=torch.uint8)


def unpacked(settings: torch.Tensor) -> Any:
    """Return what was packed."""
    try:
        return json.loads(bytes(settings.cpu().tolist()))
    except (ValueError, TypeError, RecursionError) as error:
        raise StateError(f"settings of the state are damaged: {error}; save it again") from error


def checked(state: Mapping[str, Any], own: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> BankPlaces:
    """Refuse a state that does not belong to a bank of these tensors and settings, and return its places.

    Parameters
    ----------
    state : mapping of str to tensor
    own : mapping of str to tensor
        What the bank holds, of which dtypes and shapes count.
    settings : mapping
        Version and settings of the bank.

    Raises
    ------
    StateError
        If it is another's, or damaged.
    """
    for name in NAMES:
        if not isinstance(state[name], torch.Tensor):
            raise StateError(f"{name} of the state must be a tensor, got {shown(state[name])}; save it again")
    check_state(unpacked(state["settings"]), settings, "this bank")
    for name in ("rows", "book", "counts"):
        mine, given = own[name], state[name]
        if given.dtype != mine.dtype or given.shape != mine.shape:
            raise StateError(
                f"{name} of the state must be {mine.dtype} of shape {tuple(mine.shape)}, got {given.dtype} of shape "
                f"{tuple(given.shape)}; make this bank as the one that was saved"
            )
    return _places(state, settings)


def _places(state: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> BankPlaces:
    seen, step = state["counts"].tolist()
    book = np.ascontiguousarray(state["book"].cpu().numpy())
    ids, groups, keys, steps, numbers, chosen = book
    held = numbers >= 0
    right = {
        "counts": seen >= 0 and step >= -1,
        "groups": bool((groups >= -1).all()),
        "keys": bool((keys >= -1).all()),
        "steps": bool(((steps >= 0) & (steps <= step))[held].all() and (steps[~held] == -1).all()),
        "numbers": bool((numbers >= -1).all() and (numbers < max(seen, 1)).all()),
        "chosen": bool(((chosen >= 0) == held).all() and (chosen <= numbers).all()),
    }
    for name, fine in right.items():
        if not fine:
            raise StateError(f"{name} of the state are damaged: they do not fit the others; save it again")
    if len(np.unique(numbers[held])) != held.sum():
        raise StateError("numbers of the state are damaged: one is there twice; save it again")
    return BankPlaces.restore(settings["policy"], settings["seed"], seen, ids, chosen)


def check_rows(rows: torch.Tensor, held: torch.Tensor, normalize: bool) -> None:
    """Refuse rows that no bank can hold; `held` tells which of them count."""
    for start in range(0, len(rows), 1 << 14):
        part = rows[start : start + (1 << 14)][held[start : start + (1 << 14)]].float()
        fine = torch.isfinite(part).all()
        if normalize:
            fine &= ((torch.linalg.vector_norm(part, dim=1) - 1).abs() < 0.02).all()
        if not bool(fine):
            expected = "finite and of norm 1" if normalize else "finite"
            raise StateError(f"rows of the state are damaged: not all are {expected}; save it again")
