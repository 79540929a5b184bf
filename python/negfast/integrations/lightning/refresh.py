"""Refresh inside the trainer of Lightning."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback

from negfast.torch.encoding import Encoders, check_encoders, quietly
from negfast.torch.portable import as_arrays, as_tensors
from negfast.torch.refresh_event import RefreshEvent
from negfast.torch.refresher import Refresher, check_refresher


class RefreshCallback(Callback):
    """Refresh mined lists while a trainer of Lightning is fitting.

    Parameters
    ----------
    refresher : Refresher
        What is refreshed, and when. Give the data loader what its :meth:`Refresher.batches` returned.
    encode : callable, or pair of them for queries and corpus
        A list of texts to an array or a tensor of shape (n_texts, dim), by the module that is fitted. It is called with
        the module in the mode of evaluation, without gradients.

    Attributes
    ----------
    refresher : Refresher
    events : list of RefreshEvent
        What was done in this fit.

    Raises
    ------
    InvalidTypeError
        If an argument has a wrong type.

    Notes
    -----
    * The fit begins with the first lists, unless there are some.
    * After each step of the optimizer the refresher may look, and refresh. All modules are in their modes again then,
      and the random numbers of torch are what they would have been.
    * What was found is logged at the end of the batch by the module's ``log_dict``, under names that begin with
      ``negfast/``.
    * The state is in the checkpoint, as tensors and plain values. With batches of a
      :class:`negfast.torch.HardBatchSampler` a fit that goes on from ``ckpt_path`` trains on the batches and the
      negatives of one without a stop, to the last bit; those of other samplers Lightning begins anew.
    * Of several processes each encodes its share of the texts, the first one mines, and all get the same lists.

    Limitations
    -----------
    The module must be whole on each process: one that is sharded cannot encode by itself.

    A checkpoint has what the miner remembers in it, and so the embeddings of queries and corpus.

    On several processes, turn ``use_distributed_sampler`` of the trainer off, and make the batch sampler with its
    `rank` and `world_size`.
    """

    def __init__(self, refresher: Refresher, encode: Encoders) -> None:
        check_refresher(refresher)
        check_encoders(encode)
        self.refresher, self.events = refresher, list[RefreshEvent]()
        self._encode = encode
        self._pending: dict[str, float] = {}
        self._step, self._resumes, self._is_over = 0, False, False

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Mine the first lists, unless there are some, before workers of the data loader read ahead."""
        encode = quietly(pl_module, self._encode)
        if not self._resumes:
            self._step = trainer.global_step
        self._tell(self.refresher.begin(encode, step=self._step))
        epoch = self.refresher.epoch
        if epoch is None or (self._resumes and (self._is_over or self.refresher.at_end)):
            following = trainer.current_epoch if epoch is None else epoch + 1
            self._tell(self.refresher.begin_epoch(following, encode, step=self._step))
        self._resumes = False

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Bring lists, batches and sampler to the epoch."""
        encode = quietly(pl_module, self._encode)
        self._step, self._is_over = trainer.global_step, False
        self._tell(self.refresher.begin_epoch(trainer.current_epoch, encode, step=self._step))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Look and refresh if it is time to, after a step of the optimizer."""
        self.refresher.consumed()
        self._is_over = trainer.is_last_batch  # which may be before the batch sampler is at its end
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self._tell(self.refresher.step(self._step, quietly(pl_module, self._encode)))
        if self._pending:
            pl_module.log_dict(self._pending, on_step=True, on_epoch=False, batch_size=1)
            self._pending = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the refresher, as tensors and plain values."""
        state = as_tensors(self.refresher.state_dict())
        return {"refresher": state, "step": self._step, "is_over": self._is_over}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take it from a checkpoint."""
        self.refresher.load_state_dict(as_arrays(state_dict["refresher"]))
        self._step, self._is_over, self._resumes = int(state_dict["step"]), bool(state_dict["is_over"]), True

    def _tell(self, event: RefreshEvent | None) -> None:
        if event is not None:
            self.events.append(event)
            self._pending |= event.logs()
