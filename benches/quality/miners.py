"""How lists of negatives are had: each library by its public functions, as its users call them."""

import contextlib
import io
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

import negfast
from quality.learner import Learner

Ints = npt.NDArray[np.int64]


class Lists(NamedTuple):
    """Negatives of each training pair.

    Attributes
    ----------
    ids : int64 (n, k), training pairs whose passages they are, -1 for none
    mined : what negfast says of them
    """

    ids: Ints
    mined: negfast.MinedNegatives | None = None


class Miner(Protocol):
    """Makes lists with the model as it is now."""

    def lists(self, step: int) -> Lists: ...

    def due(self, epoch: int, step: int) -> bool: ...


class _Periodic:
    """Mines in the first epoch that it may, and every so many after it."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def due(self, epoch: int, step: int) -> bool:  # noqa: ARG002 - others go by steps
        arm = self.learner.run.arm
        since = epoch - arm.first_mined
        return since == 0 or (since > 0 and bool(arm.remined) and since % arm.remined == 0)


class Nearest(_Periodic):
    """The best-scoring passages but the anchor's own."""

    def lists(self, step: int) -> Lists:  # noqa: ARG002
        queries, passages = self.learner.encode()
        k = self.learner.run.arm.listed
        with self.learner.clock.on("mine"):
            found = negfast.topk(queries, passages, k + 1, n_threads=self.learner.run.threads).indices
            others = found != np.arange(len(found))[:, None]
            # A stable sort on what is left moves the anchor's own passage behind the rest.
            first = np.argsort(~others, axis=1, kind="stable")[:, :k]
            return Lists(np.take_along_axis(found, first, axis=1))


class SentenceTransformers(_Periodic):
    """mine_hard_negatives, over texts."""

    def lists(self, step: int) -> Lists:  # noqa: ARG002
        from datasets import Dataset
        from sentence_transformers.util import mine_hard_negatives

        learner, arm = self.learner, self.learner.run.arm
        pairs, rows = learner.prepared.pairs, learner.rows.tolist()
        queries, passages = ([side[row] for row in rows] for side in (pairs.queries, pairs.passages))
        model = _AsSentenceTransformer(queries, passages, learner)
        with learner.clock.on("mine"), contextlib.redirect_stderr(io.StringIO()):  # its bars
            found = mine_hard_negatives(
                Dataset.from_dict({"query": queries, "passage": passages}),
                model,
                relative_margin=arm.relative_margin,
                num_negatives=arm.listed,
                use_faiss=True,
                verbose=False,
            )
        return Lists(_rows_of(found["query"], found["negative"], queries, passages, arm.listed))


class _AsSentenceTransformer:
    """The methods of a SentenceTransformer that mining calls; texts are those of the training pairs."""

    device = "cpu"

    def __init__(self, queries: list[str], passages: list[str], learner: Learner) -> None:
        # Encoded here, so that its seconds count as encoding.
        vectors = learner.encode()
        self._queries, self._passages = (
            dict(zip(texts, side, strict=True)) for texts, side in zip((queries, passages), vectors, strict=True)
        )
        self._dim = vectors[0].shape[1]

    def get_embedding_dimension(self) -> int:
        return self._dim

    def encode_query(self, texts: list[str], **options: object) -> npt.NDArray[np.float32]:  # noqa: ARG002
        return np.stack([self._queries[text] for text in texts])

    def encode_document(self, texts: list[str], **options: object) -> npt.NDArray[np.float32]:  # noqa: ARG002
        return np.stack([self._passages[text] for text in texts])

    def similarity_pairwise(self, queries: object, passages: object) -> object:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(queries, passages)


def _rows_of(anchors: list[str], negatives: list[str], queries: list[str], passages: list[str], k: int) -> Ints:
    """Return triplets of texts as rows; where a text is in several pairs, the first of them."""
    place = {text: row for row, text in reversed(list(enumerate(passages)))}
    of_query: dict[str, dict[int, None]] = {}
    for anchor, negative in zip(anchors, negatives, strict=True):
        of_query.setdefault(anchor, {})[place[negative]] = None
    ids = np.full((len(queries), k), -1, dtype=np.int64)
    for row, query in enumerate(queries):
        found = list(of_query.get(query, ()))[:k]
        ids[row, : len(found)] = found
    return ids


class Negfast(_Periodic):
    """negfast, anew each time."""

    reserve: int | Literal["auto"] = 0

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        run = learner.run
        rules = negfast.Rules(relative_margin=run.arm.relative_margin)
        self.miner = negfast.Miner(
            num_negatives=run.arm.listed,
            rules=rules,
            search=negfast.Search(recall=run.arm.recall),
            n_threads=run.threads,
            seed=run.seed,
            reserve=self.reserve,
        )

    def lists(self, step: int) -> Lists:  # noqa: ARG002
        vectors = self.learner.encode()
        labels = {name: (each, each) for name, each in self.learner.labels.items()}
        with self.learner.clock.on("mine"):
            mined = self.miner.mine(*vectors, np.arange(len(self.learner)), **labels)
        return Lists(mined.indices, mined)


class Refreshed(Negfast):
    """negfast, refreshed once rows have moved as far as the policy lets them."""

    reserve = "auto"

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self.policy = negfast.RefreshPolicy(max_drift=learner.run.arm.refresh)
        self.began = False

    def due(self, epoch: int, step: int) -> bool:
        if not self.began:
            return epoch >= self.learner.run.arm.first_mined
        some = self.miner.sampled_anchors
        vectors = self.learner.encode_passages(some)
        with self.learner.clock.on("mine"):
            return bool(self.policy.decide(step, self.miner.staleness(some, vectors)))

    def lists(self, step: int) -> Lists:
        if not self.began:
            self.began = True
            found = super().lists(step)
        else:
            vectors = self.learner.encode()
            with self.learner.clock.on("mine"):
                mined = self.miner.refresh(*vectors)
            found = Lists(mined.indices, mined)
        self.policy.refreshed(step)
        return found


def miner(learner: Learner) -> Miner | None:
    """Return what makes the lists of the run's arm, if it has any."""
    arm = learner.run.arm
    match arm.source:
        case "nearest":
            return Nearest(learner)
        case "sentence-transformers":
            return SentenceTransformers(learner)
        case "negfast":
            return Negfast(learner) if arm.refresh is None else Refreshed(learner)
        case _:
            return None
