"""`negfast mine` as a user meets it: files in, files out, repeated, resumed, and broken in many ways."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast.cli.main import main
from negfast.encoder import HashedEncoder

pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

TOPICS = ("kernel", "window", "archive", "audio", "network", "editor")
N = 60


def pairs(n: int = N) -> list[dict[str, Any]]:
    """Make pairs with variants of a thing in one group, and some repeated texts."""
    rows = []
    for i in range(n):
        topic, kind = TOPICS[i % 6], f"tool{i // 6}"
        rows.append(
            {
                "id": f"p{i}",
                "query": f"{topic} {kind} for everyday work",
                "passage": f"{kind} is a {topic} program number {i} with {TOPICS[(i + 1) % 6]} support",
                "group": f"{topic}-{i // 12}",
            }
        )
    rows[7]["passage"] = rows[1]["passage"] + "  "  # the same text but for white space
    rows[13]["query"] = rows[2]["query"]  # one anchor with two positives
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", pairs())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


COLUMNS = ("--anchor", "query", "--positive", "passage")
SMALL = ("--num-negatives", "3", "--relative-margin", "off")


def mine(*arguments: object) -> None:
    assert main(["mine", *map(str, arguments), "--quiet"]) == 0


def embed(folder: Path, rows: list[dict[str, Any]]) -> tuple[Path, Path]:
    encoder = HashedEncoder(dim=32).fit([row["query"] for row in rows])
    for name in ("query", "passage"):
        np.save(folder / f"{name}.npy", encoder.encode([row[name] for row in rows]))
    return folder / "query.npy", folder / "passage.npy"


# What it writes


def test_writes_negatives_by_id(table: Path, tmp_path: Path) -> None:
    mine(table, *COLUMNS, *SMALL, "--group", "group", "--id", "id", "-o", "out.jsonl")
    found = read_jsonl(tmp_path / "out.jsonl")
    rows = {row["id"]: row for row in pairs()}
    assert len(found) == N - 1
    for entry in found:
        anchor = rows[entry["anchor_id"]]
        assert list(entry) == [
            "anchor_id", "positive_ids", "positive_sources", "positive_score", "negative_ids", "scores", "tiers",
            "sources",
        ]  # fmt: skip
        assert len(entry["negative_ids"]) == len(set(entry["negative_ids"])) == 3
        assert entry["scores"] == sorted(entry["scores"], reverse=True)
        assert not set(entry["negative_ids"]) & set(entry["positive_ids"])
        assert all(rows[name]["group"] != anchor["group"] for name in entry["negative_ids"])
        assert set(entry["sources"]) == {"pairs"}
        assert set(entry["tiers"]) <= {"easy", "semi_hard", "hard"}
    by_id = {entry["anchor_id"]: entry for entry in found}
    assert by_id["p2"]["positive_ids"] == ["p2", "p13"]
    assert by_id["p7"]["positive_ids"] == ["p1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl", "out.jsonl.recipe.json", "out.jsonl.report.json", "pairs.jsonl",
    ]  # fmt: skip
    assert json.loads((tmp_path / "out.jsonl.report.json").read_text())["n_queries"] == N - 1


def test_equals_the_python_call(table: Path, tmp_path: Path) -> None:
    rows = pairs()
    queries, corpus = embed(tmp_path, rows)
    mine(
        table, *COLUMNS, "--anchor-embeddings", queries, "--positive-embeddings", corpus, "--num-negatives", 4,
        "--draw", "softmax", "--temperature", 0.1, "--seed", 5, "--distinct", 0.9, "--max-exposure", 20,
        "-o", "out.jsonl",
    )  # fmt: skip
    first_passage = {row["passage"].strip(): i for i, row in reversed(list(enumerate(rows)))}
    first_query = {row["query"]: i for i, row in reversed(list(enumerate(rows)))}
    kept_q, kept_c = sorted(first_query.values()), sorted(first_passage.values())
    positives = [
        sorted({kept_c.index(first_passage[row["passage"].strip()]) for row in rows if first_query[row["query"]] == q})
        for q in kept_q
    ]
    q, c = np.load(queries)[kept_q], np.load(corpus)[kept_c]
    keys = (
        negfast.content_keys([rows[i]["query"] for i in kept_q]),
        negfast.content_keys([rows[i]["passage"] for i in kept_c]),
    )
    mined = negfast.mine(
        q, c, positives, keys=keys, num_negatives=4, draw=negfast.Softmax(0.1), seed=5,
        rules=negfast.Rules(distinct=0.9, max_exposure=20),
    )  # fmt: skip
    found = read_jsonl(tmp_path / "out.jsonl")
    assert [entry["anchor_id"] for entry in found] == kept_q
    for i, entry in enumerate(found):
        row = mined.indices[i][mined.indices[i] >= 0]
        assert entry["negative_ids"] == [kept_c[j] for j in row]
        np.testing.assert_array_equal(np.float32(entry["scores"]), mined.scores[i, : len(row)])


def test_parquet_and_jsonl_agree(table: Path, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(pairs()), tmp_path / "pairs.parquet")
    texts = ("--triplets", "triplets.parquet", "--n-tuples", "tuples.parquet")
    mine(table, *COLUMNS, *SMALL, "--id", "id", "-o", "a.jsonl")
    mine("pairs.parquet", *COLUMNS, *SMALL, "--id", "id", "-o", "b.parquet", *texts)
    for one, other in zip(pq.read_table("b.parquet").to_pylist(), read_jsonl(tmp_path / "a.jsonl"), strict=True):
        for name in ("scores", "positive_score"):
            np.testing.assert_array_equal(np.float32(one.pop(name)), np.float32(other.pop(name)))
        assert one == other
    triplets, tuples = pq.read_table("triplets.parquet"), pq.read_table("tuples.parquet")
    assert triplets.column_names == ["anchor", "positive", "negative"]
    assert tuples.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    assert triplets.num_rows == 3 * N
    assert tuples.num_rows == N
    rows = {row["id"]: row for row in pairs()}
    entry = read_jsonl(tmp_path / "a.jsonl")[0]
    assert tuples.to_pylist()[0] == {
        "anchor": rows["p0"]["query"],
        "positive": rows["p0"]["passage"],
        **{f"negative_{i + 1}": rows[name]["passage"] for i, name in enumerate(entry["negative_ids"])},
    }


def test_tuples_that_lack_negatives_are_left_out_and_counted(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [table, *COLUMNS, "--num-negatives", 30, "--min-score", 0.2, "-o", "out.jsonl", "--n-tuples", "t.jsonl"]
    assert main(["mine", *map(str, arguments)]) == 0
    complete = [entry for entry in read_jsonl(tmp_path / "out.jsonl") if len(entry["negative_ids"]) == 30]
    assert len(read_jsonl(tmp_path / "t.jsonl")) == len(complete) < N
    assert "with fewer are left out" in " ".join(capsys.readouterr().out.split())


def test_takes_negatives_from_a_corpus_file(table: Path, tmp_path: Path) -> None:
    corpus = [{"doc": i, "body": f"{TOPICS[i % 6]} program with archive support {i}", "g": None} for i in range(100)]
    corpus[5]["body"] = pairs()[0]["passage"]
    write_jsonl(tmp_path / "corpus.jsonl", corpus)
    write_jsonl(tmp_path / "held.jsonl", [{"text": corpus[i]["body"]} for i in range(50, 100)])
    mine(
        table, *COLUMNS, *SMALL, "--group", "group", "--corpus", "corpus.jsonl", "--corpus-text", "body",
        "--corpus-id", "doc", "--corpus-group", "g", "--forbidden", "held.jsonl", "-o", "out.jsonl",
    )  # fmt: skip
    found = read_jsonl(tmp_path / "out.jsonl")
    assert found[0]["positive_ids"] == [5]
    assert found[0]["positive_sources"] == ["corpus"]
    served = {pair for entry in found for pair in zip(entry["sources"], entry["negative_ids"], strict=True)}
    assert {source for source, _ in served} == {"corpus", "pairs"}
    assert all(doc < 50 for source, doc in served if source == "corpus")


def test_lists_of_positives_and_excluded_texts(tmp_path: Path) -> None:
    rows = [
        {"anchor": f"{topic} work", "positive": [f"{topic} one", f"{topic} two"], "no": [f"{TOPICS[0]} one"]}
        for topic in TOPICS
    ]
    rows.append({"anchor": "alone", "positive": None, "no": None})
    write_jsonl(tmp_path / "in.jsonl", rows)
    mine("in.jsonl", "--exclude", "no", "--num-negatives", 20, "-o", "out.jsonl")
    found = read_jsonl(tmp_path / "out.jsonl")
    assert found[1]["positive_ids"] == ["1:0", "1:1"]
    assert all("0:0" not in entry["negative_ids"] for entry in found[1:6])
    assert found[6]["positive_score"] is None
    assert len(found[6]["negative_ids"]) == 12


@pytest.mark.parametrize("kind", ["npy", "safetensors", "float16"])
def test_reads_embeddings_from_files(table: Path, tmp_path: Path, kind: str) -> None:
    queries, corpus = embed(tmp_path, pairs())
    given = [str(queries), str(corpus)]
    if kind == "safetensors":
        save = pytest.importorskip("safetensors.numpy").save_file
        save({"q": np.load(queries), "c": np.load(corpus)}, tmp_path / "rows.safetensors")
        given = [f"{tmp_path}/rows.safetensors:q", f"{tmp_path}/rows.safetensors:c"]
    if kind == "float16":
        for path in given:
            np.save(path, np.load(path).astype(np.float16))
    mine(table, *COLUMNS, *SMALL, "--anchor-embeddings", given[0], "--positive-embeddings", given[1], "-o", "out.jsonl")
    assert len(read_jsonl(tmp_path / "out.jsonl")) == N - 1


def test_empty_table(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "none.jsonl", [])
    mine("none.jsonl", "-o", "out.jsonl", "--triplets", "t.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == ""


# Repeating


EVERY_SETTING = (
    "--num-negatives", 4, "--metric", "dot", "--relative-margin", 0.01, "--absolute-margin", 0.02, "--max-score", 0.99,
    "--min-score", -0.5, "--range-min", 1, "--range-max", 30, "--duplicate-of-positive", 0.99, "--distinct", 0.98,
    "--max-exposure", 30, "--transitive", "--hard", 0.0, "--semi-hard", -0.2, "--draw", "simans", "--a", 3, "--b", 0.1,
    "--recall", 1, "--method", "exact", "--max-memory", "64MiB", "--suspect-rank", 5, "--seed", 9, "--epoch", 2,
)  # fmt: skip


def test_repeats_a_job_bit_for_bit(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "result"
    folder.mkdir()
    mine(table, *COLUMNS, *EVERY_SETTING, "--group", "group", "-o", folder / "out.parquet", "--n-tuples", "t.jsonl")
    recipe = folder / "out.parquet.recipe.json"
    first, tuples, record = (folder / "out.parquet").read_bytes(), Path("t.jsonl").read_bytes(), recipe.read_bytes()
    Path("t.jsonl").unlink()
    monkeypatch.chdir(folder)
    mine("--recipe", "out.parquet.recipe.json")
    assert (folder / "out.parquet").read_bytes() == first
    assert (tmp_path / "t.jsonl").read_bytes() == tuples
    assert recipe.read_bytes() == record
    mine("--recipe", recipe, "-o", tmp_path / "again.parquet", "--threads", 1)
    assert (tmp_path / "again.parquet").read_bytes() == first
    plain = json.loads(record)
    assert plain["draw"] == {"name": "simans", "a": 3.0, "b": 0.1}
    assert plain["search"] == {"max_memory": 2**26, "method": "exact", "recall": 1.0}
    assert plain["job"]["versions"]["negfast"] == negfast.__version__
    assert set(plain["job"]["fingerprints"]) == {"input"}
    assert set(plain["job"]["rows"]) == {"queries", "corpus"}
    assert negfast.Recipe.load(recipe).rules.max_exposure == 30


def test_a_proven_search_finds_what_the_exact_one_finds(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for method in ("exact", "certified"):
        mine(table, *COLUMNS, *SMALL, "--method", method, "--recall", 0.95, "-o", f"{method}.jsonl")
        results.append(Path(f"{method}.jsonl").read_bytes())
        plain = json.loads(Path(f"{method}.jsonl.recipe.json").read_text(encoding="utf-8"))
        assert plain["search"] == {"max_memory": None, "method": method, "recall": 0.95}
        report = json.loads(Path(f"{method}.jsonl.report.json").read_text(encoding="utf-8"))
        assert (report["search"]["method"], report["search"]["recall"]) == (method, 1.0)
    assert results[0] == results[1]
    assert main(["mine", str(table), *COLUMNS, *SMALL, "--method", "clusters", "--recall", "1", "-o", "no.jsonl"]) != 0
    assert "below 1" in capsys.readouterr().err


def test_repeats_a_job_with_every_kind_of_input(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files reached through links and from elsewhere too; a changed one is no repeat."""
    corpus = [{"text": f"{TOPICS[i % 6]} program with archive support {i}", "g": f"c{i % 9}"} for i in range(80)]
    write_jsonl(tmp_path / "corpus.jsonl", corpus)
    write_jsonl(tmp_path / "held.jsonl", corpus[40:])
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    mine(
        table, *COLUMNS, *SMALL, "--group", "group", "--exclude", "passage", "--corpus", "corpus.jsonl",
        "--corpus-group", "g", "--forbidden", "held.jsonl", "-o", "link/out.jsonl",
    )  # fmt: skip
    first = (tmp_path / "link" / "out.jsonl").read_bytes()
    monkeypatch.chdir(tmp_path / "link")
    mine("--recipe", "out.jsonl.recipe.json")
    assert Path("out.jsonl").read_bytes() == first
    mine("--recipe", tmp_path / "real" / "deep" / "out.jsonl.recipe.json", "-o", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == first
    write_jsonl(tmp_path / "held.jsonl", corpus[41:])
    assert main(["mine", "--recipe", "out.jsonl.recipe.json", "--quiet"]) == 2
    assert Path("out.jsonl").read_bytes() == first


def test_recipe_gives_settings_to_another_job(table: Path, tmp_path: Path) -> None:
    recipe = negfast.Recipe(num_negatives=2, rules=negfast.Rules(relative_margin=None, distinct=0.9), draw="random")
    recipe.save(tmp_path / "recipe.json")
    mine(table, *COLUMNS, "--recipe", "recipe.json", "--distinct", "off", "-o", "out.jsonl")
    used = negfast.Recipe.load(tmp_path / "out.jsonl.recipe.json")
    assert (used.num_negatives, used.draw, used.rules.distinct) == (2, "random", None)


# Breaking off and going on


def test_resumes_after_a_kill(tmp_path: Path) -> None:
    """A job that is killed without warning goes on from its last block and writes the same file."""
    rows = pairs(3000)
    write_jsonl(tmp_path / "many.jsonl", rows)
    command = [
        sys.executable, "-m", "negfast", "mine", "many.jsonl", *COLUMNS, "--draw", "softmax", "--temperature", "0.1",
        "--block-size", "30", "--quiet", "-o",
    ]  # fmt: skip
    subprocess.run([*command, "whole.parquet"], check=True, timeout=100)
    with subprocess.Popen([*command, "part.parquet"]) as job:
        blocks = tmp_path / "part.parquet.parts"
        until = time.monotonic() + 60
        while len(list(blocks.glob("block-*.safetensors"))) < 5 and job.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
    done = {path: path.stat().st_mtime_ns for path in blocks.glob("block-*.safetensors")}
    assert 5 <= len(done) < 100
    assert not (tmp_path / "part.parquet").exists()
    again = subprocess.run([*command, "part.parquet"], capture_output=True, text=True, timeout=60)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done  # refusing loses nothing
    subprocess.run([*command, "part.parquet", "--resume"], check=True, timeout=100)
    assert (tmp_path / "part.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not blocks.exists()


LONG = ("--draw", "softmax", "--temperature", "0.1", "--block-size", "30", "--quiet")


def started(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "negfast", "mine", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_signals_at_any_time_lose_nothing(tmp_path: Path) -> None:
    """Wherever Ctrl-C or SIGTERM strikes, nothing half-written is left, and the job goes on to the same bytes."""
    write_jsonl(tmp_path / "many.jsonl", pairs(2000))
    arguments = ("many.jsonl", *COLUMNS, *LONG, "--triplets")
    mine(*arguments[:-2], "--triplets", "whole.t.jsonl", "-o", "whole.jsonl")
    pause, ends = 0.3, set()
    for attempt in range(40):
        sent = (signal.SIGINT, signal.SIGTERM)[attempt % 2]
        with started(*arguments, "part.t.jsonl", "-o", "part.jsonl", "--resume") as job:
            try:
                _, error = job.communicate(timeout=pause)
            except subprocess.TimeoutExpired:
                job.send_signal(sent)
                _, error = job.communicate(timeout=60)
        ends.add(job.returncode)
        pause *= 1.1
        assert not list(tmp_path.glob(".*.part")), error
        if job.returncode == 0:
            break
    assert job.returncode == 0
    assert ends & {130, 143}
    for name in ("jsonl", "t.jsonl"):
        assert (tmp_path / f"part.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
    assert not (tmp_path / "part.jsonl.parts").exists()


def test_one_job_at_a_time_has_an_output(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "many.jsonl", pairs(3000))
    with started("many.jsonl", *COLUMNS, *LONG, "-o", "out.jsonl") as job:
        until = time.monotonic() + 60
        while not (tmp_path / "out.jsonl.parts" / "job.json").exists() and time.monotonic() < until:
            time.sleep(0.002)
        for option in ("--resume", "--restart"):
            with started("many.jsonl", *COLUMNS, *LONG, "-o", "out.jsonl", option) as other:
                _, error = other.communicate(timeout=60)
            assert job.poll() is None, "the first job must outlast the second"
            assert other.returncode == 2
            assert "one job at a time" in error
        job.communicate(timeout=100)
    assert job.returncode == 0
    assert len(read_jsonl(tmp_path / "out.jsonl")) > 1000


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let mining end after some blocks as Ctrl-C would."""
    real, calls = negfast.mine, iter(range(after))

    def stops(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(negfast, "mine", stops)


def test_ctrl_c_keeps_blocks(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mine", str(table), *COLUMNS, *SMALL, "--block-size", "20", "--quiet", "-o"]
    assert main([*arguments, "whole.jsonl"]) == 0
    with monkeypatch.context() as patched:
        interrupted(patched, after=2)
        assert main([*arguments, "part.jsonl"]) == 130
    assert "--resume" in capsys.readouterr().err
    assert len(list((tmp_path / "part.jsonl.parts").glob("block-*"))) == 2
    assert main([*arguments[:-1], "--seed", "3", "--resume", "-o", "part.jsonl"]) == 2
    assert "another recipe" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        interrupted(patched, after=1)  # one block is all that is left to do
        assert main([*arguments, "part.jsonl", "--resume"]) == 0
    assert (tmp_path / "part.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_restart_drops_parts(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["mine", str(table), *COLUMNS, *SMALL, "--block-size", "20", "--quiet", "-o", "out.jsonl"]
    with monkeypatch.context() as patched:
        interrupted(patched, after=2)
        assert main(arguments) == 130
    assert main([*arguments, "--seed", "3", "--restart"]) == 0
    assert (tmp_path / "out.jsonl").exists()


def test_encoding_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "many.jsonl", pairs(1500))
    arguments = ["mine", "many.jsonl", *COLUMNS, *SMALL, "--quiet", "-o"]
    assert main([*arguments, "whole.jsonl"]) == 0
    real, calls = HashedEncoder.encode, []

    def encode(self: HashedEncoder, texts: list[str]) -> Any:
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, texts)

    monkeypatch.setattr(HashedEncoder, "encode", encode)
    assert main([*arguments, "part.jsonl"]) == 130
    assert main([*arguments, "part.jsonl", "--resume"]) == 0
    assert sum(calls) < 2 * 3000
    assert (tmp_path / "part.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_dry_run_writes_nothing(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", str(table), *COLUMNS, "--dry-run"]) == 0
    text = capsys.readouterr().out
    for part in ("59 anchors", "blocks", "embeddings", "buffers", "encoding", "mining", "roughly"):
        assert part in text
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


# Mistakes


def bad_npy(path: Path) -> str:
    np.save(path / "bad.npy", np.zeros((N, 4)))
    return "bad.npy"


def cut_npy(path: Path) -> str:
    np.save(path / "whole.npy", np.ones((N, 4), np.float32))
    (path / "cut.npy").write_bytes((path / "whole.npy").read_bytes()[:-5])
    return "cut.npy"


def nan_npy(path: Path) -> str:
    rows = np.ones((N, 4), np.float32)
    rows[17, 2] = np.nan
    np.save(path / "nan.npy", rows)
    return "nan.npy"


def file(name: str, data: bytes) -> Callable[[Path], str]:
    def make(path: Path) -> str:
        (path / name).write_bytes(data)
        return name

    return make


def given(make: Callable[[Path], str]) -> list[Any]:
    return ["IN", *COLUMNS, "--anchor-embeddings", make, "--positive-embeddings", make, "-o", "out.jsonl"]


OUT = ("-o", "out.jsonl")
MISTAKES: list[tuple[str, list[Any], str]] = [
    ("no input", [*OUT], "INPUT"),
    ("no such input", ["nowhere.jsonl", *OUT], "nowhere.jsonl"),
    ("input a folder", [".", *OUT], r"\."),
    ("unknown suffix", [file("pairs.csv", b"a,b\n"), *OUT], r"pairs\.csv.*parquet.*jsonl"),
    ("no parquet", [file("x.parquet", b"PAR1 no"), *OUT], r"x\.parquet"),
    ("empty parquet", [file("x.parquet", b""), *OUT], r"x\.parquet"),
    ("bad JSON", [file("x.jsonl", b'{"anchor": "a", "positive": "b"}\n{"anchor"\n'), *OUT], r"x\.jsonl.*line 2"),
    ("JSON list", [file("x.jsonl", b"[1]\n"), *OUT], r"x\.jsonl.*line 1"),
    ("bytes", [file("x.jsonl", b"\xff\xfe\n"), *OUT], r"x\.jsonl.*line 1"),
    ("missing column", ["IN", *OUT], "'anchor'.*query"),
    ("a number for a text", [file("x.jsonl", b'{"anchor": 3, "positive": "b"}\n'), *OUT], "anchor.*int 3 in row 0"),
    ("null anchor", [file("x.jsonl", b'{"anchor": null, "positive": "b"}\n'), *OUT], "anchor.*0"),
    ("repeated id", [file("x.jsonl", b'{"anchor":"a","positive":"b","id":1}\n' * 2), "--id", "id", *OUT], "id.*1"),
    ("no output", ["IN", *COLUMNS], "--output"),
    ("output suffix", ["IN", *COLUMNS, "-o", "out.csv"], r"--output.*out\.csv"),
    ("output a folder", ["IN", *COLUMNS, "-o", "."], "--output"),
    ("output in no folder", ["IN", *COLUMNS, "-o", "no/where/out.jsonl"], "--output.*where"),
    ("output is the input", ["IN", *COLUMNS, "-o", "IN"], "--output.*own"),
    ("outputs are one", ["IN", *COLUMNS, *OUT, "--triplets", "out.jsonl"], "--triplets.*own"),
    ("float64 rows", given(bad_npy), r"bad\.npy.*float64"),
    ("cut-off rows", given(cut_npy), r"cut\.npy"),
    ("no rows file", given(lambda _: "no.npy"), r"no\.npy"),
    ("NaN row", given(nan_npy), r"anchor-embeddings.*row 17.*nan\.npy"),
    ("rows of another length", given(lambda path: str(np.save(path / "s.npy", np.ones((3, 4), np.float32)) or "s.npy")),
     "60 texts.*got 3"),
    ("one side of embeddings", ["IN", *COLUMNS, "--anchor-embeddings", cut_npy, *OUT], r"cut\.npy|positive-embeddings"),
    ("rows that are text", given(file("t.npy", b"hello")), r"t\.npy"),
    ("empty rows file", given(file("e.npy", b"")), r"e\.npy"),
    ("empty safetensors", given(file("e.safetensors", b"")), r"e\.safetensors"),
    ("corrupt safetensors", given(file("e.safetensors", b"\xff" * 40)), r"e\.safetensors"),
    ("unknown embeddings", given(file("e.bin", b"")), r"e\.bin"),
    ("recipe not there", ["IN", *COLUMNS, *OUT, "--recipe", "no.json"], r"no\.json"),
    ("recipe no JSON", ["IN", *COLUMNS, *OUT, "--recipe", file("r.json", b"{")], r"r\.json"),
    ("recipe of another version", ["IN", *COLUMNS, *OUT, "--recipe", file("r.json", b'{"format": 9}')], "format.*9"),
    ("recipe with unknown field", ["IN", *OUT, "--recipe", file("r.json", b'{"format":1,"k":1}')], "'k'"),
    ("recipe without a job", ["--recipe", file("r.json", b'{"format":1}')], "INPUT"),
    ("recipe with a bad job", ["--recipe", file("r.json", b'{"format":1,"job":[]}')], "job"),
    ("job of another version", ["--recipe", file("r.json", b'{"format":1,"job":{"format":7}}')], "format.*7"),
    ("job with a number", ["--recipe", file("r.json", b'{"format":1,"job":{"format":1,"input":3}}')], "input.*3"),
    ("job whose input is gone", ["--recipe", file("r.json", b'{"format":1,"job":{"format":1,"input":"a.jsonl",'
     b'"output":"out.jsonl"}}')], r"a\.jsonl"),
    ("row numbers as identity", ["IN", *COLUMNS, *OUT, "--recipe",
     file("r.json", b'{"format":1,"rules":{"exclude_self":true}}')], "exclude_self"),
    ("column without input", ["--recipe", file("r.json", b'{"format":1,"job":{"format":1,"input":"a.jsonl"}}'),
     "--anchor", "query"], "--anchor"),
    ("softmax without temperature", ["IN", *COLUMNS, *OUT, "--draw", "softmax"], "temperature"),
    ("temperature without softmax", ["IN", *COLUMNS, *OUT, "--temperature", "1"], "temperature"),
    ("temperature 0", ["IN", *COLUMNS, *OUT, "--draw", "softmax", "--temperature", "0"], "temperature.*above 0"),
    ("distinct 2", ["IN", *COLUMNS, *OUT, "--distinct", "2"], "distinct.*between"),
    ("window too small", ["IN", *COLUMNS, *OUT, "--range-max", "3"], "num_negatives.*3"),
    ("tiers swapped", ["IN", *COLUMNS, *OUT, "--hard", "-0.5"], "semi_hard.*hard"),
    ("no number", ["IN", *COLUMNS, *OUT, "--min-score", "x"], "--min-score.*'x'"),
    ("nan", ["IN", *COLUMNS, *OUT, "--max-score", "nan"], "--max-score.*nan"),
    ("zero negatives", ["IN", *COLUMNS, *OUT, "--num-negatives", "0"], "--num-negatives.*'0'"),
    ("many digits", ["IN", *COLUMNS, *OUT, "--seed", "9" * 5000], "--seed"),
    ("seed too large", ["IN", *COLUMNS, *OUT, "--seed", str(2**64)], "seed.*at most"),
    ("memory unit", ["IN", *COLUMNS, *OUT, "--max-memory", "2XB"], "--max-memory.*2XB"),
    ("memory too small", ["IN", *COLUMNS, *OUT, "--max-memory", "1"], "max_memory.*at least"),
    ("unknown draw", ["IN", *COLUMNS, *OUT, "--draw", "best"], "--draw.*best"),
    ("unknown option", ["IN", *COLUMNS, *OUT, "--fast"], "--fast"),
    ("group of one side", ["IN", *COLUMNS, *OUT, "--group", "group", "--corpus", "IN", "--corpus-text", "passage"],
     "--corpus-group"),
    ("model not there", ["IN", *COLUMNS, *OUT, "--model", "./no-model"], "--model"),
    ("restart and resume", ["IN", *COLUMNS, *OUT, "--restart", "--resume"], "--resume"),
    ("prompt without a model", ["IN", *COLUMNS, *OUT, "--anchor-prompt", "q: "], "--anchor-prompt.*--model"),
    ("model beside embeddings", [*given(lambda path: str(embed(path, pairs())[0])), "--model", "m"], "--model.*both"),
    ("embeddings of no corpus", [*given(lambda path: str(embed(path, pairs())[0])), "--corpus-embeddings", "query.npy"],
     "--corpus-embeddings.*--corpus,"),
    ("column of no corpus", ["IN", *COLUMNS, *OUT, "--corpus-group", "g"], "--corpus-group.*--corpus,"),
    ("column of nothing forbidden", ["IN", *COLUMNS, *OUT, "--forbidden-text", "t"], "--forbidden-text.*--forbidden,"),
    ("mixed ids", [file("x.jsonl", b'{"anchor":"a","positive":"b","id":1}\n{"anchor":"a","positive":"b","id":"1"}\n'),
     "--id", "id", *OUT], "integers.*str '1' in row 1"),
    ("rows too large to multiply", [*given(lambda path: str(np.save(path / "l.npy", np.full((N, 4), 3e38, np.float32))
     or "l.npy")), "--metric", "dot"], "small enough"),
    ("job with a name that is none",
     ["--recipe", file("r.json", b'{"format":1,"job":{"format":1,"input":"a\\u0000"}}')], "input.*name"),
    ("job of no blocks", ["--recipe", file("r.json", b'{"format":1,"job":{"format":1,"input":"a","block_size":0}}')],
     "block_size.*at least 1"),
    ("job of true blocks",
     ["--recipe", file("r.json", b'{"format":1,"job":{"format":1,"input":"a","block_size":true}}')], "size.*True"),
    ("no threads", ["IN", *COLUMNS, *OUT, "--threads", "0"], "--threads"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_mistakes_end_in_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[Any], message: str
) -> None:
    made = [argument(tmp_path) if callable(argument) else argument for argument in arguments]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    try:
        code = main(["mine", *(str(table) if argument == "IN" else argument for argument in made), "--quiet"])
    except SystemExit as ended:  # argparse ends the process itself
        code = int(ended.code or 0)
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.startswith("negfast")
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    assert re.search(message, error), error
    after = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert after == before


def test_a_changed_input_is_not_a_repeat(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine(table, *COLUMNS, *SMALL, "-o", "out.jsonl")
    first = (tmp_path / "out.jsonl").read_bytes()
    write_jsonl(table, pairs()[:-1])
    assert main(["mine", "--recipe", "out.jsonl.recipe.json"]) == 2
    assert "fingerprint" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_bytes() == first
    mine(table, *COLUMNS, "--recipe", "out.jsonl.recipe.json", "-o", "new.jsonl")


def test_what_others_keep_beside_the_output_stays(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that happens to have the name of the parts is not the job's to empty."""
    folder = tmp_path / "out.jsonl.parts"
    folder.mkdir()
    (folder / "mine.txt").write_text("precious")
    for options in ([], ["--restart"], ["--resume"]):
        assert main(["mine", str(table), *COLUMNS, *OUT, *options]) == 2
        assert "out.jsonl.parts" in capsys.readouterr().err
    assert (folder / "mine.txt").read_text() == "precious"
    (tmp_path / "other.jsonl.parts").write_text("")
    assert main(["mine", str(table), *COLUMNS, "-o", "other.jsonl"]) == 2
    (tmp_path / "third.jsonl.report.json").mkdir()
    assert main(["mine", str(table), *COLUMNS, "-o", "third.jsonl"]) == 2
    assert "third.jsonl.report.json" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_outputs_that_are_links(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out.jsonl").symlink_to("there/real.jsonl")
    mine(table, *COLUMNS, *SMALL, *OUT)
    assert (tmp_path / "out.jsonl").is_symlink()
    assert len(read_jsonl(tmp_path / "there" / "real.jsonl")) == N - 1
    for name, target in (("loop.jsonl", "loop.jsonl"), ("nowhere.jsonl", "no/where.jsonl"), ("in.jsonl", table)):
        (tmp_path / name).symlink_to(target)
        assert main(["mine", str(table), *COLUMNS, "-o", name]) == 2
        assert "--output" in capsys.readouterr().err
    assert main(["mine", str(table), *COLUMNS, *OUT, "--triplets", "there/real.jsonl"]) == 2
    assert "of its own" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_full_disk_leaves_nothing_half_written(table: Path, tmp_path: Path) -> None:
    """Files may not grow past a limit: what a full disk looks like to a program."""
    code = (
        "import resource, signal, sys\n"
        "from negfast.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    arguments = ["mine", str(table), *COLUMNS, *SMALL, "-o", "out.jsonl", "--quiet"]
    for limit in (500, 20_000, 80_000):
        done = subprocess.run(
            [sys.executable, "-c", code, str(limit), *arguments, "--restart"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2, (limit, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
        assert "too large" in done.stderr.lower()
        assert not [path for path in tmp_path.iterdir() if path.name.endswith(("out.jsonl", ".part"))]
    mine(*arguments[1:-1], "--restart")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_read_only_folder(table: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from negfast.cli.main import main\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"  # root may write anywhere
        "sys.exit(main(sys.argv[1:]))\n"
    )
    tmp_path.chmod(0o755)
    (tmp_path / "locked").mkdir(mode=0o555)
    command = [sys.executable, "-c", code, "mine", table.name, *COLUMNS, *SMALL, "--quiet", "-o", "locked/out.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("negfast: --output must be in a folder that can be written, got locked")
    assert done.stderr.count("\n") == 1


def test_missing_extra_is_named(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert main(["mine", str(table), *COLUMNS, "-o", "out.parquet", "--quiet"]) == 2
    assert "negfast[cli]" in capsys.readouterr().err
    assert main(["mine", str(table), *COLUMNS, *OUT, "--model", "any", "--quiet"]) == 2
    assert "negfast[sentence-transformers]" in capsys.readouterr().err
