"""Reports from the lists of a run, however many calls they came from."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from negfast.recipe import Recipe
from negfast.report import Exposure, FalseNegatives, Quantiles, Report, SearchReport, Suspects

TIER_NAMES = ("none", "easy", "semi_hard", "hard")
WORTH_A_THREAD = 1_000_000
"""Numbers from which on arrays are summarised on several threads."""


class Lists(NamedTuple):
    """What is mined for each anchor; the fields are those of :class:`negfast.MinedNegatives`."""

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    positive_scores: NDArray[np.float32]
    positive_ranks: NDArray[np.int64]
    tiers: NDArray[np.uint8]


def summarise(
    lists: Lists,
    *,
    recipe: Recipe,
    search: SearchReport,
    n_corpus: int,
    dim: int,
    dtype: str,
    removed: dict[str, int],
    anchors_deepened: int,
    suspects: Suspects,
    false_negatives: FalseNegatives | None,
) -> Report:
    """Return the report of lists; what they do not tell is given."""
    lowest, ranks = lists.positive_scores, lists.positive_ranks
    found = lists.indices >= 0
    paired = found & ~np.isnan(lowest)[:, None]
    hardness = (lists.scores.astype(np.float64) - lowest.astype(np.float64)[:, None])[paired]
    tiers = np.bincount(lists.tiers.ravel(), minlength=len(TIER_NAMES))
    tiers[0] -= int((~found).sum())
    numbers = (lowest[~np.isnan(lowest)], lists.scores[found], hardness, ranks[ranks > 0])
    positives, negatives, hardness_of, ranks_of = _quantiles(numbers, n_threads=search.n_threads)
    return Report(
        search=search,
        n_queries=len(lists.indices),
        n_corpus=n_corpus,
        dim=dim,
        num_negatives=recipe.num_negatives,
        metric=recipe.metric,
        dtype=dtype,
        removed=removed,
        anchors_without_positive=int(np.isnan(lowest).sum()),
        anchors_underfilled=int((found.sum(axis=1) < recipe.num_negatives).sum()),
        missing_negatives=int((~found).sum()),
        anchors_deepened=anchors_deepened,
        positives=positives,
        negatives=negatives,
        hardness=hardness_of,
        positive_ranks=ranks_of,
        tiers=dict(zip(TIER_NAMES, tiers.tolist(), strict=True)),
        suspects=suspects,
        suspect_rank=recipe.suspect_rank,
        false_negatives=false_negatives,
        exposure=Exposure.of(lists.indices[found], n_corpus),
    )


def _quantiles(numbers: Sequence[NDArray[Any]], *, n_threads: int) -> list[Quantiles]:
    """Summarise several arrays side by side: selection works outside of the interpreter's lock."""
    if n_threads == 1 or sum(array.size for array in numbers) < WORTH_A_THREAD:
        return [Quantiles.of(array) for array in numbers]
    with ThreadPoolExecutor(max_workers=min(n_threads, len(numbers))) as pool:
        return list(pool.map(Quantiles.of, numbers))
