"""How many threads a call uses."""

import multiprocessing
import os

from negfast._negfast import available_threads
from negfast.errors import InvalidValueError
from negfast.settings import whole

VARIABLE = "NEGFAST_NUM_THREADS"
"""The environment variable that sets the number of threads where no argument does."""

_imported_in = os.getpid()


def resolve(n_threads: int | None) -> int:
    """Return the number of threads to use.

    That is the argument, else what ``NEGFAST_NUM_THREADS`` holds, else 1 inside a forked or spawned worker (whose
    siblings want their share), else the CPUs that this process may use.
    """
    if n_threads is not None:
        return whole("n_threads", n_threads, low=1, high=1024)
    asked = os.environ.get(VARIABLE, "")
    if asked:
        if not asked.isdecimal() or not 1 <= int(asked) <= 1024:
            raise InvalidValueError(
                f"{VARIABLE} must be a whole number from 1 to 1024, got {asked!r}; "
                "correct or unset the environment variable"
            )
        return int(asked)
    worker = multiprocessing.parent_process() is not None or os.getpid() != _imported_in
    return 1 if worker else available_threads()
