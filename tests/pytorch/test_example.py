"""The example of a plain loop trains, and a run that was broken off ends as one that was not."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_pytorch.py"
THINGS = ("kernel", "window", "archive", "audio", "network", "editor", "game", "font", "printer", "camera")
DEEDS = ("reads", "writes", "draws", "checks", "sorts", "packs", "sends", "plays")


def pairs(path: Path) -> Path:
    """Write pairs whose texts say one thing in two ways."""
    rows = [
        {
            "anchor": f"a tool that {deed} {thing} files of kind {kind}",
            "positive": f"{thing} {kind} program: it {deed} what you give it, quickly",
        }
        for thing in THINGS
        for deed in DEEDS
        for kind in ("alpha", "beta", "gamma", "delta")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def epochs(text: str) -> list[tuple[float, float]]:
    found = re.findall(r"loss (\S+), recall@10 (\S+)", text)
    return [(float(loss), float(recall)) for loss, recall in found]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    main, table = runpy.run_path(str(EXAMPLE))["main"], pairs(tmp_path / "pairs.jsonl")

    def call(folder: str, n_epochs: int) -> list[tuple[float, float]]:
        main([str(table), "--folder", str(tmp_path / folder), "--epochs", str(n_epochs), "--workers", "0"])
        return epochs(capsys.readouterr().out)

    return call


def test_it_learns(run: Any) -> None:
    seen = run("whole", 4)
    assert len(seen) == 4
    assert seen[-1][0] < seen[0][0] / 2
    assert seen[-1][1] > seen[0][1] or seen[0][1] == 1.0
    assert seen[-1][1] > 0.9


def test_it_goes_on_where_it_stopped(run: Any) -> None:
    whole = run("whole", 3)
    assert run("parts", 1) + run("parts", 3) == whole
