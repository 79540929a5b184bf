"""Tensors that were passed, checked."""

import math
from typing import Any, Literal

import torch

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import number


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


def above_zero(name: str, value: Any) -> float | torch.Tensor:
    """Return a temperature: a number above 0, or a tensor without an axis, whose value is not looked at.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If it is neither.
    """
    if isinstance(value, torch.Tensor):
        if tensor(name, value, "floats").numel() != 1:
            raise InvalidValueError(f"{name} must be one number, got shape {tuple(value.shape)}; pass one for all")
        return value.reshape(())
    found = number(name, value)
    if found <= 0.0 or math.isinf(1.0 / found):
        raise InvalidValueError(f"{name} must be above 0, got {found}; 0.05 is a common one")
    return found


def broadcasts(name: str, value: Any, kind: torch.dtype | Literal["floats"], like: torch.Tensor) -> None:
    """Check a tensor that broadcasts to another one.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If it is something else, or does not.
    """
    shape = tuple(tensor(name, value, kind, like=like).shape)
    pairs = zip(reversed(shape), reversed(like.shape), strict=False)
    if len(shape) > like.ndim or any(own not in (1, size) for own, size in pairs):
        raise InvalidValueError(f"{name} must broadcast to shape {tuple(like.shape)}, got {shape}; give each one")


def in_full(values: torch.Tensor) -> torch.Tensor:
    """Return values in float32, if they have fewer bits: margins need them, and -1e30 is none in float16."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
