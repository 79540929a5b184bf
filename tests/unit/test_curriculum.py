"""`Curriculum` and `Stage`: what is in force when, plain forms, pictures, and what is refused."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import negfast
from negfast import Curriculum, Stage, Tiers, schedule
from negfast.schedule import Linear, Piecewise, Steps
from negfast.stage import between

Type, Value, State = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.StateError
FULL = Curriculum(
    temperature=schedule.Cosine(0.07, 0.02, steps=100),
    relative_margin=Linear(0.1, 0.05, steps=80),
    hardness_strength=schedule.Exponential(1.0, 5.0, steps=50),
    hard=Linear(0.0, 0.4, steps=100),
    semi_hard=0.2,
    easy=Linear(0.4, 0.0, steps=100),
    min_random=0.25,
    range_min=Linear(50, 10, steps=100),
    range_max=Steps((40,), (200, 100)),
    tiers=Tiers(0.0, -0.1),
)
STAGE: dict[str, Any] = {
    "temperature": 0.05,
    "relative_margin": None,
    "hardness_strength": 0.0,
    "probabilities": {"hard": 0.5},
    "min_random": 0.0,
    "range_min": 0,
    "range_max": None,
    "tiers": Tiers(),
}


def test_neutral_by_default() -> None:
    assert Curriculum().at(123) == Stage(**{**STAGE, "probabilities": {}})
    assert Curriculum().knots == (0,)


def test_every_quantity_at_a_step() -> None:
    stage = FULL.at(40)
    assert stage.temperature == FULL.temperature(40)  # type: ignore[operator]
    assert stage.relative_margin == pytest.approx(0.075)
    assert stage.hardness_strength == pytest.approx(5.0**0.8)
    assert stage.probabilities == pytest.approx({"hard": 0.16, "semi_hard": 0.2, "easy": 0.24})
    assert (stage.min_random, stage.range_min, stage.range_max, stage.tiers) == (0.25, 34, 100, Tiers(0.0, -0.1))
    assert stage.shares == pytest.approx({"hard": 0.12, "semi_hard": 0.15, "easy": 0.18, "random": 0.55})
    assert FULL.knots == (0, 39, 40, 50, 80, 100)


def test_ranks_are_rounded() -> None:
    window = Curriculum(range_min=Piecewise([(0, 0.0), (10, 10.0)]), range_max=Piecewise([(0, 1.0), (10, 11.0)]))
    halves = replace(window, range_min=window.range_min + 0.5, range_max=window.range_max + 0.5)  # type: ignore[operator]
    for step in range(11):
        assert (window.at(step).range_min, window.at(step).range_max) == (step, step + 1)
        assert (halves.at(step).range_min, halves.at(step).range_max) == (step + 1, step + 2)
    assert type(FULL.at(1).range_min) is int


def test_rounding_closes_no_window() -> None:
    narrow = Curriculum(range_min=Linear(0.4, 1.4, steps=10), range_max=Linear(0.6, 1.6, steps=10))
    windows = [(narrow.at(step).range_min, narrow.at(step).range_max) for step in range(11)]
    assert windows == [(0, 1)] + [(1, 2)] * 10
    with pytest.raises(Value, match="range_max must be above range_min = 1, got 1"):
        Curriculum(range_min=0.6, range_max=0.6)


def test_a_stage_is_a_value() -> None:
    stage = FULL.at(40)
    assert stage == FULL.at(40) and hash(stage) == hash(FULL.at(40)) and stage != FULL.at(41)
    assert pickle.loads(pickle.dumps(stage)) == stage  # noqa: S301
    plain = json.loads(json.dumps(stage.to_dict()))
    assert Stage(**{**plain, "tiers": Tiers(**plain["tiers"])}) == stage
    with pytest.raises(AttributeError):
        stage.temperature = 1.0  # type: ignore[misc]


def test_plain_forms() -> None:
    for curriculum in (Curriculum(), FULL, Curriculum.random_first(500)):
        plain = json.loads(json.dumps(curriculum.to_dict(), allow_nan=False))
        again = Curriculum.from_dict(plain)
        assert again == curriculum and again.fingerprint == curriculum.fingerprint
        assert pickle.loads(pickle.dumps(curriculum)) == curriculum  # noqa: S301
    assert Curriculum.from_dict({"format": 1, "hard": 0.5}) == Curriculum(hard=0.5)
    assert len({Curriculum().fingerprint, FULL.fingerprint, Curriculum(temperature=0.051).fingerprint}) == 3


def test_pinned_fingerprint() -> None:
    """It names settings in saved states, so that it must not change between versions without a new format."""
    assert Curriculum().fingerprint == "f7cc2cb7e6dd030e31634649ea480489"


def test_state_is_only_a_check() -> None:
    state = json.loads(json.dumps(FULL.state_dict()))
    curriculum = Curriculum.from_dict(FULL.to_dict())
    curriculum.load_state_dict(state)
    other = replace(FULL, semi_hard=0.1)
    with pytest.raises(State, match=r"semi_hard of the state must be .* as of this curriculum"):
        other.load_state_dict(state)
    with pytest.raises(State, match="format of the state must be 1"):
        FULL.load_state_dict({**state, "format": 2})
    with pytest.raises(Type, match="state must be a mapping, got list"):
        FULL.load_state_dict([])  # type: ignore[arg-type]


def test_what_is_wrong_at_a_knot_is_refused_at_once() -> None:
    up, down = Linear(0.0, 0.8, steps=10), Linear(0.8, 0.0, steps=10)
    Curriculum(hard=up, easy=down)  # 0.8 together, at every step
    with pytest.raises(Value, match=r"at step 10, hard, semi_hard and easy must add up to at most 1, got 1\.6"):
        Curriculum(hard=up, easy=Linear(0.0, 0.8, steps=10))
    with pytest.raises(Value, match=r"at step 5, easy must be between 0 and 1, got 1\.2"):
        Curriculum(easy=Piecewise([(0, 0.0), (5, 1.2), (9, 0.0)]))
    with pytest.raises(Value, match=r"at step 9, temperature must be at least 1e-06, got 0\.0"):
        Curriculum(temperature=Linear(0.1, 0.0, steps=9))
    with pytest.raises(Value, match="at step 20, range_max must be above range_min = 50, got 50"):
        Curriculum(range_min=Linear(0, 50, steps=20), range_max=50)


def test_what_is_wrong_between_knots_is_refused_where_it_is() -> None:
    arch = Linear(0.0, 3.0, steps=10) * Linear(1.0, 0.0, steps=10)  # 0 at both ends, 0.75 in the middle
    curriculum = Curriculum(hard=arch, easy=0.5)
    assert curriculum.at(0).probabilities["hard"] == curriculum.at(10).probabilities["hard"] == 0.0
    with pytest.raises(Value, match=r"at step 5, hard, semi_hard and easy must add up to at most 1, got 1\.25"):
        curriculum.at(5)


def test_rounding_does_not_refuse_shares_that_fill_everything() -> None:
    thirds = Curriculum(hard=Linear(0.0, 0.7, steps=7), semi_hard=0.2, easy=Linear(0.8, 0.1, steps=7))
    for step in range(9):
        assert thirds.at(step).shares["random"] == pytest.approx(0.0, abs=1e-12)


def test_random_first() -> None:
    curriculum = Curriculum.random_first(1000, warmup=0.2, temperature=0.07)
    assert curriculum.at(199).shares["random"] == 1.0
    assert curriculum.at(0).temperature == 0.07 and curriculum.at(1000).temperature == 0.02
    assert curriculum.at(600).probabilities == {"hard": 0.2, "semi_hard": 0.4, "easy": 0.2}
    assert 0.0 < curriculum.at(400).probabilities["hard"] < 0.2
    assert Curriculum.random_first(10).at(10).probabilities["hard"] == 0.2


def test_harder_and_easier() -> None:
    plan = Curriculum(hard=0.2, semi_hard=0.4, easy=0.2, min_random=0.1)
    harder, easier = plan.harder().at(0), plan.easier().at(0)
    assert harder.probabilities == pytest.approx({"hard": 0.4, "semi_hard": 0.3, "easy": 0.1})
    assert easier.probabilities == pytest.approx({"hard": 0.1, "semi_hard": 0.3, "easy": 0.3})
    assert (harder.temperature, easier.temperature) == pytest.approx((0.035, 0.07))
    assert plan.harder(0.0, temperature=1.0).at(0) == plan.at(0) == plan.easier(0.0, temperature=1.0).at(0)
    assert plan.easier(1.0).at(0).probabilities == pytest.approx({"hard": 0.0, "semi_hard": 0.2, "easy": 0.4})
    json.dumps(FULL.harder().to_dict())


shares = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).map(lambda v: [x / max(sum(v), 1.0) for x in v])


@given(shares, st.floats(0.0, 1.0))
def test_both_ends_of_any_shares_are_legal(parts: list[float], amount: float) -> None:
    plan = Curriculum(hard=parts[0], semi_hard=parts[1], easy=parts[2])
    total = sum(parts[:3])
    assert sum(plan.harder(amount).at(0).probabilities.values()) == pytest.approx(total)
    assert sum(plan.easier(amount).at(0).probabilities.values()) <= total + 1e-12


ends = st.builds(
    lambda parts, t, low, width, strength, margin: Stage(
        **{
            **STAGE,
            "probabilities": dict(zip(("hard", "semi_hard", "easy"), parts, strict=False)),
            "temperature": t,
            "range_min": low,
            "range_max": low + width,
            "hardness_strength": strength,
            "relative_margin": margin,
        }
    ),
    shares,
    st.floats(1e-4, 10.0),
    st.integers(0, 50),
    st.integers(1, 50),
    st.floats(0.0, 10.0),
    st.floats(0.0, 1.0),
)


@given(ends, ends, st.floats(0.0, 1.0))
def test_what_lies_between_two_stages_is_a_stage_between_them(one: Stage, other: Stage, share: float) -> None:
    mixed = between(one, other, share)
    for name in ("temperature", "relative_margin", "hardness_strength", "range_min", "range_max"):
        low, high = sorted((getattr(one, name), getattr(other, name)))
        assert low * (1 - 1e-12) <= getattr(mixed, name) <= high * (1 + 1e-12), name
    for name, value in mixed.probabilities.items():
        assert value == pytest.approx((1 - share) * one.probabilities[name] + share * other.probabilities[name])


def test_both_ends_of_the_way_are_exact() -> None:
    one, other = FULL.at(0), FULL.at(100)
    assert between(one, other, 0.0) == one and between(one, other, 1.0) == other
    assert between(one, other, 0.5).temperature == pytest.approx((0.07 * 0.02) ** 0.5)


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Curriculum(temperature="x"), Type, "temperature must be a number or a schedule, got str"),  # type: ignore[arg-type]
    (lambda: Curriculum(temperature=None), Type, "temperature must be a number or a schedule, got NoneType"),  # type: ignore[arg-type]
    (lambda: Curriculum(temperature=0.0), Value, "at step 0, temperature must be at least 1e-06, got 0.0"),
    (lambda: Curriculum(hardness_strength=-1.0), Value, "at step 0, hardness_strength must be at least 0, got -1.0"),
    (lambda: Curriculum(relative_margin=-0.1), Value, "at step 0, relative_margin must be at least 0"),
    (lambda: Curriculum(hard=1.1), Value, "at step 0, hard must be between 0 and 1, got 1.1"),
    (lambda: Curriculum(min_random=-0.1), Value, "at step 0, min_random must be between 0 and 1, got -0.1"),
    (lambda: Curriculum(range_min=-1), Value, "at step 0, range_min must be at least 0, got -1"),
    (lambda: Curriculum(range_max=0), Value, "at step 0, range_max must be at least 1, got 0"),
    (lambda: Curriculum(tiers=(0.0, 1.0)), Type, "tiers must be a negfast.Tiers, got tuple"),  # type: ignore[arg-type]
    (lambda: FULL.at(-1), Value, "step must be at least 0, got -1"),
    (lambda: FULL.at(0.5), Type, "step must be an integer"),  # type: ignore[arg-type]
    (lambda: Curriculum.from_dict([]), Type, "a curriculum must be a mapping, got list"),  # type: ignore[arg-type]
    (lambda: Curriculum.from_dict({}), State, '"format" of a curriculum must be 1, got None'),
    (lambda: Curriculum.from_dict({"format": True}), State, '"format" of a curriculum must be 1, got True'),
    (lambda: Curriculum.from_dict({"format": 1, "heat": 1}), Value, "got 'heat'; correct their names"),
    (lambda: Curriculum.from_dict({"format": 1, "hard": None}), Type, "must be a number or a schedule, got NoneType"),
    (lambda: Curriculum.random_first(5), Value, "steps must be at least 10, got 5"),
    (lambda: Curriculum.random_first(100, warmup=2.0), Value, "warmup must be between 0 and 0.9, got 2.0"),
    (lambda: FULL.harder(2.0), Value, "amount must be between 0 and 1, got 2.0"),
    (lambda: FULL.easier(0.5, temperature=0.0), Value, "temperature must be above 0, got 0.0"),
    (lambda: Stage(**{**STAGE, "probabilities": 0.5}), Type, "probabilities must be a mapping of tiers to numbers"),
    (lambda: Stage(**{**STAGE, "probabilities": {"odd": 1}}), Value, "probabilities must be for tiers among"),
    (lambda: Stage(**{**STAGE, "range_max": 1.5}), Type, "range_max must be an integer"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_a_picture_has_a_panel_for_each_quantity() -> None:
    pytest.importorskip("matplotlib")
    titles = [axes.get_title(loc="left") for axes in FULL.plot().axes if axes.get_visible()]
    assert titles == ["temperature", "share of all slots", "relative margin", "hardness strength", "rank window"]
    plain = [axes.get_title(loc="left") for axes in Curriculum().plot(10).axes if axes.get_visible()]
    assert plain == ["temperature", "share of all slots"]
    skipping = [axes.get_title(loc="left") for axes in Curriculum(range_min=3).plot([0, 5, 9]).axes]
    assert "ranks skipped" in skipping


def test_a_picture_shows_the_values() -> None:
    pytest.importorskip("matplotlib")
    figure = FULL.plot(100)
    steps, values = figure.axes[0].get_lines()[0].get_data()
    assert list(steps) == list(range(101)) and list(values) == [FULL.at(step).temperature for step in range(101)]
    few = FULL.plot(range(0, 100, 30)).axes[0].get_lines()[0].get_xdata()
    assert list(few) == [0, 30, 60, 90]
    long = FULL.plot(10**6).axes[0].get_lines()[0].get_xdata()
    assert len(long) < 600 and set(FULL.knots) <= set(long.tolist())
    stacks = figure.axes[1].collections
    tops = [float(stack.get_paths()[0].vertices[:, 1].max()) for stack in stacks]
    assert tops[-1] == pytest.approx(1.0) and len(tops) == 5
    names = [text.get_text() for text in figure.axes[1].texts]
    assert names == ["hard", "semi-hard", "easy", "random", "reserved random"]


@pytest.mark.parametrize(
    ("steps", "message"), [(0, "steps must be at least 1"), ([], "at least one step"), ([3, 1], "in increasing order")]
)
def test_a_picture_of_no_steps(steps: Any, message: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(Value, match=message):
        FULL.plot(steps)


def test_without_matplotlib_the_extra_is_named() -> None:
    code = (
        "import sys, negfast\nsys.modules['matplotlib'] = None\n"
        "try:\n    negfast.Curriculum().plot()\nexcept negfast.MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "Curriculum.plot needs matplotlib; install negfast[plot]\n"
