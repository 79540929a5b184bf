"""Statistics that tell a fair sampler from an unfair one, and the chance of what they find."""

import itertools
import math
from collections import Counter

import numpy as np
import numpy.typing as npt


def tail(statistic: float, df: int) -> float:
    """Find the probability that chi-square with `df` degrees of freedom exceeds the statistic."""
    half = statistic / 2
    total = math.erfc(math.sqrt(half)) if df % 2 else 0.0
    for k in range(df % 2, df, 2):  # each two degrees of freedom add half^(k/2) e^-half / gamma(k/2 + 1)
        total += math.exp(k / 2 * math.log(half) - half - math.lgamma(k / 2 + 1)) if half > 0 else k == 0
    return total


def inclusion_statistic(indices: npt.NDArray[np.int64], n: int) -> float:
    repeats, k = indices.shape
    p = k / n
    counts = np.bincount(indices.ravel(), minlength=n)
    return float((n - 1) / n * ((counts - repeats * p) ** 2).sum() / (repeats * p * (1 - p)))


def subset_probabilities(weights: list[float], k: int) -> dict[tuple[int, ...], float]:
    """Enumerate every ordered draw without replacement: product of w / (what is left)."""
    total: dict[tuple[int, ...], float] = Counter()
    for order in itertools.permutations(range(len(weights)), k):
        left, probability = math.fsum(weights), 1.0
        for row in order:
            probability *= weights[row] / left
            left -= weights[row]
        total[tuple(sorted(order))] += probability
    assert math.isclose(math.fsum(total.values()), 1.0)
    return total


def subset_statistic(indices: npt.NDArray[np.int64], probabilities: dict[tuple[int, ...], float]) -> float:
    repeats = len(indices)
    counts = Counter(tuple(sorted(row)) for row in indices.tolist())
    assert set(counts) <= set(probabilities)
    assert min(probabilities.values()) * repeats > 20  # large cells, so that chi-square holds
    return sum((counts[s] - repeats * p) ** 2 / (repeats * p) for s, p in probabilities.items())
