"""Trainings by `SentenceTransformerTrainer` with loss, collator, sampler, bank and batches of negfast."""

import os
import shutil
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
    import torch
    import trainer_ranks
    import trainer_runs as runs
    from transformers import TrainerCallback

    import negfast.torch as nt
    from negfast.integrations.sentence_transformers import (
        CurriculumCallback,
        CurriculumLoss,
        HardBatchSampler,
        checkpoints,
        number_rows,
    )
    from negfast.schedule import Linear
    from tiny_models import transformer_encoder

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def same(one: Any, other: Any) -> bool:
    """Tell whether two states are the same to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, torch.Tensor | np.ndarray):
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    return bool(one == other)


def losses_of(run: runs.Run) -> list[float]:
    return [entry["loss"] for entry in run.trainer.state.log_history if "loss" in entry]


STEPS = 7  # of an epoch


@pytest.mark.parametrize(
    ("kind", "workers", "stop"), [("static", 0, 5), ("static", 0, STEPS), ("static", 2, 10), ("transformer", 0, 5)]
)
def test_a_run_that_goes_on_ends_as_if_it_had_never_stopped(tmp_path: Path, kind: str, workers: int, stop: int) -> None:
    def made() -> runs.Run:
        model = runs.encoder()
        if kind == "transformer":
            model = transformer_encoder([*runs.ANCHORS, *runs.DOCUMENTS], tmp_path / "model")
        settings = {"dataloader_num_workers": workers, "save_steps": stop, "logging_steps": 1}
        return runs.Run(tmp_path / "run", model=model, **settings)

    whole = made()
    first = runs.weights_of(whole.model).clone()
    whole.trainer.train()
    assert not torch.equal(first, runs.weights_of(whole.model))
    assert whole.trainer.state.global_step == 2 * STEPS
    assert whole.sampler.epoch == 1
    assert whole.sampler.usefulness.std() > 0
    again = made()
    again.trainer.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{stop}"))
    assert torch.equal(runs.weights_of(whole.model), runs.weights_of(again.model))
    assert same(whole.loss.training_state(), again.loss.training_state())
    assert same(whole.sampler.state_dict(), again.sampler.state_dict())
    assert losses_of(whole) == losses_of(again)


@pytest.mark.parametrize("part", ["losses", "sampler"])
def test_a_run_that_goes_on_without_its_state_ends_elsewhere(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer keeps neither: what the test above compares can differ."""
    whole = runs.Run(tmp_path)
    whole.trainer.train()
    kind = CurriculumLoss if part == "losses" else nt.NegativeSampler
    name = "load_training_state" if part == "losses" else "load_state_dict"
    monkeypatch.setattr(kind, name, lambda *_: None)
    again = runs.Run(tmp_path)
    again.trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert not torch.equal(runs.weights_of(whole.model), runs.weights_of(again.model))


class Forget(TrainerCallback):
    """Takes the files out of each checkpoint, as if they had never been written."""

    def on_save(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        del control, known
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "negfast_0.pt").unlink()


def test_a_checkpoint_without_the_file_is_refused(tmp_path: Path) -> None:
    run = runs.Run(tmp_path, num_train_epochs=1)
    run.trainer.add_callback(Forget())
    run.trainer.train()
    again = runs.Run(tmp_path, num_train_epochs=1)
    with pytest.raises(negfast.StateError, match=r"negfast_0.pt must be in .*checkpoint-5, with the weights of step 5"):
        again.trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_the_folder_is_found_or_asked_for(tmp_path: Path) -> None:
    runs.Run(tmp_path / "one", num_train_epochs=1).trainer.train()
    kept = shutil.copytree(tmp_path / "one" / "checkpoint-5", tmp_path / "kept" / "checkpoint-5")
    told = runs.Run(tmp_path / "two", num_train_epochs=1, resume_from_checkpoint=str(kept))
    told.trainer.train(resume_from_checkpoint=str(kept))
    assert told.bank.step == 6
    # Another run has a checkpoint of the same step where it is looked for.
    other = runs.Run(tmp_path / "three", num_train_epochs=1, seed=4)
    other.trainer.train()
    lost = runs.Run(tmp_path / "three", num_train_epochs=1)
    with pytest.raises(negfast.StateError, match=r"set resume_from_checkpoint of the training arguments"):
        lost.trainer.train(resume_from_checkpoint=str(kept))


def test_damaged_files_and_other_processes_are_refused(tmp_path: Path) -> None:
    run = runs.Run(tmp_path, num_train_epochs=1)
    run.trainer.train()
    state, model, args = run.trainer.state, run.model, run.args
    path = tmp_path / f"checkpoint-{state.global_step}" / "negfast_0.pt"
    assert set(checkpoints.load_state(args, state, "negfast", model)) == {"losses", "sampler"}
    whole = path.read_bytes()
    held = torch.load(path, weights_only=True)
    for change, message in (
        ({"world_size": 2}, "must have world_size 1, got 2; go on with as many processes"),
        ({"version": 0}, "must have version 1, got 0"),
    ):
        torch.save(held | change, path)
        with pytest.raises(negfast.StateError, match=message):
            checkpoints.load_state(args, state, "negfast", model)
    torch.save([1], path)
    with pytest.raises(negfast.StateError, match="must hold a state, got list"):
        checkpoints.load_state(args, state, "negfast", model)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(negfast.StateError, match="must be a whole file"):
        checkpoints.load_state(args, state, "negfast", model)


def test_weights_are_told_apart_by_every_bit() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 3).half())
    before = checkpoints.weights_sum(model)
    assert checkpoints.weights_sum(model) == before
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nextafter(model[1].weight[0, 0], torch.tensor(9.0).half())
    assert checkpoints.weights_sum(model) != before


def test_a_loss_with_a_state_does_not_train_without_the_callback(tmp_path: Path) -> None:
    run = runs.Run(tmp_path, callbacks=[])
    with pytest.raises(negfast.InvalidValueError, match=r"give the trainer callbacks=\[CurriculumCallback\(loss\)\]"):
        run.trainer.train()


class Asked:
    """A curriculum that remembers the steps it was asked for."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def at(self, step: int) -> Any:
        self.steps.append(step)
        return negfast.Curriculum(temperature=Linear(0.5, 0.05, 20)).at(step)


def test_the_step_is_that_of_the_optimizer(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model, curriculum, bank = runs.encoder(), Asked(), nt.MemoryBank(64, 16)
    loss = CurriculumLoss(model, curriculum, bank=bank)
    args = runs.arguments(
        tmp_path, gradient_accumulation_steps=2, num_train_epochs=1, logging_strategy="no", dataloader_drop_last=True
    )
    trainer = st.SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=runs.table(),
        loss=loss,
        data_collator=runs.collator_of(model, args),
        callbacks=[CurriculumCallback(loss)],
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert curriculum.steps == [0, 0, 1, 1, 2, 2]
    assert bank.step == 2


def test_evaluation_amid_training_leaves_the_bank_alone(tmp_path: Path) -> None:
    plain = runs.Run(tmp_path / "plain", num_train_epochs=1)
    plain.trainer.train()
    held_out = number_rows(runs.table().remove_columns("row"), start=None)
    run = runs.Run(
        tmp_path / "evaluated", num_train_epochs=1, eval_dataset=held_out, eval_strategy="steps", eval_steps=2
    )
    run.trainer.train()
    evaluated = [entry["eval_loss"] for entry in run.trainer.state.log_history if "eval_loss" in entry]
    assert len(evaluated) == 4  # the last at the end
    assert evaluated[-1] < evaluated[0]
    assert torch.equal(runs.weights_of(plain.model), runs.weights_of(run.model))
    assert same(plain.loss.training_state(), run.loss.training_state())
    assert same(plain.sampler.state_dict(), run.sampler.state_dict())


def test_logs_tell_what_made_up_the_loss(tmp_path: Path) -> None:
    run = runs.Run(tmp_path, num_train_epochs=1)
    run.trainer.train()
    told = next(entry for entry in run.trainer.state.log_history if "loss" in entry)
    assert 0 < told["positive_probability"] < 1
    assert 1 < told["effective_negatives"] < 100
    assert told["bank_rows"] == 32
    assert told["bank_age"] == 0.5
    assert told["temperature"] == run.loss.curriculum.at(1).temperature
    final = next(entry for entry in run.trainer.state.log_history if "train_loss" in entry)
    assert "bank_rows" not in final


def test_the_model_card_names_loss_and_settings(tmp_path: Path) -> None:
    run = runs.Run(tmp_path, num_train_epochs=1)
    run.trainer.train()
    run.model.save_pretrained(str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "negfast.integrations.sentence_transformers.loss.CurriculumLoss" in card
    assert "loss:CurriculumLoss" in card
    assert '"bank_negatives": 4' in card
    assert '"capacity": 48' in card
    assert '"curriculum": ' in card
    assert "Cross-Batch Memory" in card


class Published(TrainerCallback):
    """Remembers what the sampler stood at after each step."""

    def __init__(self) -> None:
        self.found: list[tuple[int, float]] = []
        self.sampler: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        del args, state, control, known
        self.found.append((self.sampler.epoch, round(self.sampler.probabilities["hard"], 3)))


class StopEpoch(TrainerCallback):
    """Breaks each epoch off after three steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> Any:
        del args, known
        control.should_epoch_stop = state.global_step % 3 == 0
        return control


@pytest.mark.parametrize("every", [None, 2])
def test_the_sampler_follows_epochs_and_the_curriculum(tmp_path: Path, every: int | None) -> None:
    run = runs.Run(tmp_path, callbacks=[], save_strategy="no")
    loss = CurriculumLoss(run.model, negfast.Curriculum(hard=Linear(0.0, 0.6, 6)))
    watch = Published()
    watch.sampler = run.sampler
    trainer = st.SentenceTransformerTrainer(
        model=run.model,
        args=run.args,
        train_dataset=runs.table(),
        loss=loss,
        data_collator=run.collator,
        callbacks=[CurriculumCallback(loss, publish_every=every), StopEpoch(), watch],
    )
    trainer.train()
    if every is None:
        assert watch.found == [(0, 0.0)] * 3 + [(1, 0.3)] * 3
    else:
        assert watch.found == [(0, 0.0), (0, 0.2), (0, 0.2), (1, 0.4), (1, 0.4), (1, 0.6)]


@pytest.mark.parametrize(("settings", "warned"), [({}, True), ({"publish_every": 3}, False)])
def test_a_curriculum_that_would_not_be_followed_is_told(
    tmp_path: Path, settings: dict[str, Any], warned: bool
) -> None:
    run = runs.Run(tmp_path, callbacks=[], num_train_epochs=1, save_strategy="no", logging_strategy="no")
    run.trainer.add_callback(CurriculumCallback(run.loss, **settings))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run.trainer.train()
    assert any("pass CurriculumCallback(loss, publish_every" in str(each.message) for each in found) == warned


def test_several_data_sets_with_a_loss_and_lists_of_their_own(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pairs = runs.table().remove_columns("row")
    parts = number_rows(datasets.DatasetDict({"one": pairs.select(range(40)), "two": pairs.select(range(40, 100))}))
    model = runs.encoder()
    rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    mined = negfast.mine(rows, rows + 0.1, np.arange(60), num_negatives=8)
    batches = HardBatchSampler.factory(datasets=parts, mined={"two": mined}, groups={"one": [0] * 2 + list(range(38))})
    made = {name: batches(part, batch_size=8, drop_last=True) for name, part in parts.items()}
    plain = HardBatchSampler.factory()(parts["two"], batch_size=8, drop_last=True)
    alone = HardBatchSampler.factory(mined=mined)(parts["two"], batch_size=8, drop_last=True)
    assert list(made["two"]) == list(alone) != list(plain)
    assert not any({0, 1} <= set(batch) for batch in made["one"])
    args = runs.arguments(tmp_path, batch_sampler=batches, per_device_train_batch_size=8)
    bank = nt.MemoryBank(32, 16)
    losses = {"one": CurriculumLoss(model, bank=bank), "two": CurriculumLoss(model, learnable_temperature=True)}
    trainer = st.SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=parts,
        loss=losses,
        data_collator=runs.collator_of(model, args),
        callbacks=[CurriculumCallback(losses)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="(?!batches of a data set)")
        trainer.train()
    assert bank.ids.max() < 40
    assert losses["two"].criterion.log_scale != -np.log(0.05)
    told = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    assert {"one_bank_rows", "two_temperature"} < set(told)
    held = torch.load(tmp_path / "checkpoint-5" / "negfast_0.pt", weights_only=True)["parts"]
    assert set(held["losses"]) == {"one", "two"}


def test_lists_by_name_are_of_data_sets_that_are_there() -> None:
    parts = datasets.DatasetDict({"one": runs.table(), "two": runs.table()})
    factory = HardBatchSampler.factory
    with pytest.raises(negfast.InvalidValueError, match="datasets must be given where groups go by name"):
        factory(groups={"one": [0] * 100})
    with pytest.raises(negfast.InvalidTypeError, match="groups must be a mapping of names of datasets, got list"):
        factory(datasets=parts, groups=[0] * 100)
    with pytest.raises(negfast.InvalidValueError, match=r"groups must be of datasets, .*got \['three'\]"):
        factory(datasets=parts, groups={"three": []})
    with pytest.warns(UserWarning, match="of 100 rows, which is none of"):
        factory(datasets=parts, groups={"one": [0] * 100})(runs.table(), batch_size=8, drop_last=True)


def test_a_collator_that_does_not_do_what_the_arguments_say_is_refused(tmp_path: Path) -> None:
    run = runs.Run(tmp_path, prompts={"anchor": "query: "}, save_strategy="no", max_steps=1)
    run.trainer.train()
    run = runs.Run(tmp_path, prompts={"anchor": "query: "})
    run.collator.prompts = {}
    with pytest.raises(negfast.InvalidValueError, match="prompts of the collator must be that of the training arg"):
        run.trainer.train()


def test_a_bank_of_another_training_is_refused(tmp_path: Path) -> None:
    run = runs.Run(tmp_path, max_steps=2, save_strategy="no")
    run.trainer.train()
    with pytest.raises(negfast.InvalidValueError, match="bank must be empty where a training begins"):
        run.trainer.train()


def test_only_a_model_is_saved_where_only_that_is_asked_for(tmp_path: Path) -> None:
    runs.Run(tmp_path, max_steps=5, save_only_model=True).trainer.train()
    assert (tmp_path / "checkpoint-5" / "model.safetensors").exists()
    assert not (tmp_path / "checkpoint-5" / "negfast_0.pt").exists()


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda _: CurriculumCallback(torch.nn.Identity()), TypeError, "loss must be a CurriculumLoss of negfast.inte"),
    (lambda _: CurriculumCallback({"a": nt.CurriculumLoss()}), TypeError, "got negfast.torch.loss.CurriculumLoss"),
    (lambda loss: CurriculumCallback(loss, publish_every=0), ValueError, "publish_every must be"),
    (lambda loss: CurriculumCallback(loss, observe_every=None), TypeError, "observe_every must be"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_bad_input(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        call(CurriculumLoss(torch.nn.Identity()))
    assert isinstance(caught.value, negfast.NegfastError)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, trainer_ranks.__file__, str(rank), str(port), str(folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [child.communicate(timeout=100)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_are_dealt_their_share_once(ranks: list[dict[str, Any]]) -> None:
    seen = [rank["whole"]["seen"] for rank in ranks]
    n_steps = ranks[0]["whole"]["steps"]
    assert len(seen[0]) == len(seen[1]) == n_steps == 12
    assert all(len(batch) == 8 for batches in seen for batch in batches)
    for epoch in (slice(0, 6), slice(6, 12)):
        rows = [row for batches in seen for batch in batches[epoch] for row in batch]
        assert len(rows) == len(set(rows)) == 96  # of 100
    for step in zip(*seen, strict=True):
        texts = [" ".join(text.split()) for batch in step for row in batch for text in set(runs.PAIRS[row])]
        assert len(texts) == len(set(texts))


def test_two_processes_train_one_model_and_go_on(ranks: list[dict[str, Any]]) -> None:
    one, other = ranks
    assert torch.equal(one["whole"]["weights"], other["whole"]["weights"])
    assert one["whole"]["log_scale"] == other["whole"]["log_scale"] != -np.log(0.2)
    for rank in ranks:
        assert torch.equal(rank["whole"]["weights"], rank["resumed"]["weights"])
        assert rank["whole"]["log_scale"] == rank["resumed"]["log_scale"]
        assert same(rank["whole"]["bank"], rank["resumed"]["bank"])
        assert rank["resumed"]["seen"] == rank["whole"]["seen"][8:]
    assert not torch.equal(one["whole"]["bank"]["rows"], other["whole"]["bank"]["rows"])  # each has its share


def test_two_processes_gather_as_theirs_do(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for ours, gradient, theirs, their_gradient in rank["gathered"]:
            assert ours == pytest.approx(theirs, rel=1e-6)
            torch.testing.assert_close(gradient, their_gradient, rtol=1e-5, atol=1e-5)
