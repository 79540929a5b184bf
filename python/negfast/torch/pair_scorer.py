"""Scores of drawn rows whose source knew none."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast import inputs
from negfast._negfast import pair_scores
from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.inputs import Lists
from negfast.settings import Metric, Tiers


class PairScorer:
    """Score rows of the corpus for their anchors, and tell their tiers.

    Parameters
    ----------
    embeddings : pair of arrays or CPU tensors
        Rows of the queries and of the corpus; borrowed.
    metric : {"cosine", "dot"}
    sizes : pair of int
        How many there have to be.
    positives : CSR pair
        Rows of the corpus that are positives of each anchor.
    """

    def __init__(self, embeddings: Any, metric: Metric, sizes: tuple[int, int], positives: Lists) -> None:
        if not isinstance(embeddings, tuple | list) or len(embeddings) != 2:
            raise InvalidTypeError(
                f"embeddings must be a pair (queries, corpus), got {type(embeddings).__name__}; pass both, or None"
            )
        names = ("embeddings of the queries", "embeddings of the corpus")
        self._queries, self._corpus = (
            inputs.embeddings(name, rows) for name, rows in zip(names, embeddings, strict=True)
        )
        for name, rows, n in zip(names, (self._queries, self._corpus), sizes, strict=True):
            if len(rows) != n:
                raise InvalidValueError(f"{name} must have {n} rows, got {len(rows)}; pass all that were mined")
        self._metric = metric
        self._lowest = self._lowest_positive(positives)

    def fill(self, anchors: Ints, drawn: dict[str, NDArray[Any]], tiers: Tiers) -> None:
        """Fill in scores that are NaN, and the tiers that follow from them."""
        places, columns = np.nonzero(np.isnan(drawn["scores"]))
        scores = self._score(anchors[places], drawn["ids"][places, columns])
        hardness = scores.astype(np.float64) - self._lowest[anchors[places]]
        found = 1 + (hardness >= tiers.semi_hard).astype(np.uint8) + (hardness >= tiers.hard)
        drawn["scores"][places, columns] = scores
        drawn["tiers"][places, columns] = np.where(np.isnan(hardness), 0, found)

    def _score(self, anchors: Ints, rows: Ints) -> NDArray[np.float32]:
        return pair_scores(self._queries[anchors], self._corpus[rows], self._metric)

    def _lowest_positive(self, positives: Lists) -> NDArray[np.float64]:
        indptr, rows = positives
        lowest = np.full(len(self._queries), np.inf)
        anchors = np.repeat(np.arange(len(lowest)), np.diff(indptr))
        np.minimum.at(lowest, anchors, self._score(anchors, rows))
        return np.where(np.isinf(lowest), np.nan, lowest)
