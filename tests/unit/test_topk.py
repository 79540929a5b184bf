"""`topk`: plain exact search."""

from typing import Any

import numpy as np
import pytest

import negfast
import oracle


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("dim", [1, 2, 7, 8, 9, 31, 64, 67])
def test_equals_brute_force(metric: Any, dim: int) -> None:
    rng = np.random.default_rng(dim)
    corpus = rng.standard_normal((203, dim)).astype(np.float32)
    queries = rng.standard_normal((37, dim)).astype(np.float32)
    found = negfast.topk(queries, corpus, 17, metric=metric)
    indices, scores = oracle.topk(queries, corpus, 17, metric)
    np.testing.assert_array_equal(found.indices, indices)
    oracle.assert_same_bits(found.scores, scores)


@pytest.mark.parametrize("k", [0, 1, 5, 6, 7, 1000])
def test_any_k(ladder: Any, k: int) -> None:
    found = negfast.topk(*ladder, k, metric="dot")
    indices, scores = oracle.topk(*ladder, k, "dot")
    assert found.indices.dtype == np.int64
    np.testing.assert_array_equal(found.indices, indices)
    oracle.assert_same_bits(found.scores, scores)


@pytest.mark.parametrize(("n", "rows"), [(0, 3), (3, 0), (0, 0)])
def test_empty_inputs_are_legal(n: int, rows: int) -> None:
    found = negfast.topk(np.ones((n, 2), np.float32), np.ones((rows, 2), np.float32), 4)
    assert found.indices.shape == found.scores.shape == (n, 4)
    assert (found.indices == (0 if rows else -1)).all() or n == 0


def test_all_rows_equal_comes_out_in_index_order() -> None:
    corpus = np.ones((3000, 5), dtype=np.float32)
    found = negfast.topk(corpus[:2], corpus, 100)
    np.testing.assert_array_equal(found.indices, [np.arange(100)] * 2)


@pytest.mark.parametrize("descending", [True, False], ids=["best first", "best last"])
def test_sorted_corpus(descending: bool) -> None:
    """The worst and the best case of a running threshold."""
    values = np.linspace(-1, 1, 5000, dtype=np.float32)
    corpus = values[::-1].copy() if descending else values
    found = negfast.topk(np.ones((1, 1), np.float32), corpus[:, None].copy(), 10, metric="dot")
    want = np.arange(10) if descending else 4999 - np.arange(10)
    np.testing.assert_array_equal(found.indices[0], want)


def test_larger_than_any_block() -> None:
    rng = np.random.default_rng(9)
    corpus = rng.integers(-3, 4, (5000, 24)).astype(np.float32)
    queries = rng.integers(-3, 4, (300, 24)).astype(np.float32)
    found = negfast.topk(queries, corpus, 50, metric="dot")
    scores = queries @ corpus.T  # small integers: exact in float32
    order = np.argsort(-scores, axis=1, kind="stable")[:, :50]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, order, axis=1))


def test_report_says_exact(ladder: Any) -> None:
    search = negfast.topk(*ladder, 2, search=negfast.Search(recall=0.9)).report.search
    assert search.method == "exact"
    assert search.recall == 1.0
    assert tuple(search.recall_interval) == (1.0, 1.0)
    assert search.rows_scanned == 6
    assert all(seconds >= 0 for seconds in search.seconds.values())
    assert search.level == negfast.simd_level()


def test_a_query_does_not_depend_on_the_others(rows: Any) -> None:
    corpus, queries = rows(400, 20), rows(70, 20, seed=1)
    together = negfast.topk(queries, corpus, 9)
    for row in (0, 33, 69):
        alone = negfast.topk(queries[row : row + 1], corpus, 9)
        np.testing.assert_array_equal(alone.indices[0], together.indices[row])
        oracle.assert_same_bits(alone.scores[0], together.scores[row])


def test_simd_level_is_a_known_name() -> None:
    assert negfast.simd_level() in {"scalar", "avx2", "avx512"}


def test_repr(ladder: Any) -> None:
    text = repr(negfast.topk(*ladder, 2))
    assert "TopK" in text
    assert len(text) < 1000
