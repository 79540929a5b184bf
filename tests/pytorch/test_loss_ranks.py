"""Two ranks that gather are one process with both batches: the same loss, the same gradients."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.distributed as dist

import loss_ranks

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo"
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    paths = [str(Path(loss_ranks.__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, loss_ranks.__file__, str(rank), "2", str(folder / "store"), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [child.communicate(timeout=90)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(("options", "sizes"), loss_ranks.RUNS)
def test_two_ranks_are_one_process(ranks: list[dict[str, Any]], options: str, sizes: str) -> None:
    loss, grads = loss_ranks.alone(options, sizes)
    found = [rank[f"{options}, {sizes}"] for rank in ranks]
    torch.testing.assert_close((found[0][0] + found[1][0]) / 2, loss)  # as ranks average
    assert not torch.equal(found[0][0], found[1][0])  # each has its own anchors
    for rank in found:  # DistributedDataParallel has averaged them
        for ours, theirs in zip(rank[1], grads, strict=True):
            torch.testing.assert_close(ours, theirs)
    for signals in (entry[2] for entry in found):
        assert all(math.isfinite(value) for value in signals.values() if isinstance(value, float))


def test_other_arguments_are_refused_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["refused"] == (
            "positive_ids must be of the same kind on all ranks, got nothing on rank 0 and torch.int64, 1 wide on "
            "rank 1; pass the same arguments everywhere"
        )


def test_what_one_rank_refuses_is_raised_on_all(ranks: list[dict[str, Any]]) -> None:
    for first, second in zip(ranks[0]["failed"], ranks[1]["failed"], strict=True):
        assert first == f"the arguments of rank 1 must be as on this one, got an error there: {second}"
    assert ranks[1]["failed"][0].startswith("positives must be of shape (3, 4)")
    assert ranks[1]["failed"][1].startswith(
        "rows of negatives[0] ('bank') must be finite, got NaN or infinity in row (2, 0)"
    )
