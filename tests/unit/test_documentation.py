"""The examples in docstrings and in the README run, and print what they say."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import negfast

README = Path(__file__).parents[2] / "README.md"
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(negfast.__path__, "negfast.")
    if not info.name.endswith(("__main__", "_negfast"))
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    done = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.failed == 0


def test_there_are_docstring_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    names = {test.name for test in found}
    assert {"negfast.mining.mine", "negfast.mining.select", "negfast.mining.topk"} <= names


def test_readme_example_prints_what_the_readme_shows() -> None:
    text = README.read_text(encoding="utf-8")
    code, shown = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", text, re.DOTALL).groups()  # type: ignore[union-attr]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(README), "exec"), {})
    # Times, threads and levels differ from machine to machine.
    fixed = [line for line in shown.splitlines() if not re.search(r" in \d+\.\d+ s", line)]
    assert len(fixed) > 10
    got = printed.getvalue().splitlines()
    assert [line for line in fixed if line not in got] == []
