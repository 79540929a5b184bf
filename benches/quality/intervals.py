"""How sure differences between arms are: a bootstrap over questions and over seeds, both paired."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Values = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
DRAWS = 10_000
LEVEL = 0.95
_BLOCK = 500  # draws at a time


class Interval(NamedTuple):
    """A mean, and the bounds within which it lies with a confidence of 95 %."""

    mean: float
    low: float
    high: float


def interval(values: Values, clusters: Ints, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Return the mean of a measure, or of the differences of two arms, over seeds and questions.

    Parameters
    ----------
    values : float64 (n_seeds, n_questions)
    clusters : int64 (n_questions,)
        Questions of one cluster come and go together: those of one source are answered well or badly together.

    Notes
    -----
    Seeds and clusters of questions are crossed: each is drawn anew with replacement (B. Efron, *Bootstrap methods:
    another look at the jackknife*, 1979), independently, and what both do to the mean is added up (A. B. Owen, *The
    pigeonhole bootstrap*, 2007). The mean over so few seeds spreads more than their bootstrap, whose deviations are
    widened by ``sqrt(n / (n - 1))`` and by Student's quantile over the normal one (T. Hesterberg, *What teachers should
    know about the bootstrap*, 2015). With one seed the interval is over questions alone.

    Limitations
    -----------
    With two or three seeds it is wide, and rightly so. Intervals are one by one: of twenty, one misses its mean.
    """
    rng = np.random.default_rng(seed)
    mean = float(values.mean())
    deviations = _of_questions(values.mean(axis=0), clusters, draws, rng) - mean
    n = len(values)
    if n > 1:
        widened = widening(n)
        of_seeds = values.mean(axis=1)
        deviations += widened * (of_seeds[rng.integers(0, n, (draws, n))].mean(axis=1) - mean)
    low, high = np.quantile(deviations, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(mean, mean + float(low), mean + float(high))


def widening(n: int) -> float:
    """Return what the bootstrap of a mean over so few seeds has to be widened by."""
    return float((n / (n - 1)) ** 0.5 * t.ppf(0.5 + LEVEL / 2, n - 1) / norm.ppf(0.5 + LEVEL / 2))


def of_seeds(values: Values) -> Interval:
    """Return the mean of one value a seed, shape (n_seeds,), with Student's interval; of one seed, without any."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(t.ppf(0.5 + LEVEL / 2, n - 1) * values.std(ddof=1) / n**0.5)
    return Interval(mean, mean - half, mean + half)


def _of_questions(values: Values, clusters: Ints, draws: int, rng: np.random.Generator) -> Values:
    """Return means over questions whose clusters are drawn anew."""
    _, places = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(places, values), np.bincount(places).astype(np.float64)
    n = len(sums)
    means = []
    for begin in range(0, draws, _BLOCK):
        drawn = rng.integers(0, n, (min(_BLOCK, draws - begin), n))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
