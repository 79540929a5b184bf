"""Data loaders with workers, persistent and forked or spawned: they load what a loop without workers does.

Epochs reach them, and an epoch that was left in the middle goes on where it stood.
"""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

from children import output_of

SCRIPT = Path(__file__).with_name("loaders.py")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_workers_load_what_the_loop_would(method: str) -> None:
    output_of(str(SCRIPT), method, deadline=110)
