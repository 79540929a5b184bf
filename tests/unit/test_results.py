"""`MinedNegatives` and `TopK`: what they hold, and the way to disk and back."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast


@pytest.fixture
def mined(rows: Any) -> negfast.MinedNegatives:
    corpus, queries = rows(60, 8), rows(20, 8, seed=1)
    positives = [[i] if i % 5 else [] for i in range(20)]
    rules = negfast.Rules(max_score=0.4)
    return negfast.mine(queries, corpus, positives, num_negatives=3, seed=11, rules=rules)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """Split a safetensors file into its JSON header and the bytes after it."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write(path: Path, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def test_round_trip(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    path = tmp_path / "mined.safetensors"
    mined.save(path)
    back = negfast.MinedNegatives.load(path)
    for name in ("indices", "scores", "positive_scores", "tiers"):
        got, want = getattr(back, name), getattr(mined, name)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert back.report.removed == mined.report.removed
    assert list(back.report.removed) == list(mined.report.removed)
    assert back.report.to_dict() == mined.report.to_dict()
    assert str(back.report) == str(mined.report)
    np.testing.assert_array_equal(back.report.suspects.anchors, mined.report.suspects.anchors)


@pytest.fixture
def suspicious(rows: Any) -> negfast.MinedNegatives:
    mined = negfast.mine(rows(60, 8), rows(60, 8, seed=1), np.arange(60), num_negatives=2, suspect_rank=1)
    assert len(mined.report.suspects) > 40
    return mined


def test_suspects_are_saved_as_tensors(suspicious: negfast.MinedNegatives, tmp_path: Path) -> None:
    """There can be as many as positives, too many for the header of the file."""
    path = tmp_path / "mined"
    suspicious.save(path)
    back = negfast.MinedNegatives.load(path)
    header = header_of(path)[0]
    for name, array in vars(suspicious.report.suspects).items():
        got = getattr(back.report.suspects, name)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
        assert header[f"suspect_{name}"]["shape"] == [len(suspicious.report.suspects)]
    assert "suspects" not in json.dumps(header["__metadata__"])
    assert back.report.to_dict() == suspicious.report.to_dict()
    assert len(back.report.to_dict()["suspects"]["ranks"]) == len(suspicious.report.suspects)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("suspect_ranks"),
        lambda header: header["suspect_ranks"].update(dtype="F64"),
        lambda header: header["suspect_ranks"].update(shape=[1, *header["suspect_ranks"]["shape"]]),
        lambda header: header.update(suspect_scores=header["suspect_scores"] | {"shape": [1]}),
    ],
    ids=["missing", "dtype", "two axes", "length"],
)
def test_damaged_suspects_raise_state_error(suspicious: negfast.MinedNegatives, tmp_path: Path, change: Any) -> None:
    path = tmp_path / "mined"
    suspicious.save(path)
    header, body = header_of(path)
    change(header)
    write(path, header, body)
    with pytest.raises(negfast.StateError):
        negfast.MinedNegatives.load(path)


def test_results_compare_and_hash_by_identity(suspicious: negfast.MinedNegatives, rows: Any) -> None:
    found = [negfast.topk(rows(4, 3), rows(4, 3), 2) for _ in range(2)]
    values = [suspicious, suspicious.report.suspects, suspicious.report, *found]
    assert len(set(values)) == len(values)
    assert all(value == value for value in values)
    assert found[0] != found[1]


def test_a_dict_holds_everything(suspicious: negfast.MinedNegatives, tmp_path: Path) -> None:
    state = suspicious.to_dict()
    back = negfast.MinedNegatives.from_dict(state)
    for lists, path in ((back, "back"), (suspicious, "own")):
        lists.save(tmp_path / path)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "own").read_bytes()
    json.dumps(state["settings"], allow_nan=False)
    for change in ({"settings": None}, {"settings": {"kind": "TopK", "format": 2}}, {"indices": state["indices"][:-1]}):
        with pytest.raises(negfast.StateError):
            negfast.MinedNegatives.from_dict({**state, **change})
    with pytest.raises(negfast.StateError):
        negfast.MinedNegatives.from_dict({"settings": state["settings"]})
    with pytest.raises(negfast.InvalidTypeError, match="state must be a mapping"):
        negfast.MinedNegatives.from_dict([])  # type: ignore[arg-type]


def test_bytes_are_paths_too(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "mined")
    mined.save(path)  # type: ignore[arg-type]
    assert len(negfast.MinedNegatives.load(path)) == 20  # type: ignore[arg-type]


def test_text_paths_work_and_saving_again_gives_the_same_bytes(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    mined.save(str(first))
    negfast.MinedNegatives.load(str(first)).save(second)
    assert first.read_bytes() == second.read_bytes()


def test_empty_result_round_trip(tmp_path: Path) -> None:
    empty = negfast.mine(np.ones((0, 2), np.float32), np.ones((0, 2), np.float32), [], num_negatives=4)
    empty.save(tmp_path / "empty")
    assert negfast.MinedNegatives.load(tmp_path / "empty").indices.shape == (0, 4)


def test_saving_replaces_whole_files_and_leaves_nothing_behind(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    path = tmp_path / "mined"
    path.write_bytes(b"old")
    mined.save(path)
    negfast.MinedNegatives.load(path)
    assert os.listdir(tmp_path) == ["mined"]


def test_the_file_is_plain_safetensors(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    path = tmp_path / "mined"
    mined.save(path)
    header, body = header_of(path)
    metadata = header.pop("__metadata__")
    assert all(isinstance(value, str) for value in metadata.values())
    assert negfast.__version__ in json.dumps(metadata)
    start, end = header["indices"]["data_offsets"]
    assert header["indices"]["dtype"] == "I64"
    np.testing.assert_array_equal(np.frombuffer(body[start:end], "<i8").reshape(20, 3), mined.indices)
    assert max(tensor["data_offsets"][1] for tensor in header.values()) == len(body)


def test_the_safetensors_library_reads_it(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    mined.save(tmp_path / "mined")
    tensors = library.load_file(tmp_path / "mined")
    np.testing.assert_array_equal(tensors["indices"], mined.indices)
    np.testing.assert_array_equal(tensors["tiers"], mined.tiers)


def fingerprints(path: Path) -> Any:
    """Read the fingerprints of the inputs out of a file's metadata."""
    found = {}
    for key, value in header_of(path)[0]["__metadata__"].items():
        fields = json.loads(value) if value.startswith("{") else {}
        found |= {name: part for name, part in {key: value, **fields}.items() if name == "fingerprints"}
    return found


def test_fingerprints_tell_inputs_apart(rows: Any, tmp_path: Path) -> None:
    corpus, queries = rows(30, 4), rows(5, 4, seed=1)
    seen = []
    for scale in (1.0, 1.0, 1.5):
        changed = corpus.copy()
        changed[29] *= np.float32(scale)  # cosine: the negatives stay the same
        negfast.mine(queries, changed, [[]] * 5, num_negatives=2).save(tmp_path / "x")
        seen.append(fingerprints(tmp_path / "x"))
    assert seen[0]
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def corruptions(header: dict[str, Any], body: bytes) -> dict[str, bytes]:
    """Make every kind of broken file out of a good one."""

    def pack(changed: dict[str, Any], data: bytes = body) -> bytes:
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data

    def without(name: str) -> dict[str, Any]:
        return {key: value for key, value in header.items() if key != name}

    def altered(name: str, **fields: Any) -> dict[str, Any]:
        return header | {name: header[name] | fields}

    good = pack(header)
    return {
        "empty": b"",
        "four bytes": good[:4],
        "length only": good[:8],
        "half a header": good[:60],
        "half the data": good[: len(good) - len(body) // 2],
        "one byte short": good[:-1],
        "one byte long": good + b"\0",
        "huge header length": struct.pack("<Q", 2**63) + good[8:],
        "header length past the end": struct.pack("<Q", len(good)) + good[8:],
        "not json": good[:8] + b"x" * (len(good) - 8 - len(body)) + body,
        "a list for a header": struct.pack("<Q", 2) + b"[]",
        "another format": b"PK\x03\x04" + bytes(200),
        "no metadata": pack(without("__metadata__")),
        "metadata is not a map": pack(header | {"__metadata__": 3}),
        "no indices": pack(without("indices")),
        "no tiers": pack(without("tiers")),
        "wrong dtype": pack(altered("indices", dtype="F64")),
        "unknown dtype": pack(altered("indices", dtype="Q9")),
        "wrong shape": pack(altered("scores", shape=[7, 7])),
        "negative shape": pack(altered("scores", shape=[-20, -3])),
        "offsets past the end": pack(altered("tiers", data_offsets=[len(body), len(body) + 60])),
        "offsets backwards": pack(altered("tiers", data_offsets=[60, 0])),
        "offsets missing": pack(header | {"tiers": {"dtype": "U8", "shape": [20, 3]}}),
        "overlapping": pack(altered("scores", data_offsets=header["positive_scores"]["data_offsets"])),
    }


def test_corrupt_files_raise_state_error(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    path = tmp_path / "mined"
    mined.save(path)
    for name, raw in corruptions(*header_of(path)).items():
        path.write_bytes(raw)
        with pytest.raises(negfast.StateError) as caught:
            negfast.MinedNegatives.load(path)
        assert str(path) in str(caught.value), name


def test_flipped_metadata_raises_state_error_or_loads(mined: negfast.MinedNegatives, tmp_path: Path) -> None:
    """Whatever value of the metadata is lost, the answer is a StateError and never another exception."""
    path = tmp_path / "mined"
    mined.save(path)
    header, body = header_of(path)
    refused = 0
    for key in header["__metadata__"]:
        for value in ("", "[]", "999"):
            write(path, header | {"__metadata__": header["__metadata__"] | {key: value}}, body)
            try:
                negfast.MinedNegatives.load(path)
            except negfast.StateError:
                refused += 1
    assert refused > 0


def test_missing_file_is_the_usual_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        negfast.MinedNegatives.load(tmp_path / "nothing")


def test_repr_is_for_people(mined: negfast.MinedNegatives) -> None:
    text = repr(mined)
    assert "MinedNegatives" in text
    assert "20" in text
    assert len(text) < 2000


def test_results_are_fresh_writable_arrays(mined: negfast.MinedNegatives) -> None:
    for name in ("indices", "scores", "positive_scores", "tiers"):
        array = getattr(mined, name)
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_to_torch(mined: negfast.MinedNegatives) -> None:
    torch = pytest.importorskip("torch")
    tensors = mined.to_torch()
    indices = tensors["indices"] if isinstance(tensors, dict) else tensors.indices
    assert indices.dtype == torch.int64
    np.testing.assert_array_equal(indices.numpy(), mined.indices)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("indices", (0, 0), 2**38), ("indices", (0, 0), -7), ("tiers", (1, 0), 9), ("anchors", 0, 1), ("anchors", 0, -1)],
)
def test_numbers_that_no_run_gives_are_damage(tmp_path: Path, name: str, place: Any, value: int) -> None:
    rows = np.eye(4, 8, dtype=np.float32)
    mined = negfast.mine(rows, rows, np.arange(4), num_negatives=2)
    getattr(mined, name)[place] = value
    mined.save(tmp_path / "mined")
    with pytest.raises(negfast.StateError, match="damaged"):
        negfast.MinedNegatives.load(tmp_path / "mined")


def test_zero_vectors_are_counted() -> None:
    rows = np.eye(4, 8, dtype=np.float32)
    rows[1] = 0
    report = negfast.mine(rows[:3].copy(), rows, np.arange(3), num_negatives=1).report
    assert (report.search.zero_queries, report.search.zero_rows) == (1, 1)
    assert "zero vectors: 1 queries and 1 corpus rows" in str(report)
