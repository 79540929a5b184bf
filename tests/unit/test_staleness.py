"""`Miner.staleness`: exact on the whole corpus, estimated on a sample, checked as other calls are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import negfast
from negfast.refresh_report import Drift

Rows = np.ndarray[Any, np.dtype[np.float32]]
NO_MARGIN = negfast.Rules(relative_margin=None)


def ring(*degrees: float) -> Rows:
    """Rows of length 1 at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def mined(queries: Rows, corpus: Rows, **options: Any) -> negfast.Miner:
    miner = negfast.Miner(n_threads=1, **{"num_negatives": 2, "rules": NO_MARGIN, **options})
    miner.mine(queries, corpus, [[] for _ in queries])
    return miner


@pytest.fixture
def moving(rows: Callable[..., Any]) -> tuple[Rows, Rows, Rows, Rows]:
    """Queries and corpus, and both after some drift."""
    corpus = rows(2000, 32)
    queries = corpus[:300] + 0.1 * rows(300, 32, seed=1)
    return queries, corpus, queries + 0.2 * rows(300, 32, seed=2), corpus + 0.2 * rows(2000, 32, seed=3)


def test_on_a_ring() -> None:
    # The query at 0 is served rows 0 and 1. Row 1 moves away, row 2 comes nearer.
    miner = mined(ring(0), ring(10, 20, 30, 90))
    stale = miner.staleness([1, 2, 0, 3], ring(50, 15, 10, 90))
    assert stale.overlap == 0.5
    assert stale.turnover == 0.5
    assert (stale.k, stale.depth, stale.n_rows, stale.n_queries, stale.n_served) == (2, 2.0, 4, 1, 2)
    far, near = 2 * math.sin(math.radians(15)), 2 * math.sin(math.radians(7.5))
    assert stale.drift_corpus.max == pytest.approx(far, rel=1e-5)
    assert stale.drift_corpus.mean == pytest.approx((far + near) / 4, rel=1e-5)
    assert stale.mean_squared == pytest.approx((far**2 + near**2) / 4, rel=1e-5)
    assert stale.drift == stale.drift_corpus
    assert stale.drift_queries is None
    assert str(stale) == (
        "staleness of 4 rows and 1 queries: moved by 0.195 (mean) to 0.518; about 50.0% of the best 2 stay; "
        "turnover about 50.0%"
    )


def test_dot_takes_rows_as_they_are() -> None:
    miner = mined(ring(0), 2 * ring(0, 90), metric="dot")
    stale = miner.staleness([0, 1], 3 * ring(0, 90))
    assert stale.drift == Drift(1.0, 1.0, 1.0, 1.0)
    assert stale.mean_squared == pytest.approx(2 / 18)
    assert stale.mean_shift == pytest.approx(math.sqrt(2) / 2)
    assert mined(ring(0), 2 * ring(0, 90)).staleness([0, 1], 3 * ring(0, 90)).drift.max == 0.0


def test_a_row_that_gets_a_direction_counts_as_turned_round() -> None:
    zeros = np.zeros((1, 2), np.float32)
    assert mined(ring(0), np.concatenate([zeros, ring(5)])).staleness([0], ring(3)).drift.max == 2.0
    assert mined(ring(0), ring(5, 7)).staleness([0], zeros).drift.max == 2.0


def test_rows_that_stand_still_are_not_stale(moving: tuple[Rows, ...]) -> None:
    queries, corpus, _, _ = moving
    miner = mined(queries, corpus, num_negatives=8)
    rows = np.random.default_rng(0).permutation(2000)[:500]
    stale = miner.staleness(rows, corpus[rows], query_rows=[3, 200, 7], query_vectors=queries[[3, 200, 7]])
    assert (stale.overlap, stale.turnover, stale.mean_squared, stale.mean_shift) == (1.0, 0.0, 0.0, 0.0)
    assert stale.drift == stale.drift_queries == Drift(0.0, 0.0, 0.0, 0.0)


def test_the_whole_corpus_gives_what_brute_force_does(moving: tuple[Rows, ...]) -> None:
    queries, corpus, new_queries, new_corpus = moving
    miner = mined(queries, corpus, num_negatives=8)
    anchors = miner.sampled_anchors
    assert anchors.tolist() == list(range(300))
    stale = miner.staleness(
        np.arange(2000), new_corpus, query_rows=anchors, query_vectors=new_queries[anchors], k=20
    )  # fmt: skip
    for k, found in ((20, stale.overlap), (8, 1 - (stale.turnover or 0.0))):
        before = negfast.topk(queries, corpus, k, n_threads=1).indices
        after = negfast.topk(new_queries, new_corpus, k, n_threads=1).indices
        kept = np.mean([np.isin(old, new).mean() for old, new in zip(before, after, strict=True)])
        assert found == pytest.approx(kept, abs=1e-3)  # pairs closer than float32 multiplies
    assert stale.n_served == 2400


def test_a_sample_comes_near(moving: tuple[Rows, ...]) -> None:
    queries, corpus, new_queries, new_corpus = moving
    miner = mined(queries, corpus, num_negatives=8)
    anchors = miner.sampled_anchors
    every = miner.staleness(
        np.arange(2000), new_corpus, query_rows=anchors, query_vectors=new_queries[anchors], k=40
    )  # fmt: skip
    found = []
    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(2000)[:400]
        found.append(miner.staleness(rows, new_corpus[rows], query_rows=anchors, query_vectors=new_queries, k=40))
    assert np.mean([stale.overlap for stale in found]) == pytest.approx(every.overlap, abs=0.03)
    assert np.mean([stale.drift.mean for stale in found]) == pytest.approx(every.drift.mean, abs=0.005)
    assert every.turnover is not None
    assert all(0 < (stale.turnover or 0) < every.turnover + 0.1 for stale in found)
    assert (found[0].k, found[0].depth) == (8, 40.0)


def test_a_small_sample_says_which_depth_it_stands_for() -> None:
    miner = mined(ring(0), ring(*range(100)))
    stale = miner.staleness([5, 50, 70, 90], ring(5, 50, 70, 90))
    assert (stale.k, stale.depth) == (1, 25.0)
    assert (stale.turnover, stale.n_served) == (None, 0)
    assert str(stale).endswith("turnover unknown")


def test_rows_that_may_not_serve_are_left_out() -> None:
    corpus, moved = ring(0, 1, 10, 20), ring(80, 1, 10, 20)
    miner = negfast.Miner(num_negatives=2, rules=NO_MARGIN, n_threads=1)
    miner.mine(ring(0), corpus, [[0]])
    assert miner.staleness(range(4), moved).overlap == 1.0  # the positive alone has moved
    miner = mined(ring(0), corpus)
    assert miner.staleness(range(4), moved).overlap == 0.5
    miner.remove([0])
    assert miner.staleness(range(4), moved).overlap == 1.0
    miner = negfast.Miner(num_negatives=1, rules=NO_MARGIN, n_threads=1)
    miner.mine(corpus, corpus, [[] for _ in corpus])  # the rows are their own queries
    assert miner.staleness(range(4), corpus, k=4).overlap == 1.0


def test_negatives_are_known_of_evenly_spaced_anchors(rows: Callable[..., Any]) -> None:
    miner = mined(rows(2500, 8), rows(50, 8, seed=1))
    anchors = miner.sampled_anchors
    assert (len(anchors), anchors[0], anchors[-1]) == (1000, 0, 2499)
    other = np.setdiff1d(np.arange(2500), anchors)[:5]
    stale = miner.staleness(range(50), rows(50, 8, seed=1), query_rows=other, query_vectors=rows(5, 8))
    assert (stale.n_queries, stale.n_served, stale.turnover) == (5, 0, None)


def test_nothing_is_not_stale() -> None:
    empty = np.zeros((0, 2), np.float32)
    stale = mined(ring(0), ring(1, 2)).staleness([], empty)
    assert (stale.overlap, stale.turnover, stale.drift.max, stale.k) == (1.0, None, 0.0, 0)
    stale = mined(empty, ring(1, 2)).staleness([0], ring(5))
    assert (stale.overlap, stale.n_queries) == (1.0, 0)
    miner = mined(ring(0), ring(1, 2))
    miner.remove([0, 1])
    assert miner.staleness([0, 1], ring(50, 2)).overlap == 1.0


def test_half_precision(moving: tuple[Rows, ...]) -> None:
    queries, corpus, _, new_corpus = moving
    full = mined(queries, corpus).staleness(range(300), new_corpus[:300])
    half = mined(queries.astype(np.float16), corpus.astype(np.float16)).staleness(range(300), new_corpus[:300])
    assert half.drift.mean == pytest.approx(full.drift.mean, abs=1e-3)
    torch = pytest.importorskip("torch")
    brain = torch.from_numpy(corpus).bfloat16()
    miner = mined(torch.from_numpy(queries).bfloat16(), brain)
    assert miner.staleness(range(300), brain[:300]).drift.max == 0.0
    moved = miner.staleness(range(300), torch.from_numpy(new_corpus[:300]).bfloat16())
    assert moved.drift.mean == pytest.approx(full.drift.mean, abs=5e-3)


def test_the_same_after_loading_and_with_other_blocks(
    moving: tuple[Rows, ...], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, corpus, _, new_corpus = moving
    miner = mined(queries, corpus)
    stale = miner.staleness(range(100), new_corpus[:100])
    miner.save(tmp_path / "miner.safetensors")
    assert negfast.Miner.load(tmp_path / "miner.safetensors").staleness(range(100), new_corpus[:100]) == stale
    monkeypatch.setattr("negfast.staleness.SCORES_PER_LOOK", 1000)
    monkeypatch.setattr("negfast.staleness.ROWS_PER_LOOK", 7)
    again = miner.staleness(range(100), new_corpus[:100])
    assert (again.overlap, again.turnover, again.drift) == (stale.overlap, stale.turnover, stale.drift)


def test_plain_values() -> None:
    plain = mined(ring(0), ring(1, 2)).staleness([0], ring(5)).to_dict()
    assert plain["drift"]["max"] == pytest.approx(2 * math.sin(math.radians(2)), rel=1e-4)
    assert all(type(value) in (dict, float, int, type(None)) for value in plain.values())


BAD: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"rows": [0.5]}, negfast.InvalidTypeError, "rows must be integers"),
    ({"rows": [[0]]}, negfast.InvalidValueError, "rows must be a list of row numbers"),
    ({"rows": [4]}, negfast.RowIndexError, r"rows must hold row numbers of the corpus \(0 to 4, exclusive\), got 4"),
    ({"rows": [-1]}, negfast.RowIndexError, "got -1 at position 0"),
    ({"rows": [1, 1], "vectors": ring(0, 0)}, negfast.InvalidValueError, "rows must be distinct"),
    ({"vectors": ring(0, 1)}, negfast.InvalidValueError, r"vectors must be of shape \(1, 2\).*got \(2, 2\)"),
    ({"vectors": np.ones((1, 3), np.float32)}, negfast.InvalidValueError, r"got \(1, 3\); encode those rows again"),
    ({"vectors": [[1.0, 0.0]]}, negfast.InvalidTypeError, "vectors must be a numpy array"),
    ({"vectors": ring(0) * np.nan}, negfast.InvalidValueError, "vectors must be finite, got NaN or infinity in row 0"),
    ({"query_rows": [0]}, negfast.InvalidValueError, "must be given together, got query_rows alone"),
    ({"query_vectors": ring(0)}, negfast.InvalidValueError, "must be given together, got query_vectors alone"),
    (
        {"query_rows": [1], "query_vectors": ring(0)},
        negfast.RowIndexError,
        r"query_rows must hold row numbers of the queries \(0 to 1",
    ),
    ({"k": 0}, negfast.InvalidValueError, "k must be at least 1"),
    ({"k": 1.5}, negfast.InvalidTypeError, "k must be an integer"),
)


@pytest.mark.parametrize(("change", "kind", "message"), BAD)
def test_bad_input(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    miner = mined(ring(0), ring(1, 2, 3, 4))
    arguments = {"rows": [0], "vectors": ring(5), **change}
    with pytest.raises(kind, match=message):
        miner.staleness(arguments.pop("rows"), arguments.pop("vectors"), **arguments)


def test_something_must_have_been_mined() -> None:
    with pytest.raises(negfast.StateError, match="call mine first"):
        negfast.Miner().staleness([0], ring(0))
    with pytest.raises(negfast.StateError, match="call mine first"):
        _ = negfast.Miner().sampled_anchors
