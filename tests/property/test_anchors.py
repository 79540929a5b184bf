"""Mining for some anchors gives what mining for all gives them, in any order and any parts."""

from typing import Any

import numpy as np
from hypothesis import given, note
from hypothesis import strategies as st

import negfast
import oracle
from strategies import cases, identity, rule_options

DRAWS = ["top", "random", negfast.Softmax(0.2), negfast.SimANS(3.0)]


def stitched(parts: list[list[int]], mined: list[negfast.MinedNegatives], name: str) -> Any:
    """Put one array of several results into the order of the queries."""
    rows = np.concatenate([getattr(one, name) for one in mined])
    whole = np.empty_like(rows)
    whole[np.concatenate(parts).astype(int)] = rows
    return whole


def suspects(report: negfast.Report) -> list[tuple[float, ...]]:
    columns = (report.suspects.anchors, report.suspects.positives, report.suspects.scores, report.suspects.ranks)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(st.data())
def test_parts_put_together_are_the_whole(data: st.DataObject) -> None:
    case = data.draw(cases(same=data.draw(st.booleans())))
    n = len(case.plain[0])
    ours, _ = data.draw(identity(n, len(case.plain[1]), case.rng))
    options = data.draw(rule_options()) | {"max_exposure": None}
    order = data.draw(st.permutations(range(n)))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    parts = [list(part) for part in np.split(np.array(order, dtype=np.int64), cuts)]
    arguments: dict[str, Any] = {
        "num_negatives": data.draw(st.integers(1, 4)),
        "rules": negfast.Rules(**options),
        "draw": data.draw(st.sampled_from(DRAWS)),
        "suspect_rank": data.draw(st.sampled_from([1, 5, 1000])),
        "seed": data.draw(st.integers(0, 2**31)),
        "n_threads": data.draw(st.sampled_from([1, 2, 7])),
        **ours,
    }
    note(f"{case}\n{parts}\n{arguments}")
    whole = negfast.mine(*case.given, case.positives, **arguments)
    mined = [negfast.mine(*case.given, case.positives, anchors=part, **arguments) for part in parts]
    for name in ("indices", "positive_scores", "positive_ranks", "tiers"):
        np.testing.assert_array_equal(stitched(parts, mined, name), getattr(whole, name))
    oracle.assert_same_bits(stitched(parts, mined, "scores"), whole.scores)
    reports = [one.report for one in mined]
    assert [report.n_queries for report in reports] == [len(part) for part in parts]
    assert {rule: sum(r.removed[rule] for r in reports) for rule in whole.report.removed} == whole.report.removed
    assert sum(r.anchors_deepened for r in reports) == whole.report.anchors_deepened
    assert sum(r.missing_negatives for r in reports) == whole.report.missing_negatives
    assert sorted(pair for r in reports for pair in suspects(r)) == suspects(whole.report)


@given(st.data())
def test_a_cap_on_exposure_counts_over_the_anchors_of_the_call(data: st.DataObject) -> None:
    """As if the others were no queries at all, in whichever order the anchors are named."""
    case = data.draw(cases())
    n = len(case.plain[0])
    anchors = data.draw(st.permutations(range(n)))[: data.draw(st.integers(0, n))]
    options = {"max_exposure": data.draw(st.sampled_from([1, 2])), "relative_margin": None}
    arguments: dict[str, Any] = {"num_negatives": 3, "n_threads": 2}
    note(f"{case}\n{anchors}")
    mined = negfast.mine(
        *case.given, case.positives, anchors=np.array(anchors, dtype=int), rules=negfast.Rules(**options), **arguments
    )
    ascending = sorted(anchors)
    want = oracle.mine(
        case.plain[0][ascending],
        case.plain[1],
        [case.positives[anchor] for anchor in ascending],
        num_negatives=3,
        rules=oracle.Rules(**options),
    )
    places = np.argsort(anchors)
    np.testing.assert_array_equal(mined.indices[places], want.indices)
    assert mined.report.removed == want.removed


def test_the_call_names_its_anchors() -> None:
    rows = np.eye(5, 6, dtype=np.float32)
    both = [negfast.mine(rows, rows, np.arange(5), num_negatives=2, anchors=rows_) for rows_ in ([1, 4], [4, 1])]
    assert both[0].fingerprints["anchors"] != both[1].fingerprints["anchors"]
    assert "anchors" not in negfast.mine(rows, rows, np.arange(5), num_negatives=2).fingerprints
    assert both[1].indices.tolist() == both[0].indices[::-1].tolist()
    assert len(negfast.mine(rows, rows, np.arange(5), num_negatives=2, anchors=[])) == 0
