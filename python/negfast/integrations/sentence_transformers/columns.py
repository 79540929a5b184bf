"""Which columns of a data set hold the texts, and what is in them."""

from typing import Any

from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.integrations.hard_negatives.texts import text_array


def column_names(dataset: Any, anchor: str | None, positive: str | None) -> tuple[str, str]:
    """Return the names of the two columns: those asked for, else the first and the second.

    Raises
    ------
    InvalidTypeError
        If `dataset` is no table of rows that are all there.
    InvalidValueError
        If it is empty, or has no second column to choose.
    """
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        raise InvalidTypeError(
            f"dataset must be a datasets.Dataset, got {type(dataset).__name__}; pass one split, and load streamed ones"
        )
    if len(dataset) == 0:
        raise InvalidValueError("The dataset is empty. Please provide a non-empty dataset.")
    columns = dataset.column_names
    if not anchor or anchor not in columns:
        anchor = columns[0]
    if not positive or positive not in columns:
        if len(columns) < 2:
            raise InvalidValueError(
                "Dataset must contain at least two columns to select the positive column automatically."
            )
        positive = columns[1]
    if anchor == positive:
        raise InvalidValueError(
            f"anchor_column_name and positive_column_name must differ, got {anchor!r} for both; name the other column "
            "too: those left out are the first and the second"
        )
    return anchor, positive


def text_columns(dataset: Any, names: tuple[str, str]) -> tuple[Any, Any]:
    """Return the texts of both columns, as pyarrow arrays."""
    if dataset.format["type"] == "custom":  # a transform makes the rows; what is stored may be no texts
        values: list[Any] = [list(dataset[name]) for name in names]
    else:
        stored = dataset.select_columns(list(names)).with_format("arrow")[:]
        values = [stored[name] for name in names]
    anchors, positives = (
        text_array(f"column {name!r} of the dataset", column) for name, column in zip(names, values, strict=True)
    )
    return anchors, positives


def other_columns(dataset: Any, names: tuple[str, str]) -> dict[str, Any]:
    """Return the columns beside those two, as they are stored."""
    others = [name for name in dataset.column_names if name not in names]
    if not others:
        return {}
    stored = dataset.select_columns(others).with_format("arrow")[:]
    return {name: stored[name] for name in others}
