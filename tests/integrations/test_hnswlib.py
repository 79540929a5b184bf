"""`HnswSource`: candidates of an index that is there, under rules, with what it missed measured."""

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hnswlib", exc_type=ImportError)

import hnswlib

import negfast
from negfast import Rules
from negfast.integrations.hnswlib import HnswSource
from negfast.integrations.hnswlib.recall import audit

Type, Value, Index = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.RowIndexError
RNG = np.random.default_rng(0)
CORPUS = RNG.standard_normal((1200, 12), dtype=np.float32)
QUERIES = CORPUS[:150] + 0.4 * RNG.standard_normal((150, 12), dtype=np.float32)
POSITIVES = np.arange(150)
LABELS = RNG.permutation(1200) * 3 + 2**40
FOUND_ALL = 2000
"""An `ef` with which the index finds every row."""


def index_of(space: str = "cosine", rows: Any = CORPUS, labels: Any = None, **options: Any) -> Any:
    index = hnswlib.Index(space=space, dim=rows.shape[1])
    index.init_index(max_elements=len(rows) + 10, random_seed=0, **options)
    index.add_items(rows, np.arange(len(rows)) if labels is None else labels, num_threads=1)
    return index


def equal(a: negfast.MinedNegatives, b: negfast.MinedNegatives) -> bool:
    return np.array_equal(a.indices, b.indices) and np.array_equal(a.scores, b.scores)


@pytest.mark.parametrize(("space", "metric"), [("cosine", "cosine"), ("ip", "dot"), ("l2", "cosine")])
def test_an_index_that_finds_all_gives_what_exact_mining_gives(space: str, metric: Any) -> None:
    rows = CORPUS / np.linalg.norm(CORPUS, axis=1, keepdims=True) if space == "l2" else CORPUS
    queries = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True) if space == "l2" else QUERIES
    source = HnswSource(index_of(space, rows), ef=FOUND_ALL)
    rules = Rules(relative_margin=0.1, range_min=2)
    options: dict[str, Any] = {
        "num_negatives": 5,
        "rules": rules,
        "groups": (np.arange(150) % 40, np.arange(1200) % 40),
        "exclude": [[5, 6]] * 150,
        "forbidden": np.arange(0, 1200, 7),
    }
    found = source.mine(queries, rows, POSITIVES, n_candidates=400, **options)
    assert source.metric == metric == found.recipe.metric
    assert equal(found, negfast.mine(queries, rows, POSITIVES, metric=metric, **options))
    search = found.report.search
    assert (search.method, search.recall, search.audited) == ("given", 1.0, 150)
    assert "hnswlib" in search.why and 0.9 < search.recall_interval[0] < 1.0


def test_recall_is_that_of_all_lists() -> None:
    source = HnswSource(index_of(M=3, ef_construction=5))
    found = source.mine(QUERIES, CORPUS, POSITIVES, num_negatives=8, n_candidates=12)
    truth = negfast.mine(QUERIES, CORPUS, POSITIVES, num_negatives=8)
    expected = np.mean([len(set(a) & set(b)) / 8 for a, b in zip(found.indices, truth.indices, strict=True)])
    search = found.report.search
    assert search.recall == pytest.approx(expected, abs=1e-12) and 0.2 < expected < 0.95
    assert search.recall_interval[0] < expected < search.recall_interval[1]
    assert search.seconds["total"] >= search.seconds["scan"] > 0
    assert str(found.report).count("on 150 anchors") == 1


def test_a_sample_tells_the_recall_of_all() -> None:
    """An interval of 95 % misses 2 times in 40 or fewer of 40 seeds with probability .68, 6 or more with .014."""
    candidates = HnswSource(index_of(M=3, ef_construction=5)).candidates(QUERIES, 12)
    known = {"positives": POSITIVES}
    recipe = negfast.Recipe(num_negatives=8)
    whole = audit((QUERIES, CORPUS), candidates, known, recipe, 150, 1).value
    missed = 0
    for seed in range(40):
        recall = audit((QUERIES, CORPUS), candidates, known, replace(recipe, seed=seed), 40, 1)
        assert recall.audited == 40
        missed += not recall.interval[0] <= whole <= recall.interval[1]
    assert missed < 6
    biased = np.where(np.arange(150)[:, None] < 75, candidates, candidates[:, ::-1] * 0 - 1)
    half = audit((QUERIES, CORPUS), biased, known, recipe, 150, 1)  # a fault: half of the lists are lost
    assert half.value == pytest.approx(whole / 2, abs=0.1) and half.interval[1] < whole


def test_draws_are_audited_on_what_they_draw_from() -> None:
    source = HnswSource(index_of(), ef=FOUND_ALL)
    options: dict[str, Any] = {"num_negatives": 3, "draw": negfast.Softmax(0.05), "seed": 4}
    found = source.mine(QUERIES, CORPUS, POSITIVES, n_candidates=200, **options)
    assert equal(found, negfast.mine(QUERIES, CORPUS, POSITIVES, **options)) and found.report.search.recall == 1.0
    few = source.mine(QUERIES, CORPUS, POSITIVES, n_candidates=15, **options)
    assert few.report.search.recall < 0.6


def test_lists_of_the_index_are_a_source_of_draws() -> None:
    pytest.importorskip("torch")
    from negfast.torch import MinedRows, NegativeSampler, UniformRows

    mined = HnswSource(index_of()).mine(QUERIES, CORPUS, POSITIVES, num_negatives=30)
    shares = {"hard": 0.3, "semi_hard": 0.4, "easy": 0.2}
    sampler = NegativeSampler(
        [MinedRows(mined, name="hnsw"), UniformRows(1200)], num_negatives=6, probabilities=shares, min_random=0.1
    )
    draw = sampler.draw([3, 70], step=0)
    assert draw.names == ("hnsw", "uniform") and set(draw.ids[0][draw.sources[0] == 0]) <= set(mined.indices[3])


def test_labels_stand_for_rows() -> None:
    plain = HnswSource(index_of()).candidates(QUERIES, 20)
    renamed = HnswSource(index_of(labels=LABELS), labels=LABELS).candidates(QUERIES, 20)
    assert np.array_equal(plain, renamed)


def test_an_index_of_some_rows_proposes_those() -> None:
    source = HnswSource(
        index_of(rows=CORPUS[:700], labels=LABELS[:700]), labels=np.where(np.arange(1200) < 700, LABELS, -1)
    )
    found = source.mine(QUERIES, CORPUS, POSITIVES)
    assert found.indices.max() < 700 and 0.3 < found.report.search.recall < 0.8


def test_deleted_rows_are_not_proposed_and_lists_are_padded() -> None:
    index = index_of()
    for row in range(100, 1200):
        index.mark_deleted(row)
    found = HnswSource(index, ef=FOUND_ALL).candidates(QUERIES, 300)
    assert found.shape == (150, 300)
    for row in found:
        kept = row[row >= 0]
        assert 0 < len(kept) <= 100 and kept.max() < 100 and len(set(kept)) == len(kept)
        assert (row[len(kept) :] == -1).all()
    assert (found >= 0).sum(axis=1).max() == 100


def test_an_index_of_deleted_rows_proposes_none() -> None:
    index = index_of(rows=CORPUS[:200])
    for row in range(200):
        index.mark_deleted(row)
    found = HnswSource(index).mine(QUERIES, CORPUS[:200], POSITIVES, num_negatives=3)
    assert (found.indices == -1).all() and found.report.search.recall == 0.0


def test_more_candidates_than_rows_are_padded() -> None:
    source = HnswSource(index_of(rows=CORPUS[:20]))
    found = source.candidates(QUERIES[:3], 50)
    assert [sorted(row[:20]) for row in found] == [list(range(20))] * 3 and (found[:, 20:] == -1).all()
    assert source.candidates(QUERIES[:0], 5).shape == (0, 5) and source.candidates(QUERIES, 0).shape == (150, 0)
    assert len(source.mine(QUERIES[:0], CORPUS[:20], [])) == 0


def test_the_index_is_left_as_it_was() -> None:
    index = index_of()
    index.set_ef(33)
    index.set_num_threads(5)
    source = HnswSource(index, ef=200, n_threads=2)
    source.mine(QUERIES, CORPUS, POSITIVES)
    assert (index.ef, index.num_threads, index.element_count) == (33, 5, 1200)
    with pytest.raises(Index):
        HnswSource(index_of(labels=LABELS), ef=200).mine(QUERIES, CORPUS, POSITIVES)
    with pytest.raises(Value):
        source.candidates(QUERIES[:, :3], 5)
    assert index.ef == 33


def test_ef_finds_more() -> None:
    index = index_of(M=3, ef_construction=5)
    truth = negfast.topk(QUERIES, CORPUS, 10).indices
    hits = [
        sum(len(set(a) & set(b)) for a, b in zip(HnswSource(index, ef=ef).candidates(QUERIES, 10), truth, strict=True))
        for ef in (10, 400)
    ]
    assert hits[1] > hits[0] + 50


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_threads_change_nothing(n_threads: int) -> None:
    index = index_of()
    one = HnswSource(index, n_threads=1).mine(QUERIES, CORPUS, POSITIVES)
    assert equal(one, HnswSource(index, n_threads=n_threads).mine(QUERIES, CORPUS, POSITIVES))


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    index = index_of(labels=LABELS)
    index.mark_deleted(int(LABELS[11]))
    index.save_index(str(path))
    source = HnswSource.load(path, space="cosine", dim=12, labels=LABELS, ef=FOUND_ALL)
    assert np.array_equal(
        source.candidates(QUERIES, 20), HnswSource(index, labels=LABELS, ef=FOUND_ALL).candidates(QUERIES, 20)
    )
    assert 11 not in source.candidates(QUERIES[11:12], 50)


@pytest.mark.parametrize("dim", [1, 6, 11, 13, 24])
def test_a_file_of_another_dim_is_refused(dim: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    index_of().save_index(str(path))
    with pytest.raises(Value, match=rf"dim must be that of the rows in .*, 12, got {dim}"):
        HnswSource.load(path, space="cosine", dim=dim)


@pytest.mark.parametrize("kept", [0, 50, 95, 96, 1000, -1])
def test_a_file_that_is_cut_off_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    index_of().save_index(str(path))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(negfast.StateError, match=r"rows\.bin must hold"):
        HnswSource.load(path, space="cosine", dim=12)
    path.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(negfast.StateError, match="got another file; pass what save_index wrote"):
        HnswSource.load(path, space="cosine", dim=12)


def test_half_precision_and_tensors_are_read() -> None:
    torch = pytest.importorskip("torch")
    source = HnswSource(index_of(), ef=FOUND_ALL)
    halves = torch.from_numpy(QUERIES).bfloat16()
    found = source.mine(halves, torch.from_numpy(CORPUS).bfloat16(), POSITIVES)
    assert np.array_equal(source.candidates(halves, 9), source.candidates(halves.float().numpy(), 9))
    assert found.report.search.recall > 0.99


def test_a_source_may_serve_threads() -> None:
    index = index_of(M=3, ef_construction=5)
    index.set_ef(20)
    source = HnswSource(index, ef=300, n_threads=1)
    expected, found = source.candidates(QUERIES, 20), []
    workers = [threading.Thread(target=lambda: found.append(source.candidates(QUERIES, 20))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and all(np.array_equal(expected, other) for other in found)
    assert index.ef == 20


@pytest.mark.parametrize("at", [0, 16, 24, 32, 40, 52, 56, 64, 72])
def test_a_file_with_a_wrong_header_is_refused(at: int, tmp_path: Path) -> None:
    """Fields that hnswlib believes: it reads and writes out of bounds where they are wrong."""
    path = tmp_path / "rows.bin"
    index_of().save_index(str(path))
    written = bytearray(path.read_bytes())
    written[at + 2] ^= 0x20  # ... by 2 million
    path.write_bytes(written)
    with pytest.raises(negfast.StateError, match=r"rows\.bin must hold"):
        HnswSource.load(path, space="cosine", dim=12)


BRUTE = hnswlib.BFIndex(space="l2", dim=4)
EMPTY = hnswlib.Index(space="l2", dim=4)
SMALL = index_of(rows=CORPUS[:30])
HUGE = index_of(rows=CORPUS[:30], labels=np.arange(30, dtype=np.uint64) + np.uint64(2**63))
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: HnswSource(BRUTE), Type, r"index must be an hnswlib.Index, got BFIndex"),
    (lambda: HnswSource("rows.bin"), Type, r"index must be .* got str 'rows.bin'; load a file with HnswSource.load"),
    (lambda: HnswSource(EMPTY), Value, r"index must hold rows, got an empty one"),
    (lambda: HnswSource(SMALL, ef=0), Value, r"ef must be"),
    (lambda: HnswSource(SMALL, ef=1.5), Type, r"ef must be"),
    (lambda: HnswSource(SMALL, n_threads=0), Value, r"n_threads must be"),
    (lambda: HnswSource(SMALL, labels=["a"] * 30), Type, r"labels must be integers"),
    (lambda: HnswSource(SMALL, labels=np.zeros((30, 2), int)), Value, r"labels must be of shape \(n_rows,\)"),
    (lambda: HnswSource(SMALL, labels=[0, 1, 2, 1]), Value, r"labels must differ, got 1 for rows 1 and 3"),
    (lambda: HnswSource.load("nowhere.bin", space="l2", dim=4), FileNotFoundError, r".*nowhere\.bin"),
    (lambda: HnswSource.load("rows.bin", space="dot", dim=4), Value, r"space must be"),
    (lambda: HnswSource.load("rows.bin", space="l2", dim=0), Value, r"dim must be"),
    (lambda: HnswSource(SMALL).candidates(QUERIES, -1), Value, r"k must be"),
    (lambda: HnswSource(SMALL).candidates(QUERIES[0], 3), Value, r"queries must be of shape \(n_queries, 12\)"),
    (lambda: HnswSource(SMALL).candidates(QUERIES[:, :5], 3), Value, r"queries must be .* got \(150, 5\); encode both"),
    (lambda: HnswSource(SMALL).candidates(QUERIES * np.inf, 3), Value, r"queries must hold finite numbers.* row 0"),
    (lambda: HnswSource(SMALL).mine(QUERIES, None, POSITIVES), Type, r"corpus must be a numpy array"),
    (lambda: HnswSource(SMALL).mine(QUERIES, CORPUS, POSITIVES, n_candidates=0), Value, r"n_candidates must be"),
    (lambda: HnswSource(SMALL).mine(QUERIES, CORPUS, POSITIVES, n_audited=0), Value, r"n_audited must be"),
    (lambda: HnswSource(SMALL).mine(QUERIES, CORPUS, POSITIVES, metric="l2"), Value, r"metric must be"),
    (lambda: HnswSource(SMALL).mine(QUERIES, CORPUS, POSITIVES[:9]), Value, r"positives must be"),
    (lambda: HnswSource(SMALL).mine(QUERIES, CORPUS[:9], [[]] * 150), Index, r"index must hold labels that are rows"),
    (
        lambda: HnswSource(HUGE).candidates(QUERIES, 9),
        Index,
        r"index must hold labels that are rows .* got 92233720368",
    ),
    (lambda: HnswSource(SMALL, labels=range(9)).candidates(QUERIES, 9), Index, r"labels must have every label"),
    (
        lambda: HnswSource(SMALL, labels=range(30)).mine(QUERIES, CORPUS, POSITIVES),
        Value,
        r"labels must be one for each of the 1200 corpus rows, got 30",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_bad_input(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert re.match(message, str(caught.value)), str(caught.value)
    assert isinstance(caught.value, negfast.NegfastError) or kind is FileNotFoundError
