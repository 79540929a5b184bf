"""The call: a data set of pairs in, a data set with negatives out."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negfast.integrations.hard_negatives.settings import Layout, Strategy
from negfast.integrations.hard_negatives.summary import (
    Say,
    possible_rows,
    print_missing,
    print_scores,
    print_skipped,
    scores_of_pairs,
)
from negfast.integrations.hard_negatives.tables import Negatives, Wanted, check_names, table
from negfast.integrations.hard_negatives.texts import Pairs, pairs_of, text_array
from negfast.integrations.sentence_transformers.arguments import Extras, check_metric, settings_of
from negfast.integrations.sentence_transformers.cache import EmbeddingCache
from negfast.integrations.sentence_transformers.columns import column_names, other_columns, text_columns
from negfast.integrations.sentence_transformers.encoding import Encoding, both_sides, processes
from negfast.integrations.sentence_transformers.output import dataset_of
from negfast.integrations.sentence_transformers.rescoring import CrossScores
from negfast.integrations.sentence_transformers.retrieval import Job, Mined, Window, from_corpus
from negfast.integrations.sentence_transformers.similarity import Similarity
from negfast.integrations.sentence_transformers.warm import from_miner
from negfast.miner import Miner
from negfast.settings import Rules, Search, truth

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, SentenceTransformer

Scores = NDArray[np.float32]


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
    """Mine hard negatives for a data set of pairs, as `sentence_transformers.util.mine_hard_negatives` does.

    The same arguments give the same rows, faster and in bounded memory: to change over, change the import.

    Parameters
    ----------
    dataset : datasets.Dataset
        Pairs of texts. Rows with the same anchor are its several positives.
    model : SentenceTransformer
        What encodes. Used are `encode_query`, `encode_document`, `similarity_pairwise`, and where they are there
        `similarity_fn_name`, `prompts`, `truncate_dim` and `state_dict`; `similarity` only if its function is none of
        cosine, dot and euclidean; the pool of processes only with `use_multi_process`.
    anchor_column_name, positive_column_name : str, optional
        By default, and if there is no such column, the first and the second.
    corpus : list of str, optional
        Texts that are candidates beside the positives, which always are.
    cross_encoder : CrossEncoder, optional
        Its scores replace those of the model, for candidates and positives, if a filter is set or `output_scores` is
        true.
    range_min : int, default 0
        Skip this many of the best candidates that are left after all filters.
    range_max : int, optional
        Keep so many of these. Among the nearest ``range_max + p`` rows candidates are looked for, where p is the number
        of rows of the anchor that has most. By default ``range_min + num_negatives + p``, with ten times
        `num_negatives` if there are a margin, a `max_score`, `rules`, or a `cross_encoder` with a `min_score`.
    max_score, min_score : float, optional
        Refuse candidates that score more, or less.
    absolute_margin : float, optional
        Refuse candidates whose score and this are above the lowest score of the anchor's positives.
    relative_margin : float, optional
        Refuse candidates that score more than ``p - abs(p) * relative_margin``, with p that lowest score.
    num_negatives : int, default 3
        Negatives of each anchor, at most.
    sampling_strategy : {"top", "random"}, default "top"
        Take the best of what is left, or any.
    query_prompt_name, query_prompt, corpus_prompt_name, corpus_prompt : str, optional
        Passed to the model.
    include_positives : bool, default False
        Rank positives among the negatives, for data sets that evaluate rerankers. The layout is "n-tuple" then.
    output_format : {"triplet", "n-tuple", "labeled-pair", "labeled-list"}, default "triplet"
        A row is: an anchor, a positive and a negative; the same with all negatives, each in its column, if there are so
        many; an anchor, a text and its label; an anchor, a list of texts and one of their labels.
    output_scores : bool, default False
        Give scores too, or in the place of labels.
    batch_size : int, default 32
        Of the encoders.
    faiss_batch_size : int, default 16384
        How many queries at most a model scores in one call whose similarity function negfast does not know.
    use_faiss : bool, default False
        Nothing changes, and faiss is not needed; but models without `similarity` can be used then.
    use_multi_process : bool or list of str, default False
        Encode in several processes, on these devices.
    verbose : bool, default True
        Print what is found, and show bars.
    cache_folder : path, optional
        Where embeddings are kept for the next call with the same weights, prompts and texts.
    as_triplets, margin : deprecated
        Earlier names of ``output_format`` and ``absolute_margin``.
    rules : Rules, optional
        Further guard rails for what the filters have left; `range_min` and `range_max` belong to the call. Mind that
        a plain ``Rules()`` brings a relative margin of 0.05. `exclude_self` refuses the text of the query itself.
    search : Search, optional
        How to search for the nearest rows; exactly by default.
    seed : int, optional
        Names the draw of "random": the same number, the same negatives. By default each call draws others.
    return_ids : bool, default False
        Add a column of row numbers behind each column of texts, named after it with ``_id``: rows of `dataset` for
        anchors; for other texts places in `corpus` followed by the positives of `dataset`, so without a corpus rows of
        `dataset`. Of texts that occur several times the first counts.
    miner : Miner, optional
        Mines the first time, and starts from what it remembers after that. It needs the settings of the call; a call
        with filters or rules has to be `deep`.
    keep_columns : bool, default False
        Let the other columns of the data set travel with each pair; with the layout "labeled-pair" those of the
        anchor's first row travel with its negatives.
    deep : bool, default False
        Look for negatives in all of the corpus, not only among the nearest rows: every anchor gets the best that are
        allowed, however many are refused. `range_max` counts allowed rows then, and has no default with "top".

    Returns
    -------
    datasets.Dataset
        Its rows are grouped by anchor, in the order of first occurrence; negatives of an anchor stand best first.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or value, or does not go with another.
    StateError
        If what `miner` remembers does not fit.

    Notes
    -----
    The how-to page "Train with sentence-transformers" lists what differs from the original, and why.

    Without `search`, `rules` and `deep` the rows are those of brute force: scores are exact, computed in float64 and
    rounded once, and ties go to the text that occurs first.

    Limitations
    -----------
    Both columns have to hold texts. With `deep` and with a `miner`, the model has to score by cosine or dot, and there
    can be no `cross_encoder`; the printed counts are then of rows that score at least an anchor's last negative.

    Examples
    --------
    >>> from datasets import Dataset
    >>> from negfast.integrations.sentence_transformers import mine_hard_negatives
    >>> from sentence_transformers import SentenceTransformer
    >>> from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> topics = ["password", "invoice", "delivery", "refund"]
    >>> words = ["how", "to", "the", "team", "handles", *topics]
    >>> tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="the"))
    >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    >>> questions = [f"how to {topic}" for topic in topics]
    >>> answers = [f"the {topic} team handles the {topic}" for topic in topics]
    >>> dataset = Dataset.from_dict({"question": questions, "answer": answers})
    >>> mined = mine_hard_negatives(dataset, model, num_negatives=2, verbose=False)
    >>> mined.column_names, len(mined)
    (['question', 'answer', 'negative'], 8)
    """
    say: Say = print if verbose else _silent
    names = column_names(dataset, anchor_column_name, positive_column_name)
    settings = settings_of(
        num_negatives=num_negatives,
        range_min=range_min,
        range_max=range_max,
        max_score=max_score,
        min_score=min_score,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin,
        sampling_strategy=sampling_strategy,
        include_positives=include_positives,
        output_format=output_format,
        output_scores=output_scores,
        as_triplets=as_triplets,
        margin=margin,
    )
    extras = Extras(rules=rules, search=search, seed=seed, miner=miner, deep=deep)
    extras.check(settings, cross_encoder, faiss_batch_size)
    pairs = pairs_of(*text_columns(dataset, names), None if corpus is None else text_array("corpus", corpus))
    settings = extras.windowed(settings, cross_encoder, int(pairs.rows_per_query.max()), say)
    wanted = Wanted(
        anchor=names[0],
        positive=names[1],
        scores=settings.output_scores,
        ids=truth("return_ids", return_ids),
        others=other_columns(dataset, names) if truth("keep_columns", keep_columns) else {},
    )
    check_names(settings.layout, settings.num_negatives, wanted)
    _say_pairs(pairs, say)
    queries, rows = both_sides(
        model,
        (
            Encoding("query", query_prompt_name, query_prompt, batch_size),
            Encoding("corpus", corpus_prompt_name, corpus_prompt, batch_size),
        ),
        (pairs.queries, pairs.corpus),
        EmbeddingCache(cache_folder, model, say) if cache_folder else None,
        pool_wanted=use_multi_process,
        show=verbose,
    )
    job = Job(
        pairs=pairs,
        settings=settings,
        rules=rules,
        search=extras.used_search,
        similarity=Similarity(model, queries, rows, inner_product=use_faiss),
        seed=extras.used_seed,
        at_once=faiss_batch_size,
        verbose=verbose,
    )
    if deep or miner is not None:
        check_metric(job.similarity)
        positive_scores = job.similarity.of_pairs(pairs.anchors, pairs.positives)
        mined = from_corpus(job) if miner is None else from_miner(job, miner)
    else:
        rescoring = cross_encoder if extras.rescores(settings) else None
        positive_scores, mined = _in_window(job, rescoring, batch_size, use_multi_process)
    say("Negative candidates mined, preparing dataset...")
    return _output(job, mined, positive_scores, wanted, say)


def _in_window(job: Job, cross_encoder: Any, batch_size: int, pool_wanted: list[str] | bool) -> tuple[Scores, Mined]:
    """Return the scores of pairs, and the negatives from the window."""
    pairs = job.pairs
    if cross_encoder is None:
        positive_scores = job.similarity.of_pairs(pairs.anchors, pairs.positives)
        return positive_scores, Window(job, positive_scores, None).mine()
    with processes(cross_encoder, pool_wanted) as pool:
        crossed = CrossScores(cross_encoder, pairs, batch_size=batch_size, pool=pool, progress=job.verbose)
        positive_scores = crossed.of_pairs(pairs.anchors, pairs.positives)
        return positive_scores, Window(job, positive_scores, crossed).mine()


def _output(job: Job, mined: Mined, positive_scores: Scores, wanted: Wanted, say: Say) -> "Dataset":
    """Return the data set, and say what is in it."""
    negatives = Negatives(mined.indices, mined.scores, positive_scores)
    result = dataset_of(table(job.settings.layout, job.pairs, negatives, wanted))
    if job.verbose:
        print_scores(*scores_of_pairs(job.settings.layout, job.pairs, negatives), say)
        print_skipped(mined.refused, mined.n_candidates, job.settings, say)
        print_missing(possible_rows(job.settings, job.pairs), len(result), job.settings, say)
    return result


def _say_pairs(pairs: Pairs, say: Say) -> None:
    n_rows, n_queries = int(pairs.rows_per_query.sum()), len(pairs.queries)
    if n_queries < n_rows:
        say(f"Found {n_queries} unique queries out of {n_rows} total queries.")
        say(f"Found an average of {n_rows / n_queries:.3f} positives per query.")


def _silent(line: str) -> None:
    """Print nothing."""
