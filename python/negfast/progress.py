"""A progress bar over a call, if one is asked for."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from negfast.settings import truth

Report = Callable[[int, int], None]
"""Called with the work done and the whole, about every 50 milliseconds."""


Wanted = bool | Callable[[float], object]
"""Whether to show a bar, or what hears of the share that is done, from 0 to 1."""


def wish(progress: object) -> Wanted:
    """Check the argument `progress` of a public function, and return it."""
    if callable(progress):
        return progress
    return truth("progress", progress)


@contextlib.contextmanager
def bar(label: str, *, wanted: Wanted) -> Iterator[Report | None]:
    """Yield what the compiled module calls to show progress; ``None`` if no bar is wanted."""
    if callable(wanted):
        yield _rising(lambda percent: wanted(percent / 100.0))
        wanted(1.0)
        return
    if not wanted:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield _plain(label)
        return
    with tqdm(total=100.0, desc=label, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as shown:
        yield _rising(lambda percent: shown.update(percent - shown.n))
        shown.update(100.0 - shown.n)


def _plain(label: str) -> Report:
    """Return a report that prints a line every two seconds, for where tqdm is not installed."""
    due = time.monotonic() + 2.0

    def show(percent: float) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + 2.0
            sys.stderr.write(f"{label}: {percent:.0f} %\n")

    return _rising(show)


def _rising(show: Callable[[float], object]) -> Report:
    """Return a report that shows per cent and never goes back: a deeper search adds to the whole."""
    highest = 0.0

    def update(done: int, total: int) -> None:
        nonlocal highest
        highest = max(highest, min(100.0, 100.0 * done / max(total, 1)))
        show(highest)

    return update
