"""An epoch that a training loop shares with the workers of its data loader."""

import ctypes
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawValue
from typing import Any


class SharedEpoch:
    """A number in shared memory: workers that were forked or spawned read what the loop writes.

    A copy, pickled or deep, is on its own and shares with workers of its own. A tensor in shared memory would be
    copied out of it, and forked workers that persist would not hear of later epochs.
    """

    def __init__(self, value: int = 0) -> None:
        self._held = RawValue(ctypes.c_int64, value)

    @property
    def value(self) -> int:
        """The number."""
        return self._held.value

    @value.setter
    def value(self, value: int) -> None:
        self._held.value = value

    def __reduce__(self) -> tuple[Callable[..., "SharedEpoch"], tuple[Any]]:
        # Shared memory can be handed only to a process that is just being started.
        if get_spawning_popen() is None:
            return SharedEpoch, (self.value,)
        return _holding, (self._held,)


def _holding(held: "ctypes.c_int64") -> SharedEpoch:
    epoch = SharedEpoch.__new__(SharedEpoch)
    epoch._held = held
    return epoch
