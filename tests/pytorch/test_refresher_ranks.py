"""Refreshers of several processes: the same lists on each, an error on all, and states that hold what all keep."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

import refresher_ranks
from children import output_of


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_are_as_one(tmp_path: Path) -> None:
    printed = output_of(refresher_ranks.__file__, tmp_path, deadline=100)
    assert printed.split() == ["lists", "failures", "states"]
