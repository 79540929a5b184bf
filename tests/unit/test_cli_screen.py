"""What commands print: colours only for terminals that want them, and lines that fit."""

import io

import pytest

from negfast.cli.progress import Progress, is_progress_wanted
from negfast.cli.screen import Screen, display_width, fit, pad, printable


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def print_some(screen: Screen) -> None:
    screen.heading("Heading")
    screen.rows([("a", "1"), ("bb", "22")], right=(1,))
    screen.side_by_side([["left", "x" * 99], ["right"]], header_styles=["red", "green"])


PLAIN = f"""
Heading
  a    1
  bb  22
  left                                  | right
  {"x" * 34}... |
"""


def test_a_terminal_gets_colours_and_the_file_none() -> None:
    terminal = Terminal()
    screen = Screen(terminal)
    print_some(screen)
    assert "\x1b[1mHeading\x1b[0m" in terminal.getvalue()
    assert "\x1b[31mleft" in terminal.getvalue()
    assert screen.text == PLAIN


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    print_some(Screen(terminal))
    assert terminal.getvalue() == PLAIN


def test_other_streams_get_no_colours_and_quiet_ones_nothing() -> None:
    stream = io.StringIO()
    print_some(Screen(stream))
    assert "\x1b" not in stream.getvalue()
    silent = Terminal()
    screen = Screen(silent, quiet=True)
    print_some(screen)
    assert silent.getvalue() == ""
    assert screen.text == PLAIN


def test_characters_that_the_terminal_lacks_are_replaced() -> None:
    terminal = Terminal()
    screen = Screen(terminal)
    screen.line("é漢")
    assert terminal.getvalue() == "??\n"
    assert screen.text == "é漢\n"


def test_prose_is_wrapped_and_indented() -> None:
    screen = Screen(Terminal(), quiet=True)
    screen.prose("word " * 30)
    assert all(line.startswith("  word") and len(line) <= 80 for line in screen.text.splitlines())
    assert len(screen.text.splitlines()) == 2


@pytest.mark.parametrize("text", ["short", "x" * 50, "漢" * 50, "e\u0301" * 50, ""])
def test_cells_have_their_width(text: str) -> None:
    assert display_width(fit(text, 20)) in (19, 20) or fit(text, 20) == text
    assert display_width(pad(fit(text, 20), 20)) == 20


def test_foreign_text_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b]0;title\x07b\u202ec\ud800\td") == "a?]0;title?b?c?    d"


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_progress(has_tqdm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    if not has_tqdm:
        monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    assert is_progress_wanted(quiet=False)
    assert not is_progress_wanted(quiet=True)
    with Progress("work", 10, shown=False) as progress:
        progress(10)
    assert stream.getvalue() == ""
    with Progress("work", 10, shown=True) as progress:
        progress(10)
    assert "work" in stream.getvalue()
    assert stream.getvalue().endswith("\r")
