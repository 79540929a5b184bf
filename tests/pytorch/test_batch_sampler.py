"""Batches: clean for any labels, as many in every epoch, the same after a restart, hard where lists say how."""

import json
import pickle
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from torch.utils.data import DataLoader

import negfast
from negfast.torch import HardBatchSampler

Ints = npt.NDArray[np.int64]
PINNED = [[5, 3, 0], [2, 1, 4]]


def conflicting(columns: Any) -> set[tuple[int, int]]:
    """Name all pairs of rows that share a label, by looking at every pair."""
    labels = [{label for label in np.atleast_1d(row).tolist() if label >= 0} for row in columns]
    pairs = ((a, b) for a in range(len(labels)) for b in range(a + 1, len(labels)))
    return {(a, b) for a, b in pairs if labels[a] & labels[b]}


def steps_of(samplers: list[HardBatchSampler]) -> list[list[list[int]]]:
    """Return the batches of all ranks, step by step."""
    return [list(step) for step in zip(*(list(sampler) for sampler in samplers), strict=True)]


def assert_clean(steps: list[list[list[int]]], pairs: set[tuple[int, int]]) -> None:
    for step in steps:
        rows = sorted(row for batch in step for row in batch)
        met = {(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]}
        assert not met & pairs


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Rows with keys in columns and groups, from nobody in common to nearly everybody."""
    n = draw(st.integers(0, 60))
    label = st.integers(-1, draw(st.integers(0, 40)))
    keys = draw(st.none() | st.lists(st.tuples(label, label), min_size=n, max_size=n))
    groups = draw(st.none() | st.lists(label, min_size=n, max_size=n))
    return {
        "n_rows": n,
        "batch_size": draw(st.integers(1, 9)),
        "keys": None if keys is None else np.array(keys, dtype=np.int64).reshape(n, 2),
        "groups": None if groups is None else np.array(groups, dtype=np.int64),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "drop_last": draw(st.booleans()),
        "world_size": draw(st.integers(1, 3)),
    }


def all_conflicts(table: dict[str, Any]) -> set[tuple[int, int]]:
    return set().union(*(conflicting(table[name]) for name in ("keys", "groups") if table[name] is not None))


@given(table=tables())
@settings(max_examples=150)
def test_batches_are_clean_and_as_many_in_every_epoch(table: dict[str, Any]) -> None:
    samplers = [HardBatchSampler(rank=rank, **table) for rank in range(table["world_size"])]
    pairs, before = all_conflicts(table), set[int]()
    n, size = table["n_rows"], table["batch_size"]
    shapes = []
    for epoch in (0, 1, 2):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        steps = steps_of(samplers)
        rows = [row for step in steps for batch in step for row in batch]
        assert len(set(rows)) == len(rows) and set(rows) <= set(range(n))
        assert {len(sampler) for sampler in samplers} == {len(steps)}
        assert {sampler.left_out for sampler in samplers} == {n - len(rows)}
        assert_clean(steps, pairs)
        shapes.append([[len(batch) for batch in step] for step in steps])
        before = set(range(n)) - set(rows)
        lengths = [length for step in shapes[-1] for length in step]
        if table["drop_last"]:
            assert set(lengths) <= {size}
        else:
            assert min(lengths, default=1) >= 1 and max(lengths, default=0) <= size
            assert table["world_size"] > 1 or not before  # one rank can always have one row
    assert shapes[0] == shapes[1] == shapes[2]


def first_fit(labels: list[set[int]], batch_size: int, order: Ints) -> int:
    """Count the full batches of the usual sampler: the first row that fits, over and over."""
    left, full = order.tolist(), 0
    while left:
        batch, seen, rest = [], set[int](), []
        for row in left:
            if len(batch) < batch_size and not labels[row] & seen:
                batch.append(row)
                seen |= labels[row]
            else:
                rest.append(row)
        full += len(batch) == batch_size
        left = rest
    return full


@given(table=tables())
@settings(max_examples=60)
def test_there_are_no_fewer_batches_than_first_fit_makes(table: dict[str, Any]) -> None:
    table = {**table, "world_size": 1, "drop_last": True, "groups": None}
    keys = table["keys"] if table["keys"] is not None else np.full((table["n_rows"], 1), -1)
    labels = [{label for label in row if label >= 0} for row in keys.tolist()]
    order = np.random.default_rng(table["seed"]).permutation(table["n_rows"])
    assert len(HardBatchSampler(**table)) >= first_fit(labels, table["batch_size"], order)


@pytest.mark.parametrize(
    ("labels", "batch_size", "expected"),
    [
        (np.repeat(np.arange(10), 12), 10, 12),  # every batch needs one of each
        (np.repeat(np.arange(9), 12), 8, 13),  # 12 of 13 batches have room for all of a class
        (np.r_[np.zeros(50), np.arange(50)], 10, 5),  # one class fills a place in each
        (np.zeros(20), 2, 0),
        (np.zeros(20), 1, 20),
    ],
)
def test_what_can_be_reached_is_reached(labels: Ints, batch_size: int, expected: int) -> None:
    sampler = HardBatchSampler(len(labels), batch_size, groups=labels.astype(np.int64))
    for epoch in range(20):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == expected
        assert_clean([[batch] for batch in batches], conflicting(labels))


def test_left_out_rows_come_first_next_epoch() -> None:
    """Also where more of a class is left out than the next epoch has batches: as many as there can be."""
    sampler = HardBatchSampler(1000, 64)
    large = HardBatchSampler(1000, 64, groups=np.r_[np.zeros(40), np.arange(1, 961)].astype(np.int64))
    for one in (sampler, large):
        before: set[int] = set()
        for epoch in range(8):
            one.set_epoch(epoch)
            rows = {row for batch in one for row in batch}
            again = before - rows
            assert (
                len(again) <= max(0, len([row for row in before if row < 40]) - len(one)) if one is large else not again
            )
            before = set(range(1000)) - rows
            assert len(before) == one.left_out > 0


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    groups = np.arange(200) // 3
    walked, jumped = (HardBatchSampler(200, 16, groups=groups, seed=5) for _ in range(2))
    epochs = []
    for epoch in range(4):
        walked.set_epoch(epoch)
        epochs.append(list(walked))
    jumped.set_epoch(3)
    assert list(jumped) == epochs[3]
    jumped.set_epoch(1)
    assert list(jumped) == epochs[1]
    other = HardBatchSampler(200, 16, groups=groups, seed=6)
    assert len({str(batches) for batches in [*epochs, list(other)]}) == 5


def test_the_batches_are_pinned() -> None:
    sampler = HardBatchSampler(8, 3, groups=[0, 0, 1, 1, 2, 2, -1, -1], seed=7)
    assert list(sampler) == PINNED


@given(table=tables(), data=st.data())
@settings(max_examples=60)
def test_a_resumed_epoch_goes_on_where_it_was_left(table: dict[str, Any], data: st.DataObject) -> None:
    first = HardBatchSampler(**table)
    first.set_epoch(3)
    batches = list(first)
    done = data.draw(st.integers(0, len(batches)))
    if data.draw(st.booleans()):
        list(first)  # a loader that asks for everything at once changes nothing where the loop tells
        first.consumed(done)
    else:
        handed_out = iter(first)
        assert [next(handed_out) for _ in range(done)] == batches[:done]
    state = first.state_dict()
    plain = {name: value.tolist() if name == "first" else value for name, value in state.items()}
    state = {**json.loads(json.dumps(plain)), "first": np.array(plain["first"], dtype=np.int64)}
    second = HardBatchSampler(**table)
    second.load_state_dict(state)
    assert (second.epoch, second.position) == (3, done)
    second.set_epoch(3)  # what the loop calls before the epoch
    assert list(second) == batches[done:]
    for sampler in (first, second):
        sampler.set_epoch(4)
    assert list(first) == list(second)
    assert len(list(second)) == len(second)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers: int) -> None:
    groups = np.arange(90) // 2
    sampler = HardBatchSampler(90, 8, groups=groups)
    loader = DataLoader(range(90), batch_sampler=sampler, num_workers=workers, collate_fn=list)  # type: ignore[arg-type]
    expected = list(HardBatchSampler(90, 8, groups=groups))
    assert len(loader) == len(expected)
    seen = []
    for batch in loader:
        seen.append(batch)
        sampler.consumed()
        if len(seen) == 5:
            state = sampler.state_dict()
    assert seen == expected
    again = HardBatchSampler(90, 8, groups=groups)
    again.load_state_dict(state)
    assert list(again) == expected[5:]


def test_it_can_be_sent_to_another_process() -> None:
    sampler = HardBatchSampler(40, 4, keys=np.arange(40) // 2)
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)  # noqa: S301


# With mined lists


@pytest.fixture(scope="module")
def rows() -> npt.NDArray[np.float32]:
    """Rows in knots: those of a knot are near each other, and numbers say nothing of knots."""
    rng = np.random.default_rng(0)
    knots = rng.standard_normal((60, 24))
    made = knots[rng.integers(0, 60, 1200)] + 0.6 * rng.standard_normal((1200, 24))
    return made.astype(np.float32)


@pytest.fixture(scope="module")
def mined(rows: npt.NDArray[np.float32]) -> negfast.MinedNegatives:
    queries = rows + 0.2 * np.random.default_rng(1).standard_normal(rows.shape, dtype=np.float32)
    return negfast.mine(queries, rows, np.arange(len(rows)), num_negatives=30)


def neighbours(mined: negfast.MinedNegatives, window: slice = slice(0, 100)) -> dict[int, dict[int, float]]:
    """Find the mutual edges in the plain way."""
    lists = {
        anchor: dict(zip(row[window], scores[window], strict=True))
        for anchor, row, scores in zip(
            mined.anchors.tolist(), mined.indices.tolist(), mined.scores.tolist(), strict=True
        )
    }
    edges: dict[int, dict[int, float]] = defaultdict(dict)
    for a, found in lists.items():
        for b, score in found.items():
            if b >= 0 and b != a and a in lists.get(b, {}):
                edges[a][b] = (score + lists[b][a]) / 2
    return edges


def within(batches: list[list[int]], edges: dict[int, dict[int, float]]) -> float:
    """Return the share of rows that have a neighbour in their batch."""
    found = [bool(edges[row].keys() & set(batch)) for batch in batches for row in batch]
    return float(np.mean(found))


def test_rows_meet_their_neighbours(mined: negfast.MinedNegatives) -> None:
    edges = neighbours(mined)
    random, hard = HardBatchSampler(1200, 48), HardBatchSampler(1200, 48, mined=mined)
    pure = HardBatchSampler(1200, 48, mined=mined, random_share=0.0)
    shuffled = HardBatchSampler(1200, 48, mined=mined, random_share=1.0)
    assert len(random) == len(hard) == 25
    assert within(list(hard), edges) > 0.8
    assert within(list(pure), edges) > 0.95
    assert within(list(random), edges) < 0.65
    assert within(list(shuffled), edges) < 0.65


def test_communities_are_whole_and_no_larger_than_asked(mined: negfast.MinedNegatives) -> None:
    sampler = HardBatchSampler(1200, 48, mined=mined, community=8, random_share=0.0)
    together = sampler._together()
    assert together is not None
    community = together[0]
    sizes = np.bincount(community)
    assert sizes.max() <= 8 and sizes.min() >= 1
    edges = neighbours(mined)
    inside = sum(weight for a in edges for b, weight in edges[a].items() if community[a] == community[b])
    assert inside > 0.2 * sum(sum(found.values()) for found in edges.values())
    cut = sum(
        len({community[row] for row in batch} & {community[row] for row in other}) for batch, other in pairs_of(sampler)
    )
    assert cut <= len(sampler)  # at most the last of each batch goes on in another


def pairs_of(sampler: HardBatchSampler) -> list[tuple[list[int], list[int]]]:
    batches = list(sampler)
    community, _ = sampler._together() or (np.empty(0), 0.0)
    sizes = np.bincount(community)
    shared = [[row for row in batch if sizes[community[row]] > 1] for batch in batches]
    return [(a, b) for i, a in enumerate(shared) for b in shared[i + 1 :]]


@pytest.mark.parametrize("world_size", [1, 2])
def test_hard_batches_are_clean(mined: negfast.MinedNegatives, world_size: int) -> None:
    keys = np.arange(1200)[np.random.default_rng(3).integers(0, 500, 1200)]
    groups = np.random.default_rng(4).integers(-1, 100, 1200)
    options: dict[str, Any] = {"keys": keys, "groups": groups, "world_size": world_size, "mined": mined}
    samplers = [HardBatchSampler(1200, 32, rank=rank, **options) for rank in range(world_size)]
    plain = HardBatchSampler(1200, 32, keys=keys, groups=groups, world_size=world_size)
    pairs = conflicting(keys) | conflicting(groups)
    for epoch in range(2):
        for sampler in (*samplers, plain):
            sampler.set_epoch(epoch)
        steps = steps_of(samplers)
        assert len(steps) == len(plain)
        assert_clean(steps, pairs)
        edges = neighbours(mined)
        hard = within([batch for step in steps for batch in step], edges)
        assert hard > within(list(plain), edges) + 0.2


def test_the_window_and_the_bound_choose_edges(rows: npt.NDArray[np.float32]) -> None:
    """Lists that no rule has cut are cut here; ranks outside of the window are no edges."""
    n = 12
    order = [[j for j in range(n) if j != i] for i in range(n)]
    mined = negfast.mine(
        rows[:n], rows[:n], np.arange(n), num_negatives=n - 1, rules=negfast.Rules(relative_margin=None)
    )
    lists = np.array(order, dtype=np.int64)
    scores = np.where((lists // 3) == (np.arange(n)[:, None] // 3), 0.99, 0.5).astype(np.float32)
    made = replace(mined, indices=lists, scores=scores, positive_scores=np.ones(n, dtype=np.float32))

    def communities(**options: Any) -> list[int]:
        together = HardBatchSampler(n, 3, mined=made, community=3, **options)._together()
        assert together is not None
        return list(together[0].tolist())

    # 0.99 is above the bound of 0.95, so the three of a kind are no neighbours, and the others are.
    got = communities()
    assert all(a == b or got[a] != got[b] for a in range(n) for b in range(n) if a // 3 == b // 3)
    # In a window of no ranks that both have, nobody has a neighbour.
    assert communities(range_min=10) == list(range(n))


def test_lists_are_replaced_for_epochs_that_have_not_begun(mined: negfast.MinedNegatives) -> None:
    turned = replace(mined, indices=(mined.indices + 7) % 1200, anchors=(mined.anchors + 7) % 1200)
    sampler = HardBatchSampler(1200, 48, mined=mined)
    batches = iter(sampler)
    begun = [next(batches) for _ in range(3)]
    sampler.update(turned)
    assert [*begun, *batches] == list(HardBatchSampler(1200, 48, mined=mined))
    sampler.set_epoch(1)
    first = HardBatchSampler(1200, 48, mined=mined)
    list(first)
    first.set_epoch(1)
    assert list(sampler) != list(first)
    assert within(list(sampler), neighbours(turned)) > 0.8
    fresh = HardBatchSampler(1200, 48, mined=mined)
    fresh.update(turned)  # nothing has begun
    assert list(fresh) == list(HardBatchSampler(1200, 48, mined=turned))


def test_a_begun_epoch_is_taken_up_only_with_its_lists(mined: negfast.MinedNegatives) -> None:
    turned = replace(mined, indices=(mined.indices + 7) % 1200, anchors=(mined.anchors + 7) % 1200)
    sampler = HardBatchSampler(1200, 48, mined=mined)
    sampler.set_epoch(2)
    batches = list(sampler)
    sampler.consumed(4)
    state = sampler.state_dict()
    again = HardBatchSampler(1200, 48, mined=mined)
    again.load_state_dict(state)
    assert list(again) == batches[4:]
    for other in (HardBatchSampler(1200, 48, mined=turned), HardBatchSampler(1200, 48)):
        with pytest.raises(negfast.StateError, match=r"lists of the state.*epoch 2"):
            other.load_state_dict(state)
    other = HardBatchSampler(1200, 48, mined=turned)
    other.load_state_dict({**state, "position": 0})
    assert len(list(other)) == len(batches)


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_threads_change_nothing(mined: negfast.MinedNegatives, n_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(HardBatchSampler(1200, 48, mined=mined))
    monkeypatch.setenv("NEGFAST_NUM_THREADS", str(n_threads))
    assert list(HardBatchSampler(1200, 48, mined=mined)) == expected


def test_rows_without_lists_are_dealt_at_random(rows: npt.NDArray[np.float32]) -> None:
    part = negfast.mine(rows, rows, np.arange(1200), num_negatives=20, anchors=np.arange(0, 600))
    sampler = HardBatchSampler(1200, 40, mined=part)
    assert sorted(row for batch in sampler for row in batch) == list(range(1200))


# Bad input


Type, Value, State = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.StateError
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "n_rows of a float": ({"n_rows": 4.0}, Type, "n_rows.*integer.*float"),
    "n_rows below 0": ({"n_rows": -1}, Value, "n_rows.*-1"),
    "no batch size": ({"batch_size": 0}, Value, "batch_size.*0"),
    "a batch size of a text": ({"batch_size": "8"}, Type, "batch_size.*str"),
    "keys of texts": ({"keys": ["a"] * 10}, Type, "keys"),
    "keys of floats": ({"keys": np.zeros(10)}, Type, "keys.*float64"),
    "keys of other rows": ({"keys": np.arange(9)}, Value, "keys.*10 rows.*9"),
    "keys below -1": ({"keys": np.full(10, -2)}, Value, "keys.*-2"),
    "groups of three axes": ({"groups": np.zeros((10, 1, 1), dtype=np.int64)}, Value, r"groups.*\(10, 1, 1\)"),
    "groups of other rows": ({"groups": [[1]] * 9}, Value, "groups.*10 rows.*9"),
    "an empty window": ({"range_min": 5, "range_max": 5}, Value, "range_max.*6.*5"),
    "no community": ({"community": 0}, Value, "community.*0"),
    "a share above 1": ({"random_share": 1.5}, Value, "random_share.*1.5"),
    "a share of NaN": ({"random_share": float("nan")}, Value, "random_share.*nan"),
    "a seed below 0": ({"seed": -1}, Value, "seed.*-1"),
    "drop_last of a number": ({"drop_last": 1}, Type, "drop_last.*int"),
    "a rank outside": ({"rank": 2, "world_size": 2}, Value, "rank.*1.*2"),
    "no ranks": ({"world_size": 0}, Value, "world_size.*0"),
    "lists of a dict": ({"mined": {}}, Type, "mined.*MinedNegatives.*dict"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    changes, error, message = BAD[name]
    with pytest.raises(error, match=message):
        HardBatchSampler(**{"n_rows": 10, "batch_size": 2, **changes})


def test_lists_of_other_rows_are_refused(mined: negfast.MinedNegatives) -> None:
    with pytest.raises(Value, match=r"mined.*1000 rows.*1200 rows"):
        HardBatchSampler(1000, 8, mined=mined)
    outside = replace(mined, anchors=mined.anchors + 1)
    with pytest.raises(Value, match=r"mined.*1200.*row 1200"):
        HardBatchSampler(1200, 8, mined=outside)
    twice = replace(mined, anchors=np.zeros_like(mined.anchors))
    with pytest.raises(Value, match=r"mined.anchors.*different.*0"):
        list(HardBatchSampler(1200, 8, mined=twice))
    wrong = mined.indices.copy()
    wrong[3, 4] = 1200
    with pytest.raises(negfast.RowIndexError, match=r"mined.indices.*1200"):
        list(HardBatchSampler(1200, 8, mined=replace(mined, indices=wrong)))


def test_more_batches_than_are_left_are_refused() -> None:
    sampler = HardBatchSampler(10, 2)
    sampler.consumed(5)
    assert list(sampler) == []
    with pytest.raises(Value, match=r"n_batches.*0 batches.*epoch 0.*1"):
        sampler.consumed()
    sampler.set_epoch(1)
    assert len(list(sampler)) == 5


STATE = HardBatchSampler(10, 3, seed=1, world_size=1).state_dict()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"version": 2}, "version.*1.*2"),
    "a version of true": ({"version": True}, "version.*True"),
    "other rows": ({"n_rows": 11}, "n_rows of the state.*10.*11"),
    "another batch size": ({"batch_size": 4}, "batch_size.*3.*4"),
    "another end": ({"drop_last": False}, "drop_last.*True.*False"),
    "another world": ({"world_size": 3}, "world_size.*1.*3"),
    "another share": ({"random_share": 0.2}, "random_share.*0.1.*0.2"),
    "another seed": ({"seed": 2}, "seed.*1.*2"),
    "other labels": ({"conflicts": ""}, "conflicts"),
    "a text as epoch": ({"epoch": "1"}, "epoch.*integer.*str"),
    "a position past the end": ({"position": 4}, "position.*at most 3|position.*between 0 and 3"),
    "rows of a list": ({"first": [1]}, "first.*int64"),
    "rows in no order": ({"first": np.array([1, 1])}, "first.*ascending"),
    "too many rows": ({"first": np.array([1, 2])}, "first.*at most 1"),
    "rows outside": ({"first": np.array([10])}, "first.*ascending"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_state_of_another_sampler_is_refused(name: str) -> None:
    changes, message = REFUSED[name]
    sampler = HardBatchSampler(10, 3, seed=1)
    sampler.consumed(2)
    before = sampler.state_dict()
    with pytest.raises(State, match=message):
        sampler.load_state_dict({**STATE, **changes})
    after = sampler.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("name", sorted(STATE.keys() - {"lists"}))
def test_a_state_that_lacks_an_entry_is_refused(name: str) -> None:
    state = {key: value for key, value in STATE.items() if key != name}
    with pytest.raises(State, match=name):
        HardBatchSampler(10, 3, seed=1).load_state_dict(state)
