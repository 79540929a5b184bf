"""`negfast demo` from its command line to its files, on a small part of the standard library."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import negfast
from negfast.cli.main import main

DEADLINE = 100  # seconds
N = 400


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "negfast", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("demo") / "made" / "here"
    result = command("demo", "--limit", N, "--num-negatives", 4, "--output", folder, "--threads", 2)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # no progress bar where nobody watches
    return result.stdout, folder


def test_it_shows_each_part_and_keeps_it(demo: tuple[str, Path]) -> None:
    shown, folder = demo
    for part in (
        "400 functions",
        "Mining",
        "relative_margin",
        "semi-hard",
        "numpy",
        "Sample anchors",
        "Files in",
    ):
        assert part in shown
    assert "\x1b" not in shown
    assert (folder / "report.txt").read_text(encoding="utf-8") == shown


def test_it_leaves_these_files_and_no_others(demo: tuple[str, Path]) -> None:
    names = sorted(path.name for path in demo[1].iterdir())
    assert names == ["mined.safetensors", "negatives.jsonl", "pairs.jsonl", "report.json", "report.txt"]


def test_files_agree_with_each_other(demo: tuple[str, Path]) -> None:
    folder = demo[1]
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text("utf-8").splitlines()]
    anchors = [json.loads(line) for line in (folder / "negatives.jsonl").read_text("utf-8").splitlines()]
    mined = negfast.MinedNegatives.load(folder / "mined.safetensors")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert len(pairs) == len(anchors) == len(mined.indices) == report["pairs"]["n"] == N
    for i, anchor in enumerate(anchors):
        rows = [negative["index"] for negative in anchor["negatives"]]
        assert rows == mined.indices[i][mined.indices[i] >= 0].tolist()
        assert anchor["location"] == pairs[i]["location"]
        for negative in anchor["negatives"]:
            assert negative["location"] == pairs[negative["index"]]["location"]


def test_rules_hold(demo: tuple[str, Path]) -> None:
    folder = demo[1]
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text("utf-8").splitlines()]
    n_negatives = 0
    for line in (folder / "negatives.jsonl").read_text("utf-8").splitlines():
        anchor = json.loads(line)
        pair = pairs[anchor["anchor"]]
        cap = anchor["positive_score"] - 0.05 * abs(anchor["positive_score"])
        for negative in anchor["negatives"]:
            row = pairs[negative["index"]]
            n_negatives += 1
            assert row["module"] != pair["module"]
            assert row["query"] != pair["query"]
            assert row["passage"] != pair["passage"]
            assert negative["score"] <= cap + 1e-5
    assert n_negatives > 3 * N


def test_brute_force_agrees(demo: tuple[str, Path]) -> None:
    comparison = json.loads((demo[1] / "report.json").read_text("utf-8"))["numpy_brute_force"]
    assert comparison["n_queries"] == comparison["n_agreeing"] == N
    assert comparison["n_threads"] == 2


def test_same_seed_same_negatives(demo: tuple[str, Path], tmp_path: Path) -> None:
    arguments = ["demo", "--limit", str(N), "--num-negatives", "4", "--quiet", "--threads", "1"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    first, second = (negfast.MinedNegatives.load(path / "mined.safetensors") for path in (demo[1], tmp_path))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    result = command("demo", "--limit", 50, "--quiet", "--output", tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required"),
        (["mine-all"], "invalid choice"),
        (["demo", "--limit", "0"], "--limit: must be a whole number of at least 1, got '0'"),
        (["demo", "--threads", "two"], "--threads: must be a whole number of at least 1, got 'two'"),
        (["demo", "--seed", "-1"], "argument --seed"),
        (["demo", "--output", __file__], "--output must be a folder that can be made"),
        (["demo", "--train", "--model", "some"], "--model must be left out with --train"),
        (["demo", "--train", "--num-negatives", "4"], "--num-negatives must be left out with --train"),
        (["demo", "--epochs", "2"], "--epochs must be left out without --train"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = command(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_in_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "made before it gathers"
    arguments = [sys.executable, "-m", "negfast", "demo", "--output", str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + DEADLINE
        while not folder.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert error == "\nnegfast: interrupted\n"
    assert list(folder.iterdir()) == []


def test_a_model_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert main(["demo", "--model", "some-model", "--output", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
    error = capsys.readouterr().err
    assert "--model some-model needs sentence-transformers" in error
    assert error.count("\n") == 1


def test_help_names_the_options() -> None:
    shown = command("demo", "--help").stdout
    for option in ("--limit", "--model", "--num-negatives", "--output", "--seed", "--threads", "--quiet"):
        assert option in shown
