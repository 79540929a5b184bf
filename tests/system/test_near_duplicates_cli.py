"""`negfast near-duplicates` as a user meets it: tables and embeddings in, groups out that `negfast mine` takes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast.cli.main import main
from negfast.encoder import HashedEncoder

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N = 60


def rows() -> list[dict[str, Any]]:
    """Make rows of which each third differs from the one before in white space, and the next in a word."""
    made = []
    for i in range(N):
        text = (
            f"package number {i // 3} that {'opens' if i % 3 == 2 else 'reads'} {'abcdefgh'[i // 3 % 8] * 4} archives"
        )
        made.append({"doc": f"d{i}", "text": text.replace(" ", "  ") if i % 3 == 1 else text, "anchor": f"need {i}"})
    return made


def write_jsonl(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "t.jsonl", rows())
    pq.write_table(pa.Table.from_pylist(rows()), "t.parquet")
    texts = [row["text"] for row in rows()]
    np.save("t.npy", HashedEncoder(dim=64).fit(texts).encode(texts))


def run(*arguments: object) -> None:
    assert main(["near-duplicates", *map(str, arguments)]) == 0


def expected(threshold: float) -> list[int]:
    return negfast.near_duplicates(np.load("t.npy"), threshold).tolist()


@pytest.mark.parametrize("source", ["t.jsonl", "t.parquet"])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_groups_of_a_table(source: str, suffix: str) -> None:
    run(source, "--id", "doc", "--embeddings", "t.npy", "--threshold", 0.9, "-o", f"g{suffix}", "--quiet")
    found = read_jsonl("g.jsonl") if suffix == ".jsonl" else pq.read_table("g.parquet").to_pylist()
    assert found == [{"id": f"d{i}", "group": group} for i, group in enumerate(expected(0.9))]
    assert len(set(expected(0.9))) < N


def test_groups_of_embeddings() -> None:
    run("t.npy", "--threshold", 0.9, "-o", "g.npy", "--quiet")
    assert np.load("g.npy").dtype == np.int64
    assert np.load("g.npy").tolist() == expected(0.9)
    run("t.npy", "--threshold", 0.9, "-o", "g.jsonl", "--column", "copies", "--quiet")
    assert read_jsonl("g.jsonl")[1] == {"row": 1, "copies": expected(0.9)[1]}


def test_texts_that_are_one_are_in_one_group() -> None:
    run("t.jsonl", "--threshold", 1, "-o", "g.npy", "--quiet")
    assert np.load("g.npy").tolist() == [2 * (i // 3) + i % 3 // 2 for i in range(N)]
    write_jsonl(
        Path("odd.jsonl"), [{"text": text} for text in ("", "!!", "?", " ", "!!", "漢字", "漢字\u200b", "\ud800")]
    )
    run("odd.jsonl", "-o", "g.npy", "--quiet")
    groups = np.load("g.npy").tolist()
    assert groups[0] == groups[3] == 0
    assert groups[1] == groups[4] == 1
    assert groups[2] == 2


def test_more_texts_than_are_encoded_at_once() -> None:
    entries = [{"text": f"text {i % 700} {i % 7}"} for i in range(1500)]
    write_jsonl(Path("many.jsonl"), entries)
    run("many.jsonl", "--threshold", 1, "-o", "g.npy", "--quiet")
    np.testing.assert_array_equal(np.load("g.npy"), [i % 700 for i in range(1500)])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_joined_table_serves_mine(suffix: str) -> None:
    run(f"t{suffix}", "--threshold", 0.7, "--join", "-o", f"j{suffix}", "--quiet")
    found = read_jsonl("j.jsonl") if suffix == ".jsonl" else pq.read_table("j.parquet").to_pylist()
    assert [{name: row[name] for name in row if name != "group"} for row in found] == rows()
    groups = [row["group"] for row in found]
    assert all(groups[i] == groups[i // 3 * 3] for i in range(N))
    arguments = ["--positive", "text", "--group", "group", "--relative-margin", "off", "--num-negatives", "5"]
    assert main(["mine", f"j{suffix}", *arguments, "-o", "out.jsonl", "--quiet"]) == 0
    for anchor in read_jsonl("out.jsonl"):
        own = groups[anchor["positive_ids"][0]]
        assert anchor["negative_ids"]
        assert all(groups[row] != own for row in anchor["negative_ids"])


def test_join_keeps_lines_of_json_letter_by_letter() -> None:
    lines = [
        '{"text": "one", "x": 1.10, "y": 1e400, "y2": 0.1000000000000000055, "n": 12345678901234567890123}',
        '{"z": "\\ud800 \\u00e9 é", "text": "two", "twice": 1, "twice": 2}',
        '{"text":"three"}',
    ]
    Path("exact.jsonl").write_text("\ufeff" + "\r\n\n".join(lines) + " ", encoding="utf-8", newline="")
    run("exact.jsonl", "--join", "-o", "j.jsonl", "--quiet")
    joined = Path("j.jsonl").read_text(encoding="utf-8").split("\n")
    assert joined == [*(f'{line[:-1]}, "group": {i}}}' for i, line in enumerate(lines)), ""]


def test_join_keeps_types() -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b", "a"]).dictionary_encode(),
            "when": pa.array([1, None, 2**60], pa.timestamp("ns")),
            "lists": pa.array([["x"], [], None], pa.large_list(pa.string())),
            "huge": pa.array([2**64 - 1, 0, None], pa.uint64()),
        }
    ).replace_schema_metadata({"made": "by hand"})
    pq.write_table(table, "typed.parquet")
    run("typed.parquet", "--join", "-o", "j.parquet", "--quiet")
    joined = pq.read_table("j.parquet")
    assert joined.drop_columns("group").equals(pq.read_table("typed.parquet"), check_metadata=True)
    assert joined.column("group").to_pylist() == [0, 1, 0]


def test_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    run("t.jsonl", "--threshold", 0.7, "--id", "doc", "--join", "-o", "j.jsonl")
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("60 rows", "groups have several members", "largest groups", "d0 package number", "--group group"):
        assert part in shown
    run("t.npy", "--threshold", 1)
    assert "largest" in capsys.readouterr().out
    write_jsonl(Path("apart.jsonl"), [{"text": "one"}, {"text": "two"}])
    run("apart.jsonl")
    assert "largest" not in capsys.readouterr().out


@pytest.mark.parametrize("n", [0, 1])
def test_few_rows(n: int, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(Path("few.jsonl"), rows()[:n])
    np.save("few.npy", np.load("t.npy")[:n])
    for source in ("few.jsonl", "few.npy"):
        for output in ("g.jsonl", "g.parquet", "g.npy"):
            run(source, "-o", output)
        assert f"{n} rows" in capsys.readouterr().out
        assert np.load("g.npy").shape == (n,)
    run("few.jsonl", "--join", "-o", "j.jsonl")
    assert len(read_jsonl("j.jsonl")) == n


def test_same_bytes_for_any_threads() -> None:
    for n_threads in (1, 2, 7):
        run("t.jsonl", "--threads", n_threads, "-o", f"{n_threads}.parquet", "--quiet")
    assert len({Path(f"{n}.parquet").read_bytes() for n in (1, 2, 7)}) == 1


def test_stdout_closed_early() -> None:
    command = [sys.executable, "-m", "negfast", "near-duplicates", "t.jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


# Mistakes


def file(name: str, data: bytes) -> Callable[[], str]:
    def make() -> str:
        Path(name).write_bytes(data)
        return name

    return make


def saved(name: str, array: Any) -> Callable[[], str]:
    def make() -> str:
        np.save(name, array)
        return name

    return make


NAN = np.ones((N, 4), np.float32)
NAN[17, 2] = np.nan
OUT = ("-o", "out.jsonl")
MISTAKES: list[tuple[str, list[Any], str]] = [
    ("no input", [*OUT], "INPUT"),
    ("not there", ["no.jsonl", *OUT], r"no\.jsonl"),
    ("embeddings not there", ["no.npy", *OUT], r"no\.npy"),
    ("folder", [".", *OUT], "must be a"),
    ("another kind", [file("t.csv", b"text\n"), *OUT], r"t\.csv.*parquet"),
    ("damaged parquet", [file("x.parquet", b"PAR1"), *OUT], r"x\.parquet"),
    ("damaged jsonl", [file("x.jsonl", b'{"text": "a"}\n{"text"'), *OUT], r"x\.jsonl.*line 2"),
    ("damaged npy", [file("x.npy", b"\x93NUMPY"), *OUT], r"x\.npy"),
    ("damaged safetensors", [file("x.safetensors", b"\xff" * 30), *OUT], r"x\.safetensors"),
    ("no such column", ["t.jsonl", "--text", "body", *OUT], "'body'"),
    ("no such column of ids", ["t.parquet", "--id", "key", *OUT], "'key'"),
    ("numbers for texts", [file("x.jsonl", b'{"text": 3}'), *OUT], "int 3 in row 0"),
    ("repeated ids", [file("x.jsonl", b'{"text": "a"}\n{"text": "a"}'), "--id", "text", *OUT], "rows 0 and 1"),
    ("NaN", [saved("nan.npy", NAN), *OUT], r"INPUT.*row 17 of nan\.npy"),
    ("NaN beside a table", ["t.jsonl", "--embeddings", saved("nan.npy", NAN), *OUT], r"--embeddings.*row 17"),
    ("float64", [saved("f.npy", np.ones((3, 3))), *OUT], r"f\.npy.*float64"),
    ("one row", [saved("f.npy", np.ones(3, np.float32)), *OUT], r"f\.npy.*\(3,\)"),
    ("rows of another table", ["t.jsonl", "--embeddings", saved("f.npy", NAN[:5, :2]), *OUT], "60 texts.*got 5"),
    ("embeddings as a table", ["t.jsonl", "--embeddings", "t.parquet", *OUT], r"t\.parquet must be a \.npy"),
    ("text of embeddings", ["t.npy", "--text", "text", *OUT], "--text.*table"),
    ("model of embeddings", ["t.npy", "--model", "m", *OUT], "--model.*table"),
    ("ids of embeddings", ["t.npy", "--id", "doc", *OUT], "--id.*table"),
    ("two embeddings", ["t.npy", "--embeddings", "t.npy", *OUT], "--embeddings.*table"),
    ("model beside embeddings", ["t.jsonl", "--embeddings", "t.npy", "--model", "m", *OUT], "--model.*both"),
    ("prompt alone", ["t.jsonl", "--prompt", "p", *OUT], "--prompt.*--model"),
    ("model not there", ["t.jsonl", "--model", "./no-model", *OUT], "--model ./no-model"),
    ("threshold 0", ["t.jsonl", "--threshold", "0", *OUT], "--threshold.*above 0"),
    ("threshold 1.01", ["t.jsonl", "--threshold", "1.01", *OUT], "--threshold.*at most 1"),
    ("threshold nan", ["t.jsonl", "--threshold", "nan", *OUT], "--threshold.*nan"),
    ("threshold text", ["t.jsonl", "--threshold", "95%", *OUT], "--threshold.*95%"),
    ("threads 0", ["t.jsonl", "--threads", "0", *OUT], "--threads"),
    ("output kind", ["t.jsonl", "-o", "out.csv"], r"--output.*\.parquet, \.jsonl or \.npy.*out\.csv"),
    ("output in no folder", ["t.jsonl", "-o", "no/out.jsonl"], "--output.*make it"),
    ("output is the input", ["t.jsonl", "-o", "t.jsonl"], "--output.*own"),
    ("output is the embeddings", ["t.jsonl", "--embeddings", "t.npy", "-o", "t.npy"], "--output.*own"),
    ("joined to itself", ["t.jsonl", "--join", "-o", "./t.jsonl"], "--output.*own"),
    ("join of two kinds", ["t.jsonl", "--join", "-o", "out.parquet"], r"--join.*kind.*\.jsonl"),
    ("join of embeddings", ["t.npy", "--join", "-o", "out.npy"], "--join.*table"),
    ("join to nothing", ["t.jsonl", "--join"], "--join.*--output"),
    ("quiet for nothing", ["t.jsonl"], "--quiet.*--output"),
    ("column is taken", ["t.jsonl", "--join", "--column", "doc", *OUT], r"t\.jsonl.*'doc'"),
    ("column is taken", ["t.parquet", "--join", "--column", "doc", "-o", "o.parquet"], r"t\.parquet.*'doc'"),
    ("column of ids", ["t.jsonl", "--column", "row", *OUT], "--column.*'row'"),
    ("several tensors", ["t.safetensors:x", *OUT], r"t\.safetensors"),
    ("unknown option", ["t.jsonl", "--fast", *OUT], "--fast"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_mistakes_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[Any], message: str
) -> None:
    made = [argument() if callable(argument) else argument for argument in arguments]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    try:
        code = main(["near-duplicates", *made, "--quiet"])
    except SystemExit as ended:  # argparse ends the process itself
        code = int(ended.code or 0)
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.startswith("negfast")
    assert error.count("\n") == 1, error
    assert re.search(message, error), error
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main(["near-duplicates", "t.jsonl", "-o", "out.parquet", "--quiet"]) == 2
    assert "negfast[cli]" in capsys.readouterr().err
    assert main(["near-duplicates", "t.parquet", "-o", "out.jsonl", "--quiet"]) == 2
    assert "negfast[cli]" in capsys.readouterr().err
    run("t.jsonl", "-o", "out.jsonl", "--quiet")
