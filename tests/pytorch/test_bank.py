"""The memory bank: what it holds, what it finds, and that it says so in time where something is wrong."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from naive_bank import NaiveBank
from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.torch import BankStaleness, Candidates, MemoryBank, NegativeSampler, UniformRows
from negfast.torch.bank import POLICIES
from negfast.torch.bank_arguments import checked_wanted
from negfast.torch.bank_lookup import by_torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def numbers(n: int, dim: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32))


def filled(capacity: int = 40, dim: int = 8, n: int = 60, **options: Any) -> MemoryBank:
    bank = MemoryBank(capacity, dim, **options)
    bank.enqueue(numbers(n, dim), np.arange(n) % (n - 7), groups=np.arange(n) % 5, keys=np.arange(n) % 9)
    return bank


def same(one: MemoryBank, other: MemoryBank, k: int = 6) -> bool:
    """Tell whether two banks hold the same and find the same, to the last bit."""
    anchors = numbers(5, one.dim, seed=9)
    mine, theirs = one.hardest(anchors, k), other.hardest(anchors, k)
    lists = all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    held = torch.equal(one.ids, other.ids) and torch.equal(one.ages, other.ages)
    return lists and held and (one.seen, one.step) == (other.seen, other.step)


@st.composite
def streams(draw: st.DrawFn) -> dict[str, Any]:
    """Batches of any size with ids that repeat, in them and between them."""
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, few = sum(sizes), draw(st.integers(1, 40))
    return {
        "capacity": draw(st.integers(1, 20)),
        "rows": rng.standard_normal((n, 6), dtype=np.float32),
        "labels": rng.integers(-1, few, (n, 3)),
        "sizes": sizes,
        "anchors": rng.standard_normal((3, 6), dtype=np.float32),
        "refused": rng.integers(-1, few, (3, 3, 4)),
        "max_score": draw(st.none() | st.floats(-1, 1)),
        "k": draw(st.integers(1, 25)),
        "normalize": draw(st.booleans()),
        "momentum": draw(st.none() | st.sampled_from([0.0, 0.5, 0.9])),
    }


@given(stream=streams())
@settings(max_examples=60)
def test_fifo_is_as_if_rows_came_one_by_one(stream: dict[str, Any]) -> None:
    options = {name: stream[name] for name in ("normalize", "momentum")}
    bank, naive = MemoryBank(stream["capacity"], 6, **options), NaiveBank(stream["capacity"], **options)
    start = 0
    for step, size in enumerate(stream["sizes"]):
        rows, labels = stream["rows"][start : start + size], stream["labels"][start : start + size]
        bank.enqueue(torch.from_numpy(rows), *labels.T)
        naive.add(rows, labels, step)
        start += size
        assert bank.ids.tolist() == [held.labels[0] for held in naive.held]
        assert bank.ages.tolist() == [step - held.step for held in naive.held]
        # Copies alone, whose order is by what they cannot share, would tell nothing.
        check_lists(bank, naive, stream)


def check_lists(bank: MemoryBank, naive: NaiveBank, stream: dict[str, Any]) -> None:
    ids, groups, keys = stream["refused"]
    found = bank.hardest(
        torch.from_numpy(stream["anchors"]),
        stream["k"],
        exclude_ids=ids,
        exclude_groups=groups,
        exclude_keys=keys,
        max_score=stream["max_score"],
    )
    for i, anchor in enumerate(stream["anchors"]):
        refused = tuple(set(labels[i].tolist()) for labels in (ids, groups, keys))
        limit = np.inf if stream["max_score"] is None else stream["max_score"]
        expected = naive.hardest(anchor, stream["k"], refused, limit)  # type: ignore[arg-type]
        scores = [score for score, _ in expected] + [-np.inf] * (stream["k"] - len(expected))
        np.testing.assert_allclose(found.scores[i].numpy(), scores, atol=5e-6, rtol=1e-5)
        assert found.ids[i].tolist() == [name for _, name in expected] + [-1] * (stream["k"] - len(expected))
        assert not found.rows[i, len(expected) :].any()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_the_cut_of_a_stream_into_batches_does_not_matter(policy: Any, cut: int) -> None:
    rows, ids = numbers(300, 8), np.random.default_rng(1).integers(-1, 90, 300)
    whole, parts = (MemoryBank(50, 8, policy=policy, momentum=0.5, seed=4) for _ in range(2))
    whole.enqueue(rows, ids, step=0)
    for start in range(0, 300, cut):
        parts.enqueue(rows[start : start + cut], ids[start : start + cut], step=0)
    assert same(whole, parts)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_row_is_the_last_one_of_its_id(policy: Any) -> None:
    bank, last = MemoryBank(30, 8, policy=policy, seed=2), dict[int, Any]()
    for step in range(12):
        rows, ids = numbers(25, 8, seed=step), np.random.default_rng(step).integers(0, 80, 25)
        bank.enqueue(rows, ids)
        last |= {int(i): (row, step) for i, row in zip(ids, rows, strict=True)}
    held = bank.ids.tolist()
    assert len(set(held)) == len(held) == len(bank)
    assert [11 - last[i][1] for i in held] == bank.ages.tolist()
    anchors = torch.stack([last[i][0] for i in held])
    found = bank.hardest(anchors, 1)
    assert found.ids[:, 0].tolist() == held
    torch.testing.assert_close(found.scores[:, 0], torch.ones(len(held)))


def test_rows_that_score_the_same_come_in_the_order_in_which_they_were_written() -> None:
    bank = MemoryBank(200, 4)
    bank.enqueue(torch.ones(150, 4), torch.arange(150).flip(0))
    bank.enqueue(torch.ones(1, 4), [140])  # written again, so it is the last
    order = [i for i in range(149, -1, -1) if i != 140] + [140]
    assert bank.hardest(torch.ones(1, 4), 150).ids[0].tolist() == order
    assert bank.hardest(torch.ones(1, 4), 3).ids[0].tolist() == order[:3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", [True, False])
def test_torch_finds_what_the_compiled_module_finds(dtype: Any, normalize: bool) -> None:
    bank = MemoryBank(500, 16, dtype=dtype, normalize=normalize, policy="aged", seed=1)
    rng = np.random.default_rng(0)
    bank.enqueue(numbers(700, 16), rng.integers(-1, 600, 700), rng.integers(-1, 40, 700), rng.integers(-1, 9, 700))
    anchors, refused = numbers(20, 16, seed=3), rng.integers(-1, 9, (20, 2))
    limits = rng.uniform(0, 1, 20)
    found = bank.hardest(anchors, 30, exclude_keys=refused, max_score=limits)
    wanted = checked_wanted(bank, anchors, 30, {"keys": refused}, limits)
    lines = bank._book
    labels = {"ids": lines[0], "groups": lines[1], "keys": lines[2]}
    for block in (1, 1000, 1 << 20):
        slots, scores = by_torch(bank._rows, labels, lines[4], wanted, normalize, block)
        torch.testing.assert_close(scores, found.scores, atol=1e-5, rtol=1e-5)
        ids = torch.where(slots >= 0, lines[0][slots.clamp(min=0)], -1)
        assert (ids == found.ids).float().mean() > 0.99


def torch_found(bank: MemoryBank, anchors: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = dict(zip(("ids", "groups", "keys"), bank.book, strict=False))
    return by_torch(bank.rows, labels, bank.book[4], checked_wanted(bank, anchors, k, {}, None), bank.normalize)


def test_torch_takes_anchors_of_any_length() -> None:
    bank, anchors = filled(), numbers(4, 8, seed=3)
    anchors[3] = 0
    expected = torch_found(bank, anchors, 5)
    for scale in (1e-37, 1e-20, 1e37):
        torch.testing.assert_close(torch_found(bank, anchors * scale, 5)[1], expected[1])
    torch.testing.assert_close(expected[1], bank.hardest(anchors, 5).scores)


def test_torch_refuses_products_that_overflow() -> None:
    bank = MemoryBank(4, 4, normalize=False)
    bank.enqueue(torch.tensor([[1e30, -1e30, 0.0, 0.0]]), [0])
    for look in (torch_found, MemoryBank.hardest):
        with pytest.raises(InvalidValueError, match="anchors must be small enough for dot products in float32"):
            look(bank, torch.full((1, 4), 1e30), 1)


def test_torch_finds_scores_in_float32_whatever_the_default() -> None:
    bank = filled()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch_found(bank, numbers(3, 8), 50)[1].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_precision_is_kept_and_scored_in_full(dtype: Any) -> None:
    bank = filled(dtype=dtype)
    found = bank.hardest(numbers(4, 8, seed=1), 5)
    assert (found.rows.dtype, found.scores.dtype, found.ids.dtype) == (dtype, torch.float32, torch.int64)
    anchors = torch.nn.functional.normalize(numbers(4, 8, seed=1))
    rows = torch.nn.functional.normalize(found.rows.float(), dim=-1)
    torch.testing.assert_close(torch.einsum("nd,nkd->nk", anchors, rows), found.scores)
    full = filled().hardest(numbers(4, 8, seed=1), 5)
    torch.testing.assert_close(full.scores, found.scores, atol=TOLERANCE[dtype], rtol=0)
    half = bank.hardest(numbers(4, 8, seed=1).to(dtype), 5)
    torch.testing.assert_close(half.scores, found.scores, atol=TOLERANCE[dtype], rtol=0)


def test_modules_that_change_their_dtype_leave_the_bank_as_it_is() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), filled())
    before = copy.deepcopy(model[1])
    model.half().double().to("cpu").float()
    assert model[1].dtype == torch.float32 and same(model[1], before)
    model.to(torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16 and same(model[1], before)
    with pytest.raises(InvalidValueError, match="meta"):
        model.to("meta")


def test_no_gradient_flows_through_the_bank() -> None:
    rows = numbers(5, 8).requires_grad_()
    bank = MemoryBank(10, 8)
    bank.enqueue(rows, range(5))
    anchors = numbers(2, 8, seed=1).requires_grad_()
    found = bank.hardest(anchors, 3)
    assert not found.rows.requires_grad and not found.scores.requires_grad
    torch.einsum("nd,nkd->", anchors, found.rows).backward()
    assert rows.grad is None and anchors.grad is not None
    assert not list(bank.parameters())


def test_what_was_found_does_not_change_with_the_bank() -> None:
    bank = filled()
    found = bank.hardest(numbers(2, 8, seed=1), 3)
    kept = [part.clone() for part in found]
    bank.enqueue(numbers(40, 8, seed=5), range(100, 140))
    assert all(torch.equal(a, b) for a, b in zip(found, kept, strict=True))


def test_nothing_is_found_before_the_first_step() -> None:
    bank = MemoryBank(10, 4, start_step=2)
    anchors = numbers(3, 4)
    for step in range(4):
        found = bank.hardest(anchors, 2)
        there = step >= 3  # rows of step 2 have come
        assert bool((found.ids >= 0).any()) == there and bool(torch.isfinite(found.scores).any()) == there
        assert bool(found.rows.any()) == there and found.rows.shape == (3, 2, 4)
        bank.enqueue(anchors, range(3))
    assert filled(start_step=0).hardest(numbers(0, 8), 4).rows.shape == (0, 4, 8)
    empty = MemoryBank(10, 4).hardest(anchors, 20)
    assert (empty.ids == -1).all() and (empty.scores == -torch.inf).all() and not empty.rows.any()


def test_ages_and_steps() -> None:
    bank = MemoryBank(4, 2)
    assert bank.step == -1 and len(bank) == 0 and bank.ids.shape == (0,)
    empty = bank.staleness()
    assert empty.n_rows == 0 and np.isnan(empty.mean) and np.isnan(empty.largest)
    bank.enqueue(torch.eye(2), [7, 8], step=10)
    bank.enqueue(torch.eye(2), [7, 9])
    bank.enqueue(torch.eye(2)[:1], [5], step=11)
    bank.enqueue(torch.eye(2)[:0], [], step=20)
    assert (bank.step, bank.seen, len(bank)) == (20, 5, 4)
    assert bank.ids.tolist() == [8, 7, 9, 5] and bank.ages.tolist() == [10, 9, 9, 9]
    assert bank.staleness() == BankStaleness(4, 9.25, (9.0, 9.0, 9.0, 9.0, 10.0, 10.0))


def test_samples_are_of_distinct_rows_and_change_with_what_comes() -> None:
    bank, other = filled(seed=3), filled(seed=3)
    first = bank.sample(10)
    assert len(set(first.ids.tolist())) == 10 and first.rows.shape == (10, 8)
    assert torch.equal(first.ids, other.sample(10).ids) and torch.equal(bank.sample(4).ids, first.ids[:4])
    assert not torch.equal(filled(seed=4).sample(10).ids, first.ids)
    found = bank.hardest(first.rows, 1)
    assert torch.equal(found.ids[:, 0], first.ids)
    bank.enqueue(numbers(1, 8), [999])
    assert not torch.equal(bank.sample(10).ids, first.ids)
    before = bank.sample(10)
    bank.enqueue(numbers(1, 8), [999])  # what is held, and its order, is as it was
    assert not torch.equal(bank.sample(10).ids, before.ids)
    all_of_them = bank.sample(50)
    assert sorted(all_of_them.ids[:40].tolist()) == sorted(bank.ids.tolist())
    assert (all_of_them.ids[40:] == -1).all() and not all_of_them.rows[40:].any()
    assert bank.sample(0).rows.shape == (0, 8)
    for n in (1, 7, 39):
        assert torch.equal(bank.sample(n).ids, all_of_them.ids[:n])


@pytest.mark.parametrize("policy", POLICIES)
def test_copies_go_on_by_themselves(policy: Any) -> None:
    bank = filled(policy=policy, momentum=0.5, seed=6)
    bank.hardest(numbers(1, 8), 1)
    copies = [
        copy.deepcopy(bank),
        pickle.loads(pickle.dumps(bank)),  # noqa: S301
        copy.copy(bank),
    ]
    before = copy.deepcopy(bank)
    for other in copies:
        assert same(bank, other)
        other.enqueue(numbers(30, 8, seed=1), range(30))
    assert same(bank, before)
    bank.enqueue(numbers(30, 8, seed=1), range(30))
    assert all(same(bank, other) for other in copies)


def test_copies_made_in_inference_mode_can_be_written() -> None:
    bank = filled()
    with torch.inference_mode():
        copies = [copy.deepcopy(bank), pickle.loads(pickle.dumps(bank)), copy.copy(bank)]  # noqa: S301
    for other in copies:
        assert same(bank, other)
        other.enqueue(numbers(30, 8, seed=1), range(30))
    bank.enqueue(numbers(30, 8, seed=1), range(30))
    assert all(same(bank, other) for other in copies)


def test_threads_wait_for_each_other() -> None:
    bank, errors = MemoryBank(64, 32, momentum=0.5), list[BaseException]()
    anchors = torch.nn.functional.normalize(numbers(8, 32, seed=1))

    def write(first: int) -> None:
        for i in range(60):
            # All elements of a row are alike, so that a row which is half written shows.
            rows = torch.full((16, 32), 1.0 if (i + first) % 2 else -1.0)
            bank.enqueue(rows, (np.arange(16) + 16 * i) % 90, step=0)

    def read() -> None:
        for _ in range(60):
            found = bank.hardest(anchors, 10)
            there = found.ids >= 0
            assert (found.rows[there] == found.rows[there][:, :1]).all()
            torch.testing.assert_close(torch.einsum("nd,nkd->nk", anchors, found.rows)[there], found.scores[there])

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        return run

    workers = [threading.Thread(target=guarded(work)) for work in (lambda: write(0), lambda: write(1), read, read)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert not errors and not any(worker.is_alive() for worker in workers)
    assert bank.seen == 2 * 60 * 16 and len(set(bank.ids.tolist())) == 64


@pytest.mark.parametrize("during", ["_write_rows", "_found"])
def test_a_signal_handler_may_read_but_not_write(during: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, expected = filled(), filled()
    rows, n_reads = numbers(30, 8, seed=1), 0
    original = getattr(bank, during)

    def handled(*arguments: Any) -> Any:
        nonlocal n_reads
        if n_reads == 0:  # the handler itself looks up too
            n_reads += 1
            other = MemoryBank(40, 8)
            other.load_state_dict(copy.deepcopy(bank.state_dict()))
            assert same(bank, other)
            within = "enqueue" if during == "_write_rows" else "one that reads"
            for call in (lambda: bank.enqueue(rows, range(30)), lambda: bank.load_state_dict(bank.state_dict())):
                with pytest.raises(InvalidValueError, match=f"must not be called within .* got it within {within}"):
                    call()
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(bank, during, handled)
        bank.enqueue(rows, range(30))
        bank.hardest(rows, 3)
    expected.enqueue(rows, range(30))
    assert n_reads == 1 and same(bank, expected)


def test_an_interrupted_call_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = filled()
    ids = set(bank.ids.tolist())

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bank, "_write_rows", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bank.enqueue(numbers(3, 8), [500, 501, 502])
    assert set(bank.ids.tolist()) < ids and len(bank) == 37
    bank.enqueue(numbers(3, 8), [500, 501, 502])
    assert len(bank) == 40 and {500, 501, 502} < set(bank.ids.tolist())


def test_it_feeds_the_sampler() -> None:
    bank = MemoryBank(50, 8)
    rows = numbers(100, 8)
    bank.enqueue(rows[:50], range(50))
    sampler = NegativeSampler(
        [UniformRows(100)],
        num_negatives=4,
        probabilities={"hard": 1.0},
        min_random=0.25,
        positives=np.arange(100)[:, None],
        n_queries=100,
    )
    anchors = torch.tensor([3, 60])
    found = bank.hardest(rows[anchors], 10, exclude_ids=anchors)
    assert 3 not in found.ids[0]
    given = Candidates(found.ids, found.scores, positive_scores=torch.tensor([0.0, 0.0]))
    draw = sampler.draw(anchors, step=0, given={"bank": given})
    from_bank = draw.sources == draw.names.index("bank")
    assert from_bank.any()
    assert np.isin(draw.ids[from_bank], found.ids.numpy()).all()


ROWS = torch.eye(4)[:3]
BAD_BANKS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"capacity": 0}, InvalidValueError, "capacity must be"),
    ({"capacity": 2.5}, InvalidTypeError, "capacity must be"),
    ({"dim": 0}, InvalidValueError, "dim must be"),
    ({"dim": 1 << 17}, InvalidValueError, "dim must be"),
    ({"policy": "lifo"}, InvalidValueError, "policy must be"),
    ({"dtype": torch.float64}, InvalidTypeError, "dtype must be torch.float32"),
    ({"dtype": "float32"}, InvalidTypeError, "dtype must be"),
    ({"normalize": 1}, InvalidTypeError, "normalize must be"),
    ({"momentum": -0.1}, InvalidValueError, "momentum must be"),
    ({"momentum": 1.5}, InvalidValueError, "momentum must be"),
    ({"sync": "some"}, InvalidValueError, "sync must be"),
    ({"start_step": -1}, InvalidValueError, "start_step must be"),
    ({"seed": -1}, InvalidValueError, "seed must be"),
    ({"n_threads": 0}, InvalidValueError, "n_threads must be"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_BANKS)
def test_bad_settings(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MemoryBank(**{"capacity": 3, "dim": 4, **options})


def changed(row: int, value: float) -> Any:
    rows = ROWS.clone()
    rows[row, 2] = value
    return rows


BAD_BATCHES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rows": ROWS.tolist()}, InvalidTypeError, "rows must be a tensor of floats, got list"),
    ({"rows": ROWS.numpy()}, InvalidTypeError, "rows must be a tensor of floats, got ndarray"),
    ({"rows": ROWS.long()}, InvalidTypeError, "rows must be a tensor of floats, got torch.int64"),
    ({"rows": ROWS.to_sparse()}, InvalidTypeError, "rows must be a plain, dense tensor"),
    ({"rows": ROWS.to("meta")}, InvalidTypeError, "rows must be a plain, dense tensor"),
    ({"rows": ROWS[0]}, InvalidValueError, r"rows must be of shape \(n, 4\), got \(4,\)"),
    ({"rows": ROWS[:, :3]}, InvalidValueError, r"rows must be of shape \(n, 4\), got \(3, 3\)"),
    ({"rows": changed(1, float("nan"))}, InvalidValueError, "NaN or infinity in row 1"),
    ({"rows": changed(2, float("inf"))}, InvalidValueError, "NaN or infinity in row 2"),
    ({"rows": torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0]))[:3]}, InvalidValueError, "zeros only in row 2"),
    ({"ids": None}, InvalidTypeError, "ids must be integers, got None"),
    ({"ids": [0.0, 1.0, 2.0]}, InvalidTypeError, "ids must be integers"),
    ({"ids": [0, 1]}, InvalidValueError, r"ids must be of shape \(3,\)"),
    ({"ids": [[0], [1], [2]]}, InvalidValueError, r"ids must be of shape \(3,\)"),
    ({"ids": [0, 1, -2]}, InvalidValueError, "ids must be at least -1, got -2 at position 2"),
    ({"ids": np.array([0, 1, 2**63], dtype=np.uint64)}, InvalidValueError, "ids must fit int64"),
    ({"groups": [0, -3, 0]}, InvalidValueError, "groups must be at least -1, got -3 at position 1"),
    ({"keys": [0]}, InvalidValueError, r"keys must be of shape \(3,\)"),
    ({"step": 4}, InvalidValueError, "step must be at least 5, the last one, got 4"),
    ({"step": -1}, InvalidValueError, "step must be"),
    ({"step": 6.0}, InvalidTypeError, "step must be"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_BATCHES)
def test_bad_batches_change_nothing(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    bank = MemoryBank(5, 4)
    bank.enqueue(ROWS, range(3), step=5)
    before = copy.deepcopy(bank)
    with pytest.raises(error, match=message):
        bank.enqueue(**{"rows": ROWS, "ids": [7, 8, 9], **arguments})
    assert same(bank, before)


def test_rows_that_the_dtype_cannot_hold_are_refused() -> None:
    bank = MemoryBank(5, 4, dtype=torch.float16, normalize=False)
    with pytest.raises(InvalidValueError, match=r"rows must fit torch.float16, got 1.000e\+05 in row 1"):
        bank.enqueue(changed(1, 1e5), range(3))
    MemoryBank(5, 4, dtype=torch.float16).enqueue(changed(1, 1e30), range(3))
    tiny = MemoryBank(5, 4)
    tiny.enqueue(torch.full((1, 4), 1e-40), [0])
    for value, way in ((1e-60, "up"), (1e300, "down")):
        with pytest.raises(InvalidValueError, match=f"scale the rows {way}"):
            tiny.enqueue(torch.full((1, 4), value, dtype=torch.float64), [0])
    assert tiny.hardest(torch.ones(1, 4), 1).scores[0, 0] == pytest.approx(1)


ANCHORS = torch.eye(4)[:2]
BAD_LOOKUPS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"anchors": ANCHORS.numpy()}, InvalidTypeError, "anchors must be a tensor of floats"),
    ({"anchors": ANCHORS[:, :2]}, InvalidValueError, r"anchors must be of shape \(n, 4\)"),
    ({"anchors": torch.tensor([[0.0, 1, 0, 0], [0, torch.nan, 0, 0]])}, InvalidValueError, "row 1"),
    ({"k": 0}, InvalidValueError, "k must be"),
    ({"k": 1 << 21}, InvalidValueError, "k must be"),
    ({"k": 1.0}, InvalidTypeError, "k must be"),
    ({"exclude_ids": [1]}, InvalidValueError, r"exclude_ids must be of shape \(2,\) or \(2, m\)"),
    ({"exclude_ids": [1, -2]}, InvalidValueError, "exclude_ids must be at least -1"),
    ({"exclude_groups": [0.5, 1.0]}, InvalidTypeError, "exclude_groups must be integers"),
    ({"exclude_keys": np.zeros((2, 1, 1), dtype=np.int64)}, InvalidValueError, "exclude_keys must be of shape"),
    ({"max_score": "high"}, InvalidTypeError, "max_score must be a number"),
    ({"max_score": [0.5]}, InvalidValueError, r"max_score must be a number or of shape \(2,\)"),
    ({"max_score": [[0.5], [0.5, 0.6]]}, InvalidValueError, "max_score must be a rectangular list"),
    ({"max_score": float("nan")}, InvalidValueError, "max_score must be numbers, got NaN"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_LOOKUPS)
def test_bad_lookups(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    bank = MemoryBank(5, 4)
    bank.enqueue(ROWS, range(3))
    with pytest.raises(error, match=message):
        bank.hardest(**{"anchors": ANCHORS, "k": 2, **arguments})


def test_exclusions_of_one_label_or_many() -> None:
    bank = MemoryBank(5, 4, normalize=False)
    bank.enqueue(torch.tensor([[3.0, 0, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0]]), [10, 11, -1], [4, -1, -1], [5, 5, 6])
    anchor = torch.tensor([[1.0, 0, 0, 0]])

    def ids(**arguments: Any) -> Any:
        return bank.hardest(anchor, 3, **arguments).scores[0].tolist()

    assert ids() == [3, 2, 1]
    assert ids(exclude_ids=[-1]) == [3, 2, 1]  # -1 refuses nothing, not even rows without an id
    assert ids(exclude_ids=torch.tensor([10])) == [2, 1, -np.inf]
    assert ids(exclude_ids=[[*range(9), 11, 10]]) == [1, -np.inf, -np.inf]
    assert ids(exclude_groups=[[4, 7]]) == [2, 1, -np.inf]
    assert ids(exclude_keys=[5], exclude_groups=[-1]) == [1, -np.inf, -np.inf]
    assert ids(max_score=2) == [2, 1, -np.inf] and ids(max_score=torch.tensor([1.5])) == [1, -np.inf, -np.inf]
    assert ids(exclude_ids=np.empty((1, 0), dtype=np.int64)) == [3, 2, 1]


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_the_threads_do_not_matter(n_threads: int) -> None:
    rows, ids = numbers(3000, 32), np.arange(3000) % 2900
    bank, other = (MemoryBank(2600, 32, n_threads=n) for n in (3, n_threads))
    for each in (bank, other):
        each.enqueue(rows[:1500], ids[:1500])
        each.hardest(rows[:9], 3)  # from here on codes are renewed
        each.enqueue(rows[1500:], ids[1500:])
    assert all(
        torch.equal(a, b) for a, b in zip(bank.hardest(rows[:99], 20), other.hardest(rows[:99], 20), strict=True)
    )
