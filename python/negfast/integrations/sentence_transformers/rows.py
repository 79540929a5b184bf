"""Row numbers in a data set, by which a batch tells what its pairs are."""

from typing import Any, TypeVar

import numpy as np
from datasets import Dataset, DatasetDict

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import optional_whole

ROW_COLUMN = "row"
"""The column that holds them, unless another is named."""
_Table = TypeVar("_Table", Dataset, DatasetDict)


def number_rows(dataset: _Table, column_name: str = ROW_COLUMN, *, start: int | None = 0) -> _Table:
    """Return a data set with one more column: the numbers of its rows.

    Parameters
    ----------
    dataset : datasets.Dataset or datasets.DatasetDict
        The data sets of a dict are numbered one after the other.
    column_name : str, default "row"
    start : int or None, default 0
        The number of the first row. ``None``: all are -1, rows that nothing is known of, such as those of a data set
        for evaluation.

    Returns
    -------
    Dataset or DatasetDict
        Another one; the column is the last.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If `dataset` is something else or has the column already, or `start` is no number from 0 on.

    Examples
    --------
    >>> from datasets import Dataset
    >>> from negfast.integrations.sentence_transformers import number_rows
    >>> number_rows(Dataset.from_dict({"anchor": ["a", "b"], "positive": ["c", "d"]}))["row"][:]
    [0, 1]
    """
    first = optional_whole("start", start, low=0)
    if not isinstance(column_name, str):
        raise InvalidTypeError(f'column_name must be a str, got {shown(column_name)}; "row" is the default')
    if isinstance(dataset, Dataset):
        return _numbered(dataset, column_name, first)
    if not isinstance(dataset, DatasetDict):
        raise InvalidTypeError(
            f"dataset must be a datasets.Dataset or a DatasetDict, got {type(dataset).__name__}; rows of streams have "
            "no numbers"
        )
    numbered = DatasetDict()
    for name, part in dataset.items():
        numbered[name] = _numbered(part, column_name, first)
        first = None if first is None else first + len(part)
    return numbered


def _numbered(dataset: Any, name: str, first: int | None) -> Dataset:
    if name in dataset.column_names:
        raise InvalidValueError(f"column_name must be none of the columns, got {name!r}; use that one, or name another")
    n = len(dataset)
    rows = np.full(n, -1) if first is None else np.arange(first, first + n)
    added: Dataset = dataset.add_column(name, rows)
    return added
