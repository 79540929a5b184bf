"""`Miner`: what it remembers, what it refuses, and that a refusal leaves it as it was."""

import copy
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast import Miner, Rules, Search, Softmax, StateError
from negfast._negfast import read_tensors, write_tensors

Type, Value, Index = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.RowIndexError
N, SIZE, DIM = 40, 200, 16
ARGUMENTS: dict[str, Any] = {"num_negatives": 4}
POSITIVES = np.arange(N)


def some(n: int, seed: int = 0, dim: int = DIM) -> Any:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


Q, C = some(N, 1), some(SIZE, 2)
NEAR = C + np.float32(1e-4) * some(SIZE, 3)
"""What a proof can still tell about."""
IDS = (list(range(N)), [f"row {i}" for i in range(SIZE)])


def mined(**options: Any) -> Miner:
    miner = Miner(**ARGUMENTS)
    miner.mine(Q, C, POSITIVES, **options)
    return miner


def same(a: Any, b: Any) -> bool:
    return bool((a.indices == b.indices).all() and (a.scores.view(np.uint32) == b.scores.view(np.uint32)).all())


def fresh(queries: Any, corpus: Any, **options: Any) -> Any:
    return negfast.mine(queries, corpus, POSITIVES, **{**ARGUMENTS, "epoch": 1, **options})


def damaged(row: int, value: float = np.nan) -> Any:
    rows = NEAR.copy()
    rows[row, 3] = value
    return rows


def test_mining_is_that_of_mine() -> None:
    miner = Miner(**ARGUMENTS)
    assert not miner.is_mined and "nothing mined" in repr(miner)
    assert same(miner.mine(Q, C, POSITIVES, epoch=3), fresh(Q, C, epoch=3))
    assert miner.is_mined and miner.recipe.epoch == 3
    assert repr(miner) == "Miner(num_negatives=4, reserve='auto'): 40 queries, 200 rows, 64 candidates each"


def test_epochs_follow_one_another_and_name_the_draws() -> None:
    drawn: dict[str, Any] = {"draw": Softmax(0.1), "seed": 5}
    miner = Miner(**ARGUMENTS, **drawn)
    miner.mine(Q, C, POSITIVES, epoch=7)
    for epoch, given in ((8, None), (3, 3), (4, None)):
        assert same(miner.refresh(Q, NEAR, epoch=given), fresh(Q, NEAR, epoch=epoch, **drawn))
        assert miner.recipe.epoch == epoch
    assert not same(fresh(Q, NEAR, epoch=3, **drawn), fresh(Q, NEAR, epoch=4, **drawn))


@pytest.mark.parametrize("rules", [Rules(max_exposure=1), Rules(max_exposure=3, distinct=0.9), Rules(distinct=0.2)])
def test_a_list_that_is_searched_after_all_counts_once(rules: Rules) -> None:
    miner = Miner(num_negatives=4, rules=rules, reserve=16)
    miner.mine(Q, C, POSITIVES)
    again = miner.refresh(Q, NEAR)
    told = again.report.refresh
    assert told.n_proven + told.n_estimated + told.n_searched == N
    assert same(again, fresh(Q, NEAR, rules=rules))


def test_the_report_adds_up() -> None:
    report = mined().refresh(Q, NEAR).report
    told = report.refresh
    assert told.n_proven + told.n_estimated + told.n_searched == N and told.n_proven > N // 2
    assert (told.recall, told.recall_interval, told.audited) == (1.0, (1.0, 1.0), 0)
    assert 0 < told.drift_corpus.p50 <= told.drift_corpus.p99 <= told.drift_corpus.max < 1e-3
    assert told.drift_queries.max == 0 and told.turnover <= 0.05
    assert type(told).from_dict(json.loads(json.dumps(told.to_dict()))) == told
    assert f"{told.n_proven:,} lists proven" in str(told)
    assert mined().refresh(Q, some(SIZE, 9)).report.refresh.turnover > 0.5


@pytest.mark.parametrize("reserve", [0, 1, 5, 10**9, "auto"])
def test_any_reserve_gives_the_same_lists(reserve: Any) -> None:
    miner = Miner(**ARGUMENTS, reserve=reserve)
    miner.mine(Q, C, POSITIVES)
    assert same(miner.refresh(Q, NEAR), fresh(Q, NEAR))
    assert same(miner.refresh(Q, some(SIZE, 9)), fresh(Q, some(SIZE, 9)))


def test_queries_and_corpus_that_part_keep_their_own_vectors() -> None:
    """They were one array; what is remembered of the one must not become that of the other."""
    rows = some(SIZE, 2)
    miner = Miner(**ARGUMENTS)
    miner.mine(rows, rows, np.arange(SIZE))
    apart = rows.copy()
    apart[:3] = some(3, 5)
    miner.refresh(apart, rows.copy())
    found = miner.refresh(rows.copy(), rows.copy())
    expected = negfast.mine(rows, rows, np.arange(SIZE), epoch=2, **ARGUMENTS)
    assert same(found, expected) and found.report.refresh.drift_queries.max > 0.5


def test_rows_are_added_where_an_anchor_never_gets_itself() -> None:
    rows = some(SIZE, 2)
    miner = Miner(**ARGUMENTS)
    miner.mine(rows, rows, np.full(SIZE, -1))
    more = some(2, 5)
    more[0] = rows[9] + np.float32(0.01)
    assert miner.add(more).tolist() == [SIZE, SIZE + 1]
    corpus = np.concatenate([rows, more])
    found = miner.refresh(rows, corpus)
    expected = negfast.mine(
        rows, corpus, np.full(SIZE, -1), exclude=np.arange(SIZE), rules=Rules(exclude_self=False), **ARGUMENTS
    )
    assert same(found, expected) and found.indices[9, 0] == SIZE


# --- what is refused, and that nothing has changed then


def rows_named(name: str, value: Any) -> Callable[[Miner], Any]:
    return lambda miner: miner.refresh(**{"queries": Q, "corpus": NEAR, name: value})


def adding(rows: Any, **labels: Any) -> Callable[[Miner], Any]:
    return lambda miner: miner.add(rows, **labels)


REFUSALS: list[tuple[str, Callable[[Miner], Any], type[Exception], str]] = [
    ("queries NaN", rows_named("queries", np.full_like(Q, np.nan)), Value, "queries.*NaN.*row 0"),
    ("corpus NaN", rows_named("corpus", damaged(7)), Value, "corpus.*NaN.*row 7"),
    ("corpus infinite", rows_named("corpus", damaged(199, np.inf)), Value, "corpus.*infinity.*row 199"),
    ("fewer rows", rows_named("corpus", NEAR[:-1]), Value, r"corpus.*\(200, 16\).*\(199, 16\)"),
    ("other dim", rows_named("queries", some(N, 1, 8)), Value, r"queries.*\(40, 16\).*\(40, 8\)"),
    ("one axis", rows_named("corpus", NEAR.ravel()), Value, r"corpus.*\(3200,\)"),
    ("float64", rows_named("corpus", NEAR.astype(np.float64)), Type, "corpus.*float32.*float64"),
    ("list", rows_named("queries", Q.tolist()), Type, "queries.*list"),
    ("None", rows_named("corpus", None), Type, "corpus.*None"),
    ("columns", rows_named("corpus", np.asfortranarray(NEAR)), Value, "corpus.*contiguous"),
    ("epoch", rows_named("epoch", -1), Value, "epoch.*-1"),
    ("progress", rows_named("progress", 3), Type, "progress"),
    ("changed text", rows_named("changed", "abc"), Type, "changed.*str"),
    ("changed outside", rows_named("changed", [SIZE]), Index, "changed.*200"),
    ("changed below", rows_named("changed", [-1]), Index, "changed.*-1"),
    ("changed short mask", rows_named("changed", np.ones(3, bool)), Value, r"changed.*\(200,\).*\(3,\)"),
    ("changed float", rows_named("changed", [1.5]), Type, "changed.*float64"),
    ("changed leaves one out", rows_named("changed", np.arange(1, SIZE)), Value, "changed.*leaves out row 0"),
    ("changed names none", rows_named("changed", []), Value, "changed.*leaves out row 0"),
    ("ids one side", rows_named("ids", (range(N),)), Type, "ids.*pair"),
    ("ids text", rows_named("ids", ("abc", "def")), Type, "ids of the queries.*str"),
    ("ids no axis", rows_named("ids", (np.array(3), np.arange(SIZE))), Value, r"ids of the queries.*\(\)"),
    ("ids short", rows_named("ids", (range(N), range(3))), Value, r"ids of the corpus.*200 rows.*\(3,\)"),
    ("ids twice", rows_named("ids", ([0] * N, range(SIZE))), Value, "ids of the queries.*distinct.*twice"),
    ("ids float", rows_named("ids", (np.arange(N) / 2, range(SIZE))), Type, "ids of the queries.*float64"),
    ("added NaN", adding(damaged(1)[:2]), Value, "rows.*NaN.*row 1"),
    ("added dim", adding(some(2, 0, 5)), Value, "rows.*dim 16.*dim 5"),
    ("added float16", adding(some(2).astype(np.float16)), Value, "rows.*float32.*float16"),
    ("added one axis", adding(some(2)[0]), Value, r"rows.*\(16,\)"),
    ("added list", adding(some(2).tolist()), Type, "rows.*list"),
    ("added number with ids", adding(3, ids=[1]), Type, "rows.*int"),
    ("added ids", adding(some(2), ids=[1, 2]), Value, "ids.*if and only if.*some"),
    ("added groups", adding(some(2), groups=[1, 2]), Value, "groups.*if and only if.*some"),
    ("removed outside", lambda miner: miner.remove([SIZE]), Index, "rows.*200"),
    ("removed mask", lambda miner: miner.remove(np.ones(3, bool)), Value, r"rows.*\(200,\)"),
    ("mined again", lambda miner: miner.mine(Q, damaged(4), POSITIVES), Value, "corpus.*row 4"),
    ("state a list", lambda miner: miner.load_state_dict([]), Type, "state.*mapping.*list"),  # type: ignore[arg-type]
    ("state empty", lambda miner: miner.load_state_dict({}), StateError, "damaged.*settings"),
]


@pytest.mark.parametrize(("call", "error", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_a_refusal_leaves_the_miner_as_it_was(call: Any, error: type[Exception], message: str) -> None:
    miner = mined()
    before = miner.state_dict()
    with pytest.raises(error, match=f"(?s){message}") as caught:
        call(miner)
    assert isinstance(caught.value, negfast.NegfastError)
    assert unchanged(before, miner.state_dict())
    assert same(miner.refresh(Q, NEAR), fresh(Q, NEAR))


def same_arrays(one: Any, other: Any) -> bool:
    # Scores that are not known are NaN.
    return np.array_equal(one, other, equal_nan=getattr(one, "dtype", None) == np.float32)


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() == after.keys() and all(same_arrays(before[name], after[name]) for name in before)


def test_what_a_progress_bar_raises_leaves_the_miner_as_it_was() -> None:
    class StopError(Exception):
        pass

    def stop(_: float) -> None:
        raise StopError

    miner = mined()
    before = miner.state_dict()
    with pytest.raises(StopError):
        miner.refresh(Q, NEAR, progress=stop)
    assert unchanged(before, miner.state_dict())


SETTINGS = [
    ({"reserve": -1}, Value, "reserve.*-1"),
    ({"reserve": "most"}, Value, "reserve.*'most'"),
    ({"reserve": 1.5}, Type, "reserve.*float"),
    ({"reserve": True}, Type, "reserve.*bool"),
    ({"reserve": np.arange(2)}, Type, "reserve.*ndarray"),
    ({"n_threads": 0}, Value, "n_threads.*0"),
    ({"n_threads": "all"}, Type, "n_threads.*str"),
    ({"rules": None}, Type, "rules.*None"),
    ({"metric": "l2"}, Value, "metric.*l2"),
]


@pytest.mark.parametrize(("settings", "error", "message"), SETTINGS)
def test_settings_are_checked_at_once(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Miner(**settings)


@pytest.mark.parametrize("call", ["refresh", "add", "remove", "state_dict", "save"])
def test_nothing_to_go_on_from(call: str, tmp_path: Path) -> None:
    arguments = {"refresh": (Q, C), "add": (C,), "remove": ([0],), "state_dict": (), "save": (tmp_path / "state",)}
    with pytest.raises(StateError, match=r"must have mined before.*call mine first"):
        getattr(Miner(), call)(*arguments[call])
    assert not list(tmp_path.iterdir())


# --- order, changes, additions, removals


def test_rows_in_another_order_are_refused() -> None:
    miner = mined(ids=IDS)
    with pytest.raises(Value, match=r"ids must be given.*None"):
        miner.refresh(Q, NEAR)
    swapped = [IDS[1][1], IDS[1][0], *IDS[1][2:]]
    with pytest.raises(Value, match=r"ids of the corpus.*row 0"):
        miner.refresh(Q, NEAR, ids=(IDS[0], swapped))
    with pytest.raises(Value, match=r"ids of the queries.*row 39"):
        miner.refresh(Q, NEAR, ids=([*range(N - 1), 99], IDS[1]))
    assert same(miner.refresh(Q, NEAR, ids=(np.arange(N), np.array(IDS[1]))), fresh(Q, NEAR))


def test_added_rows_need_ids_of_their_own() -> None:
    miner = mined(ids=IDS)
    more = some(2, 5)
    for ids, message in ((None, "if and only if.*none"), (["a"], r"\(1,\)"), (["a", "a"], "twice")):
        with pytest.raises(Value, match=message):
            miner.add(more, ids=ids)
    with pytest.raises(Value, match=r"ids.*new rows.*row 1"):
        miner.add(more, ids=["a", "row 3"])
    miner.add(more, ids=["a", "b"])
    corpus = np.concatenate([NEAR, more])
    assert same(miner.refresh(Q, corpus, ids=(IDS[0], [*IDS[1], "a", "b"])), fresh(Q, corpus))


def labelled(how: str, n: int, seed: int) -> Any:
    flat = np.random.default_rng(seed).integers(0, 9, n)
    return {"flat": flat, "columns": flat[:, None], "lists": [[int(x)] for x in flat]}[how]


@pytest.mark.parametrize("name", ["groups", "keys"])
@pytest.mark.parametrize("how", ["flat", "columns", "lists"])
def test_added_rows_have_labels_as_the_others_have(how: str, name: str) -> None:
    own, corpus = labelled(how, N, 1), labelled(how, SIZE, 2)
    miner = mined(**{name: (own, corpus)})
    more = np.float32(1.01) * Q[:3]
    for other in {"flat", "columns", "lists"} - {how}:
        with pytest.raises(Value, match=rf"{name} must be one entry for each of the 3 rows.*got"):
            miner.add(more, **{name: labelled(other, 3, 3)})
    for count in (2, 4):
        with pytest.raises(Value, match=rf"{name} must be one entry for each of the 3 rows.*{count}"):
            miner.add(more, **{name: labelled(how, count, 3)})
    with pytest.raises(Value, match=rf"{name} must be given"):
        miner.add(more)
    # The first serves the others but not its own anchor, whose group it has.
    added = labelled(how, 3, 3)
    added[0] = own[0]
    assert miner.add(more, **{name: added}).tolist() == [200, 201, 202]
    rows, both = np.concatenate([NEAR, more]), np.concatenate([corpus, added])
    found = miner.refresh(Q, rows)
    assert same(found, fresh(Q, rows, **{name: (own, both.tolist() if how == "lists" else both)}))
    assert SIZE not in found.indices[0]


def test_rows_come_and_go() -> None:
    miner = mined(forbidden=[5])
    gone = [5]
    corpus = C
    for step in range(1, 6):
        more = np.float32(1 + step / 100) * Q[step : step + 2]
        assert miner.add(more).tolist() == [len(corpus), len(corpus) + 1]
        corpus = np.concatenate([corpus, more]) + np.float32(1e-5)
        found = miner.refresh(Q, corpus)
        assert same(found, fresh(Q, corpus, forbidden=gone, epoch=2 * step - 1))
        best = int(found.indices[0, 0])
        miner.remove([best])
        gone.append(best)
        found = miner.refresh(Q, corpus)
        assert same(found, fresh(Q, corpus, forbidden=gone, epoch=2 * step))
        assert best not in found.indices and found.report.refresh.n_proven > 0


def test_rows_removed_before_they_were_ever_met_never_come() -> None:
    miner = mined()
    miner.add(Q[:2])
    miner.remove(np.arange(SIZE + 2) >= SIZE)
    corpus = np.concatenate([NEAR, Q[:2]])
    assert same(miner.refresh(Q, corpus), fresh(Q, corpus, forbidden=[SIZE, SIZE + 1]))


@pytest.mark.parametrize("mask", [False, True])
def test_rows_named_as_changed_may_change(mask: bool) -> None:
    miner = mined()
    corpus = C.copy()
    rows = np.array([3, 50, 199])
    corpus[rows] = Q[:3]
    found = miner.refresh(Q, corpus, changed=np.isin(np.arange(SIZE), rows) if mask else rows)
    assert same(found, fresh(Q, corpus))
    told = found.report.refresh
    assert told.n_movers == 3 and told.n_proven > N // 2
    assert same(miner.refresh(Q, corpus, changed=[]), fresh(Q, corpus))


# --- saving


def restarted(miner: Miner, way: str, folder: Path) -> Miner:
    if way == "file":
        miner.save(folder / "miner.safetensors")
        return Miner.load(folder / "miner.safetensors")
    if way == "state":
        other = Miner(**ARGUMENTS, draw=Softmax(0.1))
        other.load_state_dict(miner.state_dict())
        return other
    if way == "pickle":
        return pickle.loads(pickle.dumps(miner))  # noqa: S301 - made here
    return copy.deepcopy(miner) if way == "deepcopy" else copy.copy(miner)


@pytest.mark.parametrize("way", ["file", "state", "pickle", "deepcopy", "copy"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_refresh_after_a_restart_equals_one_without(way: str, dtype: str, tmp_path: Path) -> None:
    def cast(rows: Any) -> Any:
        if dtype != "bfloat16":
            return rows.astype(dtype)
        torch = pytest.importorskip("torch")
        return torch.from_numpy(rows).to(torch.bfloat16)

    miner = Miner(**ARGUMENTS, draw=Softmax(0.1))
    groups = (np.arange(N), np.arange(SIZE) % 50)
    miner.mine(cast(Q), cast(C), POSITIVES, ids=IDS, groups=groups, exclude=[[1]] * N, forbidden=[8], epoch=4)
    miner.add(cast(some(1, 5)), groups=[3], ids=["new"])
    miner.remove([9])
    corpus, ids = cast(np.concatenate([NEAR, some(1, 5)])), (IDS[0], [*IDS[1], "new"])
    other = restarted(miner, way, tmp_path)
    for step in range(3):
        a, b = miner.refresh(cast(Q), corpus, ids=ids), other.refresh(cast(Q), corpus, ids=ids)
        assert same(a, b) and a.recipe == b.recipe and a.recipe.epoch == 5 + step
        assert a.report.refresh.n_proven == b.report.refresh.n_proven
    assert not [name for name in tmp_path.iterdir() if name.suffix == ".part"]


def test_copies_go_their_own_way() -> None:
    miner = mined()
    other = copy.copy(miner)
    far = some(SIZE, 9)
    miner.refresh(Q, far)
    assert same(other.refresh(Q, far), fresh(Q, far))


def test_a_state_is_that_of_the_moment() -> None:
    miner = mined()
    state = miner.state_dict()
    miner.refresh(Q, some(SIZE, 9))
    miner.load_state_dict(state)
    state["corpus"][:] = 0
    assert same(miner.refresh(Q, NEAR), fresh(Q, NEAR))


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"num_negatives": 5}, "num_negatives"),
    ({"metric": "dot"}, "metric"),
    ({"rules": Rules(max_score=0.9)}, "rules"),
    ({"rules": Rules(relative_margin=None)}, "rules"),
    ({"draw": "random"}, "(rules|draw)"),  # a draw fills in how deep it looks
    ({"search": Search(recall=0.9)}, "search"),
]


@pytest.mark.parametrize(("settings", "name"), OTHERS)
def test_the_state_of_other_settings_is_refused_both_ways(settings: dict[str, Any], name: str) -> None:
    one, other = mined(), Miner(**{**ARGUMENTS, **settings})
    other.mine(Q, C, POSITIVES)
    for miner, state in ((one, other.state_dict()), (other, one.state_dict())):
        before = miner.state_dict()
        with pytest.raises(StateError, match=f"^{name} of the state"):
            miner.load_state_dict(state)
        assert unchanged(before, miner.state_dict())


def test_another_reserve_takes_over_a_state() -> None:
    for reserve in (0, 3, 10**6):
        other = Miner(**ARGUMENTS, reserve=reserve)
        other.load_state_dict(mined().state_dict())
        assert same(other.refresh(Q, NEAR), fresh(Q, NEAR))
        assert same(other.refresh(Q, C), fresh(Q, C))


def test_another_metric_or_format_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "miner"
    mined().save(path)
    with pytest.raises(StateError, match=r"metric.*'dot'.*'cosine'"):
        Miner.load(path, metric="dot")
    assert Miner.load(path, metric="cosine", n_threads=2).is_mined
    rewritten(path, lambda metadata: metadata.update(format=2))
    with pytest.raises(StateError, match="format 1, got 2"):
        Miner.load(path)
    rewritten(path, lambda metadata: metadata.update(kind="MinedNegatives"))
    with pytest.raises(StateError, match="must hold a Miner, got 'MinedNegatives'"):
        Miner.load(path)
    fresh(Q, C).save(path)
    with pytest.raises(StateError, match="must hold a Miner"):
        Miner.load(path)
    with pytest.raises(FileNotFoundError):
        Miner.load(tmp_path / "nowhere")


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors, text = read_tensors(str(path))
    metadata = json.loads(text)
    change(metadata)
    write_tensors(str(path), tensors, json.dumps(metadata))


METADATA: list[Callable[[dict[str, Any]], Any]] = [
    lambda metadata: metadata.pop("miner"),
    lambda metadata: metadata.update(miner=[]),
    lambda metadata: metadata.update(miner=None),
    lambda metadata: metadata["miner"].update(recipe=3),
    lambda metadata: metadata["miner"].update(reserve="most"),
    lambda metadata: metadata["miner"]["recipe"].update(rules=[]),
    lambda metadata: metadata.pop("recipe"),
    lambda metadata: metadata.update(recipe={"format": 1, "rules": {"max_score": "a"}}),
    lambda metadata: metadata["recipe"].update(draw={}),
    lambda metadata: metadata.pop("format"),
]


@pytest.mark.parametrize("change", METADATA)
def test_damaged_settings_are_refused(change: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    path = tmp_path / "miner"
    mined().save(path)
    rewritten(path, change)
    with pytest.raises(StateError, match=re.escape("miner") + "|damaged|format"):
        Miner.load(path)


def test_files_cut_off_anywhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "miner"
    mined().save(path)
    whole = path.read_bytes()
    for length in {*range(40), *range(40, len(whole), len(whole) // 40)}:
        path.write_bytes(whole[:length])
        with pytest.raises(StateError):
            Miner.load(path)


DAMAGE: dict[str, Callable[[Any], Any]] = {
    "shorter": lambda array: array[:-1],
    "longer": lambda array: np.concatenate([array, array[-1:]]),
    "empty": lambda array: array[:0],
    "wider": lambda array: np.stack([array, array], axis=-1),
    "float64": lambda array: array.astype(np.float64),
    "NaN": lambda array: np.full(array.shape, np.nan, array.dtype if array.dtype.kind == "f" else np.float64),
    "outside": lambda array: np.full(array.shape, 2**31 - 1, array.dtype) if array.dtype.itemsize > 2 else None,
    "below": lambda array: np.full(array.shape, -2, array.dtype) if array.dtype.kind == "i" else None,
    "number": lambda _: np.array(3),
    "text": lambda _: np.array("abc"),
    "object": lambda _: np.array([object()]),
    "None": lambda _: None,
}
HARMLESS = {
    # Ids and labels are any numbers, old lists serve a count, and vectors of any length were possible.
    *((name, how) for name in ("ids_of_queries", "ids_of_corpus", "served") for how in ("outside", "below")),
    *((name, "outside") for name in ("queries", "corpus")),
    *((f"reserve_{name}", "outside") for name in ("ceilings", "floors")),
    *((f"{name}_of_{side}", how) for name in ("groups", "keys") for side in ("queries", "corpus")
      for how in ("outside", "below", "wider")),
    *((f"keys_of_{side}_indices", how) for side in ("queries", "corpus") for how in ("outside", "below")),
    ("reserve_scores", "NaN"),
    *(("pending", how) for how in ("shorter", "longer", "empty")),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_arrays_that_do_not_fit_are_refused(how: str) -> None:
    miner = mined(
        ids=IDS, groups=(np.arange(N), np.arange(SIZE)), keys=([[1]] * N, [[i] for i in range(SIZE)]),
        exclude=[[1]] * N, forbidden=[3],
    )  # fmt: skip
    miner.add(some(2, 5), groups=[1, 2], keys=[[3], [4]], ids=["a", "b"])
    state = miner.state_dict()
    for name in state.keys() - {"settings"}:
        array = DAMAGE[how](state[name])
        if (name, how) in HARMLESS or (array is None and how != "None"):
            continue
        with pytest.raises(StateError, match="damaged"):
            Miner(**ARGUMENTS).load_state_dict({**state, name: array})


@pytest.mark.parametrize("name", ["queries", "corpus", "served", "reserve_rows", "pending", "groups_of_corpus"])
def test_states_that_lack_something_are_refused(name: str) -> None:
    state = mined(groups=(np.arange(N), np.arange(SIZE))).state_dict()
    del state[name]
    with pytest.raises(StateError, match="damaged"):
        Miner(**ARGUMENTS).load_state_dict(state)
    with pytest.raises(StateError, match="damaged"):
        Miner(**ARGUMENTS).load_state_dict({**state, name: np.zeros((2, 2)), "more": np.zeros(1)})
