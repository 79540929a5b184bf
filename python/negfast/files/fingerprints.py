"""Which bytes a file holds, in a few letters."""

from pathlib import Path

import numpy as np

from negfast._negfast import fingerprint


def file_fingerprint(path: Path) -> str:
    """Return a hash of the bytes of a file, as 32 hexadecimal digits; not cryptographic.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    # Nothing can be mapped of an empty file.
    empty = path.stat().st_size == 0
    return fingerprint(np.zeros(0, np.uint8) if empty else np.memmap(path, dtype=np.uint8, mode="r"))
