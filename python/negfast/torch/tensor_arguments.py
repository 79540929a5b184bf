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


def in_full(values: torch.Tensor) -> torch.Tensor:
    """Return values in float32, if they have fewer bits: margins need them, and -1e30 is none in float16."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
