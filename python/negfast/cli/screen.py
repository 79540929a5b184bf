"""What a command prints: plain text for files, and the same with colours for terminals that want them."""

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TextIO

WIDTH_WITHOUT_TERMINAL = 120
MIN_WIDTH = 60
MAX_WIDTH = 200

_COLOURS = {"bold": "1", "dim": "2", "green": "32", "red": "31", "yellow": "33", "cyan": "36"}


class Screen:
    """Prints lines and keeps them, without colours, for a file.

    Parameters
    ----------
    stream : TextIO
        Where to print.
    quiet : bool, default False
        Print nothing, only keep.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._quiet = quiet
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._lines: list[str] = []
        columns = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns
        self.width = min(max(columns, MIN_WIDTH), MAX_WIDTH) if self._stream.isatty() else WIDTH_WITHOUT_TERMINAL

    @property
    def text(self) -> str:
        """Everything printed so far, without colours."""
        return "\n".join([*self._lines, ""])

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line, or several where `text` has them."""
        self._lines += text.split("\n")
        if not self._quiet:
            self._write(f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if style and self._coloured else text)

    def prose(self, text: str) -> None:
        """Print a sentence or more, indented and wrapped."""
        self.line(textwrap.fill(text, self.width, initial_indent="  ", subsequent_indent="  "))

    def heading(self, text: str) -> None:
        """Print a heading after an empty line."""
        self.line()
        self.line(text, "bold")

    def rows(self, rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Print a table, indented; the columns named in `right` are aligned there."""
        cells = [list(row) for row in rows]
        widths = [max(map(display_width, column)) for column in zip_longest(*cells, fillvalue="")]
        for row in cells:
            padded = (
                pad(cell, width, right=i in right) for i, (cell, width) in enumerate(zip(row, widths, strict=False))
            )
            self.line(fit("  " + "  ".join(padded).rstrip(), self.width))

    def side_by_side(self, columns: Sequence[Sequence[str]], *, header_styles: Sequence[str]) -> None:
        """Print columns of lines beside each other; the first line of each is its header."""
        width = (self.width - 2 - 3 * (len(columns) - 1)) // len(columns)
        for i, row in enumerate(zip_longest(*columns, fillvalue="")):
            cells = [pad(fit(cell, width), width) for cell in row]
            self._lines.append("  " + " | ".join(cells).rstrip())
            if i == 0 and self._coloured:
                cells = [
                    f"\x1b[{_COLOURS[style]}m{cell}\x1b[0m" for cell, style in zip(cells, header_styles, strict=True)
                ]
            if not self._quiet:
                self._write("  " + " | ".join(cells).rstrip())

    def _write(self, text: str) -> None:
        # Characters that the terminal's encoding lacks become question marks instead of an error.
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self._stream.flush()


def printable(text: str) -> str:
    r"""Return one line of foreign text without what could steer a terminal or spoil its columns.

    Examples
    --------
    >>> printable("a\tb\x1b[31m")
    'a    b?[31m'
    """
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text.replace("\t", "    "))


def display_width(text: str) -> int:
    """Return the number of terminal columns that a text takes.

    Examples
    --------
    >>> display_width("abc"), display_width("漢字")
    (3, 4)
    """
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def fit(text: str, width: int) -> str:
    """Return a text cut to a width, with dots where something was cut.

    Examples
    --------
    >>> fit("a long line", 8)
    'a lon...'
    """
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 3:
        text = text[:-1]
    return text + "..."


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return a text filled with spaces up to a width.

    Examples
    --------
    >>> pad("7", 3, right=True)
    '  7'
    """
    fill = " " * (width - display_width(text))
    return fill + text if right else text + fill
