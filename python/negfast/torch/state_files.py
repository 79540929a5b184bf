"""Nested states as files: arrays as safetensors, plain values in the header."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast._negfast import read_tensors, write_tensors
from negfast.errors import StateError, shown

_ARRAY = "array of this file"


def write_state(path: str | os.PathLike[str], kind: str, state: Mapping[str, Any]) -> None:
    """Write mappings and lists of plain values and arrays, through a temporary name in the same folder.

    Parameters
    ----------
    path : str or path-like
    kind : str
        What the state is of.
    state : mapping
    """
    arrays: list[NDArray[Any]] = []
    plain = json.dumps({"kind": kind, "state": _plain(state, arrays)})
    tensors = [
        (str(i), array.dtype.name, list(array.shape), np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        for i, array in enumerate(arrays)
    ]
    write_tensors(os.fsdecode(path), tensors, plain)


def read_state(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read what :func:`write_state` wrote.

    Raises
    ------
    StateError
        If the file is damaged, or is of something else.
    OSError
        If it cannot be read.
    """
    name = os.fsdecode(path)
    tensors, text = read_tensors(name)
    try:
        held = json.loads(text)
        if held["kind"] != kind:
            raise StateError(f"{name} must hold the state of a {kind}, got that of {shown(held['kind'])}")
        arrays = {key: data.view(dtype).reshape(shape) for key, dtype, shape, data in tensors}
        state: dict[str, Any] = _whole(held["state"], arrays)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"{name} is damaged: {error!r}; go on from another checkpoint") from error
    return state


def _plain(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Return the value with numbers in the place of arrays, which are added to those."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, Mapping):
        return {name: _plain(part, arrays) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part, arrays) for part in value]
    return value


def _whole(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[str(value[_ARRAY])]
        return {name: _whole(part, arrays) for name, part in value.items()}
    return [_whole(part, arrays) for part in value] if isinstance(value, list) else value
