"""`negfast convert` as a user meets it, and `negfast mine` with a folder of BEIR."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negfast import formats
from negfast.cli.convert.sources import SOURCES
from negfast.cli.convert.targets import TARGETS
from negfast.cli.main import main
from negfast.encoder import HashedEncoder

WORDS = ("kernel", "window", "archive", "audio", "network", "editor", "printer", "package")
ROWS = [
    {
        "id": f"p{i}",
        "anchor": f"how do I mend the {word}?",
        "positive": f"Take the {word} and read its page {i}.",
    }
    for i, word in enumerate(WORDS)
]
NEEDS_CORPUS = {"tables", "tevatron"}


def write_jsonl(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def _mined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [*ROWS[:-1], {**ROWS[-1], "positive": [ROWS[-1]["positive"], "Packages have a page of their own."]}]
    write_jsonl("pairs.jsonl", rows)
    run("mine", "pairs.jsonl", "--id", "id", "--num-negatives", 3, "--relative-margin", "off", "-o", "mined.jsonl")


def run(*arguments: object) -> None:
    assert main([*map(str, arguments), "--quiet"]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert re.fullmatch(r"negfast: .* must .*, got .*; .*\n", message), message
    return message


def named(target: str) -> str:
    return {"nemo": "out.json", "beir": "folder", "hugging-face": "folder"}.get(target, "out.jsonl")


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_mined_in_every_format(target: str) -> None:
    if target == "hugging-face":
        pytest.importorskip("pyarrow")
    corpus = ["--corpus-output", "corpus.jsonl"] if target in NEEDS_CORPUS else []
    run("convert", "mined.jsonl", "--to", target, "-o", named(target), *corpus)
    assert Path(named(target)).exists()
    if target not in SOURCES:
        return
    again = ["--corpus", "corpus.jsonl"] if target == "tevatron" else []
    run("convert", named(target), "--from", target, *again, "--to", "flag-embedding", "-o", "again.jsonl")
    run("convert", "mined.jsonl", "--to", "flag-embedding", "-o", "straight.jsonl")
    kept = [{name: line[name] for name in ("query", "pos")} for line in read_jsonl("straight.jsonl")]
    assert [{name: line[name] for name in ("query", "pos")} for line in read_jsonl("again.jsonl")] == kept
    if target != "beir":
        assert [x["neg"] for x in read_jsonl("again.jsonl")] == [x["neg"] for x in read_jsonl("straight.jsonl")]


def test_ids_and_scores_are_those_that_were_mined() -> None:
    run("convert", "mined.jsonl", "--to", "nemo", "-o", "out.json")
    data = formats.read_nemo("out.json")
    for query, line in enumerate(read_jsonl("mined.jsonl")):
        inside = slice(*data.negatives[0][query : query + 2].tolist())
        assert data.query_ids[query] == line["anchor_id"]
        assert [data.corpus_ids[row] for row in data.negatives[1][inside]] == line["negative_ids"]
        assert data.negative_scores[inside].tolist() == np.array(line["scores"], np.float32).tolist()
    assert np.isnan(data.positive_scores).tolist() == [False] * 7 + [True] * 2


@pytest.mark.parametrize("with_ids", [True, False])
def test_the_corpus_file_may_have_the_ids_of_the_pairs(with_ids: bool) -> None:
    """As it has where both tables go by row numbers."""
    write_jsonl("corpus.jsonl", [{"id": f"p{i}", "text": f"No word of that, {i}."} for i in range(8)])
    write_jsonl("pairs.jsonl", ROWS)
    named = ["--id", "id", "--corpus-id", "id"] if with_ids else []
    run("mine", "pairs.jsonl", "--corpus", "corpus.jsonl", *named, "--relative-margin", "off", "-o", "mined.jsonl")
    run("convert", "mined.jsonl", "--to", "flag-embedding", "-o", "out.jsonl")
    lines, mined = read_jsonl("out.jsonl"), read_jsonl("mined.jsonl")
    assert [line["pos"] for line in lines] == [[row["positive"]] for row in ROWS]
    kinds = [["corpus" if text.startswith("No word") else "pairs" for text in line["neg"]] for line in lines]
    assert kinds == [line["sources"] for line in mined]
    run("convert", "mined.jsonl", "--to", "nemo", "-o", "out.json")
    first = str(mined[0]["positive_ids"][0])
    assert formats.read_nemo("out.json").corpus_ids[:9] == [
        *(f"corpus:{first[:-1]}{i}" for i in range(8)),
        f"pairs:{first}",
    ]


def test_the_corpus_of_nemo_goes_where_it_is_told() -> None:
    Path("sub").mkdir()
    run("convert", "mined.jsonl", "--to", "nemo", "-o", "sub/out.json", "--corpus-output", "sub/rows")
    assert Path("sub/rows/train.jsonl").exists()
    run("convert", "mined.jsonl", "--to", "nemo", "-o", "sub/x.json", "--corpus-output", "rows")
    assert len(formats.read_nemo("sub/x.json", corpus="rows")) == len(formats.read_nemo("sub/x.json")) == 8


def test_what_is_read_stays(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("corpus.jsonl", [{"text": "No word of that."}])
    run("mine", "pairs.jsonl", "--corpus", "corpus.jsonl", "--relative-margin", "off", "-o", "mined.jsonl")
    run("convert", "mined.jsonl", "--to", "beir", "-o", "folder")
    run("convert", "mined.jsonl", "--to", "nemo", "-o", "nemo.json")
    run("mine", "folder", "-o", "of-folder.jsonl")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    for arguments in (
        ["mined.jsonl", "--to", "tables", "-o", "pairs.jsonl", "--corpus-output", "c.jsonl"],
        ["mined.jsonl", "--to", "tables", "-o", "p.jsonl", "--corpus-output", "corpus.jsonl"],
        ["mined.jsonl", "--to", "tevatron", "-o", "pairs.jsonl", "--corpus-output", "c.jsonl"],
        ["mined.jsonl", "--to", "beir", "-o", "."],
        ["mined.jsonl", "--to", "trec-run", "-o", "mined.jsonl.recipe.json"],
        ["of-folder.jsonl", "--to", "beir", "-o", "folder"],
        ["of-folder.jsonl", "--to", "flag-embedding", "-o", "folder/queries.jsonl"],
        ["folder", "--from", "beir", "--to", "tevatron", "-o", "t.jsonl", "--corpus-output", "folder/corpus.jsonl"],
        ["nemo.json", "--from", "nemo", "--to", "nemo", "-o", "other.json"],
    ):
        assert "must leave what is read as it is" in refused(capsys, "convert", *arguments)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_folder_of_beir_with_a_run_becomes_training_data() -> None:
    run("convert", "mined.jsonl", "--to", "beir", "-o", "folder", "--split", "dev")
    run("convert", "mined.jsonl", "--to", "trec-run", "-o", "run.txt")
    run(
        "convert", "folder", "--from", "beir", "--split", "dev", "--run", "run.txt", "--least-negatives", 3,
        "--to", "tevatron-passages", "-o", "out.jsonl",
    )  # fmt: skip
    lines = read_jsonl("out.jsonl")
    assert [len(line["negative_passages"]) for line in lines] == [3] * 8
    assert lines[0]["positive_passages"][0]["score"] == read_jsonl("mined.jsonl")[0]["positive_score"]


def test_mining_a_folder_of_beir() -> None:
    run("convert", "mined.jsonl", "--to", "beir", "-o", "folder")
    run("mine", "folder", "--num-negatives", 3, "--relative-margin", "off", "-o", "again.jsonl")
    names = ("anchor_id", "positive_score", "scores")
    straight, again = (read_jsonl(f"{name}.jsonl") for name in ("mined", "again"))
    assert [[line[name] for name in names] for line in again] == [[line[name] for name in names] for line in straight]
    run("mine", "--recipe", "again.jsonl.recipe.json", "-o", "repeated.jsonl")
    assert read_jsonl("repeated.jsonl") == read_jsonl("again.jsonl")
    run("convert", "again.jsonl", "--to", "nemo", "-o", "out.json")
    assert formats.read_nemo("out.json").corpus_ids == formats.read_beir("folder").corpus_ids


def test_a_folder_of_beir_with_titles_and_a_query_without_a_positive() -> None:
    data = formats.RetrievalData.of(
        [f"how do I mend the {word}?" for word in WORDS], [f"Read its page {i}." for i in range(8)],
        [[i] for i in range(8)], positive_grades=[[1]] * 7 + [[0]], titles=[f"The {word}" for word in WORDS],
        query_ids=WORDS,
    )  # fmt: skip
    formats.write_beir("folder", data, split="dev")
    run("mine", "folder", "--split", "dev", "--relative-margin", "off", "-o", "mined.jsonl")
    mined = read_jsonl("mined.jsonl")
    assert [line["anchor_id"] for line in mined] == [*WORDS[:7]]
    assert {source for line in mined for source in line["positive_sources"]} == {"corpus"}
    run("convert", "mined.jsonl", "--to", "flag-embedding", "-o", "out.jsonl")
    passages = [[f"The {word} Read its page {i}."] for i, word in enumerate(WORDS)]
    assert [line["pos"] for line in read_jsonl("out.jsonl")] == passages[:7]
    tables = ("--to", "tables", "-o", "p.jsonl", "--corpus-output", "c.jsonl")
    run("convert", "folder", "--from", "beir", "--split", "dev", *tables)
    assert [(row["id"], row["positive"]) for row in read_jsonl("p.jsonl")] == [*zip(WORDS[:7], passages, strict=False)]
    assert [[row["text"]] for row in read_jsonl("c.jsonl")] == passages


def test_a_folder_of_beir_with_embeddings() -> None:
    run("convert", "mined.jsonl", "--to", "beir", "-o", "folder")
    data = formats.read_beir("folder")
    encoder = HashedEncoder(dim=32).fit(data.corpus)
    np.save("q.npy", encoder.encode(data.queries))
    np.save("c.npy", encoder.encode(data.corpus))
    run("mine", "folder", "--anchor-embeddings", "q.npy", "--corpus-embeddings", "c.npy", "-o", "again.jsonl")
    assert [line["anchor_id"] for line in read_jsonl("again.jsonl")] == data.query_ids


def test_tables_are_what_mine_reads() -> None:
    run("convert", "mined.jsonl", "--to", "tables", "-o", "p.jsonl", "--corpus-output", "c.jsonl")
    options = ("--num-negatives", 3, "--relative-margin", "off")
    run("mine", "p.jsonl", "--id", "id", "--corpus", "c.jsonl", "--corpus-id", "id", *options, "-o", "again.jsonl")
    straight, again = ([x["negative_ids"] for x in read_jsonl(f"{name}.jsonl")] for name in ("mined", "again"))
    assert again == straight


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "mined.jsonl", "--least-negatives", "9", "--to", "trec-qrels", "-o", "q.txt"]) == 0
    printed = capsys.readouterr().out
    assert "0 queries, 9 corpus rows, 0 positives, 0 negatives" in printed
    assert "8 queries are left out." in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pairs.jsonl", "--to", "nemo", "-o", "x.json"], "no pairs.jsonl.recipe.json; name its format with --from"),
        (["mined.jsonl", "--to", "tevatron", "-o", "x.jsonl"], "--corpus-output must be given with --to tevatron"),
        (["mined.jsonl", "--to", "tables", "-o", "x.jsonl"], "--corpus-output must be given with --to tables"),
        (["mined.jsonl", "--to", "tables", "-o", "x.csv", "--corpus-output", "c.jsonl"], "--output must be a"),
        (["mined.jsonl", "--to", "beir", "-o", "x", "--corpus-output", "c"], "--corpus-output must be given with --to"),
        (["x.jsonl", "--from", "tevatron", "--to", "nemo", "-o", "x.json"], "--corpus must be given with --from"),
        (["mined.jsonl", "--corpus", "c", "--to", "nemo", "-o", "x.json"], "--corpus must be given with --from"),
        (["mined.jsonl", "--split", "dev", "--to", "nemo", "-o", "x.json"], "--split must be given with beir"),
        (["mined.jsonl", "--to", "flag-embedding", "-o", "mined.jsonl"], "--output must leave what is read as it is"),
        (["mined.jsonl", "--to", "tables", "-o", "x.jsonl", "--corpus-output", "x.jsonl"], "a file of its own"),
        (["mined.jsonl", "--to", "nemo", "-o", "x.txt"], "path must be a .json file"),
        (["mined.jsonl", "--from", "flag-embedding", "--to", "nemo", "-o", "x.json"], 'must have a field "pos"'),
    ],
)  # fmt: skip
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert message in refused(capsys, "convert", *arguments)


def test_tables_that_have_changed_since(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("pairs.jsonl", ROWS[:3])
    message = refused(capsys, "convert", "mined.jsonl", "--to", "nemo", "-o", "x.json")
    assert "pairs.jsonl must be the file that mined.jsonl was mined from" in message


def test_mistakes_with_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    run("convert", "mined.jsonl", "--to", "beir", "-o", "folder")
    for arguments, message in (
        (["folder", "--id", "id", "-o", "x.jsonl"], "--id must be given with a table as INPUT, got it with a folder"),
        (["folder", "--corpus", "pairs.jsonl", "-o", "x.jsonl"], "--corpus must be given with a table as INPUT"),
        (["pairs.jsonl", "--split", "dev", "-o", "x.jsonl"], "--split must be given with a folder of BEIR as INPUT"),
        (["folder", "-o", "folder/x.jsonl"], "--output must be outside of the folder folder, got folder/x.jsonl"),
    ):
        assert message in refused(capsys, "mine", *arguments)
