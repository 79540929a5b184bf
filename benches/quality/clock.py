"""Where the seconds of a run go."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Activity = Literal["train", "encode", "mine", "draw", "look up"]


class Clock:
    """Adds up seconds by activity; evaluation is in none.

    Attributes
    ----------
    seconds : by activity
    texts : how many were embedded, in "steps" and in "lists"
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()

    @contextmanager
    def on(self, activity: Activity) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - begin

    @property
    def total(self) -> float:
        return sum(self.seconds.values())
