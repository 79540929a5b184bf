"""The whole job: negfast.mine against mine_hard_negatives of sentence-transformers, embeddings given.

Both start from pairs of texts and their embeddings, find repeated anchors and passages, and mine with the
rules that both have: known positives and a relative margin. The seconds in which the peer waits for its
embeddings are taken off. It returns texts, negfast rows of the corpus, which is how each is used.

The peer looks at a window of the nearest rows, by default `10 * num_negatives` and twice the largest number
of positives of one anchor, and gives fewer negatives where rules empty that window. Lists have to be the
same where it found enough, and begin with its rows elsewhere.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

from bench import alternate, arguments, peer_libraries, pin, record, summary, table, timed, versions

NUM_NEGATIVES = 8
RELATIVE_MARGIN = 0.05
# Sums of float32 in another order differ by less; what is closer than this is a tie, or at the margin.
TOLERANCE = 1e-6
PEER = "sentence-transformers (faiss)"


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.add_argument(
        "--unique-anchors",
        action="store_true",
        help="keep the first pair of each anchor, as suits the peer's window",
    )
    return parser.parse_args()


@dataclass(frozen=True)
class Ids:
    """Texts without repeats, in order of their first pair, and the positives of each anchor as CSR."""

    anchors: list[str]
    corpus: list[str]
    indptr: Any
    indices: Any


def identify(anchor_texts: list[str], passage_texts: list[str]) -> Ids:
    import numpy as np

    anchors = {text: row for row, text in enumerate(dict.fromkeys(anchor_texts))}
    corpus = {text: row for row, text in enumerate(dict.fromkeys(passage_texts))}
    owner = np.array([anchors[text] for text in anchor_texts])
    positive = np.array([corpus[text] for text in passage_texts])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(anchors)))])
    return Ids(list(anchors), list(corpus), indptr, positive[np.argsort(owner, kind="stable")])


class Encoded:
    """Stands in for a model: looks embeddings up, and knows how long that took."""

    device = "cpu"

    def __init__(self, anchors: dict[str, int], corpus: dict[str, int], queries: Any, passages: Any) -> None:
        self.tables = {"query": (anchors, queries), "document": (corpus, passages)}
        self.seconds = 0.0

    def look_up(self, kind: str, texts: list[str]) -> Any:
        begin = time.perf_counter()
        rows, embeddings = self.tables[kind]
        found = embeddings[[rows[text] for text in texts]]
        self.seconds += time.perf_counter() - begin
        return found

    def encode_query(self, texts: list[str], **_: object) -> Any:
        return self.look_up("query", texts)

    def encode_document(self, texts: list[str], **_: object) -> Any:
        return self.look_up("document", texts)

    def get_embedding_dimension(self) -> int:
        return self.tables["query"][1].shape[1]

    def similarity_pairwise(self, first: Any, second: Any) -> Any:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(first, second)


def peer_negatives(mined: Any, ids: Ids) -> Any:
    """Rows of the peer's negatives by anchor, padded with -1; it repeats them for each positive."""
    import numpy as np

    anchors = {text: row for row, text in enumerate(ids.anchors)}
    corpus = {text: row for row, text in enumerate(ids.corpus)}
    lists: list[dict[int, None]] = [{} for _ in anchors]
    for anchor, negative in zip(mined["anchor"], mined["negative"], strict=True):
        lists[anchors[anchor]][corpus[negative]] = None
    rows = np.full((len(anchors), NUM_NEGATIVES), -1)
    for row, negatives in enumerate(lists):
        rows[row, : len(negatives)] = list(negatives)
    return rows


def compare(ours: Any, theirs: Any, ids: Ids, queries: Any, corpus: Any) -> dict[str, int]:
    """Count how the lists agree; a difference that rounding does not explain is an error."""
    import numpy as np

    full = (theirs >= 0).all(axis=1)
    same = (ours == theirs).all(axis=1)
    counts = {
        "anchors": len(ours),
        "with a full list here": int((ours >= 0).all(axis=1).sum()),
        "with a full list there": int(full.sum()),
        "full there and identical": int((full & same).sum()),
        "full there, equal scores in another order": 0,
        "full there, a row at the margin": 0,
        "short there, and a prefix of ours": 0,
    }
    for row in np.flatnonzero(~(full & same)):
        scores = corpus.astype(np.float64) @ queries[row].astype(np.float64)
        positives = ids.indices[ids.indptr[row] : ids.indptr[row + 1]]
        lowest = scores[positives].min()
        cap = lowest - abs(lowest) * RELATIVE_MARGIN
        there = theirs[row][theirs[row] >= 0]
        here = ours[row][: len(there)]
        tied = (here >= 0).all() and np.abs(scores[here] - scores[there]).max(initial=0) <= TOLERANCE
        marginal = (np.abs(scores - cap) <= TOLERANCE).any()
        if not (tied or marginal):
            raise AssertionError(f"anchor {row}: {here} here, {there} there, scores {scores[here]}, {scores[there]}")
        if not full[row]:
            counts["short there, and a prefix of ours"] += 1
        elif tied:
            counts["full there, equal scores in another order"] += 1
        else:
            counts["full there, a row at the margin"] += 1
    return counts


def first_pairs(anchor_texts: list[str]) -> list[int]:
    return list({text: row for row, text in reversed(list(enumerate(anchor_texts)))}.values())[::-1]


def main() -> None:
    chosen = options()
    pin(chosen.threads, chosen.level, chosen.peers)

    import datasets
    import faiss
    import numpy as np
    import torch
    from sentence_transformers.util import mine_hard_negatives

    import negfast
    from data import load

    faiss.omp_set_num_threads(chosen.threads)
    torch.set_num_threads(chosen.threads)
    datasets.disable_progress_bars()

    pairs = load(chosen.n)
    rows = first_pairs(pairs.query_texts) if chosen.unique_anchors else list(range(len(pairs)))
    anchor_texts = [pairs.query_texts[row] for row in rows]
    passage_texts = [pairs.corpus_texts[row] for row in rows]
    dataset = datasets.Dataset.from_dict({"anchor": anchor_texts, "positive": passage_texts})

    # One embedding for each text, that of its first pair: what encoding gives.
    ids = identify(anchor_texts, passage_texts)
    anchor_rows = {anchor_texts[row]: row for row in reversed(range(len(rows)))}
    passage_rows = {passage_texts[row]: row for row in reversed(range(len(rows)))}
    queries = pairs.queries[[rows[anchor_rows[text]] for text in ids.anchors]]
    corpus = pairs.corpus[[rows[passage_rows[text]] for text in ids.corpus]]
    model = Encoded(
        {text: row for row, text in enumerate(ids.anchors)},
        {text: row for row, text in enumerate(ids.corpus)},
        queries,
        corpus,
    )
    results: dict[str, Any] = {}

    def ours() -> float:
        def run() -> None:
            found = identify(anchor_texts, passage_texts)
            results["negfast"] = negfast.mine(
                queries,
                corpus,
                (found.indptr, found.indices),
                num_negatives=NUM_NEGATIVES,
                rules=negfast.Rules(relative_margin=RELATIVE_MARGIN),
                n_threads=chosen.threads,
            )

        return timed(run)

    def theirs() -> float:
        def run() -> None:
            results[PEER] = mine_hard_negatives(
                dataset,
                model,
                relative_margin=RELATIVE_MARGIN,
                num_negatives=NUM_NEGATIVES,
                sampling_strategy="top",
                use_faiss=True,
                verbose=False,
            )

        model.seconds = 0.0
        return timed(run) - model.seconds

    contenders = {"negfast": ours, PEER: theirs}
    for run in contenders.values():
        run()
    counts = compare(results["negfast"].indices, peer_negatives(results[PEER], ids), ids, queries, corpus)
    seconds = alternate(contenders, chosen.rounds)
    level = negfast.simd_level()
    summed = summary(seconds)
    positives = int(np.diff(ids.indptr).max())
    text = (
        f"{len(rows):,} pairs: {len(ids.anchors):,} anchors x {len(ids.corpus):,} passages, "
        f"dim {corpus.shape[1]}, {chosen.threads} threads, level {level}\n{pairs.source}\n"
        f"{NUM_NEGATIVES} negatives, relative margin {RELATIVE_MARGIN}, "
        f"at most {positives} positives of one anchor\n\n{table(summed)}\n\n"
        + "\n".join(f"{count:>9,} {name}" for name, count in counts.items())
    )
    unique = "-unique" if chosen.unique_anchors else ""
    record(
        chosen.name or f"mine{unique}-{len(rows)}-{level}-{chosen.threads}t",
        {
            "peer_libraries": peer_libraries(),
            "versions": versions("sentence-transformers", "faiss-cpu", "torch"),
            "source": pairs.source,
            "shape": [len(ids.anchors), len(ids.corpus), corpus.shape[1]],
            "num_negatives": NUM_NEGATIVES,
            "relative_margin": RELATIVE_MARGIN,
            "threads": chosen.threads,
            "level": level,
            "agreement": counts,
            "seconds": seconds,
            "summary": summed,
        },
        text,
    )


if __name__ == "__main__":
    main()
