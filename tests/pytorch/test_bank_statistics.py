"""What a bank holds is a sample of what it is said to be a sample of.

Seeds are fixed, so what passes once always passes. Had they been drawn afresh, each check would raise a false alarm
with probability 1e-8; there are fewer than 10, so all of them together with less than 1e-7. Counts of how often rows
are held are negatively correlated; `inclusion_statistic` corrects for that. Counts of single rows are binomial, and the
largest of them is held against a normal bound times their number.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch

from chances import inclusion_statistic, tail
from negfast.torch import MemoryBank

FALSE_ALARM = 1e-8
REPEATS = 1500
Draws = npt.NDArray[np.int64]


def bank_of(ids: Any, **options: Any) -> MemoryBank:
    bank = MemoryBank(dim=1, normalize=False, **options)
    bank.enqueue(torch.zeros(len(ids), 1), ids)
    return bank


def held(ids: Any, **options: Any) -> list[list[int]]:
    """Return what banks of as many seeds hold of a stream."""
    return [bank_of(ids, seed=seed, **options).ids.tolist() for seed in range(REPEATS)]


def inclusion_chance(draws: Any, n: int) -> float:
    return tail(inclusion_statistic(np.array(draws, dtype=np.int64), n), n - 1)


def check_binomial(counts: Any, chances: Any) -> None:
    """Hold each count against its binomial distribution, in deviations of the normal one."""
    counts, chances = np.atleast_1d(counts), np.atleast_1d(chances)
    deviations = np.abs(counts - REPEATS * chances) / np.sqrt(REPEATS * chances * (1 - chances))
    assert math.erfc(float(deviations.max()) / math.sqrt(2)) * counts.size > FALSE_ALARM, deviations


def test_a_reservoir_is_a_uniform_sample_of_all_rows() -> None:
    assert inclusion_chance(held(np.arange(60), capacity=15, policy="reservoir"), 60) > FALSE_ALARM
    # Ids that all come three times are held once each.
    thrice = held(np.tile(np.arange(60), 3), capacity=15, policy="reservoir")
    assert all(len(set(ids)) == 15 for ids in thrice) and inclusion_chance(thrice, 60) > FALSE_ALARM


def test_an_id_that_comes_more_often_is_held_more_often() -> None:
    # Of 20 ids that come 4 times and 40 that come once, a sample of one is as of the 120 rows.
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(60), [4] * 20 + [1] * 40))
    often = sum(ids[0] < 20 for ids in held(ids, capacity=1, policy="reservoir"))
    check_binomial(often, 80 / 120)


def test_an_aged_bank_forgets_as_it_is_said_to() -> None:
    n, capacity = 60, 12
    counts = np.bincount(np.concatenate(held(np.arange(n), capacity=capacity, policy="aged")), minlength=n)
    chances = (1 - 1 / capacity) ** np.arange(n - 1, -1, -1)
    assert counts[-1] == REPEATS
    check_binomial(counts[20:-1], chances[20:-1])


def test_an_aged_row_that_comes_again_takes_no_slot() -> None:
    # 19 is there when it comes again, so 20 rows take slots after it, and 21 after the one before.
    stream = [*range(20), 19, *range(20, 40)]
    counts = np.bincount(np.concatenate(held(stream, capacity=12, policy="aged")), minlength=40)
    check_binomial(counts[[18, 19, 20]], (1 - 1 / 12) ** np.array([21, 20, 19]))


def test_samples_of_a_bank_are_uniform() -> None:
    draws = [bank_of(np.arange(30), capacity=30, seed=seed).sample(7).ids.tolist() for seed in range(REPEATS)]
    assert inclusion_chance(draws, 30) > FALSE_ALARM


def test_banks_of_another_policy_are_found_out() -> None:
    fifo = held(np.arange(60), capacity=15, policy="fifo")
    assert inclusion_chance(fifo, 60) < FALSE_ALARM
    reservoir = held(np.arange(60), capacity=15, policy="reservoir")
    counts = np.bincount(np.concatenate(reservoir), minlength=60)
    with pytest.raises(AssertionError):  # a reservoir does not forget
        check_binomial(counts[:-1], (1 - 1 / 15) ** np.arange(59, 0, -1))
