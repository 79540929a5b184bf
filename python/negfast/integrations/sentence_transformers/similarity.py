"""Scores as the model gives them, at the speed of negfast where its function is one that negfast knows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.integrations.sentence_transformers.encoding import Matrix
from negfast.mining import topk
from negfast.settings import Metric, Search

Found = tuple[Ints, NDArray[np.float32]]
_BLOCK = 1 << 28
"""Bytes of scores that are held at once where the model computes them."""
_PAIRS = 1 << 11
"""Pairs that the model scores in one call: few enough for their rows to stay in the cache."""


class Similarity:
    """The similarity function of a model, over embeddings of both sides.

    Parameters
    ----------
    model : SentenceTransformer, or what has its `similarity` and `similarity_pairwise`
    queries, corpus : float32 arrays of shape (n, dim)
    inner_product : bool
        Whether a model that does not name its function is taken to use the inner product, and not asked.
    """

    def __init__(self, model: Any, queries: Matrix, corpus: Matrix, *, inner_product: bool) -> None:
        self._model = model
        self.queries = queries
        self.corpus = corpus
        name = getattr(model, "similarity_fn_name", None)
        self.name = str(getattr(name, "value", name)) if name is not None else ("dot" if inner_product else "")

    @property
    def metric(self) -> Metric | None:
        """The metric of negfast that gives the model's scores, if there is one."""
        return self.name if self.name in ("cosine", "dot") else None  # type: ignore[return-value]

    def queries_of(self, rows: Ints) -> Matrix:
        """Return the embeddings of distinct queries in rising order, not copied if they are all."""
        return self.queries if len(rows) == len(self.queries) else self.queries[rows]

    def nearest(self, rows: Ints, k: int, search: Search, *, progress: bool, at_once: int) -> Found:
        """Return the `k` best rows of the corpus for some queries, best first, padded with -1 and -inf.

        Parameters
        ----------
        rows : int array
            Which queries; distinct, in rising order.
        k : int
        search : Search
            Where negfast searches.
        progress : bool
            Show a bar.
        at_once : int
            Where the model computes the scores: for how many queries at most in one call.
        """
        queries = self.queries_of(rows)
        if self.metric is not None:
            found = topk(queries, self.corpus, k, metric=self.metric, search=search, progress=progress)
            return found.indices, found.scores
        if self.name == "euclidean" and _unit(self.queries) and _unit(self.corpus):
            # Among rows of norm 1 the nearest are those with the largest product.
            found = topk(queries, self.corpus, k, metric="dot", search=search, progress=progress)
            return found.indices, _distances(found.scores)
        return self._by_model(queries, k, at_once)

    def of_pairs(self, queries: Ints, documents: Ints) -> NDArray[np.float32]:
        """Return the scores of pairs, by the model."""
        scores = np.empty(len(queries), dtype=np.float32)
        for start in range(0, len(scores), _PAIRS):
            part = slice(start, start + _PAIRS)
            found = self._model.similarity_pairwise(self.queries[queries[part]], self.corpus[documents[part]])
            scores[part] = _numbers(found)
        return scores

    def _by_model(self, queries: Matrix, k: int, at_once: int) -> Found:
        import torch

        corpus = torch.as_tensor(self.corpus)
        width = min(k, len(corpus))
        indices = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        step = max(1, min(at_once, _BLOCK // (4 * len(corpus))))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            best = torch.topk(self._model.similarity(queries[part], corpus), k=width, dim=1)
            indices[part, :width] = best.indices.cpu().numpy()
            scores[part, :width] = _numbers(best.values)
        return indices, scores


def _numbers(scores: Any) -> NDArray[np.float32]:
    """Return scores that came as a tensor of any type and device, or as an array."""
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu().float().numpy()
    return np.asarray(scores, dtype=np.float32)


def _unit(rows: Matrix) -> bool:
    """Tell whether all rows have norm 1, to the precision of half floats."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return bool((np.abs(norms - 1.0) < 1e-3).all())


def _distances(products: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return minus the distance between rows of norm 1, from their product; padding stays."""
    squares = np.maximum(2.0 - 2.0 * products.astype(np.float64), 0.0)
    return np.where(np.isneginf(products), -np.inf, -np.sqrt(squares)).astype(np.float32)
