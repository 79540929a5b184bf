"""How to search, and what a search tells about itself."""

import json
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast import MinedNegatives, Search
from negfast.report import ADDED, SearchReport

K = 10
STAGES = {"measure", "plan", "index", "pack", "scan", "finish", "total"}


def clustered(n: int, seed: int, dim: int = 48) -> Any:
    """Make rows about sixty centres."""
    centres = np.random.default_rng(99).standard_normal((60, dim))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, 60, n)] + 0.6 * rng.standard_normal((n, dim))
    return rows.astype(np.float32)


def lists(**options: Any) -> MinedNegatives:
    """Mine lists that are long enough to have a recall."""
    queries, corpus = clustered(1200, 1), clustered(6000, 2)
    settings: dict[str, Any] = {"num_negatives": K, "rules": negfast.Rules(relative_margin=None)}
    return negfast.mine(queries, corpus, [[i] for i in range(1200)], **settings | options)


@pytest.fixture(scope="module")
def pruned() -> MinedNegatives:
    return lists(search=Search(recall=0.9, method="clusters"))


@pytest.fixture(scope="module")
def exact() -> MinedNegatives:
    return lists(search=Search(method="exact"))


def test_a_recall_of_one_is_no_matter_of_clusters() -> None:
    with pytest.raises(
        negfast.InvalidValueError, match=r'search\.recall must be below 1 with method="clusters".*certified'
    ):
        Search(method="clusters")
    assert Search(recall=0.99, method="clusters").recall == 0.99
    assert Search(method="certified").recall == 1.0


def test_unknown_methods_are_named_with_the_known() -> None:
    for name in ("certain", "Exact", "", "hnsw"):
        with pytest.raises(negfast.InvalidValueError, match=r"search\.method.*auto.*exact.*certified.*clusters"):
            Search(method=name)  # type: ignore[arg-type]


def test_codes_are_told_from_an_exact_search() -> None:
    queries, corpus = clustered(300, 1), clustered(3000, 2)
    found = negfast.topk(queries, corpus, K, search=Search(method="certified"), n_threads=2)
    search, same = found.report.search, negfast.topk(queries, corpus, K, search=Search(method="exact"))
    np.testing.assert_array_equal(found.indices, same.indices)
    assert (search.method, search.recall, search.recall_interval, search.audited) == ("certified", 1.0, (1.0, 1.0), 0)
    assert "coordinates" in search.why
    assert 0 < search.rows_checked < 300 * 3000
    assert 300 * K <= search.rows_rescored < search.rows_checked + 300 * 3000
    assert set(search.seconds) == STAGES
    assert search.seconds["plan"] > 0 and search.seconds["index"] > 0
    assert f"certified search, recall 1: {search.rows_scanned:,} pairs scanned, {search.rows_checked:,} checked" in str(
        search
    )
    plain = same.report.search
    assert (plain.method, plain.why, plain.rows_checked) == ("exact", "it was asked for", 0)
    assert plain.seconds["index"] < 1e-3
    assert " checked" not in str(plain)


def test_recall_is_measured_and_told(pruned: MinedNegatives, exact: MinedNegatives) -> None:
    search = pruned.report.search
    low, high = search.recall_interval
    assert search.method == "clusters"
    assert 0.9 <= low <= search.recall <= high <= 1.0
    assert 200 <= search.audited < 1200
    shares = (pruned.scores >= exact.scores[:, -1:]).mean(axis=1)
    assert shares.mean() >= low - 3 * shares.std() / search.audited**0.5
    assert f"recall {search.recall:.4g} ({low:.4f} to {high:.4f} on {search.audited} anchors)" in str(search)
    assert exact.report.search.recall_interval == (1.0, 1.0)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_same_rows_on_any_number_of_threads(pruned: MinedNegatives, n_threads: int) -> None:
    again = lists(search=pruned.recipe.search, n_threads=n_threads)
    np.testing.assert_array_equal(again.indices, pruned.indices)
    assert again.report.search.recall == pruned.report.search.recall


def test_small_jobs_are_left_to_the_exact_search(rows: Any) -> None:
    search = negfast.topk(rows(9, 8), rows(50, 8, seed=1), 3, search=Search(recall=0.5)).report.search
    assert (search.method, search.why, search.recall) == ("exact", "the job is small", 1.0)


def test_memory_too_small_for_codes() -> None:
    queries, corpus = clustered(300, 1, 16), clustered(60_000, 2, 16)
    codes = Search(method="certified", max_memory=3 << 20)
    with pytest.raises(negfast.InvalidValueError, match=r"search\.max_memory must be at least \d+ bytes for method"):
        negfast.topk(queries, corpus, K, search=codes, n_threads=1)
    found = negfast.topk(queries, corpus, K, search=Search(max_memory=3 << 20), n_threads=1).report.search
    assert found.method == "exact" and found.working_bytes <= 3 << 20


def test_measured_recall_is_saved(pruned: MinedNegatives, tmp_path: Path) -> None:
    pruned.save(tmp_path / "mined")
    back = MinedNegatives.load(tmp_path / "mined")
    assert back.report.search == pruned.report.search
    assert isinstance(back.report.search.recall_interval, tuple)
    assert back.recipe.search == Search(recall=0.9, method="clusters")


def test_a_file_from_before_recall_was_measured(exact: MinedNegatives, tmp_path: Path) -> None:
    """It lacks the fields that came since; all searches were exact."""
    path = tmp_path / "mined"
    exact.save(path)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    (key,) = (key for key, value in header["__metadata__"].items() if value.startswith("{") and "rows_scanned" in value)
    plain = json.loads(header["__metadata__"][key])
    search = plain["report"]["search"]
    for name in ADDED:
        del search[name]
    del search["seconds"]["plan"], search["seconds"]["index"]
    header["__metadata__"][key] = json.dumps(plain)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    back = MinedNegatives.load(path)
    np.testing.assert_array_equal(back.indices, exact.indices)
    told = back.report.search
    assert (told.method, told.why, told.audited, told.rows_checked) == ("exact", "not recorded", 0, 0)
    assert told.rows_scanned == exact.report.search.rows_scanned
    assert "exact search, recall 1" in str(back.report)


def test_a_whole_has_no_more_than_its_parts(pruned: MinedNegatives, exact: MinedNegatives) -> None:
    settings = {"search": Search(recall=0.9, method="clusters")}
    parts = [lists(anchors=range(600), **settings), lists(anchors=range(600, 1200), **settings)]
    joined = negfast.concatenate(parts).report.search
    searches = [part.report.search for part in parts]
    assert joined.method == "clusters"
    assert joined.recall == pytest.approx(np.mean([search.recall for search in searches]))
    assert joined.recall_interval == (
        min(search.recall_interval[0] for search in searches), max(search.recall_interval[1] for search in searches)
    )  # fmt: skip
    assert joined.audited == sum(search.audited for search in searches)
    assert joined.rows_checked == sum(search.rows_checked for search in searches)
    for order in ([pruned, exact], [exact, pruned]):
        mixed = SearchReport.total([part.report.search for part in order])
        assert mixed.method == "clusters", "what one part lost, the whole has lost"
        assert mixed.audited == pruned.report.search.audited
        assert mixed.recall_interval[0] == pruned.report.search.recall_interval[0]


def test_every_field_is_documented() -> None:
    documented = SearchReport.__doc__ or ""
    assert all(field.name in documented for field in fields(SearchReport))
    assert set(ADDED) <= {field.name for field in fields(SearchReport)}
