"""Copies of a data set: each tells its own workers of epochs, and only them."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

from children import output_of

SCRIPT = Path(__file__).with_name("copies.py")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_epochs_reach_the_workers_of_a_copy(method: str) -> None:
    output_of(str(SCRIPT), method, deadline=110)
