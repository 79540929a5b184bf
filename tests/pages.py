"""Run the examples of a Markdown page and compare what they print with what the page shows.

All examples of a page run in order, in one namespace and one folder. A fence is run by its language:

* ``python``: executed. A ``text`` fence right after it shows what it prints, or ends in the error that it raises.
* ``console``: lines that begin with ``$`` are commands, the lines below each what it prints. `negfast` runs in this
  process; `cat`, `head`, `ls` and `echo $?` are known too.

A fence with a ``title="name"`` is written to a file of that name. Any other is only shown. ``<!-- needs: torch -->``
before a fence skips it where that package is not installed.
``...`` stands for any text; times, threads, levels and sizes of buffers are not compared.
"""

import contextlib
import doctest
import importlib.util
import io
import re
import shlex
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from negfast.cli.main import main

FENCE = re.compile(
    r"^(?:<!-- needs: (?P<needs>[\w, ]+) -->\n)?(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[\w.]+)\")?\n"
    r"(?P<body>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
SHOWN_ONLY = {"", "bash", "json", "text"}
# What differs between machines, and what stands in for it.
VARYING = (
    # Which search is faster, and what it can leave out, depends on the kernels that the machine has.
    (re.compile(r"(?:exact|certified) search, recall 1: [\d,]+ pairs scanned, (?:[\d,]+ checked, )?"), "<search>"),
    (re.compile(r"\d+(?:\.\d+)? (?:s|ms|min)\b"), "<time>"),
    (re.compile(r"on \d+ threads? \(\w+\)"), "<threads>"),
    (re.compile(r"\d+(?:\.\d+)? (?:KiB|MiB|GiB)"), "<bytes>"),
    (re.compile(r"[\d,]+ rescored"), "<rescored>"),
    (re.compile(r"\bavx512\b|\bavx2\b|\bscalar\b"), "<level>"),
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Fence:
    """One fenced block: its language, title, text, first line, and the packages it needs."""

    language: str
    title: str | None
    body: str
    line: int
    needs: tuple[str, ...]


def fences(text: str) -> Iterator[Fence]:
    """Yield the fenced blocks of a page."""
    for found in FENCE.finditer(text):
        needs = tuple(re.findall(r"\w+", found["needs"] or ""))
        line = text.count("\n", 0, found.start("body")) + 1
        yield Fence(found["language"], found["title"], found["body"], line, needs)


def unbalanced(text: str) -> bool:
    """Tell whether a page has fences that `fences` does not see."""
    return len(re.findall(r"^ *```", text, re.MULTILINE)) != 2 * len(list(fences(text)))


class Page:
    """A page whose examples run."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.blocks = list(fences(text))
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.skipped: list[str] = []
        self.code = 0

    def run(self) -> None:
        """Run all examples; an AssertionError names the first that is not as shown."""
        for block, follower in zip_longest(self.blocks, self.blocks[1:]):
            absent = [name for name in block.needs if importlib.util.find_spec(name) is None]
            if absent:
                self.skipped.append(f"line {block.line} needs {', '.join(absent)}")
            elif block.title is not None:
                Path(block.title).write_text(block.body, encoding="utf-8")
            elif block.language == "python":
                shown = follower.body if follower is not None and follower.language == "text" else None
                self._python(block, shown)
            elif block.language == "console":
                self._console(block)
            else:
                assert block.language in SHOWN_ONLY, f"{self.name}:{block.line}: no such language: {block.language}"

    def _python(self, block: Fence, shown: str | None) -> None:
        place = f"{self.name}:{block.line}"
        raises = shown is not None and re.search(r"^(?:\w+\.)*\w+Error: ", shown, re.MULTILINE)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                # Blank lines in front make the line numbers of a traceback those of the page.
                exec(compile("\n" * (block.line - 1) + block.body, self.name, "exec"), self.namespace)
            except Exception as error:
                assert raises, f"{place} raises\n{traceback.format_exc()}"
                printed.write(f"{type(error).__name__}: {error}\n")
            else:
                assert not raises, f"{place} should raise\n{shown}"
        if shown is not None:
            compare(place, shown, printed.getvalue())

    def _console(self, block: Fence) -> None:
        text = re.sub(r"\\\n\s*(?:> )?", "", block.body)
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            printed = self._command(command)
            place = f"{self.name}:{block.line}: {command}"
            if shown.strip():
                compare(place, shown, printed)
            elif self.code:
                raise AssertionError(f"{place} ends with {self.code}\n{printed}")

    def _command(self, command: str) -> str:
        words = shlex.split(command)
        if words[0] == "echo":
            assert words == ["echo", "$?"], command
            return f"{self.code}\n"
        if words[0] == "ls":
            names = sorted(path.name for path in Path(*words[1:]).iterdir() if not path.name.startswith("."))
            return " ".join(names) + "\n"
        if words[0] in ("cat", "head"):
            lines = Path(words[-1]).read_text(encoding="utf-8").splitlines(keepends=True)
            return "".join(lines[: int(words[2]) if words[0] == "head" else None])
        assert words[0] == "negfast", f"cannot run {command}"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                self.code = main(words[1:])
            except SystemExit as end:
                self.code = int(end.code or 0)
        return printed.getvalue()


def compare(place: str, shown: str, printed: str) -> None:
    """Check that `printed` is what a page shows, but for what differs between machines."""
    for pattern, name in VARYING:
        shown, printed = pattern.sub(name, shown), pattern.sub(name, printed)
    if not doctest.OutputChecker().check_output(shown, printed, FLAGS):
        raise AssertionError(f"{place} shows\n{shown}\nand prints\n{printed}")
