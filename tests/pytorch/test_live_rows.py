"""Lists that change under a data loader: one list an anchor and epoch, whatever workers do."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest

import negfast

pytest.importorskip("torch")

import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from negfast.torch import (
    EpochSampler,
    HardBatchSampler,
    LiveBatches,
    LiveRows,
    MinedRows,
    NegativeSampler,
    NegativesDataset,
    UniformRows,
)
from negfast.torch.live_rows import merged
from negfast.torch.sources import Request

N, WIDTH = 24, 5
RNG = np.random.default_rng(0)
ROWS = [RNG.standard_normal((N, 8)).astype(np.float32) for _ in range(3)]


def mined(which: int, anchors: Any = None, width: int = WIDTH) -> negfast.MinedNegatives:
    return negfast.mine(ROWS[which], ROWS[0], np.arange(N), num_negatives=width, anchors=anchors)


OLD, NEW, NEWER = (mined(which) for which in range(3))


def lists_of(live: LiveRows, anchors: Any = range(N), **settings: Any) -> np.ndarray:
    request = Request(np.asarray(anchors), seed=0, epoch=0, step=0, num_negatives=2, n_queries=N, **settings)
    return np.asarray(live.candidates(request).ids)


def sampler_of(source: Any) -> NegativeSampler:
    shares: dict[str, Any] = {"probabilities": {"easy": 0.7}, "min_random": 0.3}
    return NegativeSampler([source, UniformRows(N)], num_negatives=4, positives=np.arange(N), seed=3, **shares)


@pytest.mark.parametrize("anchors", [None, [7, 3, 11]])
def test_candidates_are_those_of_mined_rows(anchors: Any) -> None:
    lists = mined(0, anchors)
    live, fixed = LiveRows(lists), MinedRows(lists)
    for window in ((0, None), (1, 3)):
        for asked in ([], [3, 3, 7], range(N)):
            request = Request(np.array(asked, np.int64), 0, 0, 0, 2, N, window=window)
            ours, theirs = live.candidates(request), fixed.candidates(request)
            assert np.array_equal(ours.ids, theirs.ids)
            there = theirs.ids >= 0
            assert np.array_equal(ours.scores[there], theirs.scores[there])
            assert np.array_equal(ours.positive_scores, theirs.positive_scores, equal_nan=True)


def test_an_anchor_keeps_its_list_for_an_epoch() -> None:
    live = LiveRows(OLD)
    live.deal([0, 1])
    live.swap(NEW)
    live.deal([1, 2])
    live.swap(NEWER)
    live.deal([2, 3])
    expected = [OLD, OLD, NEW, NEWER]
    assert all(np.array_equal(lists_of(live, [i])[0], lists.indices[i]) for i, lists in enumerate(expected))
    assert np.array_equal(lists_of(live)[4:], OLD.indices[4:]), "nobody else was dealt out"
    generation = live.generation
    live.begin_epoch()
    assert np.array_equal(lists_of(live), NEWER.indices) and live.generation == generation + 1


def test_without_deals_lists_wait_for_the_next_epoch() -> None:
    live = LiveRows(OLD)
    live.swap(NEW)
    assert np.array_equal(lists_of(live), OLD.indices) and live.mined is NEW
    other = LiveRows.empty(N, N, WIDTH)
    other.load_state_dict(live.state_dict())
    assert np.array_equal(lists_of(other), OLD.indices)
    for each in (live, other):
        each.begin_epoch()
        assert np.array_equal(lists_of(each), NEW.indices)


def test_no_lists_at_first() -> None:
    live = LiveRows.empty(N, N, WIDTH)
    assert (lists_of(live) == -1).all() and live.mined is None
    draw = sampler_of(live).draw([0, 1], 0)
    assert (draw.sources[draw.ids >= 0] == 1).all(), "random rows alone"
    live.swap(mined(0, [2, 5]))
    live.begin_epoch()
    assert (lists_of(live).max(axis=1) >= 0).nonzero()[0].tolist() == [2, 5]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_state_goes_on_with_the_same_lists(swapped: bool) -> None:
    live = LiveRows(OLD)
    live.deal([0, 1, 5])
    if swapped:
        live.swap(NEW)
        live.deal([2])
    other = LiveRows(NEWER)
    other.load_state_dict(live.state_dict())
    for each in (live, other):  # 0 is dealt out again, as batches on their way are
        each.deal([0, 7])
    dealt = [0, 1, 2, 5, 7] if swapped else range(N)  # the lists of others nobody draws from
    assert np.array_equal(lists_of(live, dealt), lists_of(other, dealt))
    live.begin_epoch(), other.begin_epoch()
    assert np.array_equal(lists_of(live), lists_of(other))


def test_a_state_without_lists_leaves_none() -> None:
    live = LiveRows(OLD)
    live.load_state_dict(LiveRows.empty(N, N, WIDTH).state_dict())
    assert live.mined is None and (lists_of(live) == -1).all()


def test_states_of_processes_are_merged() -> None:
    ranks = [LiveRows(OLD), LiveRows(OLD)]
    for rank, live in enumerate(ranks):
        live.deal([rank, 4])
        live.swap(NEW)
        live.deal([2 + rank])
    whole = LiveRows(NEWER)
    whole.load_state_dict(merged([live.state_dict() for live in ranks]))
    whole.deal(range(6))
    expected = [OLD, OLD, NEW, NEW, OLD, NEW]
    assert all(np.array_equal(lists_of(whole, [i])[0], lists.indices[i]) for i, lists in enumerate(expected))


def test_a_damaged_or_foreign_state_is_refused() -> None:
    live = LiveRows(OLD)
    live.deal([0])
    live.swap(NEW)
    state = live.state_dict()
    other = LiveRows(OLD)
    for change in (
        {"version": 2},
        {"width": 4},
        {"dealt": np.array([N])},
        {"dealt": np.array([0, 1])},
        {"kept_ids": state["kept_ids"].astype(np.int32)},
        {"kept_ids": np.full((1, WIDTH), N)},
        {"kept_scores": None},
        {"mined": {}},
        {"mined": None},
        {"mined": mined(0, width=4).to_dict()},
        {"mined": {**state["mined"], "anchors": state["mined"]["anchors"] + N}},
    ):
        with pytest.raises(negfast.StateError):
            other.load_state_dict({**state, **change})
    with pytest.raises(negfast.InvalidTypeError):
        other.load_state_dict([])  # type: ignore[arg-type]
    assert np.array_equal(lists_of(other), OLD.indices)


def test_copies_are_on_their_own() -> None:
    live = LiveRows(OLD)
    other = copy.deepcopy(live)
    live.swap(NEW)
    live.begin_epoch()
    assert np.array_equal(lists_of(other), OLD.indices)
    other.swap(NEWER)
    other.begin_epoch()
    assert np.array_equal(lists_of(live), NEW.indices)


def loader_of(live: LiveRows, batches: Any, **settings: Any) -> Any:
    pairs = [(f"q{i}", f"d{i}") for i in range(N)]
    data = NegativesDataset(pairs, sampler_of(live), [f"d{i}" for i in range(N)])
    return DataLoader(data, batch_sampler=batches, collate_fn=list, **settings)


def epoch_of(live: LiveRows, loader: Any, *, swap_after: int) -> list[list[list[int]]]:
    """Run an epoch in which lists are swapped after some batches; workers are given time to read ahead."""
    seen = []
    for i, batch in enumerate(itertools.islice(loader, None)):
        seen.append([example.negative_rows.tolist() for example in batch])
        if i + 1 == swap_after:
            live.swap(NEW)
    return seen


@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_draw_from_the_lists_that_were_latest_when_a_batch_was_dealt_out(start: str, workers: int) -> None:
    if start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform cannot {start}")
    live = LiveRows(OLD)
    batches = LiveBatches(BatchSampler(SequentialSampler(range(N)), 2, False), live)
    settings: dict[str, Any] = {"num_workers": workers, "persistent_workers": True, "prefetch_factor": 1}
    loader = loader_of(live, batches, multiprocessing_context=start, **settings)
    seen = epoch_of(live, loader, swap_after=3)
    dealt = 3 + workers  # three batches were taken, and each worker had one
    pools = [sampler_of(LiveRows(lists)) for lists in (OLD, NEW)]
    expected = [[pools[i >= dealt].draw([row], 0).ids[0].tolist() for row in (2 * i, 2 * i + 1)] for i in range(N // 2)]
    assert [[sorted(ids) for ids in batch] for batch in seen] == [
        [sorted(row for row in ids if row >= 0) for ids in batch] for batch in expected
    ]
    live.begin_epoch()
    again = epoch_of(live, loader, swap_after=0)
    assert sorted(again[0][0]) == sorted(pools[1].draw([0], 0).ids[0].tolist()), "the same workers, in the next epoch"


def test_a_batch_sampler_is_wrapped_whole() -> None:
    live = LiveRows(OLD)
    inner = HardBatchSampler(N, 4, seed=1)
    batches = LiveBatches(inner, live, rows=np.arange(N)[::-1])
    assert (len(batches), batches.batch_size, batches.drop_last) == (len(inner), 4, True)
    batches.set_epoch(2)
    assert inner.epoch == 2
    first = next(iter(batches))
    assert sorted(live.state_dict()["dealt"].tolist()) == sorted(N - 1 - row for row in first)
    sampler = EpochSampler(N, seed=1)
    LiveBatches(BatchSampler(sampler, 4, True), live).set_epoch(3)
    assert sampler.epoch == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LiveRows([1]), negfast.InvalidTypeError, "mined must be a MinedNegatives"),
        (lambda: LiveRows.empty(-1, 3, 2), negfast.InvalidValueError, "n_queries must be"),
        (lambda: LiveRows.empty(1, 3, 0), negfast.InvalidValueError, "width must be"),
        (lambda: LiveRows(OLD).swap(None), negfast.InvalidTypeError, "mined must be a MinedNegatives"),
        (lambda: LiveRows(OLD).swap(mined(0, width=4)), negfast.InvalidValueError, "mined must have 5 negatives each"),
        (lambda: LiveRows(OLD).deal([-1]), negfast.RowIndexError, "anchors must be rows"),
        (lambda: LiveRows(OLD).deal(["a"]), negfast.InvalidTypeError, "anchors"),
        (lambda: LiveBatches(3, LiveRows(OLD)), negfast.InvalidTypeError, "batches must be a batch sampler"),
        (lambda: LiveBatches([[0]], None), negfast.InvalidTypeError, "lists must be LiveRows"),
        (lambda: LiveBatches([[0]], LiveRows(OLD), rows=[-1]), negfast.InvalidValueError, "rows must be a list"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
