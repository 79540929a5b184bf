"""Arrays, tensors and sequences of numbers, brought to plain numpy arrays that share their memory where they can."""

import sys
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from negfast.errors import InvalidTypeError, InvalidValueError, shown

if TYPE_CHECKING:
    import torch

Ints = NDArray[np.int64]

# What the ways of looking at an odd tensor or container raise.
_FAILURES = (ValueError, TypeError, OverflowError, RuntimeError)


def is_tensor(value: object) -> "TypeGuard[torch.Tensor]":
    """Tell whether `value` is a torch tensor."""
    # A tensor exists only where torch is imported already, so nothing has to be imported to know one.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def embedding_array(argument: str, value: object) -> NDArray[Any] | None:
    """Return the numbers of an array or CPU tensor, not copied; bfloat16 as its bits. Anything else is ``None``."""
    if is_tensor(value):
        _refuse_odd_tensor(argument, value)
        _refuse_other_dimensions(argument, value)
        return _tensor_in_place(argument, value)
    array = plain_array(argument, value)
    if array is not None:
        _refuse_other_dimensions(argument, array)
    return array


def plain_array(argument: str, value: object) -> NDArray[Any] | None:
    """Return an array or tensor as a plain array, anything else as ``None``; a type numpy lacks becomes float32."""
    if is_tensor(value):
        _refuse_odd_tensor(argument, value)
        return _tensor_on_cpu(argument, value)
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidTypeError(
            f"{argument} must be an array without a mask, got a MaskedArray, whose mask would be lost; "
            "use .filled(...) with a value for what is masked"
        )
    return np.asarray(value) if isinstance(value, np.ndarray) else None


def integers(argument: str, value: object) -> Ints:
    """Return `value` as a C-contiguous int64 array."""
    array = plain_array(argument, value)
    if array is None:
        if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
            raise InvalidTypeError(
                f"{argument} must be integers, got {type(value).__name__} {shown(value)}; pass an integer array"
            )
        array = _from_sequence(argument, value)
        if array.size == 0:
            array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        remedy = "if it holds whole numbers, convert it with .astype('int64')"
        if array.dtype.kind == "O":
            lists = isinstance(value, np.ndarray)
            remedy = "use .tolist() if its lists differ in length" if lists else "pass whole numbers below 2**63"
        raise InvalidTypeError(f"{argument} must be integers, got dtype {_dtype_of(value, array)}; {remedy}")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InvalidValueError(
            f"{argument} must fit int64, got {array.max()}; drop the highest bit of hashes (x & 0x7fffffffffffffff)"
        )
    return np.ascontiguousarray(array, dtype=np.int64).reshape(array.shape)


def floats(argument: str, value: object, dtype: type[Any] = np.float32) -> NDArray[Any]:
    """Return `value` as a C-contiguous array of `dtype`; what that cannot hold becomes infinite."""
    array = plain_array(argument, value)
    if array is None:
        array = _from_sequence(argument, value)
    if array.dtype.kind not in "fiu":
        name = np.dtype(dtype).name
        raise InvalidTypeError(f"{argument} must be numbers, got dtype {array.dtype}; pass a {name} array")
    with np.errstate(over="ignore"):
        # It is refused as not finite where it matters.
        return np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)


def chained(argument: str, lists: list[Any]) -> list[Any]:
    """Return the entries of all lists in a row."""
    return list(chain.from_iterable(_unwrapped(argument, lists)))


def is_list(value: object) -> bool:
    """Tell whether `value` is a container of numbers, and not a number or a text."""
    if isinstance(value, Sequence):
        return not isinstance(value, str | bytes)
    return hasattr(value, "__array__") and np.ndim(value) > 0


def is_flat(value: object) -> bool:
    """Tell whether `value` is an array of one dimension or a list that holds no lists."""
    if is_tensor(value) or isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, list) and not any(isinstance(x, str | bytes) or is_list(x) for x in value)


def _from_sequence(argument: str, value: Any) -> NDArray[Any]:
    entries = _unwrapped(argument, value) if isinstance(value, list | tuple) else value
    try:
        return np.asarray(entries)
    except _FAILURES:
        raise InvalidValueError(
            f"{argument} must be a rectangular list of numbers, got entries of different lengths or kinds; "
            "pad lists with -1"
        ) from None


def _unwrapped(argument: str, entries: Sequence[Any]) -> Sequence[Any]:
    """Return entries with tensors among them as arrays; entries with a mask are refused."""
    torch = sys.modules.get("torch")
    odd = (np.ma.MaskedArray,) if torch is None else (np.ma.MaskedArray, torch.Tensor)
    if not any(issubclass(kind, odd) for kind in set(map(type, entries))):
        return entries
    return [plain_array(argument, x) if isinstance(x, odd) else x for x in entries]


def _dtype_of(value: object, array: NDArray[Any]) -> str:
    return str(value.dtype) if is_tensor(value) else str(array.dtype)


def _refuse_other_dimensions(argument: str, rows: "NDArray[Any] | torch.Tensor") -> None:
    if rows.ndim != 2:
        raise InvalidValueError(
            f"{argument} must be 2-dimensional, of shape (n_rows, dim), got shape {tuple(rows.shape)}; reshape it"
        )


def _refuse_odd_tensor(argument: str, value: "torch.Tensor") -> None:
    """Refuse tensors whose memory does not hold their numbers one by one."""
    torch = sys.modules["torch"]
    oddities = (
        (value.is_nested, "nested", "torch.nested.to_padded_tensor(...)"),
        (value.is_quantized, "quantised", ".dequantize()"),
        (value.layout != torch.strided, f"sparse ({value.layout})", ".to_dense()"),
        (value.device.type == "meta", "meta (it holds no numbers)", "a tensor on the CPU"),
        (value.is_conj(), "lazily conjugated", ".resolve_conj()"),
        (value.is_neg(), "lazily negated", ".resolve_neg()"),
    )
    for odd, kind, remedy in oddities:
        if odd:
            raise InvalidTypeError(f"{argument} must be a plain, dense tensor, got a {kind} one; use {remedy}")


def _tensor_in_place(argument: str, value: "torch.Tensor") -> NDArray[Any]:
    torch = sys.modules["torch"]
    if value.device.type != "cpu":
        raise InvalidValueError(f"{argument} must be on the CPU, got a tensor on {value.device}; use {argument}.cpu()")
    if value.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise InvalidTypeError(
            f"{argument} must be float32, float16 or bfloat16, got {value.dtype}; use {argument}.float()"
        )
    if not value.is_contiguous():
        raise InvalidValueError(
            f"{argument} must be contiguous, got strides {value.stride()}; use {argument}.contiguous()"
        )
    if value.dtype == torch.bfloat16:
        return _numpy(argument, value.detach().view(torch.int16)).view(np.uint16)
    return _numpy(argument, value.detach())


def _tensor_on_cpu(argument: str, value: "torch.Tensor") -> NDArray[Any]:
    torch = sys.modules["torch"]
    numbers = value.detach().cpu()
    # numpy has float16, float32 and float64 alone; bfloat16 and the 8-bit types all fit float32.
    own = numbers.dtype in (torch.float16, torch.float32, torch.float64)
    return _numpy(argument, numbers.float() if numbers.is_floating_point() and not own else numbers)


def _numpy(argument: str, value: "torch.Tensor") -> NDArray[Any]:
    try:
        array: NDArray[Any] = value.numpy()
    except _FAILURES as error:
        raise InvalidTypeError(
            f"{argument} must be a tensor that shares its memory with numpy, got {type(value).__name__} of "
            f"{value.dtype} ({shown(str(error))}); pass a numpy array"
        ) from None
    return array
