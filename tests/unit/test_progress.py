"""The progress bar: what it shows never goes back."""

import builtins
import itertools
import sys
from typing import Any

import numpy as np
import pytest

import negfast
from negfast import progress

STEPS = [(0, 100), (50, 100), (60, 100), (60, 300), (90, 300), (290, 300), (400, 300), (0, 0)]
"""Work done and the whole; a deeper search adds to the whole."""
SHOWN = [0.0, 50.0, 60.0, 60.0, 60.0, 100.0 * 290 / 300, 100.0, 100.0]


def test_the_bar_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm.auto")
    seen = []

    class Bar(tqdm.tqdm):  # type: ignore[misc, name-defined]
        def update(self, n: float = 1) -> Any:
            answer = super().update(n)
            seen.append(self.n)
            return answer

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    with progress.bar("mine", wanted=True) as report:
        assert report is not None
        for step in STEPS:
            report(*step)
    assert seen == pytest.approx([*SHOWN, 100.0])


def test_the_lines_never_go_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without tqdm a line is printed every two seconds."""
    ask = builtins.__import__

    def without_tqdm(name: str, *rest: Any) -> Any:
        if name.startswith("tqdm"):
            raise ImportError(name)
        return ask(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    monkeypatch.setattr(progress.time, "monotonic", itertools.count(step=3).__next__)
    with progress.bar("mine", wanted=True) as report:
        assert report is not None
        for step in STEPS:
            report(*step)
    assert capsys.readouterr().err.splitlines() == [f"mine: {percent:.0f} %" for percent in SHOWN]


def test_no_bar_unless_wanted() -> None:
    before = set(sys.modules)
    with progress.bar("mine", wanted=False) as report:
        assert report is None
    assert set(sys.modules) == before


def test_a_callable_hears_the_share_that_is_done_to_the_end() -> None:
    rows = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    for call in (
        lambda heard: negfast.topk(rows, rows, 2, progress=heard),
        lambda heard: negfast.mine(rows, rows, np.arange(300), progress=heard),
        lambda heard: negfast.near_duplicates(rows, 0.9, progress=heard),
    ):
        shares: list[float] = []
        call(shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
