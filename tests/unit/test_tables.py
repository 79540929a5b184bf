"""Tables that users bring: what is read, and one clear line for what cannot be."""

import re
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negfast.errors import InvalidTypeError, InvalidValueError, MissingExtraError, NegfastError
from negfast.files.tables import group_numbers, ids, read_columns, text_lists, texts


def read(path: Path, *names: str) -> dict[str, list[Any]]:
    return read_columns(path, names or ("a",))


def fails(call: Callable[[], object], path: Path, pattern: str = "") -> None:
    """Check that a call fails in one line of bearable length that names the file."""
    with pytest.raises((NegfastError, OSError)) as caught:
        call()
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 600
    assert re.search(pattern, message), message


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", []),
        (b'{"a": "x"}\n{"a": null}', ["x", None]),
        (b'\xef\xbb\xbf{"a": "x"}\n', ["x"]),
        (b'\n{"a": "x"}\n  \n\r\n{"a": "y"}\n\n', ["x", "y"]),
        (b'{"a": "x"}\r\n{"a": "y"}\r\n', ["x", "y"]),
        (b'{"a": 1, "a": 2}', [2]),
        (b'{"b": 0, "a": ["x", "y"]}', [["x", "y"]]),
        ('{"a": "Füße 漢字"}'.encode(), ["Füße 漢字"]),
        (b'{"a": "\\ud800 half"}', ["\ud800 half"]),
        (b'{"a": "\\ud83d\\ude00"}', ["\U0001f600"]),
        (b'{"a": ' + b"9" * 4000 + b"}", [int("9" * 4000)]),
    ],
)
def test_reads_jsonl(tmp_path: Path, data: bytes, values: list[Any]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(data)
    assert read(path) == {"a": values}


GOOD = b'{"a": "x"}\n'


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        (GOOD + b'{"a": "x"\n', "line 2"),
        (GOOD + b'\n\n{"a": "x"} {"a": "y"}\n', "line 4"),
        (GOOD + b"[1]\n", r"line 2.*list \[1\]"),
        (b"null", "line 1.*NoneType"),
        (b'"a"', "line 1.*str"),
        (b'{"b": 1}', "line 1.*'a'.*'b'"),
        (b'{"\\ud800": 1}', "line 1"),
        (b'{"a": "\xff"}', "line 1.*UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "line 1.*UTF-8"),
        ('{"a": "x"}\n'.encode("utf-16"), "line 1.*UTF-8"),
        (b"\0" * 30, "line 1"),
        (GOOD.replace(b"\n", b"\r") * 2, "line 1"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 1.*digits"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "line 1.*recursion"),
        (b"\x1f\x8b\x08\x00gzip", "line 1"),
    ],
)
def test_bad_jsonl(tmp_path: Path, data: bytes, pattern: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(data)
    fails(lambda: read(path), path, pattern)


@pytest.mark.parametrize("depth", [500, 900, 950, 980, 990, 995, 1000])
def test_deep_nesting_is_a_value_like_any_other(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"t.jsonl": {"[" * depth}{"]" * depth}}}\n{"[" * depth}{"]" * depth}')
    fails(lambda: texts("t.jsonl", read(path, "t.jsonl")["t.jsonl"]), path)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_files_that_are_not_there(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    fails(lambda: read(folder), folder)
    gone = tmp_path / f"gone{suffix}"
    with pytest.raises(FileNotFoundError, match="gone"):
        read(gone)


@pytest.mark.parametrize("name", ["t.csv", "t", "t.parquet.gz", ".parquet"])
def test_other_kinds_of_files(tmp_path: Path, name: str) -> None:
    fails(lambda: read(tmp_path / name), tmp_path / name, "convert it")


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"negfast\[cli\]"):
        read(tmp_path / "t.parquet")


# Parquet


def write(path: Path, column: Any, **others: Any) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": column, **others}), path)
    return path


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda pa: pa.array(["x", "y", None, "x"]).dictionary_encode(), ["x", "y", None, "x"]),
        (lambda pa: pa.array(["x"], pa.large_string()), ["x"]),
        (lambda pa: pa.array(["x", "a text of more than twelve bytes"], pa.string_view()),
         ["x", "a text of more than twelve bytes"]),
        (lambda pa: pa.array([["x"], None, []]), [["x"], None, []]),
        (lambda pa: pa.array([["x", None]], pa.large_list(pa.string())), [["x", None]]),
        (lambda pa: pa.array([[1, 2]], pa.list_(pa.int64(), 2)), [[1, 2]]),
        (lambda pa: pa.array([{"f": 1}]), [{"f": 1}]),
        (lambda pa: pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (lambda pa: pa.nulls(2), [None, None]),
        (lambda pa: pa.array([], pa.string()), []),
        (lambda pa: pa.chunked_array([["x"], ["y"]]), ["x", "y"]),
    ],
)  # fmt: skip
def test_reads_parquet(tmp_path: Path, make: Callable[[Any], Any], values: list[Any]) -> None:
    column = make(pytest.importorskip("pyarrow"))
    assert read(write(tmp_path / "t.parquet", column)) == {"a": values}


@pytest.mark.parametrize(
    "make",
    [
        lambda pa: pa.array([2**30], pa.date32()),
        lambda pa: pa.array([2**62], pa.duration("s")),
        lambda pa: pa.array([1], pa.timestamp("us", tz="No/Where")),
        lambda pa: pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 1)),
                                                          pa.py_buffer(b"\xff")]),
    ],
)  # fmt: skip
def test_values_that_python_lacks(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    path = write(tmp_path / "t.parquet", make(pytest.importorskip("pyarrow")))
    fails(lambda: read(path), path, "column 'a'.*convert it")


def test_values_that_are_no_texts(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    for column in ([b"x"], [1.5], [True], [{"f": "x"}], pa.array([1], pa.timestamp("us")), [[["x"]]], [["x", None]]):
        (values,) = read(write(tmp_path / "t.parquet", column)).values()
        for check in (texts, text_lists, ids, lambda label, found: group_numbers((label, found))):
            if column == [["x", None]] or check is not texts:
                fails(lambda check=check, values=values: check("t.parquet", values), tmp_path / "t.parquet")


def test_columns_by_name(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    fails(lambda: read(path), path, "one column 'a', got 2")
    fails(lambda: read(path, "b"), path, "got none among 'a'")
    write(path, [{"b": 1}], **{"a.b": [2], "": [3]})
    assert read(path, "a.b", "a", "") == {"a.b": [2], "a": [{"b": 1}], "": [3]}
    write(path, [{"b": 1}])
    fails(lambda: read(path, "a.b"), path, "got none")


def test_damaged_parquet(tmp_path: Path) -> None:
    """A file that is cut off anywhere is refused; one with changed bytes is refused or read, never a crash."""
    path = write(tmp_path / "t.parquet", [["x"] * 5] * 20, b=[f"text {i}" for i in range(20)])
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        fails(lambda: read(path, "a", "b"), path, "must be a parquet file")
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        with suppress(NegfastError):  # it need not fail
            read(path, "a", "b")
    path.write_bytes(GOOD)
    fails(lambda: read(path), path)


# What columns must hold


def test_texts_and_lists() -> None:
    assert texts("c", ["x", ""]) == ["x", ""]
    assert text_lists("c", ["x", None, [], ["y", "z"]]) == [["x"], [], [], ["y", "z"]]
    for bad in (None, 1, float("nan"), ["x"]):
        with pytest.raises(InvalidTypeError, match=r"^c must hold texts, got .* in row 1; "):
            texts("c", ["x", bad])
    for bad in (1, ["x", None], [["x"]], {"x": 1}):
        with pytest.raises(InvalidTypeError, match=r"^c must hold texts or lists.* in row 1; "):
            text_lists("c", ["x", bad])


@pytest.mark.parametrize("good", [[], [3, -1, 2**63 - 1], ["b", "a", ""]])
def test_ids(good: list[Any]) -> None:
    assert ids("c", good) == good


@pytest.mark.parametrize(
    ("bad", "error", "pattern"),
    [
        ([1, "1"], InvalidTypeError, "integers.* got str '1' in row 1"),
        (["1", 1], InvalidTypeError, "texts like the first, got int 1 in row 1"),
        ([True], InvalidTypeError, "bool True in row 0"),
        ([1.0], InvalidTypeError, "float"),
        ([None], InvalidTypeError, "NoneType"),
        (["a", None], InvalidTypeError, "NoneType"),
        ([2**63], InvalidValueError, "64 bits"),
        ([10**5000], InvalidValueError, "64 bits"),
        ([7, 8, 7], InvalidValueError, "got 7 in rows 0 and 2"),
        ([[]], InvalidTypeError, "list"),
    ],
)
def test_bad_ids(bad: list[Any], error: type[Exception], pattern: str) -> None:
    with pytest.raises(error, match=pattern):
        ids("c", bad)


def test_groups_are_numbered_across_columns() -> None:
    first, second = group_numbers(("c", ["x", None, ["y", "x"], 1, "1"]), ("d", [["1", 1], [], "z"]))
    assert first == [[0], [], [1, 0], [2], [3]]
    assert second == [[3, 2], [], [4]]
    for bad in (1.5, True, ["x", None], {"x": 1}, [["x"]]):
        with pytest.raises(InvalidTypeError, match=r"^c must hold .* in row 1; "):
            group_numbers(("c", ["x", bad]))
