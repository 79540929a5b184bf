"""`all_reduced` where the backend moves what lies on a GPU only."""

import pytest

pytest.importorskip("torch")

import torch

import all_reducing
from children import output_of


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_signals_go_by_way_of_the_gpu() -> None:
    assert output_of(all_reducing.__file__, "nccl", deadline=90.0) == ""
