"""Damaged files are refused with a reason and nothing else, whatever reads them; `fuzz/` holds the readers."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "fuzz"))
from targets import TARGETS, survives

pytest.importorskip("pyarrow")
SEEDS = {name: target.seeds() for name, target in TARGETS.items()}
pieces = st.binary(max_size=16) | st.sampled_from(
    [b"\xff" * 8, b"\x00" * 8, b"\x7f" + b"\xff" * 7, b'"', b"{", b"[" * 99]
)


@pytest.mark.parametrize("name", TARGETS)
def test_whole_files_are_read(name: str) -> None:
    assert survives(TARGETS[name], SEEDS[name][0])


@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
def test_damaged_files_are_refused_or_read(name: str, data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(SEEDS[name])))
    for _ in range(data.draw(st.integers(0, 3))):
        at, length = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 16))
        raw[at : at + length] = data.draw(pieces)
    survives(TARGETS[name], bytes(raw))


@pytest.mark.parametrize("name", TARGETS)
def test_files_cut_off_anywhere(name: str) -> None:
    whole = SEEDS[name][0]
    for length in {*range(min(len(whole), 200)), *range(0, len(whole), 37)}:
        survives(TARGETS[name], whole[:length])


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    survives(TARGETS[name], data)


def test_an_element_type_of_this_machine_is_read() -> None:
    # Found by fuzzing: numpy knows the type by several names, and a file may use any.
    whole = SEEDS["npy"][0]
    for name in (b"'=f4'", b"'f4' ", b"'<f4'"):
        assert survives(TARGETS["npy"], whole.replace(b"'<f4'", name))
    assert not survives(TARGETS["npy"], whole.replace(b"'<f4'", b"'>f4'"))
