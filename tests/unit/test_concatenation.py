"""Joined results are those of one call."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import negfast
from negfast import MinedNegatives, Rules, Softmax, concatenate

N = 40


def mine(anchors: Any = None, **options: Any) -> MinedNegatives:
    rows = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    positives = [[i, (7 * i) % N] if i % 5 else [] for i in range(N)]
    groups = np.arange(N) // 3
    settings: dict[str, Any] = {"num_negatives": 4, "groups": (groups, groups), "draw": Softmax(0.1)}
    return negfast.mine(rows, rows, positives, anchors=anchors, suspect_rank=2, **settings | options)


def timeless(mined: MinedNegatives) -> dict[str, Any]:
    plain = mined.report.to_dict()
    del plain["seconds"], plain["search"]["seconds"], plain["search"]["working_bytes"], plain["anchors_deepened"]
    return plain


@given(st.permutations(range(N)), st.lists(st.integers(0, N), max_size=4))
def test_parts_joined_are_one_call(order: list[int], cuts: list[int]) -> None:
    parts = [mine(part) for part in np.split(np.array(order), sorted(cuts))]
    joined, whole = concatenate(parts), mine(np.array(order))
    for name in ("anchors", "indices", "scores", "positive_scores", "positive_ranks", "tiers"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
    assert timeless(joined) == timeless(whole)
    assert joined.recipe == whole.recipe
    assert {name: value for name, value in whole.fingerprints.items() if name != "anchors"} == joined.fingerprints


def test_anchors_are_kept(tmp_path: Any) -> None:
    mine([5, 3]).save(tmp_path / "m")
    assert MinedNegatives.load(tmp_path / "m").anchors.tolist() == [5, 3]
    assert mine().anchors.tolist() == list(range(N))


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        ([], negfast.InvalidValueError, "parts.*none"),
        (None, negfast.InvalidTypeError, "parts.*NoneType"),
        ([mine([1]), None], negfast.InvalidTypeError, "NoneType at place 1"),
        ([mine([1]), mine([2], seed=1)], negfast.InvalidValueError, "one recipe.*place 1"),
        ([mine([1]), mine([2, 1])], negfast.InvalidValueError, "twice"),
        ([mine([1]), mine([2], groups=None)], negfast.InvalidValueError, "another groups_of_corpus"),
        (
            [mine([1], rules=Rules(max_exposure=2)), mine([2], rules=Rules(max_exposure=2))],
            negfast.InvalidValueError,
            "max_exposure",
        ),
    ],
)
def test_refuses(parts: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        concatenate(parts)
