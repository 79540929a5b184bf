"""Signatures: what they hold, what they find, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast._negfast import write_tensors

Type, Value, State = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.StateError
RNG = np.random.default_rng(7)
ROWS = RNG.standard_normal((40, 24)).astype(np.float32)
HASH = negfast.SimHash(24, 128, seed=2).fit(ROWS)
SIGNATURES, FACTORS = HASH.encode_with_factors(ROWS)


def clusters(n: int, dim: int, seed: int, size: int = 150) -> Any:
    """Make rows around centres, `size` to each, that share a direction, as sentence embeddings do."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n // size, dim)) + 0.3
    return (centres[rng.integers(0, len(centres), n)] + 0.8 * rng.standard_normal((n, dim))).astype(np.float32)


def found(candidates: Any, truth: Any) -> float:
    """Return the share of the true rows that are among the candidates."""
    shares = [np.isin(true, mine).mean() for true, mine in zip(truth, candidates, strict=True)]
    return float(np.mean(shares))


def needed(candidates: Any, truth: Any) -> int:
    """Return how many candidates hold 99 % of the true rows."""
    hits = np.stack([np.isin(mine, true) for true, mine in zip(truth, candidates, strict=True)])
    return int(np.argmax(hits.cumsum(axis=1).mean(axis=0) >= 0.99 * truth.shape[1])) + 1


def test_shapes_and_types() -> None:
    assert (SIGNATURES.shape, SIGNATURES.dtype) == ((40, 2), np.uint64)
    assert (FACTORS.shape, FACTORS.dtype) == ((40, 3), np.float32)
    np.testing.assert_array_equal(HASH.encode(ROWS), SIGNATURES)
    candidates = HASH.candidates(ROWS[:3], SIGNATURES, 5, factors=FACTORS)
    assert (candidates.shape, candidates.dtype) == ((3, 5), np.int64)
    assert (HASH.hamming(SIGNATURES[:3], SIGNATURES).shape, HASH.hamming(SIGNATURES, SIGNATURES).dtype) == (
        (3, 40),
        np.uint16,
    )
    assert repr(negfast.SimHash(3, 64)) == "SimHash(3, 64, metric='cosine', seed=0), not fitted"


def test_rows_find_themselves() -> None:
    for options in ({"factors": FACTORS}, {}, {"symmetric": True}):
        candidates = HASH.candidates(ROWS, SIGNATURES, 1, **options)
        assert candidates[:, 0].tolist() == list(range(40)), options


def test_hamming_distances_estimate_angles() -> None:
    """The mean over pairs has a standard deviation below 1e-3; six of them make a false alarm of 2e-9."""
    rows = RNG.standard_normal((2, 512)).astype(np.float32)
    for share in (0.0, 0.5, 0.9):
        other = np.float32(share) * rows[0] + np.float32(np.sqrt(1 - share**2)) * rows[1]
        pair = np.stack([rows[0], other])
        angle = np.arccos(negfast.topk(pair[:1], pair, 2).scores[0, 1])
        shares = []
        for seed in range(200):
            simhash = negfast.SimHash(512, 1024, seed=seed)
            signatures = simhash.encode(pair)
            shares.append(simhash.hamming(signatures[:1], signatures[1:])[0, 0] / 1024)
        assert abs(np.mean(shares) - angle / np.pi) < 6e-3


def test_queries_that_keep_their_numbers_need_fewer_candidates() -> None:
    corpus = clusters(6000, 96, 1, size=1500)
    queries = corpus[:200] + 0.5 * RNG.standard_normal((200, 96)).astype(np.float32)
    truth = negfast.topk(queries, corpus, 10).indices
    simhash = negfast.SimHash(96, 128, seed=1).fit(corpus)
    signatures, factors = simhash.encode_with_factors(corpus)
    ways: list[dict[str, Any]] = [{"factors": factors}, {}, {"symmetric": True}]
    corrected, plain, symmetric = (needed(simhash.candidates(queries, signatures, 6000, **way), truth) for way in ways)
    assert 1.1 * corrected < plain
    assert 1.5 * corrected < symmetric


def test_dot_products_are_estimated_with_the_lengths_of_rows() -> None:
    corpus = clusters(3000, 64, 5) * RNG.uniform(0.2, 3.0, (3000, 1)).astype(np.float32)
    queries = RNG.standard_normal((50, 64)).astype(np.float32) + 0.5
    truth = negfast.topk(queries, corpus, 10, metric="dot").indices
    simhash = negfast.SimHash(64, 256, metric="dot").fit(corpus)
    signatures, factors = simhash.encode_with_factors(corpus)
    corrected = simhash.candidates(queries, signatures, 30, factors=factors)
    plain = simhash.candidates(queries, signatures, 30)
    symmetric = simhash.candidates(queries, signatures, 30, symmetric=True)
    assert found(corrected, truth) > found(plain, truth) + 0.1
    assert found(plain, truth) > found(symmetric, truth)
    assert found(simhash.candidates(queries, signatures, 100, factors=factors), truth) > 0.95
    scaled = simhash.candidates(queries * np.float32(1e-3), signatures, 100, factors=factors)
    assert found(scaled, truth) > 0.95


def test_candidates_serve_a_selection() -> None:
    corpus = clusters(2000, 64, 9)
    simhash = negfast.SimHash(64, 256).fit(corpus)
    signatures, factors = simhash.encode_with_factors(corpus)
    lists = simhash.candidates(corpus[:50], signatures, 300, factors=factors)
    options: dict[str, Any] = {"num_negatives": 4, "rules": negfast.Rules(relative_margin=None)}
    chosen = negfast.select(corpus[:50], corpus, lists, np.arange(50), **options)
    mined = negfast.mine(corpus[:50], corpus, np.arange(50), **options)
    assert (chosen.indices == mined.indices).mean() > 0.95


def test_few_rows_and_no_rows() -> None:
    empty = np.zeros((0, 24), np.float32)
    assert HASH.encode(empty).shape == (0, 2)
    assert HASH.candidates(empty, SIGNATURES, 3).shape == (0, 3)
    assert HASH.candidates(ROWS, SIGNATURES[:0], 2, factors=FACTORS[:0]).tolist() == [[-1, -1]] * 40
    assert HASH.candidates(ROWS, SIGNATURES, 0).shape == (40, 0)
    assert HASH.hamming(SIGNATURES[:0], SIGNATURES).shape == (0, 40)
    padded = HASH.candidates(ROWS[:1], SIGNATURES[:2], 4)
    assert sorted(padded[0].tolist()) == [-1, -1, 0, 1] and padded[0, 2:].tolist() == [-1, -1]
    assert not negfast.SimHash(24, 64).fit(empty).centre.any()
    one = negfast.SimHash(1, 64)
    both = one.encode(np.array([[2.0], [-3.0]], np.float32))
    assert one.hamming(both[:1], both[1:]).tolist() == [[64]]


def test_rows_of_zeros_are_legal() -> None:
    rows = ROWS.copy()
    rows[5] = 0
    for metric in ("cosine", "dot"):
        simhash = negfast.SimHash(24, 64, metric=metric)  # type: ignore[arg-type]
        signatures, factors = simhash.encode_with_factors(rows)
        assert signatures[5].tolist() == [0] and factors[5].tolist() == [0, 0, 0]
        # Of a query of zeros nothing is known: rows come in their order.
        ordered = simhash.candidates(rows[5:6], signatures, 40, factors=factors)
        assert ordered.tolist() == [list(range(40))]


def test_copies_are_ranked_by_row() -> None:
    rows = np.repeat(ROWS[:2], 700, axis=0)
    signatures, factors = HASH.encode_with_factors(rows)
    for options in ({"factors": factors}, {}, {"symmetric": True}):
        candidates = HASH.candidates(ROWS[1:2], signatures, 800, **options)
        assert candidates[0].tolist() == [*range(700, 1400), *range(100)], options


def test_threads_do_not_matter() -> None:
    corpus, queries = clusters(5000, 70, 2), clusters(400, 70, 3)
    answers = []
    for n in (1, 2, 7):
        simhash = negfast.SimHash(70, 192).fit(corpus, n_threads=n)
        signatures, factors = simhash.encode_with_factors(corpus, n_threads=n)
        lists = simhash.candidates(queries, signatures, 30, factors=factors, n_threads=n)
        bits = simhash.hamming(signatures[:200], signatures, n_threads=n)
        answers.append((simhash.centre, signatures, factors, lists, bits))
    for other in answers[1:]:
        for mine, theirs in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_progress_is_heard() -> None:
    heard: list[float] = []
    HASH.candidates(ROWS, HASH.encode(ROWS, progress=heard.append), 3, progress=heard.append)
    assert heard == [1.0, 1.0]


def test_pinned_signatures() -> None:
    """A seed that is written down gives the same signatures for ever."""
    rows = (np.arange(300, dtype=np.float32).reshape(3, 100) * 7919 % 101) - 50
    signatures, factors = negfast.SimHash(100, 64, seed=42).fit(rows).encode_with_factors(rows)
    assert [hex(word) for word in signatures[:, 0].tolist()] == [
        "0xb3e6f1ef1e4c0d0",
        "0x74c548191c7f0d09",
        "0xb6bab3e7ae9273e6",
    ]
    assert [x.hex() for x in factors[0].tolist()] == [
        "0x1.67a4360000000p-3",
        "0x1.2ba6400000000p-3",
        "0x1.cade5c0000000p-4",
    ]


# What is saved


def test_save_and_load(tmp_path: Path) -> None:
    simhash = negfast.SimHash(24, 128, metric="dot", seed=2**64 - 1).fit(ROWS)
    simhash.save(tmp_path / "hash.safetensors")
    again = negfast.SimHash.load(tmp_path / "hash.safetensors")
    assert repr(again) == repr(simhash)
    np.testing.assert_array_equal(again.centre, simhash.centre)
    np.testing.assert_array_equal(again.encode(ROWS), simhash.encode(ROWS))
    assert [path.name for path in tmp_path.iterdir()] == ["hash.safetensors"]
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "hash.safetensors").read_bytes()


def test_state_dict() -> None:
    other = negfast.SimHash(24, 128, seed=2)
    state = HASH.state_dict()
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.encode(ROWS), SIGNATURES)
    state["centre"][:] = 9  # it is the caller's own
    np.testing.assert_array_equal(other.centre, HASH.centre)
    with pytest.raises(ValueError, match="read-only"):
        other.centre[0] = 1


STATE = HASH.state_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"format of the state must be 1.*got 2"),
        ({"format": True}, r"format of the state must be 1.*True"),
        ({"dim": 25}, r"dim of the state must be 24.*25"),
        ({"n_bits": 64}, r"n_bits of the state must be 128.*64"),
        ({"metric": "dot"}, r"metric of the state must be 'cosine'.*'dot'"),
        ({"seed": 3}, r"seed of the state must be 2, .*3"),
        ({"seed": np.arange(2)}, r"seed of the state must be 2"),
        ({"centre": None}, r"centre of the state must be 24 finite numbers.*NoneType"),
        ({"centre": np.zeros(24)}, r"centre of the state.*float64 \(24,\)"),
        ({"centre": np.zeros(23, np.float32)}, r"centre of the state.*\(23,\)"),
        ({"centre": np.full(24, np.nan, np.float32)}, r"centre of the state.*finite"),
        ({"centre": np.full(24, 1e30, np.float32)}, r"centre of the state.*1e15"),
    ],
)
def test_other_states_are_refused(changes: dict[str, Any], message: str) -> None:
    simhash = negfast.SimHash(24, 128, seed=2)
    with pytest.raises(State, match=message):
        simhash.load_state_dict({**STATE, **changes})
    assert not simhash.centre.any()


def test_a_state_without_a_field_is_refused() -> None:
    for name in STATE:
        with pytest.raises(State, match=f"^{name} of the state"):
            HASH.load_state_dict({key: value for key, value in STATE.items() if key != name})
    with pytest.raises(Type, match="state must be a mapping, got list"):
        HASH.load_state_dict([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metadata", "tensors", "message"),
    [
        ({"format": 2}, None, r"SimHash of format 1, got 'SimHash' of format 2; read it"),
        ({"format": True}, None, r"of format 1.*True"),
        ({"kind": "MinedNegatives"}, None, r"must hold a SimHash.*MinedNegatives"),
        ({"n_bits": 100}, None, r"damaged.*multiple of 64"),
        ({"dim": 23}, None, r"damaged.*23 finite numbers"),
        ({"dim": "24"}, None, r"damaged.*integer"),
        ({"metric": "l2"}, None, r"damaged.*metric"),
        ({"seed": -1}, None, r"damaged.*seed"),
        ({}, [], r"damaged.*tensors \[\]"),
        ({}, [("centre", "float64", [24], np.zeros(24))], r"damaged.*float64"),
        ({}, [("centre", "float32", [24], np.full(24, np.inf, np.float32))], r"damaged.*finite"),
        ({}, [("other", "float32", [24], np.zeros(24, np.float32))], r"damaged.*other"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, metadata: dict[str, Any], tensors: list[Any] | None, message: str
) -> None:
    path = tmp_path / "hash.safetensors"
    if tensors is None:
        tensors = [("centre", "float32", [24], np.zeros(24, np.float32))]
    good = {"kind": "SimHash", "format": 1, "dim": 24, "n_bits": 128, "metric": "cosine", "seed": 0}
    raw = [(name, dtype, shape, array.view(np.uint8)) for name, dtype, shape, array in tensors]
    write_tensors(path, raw, json.dumps({**good, **metadata}))
    with pytest.raises(State, match=f"^{re.escape(str(path))}.*{message}"):
        negfast.SimHash.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(State, match="file"):
        negfast.SimHash.load(path)
    write_tensors(path, [], "no JSON")
    with pytest.raises(State, match="no file that negfast saved"):
        negfast.SimHash.load(path)
    with pytest.raises(FileNotFoundError):
        negfast.SimHash.load(tmp_path / "absent")
    with pytest.raises(OSError, match="absent"):
        HASH.save(tmp_path / "absent" / "hash")


# Bad input


def make(*arguments: Any, **options: Any) -> Callable[[], Any]:
    return lambda: negfast.SimHash(*arguments, **options)


def fit(rows: Any, **options: Any) -> Callable[[], Any]:
    return lambda: negfast.SimHash(24, 64).fit(rows, **options)


def encode(rows: Any, **options: Any) -> Callable[[], Any]:
    return lambda: HASH.encode(rows, **options)


def hamming(a: Any = SIGNATURES, b: Any = SIGNATURES, **options: Any) -> Callable[[], Any]:
    return lambda: HASH.hamming(a, b, **options)


def candidates(queries: Any = ROWS, signatures: Any = SIGNATURES, k: Any = 3, **options: Any) -> Callable[[], Any]:
    return lambda: HASH.candidates(queries, signatures, k, **options)


def broken(value: float, row: int, rows: Any = ROWS) -> Any:
    rows = rows.copy()
    rows[row, 1] = value
    return rows


NAN = float("nan")
TABLE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("dim zero", make(0, 64), Value, r"dim must be at least 1, got 0"),
    ("dim huge", make(2**40, 64), Value, r"dim must be at most 1048576"),
    ("dim float", make(24.0, 64), Type, r"dim must be an integer"),
    ("n_bits not a multiple", make(24, 100), Value, r"n_bits must be a multiple of 64, got 100; use 128"),
    ("n_bits zero", make(24, 0), Value, r"n_bits must be at least 64, got 0"),
    ("n_bits too many", make(24, 16_448), Value, r"n_bits must be at most 16384"),
    ("n_bits bool", make(24, True), Type, r"n_bits must be an integer"),
    ("metric", make(24, 64, metric="l2"), Value, r"metric must be 'cosine' or 'dot', got 'l2'"),
    ("metric None", make(24, 64, metric=None), Type, r"metric"),
    ("seed", make(24, 64, seed=-1), Value, r"seed must be at least 0"),
    ("seed high", make(24, 64, seed=2**64), Value, r"seed must be at most"),
    ("fit float64", fit(ROWS.astype(np.float64)), Type, r"rows.*float32.*float64.*astype"),
    ("fit list", fit(ROWS.tolist()), Type, r"rows.*list"),
    ("fit dim", fit(ROWS[:, :5].copy()), Value, r"rows must be of dim 24.*dim 5"),
    ("fit nan", fit(broken(NAN, 4)), Value, r"rows.*row 4"),
    ("fit threads", fit(ROWS, n_threads=0), Value, r"n_threads"),
    ("encode one axis", encode(ROWS[0]), Value, r"rows.*\(24,\)"),
    ("encode dim", encode(np.ones((2, 25), np.float32)), Value, r"rows must be of dim 24.*dim 25"),
    ("encode Fortran", encode(np.asfortranarray(ROWS)), Value, r"rows.*ascontiguousarray"),
    ("encode inf", encode(broken(np.inf, 7)), Value, r"rows.*row 7"),
    ("encode uint16", encode(ROWS.astype(np.uint16)), Type, r"rows.*uint16"),
    ("encode progress", encode(ROWS, progress=1), Type, r"progress"),
    ("hamming list", hamming(a=[[1, 2]]), Type, r"a must be a numpy array, got list.*encode"),
    ("hamming int64", hamming(b=SIGNATURES.astype(np.int64)), Type, r"b must be.*uint64.*int64"),
    ("hamming float", hamming(b=SIGNATURES.astype(np.float64)), Type, r"b must be.*uint64.*float64"),
    ("hamming one axis", hamming(a=SIGNATURES[0]), Value, r"a must be 2-dimensional.*\(2,\)"),
    (
        "hamming width",
        hamming(b=SIGNATURES[:, :1].copy()),
        Value,
        r"b must be of shape \(n_rows, 2\), for 128 bits.*\(40, 1\)",
    ),
    ("hamming strided", hamming(a=SIGNATURES[::2]), Value, r"a must be C-contiguous.*ascontiguousarray"),
    ("hamming big-endian", hamming(a=SIGNATURES.astype(">u8")), Value, r"a.*byte order"),
    ("hamming masked", hamming(a=np.ma.masked_array(SIGNATURES)), Type, r"a.*mask"),
    ("queries dim", candidates(ROWS[:, :5].copy()), Value, r"queries must be of dim 24.*dim 5"),
    ("queries nan", candidates(broken(NAN, 2)), Value, r"queries.*row 2"),
    ("queries are signatures", candidates(SIGNATURES), Type, r"queries.*uint64"),
    (
        "signatures width",
        candidates(signatures=SIGNATURES[:, :1].copy()),
        Value,
        r"signatures must be of shape \(n_rows, 2\)",
    ),
    ("signatures None", candidates(signatures=None), Type, r"signatures.*NoneType"),
    ("signatures uint8", candidates(signatures=SIGNATURES.view(np.uint8)), Type, r"signatures.*uint64.*uint8"),
    ("k negative", candidates(k=-1), Value, r"k must be at least 0, got -1"),
    ("k float", candidates(k=2.0), Type, r"k must be an integer"),
    ("k huge", candidates(k=2**31), Value, r"k must be at most"),
    ("factors short", candidates(factors=FACTORS[:5]), Value, r"factors must be of shape \(40, 3\).*\[5, 3\]"),
    ("factors wide", candidates(factors=np.ones((60, 2), np.float32)), Value, r"factors must be of shape \(40, 3\)"),
    ("factors one axis", candidates(factors=FACTORS[:, 0].copy()), Value, r"factors must be 2-dimensional"),
    ("factors float64", candidates(factors=FACTORS.astype(np.float64)), Type, r"factors.*float32.*float64"),
    ("factors nan", candidates(factors=broken(NAN, 6, FACTORS)), Value, r"factors.*row 6"),
    ("factors list", candidates(factors=FACTORS.tolist()), Type, r"factors must be a numpy array, got list"),
    ("factors and symmetric", candidates(factors=FACTORS, symmetric=True), Value, r"factors must be None.*symmetric"),
    ("symmetric int", candidates(symmetric=1), Type, r"symmetric must be True or False"),
]


@pytest.mark.parametrize(("call", "kind", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"(?s){message}") as caught:
        call()
    assert isinstance(caught.value, negfast.NegfastError)


def test_long_rows_are_refused_under_dot_alone() -> None:
    rows = ROWS * np.float32(1e18)
    with pytest.raises(Value, match=r"rows must be of norms up to 1e15.*cosine"):
        negfast.SimHash(24, 64, metric="dot").encode(rows)
    np.testing.assert_array_equal(negfast.SimHash(24, 64).encode(rows), negfast.SimHash(24, 64).encode(ROWS))


def test_tensors_are_read_in_place() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        rows = torch.from_numpy(ROWS).to(dtype)
        plain = rows.float().numpy()
        np.testing.assert_array_equal(HASH.encode(rows), HASH.encode(plain))
        np.testing.assert_array_equal(HASH.candidates(rows, SIGNATURES, 5), HASH.candidates(plain, SIGNATURES, 5))
