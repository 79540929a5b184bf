"""Real text that every machine already holds: the documented functions of the Python installation.

A pair is the first sentence of a docstring (the query) and the source of its function without that docstring
(the passage). Files are parsed, never imported, so gathering runs none of their code.
"""

import ast
import inspect
import os
import re
import sys
import sysconfig
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import decode_source
from pathlib import Path

# Test suites are left out: their docstrings tell cases apart rather than say what the code does, and they
# make up half of the standard library. Vendored copies stay: one text in two places is what the key rule is
# for. The folders of packages lie inside the standard library's own on some platforms and are a root of their
# own.
SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages"})
SKIPPED_FILES = re.compile(r"test_.*|.*_test|conftest")

MIN_QUERY_WORDS = 3
MIN_BODY_CHARACTERS = 40
MAX_QUERY_CHARACTERS = 300
MAX_PASSAGE_CHARACTERS = 2000  # about 50 lines; the rest of a longer function seldom adds to what it is about
MAX_FILE_BYTES = 1_000_000  # larger files are generated tables

# A full stop ends a sentence where white space follows, except after the usual abbreviations.
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\betc)[.!?](?=\s|$)")
_NO_SENTENCE = re.compile(
    r"-{3,}|={3,}|>>>|^(?:Args|Arguments|Parameters|Returns?|Raises|Examples?)\s*:"
)  # structure instead
_BLANK_LINE = re.compile(r"\n\s*\n")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class InstalledCode:
    """Pairs of one documented function each; entry i of every tuple belongs to pair i.

    Attributes
    ----------
    queries : tuple of str
        First sentence of the docstring, white space folded.
    passages : tuple of str
        Source of the function without its docstring and decorators, dedented, cut at a fixed length.
    modules : tuple of str
        Dotted name of the module that holds the function.
    locations : tuple of str
        ``module:qualified.name:line``.
    n_files : int
        Files that were parsed.
    n_unreadable : int
        Files that were left out because they cannot be read, decoded or parsed by this version of Python.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    modules: tuple[str, ...]
    locations: tuple[str, ...]
    n_files: int
    n_unreadable: int

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.queries)


@dataclass(frozen=True)
class _Pair:
    query: str
    passage: str
    module: str
    location: str


def gather(
    limit: int | None = None,
    *,
    roots: Sequence[Path] | None = None,
    progress: Callable[[int], None] | None = None,
) -> InstalledCode:
    """Gather documented functions of the standard library and the installed packages.

    Files come in sorted order, root by root, so one installation gives the same pairs on every call. Nothing
    is deduplicated.

    Parameters
    ----------
    limit : int, optional
        Stop at this many pairs.
    roots : sequence of Path, optional
        Folders to read; by default those of `installation_roots`.
    progress : callable, optional
        Called with the number of new pairs after each file.

    Returns
    -------
    InstalledCode
        The pairs, in the order of their files and lines.

    Examples
    --------
    >>> code = gather(limit=3)
    >>> len(code)
    3
    """
    pairs: list[_Pair] = []
    n_files = n_unreadable = 0
    for root in installation_roots() if roots is None else roots:
        for path in _python_files(root):
            if limit is not None and len(pairs) >= limit:
                break
            found = _pairs_of_file(path, _module_name(path.relative_to(root)))
            n_files += found is not None
            n_unreadable += found is None
            taken = (found or [])[: None if limit is None else limit - len(pairs)]
            pairs += taken
            if progress is not None and taken:
                progress(len(taken))
    return InstalledCode(
        queries=tuple(pair.query for pair in pairs),
        passages=tuple(pair.passage for pair in pairs),
        modules=tuple(pair.module for pair in pairs),
        locations=tuple(pair.location for pair in pairs),
        n_files=n_files,
        n_unreadable=n_unreadable,
    )


def installation_roots() -> list[Path]:
    """Return the folders of the standard library and of the installed packages, each once.

    Returns
    -------
    list of Path
        Existing folders: the standard library, the packages of this environment, and, where it is a virtual
        one, those of the installation behind it.
    """
    here = sysconfig.get_paths()
    behind = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix})
    names = ("stdlib", "purelib", "platlib")
    folders = (Path(paths[name]).resolve() for paths in (here, behind) for name in names)
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _python_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        # Sorted in place, which is how os.walk takes the order; names with a dot or dash are no packages.
        folders[:] = sorted(name for name in folders if name.isidentifier() and name not in SKIPPED_FOLDERS)
        for name in sorted(files):
            stem, extension = os.path.splitext(name)
            if extension == ".py" and not SKIPPED_FILES.fullmatch(stem):
                yield Path(folder, name)


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _pairs_of_file(path: Path, module: str) -> list[_Pair] | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return []
        data = path.read_bytes()
        if b"def " not in data:
            return []
        source = decode_source(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of code that is only read, such as invalid escapes
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = source.split("\n")
    pairs = (_pair(function, name, lines, module) for name, function in _functions(tree.body, ""))
    return [pair for pair in pairs if pair is not None]


def _functions(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, _Function]]:
    """Yield functions and methods; one inside another function is part of the outer one's text already."""
    for node in body:
        if isinstance(node, _Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _functions(node.body, prefix)
            yield from _functions(getattr(node, "orelse", ()), prefix)


def _pair(function: _Function, name: str, lines: list[str], module: str) -> _Pair | None:
    docstring = ast.get_docstring(function, clean=False)
    if docstring is None:
        return None
    query = first_sentence(docstring)
    passage = _source_without_docstring(function, lines)
    if passage is None or len(query.split()) < MIN_QUERY_WORDS or _NO_SENTENCE.search(query):
        return None
    return _Pair(query, passage, module, f"{module}:{name}:{function.lineno}")


def first_sentence(docstring: str) -> str:
    r"""Return the first sentence of a docstring on one line.

    Parameters
    ----------
    docstring : str
        As written in the source.

    Returns
    -------
    str
        Up to the first full stop of the first paragraph, white space folded, cut at a fixed length.

    Examples
    --------
    >>> first_sentence('Return the mean,\n    e.g. of rows. Slow.')
    'Return the mean, e.g. of rows.'
    """
    paragraph = " ".join(_BLANK_LINE.split(inspect.cleandoc(docstring).strip(), maxsplit=1)[0].split())
    end = _SENTENCE_END.search(paragraph)
    return (paragraph if end is None else paragraph[: end.end()])[:MAX_QUERY_CHARACTERS]


def _source_without_docstring(function: _Function, lines: list[str]) -> str | None:
    """Return signature and body, or None where the body is tiny or shares a line with the docstring."""
    docstring = function.body[0]
    first, last = docstring.lineno - 1, docstring.end_lineno or docstring.lineno
    before = lines[first][: docstring.col_offset]
    after = lines[last - 1].encode()[docstring.end_col_offset :].strip()  # the parser counts columns in bytes
    if before.strip() or (after and not after.startswith(b"#")):
        return None
    body = "\n".join(lines[last : function.end_lineno]).strip("\n")
    if len(body.strip()) < MIN_BODY_CHARACTERS:
        return None
    signature = "\n".join(lines[function.lineno - 1 : first])
    return textwrap.dedent(f"{signature}\n{body}")[:MAX_PASSAGE_CHARACTERS].rstrip()
