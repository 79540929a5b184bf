"""The wheel, built from a source distribution and installed into a clean environment."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHILD = ROOT / "tests" / "system" / "children" / "installed.py"
BINARIES = "Scripts" if os.name == "nt" else "bin"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]


def run(*command: object, cwd: Path) -> str:
    """Run a command; its output, which is shown if it fails."""
    # The compiled module of this checkout must not be what is tested.
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a source distribution from the checkout and a wheel from nothing but that."""
    folder = tmp_path_factory.mktemp("dist")
    maturin = Path(sys.executable).with_name("maturin")
    run(maturin, "sdist", "--manifest-path", ROOT / "rust/negfast-py/Cargo.toml", "--out", folder, cwd=ROOT)
    (source,) = folder.glob("negfast-*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("negfast-*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"negfast/__init__.py", "negfast/_negfast.pyi", "negfast/py.typed"} <= set(names)
    assert any(name.startswith("negfast/_negfast.") and name.endswith((".so", ".pyd")) for name in names)
    assert all(name.startswith(("negfast/", "negfast-")) for name in names), names
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_serves_every_later_python(wheel: Path) -> None:
    free_threaded = "t" in getattr(sys, "abiflags", "")
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    expected = (
        f"cp{sys.version_info[0]}{sys.version_info[1]}t" if free_threaded else f"cp{oldest.replace('.', '')}-abi3"
    )
    assert expected in wheel.name


def test_the_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "clean"
    venv.create(environment, with_pip=True)
    python = environment / BINARIES / "python"
    run(python, "-m", "pip", "install", wheel, cwd=tmp_path)
    version, level = run(python, "-W", "error", CHILD, environment, cwd=tmp_path).split()
    assert version in wheel.name
    assert level in {"scalar", "avx2", "avx512"}
    usage = run(environment / BINARIES / "negfast", "demo", "--help", cwd=tmp_path)
    assert "usage" in usage.lower()
