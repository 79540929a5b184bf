"""Reservoirs hold the samples that they claim, and samplers that do not are found out.

Every check repeats a sampler over many seeds, or over many streams under one seed, and compares counts with exact
probabilities. The inclusion counts of one sampler are negatively correlated; `inclusion_statistic` corrects for that,
which a plain Pearson statistic would not. Counts of single cells are binomial each, so the largest of them is held
against a normal bound times the number of cells, whatever their correlation.

Seeds are fixed, so what passes once always passes. Had they been drawn afresh, each check would raise a false alarm
with probability 1e-8; there are fewer than 100, so all of them together with less than 1e-6. The same checks are then
run on samplers with faults, and every one of these has to fail.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import negfast
from chances import inclusion_statistic, subset_probabilities, subset_statistic, tail

FALSE_ALARM = 1e-8
Draws = npt.NDArray[np.int64]
# Samples k of n ids under a seed.
Sampler = Callable[[int, int, int], Any]


def reservoir(k: int, seed: int, method: str = "keyed") -> negfast.Reservoir:
    return negfast.Reservoir(k, method=method, seed=seed)  # type: ignore[arg-type]


def many(sampler: Sampler, n: int, k: int, repeats: int) -> Draws:
    return np.array([sampler(n, k, seed) for seed in range(repeats)], dtype=np.int64)


def check_distinct(draws: Draws) -> None:
    ordered = np.sort(draws, axis=1)
    assert (ordered[:, 1:] != ordered[:, :-1]).all(), "a row is there twice"


def check_inclusion(draws: Draws, n: int) -> None:
    assert tail(inclusion_statistic(draws, n), n - 1) > FALSE_ALARM, "some rows are in more samples than others"


def check_subsets(draws: Draws, probabilities: dict[tuple[int, ...], float]) -> None:
    assert tail(subset_statistic(draws, probabilities), len(probabilities) - 1) > FALSE_ALARM, (
        "some samples come too often"
    )


def check_cells(counts: npt.NDArray[np.int64], repeats: int, probability: Any) -> None:
    """Hold each count against its binomial distribution, in deviations of the normal one."""
    expected = repeats * probability
    deviations = np.abs(counts - expected) / np.sqrt(expected * (1 - probability))
    worst = float(deviations.max())
    assert math.erfc(worst / math.sqrt(2)) * counts.size > FALSE_ALARM, f"a count is {worst:.1f} deviations off"


def check_pairs(draws: Draws, n: int) -> None:
    repeats, k = draws.shape
    held = np.zeros((repeats, n), np.int64)
    np.put_along_axis(held, draws, 1, axis=1)
    counts = (held.T @ held)[np.triu_indices(n, 1)]
    check_cells(counts, repeats, k * (k - 1) / (n * (n - 1)))


def check_uniform(sampler: Sampler, *, repeats: int = 10_000) -> None:
    """Every check that a sampler of distinct ids, all alike, has to pass."""
    draws = many(sampler, 6, 3, repeats)
    check_distinct(draws)
    check_subsets(draws, dict.fromkeys(itertools.combinations(range(6), 3), 1 / 20))
    draws = many(sampler, 50, 10, repeats)
    check_distinct(draws)
    check_inclusion(draws, 50)
    check_pairs(draws, 50)


def check_weighted(sampler: Callable[[list[float], int, int], Any], *, repeats: int = 20_000) -> None:
    """Every check that a sampler of distinct ids by weight has to pass."""
    for weights, k in (([1.0, 2.0, 3.0, 4.0, 10.0], 2), ([0.05, 1.0, 1.0, 6.0, 0.5, 2.0], 3)):
        draws = np.array([sampler(weights, k, seed) for seed in range(repeats)])
        check_distinct(draws)
        probabilities = subset_probabilities(weights, k)
        common = {subset: p for subset, p in probabilities.items() if p * repeats > 20}
        # What hardly ever comes is one cell.
        rare = 1.0 - math.fsum(common.values())
        counts = Counter(map(tuple, np.sort(draws, axis=1).tolist()))
        statistic = sum((counts[s] - repeats * p) ** 2 / (repeats * p) for s, p in common.items())
        if rare * repeats > 20:
            others = repeats - sum(counts[s] for s in common)
            statistic += (others - repeats * rare) ** 2 / (repeats * rare)
        assert tail(statistic, len(common) - (rare * repeats <= 20)) > FALSE_ALARM, "some samples come too often"


# Samplers of distinct ids, all alike


def over_seeds(n: int, k: int, seed: int) -> Any:
    return reservoir(k, seed).add(range(n)).ids()


def over_streams(n: int, k: int, seed: int) -> Any:
    """One seed, other ids every time."""
    return reservoir(k, 1).add(range(seed * n, seed * n + n)).ids() - seed * n


def over_distant_ids(n: int, k: int, seed: int) -> Any:
    """One seed, ids that differ in their upper halves alone."""
    return (reservoir(k, 1).add(np.arange(n) * 2**32 + seed).ids() - seed) // 2**32


def repeated(n: int, k: int, seed: int) -> Any:
    """Early ids come often; that is nothing to distinct ids."""
    return reservoir(k, seed).add(np.repeat(np.arange(n), np.arange(n, 0, -1))).ids()


def merged(n: int, k: int, seed: int) -> Any:
    one, two = reservoir(k, seed).add(range(n // 2)), reservoir(k, seed).add(range(n // 3, n))
    return one.merge(two).ids()


def beginning(n: int, k: int, seed: int) -> Any:
    return reservoir(k + 2, seed).add(range(n)).ids()[:k]


def skipping(n: int, k: int, seed: int) -> Any:
    return reservoir(k, seed, "skip").add(range(n)).ids()


def skipping_equal_weights(n: int, k: int, seed: int) -> Any:
    return reservoir(k, seed, "skip").add(range(n), np.full(n, 3.5)).ids()


def skipping_then_weights(n: int, k: int, seed: int) -> Any:
    """Keys are drawn for what is held when the first weights come, and afterwards ids come without them."""
    first, second = n // 2 + seed % 2, n // 2 + 2
    sample = reservoir(k, seed, "skip").add(range(first)).add(range(first, second), np.ones(second - first))
    return sample.add(range(second, n)).ids()


def skipping_then_weights_early(n: int, k: int, seed: int) -> Any:
    return reservoir(k, seed, "skip").add(range(2)).add(range(2, n), np.ones(n - 2)).ids()


def skipping_by_turns(n: int, k: int, seed: int) -> Any:
    """Items with a weight of 1 and without one take turns: what went by is counted in two ways."""
    sample = reservoir(k, seed, "skip")
    for turn, part in enumerate(np.array_split(np.arange(n), 6)):
        sample.add(part, np.ones(len(part)) if turn % 2 else None)
    return sample.ids()


UNIFORM = [
    over_seeds,
    over_streams,
    over_distant_ids,
    repeated,
    merged,
    beginning,
    skipping,
    skipping_equal_weights,
    skipping_then_weights,
    skipping_then_weights_early,
    skipping_by_turns,
]


@pytest.mark.parametrize("sampler", UNIFORM)
def test_all_alike(sampler: Sampler) -> None:
    check_uniform(sampler)


@pytest.mark.parametrize("method", ["keyed", "skip"])
def test_long_streams_favour_neither_end(method: str) -> None:
    draws = many(lambda n, k, seed: reservoir(k, seed, method).add(range(n)).ids(), 3000, 5, 12_000)
    check_distinct(draws)
    check_inclusion(draws, 3000)
    # Coarser, where a slope has more weight: how many come from each tenth.
    counts = np.bincount(draws.ravel() // 300, minlength=10)
    check_cells(counts, draws.size, 0.1)


def test_seeds_share_nothing() -> None:
    """Samples of neighbouring seeds have as many ids in common as samples of strangers: k^2 / n on average."""
    n, k, repeats = 100, 20, 4000
    held = np.zeros((repeats + 1, n))
    for seed in range(repeats + 1):
        held[seed, reservoir(k, seed).add(range(n)).ids()] = 1
    shared = (held[1:] * held[:-1]).sum(axis=1)
    variance = k * (k / n) * (1 - k / n) * (n - k) / (n - 1)  # hypergeometric
    deviation = (shared.mean() - k * k / n) / math.sqrt(variance / repeats)
    assert math.erfc(abs(deviation) / math.sqrt(2)) > FALSE_ALARM


def test_the_statistic_is_what_it_is_taken_for() -> None:
    """Its chances over independent sets of seeds are even, by the inequality of Dvoretzky, Kiefer and Wolfowitz."""
    draws = many(over_seeds, 30, 6, 200 * 300).reshape(200, 300, 6)
    chances = np.sort([tail(inclusion_statistic(part, 30), 29) for part in draws])
    distance = np.abs(chances - (np.arange(200) + 0.5) / 200).max()
    assert 2 * math.exp(-2 * 200 * max(distance - 0.5 / 200, 0.0) ** 2) > FALSE_ALARM


# By weight


def keyed_by_weight(weights: list[float], k: int, seed: int) -> Any:
    return reservoir(k, seed).add(range(len(weights)), weights).ids()


def keyed_by_last_weight(weights: list[float], k: int, seed: int) -> Any:
    sample = reservoir(k, seed).add(range(len(weights)), weights[::-1])
    return sample.add(range(len(weights)), weights).ids()


def keyed_in_shards(weights: list[float], k: int, seed: int) -> Any:
    one, two = (reservoir(k, seed).add(range(part, len(weights), 2), weights[part::2]) for part in (0, 1))
    return one.merge(two).ids()


def skipping_by_weight(weights: list[float], k: int, seed: int) -> Any:
    return reservoir(k, seed, "skip").add(range(len(weights)), weights).ids()


def skipping_by_late_weight(weights: list[float], k: int, seed: int) -> Any:
    """Those of weight 1 come first and without it, so that it is another algorithm that sees them."""
    order = np.argsort(np.array(weights) != 1.0, kind="stable")
    plain = weights.count(1.0)
    sample = reservoir(k, seed, "skip").add(order[:plain])
    return sample.add(order[plain:], np.array(weights)[order[plain:]]).ids()


BY_WEIGHT = [keyed_by_weight, keyed_by_last_weight, keyed_in_shards, skipping_by_weight, skipping_by_late_weight]


@pytest.mark.parametrize("sampler", BY_WEIGHT)
def test_by_weight(sampler: Callable[[list[float], int, int], Any]) -> None:
    check_weighted(sampler)


@pytest.mark.parametrize("method", ["keyed", "skip"])
def test_by_weight_in_long_streams(method: str) -> None:
    """Item i of weight w_i is drawn first with probability w_i / sum; the sample of one is that draw."""
    weights = np.tile([1.0, 5.0, 0.2, 2.0], 250)
    draws = np.array([reservoir(1, seed, method).add(range(1000), weights).ids()[0] for seed in range(20_000)])
    check_cells(np.bincount(draws % 4, minlength=4), len(draws), np.array([1.0, 5.0, 0.2, 2.0]) / 8.2)
    check_cells(np.bincount(draws // 100, minlength=10), len(draws), 0.1)


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_over_all_ids_are_estimated_without_bias(weighted: bool) -> None:
    """The mean of 3,000 estimates, in standard errors; it is normal by then."""
    n, k = 200, 20
    weights = np.geomspace(0.1, 10.0, n) if weighted else np.ones(n)
    for values in (np.ones(n), weights, np.arange(n) % 7.0):
        estimates = []
        for seed in range(3000):
            sample = reservoir(k, seed).add(range(n), weights)
            estimates.append((values[sample.ids()] / sample.probabilities()).sum())
        error = (np.mean(estimates) - values.sum()) / (np.std(estimates) / math.sqrt(len(estimates)))
        assert math.erfc(abs(error) / math.sqrt(2)) > FALSE_ALARM


# By age


def aging(n: int, k: int, seed: int) -> Any:
    return reservoir(k, seed, "aged").add(range(n)).ids()


def aging_piecemeal(n: int, k: int, seed: int) -> Any:
    sample = reservoir(k, seed, "aged")
    for part in np.array_split(np.arange(n), 7):
        sample.add(part)
    return sample.ids()


def aging_in_the_midst(n: int, k: int, seed: int) -> Any:
    """One seed, other places in a stream."""
    before = 1000 * (seed + 1)
    return reservoir(k, 1, "aged").add(range(before)).add(range(before, before + n)).ids() - before


def check_ages(sampler: Sampler, *, repeats: int = 2500) -> None:
    """An item that a others followed is held with probability (1 - 1/k)^a; items are held independently or less."""
    n, k = 120, 12
    counts = np.zeros(n, np.int64)
    for seed in range(repeats):
        ids = np.asarray(sampler(n, k, seed))
        assert len(set(ids.tolist())) == len(ids), "a row is there twice"
        counts[ids[ids >= 0]] += 1
    held = (1 - 1 / k) ** np.arange(n - 1, -1, -1)
    often = held * repeats > 20
    check_cells(counts[often], repeats, np.minimum(held[often], 1 - 1e-12))
    # And all ages in one number, the largest distance between what was held up to an age and what should be.
    drift = np.abs(np.cumsum(counts - repeats * held))
    deviation = np.sqrt(np.cumsum(repeats * held * (1 - held)).max())
    assert n * math.erfc(float(drift.max()) / deviation / math.sqrt(2)) > FALSE_ALARM, "ages are off as a whole"


@pytest.mark.parametrize("sampler", [aging, aging_piecemeal, aging_in_the_midst])
def test_ages(sampler: Sampler) -> None:
    check_ages(sampler)


# Samplers with faults


def off_by_one(n: int, k: int, seed: int) -> Any:
    """Algorithm R whose die has one side too few, so that an item is taken with probability k / (i - 1)."""
    rng, sample = np.random.default_rng(seed), list(range(k))
    for i in range(k, n):
        slot = int(rng.integers(i))
        if slot < k:
            sample[slot] = i
    return sample


def late_items_favoured(n: int, k: int, seed: int) -> Any:
    """Algorithm R that takes one item in 20 more than it should."""
    rng, sample = np.random.default_rng(seed), list(range(k))
    for i in range(k, n):
        if rng.random() < 1.05 * k / (i + 1):
            sample[int(rng.integers(k))] = i
    return sample


def remainder(n: int, k: int, seed: int) -> Any:
    """Keys by a remainder instead of a hash."""
    return sorted(range(n), key=lambda i: (i + seed) * 2654435761 % 2**16)[:k]


def never_the_last(n: int, k: int, seed: int) -> Any:
    return np.random.default_rng(seed).permutation(n - 1)[:k]


def a_repeated_row(n: int, k: int, seed: int) -> Any:
    """One sample in a thousand has a row twice."""
    sample = np.random.default_rng(seed).permutation(n)[:k]
    if seed % 1000 == 7:
        sample[0] = sample[1]
    return sample


def neighbours_together(n: int, k: int, seed: int) -> Any:
    """Every row as often as any other, but in blocks."""
    return (np.arange(k) + np.random.default_rng(seed).integers(n)) % n


def skip_that_starts_late(n: int, k: int, seed: int) -> Any:
    """The package's own, with the first item after the filling passed over."""
    sample = reservoir(k, seed, "skip").add(range(k))
    return sample.add(np.concatenate([[0], np.arange(k + 1, n)])).ids()


@pytest.mark.parametrize(
    "sampler",
    [
        off_by_one,
        late_items_favoured,
        remainder,
        never_the_last,
        a_repeated_row,
        neighbours_together,
        skip_that_starts_late,
    ],
)
def test_a_faulty_sampler_is_found(sampler: Sampler) -> None:
    with pytest.raises(AssertionError):
        check_uniform(sampler)


def by_products(weights: list[float], k: int, seed: int) -> Any:
    """Inclusion in proportion to weight, which drawing one after the other does not give."""
    rng, w = np.random.default_rng(seed), np.array(weights)
    share = np.minimum(k * w / w.sum(), 1.0)
    points = np.floor(np.cumsum(share) + rng.random())
    return np.flatnonzero(np.diff(points, prepend=0.0) > 0)[:k]


def one_weight_is_off(weights: list[float], k: int, seed: int) -> Any:
    """The package's own, with the last item a quarter heavier than it is taken for."""
    return keyed_by_weight([*weights[:-1], 1.25 * weights[-1]], k, seed)


def keys_too_small(weights: list[float], k: int, seed: int) -> Any:
    """Keys u / w in place of -ln u / w: right for weights that are alike alone."""
    return np.argsort(np.random.default_rng(seed).random(len(weights)) / np.array(weights))[:k]


@pytest.mark.parametrize("sampler", [by_products, one_weight_is_off, keys_too_small])
def test_a_faulty_sampler_by_weight_is_found(sampler: Callable[[list[float], int, int], Any]) -> None:
    with pytest.raises(AssertionError):
        check_weighted(sampler)


def forgets_too_fast(n: int, k: int, seed: int) -> Any:
    return reservoir(k - 1, seed, "aged").add(range(n)).ids()


def a_window(n: int, k: int, seed: int) -> Any:  # noqa: ARG001
    return np.arange(n - k, n)


def never_forgets(n: int, k: int, seed: int) -> Any:
    return skipping(n, k, seed)


@pytest.mark.parametrize("sampler", [forgets_too_fast, a_window, never_forgets])
def test_a_faulty_sampler_by_age_is_found(sampler: Sampler) -> None:
    with pytest.raises(AssertionError):
        check_ages(sampler)
