"""Numbers that a training loop shares with the workers of its data loader."""

import ctypes
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawArray
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int64": ctypes.c_int64}


class SharedNumbers:
    """An array in shared memory: workers that were forked or spawned read what the loop writes.

    A copy, pickled or deep, is on its own, as one of a :class:`SharedEpoch` is.

    Attributes
    ----------
    values : ndarray
        The numbers, to be read and written in place.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._keep(RawArray(_KINDS[values.dtype.name], max(values.size, 1)), values.dtype.name, values.size)
        self.values[:] = values

    def _keep(self, held: Any, kind: str, size: int) -> None:
        self._held, self._kind = held, kind
        self.values: NDArray[Any] = np.frombuffer(held, dtype=kind)[:size]

    def __reduce__(self) -> tuple[Callable[..., "SharedNumbers"], tuple[Any, ...]]:
        # Shared memory can be handed only to a process that is just being started.
        if get_spawning_popen() is None:
            return SharedNumbers, (self.values.copy(),)
        return _holding, (self._held, self._kind, self.values.size)


def _holding(held: Any, kind: str, size: int) -> SharedNumbers:
    numbers = SharedNumbers.__new__(SharedNumbers)
    numbers._keep(held, kind, size)
    return numbers
