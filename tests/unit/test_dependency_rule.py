"""Arrows never point back: among the Python files, inside the core, and between the crates."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import negfast

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "python" / "negfast"
CORE = ROOT / "rust" / "negfast-core" / "src"

# Folders of the package that stand above the numpy side; each may use the ones named for it.
ABOVE = {"torch": set(), "integrations": {"torch"}, "cli": {"torch", "integrations"}}
OPTIONAL = {
    "datasets",
    "faiss",
    "hnswlib",
    "lightning",
    "pyarrow",
    "pytorch_metric_learning",
    "safetensors",
    "sentence_transformers",
    "torch",
    "tqdm",
    "transformers",
}

# Ground floor first. A module may use itself and the layers below its own.
LAYERS = [
    {"error", "aligned"},
    {"rows", "lists", "anchors", "rng", "threads", "tensors"},
    {"kernel"},
    {"score"},
    {"topk", "accept"},
    {"codes", "reservoir"},
    {"clusters"},
    {"search", "rules", "draw", "exposure", "bank"},
    {"batches", "tiered", "tuples"},
    {"copies", "duplicates"},
    {"pool"},
    {"refresh"},
    {"mine", "nearest"},
]


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Yield the dotted names that a file imports; with `top_level` only those that run on import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        pending.extend(ast.iter_child_nodes(node))


def python_files() -> list[Path]:
    return sorted(PYTHON.rglob("*.py"))


def test_numpy_side_never_looks_up() -> None:
    assert len(python_files()) > 5
    for path in python_files():
        inside = path.relative_to(PYTHON).parts
        folder = inside[0] if inside[0] in ABOVE else None
        if inside[0] == "__main__.py":  # the door of the command line
            continue
        allowed = set(ABOVE) if folder is None else {folder} | ABOVE[folder]
        banned = set(ABOVE) if folder is None else set(ABOVE) - allowed
        for name in imports(path):
            for upper in banned:
                assert name != f"negfast.{upper}", f"{path} imports {name}"
                assert not name.startswith(f"negfast.{upper}."), f"{path} imports {name}"


def test_optional_packages_are_never_imported_on_import() -> None:
    for path in python_files():
        if path.relative_to(PYTHON).parts[0] in {"torch", "integrations"}:
            continue
        for name in imports(path, top_level=True):
            assert name.split(".")[0] not in OPTIONAL, f"{path} imports {name} at its top"


def test_compiled_module_never_imports_the_torch_layer() -> None:
    for path in (ROOT / "rust").rglob("*.rs"):
        if "target" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r'import\("negfast\.(torch|integrations|cli)', text), path


def test_import_needs_numpy_only() -> None:
    code = (
        "import sys, negfast\n"
        f"loaded = sorted(set(sys.modules) & {OPTIONAL | {'negfast.cli', 'negfast.torch'}!r})\n"
        "print(','.join(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def core_uses(text: str) -> set[str]:
    """Find the modules of the crate that a source file names, grouped uses included."""
    text = re.sub(r"//[^\n]*", "", text)
    names = set(re.findall(r"\bcrate::(?:r#)?([a-z_]+)", text))
    for group in re.findall(r"\bcrate::\{(.*?)\};", text, re.DOTALL):
        while "{" in group:  # the inner braces hold names inside a module
            group = re.sub(r"\{[^{}]*\}", "", group)
        names.update(part.strip().split("::")[0] for part in group.split(",") if part.strip())
    return names


def test_grouped_uses_are_found() -> None:
    text = "use crate::{error::{Error, mine}, rows::Rows};\nfn f() { crate::search::go() } // crate::mine"
    assert core_uses(text) == {"error", "rows", "search"}


def test_core_arrows_point_down() -> None:
    level = {name: height for height, names in enumerate(LAYERS) for name in names}
    files = [path for path in CORE.rglob("*.rs") if path != CORE / "lib.rs"]
    assert len(files) > 5
    for path in files:
        own = path.relative_to(CORE).parts[0].removesuffix(".rs")
        assert own in level, f"{own} has no layer: give it one in LAYERS and in ARCHITECTURE.md"
        for used in core_uses(path.read_text(encoding="utf-8")):
            if used in level and used != own:  # other names are those that lib.rs re-exports
                assert level[used] < level[own], f"{path.relative_to(ROOT)} uses {used}, which is not below it"


def test_core_tree_has_no_python() -> None:
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed here")
    done = subprocess.run(
        ["cargo", "tree", "-p", "negfast-core", "--edges", "normal,build", "--prefix", "none", "--offline"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert "negfast-core" in names
    assert not [name for name in names if name.startswith(("pyo3", "numpy", "ndarray"))]


def test_public_names_exist_once() -> None:
    assert len(negfast.__all__) == len(set(negfast.__all__))
    for name in negfast.__all__:
        assert hasattr(negfast, name)
