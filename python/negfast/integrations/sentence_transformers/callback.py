"""What the trainer has to tell loss and sampler, and to keep of them."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch.distributed as dist

from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.integrations.sentence_transformers.checkpoints import load_state, save_state
from negfast.integrations.sentence_transformers.collator import NegativesDataCollator
from negfast.integrations.sentence_transformers.epochs import EpochCallback
from negfast.integrations.sentence_transformers.loss import CurriculumLoss
from negfast.settings import optional_whole, whole
from negfast.stage import Stage
from negfast.torch.all_reduce import all_reduced
from negfast.torch.gather import several_ranks
from negfast.torch.loss_statistics import LossStatistics
from negfast.torch.negative_sampler import NegativeSampler

_FILE = "negfast"
_DRAWN = ("probabilities", "min_random", "tiers", "range_min", "range_max")  # by stages


class CurriculumCallback(EpochCallback):
    """Lead :class:`CurriculumLoss` and the sampler of a :class:`NegativesDataCollator` through a training.

    Parameters
    ----------
    loss : CurriculumLoss, or mapping of str to CurriculumLoss
        What the trainer got.
    publish_every : int, optional
        Steps after which the sampler follows the curriculum. By default it does at the beginning of each epoch alone;
        for few epochs that is too seldom.
    observe_every : int, default 10
        Steps after which an ``AdaptiveCurriculum`` observes what the loss measured.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or value. When the training begins: if the collator has other prompts or
        another mapping of a router than the arguments of the trainer, or the bank has rows of another training.
    StateError
        When a training goes on from a checkpoint without the state, or with that of other settings.

    Notes
    -----
    * Before each step the loss gets the global step, which counts steps of the optimizer: batches whose gradients are
      accumulated have the same.
    * When an epoch begins, batch samplers and the sampler of negatives go there, and the latter publishes the
      curriculum's stage. After each batch it is told how much of the loss its negatives made up.
    * With each checkpoint goes a file ``negfast_RANK.pt`` of each rank: bank, temperature, curriculum and sampler. A
      training that goes on ends as if it had never stopped, as far as model and data loader do.
    * Where the trainer logs its loss, what made it up is added: ``positive_probability``, ``effective_negatives`` and
      the other fields of :class:`negfast.Signals`, of this rank and the last batch; ``temperature``, ``bank_rows`` and
      ``bank_age``.
    * Of several ranks, the gradient of a learnable temperature is averaged, and so is what a curriculum observes.

    Limitations
    -----------
    Reporters that are named in `report_to` run before callbacks that the trainer was given, and see the trainer's own
    numbers alone. Pass them in `callbacks` after this one, as ``WandbCallback()`` for example, to see all;
    ``state.log_history`` has them anyway.

    With workers that read ahead, a publication within an epoch reaches batches that are not made yet, and how many that
    are is left to chance. Then two runs are not the same to the last bit.

    Examples
    --------
    >>> import torch
    >>> from negfast.integrations.sentence_transformers import CurriculumCallback, CurriculumLoss
    >>> loss = CurriculumLoss(torch.nn.Identity(), learnable_temperature=True)
    >>> callback = CurriculumCallback(loss)  # SentenceTransformerTrainer(..., loss=loss, callbacks=[callback])
    """

    def __init__(
        self,
        loss: CurriculumLoss | Mapping[str, CurriculumLoss],
        *,
        publish_every: int | None = None,
        observe_every: int = 10,
    ) -> None:
        self._losses = dict(loss) if isinstance(loss, Mapping) else {"": loss}
        for part in self._losses.values():
            if not isinstance(part, CurriculumLoss):
                raise InvalidTypeError(
                    "loss must be a CurriculumLoss of negfast.integrations.sentence_transformers, got "
                    f"{type(part).__module__}.{type(part).__name__}; pass the loss of the trainer"
                )
        self._publish_every = optional_whole("publish_every", publish_every, low=1)
        self._observe_every = whole("observe_every", observe_every, low=1)
        self._sampler: NegativeSampler | None = None
        self._amid_epoch = False
        self._noted: LossStatistics | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Find the sampler, and go on where a checkpoint was made."""
        super().on_train_begin(args, state, control, **known)
        collator = getattr(known.get("train_dataloader"), "collate_fn", None)
        if isinstance(collator, NegativesDataCollator):
            _check_collator(collator, args)
            self._sampler = collator.sampler
        self._amid_epoch = (state.epoch or 0) != self.epoch
        found = load_state(args, state, _FILE, known["model"])
        if found is None:
            self._check_beginning()
        else:
            self._load(found)
        self._warn_of_one_epoch(state)
        for loss in self._losses.values():
            loss.step = state.global_step

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Bring the samplers to the epoch."""
        super().on_epoch_begin(args, state, control, **known)
        if self._sampler is not None and not self._amid_epoch:
            self._sampler.set_epoch(self.epoch)
            self._publish(state.global_step)
        self._amid_epoch = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Tell the loss the step."""
        for loss in self._losses.values():
            loss.step = state.global_step

    def on_substep_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Tell the sampler what the negatives of a batch were worth."""
        self._note()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Average over ranks what the trainer does not."""
        if not several_ranks():
            return
        for loss in self._losses.values():
            for parameter in loss.criterion.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= dist.get_world_size()

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Let curriculum and sampler follow the step that was made."""
        self._note()
        if state.global_step % self._observe_every == 0:
            for loss, curriculum in self._curricula():
                if hasattr(curriculum, "observe") and loss.last_statistics is not None:
                    curriculum.observe(state.global_step, all_reduced(loss.last_statistics.signals()))
        if self._publish_every is not None and state.global_step % self._publish_every == 0:
            self._publish(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Keep what the checkpoint lacks."""
        if not args.save_only_model:
            save_state(args, state, _FILE, known["model"], self._state())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **known: Any) -> None:  # noqa: ARG002
        """Add what made up the loss to the log of a training step."""
        if not logs or "loss" not in logs:
            return
        for name, loss in self._losses.items():
            told = {f"{name}_{key}" if name else key: value for key, value in _told(loss)}
            logs.update(told)
            if state.log_history and state.log_history[-1].get("step") == state.global_step:
                state.log_history[-1].update(told)

    def _note(self) -> None:
        if self._sampler is None:
            return
        for loss in self._losses.values():
            told = loss.last_statistics
            if told is not None and told is not self._noted:  # each batch is one data set's
                self._sampler.update(*(part.cpu() for part in told.pairs("mined")))
                self._noted = told

    def _publish(self, step: int) -> None:
        """Let draws follow the curriculum, if it says how."""
        if self._sampler is None:
            return
        stage = self._stage(step)
        if stage is not None:
            self._sampler.publish(stage=stage)

    def _stage(self, step: int) -> Stage | None:
        """Return what the first curriculum that has stages says of a step."""
        stages = (curriculum.at(step) for _, curriculum in self._curricula())
        return next((stage for stage in stages if isinstance(stage, Stage)), None)

    def _warn_of_one_epoch(self, state: Any) -> None:
        """Warn where draws would stay as they are at the first step, though a curriculum moves them."""
        if self._sampler is None or self._publish_every is not None or state.num_train_epochs > 1:
            return
        first, last = self._stage(0), self._stage(state.max_steps)
        if (
            first is not None
            and last is not None
            and any(getattr(first, name) != getattr(last, name) for name in _DRAWN)
        ):
            warnings.warn(
                "the curriculum moves what is drawn, but in one epoch the sampler follows it at the first step alone; "
                "pass CurriculumCallback(loss, publish_every=50) for example",
                stacklevel=2,
            )

    def _curricula(self) -> Iterator[tuple[CurriculumLoss, Any]]:
        """Yield each curriculum once, with a loss that it leads."""
        seen: list[Any] = []
        for loss in self._losses.values():
            if loss.curriculum is not None and not any(loss.curriculum is other for other in seen):
                seen.append(loss.curriculum)
                yield loss, loss.curriculum

    def _check_beginning(self) -> None:
        for loss in self._losses.values():
            if loss.bank is not None and loss.bank.seen:
                raise InvalidValueError(
                    f"bank must be empty where a training begins, got one of step {loss.bank.step}; make a new "
                    "MemoryBank and a new loss, or resume from a checkpoint"
                )

    def _state(self) -> dict[str, Any]:
        losses = {name: loss.training_state() for name, loss in self._losses.items()}
        return {"losses": losses, "sampler": None if self._sampler is None else self._sampler.state_dict()}

    def _load(self, found: Mapping[str, Any]) -> None:
        for name, loss in self._losses.items():
            loss.load_training_state(found["losses"].get(name))
        if self._sampler is not None:
            self._sampler.load_state_dict(found["sampler"])


def _check_collator(collator: NegativesDataCollator, args: Any) -> None:
    """Refuse a collator that does not do what the arguments say: the trainer does not look at them then."""
    for name in ("prompts", "router_mapping"):
        wanted = getattr(args, name, None)
        if wanted and getattr(collator, name) != wanted:
            raise InvalidValueError(
                f"{name} of the collator must be that of the training arguments, got another; make it with "
                "NegativesDataCollator.for_training(model, args)"
            )


def _told(loss: CurriculumLoss) -> Iterator[tuple[str, float]]:
    """Yield what is worth a line in a log."""
    if loss.last_statistics is not None:
        for name, value in vars(loss.last_statistics.signals()).items():
            if isinstance(value, float) and name != "loss":
                yield name, value
    if loss.has_state:
        yield "temperature", _temperature(loss)
    if loss.bank is not None:
        yield "bank_rows", float(len(loss.bank))
        yield "bank_age", loss.bank.staleness().mean


def _temperature(loss: CurriculumLoss) -> float:
    if loss.curriculum is not None:
        return float(loss.curriculum.at(loss.step or 0).temperature)
    return float(loss.criterion.get_config_dict()["temperature"])
