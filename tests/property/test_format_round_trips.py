"""Round trips: what a format has a place for comes back as it was, whatever texts, ids, lists and scores there are."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from format_cases import FORMATS, NEEDS_PYARROW, Format, kept_of
from negfast.formats import (
    IdLists,
    RetrievalData,
    read_trec_qrels,
    read_trec_run,
    write_trec_qrels,
    write_trec_run,
)

TEXTS = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", "\n", "\r\n", "\u2028", "\x00", "{}", "null", " a ", "é\u0301"]
)
IDS = TEXTS | st.integers(-5, 5).map(str)
PLAIN_LETTERS = st.characters(codec="utf-8", exclude_characters=" \t\n\r\v\f")
PLAIN_IDS = st.text(PLAIN_LETTERS, min_size=1, max_size=8) | st.sampled_from(['"', '""', 'a"b', "'", "\u3000", "#"])
SCORES = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def data(draw: st.DrawFn, kept: Format) -> RetrievalData:
    """Make data with everything that a format has a place for."""
    ids = PLAIN_IDS if kept.plain_ids else IDS
    corpus_ids = draw(st.lists(ids, unique=True, min_size=int(kept.every_positive), max_size=6))
    query_ids = draw(st.lists(ids, unique=True, max_size=4))
    row = st.sampled_from(range(len(corpus_ids))) if corpus_ids else st.nothing()
    known = st.lists(row, unique=True, min_size=int(kept.every_positive), max_size=min(4, len(corpus_ids)))
    rows = st.lists(row, unique=True, max_size=min(4, len(corpus_ids)))
    positives, negatives = ([draw(side) for _ in query_ids] for side in (known, rows))
    if kept.apart:
        negatives = [[row for row in side if row not in own] for side, own in zip(negatives, positives, strict=True)]
    made = RetrievalData.of(
        [draw(TEXTS) for _ in query_ids],
        [draw(TEXTS) for _ in corpus_ids],
        positives,
        negatives=negatives,
        query_ids=query_ids,
        corpus_ids=corpus_ids,
        titles=draw(st.none() | st.just([draw(TEXTS) for _ in corpus_ids])),
    )
    for scores in (made.positive_scores, made.negative_scores):  # from none known to all known
        scores[:] = [draw(st.just(np.nan) | SCORES) for _ in scores] if draw(st.booleans()) else np.nan
    return made


@pytest.mark.parametrize("name", FORMATS)
def test_round_trips(name: str) -> None:
    if name in NEEDS_PYARROW:
        pytest.importorskip("pyarrow")
    kept = FORMATS[name]

    @settings(max_examples=20 if name in NEEDS_PYARROW else 50)
    @given(data(kept))
    def holds(made: RetrievalData) -> None:
        with tempfile.TemporaryDirectory() as folder:
            kept.write(Path(folder), made)
            again = kept.read(Path(folder))
            assert kept_of(again, kept) == kept_of(made, kept)
            before = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
            kept.write(Path(folder), made)
            assert {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()} == before

    holds()


@st.composite
def lists(draw: st.DrawFn, values: st.SearchStrategy[float], dtype: str) -> IdLists:
    """Make lists by id, each query with at least one row."""
    queries, corpus = (draw(st.lists(PLAIN_IDS, unique=True, min_size=1, max_size=5)) for _ in range(2))
    rows = [draw(st.lists(st.sampled_from(range(len(corpus))), unique=True, min_size=1)) for _ in queries]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    indices = np.concatenate(rows).astype(np.int64)
    return IdLists(queries, corpus, (indptr, indices), np.array([draw(values) for _ in indices], dtype=dtype))


@settings(max_examples=50)
@given(lists(st.integers(-1, 3), "int64"), lists(SCORES, "float32"))
def test_judgements_and_rankings(qrels: IdLists, run: IdLists) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_trec_qrels(Path(folder) / "qrels.txt", qrels)
        write_trec_run(Path(folder) / "run.txt.gz", run)
        assert read_trec_qrels(Path(folder) / "qrels.txt").to_dict() == qrels.to_dict()
        again = read_trec_run(Path(folder) / "run.txt.gz")
    assert again.to_dict() == run.to_dict()
    assert again.query_ids == run.query_ids
    for begin, end in zip(again.lists[0][:-1], again.lists[0][1:], strict=True):
        assert (np.diff(again.values[begin:end]) <= 0).all()
