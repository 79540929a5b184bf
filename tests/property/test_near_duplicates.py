"""`near_duplicates` equals the components of all pairs that score enough."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import negfast
import oracle
from strategies import Case, cases

THREADS = [1, 2, 7]


def some_threshold(data: st.DataObject, rows: Any) -> float:
    """Draw a threshold that often is a score, or the next number above one."""
    scores = oracle.score_matrix(rows, rows).ravel()
    scores = scores[(scores > 0) & (scores <= 1)]
    if len(scores) and data.draw(st.booleans()):
        score = float(scores[data.draw(st.integers(0, len(scores) - 1))])
        return min(1.0, score if data.draw(st.booleans()) else float(np.nextafter(score, 2.0)))
    return data.draw(st.sampled_from([1e-9, 0.3, 0.5, 0.9, 0.999_999, 1.0]))


@given(cases(), st.data())
def test_near_duplicates(case: Case, data: st.DataObject) -> None:
    threshold = some_threshold(data, case.plain[1])
    note(f"{case}\n{threshold}")
    groups = negfast.near_duplicates(case.given[1], threshold, n_threads=data.draw(st.sampled_from(THREADS)))
    assert groups.dtype == np.int64
    np.testing.assert_array_equal(groups, oracle.near_duplicates(case.plain[1], threshold))


def chains(n: int, rng: np.random.Generator) -> Any:
    """Rows in the plane, a few degrees apart: long chains of links, in no order."""
    angles = np.deg2rad(rng.integers(0, 180, n) * 2.0 + rng.normal(0, 0.1, n))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_every_level_and_number_of_threads_agrees() -> None:
    """Past every block, and enough work for threads to start."""
    code = (
        "import json, sys, numpy as np, negfast\n"
        "rng = np.random.default_rng(5)\n"
        "rows = rng.standard_normal((9000, 24)).astype(np.float32)\n"
        "rows[::7] = rows[0]\n"
        "rows[3::9] *= rng.random((1000, 1)).astype(np.float32)\n"
        "rows[5::11] = rows[4::11][: len(rows[5::11])] + 0.3 * rng.standard_normal((818, 24)).astype(np.float32)\n"
        "found = [negfast.near_duplicates(rows, t, n_threads=n).tolist() for t in (0.6, 0.9, 1.0) for n in (1, 2, 7)]\n"
        "print(json.dumps([negfast.simd_level(), found]))"
    )
    answers = {}
    for level in ("scalar", "avx2", "avx512"):
        environment = os.environ | {"NEGFAST_SIMD": level}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100
        )
        if done.returncode == 0:
            name, found = json.loads(done.stdout)
            answers[name] = found
    first = answers["scalar"]
    assert len({len(set(groups)) for groups in first}) == 3
    assert all(groups == first[i - i % 3] for found in answers.values() for i, groups in enumerate(found))


@pytest.mark.parametrize("degrees", [1.9, 2.1, 2.5, 4.0])
def test_chains(degrees: float) -> None:
    rows = chains(700, np.random.default_rng(3))
    threshold = float(np.cos(np.deg2rad(degrees)))
    np.testing.assert_array_equal(negfast.near_duplicates(rows, threshold), oracle.near_duplicates(rows, threshold))


def test_the_ends_of_a_chain_need_not_be_alike(circle: Any) -> None:
    groups = negfast.near_duplicates(circle(0, 90, 20, 110, 10), float(np.cos(np.deg2rad(15))))
    assert groups.tolist() == [0, 1, 0, 2, 0]


def test_zero_rows_are_alone() -> None:
    rows = np.array([[0, 0], [1, 0], [0, 0], [-0.0, 0], [3, 0], [-1, 0]], dtype=np.float32)
    assert negfast.near_duplicates(rows, 1e-300).tolist() == [0, 1, 2, 3, 1, 4]
    assert negfast.near_duplicates(np.zeros((300, 3), np.float16), 1.0).tolist() == list(range(300))


def test_copies_are_one_group_and_cost_no_memory() -> None:
    """As a list the links would be 200 million."""
    rows = np.full((20_000, 3), 0.7, dtype=np.float32)
    rows[::1000] = [1, -1, 0]
    groups = negfast.near_duplicates(rows, 1.0)
    assert np.array_equal(groups, (np.arange(20_000) % 1000 != 0).astype(np.int64))


def test_few_rows() -> None:
    assert negfast.near_duplicates(np.zeros((0, 4), np.float32), 0.5).shape == (0,)
    assert negfast.near_duplicates(np.ones((1, 4), np.float32), 0.5).tolist() == [0]


def test_groups_keep_near_duplicates_of_positives_away() -> None:
    rng = np.random.default_rng(1)
    corpus = rng.standard_normal((40, 8)).astype(np.float32)
    corpus[20:] = corpus[:20] + np.float32(1e-3)
    groups = negfast.near_duplicates(corpus, 0.99)
    assert groups.tolist() == [*range(20), *range(20)]
    mined = negfast.mine(corpus[:20], corpus, np.arange(20), num_negatives=39, groups=(np.full(20, -1), groups))
    assert mined.report.removed["group"] == 20
