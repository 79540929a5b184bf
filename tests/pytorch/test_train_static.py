"""The example of the whole loop: it learns, and ends the same to the bit whether or not it was killed on the way."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

import killed_loop
from children import output_of, run_child
from negfast import StateError
from negfast.cli.demo.training import Training, TrainingSettings
from negfast.torch.static_encoder import StaticEncoder

SCRIPT = killed_loop.__file__


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what a run that nobody stops ends with."""
    return output_of(SCRIPT, tmp_path_factory.mktemp("whole"), 0, "nobody")


def test_a_run_uses_all_of_its_parts(tmp_path: Path) -> None:
    run = killed_loop.made_run(tmp_path)
    losses = [loss for _, loss in run.train()]
    assert losses[-1] < losses[0]
    assert len(run.bank) == run.bank_size
    assert run.lists > 0, "lists were mined anew"
    assert run.negatives.usefulness.std() > 0
    assert run.negatives.probabilities["hard"] > 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
def test_a_killed_run_ends_as_if_it_had_never_stopped(tmp_path: Path, whole: str) -> None:
    done = run_child(SCRIPT, tmp_path, 2, "26")  # in the middle of an epoch, two steps after it was saved
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert output_of(SCRIPT, tmp_path, 2, "nobody") == whole


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
def test_a_killed_worker_is_an_error_and_the_run_goes_on(tmp_path: Path, whole: str) -> None:
    done = run_child(SCRIPT, tmp_path, 1, "worker")
    # The loader notices that its worker is gone, or fails to fetch what the worker had just announced.
    assert done.returncode > 0 and re.search(r"DataLoader worker|ConnectionResetError|EOFError", done.stderr), (
        done.stderr
    )
    assert (tmp_path / "killed").exists()
    assert output_of(SCRIPT, tmp_path, 1, "worker") == whole


@pytest.mark.parametrize(("options", "fragment"), [({"seed": 1}, "seed"), ({"bank_size": 32}, "capacity")])
def test_another_seed_or_capacity_is_refused_by_name(tmp_path: Path, options: dict[str, Any], fragment: str) -> None:
    run = killed_loop.made_run(tmp_path)
    next(run.train())
    with pytest.raises(StateError, match=fragment):
        killed_loop.made_run(tmp_path, **options)


def test_files_of_others_stay(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("my-notes.txt", "model-00001-of-00002.safetensors", "a-folder")]
    for path in others[:2]:
        path.write_text("mine")
    others[2].mkdir()
    (tmp_path / "mined-7.safetensors").write_text("lists of before")
    run = killed_loop.made_run(tmp_path)
    run.save()
    assert all(path.exists() for path in others)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "mined-0.safetensors", "miner-0.safetensors", "model-00001-of-00002.safetensors"
    ]  # fmt: skip


def test_the_demo_trains_by_the_same_loop(tmp_path: Path) -> None:
    pairs = killed_loop.made_pairs()
    model = StaticEncoder([*pairs.queries, *pairs.passages], 16)
    run = killed_loop.made_run(tmp_path, model, epochs=2)
    losses = [loss for _, loss in run.train()]
    settings = {"epochs": 2, "batch_size": 16, "dim": 16, "learning_rate": 0.02, "bank": 48, "observed_every": 2}
    training = Training(pairs, TrainingSettings(**settings))
    assert [done.loss for done in training.train()] == losses
    assert torch.equal(training.model.table.weight, run.model.table.weight)


def test_parts_can_be_left_out() -> None:
    pairs = killed_loop.made_pairs()
    small = {"epochs": 1, "batch_size": 16, "dim": 16}
    for settings in (
        TrainingSettings.plain(**small),
        TrainingSettings.plain(**small, num_negatives=4),
        TrainingSettings(**small, bank=0, curriculum=False, relative_margin=None),
        TrainingSettings(**small, num_negatives=0),
    ):
        (done,) = Training(pairs, settings).train()
        assert 0.0 < done.loss < 10.0
