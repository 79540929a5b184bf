"""Which bytes a file holds, in a few letters."""

from pathlib import Path

import numpy as np

from negfast._negfast import fingerprint


def path_fingerprint(path: Path) -> str:
    """Return a hash of the bytes of a file, or of all files below a folder, as 32 hexadecimal digits.

    It is not cryptographic.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{file.relative_to(path).as_posix()}\0{path_fingerprint(file)}\n" for file in files)
        return fingerprint(np.frombuffer(lines.encode("utf-8", "surrogateescape"), dtype=np.uint8))
    # Nothing can be mapped of an empty file.
    empty = path.stat().st_size == 0
    return fingerprint(np.zeros(0, np.uint8) if empty else np.memmap(path, dtype=np.uint8, mode="r"))
