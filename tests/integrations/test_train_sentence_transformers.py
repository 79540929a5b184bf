"""The example with the trainer of sentence-transformers: it trains, and goes on from where it was."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    pytest.importorskip("datasets", exc_type=ImportError)
    pytest.importorskip("sentence_transformers", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
EXAMPLE = Path(__file__).parents[2] / "examples" / "train_sentence_transformers.py"


def example() -> Any:
    spec = importlib.util.spec_from_file_location("train_sentence_transformers", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_trains_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--folder", str(tmp_path), "--pairs", "800", "--epochs", "1"]
    module = example()
    told = []
    for _ in range(2):  # the second time there is nothing left to do
        module.main(settings)
        told.append(capsys.readouterr().out.splitlines()[-1].split())
    assert told[0][:3] == told[1][:3] == ["MRR@10", "of", "held-out"]
    assert float(told[0][6]) > 0
    assert told[0] == told[1]
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    assert len(list(tmp_path.glob("checkpoint-*/negfast_0.pt"))) == 1
