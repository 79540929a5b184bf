"""Scores of a cross-encoder for pairs of texts."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.errors import InvalidValueError
from negfast.integrations.hard_negatives.texts import Pairs

_PAIRS = 1 << 14
"""Pairs that are handed to the cross-encoder in one call: texts of so many are in memory at once."""


class CrossScores:
    """Scores pairs of a query and a row of the corpus with a cross-encoder.

    Parameters
    ----------
    cross_encoder : CrossEncoder
        With one score per pair.
    pairs : Pairs
        The texts.
    batch_size : int
    pool : object or None
        Processes of the cross-encoder.
    progress : bool
        Show bars.
    """

    def __init__(self, cross_encoder: Any, pairs: Pairs, *, batch_size: int, pool: Any, progress: bool) -> None:
        self._cross_encoder = cross_encoder
        self._pairs = pairs
        self._batch_size = batch_size
        self._pool = pool
        self._progress = progress

    def of_pairs(self, queries: Ints, documents: Ints) -> NDArray[np.float32]:
        """Return one score for each pair."""
        scores = np.empty(len(queries), dtype=np.float32)
        for start in self._bar(range(0, len(queries), _PAIRS)):
            part = slice(start, start + _PAIRS)
            left = self._pairs.queries.take(queries[part]).to_pylist()
            right = self._pairs.corpus.take(documents[part]).to_pylist()
            found = self._cross_encoder.predict(
                list(zip(left, right, strict=True)),
                batch_size=self._batch_size,
                convert_to_tensor=True,
                pool=self._pool,
            )
            if tuple(found.shape) != (len(left),):
                raise InvalidValueError(
                    f"cross_encoder must give one score per pair, got shape {tuple(found.shape)} for {len(left)} "
                    "pairs; use one with num_labels=1"
                )
            scores[part] = found.detach().cpu().float().numpy()
        return scores

    def of_candidates(self, rows: Ints, indices: Ints) -> NDArray[np.float32]:
        """Return the scores of candidates of some queries, -inf where there is none."""
        scores = np.full(indices.shape, -np.inf, dtype=np.float32)
        places, columns = np.nonzero(indices >= 0)
        scores[places, columns] = self.of_pairs(rows[places], indices[places, columns])
        return scores

    def _bar(self, starts: range) -> Iterable[int]:
        from tqdm.auto import tqdm

        bar: Iterable[int] = tqdm(starts, desc="Rescoring with CrossEncoder", disable=not self._progress)
        return bar
