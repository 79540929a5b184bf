"""The examples in docstrings, in the README and in the documentation run, and print what they say."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import negfast
from negfast import formats
from pages import Page, compare, fences, unbalanced

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(negfast.__path__, "negfast.")
    if not info.name.endswith(("__main__", "_negfast"))
)
# What modules below these packages cannot be imported without.
NEEDED = {
    "negfast.torch": ["torch"],
    "negfast.cli.demo.training": ["torch"],
    "negfast.integrations.hnswlib": ["hnswlib"],
    "negfast.integrations.pytorch_metric_learning": ["pytorch_metric_learning", "torch"],
    "negfast.integrations.lightning": ["lightning"],
    "negfast.integrations.transformers": ["transformers", "torch"],
    "negfast.integrations.sentence_transformers": ["datasets", "sentence_transformers"],
}


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    for package in [needed for above, names in NEEDED.items() if name.startswith(above) for needed in names]:
        pytest.importorskip(package, exc_type=ImportError)
    done = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.failed == 0


def test_nothing_else_needs_them() -> None:
    # Where these tests run with all extras, nothing but this would see what fails for those who have none.
    missing = sorted({package for names in NEEDED.values() for package in names})
    rest = [name for name in MODULES if not name.startswith(tuple(NEEDED))]
    code = (
        f"import importlib, sys; sys.modules.update(dict.fromkeys({missing}))\n"
        f"for name in {rest}: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_there_are_docstring_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES if not name.startswith(tuple(NEEDED))]
    found = [test for module in modules for test in finder.find(module) if test.examples]
    names = {test.name for test in found}
    assert {"negfast.mining.mine", "negfast.mining.select", "negfast.mining.topk"} <= names


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_the_pages(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Page(name, (ROOT / name).read_text(encoding="utf-8"))
    page.run()
    if page.skipped:
        pytest.skip("; ".join(page.skipped))


@pytest.mark.parametrize("name", NAMES)
def test_every_fence_is_seen(name: str) -> None:
    assert not unbalanced((ROOT / name).read_text(encoding="utf-8"))


def test_the_readme_shows_what_its_example_prints() -> None:
    languages = [block.language for block in fences((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert languages[:2] == ["python", "text"]


def test_every_public_name_has_an_entry_in_the_reference() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    entries = set(re.findall(r"^::: negfast\.(\w+)$", text, re.MULTILINE))
    described = set(re.findall(r"^## `negfast\.(\w+)`", text, re.MULTILINE))
    assert set(negfast.__all__) - entries - described == set()


def test_every_name_of_the_torch_layer_has_an_entry_in_the_reference() -> None:
    tree = ast.parse((Path(negfast.__file__).parent / "torch" / "__init__.py").read_text(encoding="utf-8"))
    public = next(node.value for node in tree.body if isinstance(node, ast.Assign))  # of __all__, without torch
    text = (DOCS / "api" / "torch.md").read_text(encoding="utf-8")
    assert set(ast.literal_eval(public)) == set(re.findall(r"^::: negfast\.torch\.(\w+)$", text, re.MULTILINE))


def test_every_name_of_the_formats_has_an_entry_in_the_reference() -> None:
    text = (DOCS / "api" / "formats.md").read_text(encoding="utf-8")
    assert set(formats.__all__) == set(re.findall(r"^::: negfast\.formats\.(\w+)$", text, re.MULTILINE))


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r"[\w-]+(?:/[\w-]+)*\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(path.relative_to(DOCS).as_posix() for path in PAGES[1:])


def test_links_between_pages_lead_somewhere() -> None:
    for path in PAGES[1:]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8")):
            made = "plots/" in target  # by the build
            assert made or (path.parent / target).exists(), f"{path} links to {target}"


def test_every_plot_is_one_that_the_script_makes() -> None:
    made = re.search(r"^PLOTS = \((.*)\)$", (DOCS / "plots.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert made
    bench = (ROOT / "benches" / "refresh" / "plot.py").read_text(encoding="utf-8")
    drawn = set(re.findall(r'f"([\w-]+)-\{name\}\.svg"', bench))
    used = {name for path in PAGES for name in re.findall(r"plots/([\w-]+)\.svg", path.read_text(encoding="utf-8"))}
    assert used == set(made[1].split(", ")) | drawn


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("1 s on 2 threads (avx2)", "0.25 s on 1 thread (scalar)", True),
        ("7.9 MiB", "12 KiB", True),
        ("a ... z", "a b c z", True),
        ("8 negatives", "9 negatives", False),
        ("score 0.5", "score 0.6", False),
    ],
)
def test_only_what_machines_differ_in_is_forgiven(shown: str, printed: str, same: bool) -> None:
    if same:
        compare("page:1", f"{shown}\n", f"{printed}\n")
    else:
        with pytest.raises(AssertionError, match="page:1"):
            compare("page:1", f"{shown}\n", f"{printed}\n")


def test_a_page_is_held_to_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = [
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```python\n1 / 0\n```\n",
        "```python\nprint(1)\n```\n\n```text\nValueError: no\n```\n",
        "```console\n$ negfast nonsense\n```\n",
        "```console\n$ negfast --version\nnegfast 99\n```\n",
    ]
    for text in wrong:
        with pytest.raises(AssertionError):
            Page("page", text).run()
    Page(
        "page", "```python\nx = 1\n```\n\n```python\nprint(x / 0)\n```\n\n```text\nZeroDivisionError: ...\n```\n"
    ).run()
