"""The mining itself, block of anchors by block of anchors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import negfast
from negfast.cli.mine.pairs import Pairs
from negfast.cli.mine.parts import Parts
from negfast.miner import Miner
from negfast.recipe import Recipe
from negfast.results import MinedNegatives

OPERATIONS_PER_BLOCK = 4e12
"""Multiplications and additions: seconds to a minute, so that little is lost and little is read again."""
LEAST_ANCHORS = 4096


def block_size(n_anchors: int, n_corpus: int, dim: int, recipe: Recipe, asked: int | None) -> int:
    """Return the anchors of a block; a function of the sizes alone, so that any machine cuts alike."""
    if recipe.rules.max_exposure is not None:  # who is served depends on all anchors
        return max(n_anchors, 1)
    if asked is not None:
        return asked
    return max(LEAST_ANCHORS, int(OPERATIONS_PER_BLOCK / (2 * max(n_corpus, 1) * dim)))


def mine_blocks(
    pairs: Pairs,
    queries: NDArray[Any],
    corpus: NDArray[Any],
    *,
    recipe: Recipe,
    size: int,
    n_threads: int | None,
    parts: Parts,
    progress: Callable[[float], None],
) -> MinedNegatives:
    """Mine all blocks that are not in `parts` yet, and join them."""
    n, known = len(pairs.anchors), pairs.arguments()
    starts = range(0, max(n, 1), size)
    done = []
    for number, start in enumerate(starts):
        block = parts.load(number)
        if block is None:
            anchors = np.arange(start, min(start + size, n))
            told = partial(_tell, progress, start, len(anchors))
            block = negfast.mine(
                queries,
                corpus,
                anchors=anchors,
                n_threads=n_threads,
                progress=told,
                **known,
                **recipe.arguments(),
            )
            block.save(parts.block(number))
        progress(min(start + size, n))
        done.append(block)
    return negfast.concatenate(done)


def mine_whole(
    pairs: Pairs,
    queries: NDArray[Any],
    corpus: NDArray[Any],
    *,
    recipe: Recipe,
    n_threads: int | None,
    progress: Callable[[float], None],
) -> tuple[MinedNegatives, Miner]:
    """Mine all anchors in one call, and return the miner that remembers it."""
    settings = recipe.arguments()
    epoch = settings.pop("epoch")
    miner = Miner(n_threads=n_threads, **settings)
    told = partial(_tell, progress, 0, len(pairs.anchors))
    return miner.mine(queries, corpus, epoch=epoch, progress=told, **pairs.arguments()), miner


def _tell(progress: Callable[[float], None], start: int, n_anchors: int, share: float) -> None:
    progress(start + share * n_anchors)
