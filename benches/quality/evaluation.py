"""A trained model, asked all questions of a part."""

from typing import Any

import numpy as np
import numpy.typing as npt

from quality import measures
from quality.encoders import encode
from quality.learner import Learner
from quality.split import some

Ints = npt.NDArray[np.int64]
_PROBED = 5000  # training passages that a probe learns from


class Examination:
    """The questions of a part, and where answers are looked for: the passages of all parts, each once.

    Parameters
    ----------
    learner : Learner
    part : "dev" or "test"
    most : questions at most
    """

    def __init__(self, learner: Learner, part: str, most: int | None = None) -> None:
        split = learner.prepared.split
        self.learner = learner
        self.rows = some(getattr(split, part), most)
        right = np.unique(split.places[self.rows])
        rest = np.setdiff1d(np.arange(len(split.corpus)), right)
        kept = learner.run.most_corpus
        self.places = np.union1d(right, some(rest, None if kept is None else max(kept - len(right), 0)))
        self.right = np.searchsorted(self.places, split.places[self.rows])

    def ranks(self) -> dict[str, dict[str, measures.Values]]:
        """Return each measure for each question, strictly and with other rows of its group left out."""
        learner, split = self.learner, self.learner.prepared.split
        corpus = split.corpus[self.places]
        strict, aware = measures.rankings(
            encode(learner.model, learner.prepared.queries, self.rows),
            encode(learner.model, learner.prepared.passages, corpus),
            self.right,
            split.groups[self.rows],
            split.groups[corpus],
            learner.run.threads,
        )
        return {
            "strict": measures.judged(strict, self.right),
            "group-aware": measures.judged(aware, self.right),
        }

    def whole(self) -> dict[str, Any]:
        """Return what is known of the embeddings beside rankings."""
        learner, split = self.learner, self.learner.prepared.split
        queries, passages = (
            encode(learner.model, side, self.rows) for side in (learner.prepared.queries, learner.prepared.passages)
        )
        probed = some(learner.rows, _PROBED)
        once = np.unique(split.places[self.rows], return_index=True)[1]
        train = encode(learner.model, learner.prepared.passages, probed), split.labels[probed]
        held_out = passages[once], split.labels[self.rows[once]]
        return measures.geometry(queries, passages) | measures.downstream(train, held_out)
