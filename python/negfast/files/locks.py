"""A lock on a file that ends with the process that holds it, however it ends."""

import errno
import sys
from typing import IO

_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed, and return whether nobody else has it.

    Where the file system knows no locks, as some network ones, nobody has it.
    """
    try:
        _lock(file)
    except OSError as error:
        return error.errno not in _HELD
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
