"""Files of embeddings: mapped as they are, refused in one line, written piece by piece."""

import json
import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negfast.errors import InvalidTypeError, InvalidValueError, NegfastError, StateError
from negfast.files.embeddings import EmbeddingWriter, open_embeddings, tensor_of

ROWS = np.arange(16, dtype=np.float32).reshape(4, 4)


def header(fields: str, version: tuple[int, int] = (1, 0), body: bytes = ROWS.tobytes()) -> bytes:
    text = fields.encode() + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return bytes(np.lib.format.magic(*version)) + length + text + body


def fields(shape: str = "(4, 4)", descr: str = "'<f4'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


def fails(spec: str | Path, kind: type[BaseException] = NegfastError) -> str:
    """Check that a file is refused in one line of bearable length that names it."""
    with pytest.raises(kind) as caught:
        open_embeddings(spec)
    message = str(caught.value)
    assert Path(spec).name.split(":")[0] in message
    assert "\n" not in message
    assert len(message) < 600
    return message


# .npy


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shape", [(4, 4), (0, 4), (1, 1), (3, 7)])
def test_maps_npy(tmp_path: Path, dtype: Any, shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    found = open_embeddings(tmp_path / "x.npy")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, rows)
    assert not found.flags.writeable or not found.size


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_of_the_header_and_odd_places(tmp_path: Path, version: tuple[int, int]) -> None:
    for padding in range(5):  # headers of some writers are not padded
        (tmp_path / "x.npy").write_bytes(header(fields() + " " * padding, version, ROWS.tobytes() + b"more"))
        np.testing.assert_array_equal(open_embeddings(tmp_path / "x.npy"), ROWS)


def test_one_row_or_column_has_no_order(tmp_path: Path) -> None:
    for shape in ((1, 4), (4, 1)):
        np.save(tmp_path / "x.npy", np.asfortranarray(ROWS[: shape[0], : shape[1]]))
        np.testing.assert_array_equal(open_embeddings(tmp_path / "x.npy"), ROWS[: shape[0], : shape[1]])


@pytest.mark.parametrize(
    ("array", "kind", "pattern"),
    [
        (np.asfortranarray(ROWS), InvalidValueError, "Fortran order; save np.ascontiguousarray"),
        (ROWS.astype(">f4"), InvalidTypeError, "got >f4"),
        (ROWS.astype(np.float64), InvalidTypeError, "float64"),
        (ROWS.astype(np.int8), InvalidTypeError, "int8"),
        (ROWS.astype(np.complex64), InvalidTypeError, "complex64"),
        (ROWS.astype(str), InvalidTypeError, "U32"),
        (ROWS.astype("M8[s]"), InvalidTypeError, "M8"),
        (np.zeros((4, 4), [("a", "f4"), ("漢", "f4")]), InvalidTypeError, "a.*f4"),
        (np.array([[None, {}]]), InvalidTypeError, "O"),
        (np.float32(1), InvalidValueError, r"\(\)"),
        (ROWS[0], InvalidValueError, r"\(4,\)"),
        (ROWS.reshape(2, 2, 4), InvalidValueError, r"\(2, 2, 4\)"),
        (ROWS[:, :0], InvalidValueError, r"\(4, 0\)"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_arrays_of_other_kinds(tmp_path: Path, array: Any, kind: type[Exception], pattern: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(kind, match=pattern):
        open_embeddings(tmp_path / "x.npy")
    fails(tmp_path / "x.npy")


HUGE = 2**61
BAD_HEADERS = [
    *(fields(shape) for shape in (
        "(-4, 4)", "(-4, -4)", "(4.0, 4)", "(True, 4)", "[4, 4]", "None", "4", "'x'", "(4, 'x')",
        f"({HUGE}, {HUGE})", f"({HUGE}, 8)", f"(0, {HUGE})", f"({HUGE}, 0)", f"({'9' * 4000}, 4)", f"({'9' * 5000}, 4)",
        "(5, 4)", "(4, 5)", f"({'1, ' * 70})", "(4, 4", "(4L, 5L)",
    )),
    *(fields(descr=descr) for descr in ("'zz'", "None", "3", "b'<f4'", "'<f4,<f4'", "'|V2'", "('<f4', (4,))", "'|a4'",
                                        "'\\d'", "[('a', '<f4')]", "'|O'", "'<f99999999999'")),
    fields(fortran="3"), fields(fortran="None"),
    "", "{}", "{'descr': '<f4'}", "{[]: 1}", "{'a\0'", "1 is 2", "__import__('os')", "\x01", "漢字", "'''",
    "(" * 60_000, "[" * 5000 + "]" * 5000, "-" * 5000 + "1", "1+" * 8000 + "1",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_bad_headers(tmp_path: Path, text: str, version: tuple[int, int]) -> None:
    (tmp_path / "x.npy").write_bytes(header(text, version))
    fails(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04zip",
        b"\x93NUMPY\x09\0" + bytes(99),
        b"\x93NUMPY\x02\0\xff\xff\xff\xff{}",
        bytes(200),
    ],
)
def test_other_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    assert "write it again" in fails(tmp_path / "x.npy", StateError)


def test_cut_off_or_changed_anywhere(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.npy", header(fields())
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        fails(path, StateError)
    rng = np.random.default_rng(0)
    for _ in range(1000):
        data = bytearray(whole)
        for place in rng.integers(len(whole) - ROWS.nbytes, size=2):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        with suppress(NegfastError):  # it need not fail
            open_embeddings(path)


# .safetensors


def safetensors(tensors: dict[str, tuple[str, list[int], int]], *, cut: int = 0) -> bytes:
    entries, end = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(entries).encode()
    return struct.pack("<Q", len(head)) + head + bytes(range(128)) * (end // 128) + bytes(range(end % 128 - cut))


def test_maps_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for first in range(5):  # a matrix may lie at any byte
        path.write_bytes(safetensors({"a": ("U8", [first], first), "b": ("F32", [3, 4], 48)}))
        data = path.read_bytes()[-48:]
        np.testing.assert_array_equal(open_embeddings(path), np.frombuffer(data, np.float32).reshape(3, 4))
        np.testing.assert_array_equal(open_embeddings(f"{path}:b"), open_embeddings(path))


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    torch, save = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch").save_file
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save({"rows": rows}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(open_embeddings(tmp_path / "x.safetensors"), rows.float().numpy())


def test_tensors_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        safetensors(
            {"a": ("F32", [2, 4], 32), "b:c": ("F16", [2, 2], 8), "d\ne": ("F32", [3], 12), "": ("F32", [0, 2], 0)}
        )
    )
    assert open_embeddings(f"{path}:a").shape == (2, 4)
    assert open_embeddings(f"{path}:").shape == (0, 2)
    assert "got 3" in fails(path)
    assert "'nope'" in fails(f"{path}:nope")
    assert "(3,)" in fails(f"{path}:d\ne")
    assert tensor_of("a.safetensors:b") == (Path("a.safetensors"), "b")
    assert tensor_of("c:/a.npy") == (Path("c:/a.npy"), None)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"a": ("F64", [2, 2], 32)},
        {"a": ("I8", [4, 4], 16)},
        {"a": ("F8_E4M3", [4, 4], 16)},
        {"a": ("X", [4, 4], 16)},
        {"a": ("F32", [4, 0], 0)},
        {"a": ("F32", [4], 16)},
        {"a": ("F32", [-1, -4], 16)},
        {"a": ("F32", [2**62, 8], 16)},
        {"a": ("F32", [0, 2**62], 0)},
        {"a": ("F32", [0, 2**63], 0)},
        {"a": ("BF16", [0, 2**63], 0)},
        {f"{i}" * 200: ("F32", [1, 1], 4) for i in range(20)},
    ],
)
def test_bad_safetensors(tmp_path: Path, tensors: Any) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors(tensors))
    fails(path)


def test_cut_off_safetensors(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.safetensors", safetensors({"a": ("F32", [2, 4], 32)})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        fails(path, StateError)
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    fails(path, StateError)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_files_that_are_not_there(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    fails(tmp_path / f"folder{suffix}", OSError)
    fails(tmp_path / f"gone{suffix}", FileNotFoundError)
    fails(tmp_path / f"x{suffix}.gz", InvalidValueError)


# Writing


BREAKS = st.tuples(st.lists(st.integers(0, 4), max_size=4), st.integers(0, 9), st.integers(0, 300))


@given(n=st.integers(0, 12), dim=st.integers(1, 5), half=st.booleans(), breaks=st.lists(BREAKS, max_size=4))
def test_written_in_pieces_and_resumed(
    n: int, dim: int, half: bool, breaks: list[tuple[list[int], int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However often writing breaks off and goes on, the file is that of one np.save."""
    path, dtype = tmp_path_factory.mktemp("rows") / "x.npy", np.float16 if half else np.float32
    rows = np.random.default_rng(0).standard_normal((n, dim)).astype(dtype)
    for pieces, kept, size in breaks:
        writer = EmbeddingWriter(path, dim, dtype=dtype, resume=True)
        writer.truncate(min(kept, writer.rows))
        for piece in pieces:
            writer.append(rows[writer.rows : writer.rows + piece])
        writer.__exit__(KeyboardInterrupt, None, None)
        growing = path.with_name("x.npy.growing")
        os.truncate(growing, min(size, growing.stat().st_size))  # what a crash leaves
    with EmbeddingWriter(path, dim, dtype=dtype, resume=True) as writer:
        writer.append(rows[writer.rows :])
    np.testing.assert_array_equal(np.load(path), rows)
    np.testing.assert_array_equal(open_embeddings(path), rows)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.npy"]


def test_nothing_has_the_name_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(KeyboardInterrupt), EmbeddingWriter(path, 4) as writer:  # noqa: PT012
        writer.append(ROWS)
        raise KeyboardInterrupt
    assert not path.exists()
    with EmbeddingWriter(path, 4) as writer:  # starts anew unless told to go on
        assert writer.rows == 0
    assert open_embeddings(path).shape == (0, 4)


def test_rows_of_another_width(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidValueError, match=r"width 4, got \(4, 2\)"),
        EmbeddingWriter(tmp_path / "x.npy", 4) as writer,
    ):
        writer.append(ROWS[:, :2])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
@pytest.mark.parametrize("limit", [64, 1000, 4096])
def test_a_full_disk(tmp_path: Path, limit: int) -> None:
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from negfast.files.embeddings import EmbeddingWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "try:\n"
        "    with EmbeddingWriter(Path('x.npy'), 4) as writer:\n"
        "        for _ in range(100): writer.append(np.ones((4, 4), np.float32))\n"
        "except OSError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(limit)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "too large" in done.stdout
    assert "x.npy" in done.stdout
    assert not (tmp_path / "x.npy").exists()
    with EmbeddingWriter(tmp_path / "x.npy", 4, resume=True) as writer:
        np.testing.assert_array_less(writer.rows, limit // 16)
