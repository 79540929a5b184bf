"""One large JSON object, read field by field and item by item, so that it is never in memory as a whole."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from negfast.errors import InvalidValueError
from negfast.files.lines import reading

_CHUNK = 1 << 20
_WHITE_SPACE = " \t\n\r"
_LITERAL = len("-Infinity")
"""The longest word that a cut may go through and that then is said to be wrong where it begins."""


class _Text:
    """A file as text, of which what was passed is forgotten."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._decoder = json.JSONDecoder()
        self._text, self._place, self._pending = "", 0, b""
        self._chunk, self._ended = _CHUNK, False
        self.line = 1
        if self.peek() == "\ufeff":
            self._place += 1

    def peek(self) -> str:
        """Return the next letter that is no white space, empty at the end of the file."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in _WHITE_SPACE:
                self.line += self._text[self._place] == "\n"
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._grow():
                return ""

    def expect(self, letters: str) -> str:
        """Pass one of these letters, and return it."""
        found = self.peek()
        if not found or found not in letters:
            self.refuse(f"{found!r} in place of {' or '.join(map(repr, letters))}" if found else "its end too early")
        self._place += 1
        return found

    def value(self) -> Any:
        """Pass a value, and return it."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._grow()):
                    self.refuse(error.msg)
            except (ValueError, RecursionError) as error:
                self.refuse(" ".join(str(error).split()))
            else:
                # A number at the end of what is known may go on.
                if end < len(self._text) or not self._grow():
                    self.line += self._text.count("\n", self._place, end)
                    self._place = end
                    return value

    def refuse(self, found: str) -> NoReturn:
        raise InvalidValueError(
            f"{self._path}, line {self.line}, must be JSON in UTF-8, got {found}; write the file again"
        )

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith(("Unterminated", "Invalid \\")) or error.pos >= len(self._text) - _LITERAL

    def _grow(self) -> bool:
        """Read on, and tell whether there was more; a value longer than a chunk takes ever longer ones."""
        if self._ended:
            return False
        raw = self._pending + self._file.read(self._chunk)
        self._ended = len(raw) == len(self._pending)
        self._chunk = max(_CHUNK, 2 * (len(self._text) - self._place))
        whole = len(raw) if self._ended else _whole_letters(raw)
        try:
            self._text = self._text[self._place :] + raw[:whole].decode("utf-8")
        except UnicodeDecodeError as error:
            self.refuse(str(error))
        self._place, self._pending = 0, raw[whole:]
        return not self._ended


def _whole_letters(raw: bytes) -> int:
    """Return how many bytes come before a letter that is cut off at the end."""
    for back in range(1, min(4, len(raw)) + 1):
        first = raw[-back]
        if first & 0xC0 != 0x80:  # where a letter begins
            length = 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)
            return len(raw) - back if length > back else len(raw)
    return len(raw)


def json_items(path: Path, name: str) -> Iterator[tuple[int, str, int | None, Any]]:
    """Yield the fields of the object that a file holds, and the list of one field item by item.

    Parameters
    ----------
    path : Path
    name : str
        The field whose items are told one at a time.

    Yields
    ------
    line : int
    field : str
    place : int or None
        Which item of the list it is.
    value : object

    Raises
    ------
    InvalidValueError
        If the file is damaged, or holds no object; it names the line.
    OSError
        If it cannot be read.
    """
    with reading(path) as file:
        text = _Text(path, file)
        text.expect("{")
        separator = text.expect("}") if text.peek() == "}" else ","
        while separator != "}":
            field = text.value()
            if not isinstance(field, str):
                text.refuse(f"{type(field).__name__} in place of the name of a field")
            text.expect(":")
            if field == name:
                yield from ((line, name, place, value) for place, (line, value) in enumerate(_items(text)))
            else:
                text.peek()
                yield text.line, field, None, text.value()
            separator = text.expect(",}")
        if text.peek():
            text.refuse("more after its end")


def _items(text: _Text) -> Iterator[tuple[int, Any]]:
    text.expect("[")
    separator = text.expect("]") if text.peek() == "]" else ","
    while separator != "]":
        text.peek()
        line = text.line
        yield line, text.value()
        separator = text.expect(",]")
