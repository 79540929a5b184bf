"""Reservoirs as Python sees them: containers, state, errors. What they sample is tested under `statistical`."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import negfast

Value, Type, State = negfast.InvalidValueError, negfast.InvalidTypeError, negfast.StateError
METHODS = ["keyed", "skip", "aged"]


def reservoir(k: int = 10, method: str = "keyed", seed: int = 1) -> negfast.Reservoir:
    return negfast.Reservoir(k, method=method, seed=seed)  # type: ignore[arg-type]


def weights_of(ids: Any) -> Any:
    return np.asarray(ids) % 7 + 0.5


@pytest.mark.parametrize("method", METHODS)
def test_a_short_stream_is_its_sample(method: str) -> None:
    sample = reservoir(10, method)
    assert (len(sample), sample.seen, sample.ids().tolist(), sample.ids().dtype) == (0, 0, [], np.int64)
    sample.add([]).add(range(0)).add(np.zeros(0, np.int64))
    assert sample.seen == 0
    sample.add([5, 3, 2**63 - 1])
    assert sample.seen == 3
    held = sample.ids().tolist()
    assert set(held) <= {5, 3, 2**63 - 1} and len(held) == len(sample)
    assert method == "aged" or len(held) == 3
    assert repr(sample) == f"Reservoir(10, method='{method}', seed=1): {len(held)} ids of 3 seen"


@pytest.mark.parametrize("method", METHODS)
def test_settings_can_be_read(method: str) -> None:
    sample = negfast.Reservoir(np.int64(3), method=method, seed=2**64 - 1)  # type: ignore[arg-type]
    assert (sample.capacity, sample.method, sample.seed) == (3, method, 2**64 - 1)
    assert negfast.Reservoir(3).method == "keyed"


@pytest.mark.parametrize("method", METHODS)
def test_containers_do_not_matter(method: str) -> None:
    numbers = np.arange(3, 3000, 3)
    expected = reservoir(20, method).add(numbers).ids()
    same: list[Any] = [
        range(3, 3000, 3),
        numbers.tolist(),
        tuple(numbers.tolist()),
        numbers.astype(np.uint64),
        numbers.astype(">i4"),
        np.repeat(numbers, 2)[::2],
    ]
    for ids in same:
        np.testing.assert_array_equal(reservoir(20, method).add(ids).ids(), expected)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(reservoir(20, method).add(torch.from_numpy(numbers)).ids(), expected)


@pytest.mark.parametrize("method", ["keyed", "skip"])
def test_containers_of_weights_do_not_matter(method: str) -> None:
    ids, weights = np.arange(500), np.arange(500) % 7
    expected = reservoir(20, method).add(ids, weights.astype(np.float64)).ids()
    for given in (weights, weights.tolist(), weights.astype(np.float32), weights.astype(np.uint8)):
        np.testing.assert_array_equal(reservoir(20, method).add(ids, given).ids(), expected)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(reservoir(20, method).add(ids, torch.from_numpy(weights).bfloat16()).ids(), expected)


@pytest.mark.parametrize(
    ("method", "weighted"), [*((method, False) for method in METHODS), ("keyed", True), ("skip", True)]
)
def test_cuts_do_not_matter(method: str, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(5000, size=20_000)
    weights = weights_of(ids) if weighted else None
    expected = reservoir(50, method).add(ids, weights).ids()
    for _ in range(5):
        sample = reservoir(50, method)
        cuts = np.sort(rng.integers(ids.size, size=30))
        for part in np.split(np.arange(ids.size), cuts):
            sample.add(ids[part], None if weights is None else weights[part])
            sample.ids()  # looking changes nothing
        np.testing.assert_array_equal(sample.ids(), expected)
        assert sample.seen == ids.size


def test_keyed_is_a_set_with_an_order() -> None:
    ids = np.random.default_rng(1).permutation(3000)
    whole = reservoir(100).add(ids)
    np.testing.assert_array_equal(reservoir(100).add(np.sort(ids)).add(ids[:700]).ids(), whole.ids())
    assert len(set(whole.ids().tolist())) == 100
    np.testing.assert_array_equal(reservoir(30).add(ids).ids(), whole.ids()[:30])
    assert (reservoir(100, seed=2).add(ids).ids() != whole.ids()).any()


@pytest.mark.parametrize("weighted", [False, True])
def test_merged_shards_are_the_whole(weighted: bool) -> None:
    def add(sample: negfast.Reservoir, ids: Any) -> negfast.Reservoir:
        return sample.add(ids, weights_of(ids) if weighted else None)

    ids = np.random.default_rng(2).integers(40_000, size=30_000)
    expected = add(reservoir(300), ids).ids()
    shards = [add(reservoir(300), part) for part in np.array_split(ids, 16)]
    for order in (shards, shards[::-1]):
        total = reservoir(300)
        for shard in order:
            before = shard.ids()
            assert total.merge(shard) is total
            np.testing.assert_array_equal(shard.ids(), before)
        np.testing.assert_array_equal(total.ids(), expected)
        assert total.seen == ids.size
    np.testing.assert_array_equal(total.merge(total).ids(), expected)
    np.testing.assert_array_equal(total.merge(shards[3]).ids(), expected)


def test_the_last_weight_counts() -> None:
    ids = np.arange(1000)
    expected = reservoir(50).add(ids, weights_of(ids)).ids()
    # Before, all were lighter; or, within the spare places, heavier.
    np.testing.assert_array_equal(reservoir(50).add(ids, weights_of(ids) / 9).add(ids, weights_of(ids)).ids(), expected)
    sample = reservoir(50).add(ids, weights_of(ids)).add([expected[0]], [0])
    np.testing.assert_array_equal(sample.ids()[:49], expected[1:])
    assert len(sample) == 50 and sample.ids()[-1] not in expected
    assert reservoir(5).add(range(20), np.zeros(20)).ids().size == 0
    # Heavy ones in any quantity come first.
    assert set(reservoir(5).add(range(100), [1e200 if i > 94 else 1e-200 for i in range(100)]).ids()) == set(
        range(95, 100)
    )


def test_probabilities() -> None:
    sample = reservoir(100).add(range(50))
    assert sample.probabilities().tolist() == [1.0] * 50
    sample.add(range(10_000))
    assert np.ptp(sample.probabilities()) < 1e-12
    assert sample.probabilities()[0] == pytest.approx(0.01, rel=0.5)
    weights = np.geomspace(1e-3, 1e3, 200)
    sample = reservoir(50).add(range(200), weights)
    chances = sample.probabilities()
    assert (np.diff(chances[np.argsort(sample.ids())]) >= 0).all()
    assert chances.max() > 0.999 and chances.min() < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_what_was_returned_is_the_callers_own(method: str) -> None:
    sample = reservoir(10, method).add(range(100))
    expected = sample.ids()
    sample.ids()[:] = -5
    for value in sample.state_dict().values():
        if isinstance(value, np.ndarray):
            value[:] = 0
    np.testing.assert_array_equal(sample.ids(), expected)


PINNED = {
    "keyed": [99399, 12678, 79361, 41259, 61111, 72708],
    "skip": [62815, 64621, 9316, 68183, 60936, 77854],
    "aged": [99999, 99998, 99995, 99993, 99990, 99989],
    "keyed by weight": [99399, 12678, 72708, 79361, 13691, 23140],
    "skip by weight": [91471, 45226, 85889, 2170, 10001, 18166],
}


@pytest.mark.parametrize("name", PINNED)
def test_pinned_samples(name: str) -> None:
    """A seed that is written down gives the same sample for ever."""
    method, _, weighted = name.partition(" ")
    sample = reservoir(6, method, seed=42)
    for part in (range(1000), range(1000, 100_000)):
        sample.add(part, weights_of(part) if weighted else None)
    assert sample.ids().tolist() == PINNED[name]


# State


def streams(method: str) -> list[tuple[Any, Any]]:
    """Parts of a stream, some with weights where the method takes them."""
    ids = np.random.default_rng(5).integers(600, size=900)
    plain: list[tuple[Any, Any]] = [(part, None) for part in np.split(ids, [3, 10, 40, 300])]
    if method == "aged":
        return plain
    return [*plain, (ids[:50], weights_of(ids[:50])), (ids, None), (range(1000), np.ones(1000)), (range(5000), None)]


@pytest.mark.parametrize("method", METHODS)
def test_state_goes_on_where_it_was_saved(method: str) -> None:
    parts = streams(method)
    expected = reservoir(20, method)
    for part in parts:
        expected.add(*part)
    for saved in range(len(parts) + 1):
        sample = reservoir(20, method)
        for part in parts[:saved]:
            sample.add(*part)
        again = reservoir(20, method)
        again.load_state_dict(sample.state_dict())
        assert (again.seen, repr(again)) == (sample.seen, repr(sample))
        for part in parts[saved:]:
            again.add(*part)
        np.testing.assert_array_equal(again.ids(), expected.ids())
        assert again.seen == expected.seen


@pytest.mark.parametrize("method", METHODS)
def test_state_is_plain(method: str) -> None:
    for parts in (0, 3, 8):
        sample = reservoir(20, method)
        for part in streams(method)[:parts]:
            sample.add(*part)
        state = sample.state_dict()
        assert state["format"] == 1
        plain = (int, float, str)
        assert all(type(value) in plain or isinstance(value, np.ndarray) for value in state.values())


@pytest.mark.parametrize("method", METHODS)
def test_copies_go_their_own_way(method: str) -> None:
    sample = reservoir(20, method).add(range(500))
    copies = [copy.deepcopy(sample), pickle.loads(pickle.dumps(sample))]  # noqa: S301
    expected = sample.ids()
    for twin in copies:
        assert repr(twin) == repr(sample)
        twin.add(range(500, 9000))
        np.testing.assert_array_equal(sample.ids(), expected)
    sample.add(range(500, 9000))
    for twin in copies:
        np.testing.assert_array_equal(twin.ids(), sample.ids())


NONE, ONE = np.zeros(0, np.int64), np.array([1])
DAMAGED: list[tuple[str, dict[str, Any], str]] = [
    ("keyed", {"format": 2}, r"format of the state must be 1.*got 2"),
    ("keyed", {"format": True}, r"format of the state must be 1.*True"),
    ("keyed", {"capacity": 11}, r"capacity of the state must be 10.*11"),
    ("keyed", {"method": "skip"}, r"method of the state must be 'keyed'.*'skip'"),
    ("keyed", {"seed": 2}, r"seed of the state must be 1, .*2"),
    ("keyed", {"seen": 3.0}, r"seen of the state must be int.*float"),
    ("keyed", {"seen": -1}, r"damaged"),
    ("keyed", {"seen": 5}, r"damaged"),
    ("keyed", {"ids": [1, 2]}, r"ids of the state must be an int64 array.*list"),
    ("keyed", {"ids": NONE}, r"damaged"),
    ("keyed", {"ids": np.zeros(70, np.int64)}, r"damaged"),
    ("keyed", {"ids": np.full(70, -3)}, r"damaged"),
    ("keyed", {"keys": None}, r"keys of the state must be a float64 array"),
    ("keyed", {"keys": np.full(70, np.nan)}, r"damaged"),
    ("keyed", {"keys": np.full(70, 9.0)}, r"damaged"),
    ("keyed", {"threshold": float("nan")}, r"damaged"),
    ("keyed", {"threshold_id": 2**70}, r"damaged"),
    ("keyed", {"heaviest": -1.0}, r"damaged"),
    ("keyed", {"heaviest": 1}, r"heaviest of the state must be float"),
    ("skip", {"ids": ONE}, r"damaged"),
    ("skip", {"ids": np.full(10, -1)}, r"damaged"),
    ("skip", {"wait": -1}, r"damaged"),
    ("skip", {"wait": None}, r"wait of the state"),
    ("skip", {"taken": 2**64 - 1}, r"damaged"),
    ("skip", {"log_largest": 0.5}, r"damaged"),
    ("skip", {"log_largest": float("nan")}, r"damaged"),
    ("weighted", {"keys": np.ones(9)}, r"damaged"),
    ("weighted", {"keys": np.full(10, np.inf)}, r"damaged"),
    ("weighted", {"ids": np.full(10, -1)}, r"damaged"),
    ("weighted", {"left": -1.0}, r"damaged"),
    ("weighted", {"left": float("nan")}, r"damaged"),
    ("weighted", {"ones": 2**63}, r"damaged"),
    ("aged", {"numbers": np.full(10, 3)}, r"damaged"),
    ("aged", {"numbers": ONE}, r"damaged"),
    ("aged", {"numbers": np.full(10, -3)}, r"damaged"),
    ("aged", {"ids": np.full(10, -3)}, r"damaged"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), DAMAGED)
def test_other_states_are_refused(kind: str, changes: dict[str, Any], message: str) -> None:
    method = "skip" if kind == "weighted" else kind
    sample = reservoir(10, method).add(range(1000), np.ones(1000) if kind == "weighted" else None)
    state = sample.state_dict()
    assert changes.keys() <= state.keys()
    if kind == "keyed":  # with as many ids as the table takes there to be
        state |= {"ids": np.arange(70), "keys": np.linspace(1e-9, 1e-8, 70), "threshold": 1.0}
    again = reservoir(10, method)
    again.load_state_dict(state)
    again = reservoir(10, method).add([7])
    with pytest.raises(State, match=message):
        again.load_state_dict({**state, **changes})
    assert again.ids().tolist() == [7]


@pytest.mark.parametrize("method", METHODS)
def test_a_state_without_a_field_is_refused(method: str) -> None:
    sample = reservoir(10, method).add(range(100))
    state = sample.state_dict()
    for name in state:
        with pytest.raises(State, match=f"^{name} of the state"):
            sample.load_state_dict({key: value for key, value in state.items() if key != name})
    with pytest.raises(Type, match="state must be a mapping, got list"):
        sample.load_state_dict([])  # type: ignore[arg-type]


# Bad input


def make(*arguments: Any, **options: Any) -> Callable[[], Any]:
    return lambda: negfast.Reservoir(*arguments, **options)


def add(*arguments: Any, method: str = "keyed") -> Callable[[], Any]:
    return lambda: reservoir(method=method).add(*arguments)


def merge(other: Any, method: str = "keyed") -> Callable[[], Any]:
    return lambda: reservoir(method=method).merge(other)


NAN, INF = float("nan"), float("inf")
TABLE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("capacity zero", make(0), Value, r"capacity must be at least 1, got 0"),
    ("capacity huge", make(2**31), Value, r"capacity must be at most 2147483647"),
    ("capacity float", make(3.0), Type, r"capacity must be an integer"),
    ("capacity bool", make(True), Type, r"capacity must be an integer"),
    ("method", make(3, method="bottom"), Value, r"method must be 'keyed' or 'skip' or 'aged', got 'bottom'"),
    ("method None", make(3, method=None), Type, r"method"),
    ("seed", make(3, seed=-1), Value, r"seed must be at least 0"),
    ("seed high", make(3, seed=2**64), Value, r"seed must be at most"),
    (
        "ids negative",
        add([3, 4, -1]),
        Value,
        r"ids must be at least 0, got -1 at position 2; drop padding, ids\[ids >= 0\]",
    ),
    ("ids one number", add(5), Type, r"ids must be integers, got int 5"),
    ("ids float", add(np.ones(3)), Type, r"ids must be integers, got dtype float64"),
    ("ids bool", add(np.ones(3, bool)), Type, r"ids must be integers, got dtype bool"),
    ("ids text", add("123"), Type, r"ids must be integers, got str"),
    ("ids None", add(None), Type, r"ids must be integers"),
    ("ids two axes", add(np.ones((3, 2), np.int64)), Value, r"ids must be 1-dimensional.*\(3, 2\)"),
    ("ids no axis", add(np.array(3)), Value, r"ids must be 1-dimensional"),
    ("ids above int64", add(np.array([2**63], np.uint64)), Value, r"ids must fit int64"),
    ("ids masked", add(np.ma.masked_array([1, 2])), Type, r"ids.*mask"),
    ("range negative", add(range(-1, 5)), Value, r"ids must be from 0 to 2\*\*63 - 1, got range\(-1, 5\)"),
    ("range down below", add(range(5, -3, -2)), Value, r"ids must be from 0"),
    ("range high", add(range(2**63 - 1, 2**63 + 1)), Value, r"ids must be from 0"),
    ("range of all", add(range(2**63), method="skip"), Value, r"ids must be fewer than 2\*\*63"),
    ("weights short", add([1, 2], [1.0]), Value, r"weights must be one number for each of the 2 ids, got 1"),
    ("weights negative", add([1, 2], [1, -2]), Value, r"weights must be from 0 to 1e280, got -2 at position 1"),
    ("weights nan", add([1, 2], [NAN, 1]), Value, r"weights.*got NaN at position 0"),
    ("weights inf", add([1, 2], [1, INF], method="skip"), Value, r"weights.*got inf at position 1"),
    ("weights huge", add([1], [1e290]), Value, r"weights.*1e280.*ratios"),
    ("weights text", add([1], ["x"]), Type, r"weights must be numbers.*float64 array"),
    ("weights bool", add([1], [True]), Type, r"weights must be numbers, got dtype bool"),
    ("weights one number", add([1], 2.0), Value, r"weights must be 1-dimensional"),
    ("weights two axes", add([1], [[2.0]]), Value, r"weights must be 1-dimensional"),
    ("weights aged", add([1], [1.0], method="aged"), Value, r"weights must be None for method \"aged\""),
    ("merge list", merge([1, 2]), Type, r"other must be a Reservoir, got list"),
    ("merge None", merge(None), Type, r"other must be a Reservoir"),
    ("merge seed", merge(reservoir(seed=5)), Value, r"other must be a reservoir of seed 1.*seed 5"),
    ("merge capacity", merge(reservoir(11)), Value, r"other must be a reservoir of capacity 10.*capacity 11"),
    ("merge skip", merge(reservoir(method="skip"), "skip"), Value, r"method must be \"keyed\".*order of one stream"),
    ("merge aged", merge(reservoir(method="aged"), "aged"), Value, r"method must be \"keyed\".*clock"),
    ("merge other kind", merge(reservoir(method="aged")), Value, r"other must be.*\"keyed\".*\"aged\""),
    (
        "probabilities skip",
        reservoir(method="skip").probabilities,
        Value,
        r"method must be \"keyed\" for probabilities",
    ),
    (
        "probabilities aged",
        reservoir(method="aged").probabilities,
        Value,
        r"method must be \"keyed\" for probabilities",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"(?s){message}") as caught:
        call()
    assert isinstance(caught.value, negfast.NegfastError)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_refused_changes_nothing(method: str) -> None:
    sample = reservoir(10, method).add(range(100))
    expected = sample.ids()
    for arguments in (([1, 2, -1],), ([200, 300], [1.0, -1.0])):
        with pytest.raises(Value):
            sample.add(*arguments)
        np.testing.assert_array_equal(sample.ids(), expected)
        assert sample.seen == 100


def test_calls_of_threads_that_meet_are_refused_or_done() -> None:
    """Whichever happens, the sample is that of the calls that returned; keyed ones do not depend on their order."""
    sample, done, refused = reservoir(100), [range(0)], ["the reservoir must be free"]

    def work(part: int) -> None:
        for i in range(5):
            ids = range((5 * part + i) * 400_000, (5 * part + i + 1) * 400_000)
            try:
                sample.add(ids)
            except Value as error:
                refused.append(str(error))
            else:
                done.append(ids)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("the reservoir must be free" in message for message in refused)
    expected = reservoir(100)
    for ids in done:
        expected.add(ids)
    assert sample.seen == expected.seen > 0
    np.testing.assert_array_equal(sample.ids(), expected.ids())
