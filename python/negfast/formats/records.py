"""Fields of the JSON objects that formats are made of: what each must hold, and what is said where it does not."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.files.tables import json_objects, parquet_objects

MOST_SCORE = float(np.finfo(np.float32).max)
encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
"""Returns a plain value as JSON, with letters of all scripts as they are."""


class Record:
    """One JSON object of a file.

    Parameters
    ----------
    where : str
        File and line, as messages name them.
    entry : dict
        The object.
    """

    __slots__ = ("entry", "where")

    def __init__(self, where: str, entry: dict[str, Any]) -> None:
        self.where, self.entry = where, entry

    def __contains__(self, name: str) -> bool:
        """Tell whether there is such a field that is not null."""
        return self.entry.get(name) is not None

    def text(self, *names: str) -> str:
        """Return the text of the first of these fields that is there."""
        name, value = self._first(names)
        if not isinstance(value, str):
            self.refuse(name, "a text", value, "write it as a text")
        return value

    def title(self, name: str = "title") -> str:
        """Return the text of a field that may be missing or null."""
        return self.text(name) if name in self else ""

    def texts(self, name: str) -> list[str]:
        """Return the list of texts of a field."""
        values = self._list(name, "a list of texts", "put a single text into a list")
        for place, value in enumerate(values):
            if not isinstance(value, str):
                self.refuse(f"{name}[{place}]", "a text", value, "write it as a text")
        return values

    def identity(self, *names: str) -> str:
        """Return the id of the first of these fields that is there; an integer is its digits."""
        name, value = self._first(names)
        return self._identity(name, value)

    def identities(self, name: str) -> list[str]:
        """Return the list of ids of a field."""
        values = self._list(name, "a list of ids", "put a single id into a list")
        return [self._identity(f"{name}[{place}]", value) for place, value in enumerate(values)]

    def objects(self, name: str) -> list["Record"]:
        """Return the list of objects of a field."""
        values = self._list(name, "a list of objects", "put a single object into a list")
        for place, value in enumerate(values):
            if not isinstance(value, dict):
                self.refuse(f"{name}[{place}]", "an object", value, "write it as an object")
        return [Record(f"{self.where}, {name}[{place}]", value) for place, value in enumerate(values)]

    def scores(self, name: str, n: int) -> list[float]:
        """Return `n` scores of a field, NaN throughout where it is missing or null."""
        if name not in self:
            return [math.nan] * n
        values = self._list(name, "a list of numbers", "put a single number into a list")
        if len(values) != n:
            self.refuse(name, f"a list of {n} numbers, one for each entry beside it", values, "match their lengths")
        return [self._score(f"{name}[{place}]", value) for place, value in enumerate(values)]

    def score(self, name: str = "score") -> float:
        """Return the score of a field, NaN where it is missing or null."""
        return self._score(name, self.entry[name]) if name in self else math.nan

    def refuse(self, name: str, expected: str, value: object, remedy: str) -> NoReturn:
        """Raise the error that says what a field must be."""
        raise InvalidTypeError(
            f'{self.where}, field "{name}", must be {expected}, got {type(value).__name__} {shown(value)}; {remedy}'
        )

    def refuse_value(self, name: str, expected: str, value: object, remedy: str) -> NoReturn:
        """Raise the error that says what the value of a field must be."""
        raise InvalidValueError(f'{self.where}, field "{name}", must be {expected}, got {shown(value)}; {remedy}')

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            if name in self.entry:
                return name, self.entry[name]
        fields = ", ".join(f'"{name}"' for name in list(self.entry)[:20]) or "none"
        raise InvalidValueError(
            f'{self.where}, must have a field "{names[0]}", got {fields}; name the format that the file has'
        )

    def _list(self, name: str, expected: str, remedy: str) -> list[Any]:
        _, values = self._first((name,))
        if not isinstance(values, list):
            self.refuse(name, expected, values, remedy)
        return values

    def _identity(self, name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(name, "an id, a text or an integer", value, "write it as a text")
        try:
            return str(value)
        except ValueError:  # more digits than Python prints
            self.refuse_value(name, "an id", value, "write it as a text")

    def _score(self, name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.refuse(name, "a number", value, "leave scores out where there are none")
        if not -MOST_SCORE <= value <= MOST_SCORE:  # which is false for NaN
            self.refuse_value(name, "a finite float32 number", value, "score that pair again, or leave scores out")
        return float(value)


def records(path: Path) -> Iterator[Record]:
    """Yield the objects of a file of JSON lines.

    Raises
    ------
    InvalidValueError
        If the file is damaged; it names the line.
    OSError
        If it cannot be read.
    """
    for line, _, entry in json_objects(path):
        yield Record(f"{path}, line {line}", entry)


def parquet_records(path: Path, names: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of a parquet file, with those of these columns that it has.

    Raises
    ------
    InvalidValueError
        If the file is damaged.
    MissingExtraError
        If pyarrow is not installed.
    OSError
        If it cannot be read.
    """
    for row, entry in parquet_objects(path, names):
        yield Record(f"{path}, row {row}", entry)


def json_scores(scores: NDArray[np.float32]) -> list[str]:
    """Return the shortest JSON numbers that read as these in float32, ``null`` for NaN."""
    texts = scores.astype("U16")
    return np.where(np.isnan(scores), "null", texts).tolist()  # type: ignore[no-any-return]


def scored(score: str) -> str:
    """Return what follows in an object whose score is known."""
    return "" if score == "null" else f', "score": {score}'
