"""Refresh inside the trainer of sentence-transformers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset
from sentence_transformers.base.data_collator import BaseDataCollator

from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.integrations.sentence_transformers.batches import HardBatchSampler
from negfast.integrations.sentence_transformers.rows import ROW_COLUMN
from negfast.integrations.transformers.refresh import RefreshCallback as PlainCallback
from negfast.settings import whole
from negfast.torch.encoding import Encode, Encoders
from negfast.torch.refresher import Refresher


class RefreshCallback(PlainCallback):
    """Refresh mined lists while ``SentenceTransformerTrainer`` is training.

    Parameters
    ----------
    refresher : Refresher
        What is refreshed, and when. Pass :meth:`batches` to the arguments of the trainer.
    columns : pair of str, optional
        Columns of the data set that queries and corpus are like: their prompts and tasks are used. By default the first
        two columns of texts.
    batch_size : int, default 64
        Texts that the model takes at a time.

    Attributes
    ----------
    refresher : Refresher
    events : list of RefreshEvent
        What was done in this training.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range.
    StateError
        Where a training goes on from a checkpoint without the state, or with one of other weights or settings.

    Notes
    -----
    Texts are encoded as the trainer feeds them to the model: with `prompts` and `router_mapping` of its arguments and
    without a prompt where they name none, in evaluation mode and without gradients. The rest is as in
    :class:`negfast.integrations.transformers.RefreshCallback`.

    Put it after :class:`CurriculumCallback` in `callbacks`.

    Limitations
    -----------
    For one data set, not for a ``DatasetDict``. A shorter `max_length` of training is not used.

    Examples
    --------
    >>> import negfast, numpy as np
    >>> from negfast.integrations.sentence_transformers import HardBatchSampler, RefreshCallback
    >>> from negfast.torch import LiveRows, NegativeSampler, Refresher
    >>> questions, answers = ["how far", "how fast", "how old"], ["two miles", "two miles an hour", "two years"]
    >>> rows, lists = np.arange(3), LiveRows.empty(3, 3, width=2)
    >>> sampler = NegativeSampler(
    ...     [lists], num_negatives=1, probabilities={"easy": 1.0}, min_random=0, positives=rows
    ... )
    >>> refresher = Refresher(questions, answers, negfast.Miner(num_negatives=2), sampler, positives=rows)
    >>> callback = RefreshCallback(refresher)
    >>> settings = {"batch_sampler": callback.batches(HardBatchSampler)}
    >>> # SentenceTransformerTrainingArguments(..., **settings), SentenceTransformerTrainer(..., callbacks=[callback])
    """

    def __init__(self, refresher: Refresher, *, columns: tuple[str, str] | None = None, batch_size: int = 64) -> None:
        super().__init__(refresher, _never)
        if columns is not None and not _is_pair(columns):
            raise InvalidTypeError(f'columns must be two names, got {shown(columns)}; pass ("question", "answer")')
        self._columns = columns
        self._batch_size = whole("batch_size", batch_size, low=1)
        self._batches: Batches | None = None

    def batches(
        self, batch_sampler: Callable[..., Any] = HardBatchSampler, *, row_column: str = ROW_COLUMN
    ) -> "Batches":
        """Return what the trainer takes for ``batch_sampler``: batches that swap the lists of anchors as they go out.

        Parameters
        ----------
        batch_sampler : class or callable, default HardBatchSampler
            What the trainer would take: a class that derives from ``DefaultBatchSampler``, or a factory.
        row_column : str, default "row"
            The column with the row of the queries that each pair belongs to, see :func:`number_rows`.

        Returns
        -------
        Batches

        Raises
        ------
        InvalidTypeError
            If `batch_sampler` cannot be called.
        """
        if not callable(batch_sampler):
            raise InvalidTypeError(
                f"batch_sampler must be a class or a factory, got {shown(batch_sampler)}; pass HardBatchSampler, or "
                "NoDuplicatesBatchSampler"
            )
        self._batches = Batches(batch_sampler, self.refresher, row_column)
        return self._batches

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Go on where a checkpoint was made, or mine the first lists."""
        super().on_train_begin(args, state, control, **known)
        self._set_training(True)

    def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:  # noqa: ARG002
        """Let other data be trained on."""
        self._set_training(False)

    def _set_training(self, running: bool) -> None:
        if self._batches is not None:
            self._batches.is_training = running

    def encoders(self, args: Any, known: dict[str, Any]) -> Encoders:
        """Return functions that encode as the trainer feeds the model."""
        columns = self._columns or _text_columns(known["train_dataloader"])
        prompts, tasks = args.prompts or {}, args.router_mapping or {}
        return tuple(self._encoder(known["model"], _of(prompts, name), _of(tasks, name)) for name in columns)  # type: ignore[return-value]

    def _encoder(self, model: Any, prompt: str | None, task: str | None) -> Encode:
        settings = {} if task is None else {"task": task}

        def encode(texts: list[str]) -> Any:
            return model.encode(
                texts, prompt=prompt or "", batch_size=self._batch_size, show_progress_bar=False, **settings
            )

        return encode


class Batches:
    """Makes the batch sampler of a data set, and tells the refresher of it.

    The trainer pickles its arguments with every checkpoint. The refresher stays out of that: it has a state of its own.
    """

    def __init__(self, make: Callable[..., Any], refresher: Refresher | None, row_column: str) -> None:
        self._make, self._refresher, self._row_column = make, refresher, row_column
        self._n_pairs: int | None = None
        self.is_training = False

    def __call__(self, dataset: Dataset, **arguments: Any) -> Any:
        """Make the batch sampler, with what the trainer sets."""
        if self._refresher is None:
            raise StateError(
                "batch_sampler must be made anew, got one that was saved without its refresher; use "
                "RefreshCallback.batches(...)"
            )
        if not isinstance(dataset, Dataset):
            raise InvalidTypeError(
                f"dataset must be a datasets.Dataset, got {type(dataset).__name__}; rows of streams have no numbers"
            )
        if self._row_column not in dataset.column_names:
            raise InvalidValueError(
                f"dataset must have the column {self._row_column!r}, got {shown(dataset.column_names)}; use "
                "number_rows(dataset), and number_rows(dataset, start=None) for evaluation"
            )
        rows, made = np.asarray(dataset.with_format("numpy")[self._row_column][:]), self._make(dataset, **arguments)
        evaluation = rows.size > 0 and rows.max() < 0  # the trainer has one factory for both
        if evaluation:
            return made
        if self.is_training and self._n_pairs != len(rows):
            raise InvalidValueError(
                f"dataset must be the {self._n_pairs} pairs that are trained on, got {len(rows)}; for evaluation use "
                "number_rows(dataset, start=None)"
            )
        self._n_pairs = len(rows)
        return self._refresher.batches(made, rows=rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the settings alone."""
        return Batches, (self._make, None, self._row_column)


def _is_pair(columns: Any) -> bool:
    whole = isinstance(columns, tuple | list) and len(columns) == 2
    return whole and all(isinstance(name, str) for name in columns)


def _never(texts: list[str]) -> Any:
    raise NotImplementedError(f"{len(texts)} texts are encoded by the model of the trainer")


def _of(named: Any, column: str) -> str | None:
    """Return the prompt or the task of a column."""
    if not isinstance(named, dict):
        return str(named)
    value = named.get(column)
    if isinstance(value, dict) or any(isinstance(part, dict) for part in named.values()):
        raise InvalidValueError(
            f"prompts and router_mapping must be by column, got {shown(named)}; a refresh is for one data set"
        )
    return value


def _text_columns(loader: Any) -> tuple[str, str]:
    collator, names = loader.collate_fn, list(loader.dataset.column_names)
    other = {getattr(collator, "row_column", ROW_COLUMN), "dataset_name"}
    if isinstance(collator, BaseDataCollator):
        other |= set(collator.valid_label_columns)
    texts = [name for name in names if name not in other]
    if len(texts) < 2:
        raise InvalidValueError(f"columns must be named, as the data set has only {names}; pass two names")
    return texts[0], texts[1]
