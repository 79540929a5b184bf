"""Epochs, as a callback knows them, for samplers that the trainer does not reach."""

import math
from collections.abc import Iterator
from typing import Any

from transformers import TrainerCallback


class EpochCallback(TrainerCallback):
    """Bring the batch sampler of the trainer to each epoch.

    The trainer does so itself, but for one case: a training of several processes that goes on amid an epoch from a
    checkpoint. There the batches of the first epoch would come again. :class:`CurriculumCallback` does this too; use
    this one with :class:`HardBatchSampler` and another loss.

    Notes
    -----
    Works for every batch sampler with a method ``set_epoch``, those of sentence-transformers too.

    Examples
    --------
    >>> from negfast.integrations.sentence_transformers import EpochCallback
    >>> callback = EpochCallback()  # SentenceTransformerTrainer(..., callbacks=[callback])
    """

    epoch = 0
    """The epoch that is trained, counted from 0."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Count from where the training begins."""
        self.epoch = math.floor(state.epoch or 0)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Tell the samplers, before workers read ahead."""
        for sampler in _samplers(known.get("train_dataloader")):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.epoch)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Count; what the state says of an epoch that was broken off is a fraction."""
        self.epoch += 1


def _samplers(loader: Any) -> Iterator[Any]:
    """Yield the batch sampler of a data loader, and what it wraps."""
    sampler = getattr(loader, "batch_sampler", None)
    while sampler is not None:
        yield sampler
        sampler = getattr(sampler, "batch_sampler", None)
