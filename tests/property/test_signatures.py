"""Signatures against numpy: distances and rankings by them, rows in any container."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import negfast
from strategies import Case, cases

THREADS = [1, 2, 7]
sizes = st.sampled_from([0, 1, 2, 7, 8, 9, 31, 32, 33, 70])
bits = st.sampled_from([64, 128, 192, 384])


def distances(a: Any, b: Any) -> Any:
    """Count differing bits by unpacking them."""
    x = np.unpackbits(a.view(np.uint8), axis=1)
    y = np.unpackbits(b.view(np.uint8), axis=1)
    return (x[:, None] != y[None]).sum(axis=2)


@given(sizes, sizes, bits, st.integers(0, 2**32), st.sampled_from(THREADS))
def test_hamming(n_a: int, n_b: int, n_bits: int, seed: int, n_threads: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 2**64, (n, n_bits // 64), dtype=np.uint64) for n in (n_a, n_b))
    if n_a and n_b:
        b[0] = ~a[0]
        b[-1] = a[-1]
    got = negfast.SimHash(3, n_bits).hamming(a, b, n_threads=n_threads)
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, distances(a, b))


@given(cases(), bits, st.sampled_from(["cosine", "dot"]), st.booleans(), st.data())
def test_signatures_and_symmetric_candidates(
    case: Case, n_bits: int, metric: Any, fitted: bool, data: st.DataObject
) -> None:
    (queries, corpus), (plain_queries, plain_corpus) = case.given, case.plain
    dim = plain_corpus.shape[1]
    simhash = negfast.SimHash(dim, n_bits, metric=metric, seed=data.draw(st.integers(0, 2**64 - 1)))
    if fitted:
        simhash.fit(corpus, n_threads=data.draw(st.sampled_from(THREADS)))
        other = negfast.SimHash(dim, n_bits, metric=metric).fit(plain_corpus)
        np.testing.assert_array_equal(simhash.centre, other.centre)
        units = plain_corpus.astype(np.float64)
        if metric == "cosine":
            norms = np.linalg.norm(units, axis=1, keepdims=True)
            units = np.divide(units, norms, out=np.zeros_like(units), where=norms > 0)
        np.testing.assert_allclose(simhash.centre, units.mean(axis=0) if len(units) else 0, rtol=1e-6, atol=1e-7)
    signatures, factors = simhash.encode_with_factors(corpus)
    for mine, theirs in zip((signatures, factors), simhash.encode_with_factors(plain_corpus), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    k = data.draw(st.sampled_from([0, 1, 3, len(plain_corpus) + 2]))
    n_threads = data.draw(st.sampled_from(THREADS))
    got = simhash.candidates(queries, signatures, k, symmetric=True, n_threads=n_threads)
    # Under dot products a query is not moved by the centre.
    moved = simhash if metric == "cosine" else negfast.SimHash(dim, n_bits, metric=metric, seed=simhash.seed)
    ranked = np.argsort(distances(moved.encode(plain_queries), signatures), axis=1, kind="stable")[:, :k]
    expected = np.full((len(plain_queries), k), -1)
    expected[:, : ranked.shape[1]] = ranked
    np.testing.assert_array_equal(got, expected)
    for given_factors in (None, factors):
        lists = simhash.candidates(queries, signatures, k, factors=given_factors, n_threads=n_threads)
        again = simhash.candidates(plain_queries, signatures, k, factors=given_factors)
        np.testing.assert_array_equal(lists, again)
        for row in lists:
            real = row[row >= 0]
            assert len(set(real.tolist())) == len(real) == min(k, len(plain_corpus))


@given(sizes, st.integers(0, 2**32))
def test_a_longer_list_extends_a_shorter_one(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (n, 10)).astype(np.float32)
    simhash = negfast.SimHash(10, 64, seed=seed).fit(rows)
    signatures, factors = simhash.encode_with_factors(rows)
    whole = simhash.candidates(rows, signatures, n, factors=factors)
    for k in (1, n // 2):
        if k <= n:
            np.testing.assert_array_equal(simhash.candidates(rows, signatures, k, factors=factors), whole[:, :k])


def test_every_level_and_number_of_threads_agrees() -> None:
    """Past every block, and enough work for threads to start."""
    code = (
        "import json, numpy as np, negfast\n"
        "rng = np.random.default_rng(5)\n"
        "rows = rng.standard_normal((3000, 50)).astype(np.float32) + 0.2\n"
        "rows[::7] = rows[0]\n"
        "found = []\n"
        "for n in (1, 2, 7):\n"
        "    simhash = negfast.SimHash(50, 192).fit(rows, n_threads=n)\n"
        "    words, factors = simhash.encode_with_factors(rows, n_threads=n)\n"
        "    ways = ({'factors': factors}, {}, {'symmetric': True})\n"
        "    lists = [simhash.candidates(rows[:500], words, 20, n_threads=n, **way).tolist() for way in ways]\n"
        "    bits = simhash.hamming(words[:300], words, n_threads=n)\n"
        "    found.append([words.tolist(), factors.view(np.uint32).tolist(), lists, bits.tolist()])\n"
        "print(json.dumps([negfast.simd_level(), found]))"
    )
    answers = {}
    for level in ("scalar", "avx2", "avx512"):
        environment = os.environ | {"NEGFAST_SIMD": level}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100, check=True
        )
        name, found = json.loads(done.stdout)
        answers[name] = found
    first = answers["scalar"][0]
    assert all(found == first for several in answers.values() for found in several)
