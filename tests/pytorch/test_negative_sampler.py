"""NegativeSampler: what it never draws, how it fills its slots, that draws are a pure function, and what it refuses."""

import copy
import dataclasses
import functools
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import negfast
from negfast import InvalidTypeError, InvalidValueError, NegfastError, RowIndexError, StateError
from negfast.torch import (
    Candidates,
    Draw,
    MinedRows,
    NegativeSampler,
    NegativesCollator,
    NegativesDataset,
    Request,
    UniformRows,
)

N_QUERIES, N_ROWS, DIM, WIDTH = 40, 300, 8, 40
SHARES = {"hard": 0.3, "semi_hard": 0.3, "easy": 0.3}
_RNG = np.random.default_rng(0)
CORPUS = _RNG.standard_normal((N_ROWS, DIM), dtype=np.float32)
CORPUS[200:260] = CORPUS[100:160]  # copies
QUERIES = CORPUS[:N_QUERIES] + _RNG.standard_normal((N_QUERIES, DIM), dtype=np.float32)
POSITIVES = [[i, 100 + i] for i in range(N_QUERIES)]
GROUPS = (np.arange(N_QUERIES) % 7, np.where(np.arange(N_ROWS) % 5 == 0, np.arange(N_ROWS) % 7, -1))
KEYS = (np.arange(N_QUERIES), np.where(np.arange(N_ROWS) >= 270, np.arange(N_ROWS) - 270, -1))
COPIES = negfast.near_duplicates(CORPUS, 0.999)
MINED = negfast.mine(
    QUERIES, CORPUS, POSITIVES, num_negatives=WIDTH, rules=negfast.Rules(relative_margin=None), tiers=negfast.Tiers()
)
ALL = np.arange(N_QUERIES)


def sampler(*, sources: Any = None, **options: Any) -> NegativeSampler:
    chosen: dict[str, Any] = {
        "num_negatives": 8,
        "probabilities": SHARES,
        "min_random": 0.1,
        "positives": POSITIVES,
        "groups": GROUPS,
        "keys": KEYS,
        "duplicates": COPIES,
        "seed": 3,
    }
    return NegativeSampler(sources or [MinedRows(MINED), UniformRows(N_ROWS)], **chosen | options)


def same(a: Draw, b: Draw) -> bool:
    names = ("ids", "scores", "tiers", "sources", "log_weight", "shortfall")
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in names)


# ------------------------------------------------------------------------------------------------ what is never drawn


@functools.cache
def refused(anchor: int, row: int) -> bool:
    """Say as plainly as can be whether a row is no negative of an anchor: it, or a copy of it, is one that is named."""
    copies = [other for other in range(N_ROWS) if COPIES[other] == COPIES[row] and COPIES[row] >= 0] or [row]
    labels = [{("group", g), ("key", k)} for g, k in zip(*(GROUPS[1], KEYS[1]), strict=True)]
    positives = {
        other for other in range(N_ROWS) for p in POSITIVES[anchor] if other == p or COPIES[other] == COPIES[p]
    }
    banned = {("group", GROUPS[0][anchor]), ("key", KEYS[0][anchor])}.union(*(labels[p] for p in positives))
    banned -= {("group", -1), ("key", -1)}
    return bool(set(copies) & positives) or any(labels[other] & banned for other in copies)


def check_identity(draw: Draw, anchors: Any = ALL) -> None:
    for anchor, ids in zip(anchors, draw.ids.tolist(), strict=True):
        real = [row for row in ids if row >= 0]
        assert len(set(real)) == len(real)
        contents = [COPIES[row] if COPIES[row] >= 0 else -2 - row for row in real]
        assert len(set(contents)) == len(contents)
        assert not any(refused(anchor, row) for row in real)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.1}, {"max_exposure": 20}, {"min_random": 1.0}])
def test_never_what_is_refused(options: dict[str, Any]) -> None:
    made = sampler(**options)
    for step in range(8):
        check_identity(made.draw(ALL, step))


@pytest.mark.parametrize("left_out", ["positives", "groups", "keys", "duplicates"])
def test_the_check_fails_where_a_rule_is_left_out(left_out: str) -> None:
    made = sampler(**{left_out: None}, n_queries=N_QUERIES)
    drawn = [made.draw(ALL, step) for step in range(40)]
    joined = Draw(**vars(drawn[0]) | {"ids": np.concatenate([draw.ids for draw in drawn])})
    with pytest.raises(AssertionError):
        check_identity(joined, np.tile(ALL, len(drawn)))


def test_given_candidates_are_judged_too() -> None:
    rows = np.arange(N_ROWS)
    given = {"batch": Candidates(rows, scores=np.zeros((N_QUERIES, N_ROWS)), positive_scores=np.zeros(N_QUERIES))}
    check_identity(sampler().draw(ALL, 0, given=given))


def test_exclude_self() -> None:
    made = sampler(exclude_self=True, positives=None, groups=None, keys=None, n_queries=N_QUERIES, min_random=1.0)
    drawn = np.concatenate([made.draw(ALL, step).ids for step in range(40)], axis=1)
    assert not (drawn == ALL[:, None]).any()


# -------------------------------------------------------------------------------------------------------------- slots


def naive_shares(made: NegativeSampler, live: dict[str, int]) -> dict[str, float]:
    """Hand slots down from tier to tier, as the documentation says."""
    reserved = math.ceil(made.num_negatives * made.min_random - 1e-9)
    free, carried, slots = made.num_negatives - reserved, 0.0, {}
    for tier in ("hard", "semi_hard", "easy"):
        wanted = free * made.probabilities[tier] + carried
        slots[tier] = min(wanted, live[tier])
        carried = wanted - slots[tier]
    slots["random"] = made.num_negatives - sum(slots.values())
    return slots


@pytest.mark.parametrize(
    "shares", [SHARES, {"hard": 1.0}, {"semi_hard": 0.55}, {"easy": 0.9, "hard": 0.1}, {"hard": 0.5, "semi_hard": 0.5}]
)
@pytest.mark.parametrize("min_random", [0.0, 0.1, 0.5])
def test_slots_go_to_tiers_and_down(shares: dict[str, float], min_random: float) -> None:
    made = sampler(
        probabilities=shares, min_random=min_random, groups=None, keys=None, duplicates=None, num_negatives=10
    )
    drawn = made.draw(ALL, 0)
    assert (drawn.ids >= 0).all()
    for i in range(N_QUERIES):
        mined = MINED.tiers[i]
        live = {name: int((mined == tier).sum()) for name, tier in (("hard", 3), ("semi_hard", 2), ("easy", 1))}
        slots = naive_shares(made, live)
        listed = drawn.sources[i] == 0
        for name, tier in (("hard", 3), ("semi_hard", 2), ("easy", 1)):
            found = int((listed & (drawn.tiers[i] == tier)).sum())
            assert math.floor(slots[name] - 1e-6) <= found <= math.ceil(slots[name] + 1e-6)
        assert int((~listed).sum()) >= math.floor(slots["random"] + 1e-6)
        assert (~listed).sum() >= math.ceil(10 * min_random - 1e-9)


def test_a_shortfall_is_counted() -> None:
    drawn = sampler(probabilities={"hard": 1.0}, min_random=0.0, duplicates=None, groups=None, keys=None).draw(ALL, 0)
    hard = (MINED.tiers == 3).sum(axis=1)
    np.testing.assert_allclose(drawn.shortfall[:, 0], np.maximum(8 - hard, 0))
    drawn = sampler(num_negatives=N_ROWS, sources=[MinedRows(MINED)], probabilities={"easy": 1.0}, min_random=0.0).draw(
        ALL, 0
    )
    assert ((drawn.ids >= 0).sum(axis=1) + drawn.shortfall[:, 3] == N_ROWS).all()
    assert (drawn.log_weight[drawn.ids < 0] == -np.inf).all()
    assert (drawn.sources[drawn.ids < 0] == -1).all()


def test_scores_and_tiers_are_those_of_the_lists() -> None:
    drawn = sampler().draw(ALL, 4)
    for i, ids in enumerate(drawn.ids):
        for row, score, tier, source in zip(ids, drawn.scores[i], drawn.tiers[i], drawn.sources[i], strict=True):
            if drawn.names[source] == "mined":
                place = int(np.flatnonzero(MINED.indices[i] == row)[0])
                assert (score, tier) == (MINED.scores[i, place], MINED.tiers[i, place])
            else:
                assert np.isnan(score)
                assert tier == 0


def test_embeddings_score_what_no_source_did() -> None:
    drawn = sampler(embeddings=(QUERIES, CORPUS), min_random=0.5).draw(ALL, 4)
    found = negfast.topk(QUERIES, CORPUS, N_ROWS)
    lowest = MINED.positive_scores
    for i, ids in enumerate(drawn.ids):
        truth = dict(zip(found.indices[i].tolist(), found.scores[i].tolist(), strict=True))
        assert [truth[row] for row in ids.tolist()] == drawn.scores[i].tolist()
        hardness = drawn.scores[i].astype(np.float64) - lowest[i]
        np.testing.assert_array_equal(drawn.tiers[i], 1 + (hardness >= -0.15) + (hardness >= -0.05))


def test_weights_of_lists_taken_whole_and_a_uniform_tail() -> None:
    """Listed rows that are certain weigh 1, m random rows of N weigh (N - k) / m, but for chance in k."""
    made = sampler(
        num_negatives=WIDTH + 60,
        probabilities={"hard": 1.0},
        min_random=60 / (WIDTH + 60),
        positives=None,
        groups=None,
        keys=None,
        duplicates=None,
        sources=[MinedRows(MINED), UniformRows(N_ROWS, candidates=N_ROWS)],
    )
    drawn = made.draw(ALL, 0)
    listed = drawn.sources == 0
    assert (listed.sum(axis=1) == WIDTH).all()
    assert (drawn.log_weight[listed] == 0.0).all()
    np.testing.assert_allclose(drawn.log_weight[~listed], math.log((N_ROWS - WIDTH) / 60), rtol=1e-6)


# -------------------------------------------------------------------------------------------------------- pure draws


@pytest.mark.parametrize("options", [{}, {"max_exposure": 20}])
def test_a_draw_is_a_pure_function(options: dict[str, Any]) -> None:
    made = sampler(**options)
    whole = made.draw(ALL, 5)
    assert same(whole, made.draw(ALL, 5))
    assert same(whole, sampler(**options).draw(ALL, 5))
    for threads in (1, 2, 7):
        assert same(whole, sampler(n_threads=threads, **options).draw(ALL, 5))
    order = np.random.default_rng(1).permutation(N_QUERIES)
    for part in (order, order[:7], order[[3, 3]]):
        drawn = made.draw(part, 5)
        np.testing.assert_array_equal(drawn.ids, whole.ids[part])
        np.testing.assert_array_equal(drawn.log_weight, whole.log_weight[part])
    assert not same(whole, made.draw(ALL, 6))
    assert not same(whole, sampler(seed=4, **options).draw(ALL, 5))
    made.set_epoch(1)
    assert not same(whole, made.draw(ALL, 5))
    made.set_epoch(0)
    assert same(whole, made.draw(ALL, 5))


def test_many_threads_draw_alike() -> None:
    anchors = np.tile(ALL, 400)
    one, seven = (sampler(n_threads=n).draw(anchors, 1) for n in (1, 7))
    assert same(one, seven)


def test_a_copy_draws_alike() -> None:
    made = sampler(max_exposure=20)
    made.update([1, 2], [1.0, 3.0])
    made.set_epoch(2)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301 - our own
        assert same(made.draw(ALL, 1), other.draw(ALL, 1))
        other.set_epoch(3)
        assert made.epoch == 2


def test_pinned() -> None:
    """Draws of a seed are for ever."""
    drawn = NegativeSampler([UniformRows(1000)], num_negatives=4, probabilities={}, min_random=0, n_queries=2, seed=1)
    assert drawn.draw([0, 1], 2).ids.tolist() == PINNED


PINNED = [[291, 148, 403, 169], [489, 113, 227, 41]]


# ------------------------------------------------------------------------------------------------ snapshot and state


def test_what_is_noted_counts_from_the_next_publication_on() -> None:
    made = sampler()
    before = made.draw(ALL, 0)
    made.update(MINED.indices[:, ::2], np.full((N_QUERIES, WIDTH // 2), 4.0))
    made.update(MINED.indices[:, 1::2], np.full((N_QUERIES, WIDTH // 2), 4.0) * np.arange(WIDTH // 2))
    assert same(before, made.draw(ALL, 0))
    assert made.snapshot == 0
    made.publish()
    assert made.snapshot == 1
    assert not same(before, made.draw(ALL, 0))


def test_usefulness_moves_decays_and_is_capped() -> None:
    made = sampler(usefulness_decay=0.5, usefulness_cap=4.0)
    made.update([[5, 6], [7, -1]], [[30.0, 0.0], [1.0, 99.0]])
    made.publish()
    np.testing.assert_allclose(
        made.usefulness[[5, 6, 7, 8]], [0.5 + 2.90322 / 2, 0.5 + 0.125, 0.5 + 0.125, 1], rtol=1e-5
    )
    weights = made.usefulness
    made.publish()
    np.testing.assert_allclose(made.usefulness - 1, (weights - 1) / 2, atol=1e-6)
    for _ in range(30):
        made.update([5, 6], [1e6, 0.0])
        made.publish()
    assert made.usefulness.max() <= 4.0
    assert made.usefulness.min() >= 0.25


def test_a_narrow_subset_cannot_take_over() -> None:
    """However useful, a tenth of the listed rows gets no more than c f / (c f + 1 - f) of the slots of its tier."""
    tiers = negfast.Tiers(10.0, -10.0)  # one tier
    made = sampler(tiers=tiers, probabilities={"semi_hard": 1.0}, min_random=0.0, usefulness_cap=2.0, duplicates=None)
    favourites = np.unique(MINED.indices[:, :4])
    for _ in range(20):
        made.update(np.arange(N_ROWS), np.where(np.isin(np.arange(N_ROWS), favourites), 1e9, 0.0))
        made.publish()
    drawn = np.concatenate([made.draw(ALL, step).ids for step in range(50)], axis=1)
    for anchor in range(N_QUERIES):
        allowed = [row for row in MINED.indices[anchor] if not refused(anchor, row)]
        share = np.isin(allowed, favourites).mean()
        bound = 4 * share / (4 * share + 1 - share)
        assert np.isin(drawn[anchor], favourites).mean() <= bound + 0.1


def test_publish_replaces_shares_and_lists() -> None:
    made = sampler()
    made.publish(probabilities={"hard": 1.0}, min_random=0.0)
    assert made.probabilities == {"hard": 1.0, "semi_hard": 0.0, "easy": 0.0}
    assert same(made.draw(ALL, 0), sampler(probabilities={"hard": 1.0}, min_random=0.0).draw(ALL, 0))
    mined = negfast.mine(QUERIES, CORPUS, POSITIVES, num_negatives=9)
    made.publish(sources=[MinedRows(mined), UniformRows(N_ROWS)])
    fresh = sampler(sources=[MinedRows(mined), UniformRows(N_ROWS)], probabilities={"hard": 1.0}, min_random=0.0)
    assert same(made.draw(ALL, 0), fresh.draw(ALL, 0))
    with pytest.raises(InvalidValueError, match="names"):
        made.publish(sources=[UniformRows(N_ROWS)])
    with pytest.raises(InvalidValueError, match="at most 1"):
        made.publish(probabilities={"hard": 1.0, "easy": 0.5})
    assert same(made.draw(ALL, 0), fresh.draw(ALL, 0))


def test_publish_replaces_tiers_and_window() -> None:
    made, tiers, window = sampler(), negfast.Tiers(0.1, -0.3), (3, 11)
    made.publish(tiers=tiers, window=window)
    assert (made.tiers, made.window) == (tiers, window)
    assert same(made.draw(ALL, 0), sampler(tiers=tiers, window=window).draw(ALL, 0))
    assert not same(made.draw(ALL, 0), sampler().draw(ALL, 0))
    state = made.state_dict()
    for wrong in ({"tiers": negfast.Tiers(0.2), "window": (5, 5)}, {"tiers": (0, 1)}):
        with pytest.raises(NegfastError):
            made.publish(**wrong)
        assert made.state_dict()["tiers"] == state["tiers"]
    again = sampler()
    again.load_state_dict(json.loads(json.dumps({**state, "usefulness": None})) | {"usefulness": state["usefulness"]})
    assert (again.tiers, again.window) == (tiers, window)
    made.publish(tiers=negfast.Tiers(), window=(0, None))
    assert same(made.draw(ALL, 0), sampler().draw(ALL, 0))


def test_publish_takes_a_stage() -> None:
    stage = negfast.Curriculum(hard=0.5, easy=0.2, min_random=0.3, range_min=2, range_max=20).at(0)
    made, again = sampler(), sampler()
    made.publish(stage=stage)
    again.publish(probabilities={"hard": 0.5, "easy": 0.2}, min_random=0.3, window=(2, 20), tiers=stage.tiers)
    assert made.window == (2, 20)
    assert same(made.draw(ALL, 0), again.draw(ALL, 0))
    made.publish(stage=stage, window=(0, None))
    assert (made.window, made.min_random) == ((0, None), 0.3)
    with pytest.raises(InvalidTypeError, match=r"stage must be a negfast\.Stage"):
        made.publish(stage={"hard": 1.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("max_exposure", [None, 20])
def test_only_ranks_in_the_window_are_drawn_from_lists(max_exposure: int | None) -> None:
    made = sampler(max_exposure=max_exposure)
    whole = exposures([made.draw(ALL, step) for step in range(3)])
    made.publish(window=(4, 12))
    draws = [made.draw(ALL, step) for step in range(3, 20)]
    ranks = set()
    for draw in draws:
        for i in range(N_QUERIES):
            listed = draw.ids[i][draw.sources[i] == 0]
            ranks.update(int(np.flatnonzero(MINED.indices[i] == row)[0]) for row in listed)
    assert ranks == set(range(4, 12))
    if max_exposure is not None:  # tokens were dealt for the epoch, whatever the window
        assert exposures(draws).max() <= max_exposure
        assert (exposures([*draws, *(sampler(max_exposure=20).draw(ALL, step) for step in range(3))]) <= 20).all()
        assert whole.max() <= 20


@pytest.mark.parametrize("options", [{}, {"max_exposure": 20}])
def test_a_restart_goes_on_alike(options: dict[str, Any]) -> None:
    made = sampler(**options)
    made.update(np.arange(50), np.arange(50))
    made.set_epoch(1)
    made.update(np.arange(50), np.arange(50)[::-1])
    made.publish(probabilities={"hard": 0.5})
    made.update([4, 5], [1.0, 9.0])
    state = copy.deepcopy(made.state_dict())
    other = sampler(**options)
    other.load_state_dict(state)
    for _ in range(2):
        assert same(made.draw(ALL, 9), other.draw(ALL, 9))
        assert (made.epoch, made.snapshot) == (other.epoch, other.snapshot)
        for one in (made, other):
            one.set_epoch(one.epoch + 1)


def test_a_state_is_of_its_lists() -> None:
    state = sampler().state_dict()
    again = dataclasses.replace(MINED, indices=MINED.indices.copy(), scores=MINED.scores.copy())
    sampler(sources=[MinedRows(again), UniformRows(N_ROWS)]).load_state_dict(state)
    indices, scores = MINED.indices.copy(), MINED.scores.copy()
    indices[3, [0, 1]] = indices[3, [1, 0]]
    scores[5, 0] += 1e-3
    others = [dataclasses.replace(MINED, **change) for change in ({"indices": indices}, {"scores": scores})]
    changed = [[MinedRows(other), UniformRows(N_ROWS)] for other in others]
    changed.append([MinedRows(MINED), UniformRows(N_ROWS, candidates=30)])
    changed.append([MinedRows(MINED), UniformRows(N_ROWS, ids=np.arange(200))])
    for sources in changed:
        with pytest.raises(StateError, match="lists of the state must be"):
            sampler(sources=sources).load_state_dict(state)


def test_a_state_is_plain() -> None:
    state = sampler().state_dict()
    arrays = state.pop("usefulness")
    assert json.loads(json.dumps(state)) == state
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"seed": 4}, "seed of the state must be 3"),
        ({"version": 1}, "version"),
        ({"tiers": None}, "Tiers"),
        ({"tiers": {"hard": 0.0, "semi_hard": 1.0}}, "semi_hard"),
        ({"window": [4, 4]}, "window"),
        ({"window": None}, "window"),
        ({"num_negatives": 9}, "num_negatives"),
        ({"sources": ["uniform", "mined"]}, "sources"),
        ({"epoch": -1}, "epoch of the state"),
        ({"epoch": None}, "epoch of the state"),
        ({"probabilities": None}, "probabilities"),
        ({"usefulness": None}, "usefulness"),
        ({"usefulness": {"weights": np.zeros(3)}}, "usefulness"),
        ({"max_exposure": 7}, "max_exposure"),
    ],
)
def test_wrong_states_are_refused(change: dict[str, Any], fragment: str) -> None:
    made = sampler()
    before = made.draw(ALL, 0)
    with pytest.raises(StateError, match=fragment):
        made.load_state_dict(made.state_dict() | change)
    assert same(before, made.draw(ALL, 0))


def test_weights_beyond_the_cap_are_refused() -> None:
    state = sampler().state_dict()
    state["usefulness"]["weights"][0] = 5.0
    with pytest.raises(StateError, match="cap"):
        sampler().load_state_dict(state)


# ----------------------------------------------------------------------------------------------------------- exposure


def exposures(draws: list[Draw]) -> Any:
    """Count the anchors that each row serves."""
    pairs = {(a, r) for draw in draws for a, ids in zip(ALL, draw.ids.tolist(), strict=True) for r in ids if r >= 0}
    return np.bincount([row for _, row in pairs], minlength=N_ROWS)


@pytest.mark.parametrize("cap", [2, 3, 8])
def test_no_row_passes_its_cap_whatever_the_steps(cap: int) -> None:
    made = sampler(max_exposure=cap)
    for epoch in range(3):
        made.set_epoch(epoch)
        served = exposures([made.draw(ALL, step) for step in range(12)])
        assert served.max() == cap if cap < 8 else served.max() <= cap


def test_without_a_cap_rows_pass_it() -> None:
    made = sampler()
    assert exposures([made.draw(ALL, step) for step in range(12)]).max() > 8


def test_tokens_change_with_the_epoch() -> None:
    made = sampler(max_exposure=3)
    first = [made.draw(ALL, step) for step in range(4)]
    made.set_epoch(1)
    second = [made.draw(ALL, step) for step in range(4)]
    assert set(first[0].ids.ravel()) != set(second[0].ids.ravel())


# --------------------------------------------------------------------------------------- sources, data sets, tensors


class Every:
    """A source of one's own: all rows, without scores."""

    name, fixed = "every", True

    def candidates(self, request: Request) -> Candidates:  # noqa: ARG002 - of the protocol
        return Candidates(np.arange(N_ROWS))


def test_a_source_of_ones_own() -> None:
    drawn = sampler(sources=[Every()], n_rows=N_ROWS, min_random=0.0, probabilities={"hard": 1.0}).draw(ALL, 0)
    assert (drawn.tiers == 0).all()
    check_identity(drawn)
    assert drawn.names == ("every",)


def test_given_candidates_come_first() -> None:
    """What the bank and the list both have counts as the bank's, with the bank's score."""
    bank = Candidates(torch.from_numpy(MINED.indices[:, :5]), torch.full((N_QUERIES, 5), 0.25), torch.ones(N_QUERIES))
    made = sampler(duplicates=None, groups=None, keys=None)
    drawn = made.draw(torch.arange(N_QUERIES), 3, given={"bank": bank})
    assert drawn.names == ("mined", "uniform", "bank")
    for i, ids in enumerate(drawn.ids):
        from_bank = np.isin(ids, MINED.indices[i, :5])
        np.testing.assert_array_equal(drawn.sources[i] == 2, from_bank)
        assert (drawn.scores[i][from_bank] == 0.25).all()
        assert (drawn.tiers[i][from_bank] == 1).all()
    assert (drawn.sources == 2).any()


def test_a_listed_row_that_was_also_sampled_counts_as_listed() -> None:
    source = UniformRows(N_ROWS, candidates=N_ROWS)  # all rows, every time
    drawn = sampler(sources=[source, MinedRows(MINED)], duplicates=None).draw(ALL, 0)
    for i, ids in enumerate(drawn.ids):
        np.testing.assert_array_equal(drawn.sources[i] == 1, np.isin(ids, MINED.indices[i]))


def test_tiers_without_a_slot_are_left_to_random_rows() -> None:
    source = UniformRows(N_ROWS, candidates=N_ROWS)
    made = sampler(sources=[MinedRows(MINED), source], probabilities={}, min_random=0.0, num_negatives=150)
    drawn = made.draw(ALL, 0)
    assert (drawn.sources[drawn.ids >= 0] == 1).all()
    assert any(np.isin(ids, MINED.indices[i]).any() for i, ids in enumerate(drawn.ids))


def test_uniform_rows_of_a_reservoir() -> None:
    ids = np.arange(0, N_ROWS, 3)
    drawn = sampler(sources=[UniformRows(N_ROWS, ids=ids)], probabilities={}).draw(ALL, 0)
    assert np.isin(drawn.ids, [*ids, -1]).all()


def test_anchors_that_were_not_mined_get_random_rows() -> None:
    some = negfast.mine(QUERIES, CORPUS, POSITIVES, num_negatives=5, anchors=[7, 3])
    drawn = sampler(sources=[MinedRows(some), UniformRows(N_ROWS)]).draw(ALL, 0)
    listed = (drawn.sources == 0).any(axis=1)
    assert np.flatnonzero(listed).tolist() == [3, 7]
    assert (drawn.ids >= 0).all()


def test_nothing_to_draw_from() -> None:
    empty = NegativeSampler([UniformRows(0)], num_negatives=2, probabilities={}, min_random=0.0, n_queries=3)
    assert empty.draw([0, 2], 0).ids.tolist() == [[-1, -1]] * 2
    assert empty.draw([], 0).ids.shape == (0, 2)
    none = NegativeSampler([], num_negatives=2, probabilities={"easy": 1.0}, min_random=0.0, n_queries=3, n_rows=4)
    assert none.draw([0], 0).ids.tolist() == [[-1, -1]]


def test_to_torch() -> None:
    drawn = sampler().draw(ALL, 0)
    tensors = drawn.to_torch()
    assert tensors.ids.dtype == torch.int64
    assert tensors.log_weight.data_ptr() == drawn.log_weight.ctypes.data
    assert drawn.to_torch("cpu").ids.equal(tensors.ids)


def test_a_data_set_draws() -> None:
    pairs = [(f"anchor {i}", f"text {i}") for i in range(N_QUERIES)]
    texts = [f"text {i}" for i in range(N_ROWS)]
    made = sampler()
    dataset = NegativesDataset(pairs, made, texts)
    expected = made.draw(ALL, 0)
    examples = dataset.__getitems__(list(range(N_QUERIES)))
    for i in (0, 7):
        assert examples[i].negatives == dataset[i].negatives == [f"text {row}" for row in expected.ids[i]]
        assert examples[i].log_weight is not None
        np.testing.assert_array_equal(examples[i].log_weight, expected.log_weight[i])
    batch = NegativesCollator()(examples)
    np.testing.assert_array_equal(batch.log_weight.numpy(), expected.log_weight)
    dataset.set_epoch(1)
    assert dataset.epoch == made.epoch == 1
    assert dataset[0].negatives != examples[0].negatives
    with pytest.raises(InvalidValueError, match="left out"):
        NegativesDataset(pairs, made, texts, num_negatives=3)
    with pytest.raises(InvalidValueError, match="300 rows"):
        NegativesDataset(pairs, made, texts[:-1])


# ----------------------------------------------------------------------------------------------------------- bad input


class Wrong:
    """A source that returns what it is told to."""

    name, fixed = "wrong", False

    def __init__(self, value: Any) -> None:
        self.value = value

    def candidates(self, request: Request) -> Any:  # noqa: ARG002 - of the protocol
        return self.value


LOW = Candidates([[1]], log_inclusion=[[0.5]])
BAD: list[tuple[Any, type[NegfastError], str]] = [
    (lambda: sampler(num_negatives=0), InvalidValueError, "num_negatives must be at least 1"),
    (lambda: sampler(num_negatives=2.0), InvalidTypeError, "num_negatives must be an integer"),
    (lambda: sampler(tiers=(0, 1)), InvalidTypeError, "tiers must be a negfast.Tiers"),
    (lambda: sampler(window=5), InvalidTypeError, "window must be a pair"),
    (lambda: sampler(window=(-1, 5)), InvalidValueError, "window[0] must be at least 0"),
    (lambda: sampler(window=(5, 5)), InvalidValueError, "window[1] must be at least 6"),
    (lambda: sampler(probabilities=[0.5]), InvalidTypeError, "probabilities must be a mapping"),
    (lambda: sampler(probabilities={"hardest": 1}), InvalidValueError, "probabilities must be for tiers among"),
    (lambda: sampler(probabilities={"hard": 0.7, "easy": 0.7}), InvalidValueError, "add up to at most 1, got 1.4"),
    (lambda: sampler(probabilities={"hard": -0.1}), InvalidValueError, "between 0 and 1"),
    (lambda: sampler(min_random=1.5), InvalidValueError, "min_random must be between 0 and 1"),
    (lambda: sampler(temperature=0), InvalidValueError, "temperature must be"),
    (lambda: sampler(max_exposure=0), InvalidValueError, "max_exposure must be at least 1"),
    (lambda: sampler(max_exposure=1), InvalidValueError, "max_exposure must be at least 2"),
    (lambda: sampler(usefulness_cap=0.5), InvalidValueError, "usefulness_cap must be between 1"),
    (lambda: sampler(usefulness_decay=2), InvalidValueError, "usefulness_decay"),
    (lambda: sampler(seed=-1), InvalidValueError, "seed must be at least 0"),
    (lambda: sampler(metric="l2"), InvalidValueError, "metric must be"),
    (lambda: sampler(exclude_self=1), InvalidTypeError, "exclude_self must be True or False"),
    (lambda: sampler(sources=MINED), InvalidTypeError, "sources must be a list"),
    (lambda: sampler(sources=[MINED]), InvalidTypeError, "wrap mined negatives as MinedRows"),
    (lambda: sampler(sources=[UniformRows(N_ROWS)] * 2), InvalidValueError, "different names"),
    (lambda: sampler(sources=[MinedRows(MINED), UniformRows(5)]), InvalidValueError, "n_rows must be one number"),
    (lambda: sampler(sources=[MinedRows(MINED)]), InvalidValueError, "add UniformRows"),
    (lambda: sampler(n_rows=5), InvalidValueError, "n_rows must be one number"),
    (lambda: sampler(n_queries=5), InvalidValueError, "n_queries must be at least 40"),
    (lambda: sampler(positives=[[0]] * 39), InvalidValueError, "n_queries must be at least 40"),
    (lambda: sampler(positives=[[N_ROWS]] * 40), RowIndexError, "positives must hold row numbers"),
    (lambda: sampler(groups=np.zeros(4)), InvalidTypeError, "groups must be a pair"),
    (lambda: sampler(keys=([0] * 40, [0])), InvalidValueError, "keys of the corpus must be one entry for each"),
    (lambda: sampler(duplicates=[0]), InvalidValueError, "duplicates must be one label for each"),
    (lambda: sampler(embeddings=QUERIES), InvalidTypeError, "embeddings must be a pair"),
    (lambda: sampler(embeddings=(QUERIES, QUERIES)), InvalidValueError, "embeddings of the corpus must have 300 rows"),
    (lambda: sampler().draw([40], 0), RowIndexError, "anchors must hold rows of the queries"),
    (lambda: sampler().draw([[1]], 0), InvalidValueError, "anchors must be of shape"),
    (lambda: sampler().draw([0.5], 0), InvalidTypeError, "anchors must be integers"),
    (lambda: sampler().draw([0], -1), InvalidValueError, "step must be at least 0"),
    (lambda: sampler().draw([0], 0, given=[1]), InvalidTypeError, "given must be a mapping"),
    (lambda: sampler().draw([0], 0, given={"mined": Candidates([1])}), InvalidValueError, "given must be a few names"),
    (lambda: sampler().draw([0], 0, given={"a": [1]}), InvalidTypeError, "candidates of a must be Candidates"),
    (
        lambda: sampler().draw([0], 0, given={"a": Candidates([[1]] * 2)}),
        InvalidValueError,
        "ids of a must be of shape",
    ),
    (lambda: sampler().draw([0], 0, given={"a": Candidates([[N_ROWS]])}), RowIndexError, "ids of a must hold row"),
    (lambda: sampler().draw([0], 0, given={"a": Candidates([[-2]])}), RowIndexError, "ids of a must hold row"),
    (
        lambda: sampler().draw([0], 0, given={"a": Candidates([[1]], [1.0])}),
        InvalidValueError,
        "scores of a must be of",
    ),
    (lambda: sampler().draw([0], 0, given={"a": LOW}), InvalidValueError, "log_inclusion of a must be finite"),
    (lambda: sampler(sources=[Wrong(3), UniformRows(N_ROWS)]), InvalidTypeError, "candidates of wrong must be"),
    (lambda: sampler().update([1, 2], [1.0]), InvalidValueError, "mass must be of shape"),
    (lambda: sampler().update([N_ROWS], [1.0]), RowIndexError, "ids must hold rows"),
    (lambda: sampler().update([1], [np.nan]), InvalidValueError, "mass must be finite"),
    (lambda: sampler().update([1], [-1.0]), InvalidValueError, "mass must be finite"),
    (lambda: sampler().set_epoch(-1), InvalidValueError, "epoch must be at least 0"),
    (lambda: sampler().load_state_dict(3), InvalidTypeError, "state must be a mapping"),
    (lambda: MinedRows(3), InvalidTypeError, "mined must be a MinedNegatives"),
    (lambda: UniformRows(-1), InvalidValueError, "n_rows must be at least 0"),
    (lambda: UniformRows(4, ids=[4]), RowIndexError, "ids must hold rows"),
    (lambda: UniformRows(4, candidates=0), InvalidValueError, "candidates must be at least 1"),
]


@pytest.mark.parametrize(("call", "error", "fragment"), BAD, ids=[fragment for *_, fragment in BAD])
def test_bad_input(call: Any, error: type[NegfastError], fragment: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert fragment in str(caught.value)
