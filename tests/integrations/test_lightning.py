"""Refresh and statistics inside the trainer of Lightning."""

import csv
import math
import warnings
from pathlib import Path
from typing import Any

import pytest

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    pytest.importorskip("lightning", exc_type=ImportError)
    import torch
    from lightning_runs import Run
    from refresh_parts import refreshing

    from negfast.integrations.lightning import RefreshCallback, StatisticsCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
NEVER = negfast.RefreshPolicy(every=1000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a fit with two persistent workers that nobody stops, with a checkpoint of each step."""
    return Run(tmp_path_factory.mktemp("whole"), workers=2, save_every=1).fit()


def test_lists_change_within_an_epoch_under_the_same_loader(whole: Run, tmp_path: Path) -> None:
    assert [event.step for event in whole.callback.events] == [0, 4, 8, 12, 16, 20]
    still = Run(tmp_path, workers=2, policy=NEVER).fit()
    ahead = 4 + 4  # trained on, and dealt out to workers, when lists are swapped for the first time
    seen, others = whole.module.seen, still.module.seen
    assert seen[:ahead] == others[:ahead]
    assert [rows for rows, _ in seen[:11]] == [rows for rows, _ in others[:11]]
    assert [one != other for (_, one), (_, other) in zip(seen[ahead:11], others[ahead:11], strict=True)] == [True] * 3
    assert [rows for rows, _ in seen[11:]] != [rows for rows, _ in others[11:]], "batches are composed of new lists"


@pytest.mark.parametrize("step", [5, 15, 11], ids=["within", "later", "between"])
def test_a_resumed_fit_ends_with_the_same_bits(whole: Run, step: int, tmp_path: Path) -> None:
    again = Run(tmp_path, workers=2).fit(ckpt_path=str(whole.folder / f"step={step}.ckpt"))
    assert again.module.seen == whole.module.seen[step:]
    assert torch.equal(again.weights(), whole.weights())
    assert [str(event) for event in again.callback.events] == [
        str(event) for event in whole.callback.events if event.step > step
    ]


@pytest.mark.parametrize("step", [5, 7], ids=["within", "between"])
def test_a_fit_of_a_part_of_each_epoch_is_resumed(step: int, tmp_path: Path) -> None:
    run = Run(tmp_path / "whole", save_every=step, limit_train_batches=7).fit()
    path = tmp_path / "whole" / f"step={step}.ckpt"
    again = Run(tmp_path / "again", limit_train_batches=7).fit(ckpt_path=str(path))
    assert len(run.module.seen) == 14 and again.module.seen == run.module.seen[step:]
    assert torch.equal(again.weights(), run.weights())


def test_a_second_fit_begins_anew_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path).fit()
    run.callback.events.clear()
    run.trainer.fit_loop.max_epochs = 3
    run.fit()
    assert [event.step for event in run.callback.events] == [24, 28, 32]
    assert run.refresher.epoch == 2
    run.callback.events.clear()
    run.trainer = run.made_trainer()
    run.fit()
    assert [event.step for event in run.callback.events] == [4, 8, 12, 16, 20]
    assert all(event.n_changed > 50 for event in run.callback.events)


def test_what_was_found_is_logged(whole: Run) -> None:
    (path,) = whole.folder.glob("lightning_logs/version_0/metrics.csv")
    with path.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    told = [line for line in lines if line["negfast/refreshed"]]
    assert told and float(told[-1]["negfast/turnover"]) > 0 and float(told[-1]["negfast/drift"]) > 0
    losses = [line["negfast/loss/effective_negatives"] for line in lines if line["negfast/loss/effective_negatives"]]
    assert len(losses) == 11 and all(1 <= float(value) < math.inf for value in losses)


def test_modules_and_random_numbers_are_as_before(tmp_path: Path) -> None:
    run = Run(tmp_path, policy=NEVER)
    frozen = run.module.criterion.eval()  # one part is in evaluation, and stays there
    before = torch.random.get_rng_state()
    modes: list[bool] = []

    def encode(texts: list[str]) -> Any:
        modes.append(run.module.training or torch.is_grad_enabled())
        torch.rand(2)
        return run.module.encoder.encode(texts)

    callback = RefreshCallback(run.refresher, (encode, encode))
    callback.on_fit_start(run.trainer, run.module)
    assert modes == [False, False] and run.module.training and not frozen.training
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RefreshCallback("refresher", len), "refresher must be a Refresher"),
        (lambda: RefreshCallback(refreshing(NEVER), None), "encode must be a function of a list of texts"),
        (lambda: RefreshCallback(refreshing(NEVER), (len,)), "encode must be a function of a list of texts"),
        (lambda: StatisticsCallback({"bank": 3}), "measures must be a mapping of names to functions"),
        (lambda: StatisticsCallback([]), "measures must be a mapping of names to functions"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(negfast.InvalidTypeError, match=message):
        call()
