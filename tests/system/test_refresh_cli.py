"""`negfast mine --state` and `negfast refresh` as a user meets them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast.cli.main import main

N = 80
DIM = 16
Rows = np.ndarray[Any, np.dtype[np.float32]]
SETTINGS = ("--num-negatives", "3", "--relative-margin", "off")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def embeddings(seed: int, n: int = N) -> Rows:
    """Make rows; a little drift from one seed to the next."""
    start = np.random.default_rng(0).standard_normal((n, DIM))
    drift = np.random.default_rng(seed).standard_normal((n, DIM))
    return (start + 0.05 * seed * drift).astype(np.float32)


def write_jsonl(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def run(*arguments: object) -> None:
    assert main([*map(str, arguments), "--quiet"]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    before = sorted((path.name, path.read_bytes()) for path in Path().iterdir())
    assert main([*map(str, arguments), "--quiet"]) == 2
    assert sorted((path.name, path.read_bytes()) for path in Path().iterdir()) == before
    return capsys.readouterr().err


@pytest.fixture
def state() -> None:
    """Mine pairs, among them some whose texts repeat, and keep the state."""
    rows = [{"id": f"p{i}", "anchor": f"question {i}", "positive": f"answer {i}"} for i in range(N)]
    rows[5]["positive"] = rows[4]["positive"]
    rows[9]["anchor"] = rows[8]["anchor"]
    write_jsonl("pairs.jsonl", rows)
    for seed in range(3):
        np.save(f"q{seed}.npy", embeddings(seed)[::-1].copy())
        np.save(f"c{seed}.npy", embeddings(seed))
    given = ("--anchor-embeddings", "q0.npy", "--positive-embeddings", "c0.npy")
    run("mine", "pairs.jsonl", "--id", "id", *given, *SETTINGS, "-o", "out.jsonl", "--state", "s.safetensors")


def fresh(seed: int, name: str) -> list[dict[str, Any]]:
    given = ("--anchor-embeddings", f"q{seed}.npy", "--positive-embeddings", f"c{seed}.npy")
    run("mine", "pairs.jsonl", "--id", "id", *given, *SETTINGS, "-o", name)
    return read_jsonl(name)


@pytest.mark.usefixtures("state")
def test_a_state_changes_nothing_of_what_is_mined() -> None:
    assert read_jsonl("out.jsonl") == fresh(0, "plain.jsonl")
    names = {path.name for path in Path().glob("s.*")}
    assert names == {"s.safetensors", "s.safetensors.job.json"}
    assert not Path("out.jsonl.parts").exists()


@pytest.mark.usefixtures("state")
def test_refreshes_give_what_mining_anew_does() -> None:
    for seed in (1, 2):
        files = ("-o", "new.jsonl", "--triplets", "triplets.jsonl", "--n-tuples", "tuples.jsonl")
        run("refresh", "--state", "s.safetensors", "--queries", f"q{seed}.npy", "--corpus", f"c{seed}.npy", *files)
        assert read_jsonl("new.jsonl") == fresh(seed, "fresh.jsonl")
        assert len(read_jsonl("triplets.jsonl")) == 3 * len(read_jsonl("tuples.jsonl")) == 3 * N
        report = json.loads(Path("new.jsonl.report.json").read_text())
        told = report["refresh"]
        assert told["n_proven"] + told["n_estimated"] + told["n_searched"] == N - 1
    assert negfast.Miner.load("s.safetensors").recipe.epoch == 2
    assert not list(Path().glob(".negfast-*"))


@pytest.mark.usefixtures("state")
def test_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    base = ["refresh", "--state", "s.safetensors", "--queries", "q1.npy", "--corpus", "c1.npy"]
    assert main([*base, "--epoch", "7", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "refresh: rows moved by" in printed
    assert "s.safetensors  the state" in printed
    assert negfast.Miner.load("s.safetensors").recipe.epoch == 7


@pytest.mark.usefixtures("state")
def test_changed_rows_are_named_as_in_the_tables() -> None:
    corpus = np.load("c0.npy")
    corpus[30] = -corpus[30]
    np.save("c1.npy", corpus)
    np.save("rows.npy", np.array([30]))
    np.save("q1.npy", np.load("q0.npy"))
    names = ("--queries", "q1.npy", "--corpus", "c1.npy", "--changed", "rows.npy")
    run("refresh", "--state", "s.safetensors", *names, "-o", "new.jsonl")
    assert read_jsonl("new.jsonl") == fresh(1, "fresh.jsonl")
    assert json.loads(Path("new.jsonl.report.json").read_text())["refresh"]["n_movers"] == 1


def test_a_corpus_file_comes_before_the_positives() -> None:
    write_jsonl("pairs.jsonl", [{"anchor": f"question {i}", "positive": f"answer {i}"} for i in range(20)])
    write_jsonl("corpus.jsonl", [{"text": f"passage {i}"} for i in range(40)])
    for seed in (0, 1):
        rows = embeddings(seed)
        for name, part in (("q", rows[:20]), ("p", rows[20:40]), ("c", rows[40:])):
            np.save(f"{name}{seed}.npy", part)
        given = ("--anchor-embeddings", f"q{seed}.npy", "--positive-embeddings", f"p{seed}.npy")
        given += ("--corpus", "corpus.jsonl", "--corpus-embeddings", f"c{seed}.npy")
        keep = () if seed else ("--state", "s.safetensors")
        run("mine", "pairs.jsonl", *given, *SETTINGS, "-o", f"mined{seed}.jsonl", *keep)
    names = ("--queries", "q1.npy", "--corpus", "c1.npy", "p1.npy")
    run("refresh", "--state", "s.safetensors", *names, "-o", "new.jsonl")
    assert read_jsonl("new.jsonl") == read_jsonl("mined1.jsonl")


def test_a_state_that_python_wrote() -> None:
    queries, corpus = embeddings(0)[:20], embeddings(0)
    miner = negfast.Miner(num_negatives=2, n_threads=1)
    miner.mine(queries, corpus, np.arange(20))
    miner.save("s.safetensors")
    np.save("q.npy", embeddings(1)[:20])
    np.save("c.npy", embeddings(1))
    run("refresh", "--state", "s.safetensors", "--queries", "q.npy", "--corpus", "c.npy", "-o", "new.jsonl")
    mined = miner.refresh(embeddings(1)[:20], embeddings(1))
    for i, entry in enumerate(read_jsonl("new.jsonl")):
        assert (entry["anchor_id"], entry["positive_ids"]) == (i, [i])
        assert entry["negative_ids"] == [row for row in mined.indices[i].tolist() if row >= 0]
    again = negfast.Miner.load("s.safetensors", n_threads=1)
    one, other = again.refresh(queries, corpus), miner.refresh(queries, corpus)
    np.testing.assert_array_equal(one.indices, other.indices)


def test_ids_of_a_state_that_python_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    rows, names = embeddings(0), [f"doc {i}" for i in range(N)]
    miner = negfast.Miner(num_negatives=2, n_threads=1)
    miner.mine(rows, rows, np.arange(N), ids=(range(N), names))
    miner.save("s.safetensors")
    np.save("rows.npy", embeddings(1))
    np.save("numbers.npy", np.arange(N))
    np.save("names.npy", np.array(names))
    np.save("others.npy", np.array(names[::-1]))
    base = ("refresh", "--state", "s.safetensors", "--queries", "rows.npy", "--corpus", "rows.npy")
    assert "ids must be given, as they were" in refused(capsys, *base)
    assert "ids of the corpus must be those" in refused(capsys, *base, "--ids", "numbers.npy", "others.npy")
    run(*base, "--ids", "numbers.npy", "names.npy", "-o", "new.jsonl")
    entry = read_jsonl("new.jsonl")[3]
    assert (entry["anchor_id"], entry["positive_ids"]) == (3, ["doc 3"])
    assert set(entry["negative_ids"]) <= set(names)


@pytest.mark.usefixtures("state")
def test_mistakes_end_in_one_line_and_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("short.npy", embeddings(1)[:70])
    bad = embeddings(1)
    bad[33, 2] = np.nan
    np.save("bad.npy", bad)
    np.save("narrow.npy", embeddings(1)[:, :8].copy())
    np.save("rows.npy", np.array([N]))
    Path("text.npy").write_text("no array")
    np.savez("many.npz", a=bad)
    Path("many.npz").rename("many.npy")
    state, queries, corpus = ("--state", "s.safetensors"), ("--queries", "q1.npy"), ("--corpus", "c1.npy")
    cases = (
        ((*state, "--queries", "short.npy", *corpus), "--queries must have one row for each anchor of the tables: 80"),
        ((*state, *queries, "--corpus", "c1.npy", "c1.npy"), "--corpus must have one row for each row of the corpus"),
        ((*state, *queries, "--corpus", "bad.npy"), "--corpus must hold finite numbers, got NaN or infinity in row 33"),
        ((*state, *queries, "--corpus", "narrow.npy"), "must be of shape"),
        ((*state, *queries, "--corpus", "c1.npy", "narrow.npy"), "--corpus must be float32 of width 16, as c1.npy"),
        ((*state, *queries, *corpus, "--changed", "rows.npy"), "--changed must hold row numbers of the corpus"),
        ((*state, *queries, *corpus, "--changed", "text.npy"), "text.npy must be a .npy file of numbers or texts"),
        ((*state, *queries, *corpus, "--changed", "many.npy"), "many.npy must be a .npy file, got an archive"),
        ((*state, *queries, *corpus, "--changed", "absent.npy"), "absent.npy: No such file"),
        (
            (*state, *queries, *corpus, "--ids", "rows.npy", "rows.npy"),
            "--ids must be given for a state without tables",
        ),
        ((*state, *queries, *corpus, "-o", "new.txt"), "--output must be a .parquet or .jsonl file"),
        ((*state, *queries, *corpus, "-o", "x.jsonl", "--triplets", "x.jsonl"), "must be a file of its own"),
        ((*state, *queries, "--corpus", "absent.npy"), "absent.npy: No such file"),
        (("--state", "absent.safetensors", *queries, *corpus), "absent.safetensors"),
        (("--state", "q0.npy", *queries, *corpus), "q0.npy"),
    )
    for arguments, message in cases:
        error = refused(capsys, "refresh", *arguments)
        assert error.startswith("negfast: ")
        assert error.count("\n") == 1
        assert message in error, arguments


@pytest.mark.usefixtures("state")
def test_other_tables_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    base = ("refresh", "--state", "s.safetensors", "--queries", "q1.npy", "--corpus", "c1.npy")
    pairs = Path("pairs.jsonl").read_text()
    write_jsonl("pairs.jsonl", [{"anchor": "a", "positive": "b", "id": "c"}])
    assert "pairs.jsonl must be the file that s.safetensors was mined from" in refused(capsys, *base)
    Path("pairs.jsonl").write_text(pairs)
    for damaged in ("{", "[]", '{"format": 1}'):
        Path("s.safetensors.job.json").write_text(damaged)
        assert "s.safetensors.job.json is damaged" in refused(capsys, *base)
    Path("s.safetensors.job.json").unlink()
    assert "--triplets must be given with a state of" in refused(capsys, *base, "--triplets", "t.jsonl")


def test_options_of_mine_that_do_not_go_with_a_state(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("pairs.jsonl", [{"anchor": "a", "positive": "b"}])
    base = ("mine", "pairs.jsonl", "-o", "out.jsonl")
    assert "--block-size must be given without --state" in refused(
        capsys, *base, "--state", "s.safetensors", "--block-size", 5
    )  # fmt: skip
    assert "--state must be a .safetensors file" in refused(capsys, *base, "--state", "s.jsonl")


def test_a_recipe_repeats_the_state() -> None:
    write_jsonl("pairs.jsonl", [{"anchor": f"question {i}", "positive": f"answer {i}"} for i in range(9)])
    run("mine", "pairs.jsonl", "-o", "out.jsonl", "--state", "s.safetensors")
    first = Path("s.safetensors").read_bytes()
    Path("s.safetensors").unlink()
    run("mine", "--recipe", "out.jsonl.recipe.json")
    assert Path("s.safetensors").read_bytes() == first
