"""How many of the true best negatives an index proposed, on anchors solved exactly."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from negfast._negfast import measured_recall, shuffled_rows
from negfast.arrays import Ints
from negfast.mining import mine, select
from negfast.recipe import Recipe


class Recall(NamedTuple):
    """Recall of lists of negatives.

    Attributes
    ----------
    value : float
        The mean over anchors.
    interval : tuple of float
        95 % interval of what the mean over all anchors would be.
    audited : int
        Anchors that it was measured on.
    """

    value: float
    interval: tuple[float, float]
    audited: int


def audit(
    embeddings: tuple[Any, Any], candidates: Ints, known: dict[str, Any], recipe: Recipe, anchors: int, n_threads: int
) -> Recall:
    """Measure the recall of the lists from which negatives are drawn.

    Parameters
    ----------
    embeddings : pair, of the queries and of the corpus
    candidates : ndarray of int64, shape (n_queries, k)
    known : dict
        Positives, and what else keeps rows from being negatives, as :func:`negfast.mine` takes it.
    recipe : Recipe
        Rules that count over anchors or compare negatives with each other are left out.
    anchors : int
        So many are solved exactly, at random by the seed of the recipe.
    n_threads : int
    """
    sample = np.sort(shuffled_rows(len(candidates), recipe.seed, recipe.epoch)[:anchors])
    asked: dict[str, Any] = {
        **known,
        "num_negatives": recipe.num_negatives if recipe.window is None else recipe.window,
        "metric": recipe.metric,
        "rules": replace(recipe.rules, max_exposure=None, distinct=None),
        "n_threads": n_threads,
    }
    truth = mine(*embeddings, anchors=sample, **asked)
    of_sample = np.full_like(candidates, -1)
    of_sample[sample] = candidates[sample]
    chosen = select(*embeddings, of_sample, **asked)
    last = np.where(truth.indices >= 0, truth.scores, np.inf).min(axis=1, initial=np.inf)
    sought = (truth.indices >= 0).sum(axis=1)
    reached = (chosen.indices[sample] >= 0) & (chosen.scores[sample] >= last[:, None])
    return Recall(*measured_recall(np.minimum(reached.sum(axis=1), sought).tolist(), sought.tolist()))
