"""Files that are whole or not there: each is written under a temporary name and renamed when it is done."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_written = itertools.count()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; rename it when the block ends, remove it if the block fails."""
    final = Path(os.fsdecode(path))
    temporary = final.with_name(f".{final.name}.{os.getpid()}-{next(_written)}.part")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
