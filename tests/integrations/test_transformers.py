"""Refresh and statistics inside the trainer of transformers, as examples/train_transformers.py uses them."""

import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast.cli.demo.held_out import Pairs, installed

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    for name in ("transformers", "accelerate", "lightning"):
        pytest.importorskip(name, exc_type=ImportError)
    import torch
    from refresh_parts import refreshing

    from negfast.integrations.transformers import RefreshCallback, StatisticsCallback
    from negfast.torch import BankStaleness, Draw
    from negfast.torch.told import Told, plain_numbers
    from train_transformers import Encoder, made_trainer

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
NEVER = negfast.RefreshPolicy(every=1000)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return installed(130).train


class Run:
    """Two epochs of a transformer; `seen` is what each of its batches was made of."""

    def __init__(self, pairs: Pairs, folder: Path, **settings: Any) -> None:
        torch.set_num_threads(1)
        self.model = Encoder([*pairs.queries, *pairs.passages], words=400, dim=16)
        given: dict[str, Any] = {"num_train_epochs": 2, "learning_rate": 1e-2, "save_steps": 3, "logging_steps": 2}
        given |= {"gradient_accumulation_steps": 2, "policy": negfast.RefreshPolicy(every=1)}
        self.trainer = made_trainer(pairs, self.model, folder, **given | settings)
        self.callback = next(c for c in self.trainer.callback_handler.callbacks if isinstance(c, RefreshCallback))
        self.seen: list[Any] = []
        compute = self.trainer.compute_loss

        def watched(model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
            batch = inputs["batch"]
            self.seen.append((batch.rows.tolist(), batch.negative_rows[batch.negative_index].tolist()))
            return compute(model, inputs, *others, **more)

        self.trainer.compute_loss = watched

    def train(self, **arguments: Any) -> "Run":
        self.trainer.train(**arguments)
        return self

    def weights(self) -> torch.Tensor:
        return torch.cat([part.detach().flatten() for part in self.model.parameters()])


@pytest.fixture(scope="module")
def whole(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """Return a training that nobody stops, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return Run(pairs, folder).train(), folder


def test_a_resumed_training_with_dropout_ends_with_the_same_bits(pairs: Pairs, whole: tuple[Run, Path]) -> None:
    run, folder = whole
    steps = run.trainer.state.global_step
    assert steps == 4 and len(run.seen) == 8, "two batches a step"
    assert [event.step for event in run.callback.events] == [0, 1, 2, 3, 4]
    assert all(event.n_changed > 0 for event in run.callback.events)
    again = Run(pairs, folder, save_strategy="no").train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    assert again.seen == run.seen[6:]
    assert torch.equal(again.weights(), run.weights())


def test_lists_change_under_the_loader(pairs: Pairs, whole: tuple[Run, Path], tmp_path: Path) -> None:
    first = whole[0].seen[:4]
    still = Run(pairs, tmp_path, save_strategy="no", num_train_epochs=1, policy=NEVER).train().seen
    assert [rows for rows, _ in first] == [rows for rows, _ in still]
    # Accelerate has taken a third batch when the first step of two ends.
    assert [ours == theirs for (_, ours), (_, theirs) in zip(first, still, strict=True)] == [True] * 3 + [False]


def test_what_was_found_is_in_the_log(whole: tuple[Run, Path]) -> None:
    history = whole[0].trainer.state.log_history
    losses = [entry for entry in history if "loss" in entry]
    assert [entry["step"] for entry in losses] == [2, 4]
    assert all(entry["negfast/loss/effective_negatives"] >= 1 for entry in losses)
    events = [entry for entry in history if "negfast/refreshed" in entry and "loss" not in entry]
    assert [entry["step"] for entry in events] == [0, 1, 2, 3, 4]
    assert "negfast/turnover" in events[-1] and "negfast/turnover" not in events[0]


def test_a_checkpoint_without_the_state_is_refused(pairs: Pairs, whole: tuple[Run, Path], tmp_path: Path) -> None:
    run, folder = whole
    shutil.copytree(folder / "checkpoint-3", tmp_path / "checkpoint-3")
    (tmp_path / "checkpoint-3" / "negfast-refresh" / "checkpoint.json").unlink()
    with pytest.raises(negfast.StateError, match="negfast-refresh must be in"):
        Run(pairs, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    arguments = type("Arguments", (), {"save_only_model": True, "output_dir": str(tmp_path / "bare")})()
    run.callback.on_save(arguments, run.trainer.state, None, model=run.model)
    assert not (tmp_path / "bare").exists()


def test_statistics_as_numbers() -> None:
    none = np.zeros((2, 0))
    shortfall = np.array([[1, 0, 0, 0], [0, 0.5, 0, 0]], dtype=np.float32)
    draw = Draw(none, none, none, none, none, shortfall, ())  # type: ignore[arg-type]
    told = Told(
        {
            "draws": lambda: draw,
            "bank": lambda: BankStaleness(0, float("nan"), (float("nan"),) * 6),
            "step": lambda: negfast.Signals(loss=2.0, hardness_quantiles=(0.1, 0.2)),
            "own": lambda: {"rate": 3, "bad": float("inf")},
            "none": lambda: None,
        }
    )
    assert told() == {
        "negfast/draws/shortfall_hard": 0.5,
        "negfast/draws/shortfall_semi_hard": 0.25,
        "negfast/draws/shortfall_easy": 0.0,
        "negfast/draws/shortfall_random": 0.0,
        "negfast/bank/n_rows": 0.0,
        "negfast/step/loss": 2.0,
        "negfast/own/rate": 3.0,
    }
    with pytest.raises(negfast.InvalidTypeError, match="statistics must be"):
        plain_numbers(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RefreshCallback(None, len), "refresher must be a Refresher"),  # type: ignore[arg-type]
        (lambda: RefreshCallback(refreshing(NEVER), (len, 3)), "encode must be a function of a list of texts"),  # type: ignore[arg-type]
        (lambda: StatisticsCallback({"bank": None}), "measures must be a mapping of names to functions"),  # type: ignore[dict-item]
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(negfast.InvalidTypeError, match=message):
        call()
