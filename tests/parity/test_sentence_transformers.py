"""`mine` agrees with `sentence_transformers.util.mine_hard_negatives` on the rules that both have.

The window of the other side counts raw candidates, so it is given the whole corpus here: then both see
everything, and the same negatives have to come out.
"""

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pytest

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    util = pytest.importorskip("sentence_transformers.util", exc_type=ImportError)
    import torch

N_QUERIES, N_ROWS, DIM, NUM_NEGATIVES = 40, 120, 12, 4


class Card:
    base_model = "fake"


class Model:
    """As much of a sentence-transformers model as the miner touches: a table of embeddings."""

    device = torch.device("cpu")
    model_card_data = Card()
    similarity_fn_name = "cosine"

    def __init__(self, table: dict[str, np.ndarray[Any, Any]]) -> None:
        self.table = table

    def encode(self, texts: list[str], **_: Any) -> Any:
        return np.stack([self.table[text] for text in texts])

    encode_query = encode_document = encode

    def similarity(self, left: Any, right: Any) -> Any:
        return torch.as_tensor(left) @ torch.as_tensor(right).T

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        return (torch.as_tensor(left) * torch.as_tensor(right)).sum(dim=1)

    def get_embedding_dimension(self) -> int:
        return DIM

    get_sentence_embedding_dimension = get_embedding_dimension


def world(*, several: bool) -> tuple[Any, Any, list[list[int]]]:
    """Queries near their positives, rows around them, so that margins reject some rows and not others."""
    rng = np.random.default_rng(21)
    corpus = rng.standard_normal((N_ROWS, DIM))
    corpus[60:] = corpus[:60] + 0.5 * rng.standard_normal((60, DIM))
    queries = corpus[:N_QUERIES] + 0.6 * rng.standard_normal((N_QUERIES, DIM))
    queries, corpus = ((m / np.linalg.norm(m, axis=1, keepdims=True)).astype(np.float32) for m in (queries, corpus))
    positives = [[i, i + 60] if several and i % 3 == 0 else [i] for i in range(N_QUERIES)]
    return queries, corpus, positives


def theirs(queries: Any, corpus: Any, positives: list[list[int]], **options: Any) -> dict[int, list[int]]:
    """Mine with the other library and translate its texts back to rows."""
    table = {f"query {i}": row for i, row in enumerate(queries)}
    table |= {f"row {i}": row for i, row in enumerate(corpus)}
    pairs = [(f"query {i}", f"row {p}") for i, rows in enumerate(positives) for p in rows]
    dataset = datasets.Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [p for _, p in pairs]})
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        mined = util.mine_hard_negatives(
            dataset,
            Model(table),
            corpus=[f"row {i}" for i in range(len(corpus))],
            num_negatives=NUM_NEGATIVES,
            range_max=len(corpus),
            output_format="triplet",
            verbose=False,
            **options,
        )
    found: dict[int, list[int]] = {i: [] for i in range(len(queries))}
    for anchor, negative in zip(mined["anchor"], mined["negative"], strict=True):
        query, row = int(anchor.split()[1]), int(negative.split()[1])
        if row not in found[query]:  # every positive of a query repeats the same negatives
            found[query].append(row)
    return found


@pytest.mark.parametrize("several", [False, True], ids=["one positive", "several positives"])
@pytest.mark.parametrize(
    "options",
    [
        {"relative_margin": 0.05},
        {"relative_margin": None},
        {"absolute_margin": 0.2, "relative_margin": None},
        {"max_score": 0.6, "min_score": 0.1, "relative_margin": None},
        {"relative_margin": 0.1, "range_min": 5},
        {"relative_margin": 0.1, "absolute_margin": 0.1, "max_score": 0.7, "range_min": 2},
        {"relative_margin": 0.4, "min_score": 0.3},
    ],
    ids=str,
)
def test_same_negatives(options: dict[str, Any], several: bool) -> None:
    queries, corpus, positives = world(several=several)
    range_max = options.get("range_min", 0) + len(corpus)
    mined = negfast.mine(
        queries,
        corpus,
        positives,
        num_negatives=NUM_NEGATIVES,
        rules=negfast.Rules(**options, range_max=range_max),
    )
    want = theirs(queries, corpus, positives, **options)
    assert sum(map(len, want.values())) > N_QUERIES  # there is something to compare
    for anchor, rows in want.items():
        assert [int(row) for row in mined.indices[anchor] if row >= 0] == rows
