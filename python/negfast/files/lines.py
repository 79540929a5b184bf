"""Files of lines, plain or compressed with gzip, read one at a time."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from negfast.errors import InvalidValueError

_BOM = b"\xef\xbb\xbf"


def is_compressed(path: Path) -> bool:
    """Tell whether a file is compressed, by its name."""
    return path.name.endswith(".gz")


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip where its name ends in ``.gz``.

    Raises
    ------
    InvalidValueError
        If it is damaged.
    OSError
        If it cannot be read.
    """
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if is_compressed(path):
            file = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))  # type: ignore[arg-type]
        try:
            yield file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidValueError(
                f"{path} must be a whole gzip file, got {str(error) or type(error).__name__}; fetch or write it again"
            ) from error


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line that is not blank, without white space around it.

    Raises
    ------
    InvalidValueError
        If the file is compressed and damaged.
    OSError
        If it cannot be read.
    """
    with reading(path) as file:
        for line, raw in enumerate(file, 1):
            plain = (raw.removeprefix(_BOM) if line == 1 else raw).strip()
            if plain:
                yield line, plain
