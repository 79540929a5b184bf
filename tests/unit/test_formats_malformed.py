"""Files that are not what their format has: refused in one line that says where, what was expected, and what to do."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import negfast
from format_cases import FORMATS, NEEDS_PYARROW, small
from negfast import formats
from negfast.formats import (
    read_beir,
    read_flag_embedding,
    read_hugging_face,
    read_nemo,
    read_tevatron,
    read_tevatron_passages,
    read_trec_qrels,
    read_trec_run,
)

Type, Value = negfast.InvalidTypeError, negfast.InvalidValueError
FLAG = '{"query": "q", "pos": ["p"], "neg": ["n", "m"]}'
RUN = "q1 Q0 d1 1 0.9 tag\n"
QRELS = "q1 0 d1 1\n"


def line(**fields: Any) -> str:
    return json.dumps(fields)


def refuses(read: Callable[[], object], error: type[Exception], *patterns: str) -> None:
    """Check that a call fails with this error, in one line of bearable length with a remedy."""
    with pytest.raises(error) as caught:
        read()
    message = str(caught.value)
    for pattern in patterns:
        assert re.search(pattern, message), message
    assert "\n" not in message
    assert len(message) < 600
    assert re.search("must .*, got .*; ", message), message


@pytest.mark.parametrize(
    ("content", "error", "patterns"),
    [
        (FLAG + "\n" + FLAG[:-1], Value, ["line 2", "JSON"]),
        (FLAG + "\n\n[]", Value, ["line 3", "object, got list"]),
        ('{"pos": [], "neg": []}', Value, ["line 1", 'field "query", got "pos", "neg"']),
        ('{"query": "q", "neg": []}', Value, ["line 1", 'field "pos"']),
        ('{"query": 7, "pos": []}', Type, ["line 1", 'field "query"', "a text, got int 7"]),
        ('{"query": null, "pos": []}', Type, ['field "query"', "NoneType"]),
        ('{"query": "q", "pos": "abc"}', Type, ['field "pos"', "list of texts, got str 'abc'", "single text"]),
        ('{"query": "q", "pos": [], "neg": "abc"}', Type, ['field "neg"', "list of texts, got str 'abc'"]),
        ('{"query": "q", "pos": ["p", 1]}', Type, [r'field "pos\[1\]"', "got int 1"]),
        ('{"query": "q", "pos": [["p"]]}', Type, [r'field "pos\[0\]"', "got list"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": [1, 2]}', Type, ['"pos_scores"', "list of 1 numbers"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": 1}', Type, ['"pos_scores"', "list of numbers, got int"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": ["1"]}', Type, [r'"pos_scores\[0\]"', "number, got str '1'"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": [true]}', Type, [r'"pos_scores\[0\]"', "bool"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": [null]}', Type, [r'"pos_scores\[0\]"', "NoneType"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": [NaN]}', Value, [r'"pos_scores\[0\]"', "finite", "nan"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": [1e39]}', Value, [r'"pos_scores\[0\]"', "float32"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": [-Infinity]}', Value, [r'"pos_scores\[0\]"', "finite"]),
        ('{"query": "q", "pos": ["p"], "pos_scores": [1' + "0" * 60 + "]}", Value, [r'"pos_scores\[0\]"', "bits"]),
    ],
)
def test_flag_embedding(tmp_path: Path, content: str, error: type[Exception], patterns: list[str]) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(content)
    refuses(lambda: read_flag_embedding(path), error, "train.jsonl", *patterns)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(FLAG.encode() + b"\n" + FLAG.encode().replace(b"m", b"\xff"))
    refuses(lambda: read_flag_embedding(path), Value, "line 2", "UTF-8")
    (tmp_path / "run.txt").write_bytes(RUN.encode() + b"\xff Q0 d 1 1 t")
    refuses(lambda: read_trec_run(tmp_path / "run.txt"), Value, "line 2", "UTF-8")
    (tmp_path / "train.json").write_bytes(b'{"corpus": "\xff"}')
    refuses(lambda: read_nemo(tmp_path / "train.json"), Value, "train.json", "line 1", "UTF-8")


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (formats.write_flag_embedding, read_flag_embedding),
        (formats.write_tevatron_passages, read_tevatron_passages),
        (formats.write_nemo, read_nemo),
        (formats.write_trec_run, read_trec_run),
        (formats.write_trec_qrels, read_trec_qrels),
    ],
)
def test_compressed_files_that_are_damaged(
    tmp_path: Path, write: Callable[..., None], read: Callable[[Path], object]
) -> None:
    path = tmp_path / ("train.json.gz" if read is read_nemo else "train.jsonl.gz")
    write(path, small() if read is not read_trec_run else small().run())
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-12], whole[:3], b"not compressed", whole[:-8] + bytes(8)):
        path.write_bytes(damaged)
        refuses(lambda: read(path), Value, path.name, "whole gzip file")


@pytest.mark.parametrize(
    ("file", "content", "error", "patterns"),
    [
        ("train", line(query="a", positive_document_ids=[], negative_document_ids=[]), Value, ['"query_id"']),
        ("train", line(query_id=1, positive_document_ids=[], negative_document_ids=[]), Value, ['"query_text"']),
        ("train", line(query_id=1.5, query="a"), Type, ['"query_id"', "integer, got float"]),
        ("train", line(query_id=True, query="a"), Type, ['"query_id"', "bool"]),
        ("train", line(query_id="q", query="a", negative_document_ids=[]), Value, ['"positive_document_ids"']),
        ("train", line(query_id="q", query="a", positive_document_ids="d1"), Type, ["list of ids, got str"]),
        ("train", line(query_id="q", query="a", positive_document_ids=[None]), Type, [r"document_ids\[0\]"]),
        ("train", line(query_id="q", query="a", positive_document_ids=["d9"]), Value, ["id of the corpus, got 'd9'"]),
        ("train", "\n".join([line(query_id="7", query="a", positive_document_ids=[], negative_document_ids=[]),
                             line(query_id=7, query="a", positive_document_ids=[], negative_document_ids=[])]),
         Value, ["line 2", '"query_id"', "of its own, got '7'"]),
        ("corpus", line(text="t"), Value, ['"docid"']),
        ("corpus", line(docid="d1"), Value, ['"text"']),
        ("corpus", line(docid="d1", text=["t"]), Type, ['"text"', "got list"]),
        ("corpus", line(docid="d1", text="t", title=3), Type, ['"title"', "got int"]),
        ("corpus", line(docid=1, text="t") + "\n" + line(docid="1", text="t"), Value, ["line 2", '"docid"', "'1'"]),
    ],
)  # fmt: skip
def test_tevatron(tmp_path: Path, file: str, content: str, error: type[Exception], patterns: list[str]) -> None:
    (tmp_path / "corpus.jsonl").write_text(line(docid="d1", text="t"))
    (tmp_path / f"{file}.jsonl").write_text(content)
    train, corpus = tmp_path / "train.jsonl", tmp_path / "corpus.jsonl"
    refuses(lambda: read_tevatron(train, corpus=corpus), error, f"{file}.jsonl, line", *patterns)


PASSAGE = {"docid": "d", "text": "t"}


@pytest.mark.parametrize(
    ("positives", "error", "patterns"),
    [
        ("t", Type, ['"positive_passages"', "list of objects, got str"]),
        (["t"], Type, [r'"positive_passages\[0\]"', "an object, got str"]),
        ([{"text": "t"}], Value, [r"line 1, positive_passages\[0\]", '"docid"']),
        ([{"docid": "d"}], Value, [r"positive_passages\[0\]", '"text"']),
        ([PASSAGE, {**PASSAGE, "score": "0.5"}], Type, [r"positive_passages\[1\]", '"score"', "number, got str"]),
        ([{**PASSAGE, "score": float("nan")}], Value, [r"positive_passages\[0\]", '"score"', "finite"]),
        ([PASSAGE, {**PASSAGE, "text": "u"}], Value, [r"positive_passages\[1\]", '"docid"', "one passage, got 'd'"]),
        ([PASSAGE, {**PASSAGE, "title": "u"}], Value, [r"positive_passages\[1\]", '"docid"', "one passage, got 'd'"]),
    ],
)
def test_tevatron_passages(tmp_path: Path, positives: Any, error: type[Exception], patterns: list[str]) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(line(query_id="q", query="a", positive_passages=positives, negative_passages=[]))
    refuses(lambda: read_tevatron_passages(path), error, "train.jsonl, line 1", *patterns)


ITEM = {"question_id": "q", "question": "a", "corpus_id": "c", "pos_doc": [{"id": "d1"}], "neg_doc": []}
META = {"class": "TextQADataset", "corpus_id": "c"}


def nemo(*items: Any, corpus: Any = "corpus") -> str:
    return '{"corpus": ' + json.dumps({"path": corpus}) + ', "data": [\n' + ",\n".join(map(json.dumps, items)) + "]}"


@pytest.mark.parametrize(
    ("file", "content", "error", "patterns"),
    [
        ("train.json", "", Value, ["line 1", "JSON", "end too early"]),
        ("train.json", "[]", Value, ["line 1", "JSON"]),
        ("train.json", nemo(ITEM)[:-2], Value, ["line 2", "JSON", "end too early"]),
        ("train.json", nemo(ITEM)[:-10], Value, ["line 2", "JSON"]),
        ("train.json", nemo(ITEM) + "}", Value, ["JSON", "more after its end"]),
        ("train.json", nemo(ITEM).replace('"a"', "a"), Value, ["line 2", "JSON", "Expecting value"]),
        ("train.json", '{"corpus": {"path": "corpus"},\n"data": {}}', Value, ["line 2", r"'\['"]),
        ("train.json", '{"data": []}', Value, ['"corpus"', "pass corpus=FOLDER"]),
        ("train.json", '{"corpus": [], "data": []}', Value, ['field "corpus"', r"one object with a path, got \[\]"]),
        ("train.json", '{"corpus": [{"path": "a"}, {"path": "b"}]}', Value, ["one object with a path"]),
        ("train.json", nemo(corpus=3), Value, ["one object with a path"]),
        ("train.json", nemo(corpus="elsewhere"), FileNotFoundError, []),
        ("train.json", nemo(ITEM, "q"), Type, ["line 3", r"data\[1\]", "object, got str"]),
        ("train.json", nemo({**ITEM, "question": 1}), Type, [r"data\[0\]", '"question"']),
        *(("train.json", nemo({name: value for name, value in ITEM.items() if name != field}), Value, [f'"{field}"'])
          for field in ITEM),
        ("train.json", nemo({**ITEM, "corpus_id": "b"}), Value, ["data", '"corpus_id"', "'c', the one of the corpus"]),
        ("train.json", nemo({**ITEM, "pos_doc": "d1"}), Type, ['"pos_doc"', "list of objects"]),
        ("train.json", nemo({**ITEM, "pos_doc": ["d9"]}), Value, [r"data\[0\], pos_doc\[0\]", '"id"', "'d9'"]),
        ("train.json", nemo({**ITEM, "neg_doc": [{"id": 1.5}]}), Type, [r"neg_doc\[0\]", '"id"', "float"]),
        ("train.json", nemo({**ITEM, "neg_doc": [{"id": "d1", "score": float("-inf")}]}), Value,
         [r"neg_doc\[0\]", '"score"', "finite"]),
        ("train.json", nemo(ITEM, ITEM), Value, ["line 3", r"data\[1\]", '"question_id"', "of its own"]),
        ("corpus/merlin_metadata.json", line(**{**META, "class": "ColPaliDataset"}), Value, ["class", "TextQADataset"]),
        ("corpus/merlin_metadata.json", '{"class": "TextQADataset"}', Value, ["corpus_id", "got None"]),
        ("corpus/train.jsonl", line(id="d1"), Value, ["line 1", '"text"']),
        ("corpus/train.jsonl", line(id="d1", text="t") * 2, Value, ["line 1", "JSON"]),
        ("corpus/train.jsonl", "\n".join([line(id="d1", text="t")] * 2), Value, ["line 2", '"id"', "of its own"]),
    ],
)  # fmt: skip
def test_nemo(tmp_path: Path, file: str, content: str, error: type[Exception], patterns: list[str]) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "train.json").write_text(nemo(ITEM))
    (tmp_path / "corpus" / "merlin_metadata.json").write_text(json.dumps(META))
    (tmp_path / "corpus" / "train.jsonl").write_text(line(id="d1", text="t"))
    assert len(read_nemo(tmp_path / "train.json")) == 1
    (tmp_path / file).write_text(content)
    if error is FileNotFoundError:
        with pytest.raises(error):
            read_nemo(tmp_path / "train.json")
    else:
        refuses(lambda: read_nemo(tmp_path / "train.json"), error, Path(file).name, *patterns)


def test_nemo_without_rows(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "train.json").write_text(nemo(ITEM))
    (tmp_path / "corpus" / "merlin_metadata.json").write_text(json.dumps(META))
    refuses(lambda: read_nemo(tmp_path / "train.json"), Value, "corpus must hold", "got none")


@pytest.mark.parametrize(
    ("file", "content", "error", "patterns"),
    [
        ("corpus.jsonl", '{"_id": "d1"}', Value, ["line 1", '"text"']),
        ("corpus.jsonl", '{"_id": "d1", "text": "t"}\n' * 2, Value, ["line 2", '"_id"', "of its own"]),
        ("queries.jsonl", '{"_id": ["q"], "text": "t"}', Type, ["line 1", '"_id"', "got list"]),
        ("queries.jsonl", '{"_id": "q1", "text": null}', Type, ["line 1", '"text"', "NoneType"]),
        ("qrels/train.tsv", "", Value, ["line 1", "header"]),
        *(("qrels/train.tsv", f"q1\td1\t{grade}\n", Value, ["line 1", "header"]) for grade in ("1", "-1", "1.0")),
        ("qrels/train.tsv", "q1 0 d1 1\nq1 0 d2 1\n", Value, ["line 1", "header"]),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td1\n", Value, ["line 2", "3 columns", "got 2"]),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1 0 d1 1\n", Value, ["line 2", "3 columns", "got 1"]),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t0.5\n", Type, ["line 2", '"score"', "whole number"]),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t" + "9" * 30, Type, ["line 2", "whole number"]),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq9\td1\t1\n", Value, ["line 2", '"query-id"', "'q9'"]),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td9\t1\n", Value, ["line 2", '"corpus-id"', "'d9'"]),
        ("qrels/train.tsv", 'query-id\tcorpus-id\tscore\n"q1\td1\t1\n', Value, ["line 2", "columns"]),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n\nq1\td1\t0\n", Value,
         ["line 4", "once", "'d1'", "line 2", "'q1'"]),
    ],
)  # fmt: skip
def test_beir(tmp_path: Path, file: str, content: str, error: type[Exception], patterns: list[str]) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "text": "t", "title": ""}')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "a", "metadata": {}}')
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    assert read_beir(tmp_path).positives[1].tolist() == [0]
    (tmp_path / file).write_text(content)
    refuses(lambda: read_beir(tmp_path), error, f"{Path(file).name}, line", *patterns)


@pytest.mark.parametrize(
    ("read", "content", "error", "patterns"),
    [
        (read_trec_run, RUN + "q1 Q0 d2 2 0.8", Value, ["line 2", "6 columns", "got 5"]),
        (read_trec_run, RUN.strip() + " extra", Value, ["line 1", "6 columns", "got 7"]),
        (read_trec_run, RUN.replace(" 1 ", " first "), Type, ["line 1", '"rank"', "whole number, got 'first'"]),
        (read_trec_run, RUN.replace(" 1 ", " -1 "), Value, ["line 1", '"rank"', "0 or more"]),
        (read_trec_run, RUN.replace("0.9", "nan"), Value, ["line 1", '"score"', "finite", "'nan'"]),
        (read_trec_run, RUN.replace("0.9", "1e40"), Value, ["line 1", '"score"', "finite"]),
        (read_trec_run, RUN.replace("0.9", "high"), Type, ["line 1", '"score"', "number, got 'high'"]),
        (read_trec_run, RUN + "q1 Q0 d2 0 0.8 t", Value, ["line 2", '"rank"', "1 or more, as the rank before it"]),
        (read_trec_run, RUN.replace(" 1 ", " 1_0 "), Type, ["line 1", '"rank"', "whole number, got '1_0'"]),
        (read_trec_run, RUN.replace("0.9", "1_0.5"), Type, ["line 1", '"score"', "number, got '1_0.5'"]),
        (read_trec_run, RUN.replace(" 1 ", " \u0663 "), Type, ["line 1", '"rank"', "whole number"]),
        (read_trec_run, "q1 Q0 d1 2 0.9 t\nq2 Q0 d1 1 1 t\nq1 Q0 d2 1 0.8 t", Value, ["line 3", '"rank"', "2 or more"]),
        (read_trec_run, RUN + "q1 Q0 d2 2 0.95 t", Value, ["line 2", '"score"', "at most 0.9"]),
        (read_trec_run, RUN + "\nq1 Q0 d1 2 0.8 t", Value, ["line 3", "once", "'d1'", "line 1"]),
        (read_trec_qrels, RUN, Value, ["line 1", "4 columns", "got 6"]),
        (read_trec_qrels, QRELS + "q1 0 d2 1.0", Type, ["line 2", '"grade"', "whole number"]),
        (read_trec_qrels, QRELS + "q2 0 d1 1\n" + QRELS, Value, ["line 3", "once", "'d1'", "line 1", "'q1'"]),
    ],
)
def test_trec(
    tmp_path: Path, read: Callable[[Path], object], content: str, error: type[Exception], patterns: list[str]
) -> None:
    path = tmp_path / "list.txt"
    path.write_text(content, encoding="utf-8")
    refuses(lambda: read(path), error, "list.txt, line", *patterns)


GOOD = {
    "queries": {"query_id": ["q1"], "query": ["a"]},
    "documents": {"document_id": [1, 2], "document": ["t", "u"]},
    "scores": {"query_id": ["q1"], "document_ids": [[1, 2]], "scores": [[0.9, 0.5]]},
}


@pytest.mark.parametrize(
    ("file", "changes", "error", "patterns"),
    [
        ("queries", {"query_id": None}, Value, ["row 0", '"query_id"']),
        ("queries", {"query": None}, Value, ["row 0", '"query"']),
        ("queries", {"query": [3]}, Type, ["row 0", '"query"', "got int"]),
        ("documents", {"document_id": [1, 1]}, Value, ["row 1", '"document_id"', "of its own"]),
        ("documents", {"document_id": [1.5, 2.5]}, Type, ["row 0", '"document_id"', "got float"]),
        ("documents", {"document": ["t", None]}, Type, ["row 1", '"document"', "NoneType"]),
        ("scores", {"query_id": ["q2"]}, Value, ["row 0", '"query_id"', "'q2'"]),
        ("scores", {"document_ids": [[1, 3]]}, Value, ["row 0", '"document_ids"', "'3'"]),
        ("scores", {"document_ids": [1]}, Type, ["row 0", '"document_ids"', "list of ids"]),
        ("scores", {"scores": [[0.9]]}, Type, ["row 0", '"scores"', "list of 2 numbers"]),
        ("scores", {"scores": [[0.9, float("nan")]]}, Value, ["row 0", r'"scores\[1\]"', "finite"]),
        ("scores", {"document_ids": ["d1, d2"]}, Type, ["row 0", '"document_ids"', "a text that spells one"]),
        ("scores", {"document_ids": ["[" * 9000]}, Type, ["row 0", '"document_ids"', "a text that spells one"]),
        ("scores", {"document_ids": ["'d1'"]}, Type, ["row 0", '"document_ids"', "list of ids"]),
        ("scores", {"scores": ["{0.9: 0.5}"]}, Type, ["row 0", '"scores"', "list of numbers"]),
        ("scores", {"scores": [["a", "b"]]}, Type, ["row 0", r'"scores\[0\]"', "got str"]),
    ],
)
def test_hugging_face(
    tmp_path: Path, file: str, changes: dict[str, Any], error: type[Exception], patterns: list[str]
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name, columns in GOOD.items():
        changed = {**columns, **(changes if name == file else {})}
        table = {name: values for name, values in changed.items() if values is not None}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    refuses(lambda: read_hugging_face(tmp_path), error, f"{file}.parquet", *patterns)


def test_hugging_face_lacks_a_table(tmp_path: Path) -> None:
    refuses(lambda: read_hugging_face(tmp_path), Value, "queries.parquet", "got none")


@pytest.mark.parametrize("name", FORMATS)
def test_files_cut_off_anywhere_are_refused_or_read(tmp_path: Path, name: str) -> None:
    """No damage ends in anything but the package's own errors."""
    if name in NEEDS_PYARROW:
        pytest.importorskip("pyarrow")
    kept = FORMATS[name]
    kept.write(tmp_path, small())
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        for length in range(0, len(whole), max(len(whole) // 30, 1)):
            path.write_bytes(whole[:length])
            with suppress(negfast.NegfastError):  # what is cut off at the end of a line is a file too
                kept.read(tmp_path)
        path.write_bytes(whole)
    assert len(kept.read(tmp_path)) == 3
