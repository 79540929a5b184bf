"""`mine`, `select` and `topk` equal the oracle: the same indices, the same bits, the same counts."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import negfast
import oracle
from strategies import Case, cases, contain, containers, identity, rule_options, some_rows

SEARCHES = pytest.mark.parametrize(
    "search", [negfast.Search(), negfast.Search(method="certified")], ids=["auto", "codes"]
)


@SEARCHES
@given(st.data())
def test_mine(search: negfast.Search, data: st.DataObject) -> None:
    same = data.draw(st.booleans())
    case = data.draw(cases(same=same))
    n, size = len(case.plain[0]), len(case.plain[1])
    ours, theirs = data.draw(identity(n, size, case.rng))
    options = data.draw(rule_options())
    num_negatives = data.draw(st.integers(1, 6))
    if data.draw(st.booleans()):
        options["range_max"] = options["range_min"] + num_negatives + data.draw(st.integers(0, 8))
    common: dict[str, Any] = {
        "num_negatives": num_negatives,
        "metric": data.draw(st.sampled_from(["cosine", "dot"])),
        "suspect_rank": data.draw(st.sampled_from([1, 5, 1000])),
    }
    positives = contain(case.positives, data.draw(containers))
    note(f"{case}\n{options}\n{common}\n{ours}")
    mined = negfast.mine(
        *case.given,
        positives,
        rules=negfast.Rules(**options),
        search=search,
        n_threads=data.draw(st.sampled_from([1, 2, 3])),
        **common,
        **ours,
    )
    want = oracle.mine(
        *case.plain, case.positives, rules=oracle.Rules(**options, exclude_self=same), **common, **theirs
    )
    oracle.assert_same(mined, want)


@given(st.data())
def test_select(data: st.DataObject) -> None:
    case = data.draw(cases())
    n, size = len(case.plain[0]), len(case.plain[1])
    rng = case.rng
    ours, theirs = data.draw(identity(n, size, rng))
    options = data.draw(rule_options())
    longest = data.draw(st.sampled_from([0, 3, 30])) if size else 0
    candidates = [rng.integers(0, size or 1, rng.integers(0, longest + 1)).tolist() for _ in range(n)]
    common: dict[str, Any] = {
        "num_negatives": data.draw(st.integers(1, 6)),
        "metric": data.draw(st.sampled_from(["cosine", "dot"])),
        "suspect_rank": data.draw(st.sampled_from([1, 5, 1000])),
    }
    how = data.draw(st.sampled_from(["padded", "csr", "lists"]))
    # As many positives as anchors: flat scores could be those of either.
    how_own = "lists" if sum(map(len, case.positives)) == n else how
    if data.draw(st.booleans()):
        lists = [[float(s) / 4 for s in rng.integers(-8, 9, len(rows))] for rows in candidates]
        graded = rng.integers(-8, 9, (n, size)) / 4  # a repeated positive has one score
        own = [[float(graded[anchor, row]) for row in rows] for anchor, rows in enumerate(case.positives)]
        theirs |= {"scores": lists, "positive_scores": own}
        ours |= {"scores": like(lists, how), "positive_scores": like(own, how_own)}
    note(f"{case}\n{candidates}\n{options}\n{common}\n{ours}")
    mined = negfast.select(
        *case.given,
        contain(candidates, how),
        contain(case.positives, how_own),
        rules=negfast.Rules(**options),
        **common,
        **ours,
    )
    want = oracle.select(*case.plain, candidates, case.positives, rules=oracle.Rules(**options), **common, **theirs)
    oracle.assert_same(mined, want)


def like(lists: list[list[float]], how: str) -> Any:
    """Put scores into the container that their rows are in."""
    if how == "lists":
        return lists
    if how == "csr":
        return np.array([score for scores in lists for score in scores], dtype=np.float32)
    width = max((len(scores) for scores in lists), default=0)
    array = np.zeros((len(lists), width), dtype=np.float32)
    for position, scores in enumerate(lists):
        array[position, : len(scores)] = scores
    return array


@SEARCHES
@given(cases(), st.integers(0, 50), st.sampled_from(["cosine", "dot"]), st.sampled_from([1, 2, 3]))
def test_topk(search: negfast.Search, case: Case, k: int, metric: Any, n_threads: int) -> None:
    found = negfast.topk(*case.given, k, metric=metric, search=search, n_threads=n_threads)
    indices, scores = oracle.topk(*case.plain, k, metric)
    np.testing.assert_array_equal(found.indices, indices)
    oracle.assert_same_bits(found.scores, scores)


@given(st.data())
def test_draws_stay_in_the_pool(data: st.DataObject) -> None:
    """Whatever is drawn lies in the window that the oracle allows, as much as there is, sorted by score."""
    case = data.draw(cases())
    n, size = len(case.plain[0]), len(case.plain[1])
    ours, theirs = data.draw(identity(n, size, case.rng))
    options = data.draw(rule_options())
    options["max_exposure"] = None
    num_negatives = data.draw(st.integers(1, 4))
    mined = negfast.mine(
        *case.given,
        case.positives,
        num_negatives=num_negatives,
        rules=negfast.Rules(**options),
        draw=data.draw(st.sampled_from(["random", negfast.Softmax(0.2), negfast.SimANS(3.0)])),
        seed=data.draw(st.integers(0, 2**31)),
        **ours,
    )
    window = options["range_min"] + 10 * num_negatives
    want = oracle.mine(
        *case.plain,
        case.positives,
        num_negatives=num_negatives,
        rules=oracle.Rules(**options),
        window=window,
        **theirs,
    )
    scores = oracle.score_matrix(*case.plain)
    for anchor, pool in enumerate(want.pools):
        got = [int(row) for row in mined.indices[anchor] if row >= 0]
        assert len(got) == min(num_negatives, len(pool))
        assert set(got) <= set(pool)
        assert got == oracle.by_rank(got, scores[anchor])
        oracle.assert_same_bits(mined.scores[anchor, : len(got)], scores[anchor][got])
        assert (mined.indices[anchor, len(got) :] == -1).all()


@pytest.mark.parametrize(
    ("method", "seed"), [*(("auto", seed) for seed in range(4)), ("certified", 1), ("certified", 2)]
)
def test_larger_shapes(method: Any, seed: int) -> None:
    """Past every block and buffer size, with the rules that need deep lists; codes get more lists than one."""
    rng = np.random.default_rng(seed)
    n = 1024 if method == "certified" else 700
    corpus = some_rows(rng, n, 24 + 16 * (seed % 2), "sparse" if seed % 2 else "normal")
    queries = some_rows(rng, 90, corpus.shape[1], "normal")
    positives = [rng.integers(0, n, 2).tolist() for _ in range(90)]
    groups = (rng.integers(-1, 40, 90), rng.integers(-1, 40, n))
    options: dict[str, Any] = {
        "relative_margin": 0.05,
        "distinct": (0.5, 0.8, None)[seed % 3],
        "max_exposure": (1, None, 2)[seed % 3],
        "duplicate_of_positive": 0.7,
    }
    common: dict[str, Any] = {"num_negatives": 7, "groups": groups, "suspect_rank": (5, 1000)[seed % 2]}
    mined = negfast.mine(
        queries, corpus, positives, rules=negfast.Rules(**options), search=negfast.Search(method=method), **common
    )
    want = oracle.mine(queries, corpus, positives, rules=oracle.Rules(**options), **common)
    oracle.assert_same(mined, want)
