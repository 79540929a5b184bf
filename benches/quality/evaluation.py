"""A trained model, asked all questions of a part."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quality import measures
from quality.encoders import encode
from quality.learner import Learner
from quality.split import some

Ints = npt.NDArray[np.int64]
_PROBED = 5000  # training passages that a probe learns from


class Rows(NamedTuple):
    """Embeddings of questions, and of the passages in which answers are looked for."""

    questions: measures.Floats
    corpus: measures.Floats


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

    def embedded(self) -> Rows:
        learner, split = self.learner, self.learner.prepared.split
        return Rows(
            encode(learner.model, learner.prepared.queries, self.rows),
            encode(learner.model, learner.prepared.passages, split.corpus[self.places]),
        )

    def retrieval(self, rows: Rows) -> dict[str, dict[str, measures.Values]]:
        """Return each measure for each question, strictly and with other rows of its group left out."""
        groups = self.learner.prepared.split.groups
        of_corpus = groups[self.learner.prepared.split.corpus[self.places]]
        strict, aware = measures.rankings(
            *rows, self.right, groups[self.rows], of_corpus, threads=self.learner.run.threads
        )
        return {"strict": measures.judged(strict, self.right), "group-aware": measures.judged(aware, self.right)}

    def embeddings(self, rows: Rows) -> dict[str, float]:
        """Return what is known of the embeddings beside rankings; labels are those of the questions' passages."""
        learner, split = self.learner, self.learner.prepared.split
        probed, asked = some(learner.rows, _PROBED), np.unique(self.right)
        train = encode(learner.model, learner.prepared.passages, probed), split.labels[probed]
        held_out = rows.corpus[asked], split.labels[split.corpus[self.places[asked]]]
        return measures.geometry(rows.questions, rows.corpus[self.right]) | measures.downstream(train, held_out)
