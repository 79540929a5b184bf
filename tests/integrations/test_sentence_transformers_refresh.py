"""Refresh inside `SentenceTransformerTrainer`: lists change under its loader, and runs go on where they stopped."""

import os
import pickle
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    st = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    import refresh_ranks
    import torch
    from refresh_parts import ANCHORS, DOCUMENTS, refreshing
    from sentence_refresh_runs import Run

    from negfast.integrations.sentence_transformers import HardBatchSampler, RefreshCallback, number_rows
    from negfast.integrations.sentence_transformers.refresh import Batches
    from negfast.torch import LiveBatches

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
WORKERS = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 2}
NEVER = negfast.RefreshPolicy(every=1000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a training with two persistent workers that nobody stops, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return Run(folder, **WORKERS).train(), folder


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the same training without a refresh."""
    return Run(tmp_path_factory.mktemp("still"), policy=NEVER, save_strategy="no", **WORKERS).train()


def same_weights(one: Any, other: Any) -> bool:
    return bool((one.weights() == other.weights()).all())


def test_lists_change_within_an_epoch_under_the_same_loader(whole: Any, still: Any) -> None:
    run, _ = whole
    assert [event.step for event in run.callback.events if event.refreshed] == [0, 4, 8, 12, 16, 20, 24]
    assert all(event.n_changed > 50 for event in run.callback.events)
    # Both run alike until the first refresh: four batches are trained on, and four more are on their way; accelerate
    # holds one of the batches that it took.
    ahead = 4 + 1 + 4
    assert run.seen[:ahead] == still.seen[:ahead]
    assert [rows for rows, _ in run.seen[:12]] == [rows for rows, _ in still.seen[:12]], "the same batches"
    changed = [ours != theirs for (_, ours), (_, theirs) in zip(run.seen[ahead:12], still.seen[ahead:12], strict=True)]
    assert changed == [True] * (12 - ahead), "and other negatives before the epoch ends"


def test_batches_follow_the_lists_from_one_epoch_to_the_next(whole: Any, still: Any) -> None:
    run, _ = whole
    assert [rows for rows, _ in run.seen[12:]] != [rows for rows, _ in still.seen[12:]]
    for seen in (run.seen, still.seen):
        assert sorted(row for rows, _ in seen[12:] for row in rows) == list(range(len(ANCHORS)))


@pytest.mark.parametrize(("step", "settings"), [(6, WORKERS), (6, {}), (12, WORKERS)], ids=["workers", "none", "later"])
def test_a_resumed_training_ends_with_the_same_bits(whole: Any, step: int, settings: Any, tmp_path: Path) -> None:
    run, folder = whole
    if not settings:
        settings = {"num_train_epochs": 1}
        run, folder = Run(tmp_path, **settings).train(), tmp_path
    again = Run(folder, **settings, save_strategy="no")
    again.trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
    assert again.seen == run.seen[step:]
    assert same_weights(again, run)
    assert [str(event) for event in again.callback.events] == [
        str(event) for event in run.callback.events if event.step > step
    ]


def test_a_second_training_begins_anew(tmp_path: Path) -> None:
    run = Run(tmp_path, num_train_epochs=1, save_strategy="no")
    for first in (0, 4):  # the second one has lists
        run.callback.events.clear()
        run.seen.clear()
        run.train()
        assert [event.step for event in run.callback.events] == [*range(first, 13, 4)]
        assert all(event.n_changed > 50 for event in run.callback.events)


def test_evaluation_leaves_lists_and_batches_alone(tmp_path: Path) -> None:
    held_out = datasets.Dataset.from_dict({"anchor": ANCHORS[:20], "positive": DOCUMENTS[:20]})
    settings: dict[str, Any] = {"num_train_epochs": 1, "eval_strategy": "steps", "eval_steps": 3}
    run = Run(tmp_path, evaluation=number_rows(held_out, start=None), **settings).train()
    assert [entry["step"] for entry in run.trainer.state.log_history if "eval_loss" in entry] == [3, 6, 9, 12]
    assert same_weights(run, Run(tmp_path / "other", num_train_epochs=1, save_strategy="no").train())
    again = Run(tmp_path, evaluation=number_rows(held_out, start=None), save_strategy="no", **settings)
    assert again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6")).seen == run.seen[6:]
    with pytest.raises(negfast.InvalidValueError, match=r"dataset must be the 90 pairs that are trained on, got 20"):
        Run(tmp_path / "third", evaluation=number_rows(held_out), **settings).train()


def test_a_checkpoint_elsewhere_is_named_by_the_arguments(whole: Any, tmp_path: Path) -> None:
    run, folder = whole
    checkpoint = str(folder / "checkpoint-18")
    with pytest.raises(negfast.StateError, match="set resume_from_checkpoint of the training arguments"):
        Run(tmp_path).train(resume_from_checkpoint=checkpoint)
    again = Run(tmp_path, resume_from_checkpoint=checkpoint, save_strategy="no", **WORKERS)
    again.train(resume_from_checkpoint=checkpoint)
    assert again.seen == run.seen[18:]


def test_what_was_found_is_in_the_log(whole: Any) -> None:
    run, _ = whole
    history = run.trainer.state.log_history
    events = [entry for entry in history if "negfast/refreshed" in entry]
    assert [entry["step"] for entry in events if "loss" not in entry] == [0, 4, 8, 12, 16, 20, 24]
    assert {"negfast/drift", "negfast/turnover", "negfast/changed", "negfast/encoded"} <= set(events[-1])
    assert sum("loss" in entry for entry in history) == 8, "the trainer logs as ever"


def test_a_policy_that_looks(tmp_path: Path) -> None:
    run = Run(tmp_path, policy=negfast.RefreshPolicy(max_drift=0.14, min_steps=3), save_strategy="no").train()
    looks = [event for event in run.callback.events if event.staleness is not None]
    assert [event.step for event in looks] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]
    assert {event.refreshed for event in looks} == {True, False}
    assert all(event.refreshed == (event.staleness.drift.mean > 0.14) for event in looks if event.step > 2)
    told = [entry["negfast/staleness"] for entry in run.trainer.state.log_history if "negfast/staleness" in entry]
    assert told[:2] == [event.staleness.drift.mean for event in looks[:2]]


def test_a_curriculum_asks(tmp_path: Path) -> None:
    curriculum = negfast.AdaptiveCurriculum(
        negfast.Curriculum.random_first(22, hard=0.4, semi_hard=0.3, easy=0.2, final_temperature=0.05),
        refresh=negfast.RefreshPolicy(every=6),
    )
    run = Run(tmp_path, curriculum=curriculum, save_strategy="no").train()
    asked = [event for event in run.callback.events if "curriculum" in event.why]
    assert [event.step for event in asked] == [6, 12, 18, 24]
    assert not curriculum.refresh_due


class Noting(torch.nn.Module):
    """Stands for a model: notes what it is asked to encode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = torch.nn.Dropout(0.5), []

    def encode(self, texts: list[str], **settings: Any) -> Any:
        assert not self.inner.training and not torch.is_grad_enabled()
        self.eval()
        torch.rand(3)
        self.calls.append((texts[0], settings["prompt"], settings.get("task")))
        return np.random.default_rng(0).standard_normal((len(texts), 8)).astype(np.float32)


class Table:
    column_names = ("answer", "question", "label", "row")


class Loader:
    dataset, collate_fn = Table(), None


@pytest.mark.parametrize(
    ("prompts", "mapping", "expected"),
    [
        (None, None, [("", None), ("", None)]),
        ("all: ", None, [("all: ", None), ("all: ", None)]),
        ({"question": "q: "}, {"question": "query", "answer": "document"}, [("q: ", "query"), ("", "document")]),
    ],
)
def test_texts_are_encoded_as_the_trainer_feeds_them(prompts: Any, mapping: Any, expected: Any) -> None:
    model = Noting()
    model.inner.eval()
    model.inner.train()
    callback = RefreshCallback(refreshing(NEVER), columns=("question", "answer"))
    arguments = type("Arguments", (), {"prompts": prompts, "router_mapping": mapping})()
    state = type("State", (), {"global_step": 0, "log_history": [], "epoch": 0.0})()
    before = torch.random.get_rng_state()
    callback.on_train_begin(arguments, state, None, model=model, train_dataloader=Loader())
    assert [call[1:] for call in model.calls] == expected
    assert [call[0] for call in model.calls] == [ANCHORS[0], DOCUMENTS[0]]
    assert model.training and model.inner.training and torch.equal(before, torch.random.get_rng_state())


def test_nested_prompts_are_refused() -> None:
    callback = RefreshCallback(refreshing(NEVER), columns=("question", "answer"))
    arguments = type("Arguments", (), {"prompts": {"nq": {"question": "q: "}}, "router_mapping": None})()
    with pytest.raises(negfast.InvalidValueError, match="prompts and router_mapping must be by column"):
        callback.encoders(arguments, {"model": Noting(), "train_dataloader": Loader()})


def test_the_factory_makes_batches_for_training_and_plain_ones_for_evaluation() -> None:
    table = datasets.Dataset.from_dict({"anchor": ANCHORS, "positive": DOCUMENTS})
    callback = RefreshCallback(refreshing(NEVER))
    factory = callback.batches(HardBatchSampler)
    settings: dict[str, Any] = {"batch_size": 8, "drop_last": True}
    assert isinstance(factory(number_rows(table), **settings), LiveBatches)
    assert isinstance(factory(number_rows(table, start=None), **settings), HardBatchSampler)
    with pytest.raises(negfast.InvalidValueError, match="dataset must have the column 'row'"):
        factory(table, **settings)
    read = pickle.loads(pickle.dumps(factory))  # noqa: S301 - as the trainer does
    assert isinstance(read, Batches)
    with pytest.raises(negfast.StateError, match="batch_sampler must be made anew"):
        read(number_rows(table), **settings)
    with pytest.raises(negfast.InvalidTypeError, match="batch_sampler must be a class or a factory"):
        callback.batches("no_duplicates")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RefreshCallback(None), negfast.InvalidTypeError, "refresher must be"),
        (lambda: RefreshCallback(refreshing(NEVER), columns=("a",)), negfast.InvalidTypeError, "columns must be two"),
        (lambda: RefreshCallback(refreshing(NEVER), batch_size=0), negfast.InvalidValueError, "batch_size must be"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_get_the_same_lists_and_can_be_resumed(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", refresh_ranks.__file__, port, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in ("whole", "resumed"):
        assert torch.equal(one[name]["lists"], other[name]["lists"])
        assert torch.equal(one[name]["weights"], other[name]["weights"])
        assert one[name]["events"] == other[name]["events"]
        assert [one[name]["mines"], other[name]["mines"]] == [True, False]
    for rank in (one, other):
        assert rank["resumed"]["seen"] == rank["whole"]["seen"][5:]
        assert torch.equal(rank["resumed"]["weights"], rank["whole"]["weights"])
        assert len(rank["whole"]["events"]) > 3
    rows = [{row for batch, _ in rank["whole"]["seen"][:11] for row in batch} for rank in (one, other)]
    assert not rows[0] & rows[1], "each has batches of its own"
