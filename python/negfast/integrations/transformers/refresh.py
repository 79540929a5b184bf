"""Refresh inside the trainer of transformers."""

import json
import math
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from negfast.errors import StateError
from negfast.torch.encoding import Encoders, agreed, check_encoders, first_rank, quietly
from negfast.torch.refresh_event import RefreshEvent
from negfast.torch.refresher import Refresher, check_refresher
from negfast.torch.weights import weights_sum

FOLDER = "negfast-refresh"
"""The folder in a checkpoint."""
_OF = "checkpoint.json"


class RefreshCallback(TrainerCallback):
    """Refresh mined lists while a trainer of transformers is training.

    Parameters
    ----------
    refresher : Refresher
        What is refreshed, and when. Train on batches that its :meth:`Refresher.batches` returned.
    encode : callable, or pair of them for queries and corpus
        A list of texts to an array or a tensor of shape (n_texts, dim), by the model that is trained. It is called with
        the model in the mode of evaluation, without gradients.

    Attributes
    ----------
    refresher : Refresher
    events : list of RefreshEvent
        What was done in this training.

    Raises
    ------
    InvalidTypeError
        If an argument has a wrong type.
    StateError
        Where a training goes on from a checkpoint without the state, or with one of other weights or settings.

    Notes
    -----
    * The training begins with the first lists, unless there are some.
    * After each step of the optimizer the refresher may look, and refresh. The model is in its mode again then, and the
      random numbers of torch are what they would have been.
    * What was found goes to ``state.log_history``, under names that begin with ``negfast/``, and to the log of the next
      step that the trainer logs.
    * Each checkpoint gets a folder ``negfast-refresh``. A training that goes on from one trains on the batches and
      the negatives of a training without a stop, to the last bit.
    * Of several processes each encodes its share of the texts, the first one mines, and all get the same lists.

    Limitations
    -----------
    The model must be whole on each process: one that is sharded cannot encode by itself.

    A callback is not told which checkpoint a trainer goes on from. It is `resume_from_checkpoint` of the training
    arguments, or lies in their `output_dir`; that it is the right one is told by the weights.

    Reporters that are named in `report_to` run before callbacks that the trainer was given, and do not see what
    this one adds. Pass them in `callbacks` after this one, ``WandbCallback()`` for example.
    """

    def __init__(self, refresher: Refresher, encode: Encoders) -> None:
        check_refresher(refresher)
        check_encoders(encode)
        self.refresher, self.events = refresher, list[RefreshEvent]()
        refresher.skips_batches = True
        self._encode = encode
        self._pending: dict[str, float] = {}
        self._epoch = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Go on where a checkpoint was made, or mine the first lists."""
        self._epoch = math.floor(state.epoch or 0)
        if state.global_step:
            self.refresher.load(_folder(args, state, known["model"]))
            return
        self._tell(state, self.refresher.begin(self._quiet(args, known)))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Bring lists, batches and sampler to the epoch, before workers read ahead."""
        encode = self._quiet(args, known)
        self._tell(state, self.refresher.begin_epoch(self._epoch, encode, step=state.global_step))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Count epochs; what the state says of one that was broken off is a fraction."""
        self._epoch += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Look and refresh if it is time to."""
        self._tell(state, self.refresher.step(state.global_step, self._quiet(args, known)))

    def on_save(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Keep what the checkpoint lacks."""
        if args.save_only_model:
            return
        folder = _made(args, state) / FOLDER
        told = {"step": state.global_step, "weights": weights_sum(known["model"])}
        self.refresher.save(folder)
        agreed(lambda: (folder / _OF).write_text(json.dumps(told), encoding="utf-8") if first_rank() else 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **known: Any) -> None:  # noqa: ARG002
        """Add what was found since the last log."""
        if logs is not None:
            logs.update(self._pending)
            self._pending = {}

    def encoders(self, args: Any, known: dict[str, Any]) -> Encoders:  # noqa: ARG002
        """Return what turns texts into rows; those who derive from this class may make it of what the trainer tells.

        Parameters
        ----------
        args : TrainingArguments
        known : dict
            What the trainer passes to callbacks: ``model``, ``train_dataloader`` and others.
        """
        return self._encode

    def _quiet(self, args: Any, known: dict[str, Any]) -> Encoders:
        """Return what encodes with the model in evaluation, and leaves no trace."""
        return quietly(known["model"], self.encoders(args, known))

    def _tell(self, state: Any, event: RefreshEvent | None) -> None:
        if event is None:
            return
        self.events.append(event)
        told = event.logs()
        state.log_history.append({**told, "epoch": state.epoch, "step": state.global_step})
        self._pending |= told


def _made(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _folder(args: Any, state: Any, model: nn.Module) -> Path:
    """Return the folder of the checkpoint that the trainer goes on from."""
    folders = [_made(args, state) / FOLDER]
    if isinstance(args.resume_from_checkpoint, str):
        folders.insert(0, Path(args.resume_from_checkpoint) / FOLDER)
    wanted = {"step": state.global_step, "weights": weights_sum(model)}
    for folder in folders:
        if _read(folder / _OF) == wanted:
            return folder
    raise StateError(
        f"{FOLDER} must be in {' or '.join(str(folder.parent) for folder in folders)}, of step {state.global_step} and "
        "its weights, got no such folder; set resume_from_checkpoint of the training arguments to the checkpoint that "
        "the trainer goes on from, or start anew"
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
