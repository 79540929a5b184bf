"""The extras, the source distribution, and that the checks of a wheel can fail; nothing is compiled."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import distributions
from distributions import ROOT, extras, project, sdist_problems, tags, wheel_problems

USER_EXTRAS = {
    "cli",
    "torch",
    "sentence-transformers",
    "transformers",
    "pytorch-metric-learning",
    "lightning",
    "hnsw",
    "plot",
}
DEVELOPER_EXTRAS = {"bench", "dev", "docs", "lint", "test"}
ABI3 = "cp311-abi3-manylinux_2_28_x86_64"
FREE_THREADED = "cp314-cp314t-win_amd64"


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=!~;]", requirement)[0]


def test_extras() -> None:
    assert set(extras()) == USER_EXTRAS | DEVELOPER_EXTRAS | {"all"}
    assert set(extras()["all"]) == {line for name in USER_EXTRAS for line in extras()[name]}
    assert {line for name in ("docs", "lint", "test") for line in extras()[name]} <= set(extras()["dev"])


def test_what_extras_share_is_required_alike() -> None:
    required = {name_of(line): line for name in USER_EXTRAS for line in extras()[name]}
    for extra, lines in extras().items():
        for line in lines:
            if extra != "bench" or name_of(line) != "sentence-transformers":
                assert required.get(name_of(line), line) == line, extra


def test_no_extra_needs_negfast_itself() -> None:
    assert "negfast" not in {name_of(line) for lines in extras().values() for line in lines}


def test_base_is_numpy_only() -> None:
    assert [name_of(line) for line in project()["dependencies"]] == ["numpy"]  # type: ignore[attr-defined]


def test_the_always_on_tests_have_the_command_line_and_do_without_torch() -> None:
    assert set(extras()["cli"]) <= set(extras()["test"])
    assert not {"torch", "sentence-transformers", "faiss-cpu"} & {name_of(line) for line in extras()["test"]}


def test_every_extra_that_a_text_names_exists() -> None:
    texts = [*(ROOT / "python").rglob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    named = {
        (path, name)
        for path in texts
        for found in re.findall(r"negfast\[([a-z][a-z,-]*)\]", path.read_text(encoding="utf-8"))
        for name in found.split(",")
    }
    assert len(named) > 1
    assert {name for _, name in named} <= set(extras()), named


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("maturin") is None or shutil.which("cargo") is None:
        pytest.skip("maturin or cargo is not installed here")
    folder = tmp_path_factory.mktemp("sdist")
    manifest = ROOT / "rust" / "negfast-py" / "Cargo.toml"
    command = [sys.executable, "-m", "maturin", "sdist", "--manifest-path", manifest, "--out", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.iterdir())


def test_source_distribution_holds_what_a_build_needs(sdist: Path) -> None:
    assert list(sdist_problems(sdist)) == []


def contents(tag: str = ABI3) -> dict[str, str]:
    """Return what a right wheel holds, with nothing in the files of the package."""
    information = f"negfast-{distributions.version()}.dist-info"
    metadata = [
        "Name: negfast",
        f"Version: {distributions.version()}",
        f"Requires-Python: {project()['requires-python']}",
        f"License-Expression: {project()['license']}",
        "Requires-Dist: numpy>=1.26",
        "Requires-Dist: tqdm>=4.66 ; extra == 'cli'",
        *(f"Provides-Extra: {name}" for name in extras()),
    ]
    package = ROOT / "python"
    files = {path.relative_to(package).as_posix(): "" for path in package.rglob("*") if path.suffix in {".py", ".pyi"}}
    files |= {"negfast/py.typed": "", "negfast/_negfast.abi3.so": ""}
    files |= {f"{information}/{name}": "" for name in ("RECORD", "entry_points.txt", "licenses/LICENSE")}
    files[f"{information}/METADATA"] = "\n".join(metadata) + "\n\n# negfast\n"
    files[f"{information}/WHEEL"] = f"Wheel-Version: 1.0\nTag: {tag}\n"
    return files


def write(folder: Path, files: dict[str, str], tag: str = ABI3) -> Path:
    path = folder / f"negfast-{distributions.version()}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("tag", [ABI3, FREE_THREADED])
def test_a_right_wheel_passes(tag: str, tmp_path: Path) -> None:
    assert list(wheel_problems(write(tmp_path, contents(tag), tag))) == []


@pytest.mark.parametrize(
    ("tag", "name", "change", "problem"),
    [
        (ABI3, "negfast/py.typed", None, "py.typed is missing"),
        (ABI3, "negfast/_negfast.pyi", None, "_negfast.pyi is missing"),
        (ABI3, "negfast/_negfast.abi3.so", None, "0 compiled modules"),
        (ABI3, "negfast/_negfast.cpython-311.so", "", "2 compiled modules"),
        (ABI3, "licenses/LICENSE", None, "LICENSE is missing"),
        (ABI3, "tests/conftest.py", "", "tests/conftest.py does not belong"),
        (ABI3, "negfast/__pycache__/keys.cpython-311.pyc", "", "does not belong"),
        (ABI3, "METADATA", ("numpy>=1.26", "numpy>=1.26\nRequires-Dist: tqdm"), "without extras it requires"),
        (ABI3, "METADATA", ("Provides-Extra: hnsw\n", ""), "the extras are"),
        (ABI3, "METADATA", (f"Version: {distributions.version()}", "Version: 0.0.1"), "Version is '0.0.1'"),
        (ABI3, "METADATA", ("# negfast", ""), "description"),
        (ABI3, "WHEEL", ("abi3", "cp311"), "WHEEL has the tags"),
        ("cp312-abi3-linux_x86_64", None, None, "neither cp311-abi3 nor"),
        ("cp312-cp312-linux_x86_64", None, None, "neither cp311-abi3 nor"),
    ],
)
def test_a_wrong_wheel_does_not_pass(
    tag: str, name: str | None, change: str | tuple[str, str] | None, problem: str, tmp_path: Path
) -> None:
    files = contents(tag)
    if name is not None:
        name = next((known for known in files if known.endswith(f"/{name}")), name)
        if change is None:
            del files[name]
        else:
            files[name] = change if isinstance(change, str) else files[name].replace(*change)
    found = list(wheel_problems(write(tmp_path, files, tag)))
    assert [line for line in found if problem in line], found


@pytest.mark.parametrize(
    ("tag", "version", "free_threaded", "fits"),
    [
        (ABI3, (3, 11), False, True),
        (ABI3, (3, 15), False, True),
        (ABI3, (3, 10), False, False),
        (ABI3, (3, 14), True, False),
        (FREE_THREADED, (3, 14), True, True),
        (FREE_THREADED, (3, 15), True, False),
        (FREE_THREADED, (3, 14), False, False),
    ],
)
def test_which_interpreter_loads_a_wheel(tag: str, version: tuple[int, int], free_threaded: bool, fits: bool) -> None:
    found = tags(Path(f"negfast-{distributions.version()}-{tag}.whl"))
    assert found.fits(version, free_threaded=free_threaded) == fits
