"""The report: what was searched, what was removed, and what looks wrong in the data."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import negfast
from negfast.report import QUANTILES, Quantiles

Ladder = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
OFF = negfast.Rules(relative_margin=None)


def test_sizes_and_settings(rows: Any) -> None:
    mined = negfast.mine(rows(7, 5), rows(30, 5, seed=1), [[0]] * 6 + [[]], num_negatives=2, n_threads=2)
    report = mined.report
    assert (report.n_queries, report.n_corpus, report.dim, report.metric) == (7, 30, 5, "cosine")
    assert report.anchors_without_positive == 1
    assert report.search.method == "exact"
    assert report.search.recall == 1.0
    assert tuple(report.search.recall_interval) == (1.0, 1.0)
    assert report.search.rows_scanned == 7 * 30
    assert report.search.level == negfast.simd_level()
    assert report.search.n_threads in (1, 2)


def test_removed_rows_count_down_to_the_last_returned_score(ladder: Ladder) -> None:
    """Rows at the last score count, rows below it do not, whatever they were removed for."""
    corpus = np.array([[4], [3], [2], [2], [2], [1]], dtype=np.float32)
    mined = negfast.mine(
        ladder[0],
        corpus,
        [[0]],
        num_negatives=2,
        metric="dot",
        rules=OFF,
        forbidden=[3, 4, 5],
    )
    assert mined.indices.tolist() == [[1, 2]]
    assert mined.report.removed["forbidden"] == 2  # rows 3 and 4 tie with the last, row 5 is below


def test_suspects_rank_by_strictly_higher_rows(ladder: Ladder) -> None:
    _, corpus = ladder
    corpus = np.concatenate([corpus, corpus[3:4]])  # row 6 ties with row 3: the rank of 3 stays 4
    mined = negfast.mine(
        np.ones((2, 1), np.float32), corpus, [[0, 3], [5]], num_negatives=2, metric="dot", suspect_rank=3
    )
    suspects = mined.report.suspects
    got = zip(suspects.anchors.tolist(), suspects.positives.tolist(), suspects.ranks.tolist(), strict=True)
    assert sorted(got) == [(0, 3, 4), (1, 5, 7)]
    assert sorted(suspects.scores.tolist()) == [-0.25, 0.25]


@pytest.mark.parametrize("bound", [1, 3, 4])
def test_suspect_rank_is_the_last_rank_above_suspicion(ladder: Ladder, bound: int) -> None:
    mined = negfast.mine(*ladder, [[3]], num_negatives=2, metric="dot", suspect_rank=bound)
    assert len(mined.report.suspects.anchors) == (bound < 4)


def test_false_negative_share_is_known_only_with_labels(ladder: Ladder) -> None:
    assert negfast.mine(*ladder, [[0]], metric="dot", rules=OFF).report.false_negatives is None


def test_false_negative_share_by_hand(ladder: Ladder) -> None:
    groups = (np.array([1]), np.array([9, 1, 2, 1, 3, 4]))
    mined = negfast.mine(
        *ladder, [[0]], num_negatives=2, metric="dot", groups=groups, rules=negfast.Rules(relative_margin=0.4)
    )
    # the cap is .6: row 1 is above it and of the anchor's group, row 3 is of the group; 2 and 4 are returned
    assert mined.indices.tolist() == [[2, 4]]
    share = mined.report.false_negatives
    assert share.share_naive == pytest.approx(2 / 4)  # of rows 1, 2, 3 and 4: rows 1 and 3
    assert share.share_within_margin == pytest.approx(1 / 3)  # of rows 2, 3 and 4: row 3


def test_exposure_and_tiers_are_counted(rows: Any) -> None:
    mined = negfast.mine(rows(40, 4), rows(30, 4, seed=1), [[i % 30] for i in range(40)], num_negatives=3)
    counts = np.bincount(mined.tiers.ravel(), minlength=4)
    plain = json.loads(json.dumps(mined.report.to_dict()))
    numbers = list(_numbers(plain["tiers"]))
    assert set(counts[1:].tolist()) <= set(numbers)
    used = np.bincount(mined.indices[mined.indices >= 0])
    assert int(used.max()) in list(_numbers(plain["exposure"]))


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value]


def test_plain_dictionary_without_nan(rows: Any) -> None:
    """The dictionary is strict JSON, also where nothing was found."""
    for n, size in [(5, 20), (5, 0), (0, 0)]:
        mined = negfast.mine(rows(n, 4), rows(size, 4, seed=1), [[]] * n, num_negatives=3)
        json.dumps(mined.report.to_dict(), allow_nan=False)


def test_text_names_what_matters(rows: Any) -> None:
    groups = (np.zeros(9, np.int64), np.arange(50) % 3)
    mined = negfast.mine(rows(9, 4), rows(50, 4, seed=1), [[3]] * 9, groups=groups, num_negatives=3)
    text = str(mined.report)
    for word in ("exact", "group", "relative_margin", "9", "50"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


def test_measures_are_sane(rows: Any) -> None:
    report = negfast.mine(rows(9, 4), rows(50, 4, seed=1), [[3]] * 9, num_negatives=3).report
    assert report.working_bytes >= 0
    total = report.seconds["total"] if isinstance(report.seconds, dict) else report.seconds
    assert 0 < total < 60


def test_quantiles_of_very_many_numbers_are_of_an_even_part() -> None:
    # Rows sorted as lists are: a stride that goes with their length would meet one rank alone.
    lists = np.sort(np.random.default_rng(0).standard_normal((30_000, 100)), axis=1)[:, ::-1]
    found = Quantiles.of(lists)
    exact = np.quantile(lists, QUANTILES)
    assert (found.values[0], found.values[-1], found.count) == (exact[0], exact[-1], lists.size)
    shares = np.searchsorted(np.sort(lists, axis=None), found.values[1:-1]) / lists.size
    np.testing.assert_allclose(shares, QUANTILES[1:-1], atol=2e-3)


def test_products_may_differ_by_more_than_float32_holds() -> None:
    queries, corpus = np.zeros((4, 4), np.float32), np.zeros((6, 4), np.float32)
    queries[:, 0], corpus[:, 0] = 1e19, [-3e19, 3e19, 2e19, 1e19, 0, -1e19]
    rules = negfast.Rules(relative_margin=None)
    mined = negfast.mine(queries, corpus, np.zeros(4, int), num_negatives=3, metric="dot", rules=rules)
    assert mined.report.hardness.values[0] == pytest.approx(4e38)
    assert mined.report.hardness.values[-1] == pytest.approx(6e38)
