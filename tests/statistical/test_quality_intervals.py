"""Intervals of the experiment hold what they promise, where seeds differ and questions come in clusters.

Each trial makes differences whose mean is 0 and asks whether the interval leaves 0 out. Of right intervals at a level
of 95 % the number of such trials is binomial with p = .05. Seeds are fixed; drawn afresh, right intervals would leave 0
out in more than 40 of 400 trials with a probability of 1.4e-5, so a false alarm of all four has one below 6e-5.
"""

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("scipy")

from quality import intervals
from quality.intervals import interval, of_seeds

TRIALS, BOUND = 400, 40
Values = npt.NDArray[np.float64]


def differences(rng: np.random.Generator, *, n_seeds: int, of_seed: float, of_cluster: float) -> tuple[Values, Values]:
    """Make differences by seed and question, of questions in 40 clusters of three."""
    clusters = np.repeat(np.arange(40), 3)
    values = rng.normal(0, of_seed, (n_seeds, 1)) + rng.normal(0, of_cluster, 40)[clusters]
    return values + rng.normal(0, 1, (n_seeds, 120)), clusters


def alarms(*, clustered: bool = True, **spreads: float) -> int:
    rng = np.random.default_rng(0)
    wrong = 0
    for trial in range(TRIALS):
        values, clusters = differences(rng, **spreads)  # type: ignore[arg-type]
        found = interval(values, clusters if clustered else np.arange(120), draws=500, seed=trial)
        wrong += not found.low <= 0 <= found.high
    return wrong


@pytest.mark.parametrize(
    "spreads",
    [
        {"n_seeds": 5, "of_seed": 1.0, "of_cluster": 0.0},
        {"n_seeds": 5, "of_seed": 0.0, "of_cluster": 1.0},
        {"n_seeds": 5, "of_seed": 0.3, "of_cluster": 1.0},
        {"n_seeds": 1, "of_seed": 0.0, "of_cluster": 1.0},
    ],
)
def test_few_alarms_are_false(spreads: dict[str, float]) -> None:
    assert alarms(**spreads) <= BOUND


def test_a_plain_bootstrap_of_five_seeds_would_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "widening", lambda n: 1.0)  # noqa: ARG005
    assert alarms(n_seeds=5, of_seed=1.0, of_cluster=0.0) > BOUND


def test_questions_drawn_one_by_one_would_fail() -> None:
    assert alarms(n_seeds=5, of_seed=0.0, of_cluster=1.0, clustered=False) > BOUND


def test_a_real_difference_is_seen() -> None:
    rng = np.random.default_rng(1)
    values, clusters = differences(rng, n_seeds=5, of_seed=0.05, of_cluster=0.3)
    found = interval(values + 0.5, clusters, draws=2000)
    assert 0 < found.low < found.mean < found.high and found.mean == pytest.approx(values.mean() + 0.5)


def test_an_interval_is_the_same_each_time() -> None:
    values, clusters = differences(np.random.default_rng(2), n_seeds=3, of_seed=0.1, of_cluster=0.1)
    assert interval(values, clusters, draws=600) == interval(values, clusters, draws=600)


def test_over_seeds_alone_it_is_students() -> None:
    found = of_seeds(np.array([1.0, 2.0, 3.0]))
    # Standard error 1 / sqrt(3), quantile .975 of two degrees of freedom 4.3027.
    assert found.mean == 2.0 and found.high - 2.0 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    alone = of_seeds(np.array([1.0]))
    assert alone.mean == 1.0 and np.isnan(alone.low)
