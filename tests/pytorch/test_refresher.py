"""The refresher, led by loops of these tests: what it mines, when, and how it goes on."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast

pytest.importorskip("torch")

import torch
from torch import nn
from torch.utils.data import BatchSampler, SequentialSampler

from negfast.torch import (
    EpochSampler,
    HardBatchSampler,
    LiveRows,
    MinedRows,
    NegativeSampler,
    RankError,
    Refresher,
    UniformRows,
    as_tensors,
)
from negfast.torch.encoding import quietly
from negfast.torch.portable import as_arrays
from negfast.torch.refresh_event import RefreshEvent
from negfast.torch.state_files import read_state, write_state
from refresher_parts import CORPUS, POSITIVES, QUERIES, WIDTH, Model, refresher_of

LOOK = negfast.RefreshPolicy(max_drift=0.3)


def loop(refresher: Refresher, model: Model, steps: range, *, epoch_of: int = 5) -> Iterator[list[Any]]:
    """Yield what each step drew; batches of eight queries, five an epoch, two of them ahead of the loop."""
    for epoch in range(steps.start // epoch_of, -(-steps.stop // epoch_of)):
        refresher.begin_epoch(epoch, model, step=max(epoch * epoch_of, steps.start))
        batches = iter(refresher.batches(BatchSampler(SequentialSampler(range(40)), 8, True)))
        skipped = steps.start % epoch_of if epoch == steps.start // epoch_of else 0
        ahead = list(itertools.islice(batches, skipped + 2))[skipped:]
        for step in range(epoch * epoch_of + skipped, min((epoch + 1) * epoch_of, steps.stop)):
            batch = ahead.pop(0)
            ahead += list(itertools.islice(batches, 1))
            drawn = refresher.negatives.draw(batch, 0)
            refresher.negatives.update(drawn.ids, np.ones(drawn.ids.shape))
            model.step = step + 1
            refresher.step(step + 1, model)
            yield [batch, drawn.ids.tolist()]


def begun(refresher: Refresher, model: Model) -> Refresher:
    refresher.begin(model)
    return refresher


def test_lists_are_those_of_the_miner() -> None:
    model, refresher, miner = Model(), refresher_of(), negfast.Miner(num_negatives=WIDTH)
    event = refresher.begin(model)
    assert event is not None and event.refreshed and event.report is None and event.n_encoded == 100
    expected = miner.mine(*model.both(), POSITIVES)
    assert np.array_equal(refresher.mined.indices, expected.indices)
    assert refresher.begin(model) is None
    model.step = 3
    assert refresher.step(1, model) is None
    event = refresher.step(3, model)
    assert event is not None and event.report is not None and refresher.last is event
    after = miner.refresh(*model.both())
    assert np.array_equal(refresher.mined.indices, after.indices)
    assert event.n_changed == (after.indices != expected.indices).any(axis=1).sum() > 0
    assert refresher.policy.last_step == 3
    assert event.logs()["negfast/turnover"] == event.report.turnover
    assert set(event.seconds) == {"encode", "mine"}


def test_a_look_encodes_a_sample_and_says_what_the_miner_says() -> None:
    model = Model()
    refresher = begun(refresher_of(policy=LOOK, look_every=2, sample=20), model)
    model.step = 2
    before = model.encoded
    assert refresher.step(1, model) is None and model.encoded == before
    event = refresher.step(2, model)
    assert event is not None and not event.refreshed and event.n_encoded == model.encoded - before == 20 + 40
    assert event.staleness is not None and 0 < event.staleness.drift.mean < 0.3 and event.staleness.n_rows == 20
    assert event.logs()["negfast/staleness"] == event.staleness.drift.mean
    model.step = 20
    event = refresher.step(4, model)
    assert event is not None and event.refreshed and event.staleness.drift.mean > 0.3
    assert "mean drift" in event.why and event.n_encoded == 60 + 100


def test_other_steps_look_at_other_rows() -> None:
    seen: list[list[str]] = []

    def encode(texts: list[str]) -> Any:
        seen.append(texts)
        return Model()(texts)

    refresher = refresher_of(policy=LOOK, look_every=1, sample=10)
    refresher.begin(encode)
    refresher.step(1, encode), refresher.step(2, encode)
    first, second = (texts for texts in seen[2:] if texts[0][0] == "d")
    assert len(set(first)) == len(set(second)) == 10 and first != second


def test_an_epoch_begins_with_a_refresh() -> None:
    model = Model()
    refresher = begun(refresher_of(policy=None), model)
    assert refresher.begin_epoch(0, model) is None
    model.step = 5
    assert refresher.step(5, model) is None
    refresher.batches(BatchSampler(SequentialSampler(range(40)), 8, True))
    event = refresher.begin_epoch(1, model, step=5)
    assert event is not None and event.refreshed and event.why == "an epoch begins"
    assert np.array_equal(lists_of(refresher), refresher.mined.indices), "at once, as nothing is on its way"
    assert refresher.begin_epoch(1, model, step=5) is None
    assert refresher.negatives.epoch == 1


def _request() -> Any:
    from negfast.torch import Request

    return Request(np.arange(40), 0, 0, 0, 4, 40)


def test_epochs_begin_with_a_look_where_a_policy_says_so() -> None:
    model = Model()
    refresher = begun(refresher_of(policy=LOOK, when="epoch", look_every=1), model)
    refresher.begin_epoch(0, model)
    model.step = 1
    event = refresher.begin_epoch(1, model, step=1)
    assert event is not None and not event.refreshed and event.staleness is not None
    model.step = 20
    event = refresher.begin_epoch(2, model, step=2)
    assert event is not None and event.refreshed


def test_a_cap_on_exposure_holds_with_lists_that_change_between_epochs() -> None:
    lists, model = LiveRows.empty(40, 60, WIDTH), Model()
    shares: dict[str, Any] = {"probabilities": {"hard": 0.5, "easy": 0.3}, "min_random": 0.2}
    sampler = NegativeSampler(
        [lists, UniformRows(60)], num_negatives=3, positives=POSITIVES, max_exposure=4, seed=2, **shares
    )
    sampler.draw([0], 0)  # tokens of lists that there are not yet
    miner = negfast.Miner(num_negatives=WIDTH)
    refresher = begun(Refresher(QUERIES, CORPUS, miner, sampler, positives=POSITIVES), model)
    for epoch in range(3):
        model.step = 10 * epoch
        refresher.begin_epoch(epoch, model, step=epoch)
        ids = sampler.draw(np.arange(40), 0).ids
        assert np.bincount(ids[ids >= 0]).max() <= 4
        assert (sampler.draw(np.arange(40), 0).sources == 0).any(), "lists do serve"


def test_a_curriculum_asks_and_is_told() -> None:
    curriculum = negfast.AdaptiveCurriculum(
        negfast.Curriculum.random_first(10, hard=0.3, semi_hard=0.2, easy=0.2, final_temperature=0.05),
        refresh=negfast.RefreshPolicy(max_drift=0.1),
    )
    model = Model()
    refresher = begun(refresher_of(policy=None, curriculum=curriculum), model)
    assert refresher.step(1, model) is None
    curriculum.observe(1, negfast.Signals(drift=0.5))
    event = refresher.step(2, model)
    assert event is not None and event.why == "the curriculum asks for it" and not curriculum.refresh_due
    assert refresher.step(3, model) is None


def test_a_second_training_begins_anew() -> None:
    model, refresher = Model(0.3), refresher_of()
    for _ in range(2):
        refresher.begin(model)
        assert refresher.epoch is None and refresher.policy.last_step == 0
        firsts = refresher.mined
        events = []
        refresher.batches(BatchSampler(SequentialSampler(range(40)), 8, True))
        refresher.begin_epoch(0, model)
        assert np.array_equal(lists_of(refresher), firsts.indices), "no anchor keeps a list of the training before"
        for step in range(1, 6):
            model.step += 1
            events.append(refresher.step(step, model))
        assert [event is not None for event in events] == [False, False, True, False, False]


def test_a_run_that_goes_on_is_not_begun_anew_but_one_after_it_is() -> None:
    model, refresher = Model(), begun(refresher_of(), Model())
    refresher.step(7, model)
    refresher.begin_epoch(1, model)
    for then in (lambda _: None, lambda again: again.begin_epoch(2, model, step=8)):
        again = refresher_of()
        again.load_state_dict(refresher.state_dict())
        then(again)
        gone_on = again.epoch == 1
        assert again.begin(model) is None
        assert (again.epoch, again.policy.last_step) == ((1, 7) if gone_on else (None, 0))


def test_a_save_that_was_broken_off_leaves_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refresher = begun(refresher_of(), Model())
    refresher.save(tmp_path)
    monkeypatch.setattr(negfast.Miner, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        refresher.save(tmp_path)
    with pytest.raises(OSError):
        refresher_of().load(tmp_path)


def test_lists_are_there_at_once_where_no_batch_was_dealt_out() -> None:
    model, refresher = Model(0.3), refresher_of()
    hard = HardBatchSampler(40, 8, seed=1)
    batches = refresher.batches(hard)
    refresher.begin_epoch(0, model)
    refresher.begin(model)  # after the epoch has begun
    assert refresher.epoch == 0 and np.array_equal(lists_of(refresher), refresher.mined.indices)
    model.step = 3
    refresher.refresh(0, model)
    firsts = refresher.mined
    assert np.array_equal(lists_of(refresher), firsts.indices)
    next(iter(batches))
    model.step = 6
    refresher.refresh(0, model)
    dealt = refresher.negatives.sources[0].state_dict()["dealt"]
    assert len(dealt) == 8 and np.array_equal(lists_of(refresher)[dealt], firsts.indices[dealt])
    assert not np.array_equal(firsts.indices[dealt], refresher.mined.indices[dealt])


def test_batches_that_say_nothing_are_warned_of() -> None:
    model, refresher = Model(0.3), refresher_of()
    refresher.begin(model)
    refresher.begin_epoch(0, model)
    firsts, model.step = refresher.mined, 3
    with pytest.warns(UserWarning, match=r"train on what refresher.batches\(...\) returns"):
        refresher.step(3, model)
    assert np.array_equal(lists_of(refresher), firsts.indices)
    refresher.begin_epoch(1, model, step=3)
    assert np.array_equal(lists_of(refresher), refresher.mined.indices)


def lists_of(refresher: Refresher) -> Any:
    return refresher.negatives.sources[0].candidates(_request()).ids


def test_one_text_list_for_both_sides_is_encoded_once() -> None:
    texts = [f"d{i}" for i in range(30)]
    lists = LiveRows.empty(30, 30, 4)
    sampler = NegativeSampler([lists, UniformRows(30)], num_negatives=2, probabilities={}, min_random=1)
    refresher, model = Refresher(texts, texts, negfast.Miner(num_negatives=4), sampler, positives=[[]] * 30), Model()
    refresher.begin(model)
    assert model.encoded == 30


@pytest.mark.parametrize("stop", [2, 3, 4, 5, 7, 9, 10])
def test_a_run_that_goes_on_draws_as_one_without_a_stop(stop: int, tmp_path: Path) -> None:
    whole = list(loop(begun(refresher_of(), Model()), Model(), range(15)))
    model = Model()
    refresher = begun(refresher_of(), model)
    assert list(loop(refresher, model, range(stop))) == whole[:stop]
    refresher.save(tmp_path)
    states = [None, as_arrays(as_tensors(refresher.state_dict()))]
    for state in states:
        model, again = Model(), refresher_of()
        model.step = stop
        again.load(tmp_path) if state is None else again.load_state_dict(state)
        assert list(loop(again, model, range(stop, 15))) == whole[stop:]
    still = list(loop(begun(refresher_of(policy=negfast.RefreshPolicy(every=99)), Model()), Model(), range(15)))
    assert still[:5] == whole[:5] and still[5:] != whole[5:], "lists do change what is drawn"


def hard_parts() -> tuple[Refresher, HardBatchSampler]:
    lists = LiveRows.empty(40, 40, WIDTH)
    sampler = NegativeSampler([lists, UniformRows(40)], num_negatives=2, probabilities={}, min_random=1)
    settings: dict[str, Any] = {"positives": POSITIVES, "policy": negfast.RefreshPolicy(every=2)}
    refresher = Refresher(QUERIES, CORPUS[:40], negfast.Miner(num_negatives=WIDTH), sampler, **settings)
    return refresher, HardBatchSampler(40, 7, community=4, seed=1)  # five rows have no place in an epoch


@pytest.mark.parametrize("stop", [2, 4], ids=["within", "between"])
def test_hard_batches_follow_the_lists_and_are_resumed(stop: int) -> None:
    model = Model(0.3)
    refresher, hard = hard_parts()
    refresher.begin(model)
    firsts = refresher.mined
    batches = refresher.batches(hard)
    refresher.begin_epoch(0, model)
    seen = []
    for step, batch in enumerate(batches):
        seen.append(batch)
        model.step = step + 1
        refresher.consumed()
        refresher.step(step + 1, model)
        if step == stop:
            state = refresher.state_dict()
    assert refresher.at_end
    first = HardBatchSampler(40, 7, community=4, seed=1, mined=firsts)
    assert seen == list(first), "composed of the lists that the epoch was begun with"
    refresher.begin_epoch(1, model, step=5)
    following = list(batches)
    first.set_epoch(1)
    first.update(refresher.mined)
    assert following == list(first)
    again, hard = hard_parts()
    again.load_state_dict(state)
    assert again.at_end == (stop == 4), "before there are batches"
    batches = again.batches(hard)
    assert again.at_end == (stop == 4)
    third, hard = hard_parts()
    third.load_state_dict(again.state_dict())
    assert list(third.batches(hard)) == seen[stop + 1 :], "the state of a run that went on from one"
    rest = []
    for step, batch in enumerate(
        batches if stop == 2 else [], start=stop + 1
    ):  # nobody looks into an epoch that is over
        rest.append(batch)
        model.step = step + 1
        again.consumed()
        again.step(step + 1, model)
    assert rest == seen[stop + 1 :]
    again.begin_epoch(1, model, step=5)
    assert list(batches) == following


@pytest.mark.parametrize("late", ["begin", "batches"])
def test_hard_batches_are_of_the_lists_and_the_epoch_in_any_order(late: str) -> None:
    (refresher, hard), model = hard_parts(), Model()
    steps = {
        "begin": lambda: refresher.begin(model),
        "batches": lambda: refresher.batches(hard),
        "epoch": lambda: refresher.begin_epoch(2, model),
    }
    for name in sorted(steps, key=lambda name: name == late):
        steps[name]()
    expected = HardBatchSampler(40, 7, community=4, seed=1, mined=refresher.mined)
    expected.set_epoch(2)
    assert list(hard) == list(expected)


@pytest.mark.parametrize("follow", [True, False])
def test_batches_follow_only_where_they_are_asked_to_and_can(follow: bool) -> None:
    model, hard = Model(), HardBatchSampler(40, 8, community=4, seed=1)
    refresher = begun(refresher_of(), model)  # its corpus has more rows than there are pairs
    refresher.begin_epoch(0, model)
    refresher.batches(hard, follow=follow)
    assert list(hard) == list(HardBatchSampler(40, 8, community=4, seed=1))
    again = refresher_of()
    again.batches(HardBatchSampler(40, 8, community=4, seed=1), follow=follow)
    again.load_state_dict(refresher.state_dict())


def test_trainers_that_skip_batches_start_an_epoch_from_its_beginning() -> None:
    model = Model()
    refresher = begun(refresher_of(), model)
    refresher.skips_batches = True
    sampler = HardBatchSampler(40, 8, seed=1)
    batches = refresher.batches(sampler)
    refresher.begin_epoch(0, model)
    first = list(itertools.islice(batches, 3))
    for _ in range(5):
        refresher.consumed()
    assert not refresher.at_end and not refresher.state_dict()["batches"]["at_end"], "the trainer knows where it is"
    again = refresher_of()
    again.skips_batches = True
    again.load_state_dict(refresher.state_dict())
    assert list(again.batches(HardBatchSampler(40, 8, seed=1)))[:3] == first


def test_the_epoch_reaches_a_sampler_of_rows() -> None:
    refresher, sampler = begun(refresher_of(), Model()), EpochSampler(40, seed=1)
    refresher.batches(BatchSampler(sampler, 8, True))
    refresher.begin_epoch(2, Model())
    assert sampler.epoch == 2 and not refresher.at_end


def test_states_of_others_are_refused(tmp_path: Path) -> None:
    refresher = begun(refresher_of(), Model())
    state = refresher.state_dict()
    for change in (
        {"version": 0},
        {"n_corpus": 7},
        {"when": "epoch"},
        {"policy": None},
        {"lists": None},
        {"negatives": []},
        {"negatives": None},
        {"epoch": -1},
        {"miner": {}},
        {"batches": 3},
        {"batches": {"stand": {}}},
        {"composed": {}},
    ):
        with pytest.raises(negfast.StateError):
            refresher_of().load_state_dict({**state, **change})
    with pytest.raises(negfast.InvalidTypeError, match="state must be a mapping"):
        refresher_of().load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(OSError):
        refresher_of().load(tmp_path / "nowhere")
    refresher.save(tmp_path)
    damaged = (tmp_path / "state.safetensors").read_bytes()
    (tmp_path / "state.safetensors").write_bytes(damaged[: len(damaged) // 2])
    with pytest.raises(negfast.StateError):
        refresher_of().load(tmp_path)


def test_nested_states_as_files(tmp_path: Path) -> None:
    state = {"a": np.arange(3), "b": [1.5, None, {"c": np.zeros((2, 0), np.float32), "d": "text"}], "e": (1, 2)}
    write_state(tmp_path / "file", "Kind", state)
    read = read_state(tmp_path / "file", "Kind")
    assert read["a"].tolist() == [0, 1, 2] and read["b"][:2] == [1.5, None] and read["e"] == [1, 2]
    assert read["b"][2]["c"].shape == (2, 0) and read["b"][2]["d"] == "text"
    with pytest.raises(negfast.StateError, match="must hold the state of a Other"):
        read_state(tmp_path / "file", "Other")


def test_a_model_is_as_it_was_after_it_encoded() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    model[1].eval()
    before = torch.random.get_rng_state()

    def encode(texts: list[str]) -> Any:
        assert not model.training and not torch.is_grad_enabled()
        model.train()  # what encodes may do as it likes
        torch.rand(4)
        raise ZeroDivisionError(f"{len(texts)} texts")

    with pytest.raises(ZeroDivisionError):
        quietly(model, encode)(QUERIES)  # type: ignore[operator]
    assert [module.training for module in model.modules()] == [True, True, False, False]
    assert torch.equal(before, torch.random.get_rng_state()) and torch.is_grad_enabled()


def test_events_say_what_was_done() -> None:
    event = RefreshEvent(step=3, refreshed=False, why="it is early", n_encoded=5)
    assert str(event) == "step 3: no refresh, it is early"
    assert event.logs() == {"negfast/refreshed": 0.0, "negfast/encoded": 5.0}
    assert str(RefreshEvent(step=3, refreshed=True, why="asked for", n_changed=2)).endswith(
        "2 lists changed, asked for"
    )


def test_a_failed_refresh_changes_nothing() -> None:
    model = Model()
    refresher = begun(refresher_of(), model)
    before = refresher.mined

    def broken(texts: list[str]) -> Any:
        return np.full((len(texts), 8), np.nan, np.float32)

    with pytest.raises(negfast.InvalidValueError):
        refresher.step(3, broken)
    assert refresher.mined is before and refresher.policy.last_step == 0
    assert refresher.step(3, model).refreshed
    assert issubclass(RankError, negfast.NegfastError)


MINED = MinedRows(negfast.mine(*Model().both(), POSITIVES, num_negatives=WIDTH))
OTHER = NegativeSampler([MINED, UniformRows(60)], num_negatives=2, probabilities={}, min_random=1)
CAPPED: dict[str, Any] = {"num_negatives": 2, "probabilities": {"easy": 0.5}, "min_random": 0.5, "max_exposure": 9}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"queries": "text"}, negfast.InvalidTypeError, "queries must be a list of texts"),
        ({"queries": []}, negfast.InvalidValueError, "queries must be at least one text"),
        ({"corpus": [*CORPUS[:-1], 3]}, negfast.InvalidTypeError, r"corpus\[59\] must be a str"),
        ({"corpus": CORPUS[:-1]}, negfast.InvalidValueError, "corpus must be the 60 texts"),
        ({"miner": None}, negfast.InvalidTypeError, "miner must be a negfast.Miner"),
        ({"miner": negfast.Miner(num_negatives=3)}, negfast.InvalidValueError, "miner must mine the 6 negatives"),
        ({"negatives": None}, negfast.InvalidTypeError, "negatives must be a NegativeSampler"),
        ({"negatives": OTHER}, negfast.InvalidValueError, "negatives must have one source that is LiveRows"),
        ({"policy": 3}, negfast.InvalidTypeError, "policy must be a negfast.RefreshPolicy"),
        ({"policy": None, "when": "step"}, negfast.InvalidValueError, "policy must be given where"),
        ({"policy": negfast.RefreshPolicy(easy_share=0.5)}, negfast.InvalidValueError, "policy must have one of every"),
        ({"when": "batch"}, negfast.InvalidValueError, "when must be"),
        ({"look_every": 0}, negfast.InvalidValueError, "look_every must be"),
        ({"sample": 0}, negfast.InvalidValueError, "sample must be"),
        ({"chunk": "all"}, negfast.InvalidTypeError, "chunk must be"),
        ({"seed": -1}, negfast.InvalidValueError, "seed must be"),
        ({"curriculum": 1}, negfast.InvalidTypeError, "curriculum must be a negfast.AdaptiveCurriculum"),
    ],
)
def test_bad_settings(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    made = refresher_of()
    given = {"queries": QUERIES, "corpus": CORPUS, "miner": made.miner, "negatives": made.negatives}
    more = {name: value for name, value in settings.items() if name not in given}
    arguments = [settings.get(name, value) for name, value in given.items()]
    with pytest.raises(error, match=message):
        Refresher(*arguments, **{"policy": negfast.RefreshPolicy(every=3)} | more)


def test_a_cap_on_exposure_needs_epochs() -> None:
    sampler = NegativeSampler([LiveRows.empty(40, 60, WIDTH), UniformRows(60)], positives=POSITIVES, **CAPPED)
    with pytest.raises(negfast.InvalidValueError, match="when must be 'epoch' with a cap on exposure"):
        Refresher(QUERIES, CORPUS, negfast.Miner(num_negatives=WIDTH), sampler, policy=LOOK)


@pytest.mark.parametrize(
    ("encode", "error", "message"),
    [
        (None, negfast.InvalidTypeError, "encode must be a function"),
        ((len,), negfast.InvalidTypeError, "encode must be a function"),
        (lambda texts: texts, negfast.InvalidTypeError, "encode must return an array or a tensor, got list"),
        (lambda _: np.ones((2, 8), np.float32), negfast.InvalidValueError, "a row for each of 40 texts"),
        (lambda texts: torch.ones(len(texts)), negfast.InvalidValueError, "a row for each of 40 texts"),
    ],
)
def test_bad_encoders(encode: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        refresher_of().begin(encode)


def test_rows_of_other_dims_are_refused() -> None:
    dims = itertools.count(8)
    with pytest.raises(negfast.InvalidValueError, match=r"rows of one dim for all texts, got \[8, 9"):
        refresher_of(chunk=7).begin(lambda texts: np.ones((len(texts), next(dims)), np.float32))


def test_positives_are_asked_for() -> None:
    with pytest.raises(negfast.InvalidValueError, match="positives must be given, as the miner has not mined yet"):
        refresher_of(positives=None).begin(Model())
    with pytest.raises(negfast.InvalidValueError, match="epoch must be"):
        refresher_of().begin_epoch(-1, Model())
    with pytest.raises(negfast.InvalidValueError, match="step must be"):
        refresher_of().step(-1, Model())
