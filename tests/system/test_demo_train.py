"""`negfast demo --train` from its command line to its files, on a small part of the standard library."""

import json
from pathlib import Path

import pytest

from negfast.cli.main import main

pytest.importorskip("torch")


def test_it_shows_curves_and_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["demo", "--train", "--limit", "2000", "--epochs", "2", "--threads", "1", "--output", str(tmp_path)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "Training" in shown and "plain nDCG@10" in shown and "\x1b" not in shown
    assert (tmp_path / "training.txt").read_text(encoding="utf-8") == shown
    curves = json.loads((tmp_path / "training.json").read_text("utf-8"))
    for curve in curves.values():
        assert [epoch["epoch"] for epoch in curve] == [0, 1, 2]
        assert all(0.0 < epoch["ndcg"] <= 1.0 and 0.0 < epoch["mrr"] <= 1.0 for epoch in curve)
    assert curves["plain"][0]["ndcg"] == curves["negfast"][0]["ndcg"], "both begin with the same model"
    assert curves["plain"][2]["ndcg"] > curves["plain"][0]["ndcg"]
    pictures = [path.name for path in tmp_path.glob("*.png")]
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert not pictures and "negfast[plot]" in shown
    else:
        assert pictures == ["curves.png"]
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_too_few_pairs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--train", "--limit", "200", "--output", str(tmp_path), "--quiet"]) == 2
    assert "--limit must leave at least 1,024 pairs" in capsys.readouterr().err
