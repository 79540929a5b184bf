"""What numbers depend on beside settings, seed and data."""

import importlib.metadata
import platform
from pathlib import Path

import negfast
from quality.settings import digest

_PACKAGES = (
    "negfast", "numpy", "torch", "tokenizers", "sentence-transformers", "pytorch-metric-learning", "scikit-learn",
    "scipy", "ir_measures",
)  # fmt: skip
# These arrange runs and tell of them, but decide nothing in them.
_ABOUT = frozenset(
    f"{name}.py"
    for name in (
        "run", "experiment", "plans", "runner", "record", "report", "tables", "plots", "intervals", "versions",
    )
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of everything; a package that runs from its sources has a hash of them too."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = negfast.__version__ if name == "negfast" else "missing"
    found["negfast"] += f" ({_hash(Path(negfast.__file__).parent)})"
    found["experiment"] = _hash(Path(__file__).parent, _ABOUT)
    return found


def _hash(folder: Path, without: frozenset[str] = frozenset()) -> str:
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".py", ".so", ".pyd"})
    parts = (part for path in files if path.name not in without for part in (path.name, path.read_bytes()))
    return digest(*parts)[:12]
