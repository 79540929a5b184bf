"""Draws are the same for any number of workers of a data loader, and after a restart; a draw that is not is noticed."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

from children import output_of, run_child

SCRIPT = Path(__file__).with_name("draw_workers.py")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_workers_draw_what_the_loop_would(method: str) -> None:
    output_of(str(SCRIPT), method, deadline=110)


@needs_fork
def test_a_draw_that_depends_on_the_worker_is_noticed() -> None:
    done = run_child(str(SCRIPT), "fork", "faulty", deadline=110)
    assert done.returncode != 0
    # The line alone would stand in the traceback of any error there.
    assert "AssertionError: workers make a difference" in done.stderr
