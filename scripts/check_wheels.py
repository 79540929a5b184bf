"""Build the source distribution and wheels, check what they hold, install each alone and use it.

Without FILE, the distributions are built: the source distribution from this checkout, and from nothing but that, in a
temporary folder, one abi3 wheel and one wheel for each free-threaded interpreter. With FILE, those are checked.

What could not be done for want of an interpreter is said. Exit code 1 if something fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import distributions
from distributions import MIB, ROOT

SMOKE_TEST = ROOT / "tests" / "system" / "children" / "installed.py"
DESCRIPTION = (
    "import json, sys, sysconfig\n"
    "print(json.dumps([*sys.version_info[:2], bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"
)
# The oldest free-threaded Python that PyO3 builds for is 3.14.
FREE_THREADED_NAMES = [f"python3.{minor}t" for minor in range(14, 20)]
# What could bring the checkout, or an environment that has more than numpy, back into play.
HIDDEN_VARIABLES = {"CARGO_TARGET_DIR", "PYO3_PYTHON", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}
DEADLINE_SECONDS = 1200


class CheckError(Exception):
    """A check that failed."""


@dataclass(frozen=True)
class Interpreter:
    """A Python to build with and to install into."""

    path: str
    version: tuple[int, int]
    free_threaded: bool

    def __str__(self) -> str:
        """Return how a person names it."""
        return f"Python {self.version[0]}.{self.version[1]}{'t' if self.free_threaded else ''}"


@dataclass
class Summary:
    """What was checked, what failed, and what could not be done."""

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)

    def attempt(self, what: str, step: Callable[..., str], *arguments: object) -> None:
        """Call a step, and note how it went with what it returns or raises."""
        print(f"-- {what}", flush=True)
        try:
            self.passed.append(f"{what}: {step(*arguments)}")
        except (CheckError, OSError, subprocess.SubprocessError, tarfile.TarError, zipfile.BadZipFile) as error:
            self.failed.append(f"{what}: {error}")

    def show(self) -> None:
        """Print it."""
        for title, lines in (("passed", self.passed), ("not done", self.not_done), ("FAILED", self.failed)):
            if lines:
                print(f"\n{title}")
            for line in lines:
                print("  " + line.replace("\n", "\n    "))
        counts = f"{len(self.passed)} passed, {len(self.not_done)} not done, {len(self.failed)} failed"
        print(f"\nwheels: {counts}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parsed = parser().parse_args(arguments)
    try:
        pythons = [interpreter(path) for path in parsed.python or default_pythons()]
    except (CheckError, OSError) as error:
        parser().error(str(error))
    summary = Summary()
    with tempfile.TemporaryDirectory(prefix="negfast-wheels-") as folder:
        work = Path(folder).resolve()
        files = parsed.file or build(pythons, work, summary)
        for path in files:
            check(path, pythons, work, summary)
        if parsed.out is not None:
            parsed.out.mkdir(parents=True, exist_ok=True)
            for path in files:
                shutil.copy2(path, parsed.out)
    if parsed.strict:
        summary.failed += summary.not_done
        summary.not_done = []
    summary.show()
    return 1 if summary.failed else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument(
        "file", nargs="*", type=distribution, metavar="FILE", help="distribution to check instead of building"
    )
    result.add_argument(
        "--python",
        action="append",
        metavar="INTERPRETER",
        help="build with this interpreter and install into it; may be repeated (default: this one, and the "
        "free-threaded ones on PATH)",
    )
    result.add_argument("--out", type=Path, metavar="FOLDER", help="leave the distributions here")
    result.add_argument("--strict", action="store_true", help="let what cannot be done fail")
    return result


def distribution(text: str) -> Path:
    """Return the path of a distribution, whose name must be that of one."""
    path = Path(text)
    if not path.is_file() or not (path.name.endswith(".tar.gz") or distributions.WHEEL_NAME.fullmatch(path.name)):
        raise argparse.ArgumentTypeError(f"{text} is no source distribution or wheel")
    return path


def default_pythons() -> list[str]:
    """Return this interpreter and the free-threaded ones on PATH."""
    found = [shutil.which(name) for name in FREE_THREADED_NAMES]
    return [sys.executable, *(path for path in found if path is not None)]


def interpreter(path: str) -> Interpreter:
    """Ask an interpreter what it is."""
    major, minor, free_threaded = json.loads(run(path, "-c", DESCRIPTION, cwd=ROOT))
    return Interpreter(path, (major, minor), free_threaded)


def build(pythons: list[Interpreter], work: Path, summary: Summary) -> list[Path]:
    """Build all that these interpreters can; return the files."""
    out = work / "dist"
    summary.attempt("build the source distribution", build_sdist, pythons[0], work, out)
    if summary.failed:
        return []
    source = unpacked(next(out.glob("*.tar.gz")), work)
    builders = {str(python): python for python in pythons if python.free_threaded}
    abi3 = next((python for python in pythons if not python.free_threaded), None)
    if abi3 is None:
        summary.not_done.append("abi3 wheel: no interpreter with the lock is named; add --python python3")
    else:
        builders = {"abi3": abi3} | builders
    if set(builders) <= {"abi3"}:
        summary.not_done.append(
            "free-threaded wheel: no free-threaded interpreter of Python 3.14 or newer is named or on PATH; "
            "use --python python3.14t"
        )
    for name, python in builders.items():
        summary.attempt(f"build the wheel for {name}", build_wheel, python, source, work, out)
    return sorted(out.iterdir())


def build_sdist(python: Interpreter, work: Path, out: Path) -> str:
    """Build the source distribution from the checkout, with the tools that pyproject.toml names; return its name."""
    tools = environment(python, work / "tools")
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    run(tools, "-m", "pip", "install", "--quiet", *requires, cwd=work)
    run(tools, "-m", "maturin", "sdist", "--manifest-path", ROOT / "rust/negfast-py/Cargo.toml", "--out", out, cwd=work)
    return " ".join(path.name for path in out.iterdir())


def unpacked(sdist: Path, work: Path) -> Path:
    """Unpack a source distribution once, so that what two wheels share is compiled once; return its folder."""
    with tarfile.open(sdist) as archive:
        # Not an argument, which the first releases of Python 3.11 do not know.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(work / "source")
    return next((work / "source").iterdir())


def build_wheel(python: Interpreter, source: Path, work: Path, out: Path) -> str:
    """Build a wheel as pip does; return its name."""
    before = set(out.iterdir())
    builder = environment(python, work / f"build-{python.version[1]}{python.free_threaded}")
    # The versions in Cargo.lock, or none.
    options = {"CARGO_TARGET_DIR": str(work / "target"), "MATURIN_PEP517_ARGS": "--locked"}
    run(builder, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, source, cwd=work, variables=options)
    return " ".join(path.name for path in set(out.iterdir()) - before)


def check(path: Path, pythons: list[Interpreter], work: Path, summary: Summary) -> None:
    """Check what a distribution holds, and use a wheel in each interpreter that loads it."""
    if path.suffix != ".whl":
        summary.attempt(f"contents of {path.name}", contents, path, distributions.sdist_problems)
        return
    summary.attempt(f"contents of {path.name}", contents, path, distributions.wheel_problems)
    tags = distributions.tags(path)
    fitting = [python for python in pythons if tags.fits(python.version, free_threaded=python.free_threaded)]
    if not fitting:
        summary.not_done.append(f"use of {path.name}: none of the interpreters loads it")
    for number, python in enumerate(fitting):
        clean = work / f"clean-{tags.python}-{tags.abi}-{number}"
        summary.attempt(f"use of {path.name} in {python}", use, path, python, clean)


def contents(path: Path, problems: Callable[[Path], Iterator[str]]) -> str:
    """Check what a distribution holds; return its size."""
    found = list(problems(path))
    if found:
        raise CheckError("\n".join(found))
    return f"{path.stat().st_size / MIB:.2f} MiB"


def use(wheel: Path, python: Interpreter, clean: Path) -> str:
    """Install a wheel alone into a clean environment and run the smoke test; return what that prints."""
    installed = environment(python, clean)
    before = packages(installed, clean)
    run(installed, "-m", "pip", "install", wheel.resolve(), cwd=clean)
    added = packages(installed, clean) - before
    if added != {"negfast", "numpy"}:
        raise CheckError(f"installing it alone brought {sorted(added)}, not numpy only")
    folder = Path(tempfile.mkdtemp(dir=clean))
    # A warning of the package, in this process or in a command that it starts, is a failure.
    printed = run(installed, SMOKE_TEST, clean, cwd=folder, variables={"PYTHONWARNINGS": "error"})
    return printed.strip()


def packages(python: Path, cwd: Path) -> set[str]:
    """Return the names of the packages in an environment."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", cwd=cwd))
    return {package["name"] for package in listed}


def environment(python: Interpreter, folder: Path) -> Path:
    """Make a virtual environment with pip, if it is not there; return its interpreter."""
    path = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not path.exists():
        run(python.path, "-m", "venv", folder, cwd=ROOT)
    return path


def run(*command: object, cwd: Path, variables: dict[str, str] | None = None) -> str:
    """Run a command; return what it prints, and raise with that if it fails."""
    line = [str(part) for part in command]
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN_VARIABLES}
    done = subprocess.run(
        line,
        cwd=cwd,
        env=kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | (variables or {}),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise CheckError(f"{' '.join(line)} ended with {done.returncode}:\n{done.stdout}{done.stderr}".strip())
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
