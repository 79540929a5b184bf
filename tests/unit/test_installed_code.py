"""What `negfast demo` gathers from source files."""

from pathlib import Path

import pytest

from negfast.cli.demo import installed_code
from negfast.cli.demo.installed_code import first_sentence, gather

MODULE = '''
import does_not_exist

def documented(value):
    """Return twice the value. More is said here.

    And here.
    """

    # The body begins with a comment.
    result = value * 2  # ä
    return result

def undocumented(value):
    return [value, value, value, value, value, value]

def tiny(value):
    """Return the value as it came."""
    return value

def short(value):
    """Too short."""
    return [value, value, value, value, value, value]

def structured(value):
    """
    Parameters
    ----------
    value : int
    """
    return [value, value, value, value, value, value]

def one_liner(value): "Return it on one line."; return [value, value, value, value, value]

class Thing:
    """Not a function at all."""

    @property
    def method(self):
        """Ärger: say something (e.g. nothing)!"""  # noqa
        def inner():
            """Return what lies inside."""
            return [self, self, self, self, self, self, self, self]
        return inner

if True:
    async def waiting():
        \'\'\'Wait until the thing is done.\'\'\'
        await something_that_takes_a_long_time_to_finish()
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    for folder in (package, package / "tests", tmp_path / "not-a-package"):
        folder.mkdir()
        (folder / "module.py").write_text(MODULE, encoding="utf-8")
    (package / "__init__.py").write_text(MODULE, encoding="utf-8")
    (package / "test_module.py").write_text(MODULE, encoding="utf-8")
    (package / "old.py").write_text("def f():\n    print 'Python 2'\n", encoding="utf-8")
    (package / "other.py").write_bytes(b"def f():\n    '\xff'\n")
    return tmp_path


def test_pairs_modules_and_locations(root: Path) -> None:
    code = gather(roots=[root])
    assert code.locations == (
        "package:documented:4",
        "package:Thing.method:39",
        "package:waiting:47",
        "package.module:documented:4",
        "package.module:Thing.method:39",
        "package.module:waiting:47",
    )
    assert code.modules == ("package",) * 3 + ("package.module",) * 3
    assert code.queries[:3] == (
        "Return twice the value.",
        "Ärger: say something (e.g. nothing)!",
        "Wait until the thing is done.",
    )
    assert (len(code), code.n_files, code.n_unreadable) == (6, 2, 2)


def test_source_is_dedented_and_lacks_the_docstring(root: Path) -> None:
    documented, method, waiting = gather(roots=[root]).passages[:3]
    assert documented == (
        "def documented(value):\n    # The body begins with a comment.\n    result = value * 2  # ä\n    return result"
    )
    assert method.startswith("def method(self):\n    def inner():\n")
    assert "Ärger" not in method
    assert waiting.startswith("async def waiting():\n    await")


@pytest.mark.parametrize("limit", [0, 1, 4, 6, 100])
def test_limit_takes_the_first_pairs(root: Path, limit: int) -> None:
    assert gather(limit, roots=[root]).locations == gather(roots=[root]).locations[:limit]


def test_progress_counts_pairs(root: Path) -> None:
    counts: list[int] = []
    gather(5, roots=[root], progress=counts.append)
    assert counts == [3, 2]


def test_long_sources_are_cut(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed_code, "MAX_PASSAGE_CHARACTERS", 23)
    assert gather(1, roots=[root]).passages == ("def documented(value):",)


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("One. Two.", "One."),
        ("One\n    line\n\n    Next", "One line"),
        ("Use e.g. this or i.e. that. Then stop.", "Use e.g. this or i.e. that."),
        ("Version 3.11 only! Really.", "Version 3.11 only!"),
        ("\n    Indented?  Yes.\n    ", "Indented?"),
        ("", ""),
    ],
)
def test_first_sentence(docstring: str, sentence: str) -> None:
    assert first_sentence(docstring) == sentence


def test_this_installation_has_documented_functions() -> None:
    code = gather(50)
    assert len(code) == 50
    assert code == gather(50)
    assert all(code.queries)
    assert all(code.passages)
    roots = installed_code.installation_roots()
    assert len(roots) == len(set(roots))
    assert all(root.is_dir() for root in roots)
