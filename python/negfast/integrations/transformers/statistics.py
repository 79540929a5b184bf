"""Statistics in the log of the trainer of transformers."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

from negfast.torch.told import Told


class StatisticsCallback(TrainerCallback):
    """Add to the trainer's log what losses, banks and draws measure, where it logs its loss.

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

    They are of this process and of the moment when the trainer logs.

    Examples
    --------
    >>> from negfast.integrations.transformers import StatisticsCallback
    >>> from negfast.torch import MemoryBank
    >>> bank = MemoryBank(1024, 64)
    >>> callback = StatisticsCallback({"bank": bank.staleness})  # Trainer(..., callbacks=[callback])
    """

    def __init__(self, measures: Mapping[str, Callable[[], Any]]) -> None:
        self._told = Told(measures)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **known: Any) -> None:  # noqa: ARG002
        """Add the numbers to the log, and to the entry of the history that is the same."""
        if not logs or "loss" not in logs:
            return
        told = self._told()
        logs.update(told)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(told)
