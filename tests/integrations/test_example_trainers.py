"""The examples of trainers: they train, refresh, and go on from their checkpoints."""

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    for name in ("transformers", "accelerate", "lightning"):
        pytest.importorskip(name, exc_type=ImportError)
    import torch

    import train_lightning
    import train_transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def test_lightning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    options = ["--folder", str(tmp_path), "--pairs", "400"]
    train_lightning.main([*options, "--epochs", "6"])
    printed = capsys.readouterr().out
    assert "lists changed, the first lists" in printed and "above max_drift" in printed and "MRR@10 0." in printed
    train_lightning.main([*options, "--epochs", "7", "--resume"])
    assert "the first lists" not in capsys.readouterr().out


def test_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    options = ["--folder", str(tmp_path), "--pairs", "400"]
    train_transformers.main([*options, "--epochs", "5"])
    printed = capsys.readouterr().out
    assert "'overlap'" in printed and "MRR@10 0." in printed
    train_transformers.main([*options, "--epochs", "6", "--resume"])
    assert "MRR@10 0." in capsys.readouterr().out
