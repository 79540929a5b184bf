"""The examples of the integrations show what they say."""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = ["--functions", "2000", "--steps", "25", "--classes", "12"]


def printed_by(name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run an example in this process: what it imports takes longer than it does."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(arguments)
    return capsys.readouterr().out


def test_a_map_learns_what_brings_modules_together(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():  # what it warns of while it loads is its own
        warnings.simplefilter("ignore")
        pytest.importorskip("pytorch_metric_learning", exc_type=ImportError)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        printed = printed_by("metric_learning", OPTIONS, capsys)
    finally:
        torch.set_num_threads(threads)
    before, after = (float(share) for share in re.findall(r"same module: (\S+)% ", printed))
    assert after > before and printed.count("triplets") == 2


def test_more_candidates_miss_less(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hnswlib", exc_type=ImportError)
    printed = printed_by("hnsw", ["--functions", "1500"], capsys)
    recalls = [float(recall) for recall in re.findall(r"recall (\S+) \(", printed)]
    assert len(recalls) == 3 and recalls[0] < recalls[1] < recalls[2] and printed.count("def ") >= 3
