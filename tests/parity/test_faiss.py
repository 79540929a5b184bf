"""`topk` finds what faiss finds."""

from typing import Any

import numpy as np
import pytest

import negfast

faiss = pytest.importorskip("faiss", exc_type=ImportError)


@pytest.mark.parametrize(("n", "size", "dim", "k"), [(50, 3000, 48, 20), (7, 10, 5, 10), (200, 999, 129, 64)])
def test_inner_product(rows: Any, n: int, size: int, dim: int, k: int) -> None:
    queries, corpus = rows(n, dim), rows(size, dim, seed=1)
    index = faiss.IndexFlatIP(dim)
    index.add(corpus)
    scores, indices = index.search(queries, k)
    found = negfast.topk(queries, corpus, k, metric="dot")
    # float32 sums round differently, so rows of nearly equal score may change places
    np.testing.assert_allclose(found.scores, scores, atol=2e-6)
    swapped = found.indices != indices
    assert swapped.mean() < 0.01
    own = np.einsum("nd,nkd->nk", queries.astype(np.float64), corpus[indices].astype(np.float64))
    np.testing.assert_allclose(own, found.scores, atol=2e-6)
