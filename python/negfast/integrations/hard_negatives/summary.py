"""What a verbose call prints at its end: scores of positives and negatives, refused candidates, what is missing."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.integrations.hard_negatives.settings import Layout, Settings
from negfast.integrations.hard_negatives.tables import Negatives
from negfast.integrations.hard_negatives.texts import Pairs

Scores = NDArray[np.float32]
Say = Callable[[str], None]
"""Prints a line."""
_ROW = "{:<6} {:>14} {:>14} {:>14}"


def print_scores(positives: Scores, negatives: Scores, differences: Scores, say: Say) -> None:
    """Print how three sets of scores are distributed.

    Parameters
    ----------
    positives : array, one of each pair
    negatives, differences : arrays, one of each pair and negative
    say : callable
        Prints a line.
    """
    say(_ROW.format("Metric", "Positive", "Negative", "Difference"))
    say(_ROW.format("Count", f"{len(positives):,}", f"{len(negatives):,}", ""))
    columns = [_statistics(scores) for scores in (positives, negatives, differences)]
    for name in columns[0]:
        say(_ROW.format(name, *(f"{column[name]:.4f}" for column in columns)))


def print_skipped(skipped: Mapping[str, int], n_candidates: int, settings: Settings, say: Say) -> None:
    """Print a line for each filter that refused candidates; a margin's are no candidates of later filters."""
    for name, value in settings.filters.active().items():
        count = skipped.get(name, 0)
        if count:
            say(f"Skipped {count:,} potential negatives ({count / n_candidates:.2%}) due to the {name} of {value}.")
        if name.endswith("margin"):
            n_candidates -= count


def print_missing(possible: int, n_rows: int, settings: Settings, say: Say) -> None:
    """Print how many rows of the result are missing, and which settings decide that."""
    missing = possible - n_rows
    if missing <= 0:
        return
    names = ["range_max"]
    if settings.range_min > 0:
        names.append("range_min")
    names += [name for name in settings.filters.active() if name != "min_score"]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    say(
        f"Could not find enough negatives for {missing} samples ({missing / possible:.2%}). Consider adjusting the "
        f"{listed} parameter{'s' if len(names) > 1 else ''} if you'd like to find more valid negatives."
    )


def possible_rows(settings: Settings, pairs: Pairs) -> int:
    """Return how many rows the result would have if no negative were missing."""
    n_pairs = len(pairs.anchors)
    if settings.layout == "triplet":
        return n_pairs * settings.num_negatives
    if settings.layout == "labeled-pair":
        return n_pairs + len(pairs.queries) * settings.num_negatives
    return n_pairs


def scores_of_pairs(layout: Layout, pairs: Pairs, negatives: Negatives) -> tuple[Scores, Scores, Scores]:
    """Return scores of positives, of the negatives of each pair, and by how much these are lower."""
    held = negatives.indices >= 0
    if layout == "n-tuple":
        held &= held.all(axis=1, keepdims=True)
    places, ranks = np.nonzero(held[pairs.anchors])
    scores = negatives.scores[pairs.anchors[places], ranks]
    return negatives.positive_scores, scores, negatives.positive_scores[places] - scores


def _statistics(scores: Scores) -> dict[str, Any]:
    """Return the numbers of one column by name; the median of an even number is the lower of the two in the middle."""
    n = len(scores)
    if not n:
        nan, inf = float("nan"), float("inf")
        return {"Mean": nan, "Median": nan, "Std": nan, "Min": inf, "25%": inf, "50%": inf, "75%": inf, "Max": -inf}
    middle = (n - 1) // 2
    quartiles = np.quantile(scores, [0.25, 0.5, 0.75])
    return {
        "Mean": scores.mean(dtype=np.float64),
        "Median": np.partition(scores, middle)[middle],
        "Std": scores.std(ddof=1, dtype=np.float64) if n > 1 else float("nan"),
        "Min": scores.min(),
        **dict(zip(("25%", "50%", "75%"), quartiles, strict=True)),
        "Max": scores.max(),
    }
