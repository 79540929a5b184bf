"""Damaged states of a miner are refused when they are read, before their numbers are used."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import negfast

Arrays = dict[str, Any]


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda state: {**state, name: change(state[name])}


DAMAGE: tuple[Callable[[Arrays], Arrays], ...] = (
    changed("reserve_indptr", lambda x: x[::-1]),
    changed("reserve_indptr", lambda x: x[:-1]),
    changed("reserve_indptr", lambda x: x + 1),
    changed("reserve_rows", lambda x: x + 10**6),
    changed("reserve_rows", lambda x: x[:-1]),
    changed("reserve_scores", lambda x: x[:-1]),
    changed("reserve_scores", lambda x: x + np.float32(np.inf)),
    changed("reserve_ceilings", lambda x: x[:-1]),
    changed("reserve_floors", lambda x: x[:-1]),
    changed("positives_indices", lambda x: x + 10**6),
    changed("positives_indptr", lambda x: x[:-1]),
    changed("served", lambda x: x[:1]),
    changed("served", lambda x: x + 10**6),
    changed("served", lambda x: x.astype(np.float32)),
    changed("pending", lambda _: np.array([10**9])),
    changed("pending", lambda _: np.array([-1])),
    changed("corpus", lambda x: x[:, :3]),
    changed("corpus", lambda x: x.astype(np.float64)),
    lambda state: {**state, "further": np.zeros(1)},
    lambda state: {name: value for name, value in state.items() if name != "served"},
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(damage: Callable[[Arrays], Arrays], rows: Callable[..., Any]) -> None:
    miner = negfast.Miner(num_negatives=2, n_threads=1)
    corpus = rows(60, 8)
    miner.mine(corpus[:20], corpus, np.arange(20))
    before = miner.refresh(corpus[:20], corpus).indices
    with pytest.raises(negfast.StateError, match="the state is damaged"):
        miner.load_state_dict(damage(miner.state_dict()))
    np.testing.assert_array_equal(miner.refresh(corpus[:20], corpus).indices, before)


def test_what_is_whole_is_taken(rows: Callable[..., Any]) -> None:
    corpus = rows(60, 8)
    for n, half in ((0, False), (20, True)):
        vectors = corpus.astype(np.float16) if half else corpus
        miner = negfast.Miner(num_negatives=2, n_threads=1)
        miner.mine(vectors[:n], vectors, np.arange(n))
        miner.add(vectors[:2])
        other = negfast.Miner(num_negatives=2, n_threads=1)
        other.load_state_dict(miner.state_dict())
        grown = np.concatenate([vectors, vectors[:2]])
        found = [each.refresh(vectors[:n], grown).indices for each in (miner, other)]
        np.testing.assert_array_equal(*found)
