"""Progress bars on stderr: tqdm's where it is installed, otherwise one plain line."""

import sys
import time
from types import TracebackType
from typing import Any, Self

SECONDS_BETWEEN_UPDATES = 0.1


def is_progress_wanted(quiet: bool) -> bool:
    """Return whether somebody is there to watch: not asked to be quiet, and stderr is a terminal."""
    return not quiet and sys.stderr.isatty()


class Progress:
    """A bar, as a context manager whose value is called with each number of finished units.

    Parameters
    ----------
    label : str
        What is being done.
    total : int or None
        Number of units; None shows the label alone.
    shown : bool
        False makes a bar that does nothing.
    """

    def __init__(self, label: str, total: int | None, *, shown: bool) -> None:
        self._label = label
        self._total = total
        self._shown = shown
        self._bar: Any = _tqdm_bar(label, total) if shown and total is not None else None
        self._done = 0
        self._last_update = 0.0
        if shown and self._bar is None:
            self(0)

    def __enter__(self) -> Self:
        """Return the bar itself."""
        return self

    def __call__(self, n: int) -> None:
        """Count `n` more units as done."""
        self._done += n
        if self._bar is not None:
            self._bar.update(n)
        elif self._shown and time.monotonic() - self._last_update > SECONDS_BETWEEN_UPDATES:
            self._last_update = time.monotonic()
            share = f": {100 * self._done // self._total:3d} %" if self._total else " ..."
            sys.stderr.write(f"\r{self._label}{share}")
            sys.stderr.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Clear the bar."""
        if self._bar is not None:
            self._bar.close()
        elif self._shown:
            sys.stderr.write("\r" + " " * (len(self._label) + len(": 100 %")) + "\r")
            sys.stderr.flush()


def _tqdm_bar(label: str, total: int | None) -> Any:  # a tqdm, whose types are not at hand where it is not installed
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, desc=label, leave=False, dynamic_ncols=True)
