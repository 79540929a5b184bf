"""The example of a plain loop learns, and ends the same whether or not it was stopped on the way."""

import importlib.util
import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from children import output_of

SCRIPT = Path(__file__).parents[2] / "examples" / "plain_pytorch.py"
# Questions and answers have no word in common, so that an untrained model finds an answer by luck alone.
WORDS = {
    "verbs": ["copy duplicate", "remove delete", "rename relabel", "compress shrink", "print output", "sort arrange"],
    "nouns": ["file document", "folder directory", "picture image", "song track", "table spreadsheet", "mail message"],
    "places": ["linux debian", "phone android", "browser firefox", "server cloud", "shell terminal", "editor vim"],
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    choices = list(itertools.product(*([entry.split() for entry in entries] for entries in WORDS.values())))
    random.Random(0).shuffle(choices)
    lines = [
        {
            "anchor": f"how can I {verb[0]} a {noun[0]} on my {place[0]}",
            "positive": f"{verb[1]} {noun[1]} with {place[1]}",
        }
        for verb, noun, place in choices
    ]
    path = tmp_path_factory.mktemp("text") / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("plain_pytorch", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # A small model, and batches so small that checkpoints are made within an epoch.
    module.N_WORDS, module.BATCH_SIZE = 2**11, 16
    return module


def numbers(printed: str) -> list[tuple[float, float]]:
    return [(float(loss), float(recall)) for loss, recall in re.findall(r"loss (\S+), recall@10 (\S+)", printed)]


class StoppedError(Exception):
    """Stands for whatever ends a run."""


def test_a_stopped_run_ends_as_one_that_was_not(
    pairs: Path, example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: str) -> None:
        example.main([str(pairs), "--folder", str(tmp_path / folder), "--epochs", "5", "--workers", "0"])

    def stop_in_the_third_epoch(state: Any, path: Path) -> None:
        save(state, path)
        if state["sampler"]["epoch"] == 2 and state["sampler"]["position"] > 0:
            path.replace(tmp_path / "parts" / "checkpoint.pt")
            raise StoppedError

    run("whole")
    whole = capsys.readouterr().out
    save = torch.save
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", stop_in_the_third_epoch)
        with pytest.raises(StoppedError):
            run("parts")
    run("parts")
    parts = capsys.readouterr().out
    # The loss of the third epoch is the mean of the steps since the stop.
    assert [line for line in parts.splitlines() if "epoch 2" not in line] == [
        line for line in whole.splitlines() if "epoch 2" not in line
    ]
    ends = [torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True) for folder in ("whole", "parts")]
    assert torch.equal(ends[0]["model"]["weight"], ends[1]["model"]["weight"])
    losses, recalls = zip(*numbers(whole), strict=True)
    assert len(losses) == 5
    assert losses[-1] < 0.7 * losses[0]
    assert recalls[0] + 0.3 < recalls[-1] > 0.8


def test_it_runs_as_a_script_with_workers(pairs: Path, tmp_path: Path) -> None:
    printed = output_of(str(SCRIPT), pairs, "--folder", tmp_path, "--epochs", 1, deadline=100)
    assert len(numbers(printed)) == 1
