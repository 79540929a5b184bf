"""Reading what safetensors files hold, and what becomes of files that cannot be read or written."""

import contextlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import negfast
from negfast._negfast import read_tensors, safetensors_layout, write_tensors

NUMPY = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
NUMPY += ["float16", "float32", "float64", "complex64"]
OTHERS = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
ONE = [("x", "uint8", [4], np.arange(4, dtype=np.uint8))]


def written(path: Path, header: Any, body: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def test_the_layout_leads_to_the_numbers(tmp_path: Path) -> None:
    saving = pytest.importorskip("safetensors.numpy")
    arrays = {name: np.arange(6).reshape(2, 3).astype(name) for name in NUMPY}
    arrays |= {"empty": np.zeros((0, 4), np.float32), "scalar": np.array(7.0)}
    path = tmp_path / "all.safetensors"
    saving.save_file(arrays, path)
    found = safetensors_layout(path)
    assert {row[0] for row in found} == set(arrays)
    assert [row[3] for row in found] == sorted(row[3] for row in found)
    for name, dtype, shape, offset, n_bytes in found:
        assert (dtype, tuple(shape), n_bytes) == (str(arrays[name].dtype), arrays[name].shape, arrays[name].nbytes)
        numbers = np.fromfile(path, dtype, count=n_bytes // np.dtype(dtype).itemsize, offset=offset)
        np.testing.assert_array_equal(numbers.reshape(shape), arrays[name])


@pytest.mark.parametrize("name", OTHERS)
def test_types_that_numpy_lacks_have_names_too(tmp_path: Path, name: str) -> None:
    size = 4 if name == "BF16" else 2
    path = written(tmp_path / "file", entry(name, offsets=(0, size)), b"\0" * size)
    assert safetensors_layout(str(path))[0][1] == OTHERS[name]


def test_only_the_header_is_read(tmp_path: Path) -> None:
    """A file of a terabyte, of which the disk holds a page."""
    size = 2**40
    path = written(tmp_path / "sparse", entry("U8", (size,), (0, size)))
    try:
        os.truncate(path, path.stat().st_size + size)
    except OSError:
        pytest.skip("no sparse file of this size here")
    assert safetensors_layout(path)[0][2] == [size]


BELIED = {
    "empty": b"",
    "seven bytes": b"\2\0\0\0\0\0\0",
    "header of 2**64 - 1 bytes": b"\xff" * 8 + b"{}",
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "header longer than allowed": struct.pack("<Q", 100_000_001) + b"{}",
    "no JSON": struct.pack("<Q", 2) + b"[}",
    "no UTF-8": struct.pack("<Q", 3) + b'"\xff"',
}
HEADERS: dict[str, tuple[Any, int]] = {
    "a list": ([], 0),
    "deep": (b"[" * 100_000, 0),
    "too little data": (entry(), 7),
    "too much data": (entry(), 9),
    "shape and size differ": (entry(shape=(3,)), 8),
    "a gap": (entry(offsets=(8, 16)), 16),
    "backwards": (entry(offsets=(8, 0)), 8),
    "overlapping": (entry() | {"y": entry()["x"]}, 8),
    "negative": (entry(shape=(-2, -1)), 8),
    "shape that overflows": (entry("U8", (2**33, 2**33), (0, 8)), 8),
    "size that overflows": (entry("F32", (2**62,), (0, 2**64 - 8)), 8),
    "empty and too wide": (entry(shape=(0, 2**62), offsets=(0, 0)), 0),
    "unknown type": (entry("F7"), 8),
    "half a byte": (entry("F4", (3,), (0, 1)), 1),
}


@pytest.mark.parametrize("read", [safetensors_layout, read_tensors, negfast.MinedNegatives.load])
def test_what_the_file_belies_is_refused(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "file"
    for name, raw in BELIED.items():
        path.write_bytes(raw)
        with pytest.raises(negfast.StateError, match="file is no ") as caught:
            read(path)
        assert len(str(caught.value)) < 1000, name
    for header, size in HEADERS.values():
        with pytest.raises(negfast.StateError, match="file is no "):
            read(written(path, header, b"\0" * size))


@given(st.data())
def test_any_bytes_are_a_layout_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A legal file with some bytes of it replaced."""
    text = json.dumps({"__metadata__": {"negfast": "{}"}} | entry()).encode()
    raw = bytearray(struct.pack("<Q", len(text)) + text + b"\0" * 8)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    path = tmp_path_factory.getbasetemp() / "altered"
    path.write_bytes(raw)
    for read in (safetensors_layout, read_tensors):
        with contextlib.suppress(negfast.StateError):
            read(path)


@pytest.mark.parametrize("read", [safetensors_layout, read_tensors])
def test_what_cannot_be_read_is_the_usual_error(tmp_path: Path, read: Any) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        read(tmp_path / "nothing")
    assert missing.value.filename == str(tmp_path / "nothing")
    assert "os error" not in str(missing.value)
    with pytest.raises(IsADirectoryError) as folder:
        read(tmp_path)
    assert folder.value.filename == str(tmp_path)
    with pytest.raises(NotADirectoryError):
        read(Path(__file__) / "below")
    with pytest.raises(OSError, match="NUL"):
        read(f"{tmp_path}/a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_reading_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(negfast.StateError, match="pipe"):
        safetensors_layout(tmp_path / "pipe")


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "file", FileNotFoundError)):
        with pytest.raises(error) as caught:
            write_tensors(path, ONE, "")
        assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
    assert not list(tmp_path.parent.glob("*.part"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_is_closed_for_writing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write_tensors(tmp_path / "file", ONE, "")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no such device here")
def test_a_device_is_written_to_and_stays_one() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write_tensors("/dev/full", ONE, "")
    assert caught.value.filename == "/dev/full"
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", ONE, "")
    before = (tmp_path / "file").read_bytes()
    code = (
        "import resource, sys, numpy as np\n"
        "from negfast._negfast import write_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    write_tensors(sys.argv[1], [('x', 'uint8', [9000], np.zeros(9000, np.uint8))], '')\n"
        "except OSError as error:\n"
        "    sys.exit(0 if error.filename == sys.argv[1] else 'another name')\n"
        "sys.exit('written')"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "file"], check=True, timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == before


def test_a_part_that_was_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"file.{os.getpid()}-{number}.part").touch()
    write_tensors(tmp_path / "file", ONE, "text")
    tensors, text = read_tensors(tmp_path / "file")
    assert (text, tensors[0][3].tolist()) == ("text", [0, 1, 2, 3])
