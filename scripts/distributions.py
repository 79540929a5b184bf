"""What a source distribution and a wheel of negfast hold, and what they must not: checks that build nothing."""

import re
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
MAX_WHEEL_BYTES = 4 * MIB
MAX_SDIST_BYTES = 1 * MIB
COMPILED = {".so", ".pyd", ".dll", ".dylib", ".pyc", ".pyo"}
SDIST_ROOT_FILES = {"Cargo.lock", "Cargo.toml", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
DIST_INFO_FILES = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
WHEEL_NAME = re.compile(r"(?P<name>\w+)-(?P<version>[^-]+)-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")


@dataclass(frozen=True)
class Tags:
    """What the name of a wheel says about where it runs."""

    python: str
    abi: str
    platform: str

    @property
    def free_threaded(self) -> bool:
        """Whether only a free-threaded interpreter loads the wheel."""
        return self.abi.endswith("t")

    def fits(self, version: tuple[int, int], *, free_threaded: bool) -> bool:
        """Return whether such an interpreter loads the wheel, on a platform that does."""
        built_for = int(self.python[2]), int(self.python[3:])
        if self.abi == "abi3":
            return version >= built_for and not free_threaded
        return version == built_for and free_threaded == self.free_threaded


def project() -> dict[str, object]:
    """Return the table [project] of pyproject.toml."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def extras() -> dict[str, list[str]]:
    """Return what each extra requires."""
    return project()["optional-dependencies"]  # type: ignore[return-value]


def version() -> str:
    """Return the version, which Cargo.toml holds."""
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    return str(cargo["workspace"]["package"]["version"])


def tags(wheel: Path) -> Tags:
    """Return the tags in a wheel's name."""
    match = WHEEL_NAME.fullmatch(wheel.name)
    if match is None:
        raise ValueError(f"{wheel.name} is no name of a wheel")
    return Tags(match["python"], match["abi"], match["platform"])


def sdist_problems(sdist: Path) -> Iterator[str]:
    """Yield what is wrong with a source distribution."""
    top = f"negfast-{version()}"
    if sdist.name != f"{top}.tar.gz":
        yield f"the name is {sdist.name}, not {top}.tar.gz"
    yield from _size_problems(sdist, MAX_SDIST_BYTES)
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    needed = SDIST_ROOT_FILES | _files("python/negfast")
    for crate in ("negfast-core", "negfast-py"):
        needed |= {f"rust/{crate}/Cargo.toml"} | _files(f"rust/{crate}/src")
    yield from (f"{name} is missing" for name in sorted(needed - names))
    for name in sorted(names - needed):
        if _is_stray(name) or not name.startswith(("python/negfast/", "rust/negfast-core/", "rust/negfast-py/")):
            yield f"{name} does not belong in it"


def wheel_problems(wheel: Path) -> Iterator[str]:
    """Yield what is wrong with a wheel."""
    yield from _tag_problems(wheel)
    yield from _size_problems(wheel, MAX_WHEEL_BYTES)
    information = f"negfast-{version()}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        if f"{information}METADATA" not in names or f"{information}WHEEL" not in names:
            yield f"there is no {information} with METADATA and WHEEL"
            return
        metadata = BytesParser().parsebytes(archive.read(f"{information}METADATA"))
        described = BytesParser().parsebytes(archive.read(f"{information}WHEEL"))
    yield from _content_problems(names, information)
    yield from _metadata_problems(metadata)
    expected = {f"{tags(wheel).python}-{tags(wheel).abi}-{part}" for part in tags(wheel).platform.split(".")}
    if set(described.get_all("Tag", [])) != expected:
        yield f"WHEEL has the tags {described.get_all('Tag')}, the name says {sorted(expected)}"


def _tag_problems(wheel: Path) -> Iterator[str]:
    if not wheel.name.startswith(f"negfast-{version()}-"):
        yield f"the name is {wheel.name}, which is not of version {version()}"
    oldest = str(project()["requires-python"]).removeprefix(">=").replace(".", "")
    tag = tags(wheel)
    is_free_threaded = re.fullmatch(r"cp3\d+t", tag.abi) is not None and tag.abi == f"{tag.python}t"
    if not is_free_threaded and (tag.python, tag.abi) != (f"cp{oldest}", "abi3"):
        yield f"the tags are {tag.python}-{tag.abi}, neither cp{oldest}-abi3 nor those of a free-threaded Python"


def _size_problems(path: Path, limit: int) -> Iterator[str]:
    if path.stat().st_size > limit:
        yield f"it has {path.stat().st_size / MIB:.2f} MiB, more than {limit / MIB:.0f}"


def _content_problems(names: set[str], information: str) -> Iterator[str]:
    package = {name.removeprefix("python/") for name in _files("python/negfast")}
    modules = {name for name in names if re.fullmatch(r"negfast/_negfast[^/]*\.(so|pyd)", name)}
    if len(modules) != 1:
        yield f"it holds {len(modules)} compiled modules, not one: {sorted(modules)}"
    needed = package | {information + name for name in DIST_INFO_FILES}
    yield from (f"{name} is missing" for name in sorted(needed - names))
    for name in sorted(names - needed - modules):
        # maturin adds a bill of materials where it can.
        if not name.startswith(f"{information}sboms/"):
            yield f"{name} does not belong in it"


def _metadata_problems(metadata: Message) -> Iterator[str]:
    for field, expected in (
        ("Name", "negfast"),
        ("Version", version()),
        ("Requires-Python", project()["requires-python"]),
        ("License-Expression", project()["license"]),
    ):
        if metadata[field] != expected:
            yield f"{field} is {metadata[field]!r}, not {expected!r}"
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    if required != project()["dependencies"]:
        yield f"without extras it requires {required}, not {project()['dependencies']}"
    if set(metadata.get_all("Provides-Extra", [])) != set(extras()):
        yield f"the extras are {metadata.get_all('Provides-Extra')}, not {sorted(extras())}"
    if not str(metadata.get_payload()).strip():
        yield "the description, which is README.md, is missing"


def _files(folder: str) -> set[str]:
    """Return the sources in a folder of the checkout, as names relative to it."""
    paths: Iterable[Path] = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {name for name in (path.relative_to(ROOT).as_posix() for path in paths) if not _is_stray(name)}


def _is_stray(name: str) -> bool:
    """Return whether a file is something that working in the checkout leaves behind."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return hidden or path.suffix in COMPILED
