"""What the tests of formats share: how each format is written and read, what it keeps, and data to try it with."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negfast import formats
from negfast.formats import RetrievalData


@dataclass(frozen=True)
class Format:
    """A format: how it is written to and read from a folder, and what it has a place for."""

    write: Callable[[Path, RetrievalData], None]
    read: Callable[[Path], RetrievalData]
    ids: bool = True
    scores: bool = True
    titles: bool = True  # apart from the texts
    whole_corpus: bool = True
    negatives: bool = True
    plain_ids: bool = False  # without white space, and not empty
    every_positive: bool = False  # no query without one
    apart: bool = False  # no row is a positive and a negative of one query
    alone: bool = True  # the score of one entry, where those beside it have none


FORMATS = {
    "flag-embedding": Format(
        lambda folder, data: formats.write_flag_embedding(folder / "train.jsonl", data),
        lambda folder: formats.read_flag_embedding(folder / "train.jsonl"),
        ids=False, titles=False, whole_corpus=False, alone=False,
    ),
    "tevatron": Format(
        lambda folder, data: formats.write_tevatron(folder / "train.jsonl.gz", data, corpus=folder / "corpus.jsonl"),
        lambda folder: formats.read_tevatron(folder / "train.jsonl.gz", corpus=folder / "corpus.jsonl"),
        scores=False,
    ),
    "tevatron-passages": Format(
        lambda folder, data: formats.write_tevatron_passages(folder / "train.jsonl", data),
        lambda folder: formats.read_tevatron_passages(folder / "train.jsonl"),
        whole_corpus=False,
    ),
    "nemo": Format(
        lambda folder, data: formats.write_nemo(folder / "train.json", data),
        lambda folder: formats.read_nemo(folder / "train.json"),
        titles=False,
    ),
    "nemo-parquet": Format(
        lambda folder, data: formats.write_nemo(folder / "train.json", data, kind="parquet"),
        lambda folder: formats.read_nemo(folder / "train.json"),
        titles=False,
    ),
    "hugging-face": Format(
        lambda folder, data: formats.write_hugging_face(folder, data),
        lambda folder: formats.read_hugging_face(folder),
        titles=False, every_positive=True, apart=True,
    ),
    "pylate": Format(
        lambda folder, data: formats.write_hugging_face(folder, data, layout="pylate"),
        lambda folder: formats.read_hugging_face(folder),
        titles=False, every_positive=True, apart=True,
    ),
    "beir": Format(
        lambda folder, data: formats.write_beir(folder, data),
        lambda folder: formats.read_beir(folder),
        scores=False, negatives=False, plain_ids=True, every_positive=True,
    ),
}  # fmt: skip
NEEDS_PYARROW = ("nemo-parquet", "hugging-face", "pylate")


def entries(data: RetrievalData, side: str, query: int, kept: Format) -> list[Any]:
    """Return what a format keeps of the positives or negatives of a query."""
    indptr, rows = getattr(data, side)
    inside = slice(*indptr[query : query + 2].tolist())
    scores = [score if kept.scores else math.nan for score in getattr(data, f"{side[:-1]}_scores")[inside].tolist()]
    if not kept.alone and any(map(math.isnan, scores)):
        scores = [math.nan] * len(scores)
    return [
        (data.corpus_ids[row] if kept.ids else None, data.passage(row), None if math.isnan(score) else score)
        for row, score in zip(rows[inside].tolist(), scores, strict=True)
    ]


def kept_of(data: RetrievalData, kept: Format) -> dict[str, Any]:
    """Return what a format keeps of data, as plain values to compare."""
    sides = ("positives", "negatives") if kept.negatives else ("positives",)
    found: dict[str, Any] = {
        "queries": list(data.queries),
        **{side: [entries(data, side, query, kept) for query in range(len(data))] for side in sides},
    }
    if kept.ids:
        found["query_ids"] = data.query_ids
    if kept.whole_corpus:
        found["corpus_ids"] = data.corpus_ids
        found["corpus"] = [data.passage(row) for row in range(len(data.corpus))]
        if kept.titles:
            found["titles"] = [data.title(row) for row in range(len(data.corpus))]
    return found


def small() -> RetrievalData:
    """Return data in which texts have quotes, line ends and letters of several scripts, and one score is unknown."""
    return RetrievalData.of(
        ['which "fox"?', "wine\nor bread", "空"],
        ["a red fox", "red\twine", "bread\u2028and butter", 'the "brown" fox', "空気"],
        [[0], [1, 2], [4]],
        negatives=[[3, 1], [0], []],
        positive_scores=[[0.9], [0.8, 0.7], [1.0]],
        negative_scores=[[0.5, -0.1], [1e-8], []],
        query_ids=["q1", "7", "q/3"],
        corpus_ids=["d1", "d2", "3", "d4", "d5"],
        titles=["Foxes", "", "", "Foxes", ""],
    )
