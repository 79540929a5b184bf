"""What a job would cost, before it is done."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import negfast
from negfast import _negfast
from negfast.cli.encoding import Encoder
from negfast.cli.mine.blocks import block_size
from negfast.cli.mine.job import Job
from negfast.cli.mine.pairs import Pairs
from negfast.cli.screen import Screen
from negfast.mining import core_settings
from negfast.recipe import Recipe

SAMPLE_ANCHORS = 1024
SAMPLE_ROWS = 16_384
SAMPLE_TEXTS = 64
BYTES_PER_NEGATIVE = 8 + 4 + 1


@dataclass(frozen=True)
class Estimate:
    """Sizes and times of a job.

    Attributes
    ----------
    blocks, block_size : int
        The job in blocks of anchors.
    passes : int
        Blocks of the search, each packed into working memory and multiplied with the whole corpus.
    working_bytes, embedding_bytes, result_bytes : int
        Memory of the search; the matrices, which are mapped from files; the lists.
    encoding_seconds, mining_seconds : float
        Rough times, from a small sample on this machine.
    """

    blocks: int
    block_size: int
    passes: int
    working_bytes: int
    embedding_bytes: int
    result_bytes: int
    encoding_seconds: float
    mining_seconds: float

    def show(self, screen: Screen) -> None:
        """Print the estimate."""
        screen.heading("What it would cost")
        screen.rows(
            [
                (
                    "blocks",
                    f"{self.blocks:,} of {self.block_size:,} anchors; passes over the corpus for each: {self.passes:,}",
                ),
                ("embeddings", f"{_size(self.embedding_bytes)}, mapped from files"),
                ("search", f"{_size(self.working_bytes)} of buffers"),
                ("result", f"{_size(self.result_bytes)} in memory"),
                ("encoding", f"roughly {_duration(self.encoding_seconds)}"),
                ("mining", f"roughly {_duration(self.mining_seconds)}"),
            ]
        )


def estimate(
    pairs: Pairs,
    recipe: Recipe,
    job: Job,
    *,
    n_threads: int,
    encoder: Encoder | None,
    given: tuple[NDArray[Any], list[NDArray[Any]]] | None,
) -> Estimate:
    """Estimate a job from its sizes and from a sample of its work.

    Parameters
    ----------
    pairs, recipe, job : what to mine
    n_threads : int
    encoder : Encoder or None
        What would encode the texts; a few of them are encoded.
    given : array and list of arrays, or None
        The embeddings of the anchors and of the corpus, where they are given.
    """
    n, m = len(pairs.anchors), len(pairs.corpus)
    seconds_per_text, dim, itemsize = 0.0, 1, 4
    if given is not None:
        dim, itemsize = given[0].shape[1], given[0].itemsize
    elif encoder is not None:
        seconds_per_text, dim = _encoding(encoder, pairs, job)
    size = max(n, 1) if job.state is not None else min(block_size(n, m, dim, recipe, job.block_size), max(n, 1))
    depth = _negfast.search_depth(core_settings(recipe), m)
    plan = _negfast.plan(size, m, dim, depth, recipe.search.max_memory, n_threads)
    return Estimate(
        blocks=-(-max(n, 1) // size),
        block_size=size,
        passes=plan["blocks"],
        working_bytes=plan["working_bytes"],
        embedding_bytes=(n + m) * dim * itemsize,
        result_bytes=n * recipe.num_negatives * BYTES_PER_NEGATIVE,
        encoding_seconds=seconds_per_text * (n + m),
        mining_seconds=_mining(n, m, dim, depth, n_threads),
    )


def _encoding(encoder: Encoder, pairs: Pairs, job: Job) -> tuple[float, int]:
    """Return seconds per text and the width of the rows."""
    texts = [*pairs.anchors.texts, *pairs.corpus.texts]
    sample = texts[:: max(1, len(texts) // SAMPLE_TEXTS)][:SAMPLE_TEXTS] or [""]
    encoder.fit(sample)
    encoder.encode(sample[:1], prompt=job.corpus_prompt, queries=False)  # the first call is slower
    start = time.perf_counter()
    rows = encoder.encode(sample, prompt=job.corpus_prompt, queries=False)
    return (time.perf_counter() - start) / len(sample), rows.shape[1]


def _mining(n: int, m: int, dim: int, depth: int, n_threads: int) -> float:
    """Return the seconds of a search of these sizes, scaled up from a small one on rows that are not all alike."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((min(n, SAMPLE_ANCHORS), dim), dtype=np.float32)
    corpus = rng.standard_normal((min(m, SAMPLE_ROWS), dim), dtype=np.float32)
    if not len(queries) or not len(corpus):
        return 0.0
    k = min(depth, len(corpus))
    start = time.perf_counter()
    negfast.topk(queries, corpus, k, n_threads=n_threads)
    return (time.perf_counter() - start) * (n / len(queries)) * (m / len(corpus))


def _size(n_bytes: int) -> str:
    if n_bytes >= 2**30:
        return f"{n_bytes / 2**30:.1f} GiB"
    return f"{n_bytes / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
