"""The shuffle of an epoch, its shares, and its state."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import negfast
from negfast.torch import EpochSampler
from negfast.torch.philox import random_bits

PINNED_BITS = [1170280437898119671, 13051159143091778299, 5120089422708784769, 9887756989062491383]
PINNED_ORDERS = [[0, 5, 8, 3, 1, 9, 6, 4, 7, 2], [5, 4, 3, 6, 2, 9, 1, 7, 8, 0]]


def test_the_numbers_are_pinned() -> None:
    bits = random_bits(4, purpose="negatives", seed=1, epoch=2, row=3)
    assert bits.tolist() == PINNED_BITS
    assert random_bits(2, purpose="negatives", seed=1, epoch=2, row=3).tolist() == PINNED_BITS[:2]
    for other in ({"purpose": "shuffle"}, {"seed": 0}, {"epoch": 3}, {"row": 4}):
        key: dict[str, Any] = {"purpose": "negatives", "seed": 1, "epoch": 2, "row": 3, **other}
        assert not set(random_bits(4, **key).tolist()) & set(PINNED_BITS)


def test_the_shuffle_is_pinned() -> None:
    sampler = EpochSampler(10, seed=7)
    assert list(sampler) == PINNED_ORDERS[0]
    sampler.set_epoch(1)
    assert list(sampler) == PINNED_ORDERS[1]


@given(n=st.integers(0, 40), world_size=st.integers(1, 5), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 3))
def test_ranks_share_the_shuffle_and_none_gets_more(n: int, world_size: int, seed: int, epoch: int) -> None:
    whole = EpochSampler(n, seed=seed)
    shares = [EpochSampler(n, seed=seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    for sampler in (whole, *shares):
        sampler.set_epoch(epoch)
    order = list(whole)
    assert sorted(order) == list(range(n))
    interleaved = [row for step in zip(*shares, strict=True) for row in step]
    assert interleaved == order[: n - n % world_size]
    assert {len(share) for share in shares} == {n // world_size}


def test_the_first_place_is_fair() -> None:
    """Each of 8 rows comes first in about 1/8 of 4000 epochs; chance of a false alarm below 1e-6 (5.5 sigma, fixed)."""
    sampler = EpochSampler(8)
    counts = [0] * 8
    for epoch in range(4000):
        sampler.set_epoch(epoch)
        counts[next(iter(sampler))] += 1
    assert all(abs(count - 500) < 5.5 * (4000 * 7 / 64) ** 0.5 for count in counts)


@given(n=st.integers(1, 30), world_size=st.integers(1, 3), data=st.data())
def test_a_resumed_epoch_goes_on_where_it_was_left(n: int, world_size: int, data: st.DataObject) -> None:
    first = EpochSampler(n, seed=3, world_size=world_size)
    first.set_epoch(2)
    order = list(first)
    done = data.draw(st.integers(0, len(order)))
    ahead = iter(first)  # a loader that asks for everything at once changes nothing
    assert list(ahead) == order
    first.consumed(done)
    state = json.loads(json.dumps(first.state_dict()))
    second = EpochSampler(n, seed=3, world_size=world_size)
    second.load_state_dict(state)
    assert (second.epoch, second.position, len(second)) == (2, done, len(order))
    second.set_epoch(2)  # what the loop calls before the epoch
    assert list(second) == order[done:]
    second.set_epoch(3)
    assert len(list(second)) == len(order)


STATE = EpochSampler(10, seed=1, world_size=2).state_dict()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"version": 2}, "version.*1.*2"),
    "a version of true": ({"version": True}, "version.*True"),
    "another n": ({"n": 11}, "n of the state.*10.*11"),
    "another seed": ({"seed": 2}, "seed.*1.*2"),
    "another world": ({"world_size": 3}, "world_size.*2.*3"),
    "no seed": ({"seed": None}, "seed.*None"),
    "a text as epoch": ({"epoch": "1"}, "epoch.*integer.*str"),
    "an epoch below 0": ({"epoch": -1}, "epoch.*-1"),
    "a position past the end": ({"position": 6}, "position.*at most 5.*6"),
    "a position of a float": ({"position": 1.0}, "position.*float"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_state_of_another_sampler_is_refused(name: str) -> None:
    changes, message = REFUSED[name]
    sampler = EpochSampler(10, seed=1, world_size=2, rank=1)
    sampler.consumed(3)
    before = sampler.state_dict()
    with pytest.raises(negfast.StateError, match=message):
        sampler.load_state_dict({**STATE, **changes})
    assert sampler.state_dict() == before


@pytest.mark.parametrize("name", STATE)
def test_a_state_that_lacks_an_entry_is_refused(name: str) -> None:
    state = {key: value for key, value in STATE.items() if key != name}
    with pytest.raises(negfast.StateError, match=name):
        EpochSampler(10, seed=1, world_size=2).load_state_dict(state)
