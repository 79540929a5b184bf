"""`all_reduced`: means over two gloo ranks, which then decide alike to the bit."""

import json
import math
from typing import Any

import pytest

pytest.importorskip("torch")

import all_reducing
import negfast
from children import output_of
from negfast import AdaptiveCurriculum, Curriculum, MovingTiers, Signals
from negfast.torch import all_reduced
from negfast.torch.all_reduce import _plain, _signals


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = json.loads(output_of(all_reducing.__file__, deadline=90.0))
    return written


def test_ranks_end_in_one_state(ranks: list[dict[str, Any]]) -> None:
    one, other = (rank["state"] for rank in ranks)
    assert one == other
    causes = {decision["cause"] for decision in one["log"]["kept"]}
    assert causes >= {"easy", "not_finite", "geometry"}


def test_that_is_the_state_of_one_process_that_sees_the_means(ranks: list[dict[str, Any]]) -> None:
    adaptive = AdaptiveCurriculum(Curriculum(hard=0.2, semi_hard=0.4, easy=0.2), moving_tiers=MovingTiers())
    alone = AdaptiveCurriculum(adaptive.curriculum, moving_tiers=MovingTiers())
    for step in range(all_reducing.N_STEPS):
        both = [all_reducing.measured(rank, step) for rank in range(2)]
        adaptive.observe(step, Signals.mean(both))
        alone.observe(step, both[0])
    assert json.loads(json.dumps(adaptive.state_dict())) == ranks[0]["state"]
    assert alone.state_dict() != adaptive.state_dict()


def test_means_are_over_ranks_that_measured(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["one"] == Signals(loss=1.5, drift=0.5).to_dict()


def test_all_ranks_refuse_quantiles_of_other_levels(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["refused"].startswith("hardness_quantiles must be as many on all ranks, got [1, 2]")


def test_a_rank_outside_of_the_group_is_refused(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["outside"] == "Signals(loss=0.0)"
    assert ranks[1]["outside"].startswith("group must be one that this rank is in, got one without rank 1")


def test_a_single_process_keeps_its_signals() -> None:
    signals = Signals(loss=math.pi, hardness_quantiles=(0.1, 0.2))
    assert all_reduced(signals) is signals
    with pytest.raises(negfast.InvalidTypeError, match=r"signals must be a negfast\.Signals, got float"):
        all_reduced(0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "signals",
    [
        Signals(),
        Signals(loss=0.0),
        Signals(drift=-0.0, spread=math.inf),
        Signals(loss=1 / 3, hardness_quantiles=(-0.1, 0.0)),
    ],
)
def test_numbers_travel_unchanged(signals: Signals) -> None:
    assert _signals(_plain(signals, 2)) == signals
