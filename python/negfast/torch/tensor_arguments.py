"""Tensors that were passed, checked."""

from typing import Any, Literal

import torch

from negfast.errors import InvalidTypeError, InvalidValueError, shown


def tensor(
    name: str, value: Any, kind: torch.dtype | Literal["floats"], *, like: torch.Tensor | None = None
) -> torch.Tensor:
    """Return a tensor of a dtype, or of any float dtype, and on the device of another one.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If it is something else, or on another device.
    """
    if not isinstance(value, torch.Tensor):
        raise InvalidTypeError(
            f"{name} must be a tensor of {kind}, got {type(value).__name__} {shown(value)}; pass a tensor"
        )
    if not (value.is_floating_point() if kind == "floats" else value.dtype == kind):
        raise InvalidTypeError(f"{name} must be a tensor of {kind}, got {value.dtype}; convert it")
    if like is not None and value.device != like.device:
        raise InvalidValueError(f"{name} must be on {like.device}, as the rest, got {value.device}; move it there")
    return value
