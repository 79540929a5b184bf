"""Data that formats share, what each writes to the letter, and paths and arguments that are refused."""

import gzip
import importlib.util
import json
import sys
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from format_cases import FORMATS, NEEDS_PYARROW, kept_of, small
from negfast import formats
from negfast.formats import IdLists, RetrievalData
from negfast.formats.json_items import json_items
from negfast.formats.layout import Kept

ROWS = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
TEXTS = [f"text {row}" for row in range(8)]
POSITIVES = [[0], [1, 5], [], [3]]
RULES = negfast.Rules(relative_margin=None)


def mined(**options: Any) -> negfast.MinedNegatives:
    return negfast.mine(ROWS[:4] + 0.1, ROWS, POSITIVES, num_negatives=3, rules=RULES, **options)


def made(**options: Any) -> RetrievalData:
    return RetrievalData.of(TEXTS[:4], TEXTS, POSITIVES, mined(), **options)


def rows_of(lists: Any) -> list[list[int]]:
    indptr, indices = lists
    return [indices[begin:end].tolist() for begin, end in pairwise(indptr)]


# What was mined


def test_mined_rows_and_scores_are_taken_over() -> None:
    data, found = made(), mined()
    assert rows_of(data.negatives) == [row[row >= 0].tolist() for row in found.indices]
    assert data.negative_scores.tolist() == found.scores[found.indices >= 0].tolist()
    assert rows_of(data.positives) == POSITIVES
    # The second query has two positives, and the lower score of both is not that of each.
    assert np.isnan(data.positive_scores).tolist() == [False, True, True, False]
    assert data.positive_scores[[0, 3]].tolist() == found.positive_scores[[0, 3]].tolist()


def test_lists_of_some_anchors_in_any_order() -> None:
    some = negfast.mine(ROWS[:4] + 0.1, ROWS, POSITIVES, num_negatives=3, rules=RULES, anchors=[3, 1])
    data = RetrievalData.of(TEXTS[:4], TEXTS, POSITIVES, some)
    whole = rows_of(made().negatives)
    assert rows_of(data.negatives) == [[], whole[1], [], whole[3]]
    assert np.isnan(data.positive_scores).tolist() == [True, True, True, False]


def test_negatives_go_back_into_select() -> None:
    data = made()
    again = negfast.select(ROWS[:4] + 0.1, ROWS, data.negatives, data.positives, num_negatives=3, rules=RULES)
    assert (again.indices == mined().indices).all()


def test_pairs_for_a_data_set() -> None:
    data = made(titles=["T", *[""] * 7])
    assert data.pairs() == [("text 0", "T text 0"), ("text 1", "text 1"), ("text 1", "text 5"), ("text 3", "text 3")]
    assert data.pair_rows.tolist() == [0, 1, 1, 3]


def test_some_queries() -> None:
    data = made()
    taken = data.take([3, 1])
    assert taken.query_ids == ["3", "1"]
    assert rows_of(taken.positives) == [[3], [1, 5]]
    assert rows_of(taken.negatives) == [rows_of(data.negatives)[row] for row in (3, 1)]
    assert taken.negative_scores.tolist() == [*data.negative_scores[9:12].tolist(), *data.negative_scores[3:6].tolist()]
    assert data.usable().query_ids == ["0", "1", "3"]
    assert len(data.usable(4)) == 0
    assert len(data.take([])) == 0


def test_ids_and_rows() -> None:
    data = made(query_ids=list("abcd"), corpus_ids=[f"d{row}" for row in range(8)])
    assert data.query_rows(["c", "a", "c"]).tolist() == [2, 0, 2]
    assert data.corpus_rows(["d7", "d0"]).tolist() == [7, 0]
    with pytest.raises(negfast.RowIndexError, match=r"corpus_ids must .* got none 'd8' among 8"):
        data.corpus_rows(["d1", "d8"])


def test_judgements_and_rankings_by_id() -> None:
    data = made(query_ids=list("abcd"))
    assert data.qrels().to_dict() == {"a": {"0": 1}, "b": {"1": 1, "5": 1}, "c": {}, "d": {"3": 1}}
    run = data.run()
    assert [len(rows) for rows in run.to_dict().values()] == [4, 3, 3, 4]
    again = data.with_negatives(run)
    assert rows_of(again.negatives) == [best_first(data, query) for query in range(4)]
    assert again.positive_scores[[0, 3]].tolist() == data.positive_scores[[0, 3]].tolist()
    assert np.isnan(again.positive_scores[[1, 2]]).all()


def test_a_negative_may_rank_above_the_positive() -> None:
    data = RetrievalData.of(["a"], ["b", "c", "d"], [[0]], negatives=[[1, 2]], positive_scores=[[0.5]],
                            negative_scores=[[0.25, 0.75]])  # fmt: skip
    assert data.run().values.tolist() == [0.75, 0.5, 0.25]


def test_a_row_that_is_there_twice_is_listed_once(tmp_path: Path) -> None:
    data = RetrievalData.of(["a"], ["b", "c"], [[0, 0]], negatives=[[1, 0, 1]], positive_scores=[[0.5, 0.5]],
                            negative_scores=[[0.25, 0.75, 0.1]])  # fmt: skip
    assert data.run().to_dict() == {"0": {"0": 0.75, "1": 0.25}}
    formats.write_trec_run(tmp_path / "run", data)
    assert formats.read_trec_run(tmp_path / "run").values.tolist() == [0.75, 0.25]
    formats.write_trec_qrels(tmp_path / "judged", data)
    assert formats.read_trec_qrels(tmp_path / "judged").to_dict() == {"0": {"0": 1}}
    formats.write_beir(tmp_path, data)
    assert rows_of(formats.read_beir(tmp_path).positives) == [[0]]


def best_first(data: RetrievalData, query: int) -> list[int]:
    indptr, rows = data.negatives
    inside = slice(*indptr[query : query + 2].tolist())
    order = np.argsort(-data.negative_scores[inside], kind="stable")
    return [int(row) for row in rows[inside][order]]


def test_a_ranking_of_some_queries_in_another_order() -> None:
    data = made(query_ids=list("abcd"))
    found = negfast.topk(ROWS[[3, 1]] + 0.1, ROWS, 8)
    joined = data.with_negatives(IdLists.from_topk(found, ["d", "b"], [str(row) for row in range(8)]))
    assert [len(rows) for rows in rows_of(joined.negatives)] == [0, 6, 0, 7]
    assert rows_of(joined.negatives)[3] == [row for row in found.indices[0].tolist() if row != 3]
    place = found.indices[1].tolist().index(5)
    assert joined.positive_scores[2] == found.scores[1, place]
    assert np.isnan(joined.positive_scores[0])


def test_a_ranking_of_further_queries() -> None:
    """As one of all queries of a benchmark is, of which the data is a split."""
    data = made(query_ids=list("abcd"))
    found = IdLists.from_topk(negfast.topk(ROWS[:3], ROWS, 8), ["x", "d", "y"], [str(row) for row in range(8)])
    assert [len(rows) for rows in rows_of(data.with_negatives(found).negatives)] == [0, 0, 0, 7]
    with pytest.raises(negfast.RowIndexError, match="found must rank queries of this data, got 'x' and no other that"):
        data.take([0, 1]).with_negatives(found)
    with pytest.raises(negfast.RowIndexError, match="corpus_ids must hold each id that is asked for, got none '0'"):
        made(query_ids=list("abcd"), corpus_ids=list("ABCDEFGH")).with_negatives(found)
    nothing = IdLists([], [], (np.zeros(1, np.int64), np.zeros(0, np.int64)), np.zeros(0, np.float32))
    assert data.with_negatives(nothing).negatives[1].size == 0


# To the letter


def test_what_is_written(tmp_path: Path) -> None:
    data = RetrievalData.of(
        ['a "b"'], ["c\n", "d", "é"], [[0]], negatives=[[2, 1]], positive_scores=[[1]], negative_scores=[[0.1, -1e-9]],
        query_ids=["q"], titles=["t", "", ""],
    )  # fmt: skip
    formats.write_flag_embedding(tmp_path / "f.jsonl", data, prompt="p: ", kind="only_1neg")
    assert (tmp_path / "f.jsonl").read_text(encoding="utf-8") == (
        '{"query": "a \\"b\\"", "pos": ["t c\\n"], "neg": ["é", "d"], "pos_scores": [1.0], "neg_scores": [0.1, '
        '-1e-09], "prompt": "p: ", "type": "only_1neg"}\n'
    )
    formats.write_tevatron_passages(tmp_path / "t.jsonl", data)
    assert json.loads((tmp_path / "t.jsonl").read_text(encoding="utf-8")) == {
        "query_id": "q",
        "query": 'a "b"',
        "positive_passages": [{"docid": "0", "title": "t", "text": "c\n", "score": 1.0}],
        "negative_passages": [
            {"docid": "2", "title": "", "text": "é", "score": 0.1},
            {"docid": "1", "title": "", "text": "d", "score": -1e-9},
        ],
    }
    formats.write_nemo(tmp_path / "n.json", data, corpus="rows", corpus_id="c")
    assert json.loads((tmp_path / "n.json").read_text(encoding="utf-8")) == {
        "corpus": [{"path": "rows"}],
        "data": [
            {
                "question_id": "q",
                "question": 'a "b"',
                "corpus_id": "c",
                "pos_doc": [{"id": "0", "score": 1.0}],
                "neg_doc": [{"id": "2", "score": 0.1}, {"id": "1", "score": -1e-9}],
            }
        ],
    }
    formats.write_beir(tmp_path / "b", data, split="dev")
    assert (tmp_path / "b" / "qrels" / "dev.tsv").read_text() == "query-id\tcorpus-id\tscore\nq\t0\t1\n"
    formats.write_trec_run(tmp_path / "run", data, tag="x")
    assert (tmp_path / "run").read_text() == "q Q0 0 1 1.0 x\nq Q0 2 2 0.1 x\nq Q0 1 3 -1e-09 x\n"
    formats.write_trec_qrels(tmp_path / "qrels", data)
    assert (tmp_path / "qrels").read_text() == "q 0 0 1\n"


def test_scores_that_are_not_known(tmp_path: Path) -> None:
    data = RetrievalData.of(["a", "b"], ["c", "d", "e"], [[0], [1]], negatives=[[1, 2], [0]])
    formats.write_flag_embedding(tmp_path / "f.jsonl", data)
    assert "scores" not in (tmp_path / "f.jsonl").read_text()
    data.negative_scores[0] = 0.5
    formats.write_flag_embedding(tmp_path / "f.jsonl", data)
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [line["neg_scores"] for line in lines] == [None, None]
    assert np.isnan(formats.read_flag_embedding(tmp_path / "f.jsonl").negative_scores).all()


def test_grades(tmp_path: Path) -> None:
    data = RetrievalData.of(["a", "b"], ["c", "d", "e"], [[0, 2], [1]], positive_grades=[[2, 1], [1]])
    formats.write_beir(tmp_path, data)
    assert formats.read_beir(tmp_path).positive_grades.tolist() == [2, 1, 1]
    best = formats.read_beir(tmp_path, min_grade=2)
    assert rows_of(best.positives) == [[0], []]


def test_integers_are_ids(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"docid": 7, "text": "t"}')
    (tmp_path / "t.jsonl").write_text(
        '{"query_id": 1, "query": "a", "positive_document_ids": ["7"], "negative_document_ids": [7]}'
    )
    data = formats.read_tevatron(tmp_path / "t.jsonl", corpus=tmp_path / "c.jsonl")
    assert (data.query_ids, data.corpus_ids, rows_of(data.positives)) == (["1"], ["7"], [[0]])


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    formats.write_flag_embedding(tmp_path / "f.jsonl", RetrievalData.of(["a\ud800"], ["b"], [0]))
    assert formats.read_flag_embedding(tmp_path / "f.jsonl").queries == ["a?"]


def test_ids_alone_are_entries_of_nemo(tmp_path: Path) -> None:
    formats.write_nemo(tmp_path / "n.json", small())
    path = tmp_path / "n.json"
    path.write_text(path.read_text(encoding="utf-8").replace('{"id": "d4", "score": 0.5}', '"d4"'), encoding="utf-8")
    data = formats.read_nemo(path)
    assert rows_of(data.negatives) == rows_of(small().negatives)
    assert np.isnan(data.negative_scores).tolist() == [True, False, False]


def test_rows_of_one_query_are_put_together(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tables = {
        "queries": {"query_id": ["q", "unused"], "text": ["a", "b"]},
        "documents": {"document_id": ["d0", "d1", "d2", "d3"], "text": ["t"] * 4},
        "train": {
            "query_id": ["q", "q"],
            "document_ids": [["d1", "d0"], ["d2", "d3", "d0"]],
            "scores": [[0.9, 0.5], [0.8, 0.25, 0.1]],
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    data = formats.read_hugging_face(tmp_path)
    assert data.query_ids == ["q"]
    assert (rows_of(data.positives), rows_of(data.negatives)) == ([[1, 2]], [[0, 3]])
    assert data.negative_scores.tolist() == [0.5, 0.25]


def test_lists_that_are_spelt_out(tmp_path: Path) -> None:
    """As data sets of PyLate have them."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    formats.write_hugging_face(tmp_path, RetrievalData.of(["a"], ["b", "c", "d"], [[0]], query_ids=["q"]))
    lists = {"query_id": ["q", "q"], "document_ids": ["[1, 2]", "['1', '0']"], "scores": ["[1, 0.5]", "[1.0, None]"]}
    pq.write_table(pa.table(lists), tmp_path / "scores.parquet")
    data = formats.read_hugging_face(tmp_path)
    assert (rows_of(data.positives), rows_of(data.negatives)) == ([[1]], [[2, 0]])
    assert np.array_equal(data.negative_scores, [0.5, np.nan], equal_nan=True)


def test_a_positive_of_one_list_is_no_negative_of_another(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    formats.write_hugging_face(tmp_path, RetrievalData.of(["a"], ["b", "c", "d"], [[0]], query_ids=["q"]))
    pq.write_table(
        pa.table({"query_id": ["q", "q"], "document_ids": [["0", "1", "2"], ["1", "0"]]}), tmp_path / "scores.parquet"
    )
    data = formats.read_hugging_face(tmp_path)
    assert (rows_of(data.positives), rows_of(data.negatives)) == ([[0, 1]], [[2]])


def test_ranks_may_be_equal(tmp_path: Path) -> None:
    """As beir writes them: 0 throughout."""
    (tmp_path / "run").write_text("q Q0 b 0 2.5 beir\nq Q0 a 0 1.5 beir\n")
    assert formats.read_trec_run(tmp_path / "run").to_dict() == {"q": {"b": 2.5, "a": 1.5}}


def test_a_folder_of_nemo_may_be_a_path(tmp_path: Path) -> None:
    formats.write_nemo(tmp_path / "x.json", small(), corpus=tmp_path / "rows")
    assert len(formats.read_nemo(tmp_path / "x.json")) == 3


def test_compressed_files_hold_no_time(tmp_path: Path) -> None:
    formats.write_flag_embedding(tmp_path / "f.jsonl.gz", small())
    assert (tmp_path / "f.jsonl.gz").read_bytes()[3:8] == bytes(5)  # no name either


def test_lines_of_queries_may_take_turns(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("b 0 x 1\na 0 x 2\nb 0 y 3\na 0 z 4\n")
    expected = {"b": {"x": 1, "y": 3}, "a": {"x": 2, "z": 4}}
    assert formats.read_trec_qrels(tmp_path / "qrels").to_dict() == expected


# Large files


@pytest.mark.parametrize("name", FORMATS)
def test_queries_in_several_blocks(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS_PYARROW:
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("negfast.formats.layout.QUERIES_PER_BLOCK", 2)
    kept, data = FORMATS[name], small()
    kept.write(tmp_path, data)
    assert kept_of(kept.read(tmp_path), kept) == kept_of(data, kept)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_json_in_pieces_of_any_size(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("negfast.formats.json_items._CHUNK", chunk)
    value = {"n": [1.25, -30, 1e-7, 12345], "é\n": '\\u00e9 "', "空": "\U0001f600", "t": True, "none": None, "o": {}}
    items = [value, "text", 12, [], 3.5]
    path = tmp_path / "x.json"
    text = json.dumps({"a": 17, "data": items, "b": value}, indent=1, ensure_ascii=chunk % 2 == 0)
    path.write_bytes("\ufeff".encode() + text.encode())
    found = list(json_items(path, "data"))
    assert [(field, value) for _, field, place, value in found if place is None] == [("a", 17), ("b", value)]
    assert [value for _, _, place, value in found if place is not None] == items
    lines = text.split("\n")
    assert [lines[line - 1].strip(" ,") for line, _, place, _ in found if place in (1, 2)] == ['"text"', "12"]


def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write('{"data": [' + ",\n".join(json.dumps({"text": f"{row} " * 100}) for row in range(30_000)) + "]}")
    tracemalloc.start()
    n_letters = sum(len(value["text"]) for _, _, _, value in json_items(path, "data"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_letters > 16e6
    assert peak < 8e6


def test_texts_that_are_kept_are_few() -> None:
    asked: list[int] = []
    kept = Kept(lambda row: asked.append(row) or "x" * 10, most=25)
    assert [len(kept(row)) for row in (0, 1, 0, 1, 2, 2, 0)] == [10] * 7
    assert asked == [0, 1, 2, 0]


# What is refused

GOOD = {"queries": ["a"], "corpus": ["b", "c"], "positives": [[0]]}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"queries": "a"}, TypeError, "queries must be a sequence of texts, got str"),
        ({"corpus": {"b": 1}}, TypeError, "corpus must be a sequence of texts, got dict"),
        ({"titles": ["t"]}, ValueError, "titles must have one entry for each of the 2 rows"),
        ({"positives": [[2]]}, IndexError, r"positives must hold rows of the corpus \(0 to 2, exclusive\), got 2"),
        ({"positives": [[0], [1]]}, ValueError, "positives must hold one list for each of the 1 queries, got 2"),
        ({"positives": (np.array([0, 1, 1]), np.array([0]))}, ValueError, "positives must have one list for each"),
        ({"negatives": [[-3]]}, IndexError, "negatives must hold rows of the corpus"),
        ({"positive_grades": [[2**24 + 1]]}, ValueError, "positive_grades must be below 16777216"),
        ({"positive_grades": [[0.5]]}, ValueError, "positive_grades must be whole numbers, got 0.5"),
        ({"negative_scores": [[1.0]]}, ValueError, "negative_scores must be given with the rows"),
        ({"negatives": [[1]], "negative_scores": [[np.nan]]}, ValueError, "negative_scores must hold finite"),
        ({"negatives": [[1]], "negative_scores": [[1.0, 2.0]]}, ValueError, "negative_scores must have the lengths"),
        ({"query_ids": [1]}, TypeError, "query_ids must hold texts, got int 1 at position 0; pass str"),
        ({"query_ids": "a"}, TypeError, "query_ids must be a list of texts, got str"),
        ({"query_ids": ["a", "b"]}, ValueError, "query_ids must have one entry for each of the 1 queries, got 2"),
        ({"corpus_ids": ["a", "a"]}, ValueError, "corpus_ids must hold each id once, got 'a' at positions 0 and 1"),
    ],
)
def test_bad_data(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        RetrievalData.of(**{**GOOD, **arguments})
    assert isinstance(caught.value, negfast.NegfastError)


def test_data_of_another_corpus() -> None:
    for texts, rows, error, message in (
        (TEXTS[:4], TEXTS[:7], ValueError, "corpus must have the 8 rows that were mined, got 7"),
        (TEXTS[:3], TEXTS, IndexError, "queries must have the rows that were mined with, got 3 and a list for row 3"),
    ):
        with pytest.raises(error, match=message):
            RetrievalData.of(texts, rows, [[0]] * len(texts), mined())
    with pytest.raises(ValueError, match="negatives must be given alone, got mined as well"):
        made(negatives=[[0]] * 4)
    with pytest.raises(TypeError, match="found must be a MinedNegatives or an IdLists, got list"):
        made().with_negatives([[0]])
    with pytest.raises(TypeError, match="found must be a ranking with scores, got IdLists: 4 queries, 4 rows judged"):
        made().with_negatives(made().qrels())
    with pytest.raises(IndexError, match="rows must be rows of the 4 queries"):
        made().take([4])
    with pytest.raises(ValueError, match=r"rows must hold each row once, got \[1, 0, 1\]"):
        made().take([1, 0, 1])


@pytest.mark.parametrize("name", FORMATS)
def test_texts_that_are_none(tmp_path: Path, name: str) -> None:
    if name in NEEDS_PYARROW:
        pytest.importorskip("pyarrow")
    for texts in ((["a"], ["b", 3]), ([None], ["b", "c"])):
        with pytest.raises(negfast.InvalidTypeError, match=r"(corpus|queries) must hold texts, got .* in row [01]"):
            FORMATS[name].write(tmp_path, RetrievalData.of(*texts, [[1]]))
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def named(identity: str) -> RetrievalData:
    return made(query_ids=["a", identity, "c", "d"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: formats.write_flag_embedding(path / "x.parquet", small()), "path must be a .jsonl or .json file"),
        (lambda path: formats.read_flag_embedding(path / "x"), "path must be a .jsonl or .json file"),
        (lambda path: formats.write_tevatron(path / "x.json", small()), "path must be a .jsonl file"),
        (lambda path: formats.write_tevatron(path / "x.jsonl", small(), corpus=path / "c.tsv"), "corpus must be a"),
        (lambda path: formats.write_nemo(path / "x.jsonl", small()), "path must be a .json file"),
        (lambda path: formats.write_nemo(path / "x.json", small(), kind="csv"), "kind must be 'jsonl' or 'parquet'"),
        (lambda path: formats.write_hugging_face(path, small(), layout="x"), "layout must be .*, got 'x'"),
        (lambda path: formats.write_hugging_face(path, made()), r"a positive for every query.* got none for '2'"),
        (lambda path: formats.write_beir(path, named("b c")), "query_ids .* got 'b c' in row 1"),
        (lambda path: formats.write_beir(path, named("")), "query_ids .* got '' in row 1"),
        (lambda path: formats.write_trec_run(path / "x", made(), tag="a b"), "tag must be texts without white space"),
        (lambda path: formats.write_trec_run(path / "x", named("\ud800")), "query_ids .* row 1"),
        (lambda path: formats.write_trec_run(path / "x", RetrievalData.of(["a"], ["b"], [[]], negatives=[[0]])),
         "run must have scores"),
        (lambda path: formats.write_trec_run(path / "x", RetrievalData.of(["a"], ["b"], [[0]])),
         "run must have scores"),
        (lambda path: formats.write_trec_run(path / "x", made().qrels()), "run must be .* IdLists of scores"),
        (lambda path: formats.write_trec_qrels(path / "x", made().run()), "qrels must be .* IdLists of grades"),
        (lambda _: IdLists.from_topk(negfast.topk(ROWS, ROWS, 1), ["a"], TEXTS), "query_ids must have one entry"),
        (lambda _: IdLists.from_topk(mined(), TEXTS[:4], TEXTS), "found must be a TopK, got MinedNegatives"),
        (lambda _: made().query_rows("012"), "query_ids must be a list of texts, got str '012'"),
        (lambda _: made().query_rows([["1"]]), "query_ids must hold each id"),
        (lambda _: made().corpus_rows({"1"}), "corpus_ids must be a list of texts, got set"),
        (lambda _: made().usable("3"), "num_negatives must be an integer, got str '3'"),
        (lambda _: made().usable(-1), "num_negatives must be at least 0, got -1"),
        (lambda path: formats.write_flag_embedding(path / "x.jsonl", small(), prompt=3),
         "prompt must be a text, got int"),
        (lambda path: formats.write_flag_embedding(path / "x.jsonl", small(), kind=""),
         "kind must be a text with letters"),
        (lambda path: formats.write_nemo(path / "x.json", small(), corpus_id=3), "corpus_id must be a text, got int 3"),
        (lambda path: formats.write_trec_run(path / "x", made(), tag=None), "tag must be a text, got NoneType"),
        (lambda path: formats.write_hugging_face(path, small(), layout=["pylate"]),
         "layout must be 'hard-negatives' or"),
        (lambda path: formats.write_beir(path, small(), split="../x"), "split must be the name of a file in qrels"),
        (lambda path: formats.read_beir(path, split=None), "split must be the name of a file in qrels, got None"),
        (lambda path: formats.read_beir(path, min_grade="1"), "min_grade must be an integer, got str '1'"),
        (lambda path: formats.write_tevatron(path / "x.jsonl", small(), corpus=path / "." / "x.jsonl"), "of its own"),
    ],
)  # fmt: skip
def test_bad_arguments(tmp_path: Path, call: Callable[[Path], None], message: str) -> None:
    with pytest.raises(negfast.NegfastError, match=message):
        call(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", FORMATS)
def test_a_result_without_its_texts(tmp_path: Path, name: str) -> None:
    with pytest.raises(negfast.InvalidTypeError, match=r"data must be a RetrievalData, got MinedNegatives; make one"):
        FORMATS[name].write(tmp_path, mined())


@pytest.mark.parametrize("name", ["scores.parquet", "documents/0.parquet"])
def test_tables_that_readers_would_take_for_those_that_are_written(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(negfast.InvalidValueError, match=f"folder must be one without other tables, got .*{name} in it"):
        formats.write_hugging_face(tmp_path, small(), layout="pylate")


def test_a_corpus_of_the_other_kind_would_be_read_too(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    formats.write_nemo(tmp_path / "x.json", small(), kind="parquet")
    with pytest.raises(negfast.InvalidValueError, match=r"a folder without other tables, got .*train\.parquet in it"):
        formats.write_nemo(tmp_path / "x.json", small())


def test_a_file_that_cannot_be_finished_leaves_the_one_before(tmp_path: Path) -> None:
    """Texts are looked at as they are written, so this comes up in the middle."""
    formats.write_beir(tmp_path, small())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(negfast.InvalidTypeError):
        formats.write_beir(tmp_path, RetrievalData.of(["a", 3], ["b"], [[0], [0]]))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, kept in FORMATS.items():
        folder = tmp_path / name
        folder.mkdir()
        if name not in NEEDS_PYARROW:
            kept.write(folder, small())
            assert len(kept.read(folder)) == 3
            continue
        with pytest.raises(negfast.MissingExtraError, match=r"negfast\[cli\]"):
            kept.write(folder, small())
        (folder / "queries.parquet").write_bytes(b"")
        if name != "nemo-parquet":
            with pytest.raises(negfast.MissingExtraError, match=r"negfast\[cli\]"):
                kept.read(folder)


def test_the_example_writes_and_reads_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    path = Path(__file__).parents[2] / "examples" / "formats.py"
    spec = importlib.util.spec_from_file_location("formats_example", path)
    assert spec and spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(["--functions", "600", "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.count("with the same scores") == 4
    assert (tmp_path / "run.txt.gz").exists()
