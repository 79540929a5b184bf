"""Banks of several processes: the same on each, or shared out over them, as one bank would be."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

import bank_ranks
from children import output_of


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_are_as_one(tmp_path: Path) -> None:
    printed = output_of(bank_ranks.__file__, tmp_path, deadline=100)
    assert printed.split() == [
        "together",
        "shards",
        "start_step",
        "state",
        "errors",
        "differing",
        "local_errors",
        "in_ddp",
    ]
