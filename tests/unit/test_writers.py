"""Files that are whole or not there."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negfast.errors import InvalidValueError, StateError
from negfast.files.tables import read_columns
from negfast.files.writers import Kind, RowWriter, check_writable, replacing

COLUMNS: dict[str, Kind] = {"a": "string", "b": "int", "c": "float", "d": "strings", "e": "ints", "f": "floats"}
TEXTS = st.text(st.characters(), max_size=8)  # half surrogate pairs too
INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ROWS = st.lists(
    st.tuples(
        *(values | st.none() for values in (TEXTS, INTEGERS, FLOATS)),
        *(st.lists(values | st.none(), max_size=3) | st.none() for values in (TEXTS, INTEGERS, FLOATS)),
    ),
    max_size=6,
)


def write(path: Path, pieces: list[list[tuple[Any, ...]]]) -> bytes:
    with RowWriter(path, COLUMNS) as writer:
        for rows in pieces:
            writer.write({name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)})
    return path.read_bytes()


def clean(value: Any) -> Any:
    if isinstance(value, list):
        return [clean(part) for part in value]
    return re.sub("[\ud800-\udfff]", "?", value) if isinstance(value, str) else value


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@given(pieces=st.lists(ROWS, max_size=3))
def test_reads_back(suffix: str, pieces: list[list[tuple[Any, ...]]], tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("rows") / f"x{suffix}"
    data = write(path, pieces)
    found = read_columns(path, list(COLUMNS))
    rows = [row for piece in pieces for row in piece]
    assert found == {name: [clean(row[i]) for row in rows] for i, name in enumerate(COLUMNS)}
    assert write(path, pieces) == data
    assert os.listdir(path.parent) == [path.name]


def test_lines_are_plain_json(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", [[("Füße\u2028\n", 1, 0.5, ["\ud800"], [], None)], []])
    assert (tmp_path / "x.jsonl").read_bytes() == (
        '{"a": "Füße\u2028\\n", "b": 1, "c": 0.5, "d": ["?"], "e": [], "f": null}\n'.encode()
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / f"x{suffix}"
    path.write_text("before")
    writer = RowWriter(path, COLUMNS)
    with pytest.raises(KeyboardInterrupt), writer:  # noqa: PT012
        writer.write({name: [None] for name in COLUMNS})
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_no_folder(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "none" / f"x{suffix}"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        RowWriter(path, COLUMNS).__enter__()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_errors_name_the_file_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=rf"No space left.*{re.escape(str(tmp_path / 'x.jsonl'))}"):  # noqa: SIM117, PT012
        with replacing(tmp_path / "x.jsonl") as temporary, Path("/dev/full").open("w") as full:
            temporary.write_text("half")
            full.write("more")
    with pytest.raises(OSError, match=r"pyarrow says so.*x.jsonl"), replacing(tmp_path / "x.jsonl"):
        raise OSError("pyarrow says so")
    with pytest.raises(FileNotFoundError, match="'another'"), replacing(tmp_path / "x.jsonl"):
        open("another")  # noqa: SIM115
    with pytest.raises(StateError), replacing(tmp_path / "x.jsonl"):
        raise StateError("not about files")
    with pytest.raises(FileNotFoundError, match="none"), replacing(tmp_path / "none" / "x") as temporary:
        temporary.write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"), replacing(tmp_path / "folder") as temporary:
        temporary.write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_replaces_several_and_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 240 + ".jsonl")
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "x.jsonl"
    link.symlink_to(tmp_path / "there" / "y.jsonl")
    for text in ("first", "second"):
        with replacing(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink()
        assert (tmp_path / "there" / "y.jsonl").read_text() == text


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("x.csv", "parquet or .jsonl"),
        ("x", "parquet or .jsonl"),
        ("folder.jsonl", "folder"),
        ("none/x.jsonl", "make it first"),
        ("file/x.jsonl", "make it first"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path: Path, name: str, pattern: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidValueError, match=f"^--output must .*{pattern}"):
        check_writable(tmp_path / name, "--output")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(InvalidValueError, match="plain file"):
        check_writable(tmp_path / "x.jsonl", "--output")


def test_json_of_python_is_what_others_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write(tmp_path / "x.jsonl", [[("", 1, float("nan"), [], [], [])]])
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "x.jsonl", [[("", 1, 3e38, [], [], [])]])
    assert json.loads((tmp_path / "x.jsonl").read_text())["c"] == 3e38
