"""The plan of a search, told without its data, is that of the search."""

from typing import Any

import numpy as np
import pytest

import negfast
from negfast._negfast import plan, search_depth


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("n_queries", "n_corpus", "dim", "k"), [(40, 9000, 24, 5), (3000, 700, 16, 30), (1, 1, 1, 1)])
@pytest.mark.parametrize("max_memory", [None, 8 << 20])
def test_it_tells_the_working_bytes(
    rows: Any, n_queries: int, n_corpus: int, dim: int, k: int, n_threads: int, max_memory: int | None
) -> None:
    told = plan(n_queries, n_corpus, dim, min(k, n_corpus), max_memory, n_threads)
    search = negfast.Search(max_memory=max_memory)
    queries, corpus = rows(n_queries, dim), rows(n_corpus, dim, seed=1)
    found = negfast.topk(queries, corpus, k, search=search, n_threads=n_threads)
    assert told["working_bytes"] == found.report.search.working_bytes
    assert told["level"] == negfast.simd_level()
    assert told["blocks"] * told["block_anchors"] >= n_queries
    assert told["ranges"] >= 1 and told["slab_rows"] >= 1


@pytest.mark.parametrize(
    ("rules", "draw"),
    [({}, "top"), ({"distinct": 0.9}, "top"), ({"max_exposure": 50}, "top"), ({"range_max": 40}, "random")],
)
def test_the_depth_is_that_of_mining(rows: Any, rules: dict[str, Any], draw: Any) -> None:
    queries, corpus = rows(200, 16), rows(2000, 16, seed=1)
    arguments: dict[str, Any] = {"rules": negfast.Rules(**rules, exclude_self=False), "draw": draw, "n_threads": 1}
    mined = negfast.mine(queries, corpus, [[]] * 200, **arguments)
    settings = {
        "metric": "cosine", "num_negatives": 8, "rules": arguments["rules"].to_dict(), "tiers": (-0.05, -0.15),
        "draw": (draw, 0.0, 0.0), "suspect_rank": 1000, "seed": 0, "epoch": 0, "search": (1.0, "auto", None),
        "reserve": 0,
    }  # fmt: skip
    told = plan(200, 2000, 16, search_depth(settings, 2000), None, 1)
    assert told["working_bytes"] == mined.report.search.working_bytes


def test_too_little_memory_is_refused_as_in_the_search() -> None:
    rows = np.eye(9, dtype=np.float32)
    with pytest.raises(negfast.InvalidValueError, match=r"search\.max_memory") as told:
        plan(9, 9, 9, 2, 1, 2)
    with pytest.raises(negfast.InvalidValueError) as found:
        negfast.topk(rows, rows, 2, search=negfast.Search(max_memory=1), n_threads=2)
    assert str(told.value) == str(found.value)


def test_sizes_of_every_kind() -> None:
    assert plan(0, 0, 0, 0, None, 1)["blocks"] == 0
    most = 2**32 - 2
    told = plan(most, most, most, most, None, 1024)
    assert told["working_bytes"] > 2**40
    for sizes in ((2**32, 1, 1), (1, 2**32, 1), (1, 1, 2**32), (2**63, 1, 1)):
        with pytest.raises(negfast.InvalidValueError, match=r"below 4294967295"):
            plan(*sizes, 1, None, 1)
