"""Reports from the lists of a run, however many calls they came from."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from negfast.recipe import Recipe
from negfast.report import Exposure, FalseNegatives, Quantiles, Report, SearchReport, Suspects

TIER_NAMES = ("none", "easy", "semi_hard", "hard")


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
    hardness = lists.scores - lowest[:, None]
    tiers = np.array([np.count_nonzero(lists.tiers == tier) for tier in range(len(TIER_NAMES))])
    tiers[0] -= int((~found).sum())
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
        positives=Quantiles.of(lowest[~np.isnan(lowest)]),
        negatives=Quantiles.of(_where(found, lists.scores)),
        hardness=Quantiles.of(_where(paired, hardness)),
        positive_ranks=Quantiles.of(ranks[ranks > 0]),
        tiers=dict(zip(TIER_NAMES, tiers.tolist(), strict=True)),
        suspects=suspects,
        suspect_rank=recipe.suspect_rank,
        false_negatives=false_negatives,
        exposure=Exposure.of(_where(found, lists.indices), n_corpus),
    )


def _where(mask: NDArray[np.bool_], numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the numbers where the mask is set, without a copy where it is set throughout."""
    return numbers.reshape(-1) if mask.all() else numbers[mask]
