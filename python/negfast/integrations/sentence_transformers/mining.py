"""The call: a data set of pairs in, a data set with negatives out."""

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from negfast.errors import InvalidValueError
from negfast.integrations.hard_negatives.settings import Filters, Layout, Settings, Strategy
from negfast.integrations.hard_negatives.summary import print_missing, print_scores, print_skipped
from negfast.integrations.hard_negatives.tables import Negatives, Wanted, table
from negfast.integrations.hard_negatives.texts import Pairs, pairs_of, text_array
from negfast.integrations.sentence_transformers.cache import EmbeddingCache
from negfast.integrations.sentence_transformers.columns import column_names, other_columns, text_columns
from negfast.integrations.sentence_transformers.encoding import Encoding, Matrix, processes
from negfast.integrations.sentence_transformers.rescoring import CrossScores
from negfast.integrations.sentence_transformers.retrieval import Job, Mined, Window, from_corpus
from negfast.integrations.sentence_transformers.similarity import Similarity
from negfast.integrations.sentence_transformers.warm import from_miner
from negfast.miner import Miner
from negfast.settings import Rules, Search, instance, truth, whole

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, SentenceTransformer

logger = logging.getLogger(__name__)
Say = Callable[[str], None]


def mine_hard_negatives(
    dataset: "Dataset",
    model: "SentenceTransformer",
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    cross_encoder: "CrossEncoder | None" = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Strategy = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: Layout = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,
    use_multi_process: list[str] | bool = False,
    verbose: bool = True,
    cache_folder: str | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
    *,
    rules: Rules | None = None,
    search: Search | None = None,
    seed: int | None = None,
    return_ids: bool = False,
    miner: Miner | None = None,
    keep_columns: bool = False,
    deep: bool = False,
) -> "Dataset":
    """Mine."""
    say: Say = print if verbose else _silent
    if faiss_batch_size <= 0:
        raise InvalidValueError(f"faiss_batch_size must be a positive integer, got {faiss_batch_size}.")
    names = column_names(dataset, anchor_column_name, positive_column_name)
    layout, output_scores, absolute_margin = _renamed(
        output_format, output_scores, absolute_margin, as_triplets=as_triplets, margin=margin
    )
    settings = Settings(
        num_negatives=num_negatives,
        range_min=range_min,
        range_max=range_max,
        filters=Filters(
            absolute_margin=absolute_margin,
            relative_margin=relative_margin,
            max_score=max_score,
            min_score=min_score,
        ),
        strategy=sampling_strategy,
        layout=layout,
        output_scores=output_scores,
        include_positives=include_positives,
    )
    pairs = pairs_of(*text_columns(dataset, names), None if corpus is None else text_array("corpus", corpus))
    settings = settings.windowed(int(pairs.rows_per_query.max()), spare=_spare(settings, cross_encoder), say=say)
    _say_pairs(pairs, say)
    cache = None if not cache_folder else EmbeddingCache(cache_folder, model, say)
    queries, documents = embeddings(
        model, pairs, cache,
        queries=Encoding(side="query", prompt_name=query_prompt_name, prompt=query_prompt, batch_size=batch_size),
        corpus=Encoding(side="corpus", prompt_name=corpus_prompt_name, prompt=corpus_prompt, batch_size=batch_size),
    )  # fmt: skip
    similarity = Similarity(model, queries, documents, inner_product=use_faiss)
    positive_scores = similarity.of_pairs(pairs.anchors, pairs.positives)
    job = Job(pairs=pairs, settings=settings, rules=rules, search=search or Search(), similarity=similarity, seed=0, at_once=faiss_batch_size, verbose=verbose)
    mined = Window(job, positive_scores, None).mine()
    say("Negative candidates mined, preparing dataset...")
    from datasets import Dataset
    wanted = Wanted(anchor=names[0], positive=names[1], scores=output_scores, ids=return_ids, others={})
    return Dataset.from_dict(table(layout, pairs, Negatives(mined.indices, mined.scores, positive_scores), wanted))


def embeddings(model, pairs, cache, *, queries, corpus):
    return queries.encode(model, pairs.queries.to_pylist()), corpus.encode(model, pairs.corpus.to_pylist())

def _silent(line): ...
def _renamed(o, s, a, *, as_triplets, margin): return o, s, a
def _spare(settings, c): f=settings.filters; return f.has_margin or f.max_score is not None
def _say_pairs(pairs, say): ...
