"""Statistics in the log of Lightning."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback

from negfast.torch.told import Told


class StatisticsCallback(Callback):
    """Log what losses, banks and draws measure, at each step that the trainer logs.

    Parameters
    ----------
    measures : mapping of str to callable
        Functions without arguments, by the name that their numbers get. They return :class:`LossStatistics`, a
        :class:`BankStaleness`, a :class:`Draw`, :class:`Signals` or a mapping of numbers; ``None`` where there is
        nothing yet.

    Raises
    ------
    InvalidTypeError
        If `measures` is something else, or, when the trainer logs, one returns something else.

    Notes
    -----
    Numbers are called ``negfast/NAME/WHAT``: ``negfast/bank/mean_age`` for example. Of a loss they are the fields of
    :class:`Signals` that are numbers, of a bank ``n_rows``, ``mean_age`` and ``oldest``, of a draw ``shortfall_hard``
    and those of other tiers, means over anchors. Those that are not finite are left out.

    They are of this process and of the batch that has ended; what is measured costs time at steps that are logged only.

    Examples
    --------
    >>> from negfast.integrations.lightning import StatisticsCallback
    >>> from negfast.torch import MemoryBank
    >>> bank = MemoryBank(1024, 64)
    >>> callback = StatisticsCallback({"bank": bank.staleness})  # Trainer(..., callbacks=[callback])
    """

    def __init__(self, measures: Mapping[str, Callable[[], Any]]) -> None:
        self._told = Told(measures)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Log the numbers."""
        if trainer.global_step % trainer.log_every_n_steps == 0:
            pl_module.log_dict(self._told(), on_step=True, on_epoch=False, batch_size=1)
