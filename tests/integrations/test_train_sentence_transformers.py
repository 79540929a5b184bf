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


@pytest.mark.parametrize("plain", [False, True])
def test_it_trains_and_goes_on(tmp_path: Path, plain: bool, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--folder", str(tmp_path), "--pairs", "800", "--batch", "16", *(["--plain"] if plain else [])]
    module = example()
    module.main([*settings, "--epochs", "1"])
    first = capsys.readouterr().out.splitlines()[-1]
    module.main([*settings, "--epochs", "2"])
    second = capsys.readouterr().out.splitlines()[-1]
    for line in (first, second):
        before, after = (float(line.split()[place]) for place in (4, 6))
        assert 0 <= before < after
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2
    assert bool(list(tmp_path.glob("checkpoint-*/negfast_0.pt"))) != plain
