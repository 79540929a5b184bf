"""What other libraries make of the files: their readers where installed, else the steps of their loaders."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from format_cases import small
from negfast import formats
from negfast.formats import IdLists, RetrievalData

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def mined() -> RetrievalData:
    """Return data in which every query has negatives with scores."""
    rows = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    found = negfast.mine(rows[:20] + 0.5, rows, np.arange(20), num_negatives=6)
    ids = {"query_ids": [f"q{i}" for i in range(20)], "corpus_ids": [f"d{i}" for i in range(40)]}
    return RetrievalData.of(
        [f"query {i}" for i in range(20)], [f"passage {i}" for i in range(40)], np.arange(20), found, **ids
    )


def load(path: Path, cache: Path, *names: str) -> Any:
    """Return the train split, read as FlagEmbedding, Tevatron and NeMo AutoModel read theirs."""
    if path.is_dir():
        return datasets.load_dataset(str(path), *names, cache_dir=str(cache))["train"]
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))


def test_flag_embedding(tmp_path: Path) -> None:
    data = mined().usable()
    formats.write_flag_embedding(tmp_path / "train.jsonl", data)
    table = load(tmp_path / "train.jsonl", tmp_path / "cache")
    assert table.column_names == ["query", "pos", "neg", "pos_scores", "neg_scores"]
    assert len(table) == len(data)
    for row in table:
        assert isinstance(row["pos"], list) and isinstance(row["neg"], list)
        assert len(row["pos"]) == len(row["pos_scores"]) and len(row["neg"]) == len(row["neg_scores"])
        assert all(isinstance(score, float) for score in row["pos_scores"] + row["neg_scores"])


def test_tevatron(tmp_path: Path) -> None:
    formats.write_tevatron(tmp_path / "train.jsonl", mined(), corpus=tmp_path / "corpus.jsonl")
    table, corpus = (load(tmp_path / f"{name}.jsonl", tmp_path / "cache") for name in ("train", "corpus"))
    places = {docid: place for place, docid in enumerate(corpus["docid"])}
    for row in table:
        assert row["query_text"] == f"query {row['query_id'][1:]}"
        for docid in row["positive_document_ids"] + row["negative_document_ids"]:
            assert corpus[places[docid]]["text"] == f"passage {docid[1:]}"


def test_tevatron_passages(tmp_path: Path) -> None:
    formats.write_tevatron_passages(tmp_path / "train.jsonl", small().usable())
    table = load(tmp_path / "train.jsonl", tmp_path / "cache")
    first = table[0]["positive_passages"][0]
    assert first["title"] + " " + first["text"] == "Foxes a red fox"
    assert [passage["score"] for passage in table[0]["negative_passages"]] == pytest.approx([0.5, -0.1])


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_nemo(tmp_path: Path, kind: Any) -> None:
    formats.write_nemo(tmp_path / "train.json", mined(), kind=kind)
    train = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    folder = tmp_path / train["corpus"][0]["path"]
    metadata = json.loads((folder / "merlin_metadata.json").read_text())
    table = load(folder, tmp_path / "cache")
    places = {docid: place for place, docid in enumerate(table["id"])}
    for item in train["data"]:
        assert item["corpus_id"] == metadata["corpus_id"]
        assert item["pos_doc"]
        for entry in item["pos_doc"] + item["neg_doc"]:
            assert table[places[entry["id"]]]["text"] == f"passage {entry['id'][1:]}"


@pytest.mark.parametrize(
    ("layout", "lists", "text"), [("hard-negatives", "scores", "query"), ("pylate", "train", "text")]
)
def test_hugging_face(tmp_path: Path, layout: Any, lists: str, text: str) -> None:
    data = mined()
    formats.write_hugging_face(tmp_path / "set", data, layout=layout)
    queries = load(tmp_path / "set", tmp_path / "cache", "queries")
    table = load(tmp_path / "set", tmp_path / "cache", lists)
    assert queries[3] == {"query_id": "q3", text: "query 3"}
    assert len(load(tmp_path / "set", tmp_path / "cache", "documents")) == 40
    for row, query in zip(table, data.run().to_dict().values(), strict=True):
        assert dict(zip(row["document_ids"], row["scores"], strict=True)) == query


def test_what_the_hub_has_in_several_files(tmp_path: Path) -> None:
    formats.write_hugging_face(tmp_path / "set", mined())
    (tmp_path / "set" / "documents").mkdir()
    table = datasets.Dataset.from_parquet(
        str(tmp_path / "set" / "documents.parquet"), cache_dir=str(tmp_path / "cache")
    )
    for part in range(2):
        table.shard(2, part, contiguous=True).to_parquet(
            tmp_path / "set" / "documents" / f"train-{part:05}-of-00002.parquet"
        )
    (tmp_path / "set" / "documents.parquet").unlink()
    assert formats.read_hugging_face(tmp_path / "set").corpus_ids == mined().corpus_ids


def test_beir(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = pytest.importorskip("beir.datasets.data_loader", exc_type=ImportError)
    data = small()
    formats.write_beir(tmp_path, data, split="test")
    corpus, queries, qrels = loader.GenericDataLoader(str(tmp_path)).load(split="test")
    assert qrels == data.qrels().to_dict()
    assert queries == dict(zip(data.query_ids, data.queries, strict=True))
    assert [(row["title"], row["text"]) for row in corpus.values()] == [*zip(data.titles, data.corpus, strict=True)]


def test_judgements_and_rankings(tmp_path: Path) -> None:
    """The measures of what we wrote are those of what we hold, worked out by trec_eval and by hand."""
    measures = pytest.importorskip("ir_measures")
    rows = np.random.default_rng(1).standard_normal((60, 8)).astype(np.float32)
    found = negfast.topk(rows[:15] + 0.7, rows, 10)
    run = IdLists.from_topk(found, [f"q{i}" for i in range(15)], [f"d{i}" for i in range(60)])
    data = RetrievalData.of(["q"] * 15, ["t"] * 60, np.arange(15), query_ids=run.query_ids, corpus_ids=run.corpus_ids)
    formats.write_trec_run(tmp_path / "run.txt", run)
    formats.write_trec_qrels(tmp_path / "qrels.txt", data)
    qrels = [*measures.read_trec_qrels(str(tmp_path / "qrels.txt"))]
    ranked = [*measures.read_trec_run(str(tmp_path / "run.txt"))]
    assert {(q.query_id, q.doc_id): q.relevance for q in qrels} == {(f"q{i}", f"d{i}"): 1 for i in range(15)}
    measured = measures.calc_aggregate([measures.RR @ 10, measures.R @ 10], qrels, ranked)
    places = [np.flatnonzero(found.indices[query] == query) for query in range(15)]
    by_hand = np.mean([1 / (place[0] + 1) if place.size else 0 for place in places])
    assert 0 < by_hand < 1
    assert measured[measures.RR @ 10] == pytest.approx(by_hand)
    assert measured[measures.R @ 10] == pytest.approx(np.mean([place.size for place in places]))


def test_pytrec_eval_takes_dictionaries() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    data = mined()
    evaluator = pytrec_eval.RelevanceEvaluator(data.qrels().to_dict(), {"recip_rank"})
    assert len(evaluator.evaluate(data.run().to_dict())) == 20
