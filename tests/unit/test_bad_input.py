"""The bad-input table: call, exception, and what its message has to say.

Each message names the argument and what came; where there is a remedy it names that too.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
from negfast.inputs import embeddings

Error = negfast.NegfastError
Type, Value, Index = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.RowIndexError

Q = np.eye(4, 6, dtype=np.float32)
C = np.eye(5, 6, dtype=np.float32)
P = [[0], [1], [2], [3]]
CANDIDATES = [[0, 1, 2, 3, 4]] * 4
NONE4, NONE5 = np.full(4, -1), np.full(5, -1)
MASKED = np.ma.MaskedArray
HUGE = 10**5000


def broken(value: float, row: int, base: Any = C) -> Any:
    """Copy rows and put a bad value in the middle of one of them."""
    rows = base.copy()
    rows[row, 3] = value
    return rows


def misaligned() -> Any:
    raw = np.zeros(5 * 6 * 4 + 1, dtype=np.uint8)
    return raw[1:].view(np.float32).reshape(5, 6)


def mine(queries: Any = Q, corpus: Any = C, positives: Any = P, **options: Any) -> Callable[[], Any]:
    return lambda: negfast.mine(queries, corpus, positives, **{"num_negatives": 2, **options})


def select(candidates: Any = CANDIDATES, positives: Any = P, **options: Any) -> Callable[[], Any]:
    return lambda: negfast.select(Q, C, candidates, positives, **{"num_negatives": 2, **options})


def topk(queries: Any = Q, corpus: Any = C, k: Any = 3, **options: Any) -> Callable[[], Any]:
    return lambda: negfast.topk(queries, corpus, k, **options)


def duplicates(corpus: Any = C, threshold: Any = 0.9, **options: Any) -> Callable[[], Any]:
    return lambda: negfast.near_duplicates(corpus, threshold, **options)


def rules(**options: Any) -> Callable[[], Any]:
    return lambda: negfast.Rules(**options)


SCORES = [[0.5, 0.4, 0.3, 0.2, 0.1]] * 4
ONES = np.ones(4, dtype=np.float32)
NAN = float("nan")
INF = float("inf")

TABLE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    # rows
    ("corpus float64", mine(corpus=C.astype(np.float64)), Type, r"corpus.*float32.*float64 \(5, 6\).*astype"),
    ("queries float64", mine(queries=Q.astype(np.float64)), Type, r"queries.*float32.*float64.*astype"),
    ("corpus int64", mine(corpus=C.astype(np.int64)), Type, r"corpus.*int64"),
    ("corpus complex", mine(corpus=C.astype(np.complex64)), Type, r"corpus.*complex64"),
    ("corpus bool", mine(corpus=C.astype(bool)), Type, r"corpus.*bool"),
    ("corpus uint16, not bfloat16", mine(corpus=C.astype(np.uint16)), Type, r"corpus.*uint16"),
    ("corpus object", mine(corpus=C.astype(object)), Type, r"corpus.*object"),
    ("corpus big-endian", mine(corpus=C.astype(">f4")), Value, r"corpus.*byte order.*>f4"),
    ("corpus list", mine(corpus=C.tolist()), Type, r"corpus.*list"),
    ("corpus None", mine(corpus=None), Type, r"corpus.*None"),
    ("corpus text", mine(corpus="rows.npy"), Type, r"corpus.*str"),
    ("corpus one axis", mine(corpus=C.ravel()), Value, r"corpus.*(30,)"),
    ("corpus three axes", mine(corpus=C[None]), Value, r"corpus.*(1, 5, 6)"),
    ("queries no axis", mine(queries=np.float32(1) * np.array(1, np.float32)), Type, r"queries"),
    ("queries 0-d array", mine(queries=np.array(1, np.float32)), Value, r"queries.*\(n_rows, dim\).*\(\)"),
    ("queries one axis", mine(queries=Q.ravel()), Value, r"queries.*\(24,\)"),
    ("queries three axes", mine(queries=Q[None]), Value, r"queries.*\(1, 4, 6\)"),
    (
        "corpus 0-d array with exclude_self",
        mine(corpus=np.array(1, np.float32), rules=negfast.Rules(exclude_self=True)),
        Value,
        r"corpus.*\(\)",
    ),
    ("topk corpus 0-d array", topk(corpus=np.array(1, np.float32)), Value, r"corpus.*\(\)"),
    ("corpus masked", mine(corpus=MASKED(C, mask=C > 0)), Type, r"corpus.*mask.*filled"),
    ("corpus Fortran", mine(corpus=np.asfortranarray(C)), Value, r"corpus.*C-contiguous.*ascontiguousarray"),
    ("corpus strided", mine(corpus=np.repeat(C, 2, axis=0)[::2]), Value, r"corpus.*ascontiguousarray"),
    ("corpus columns", mine(corpus=np.ones((5, 12), np.float32)[:, :6]), Value, r"corpus.*ascontiguousarray"),
    ("corpus reversed", mine(corpus=C[::-1]), Value, r"corpus.*ascontiguousarray"),
    ("corpus broadcast", mine(corpus=np.broadcast_to(C[:1], (5, 6))), Value, r"corpus.*ascontiguousarray"),
    ("corpus misaligned", mine(corpus=misaligned()), Value, r"corpus.*align"),
    ("corpus nan", mine(corpus=broken(NAN, 3)), Value, r"corpus.*row 3"),
    ("corpus inf", mine(corpus=broken(INF, 4)), Value, r"corpus.*row 4"),
    ("corpus minus inf", mine(corpus=broken(-INF, 0)), Value, r"corpus.*row 0"),
    ("queries nan", mine(queries=broken(NAN, 2, Q)), Value, r"queries.*row 2"),
    ("first bad row", mine(corpus=broken(NAN, 1, broken(INF, 4))), Value, r"corpus.*row 1\b"),
    ("corpus float16 inf", mine(corpus=broken(INF, 2, C.astype(np.float16))), Value, r"corpus.*row 2"),
    ("dim differs", mine(queries=np.ones((4, 7), np.float32)), Value, r"7.*6|6.*7"),
    ("dim is zero", mine(Q[:, :0].copy(), C[:, :0].copy()), Value, r"(queries|corpus).*\(., 0\)|dim"),
    # positives
    ("positives beyond", mine(positives=[[0], [5], [2], [3]]), Index, r"positives.*5"),
    ("positives far beyond", mine(positives=[[0], [2**62], [2], [3]]), Index, r"positives"),
    ("positives over int64", mine(positives=[[0], [2**70], [2], [3]]), Error, r"positives"),
    ("positives flat over int64", mine(positives=[0, 2**70, 2, 3]), Error, r"positives"),
    ("positives -2", mine(positives=np.array([[0], [1], [-2], [3]])), Index, r"positives.*-2"),
    ("positives -2 in lists", mine(positives=[[0], [1], [-2], [3]]), Index, r"positives.*-2"),
    ("positives float", mine(positives=np.array([0.0, 1, 2, 3])), Type, r"positives.*float64"),
    ("positives float lists", mine(positives=[[0.5], [1], [2], [3]]), Type, r"positives.*(float|int)"),
    ("positives bool", mine(positives=np.array([True, True, False, False])), Type, r"positives.*bool"),
    ("positives text", mine(positives=["a", "b", "c", "d"]), Type, r"positives.*str"),
    ("positives one text", mine(positives="0123"), Type, r"positives.*str"),
    ("positives None", mine(positives=None), Type, r"positives.*None"),
    ("positives dict", mine(positives={0: [1]}), Type, r"positives.*dict"),
    ("positives too few", mine(positives=np.arange(3)), Value, r"positives.*3.*4|positives.*4.*3"),
    ("positives too many lists", mine(positives=[*P, [1]]), Value, r"positives.*5.*4|positives.*4.*5"),
    ("positives nested once", mine(positives=[[[0]], [1], [2], [3]]), Error, r"positives"),
    ("positives nested", mine(positives=[[[0]], [[1]], [[2]], [[3]]]), Error, r"positives"),
    ("positives nested deep", mine(positives=[[[0, 1]], [[1, 2]], [[2, 3]], [[3, 4]]]), Error, r"positives"),
    ("positives of scalar arrays", mine(positives=[np.array(0.5)] * 4), Error, r"positives"),
    ("positives with a None", mine(positives=[[0], None, [2], [3]]), Type, r"positives.*None"),
    ("positives three axes", mine(positives=np.zeros((4, 1, 1), np.int64)), Value, r"positives.*\(4, 1, 1\)"),
    ("positives 0-d array", mine(positives=np.array(3)), Value, r"positives.*\(\)"),
    ("positives ragged deep", mine(positives=[[1], [[1], [2, 3]], [], []]), Value, r"positives.*lengths"),
    ("positives ragged among numbers", mine(positives=[1, [[1], [2, 3]], 2, 3]), Type, r"positives.*int.*query 0"),
    ("positives of matrices", mine(positives=[np.zeros((2, 2), np.int64)] * 4), Value, r"positives.*lists of lists"),
    ("positives masked", mine(positives=MASKED(np.arange(4), mask=True)), Type, r"positives.*mask.*filled"),
    ("positives of masked lists", mine(positives=[MASKED([1], mask=[True])] * 4), Type, r"positives.*mask.*filled"),
    ("positives with one masked", mine(positives=[[1], [np.ma.masked], [], []]), Type, r"positives.*mask"),
    ("positives of objects", mine(positives=np.array([[0], [1, 2], [], []], object)), Type, r"positives.*tolist"),
    ("positives of sets", mine(positives=[{1}, {2}, {3}, {0}]), Type, r"positives.*object"),
    # compressed rows
    ("csr short", mine(positives=(np.array([0, 1, 2, 3]), np.arange(3))), Value, r"positives.*4.*3"),
    ("csr start", mine(positives=(np.array([1, 1, 2, 3, 4]), np.arange(4))), Value, r"positives.*indptr"),
    ("csr falling", mine(positives=(np.array([0, 2, 1, 3, 4]), np.arange(4))), Value, r"positives.*indptr"),
    ("csr end", mine(positives=(np.array([0, 1, 2, 3, 9]), np.arange(4))), Value, r"positives.*indptr"),
    ("csr end early", mine(positives=(np.array([0, 1, 2, 3, 3]), np.arange(4))), Value, r"positives.*indptr"),
    ("csr float", mine(positives=(np.array([0.0, 1, 2, 3, 4]), np.arange(4))), Type, r"positives.*float64"),
    ("csr index", mine(positives=(np.arange(5), np.array([0, 1, 2, 7]))), Index, r"positives.*7"),
    ("csr triple", mine(positives=(np.arange(5), np.arange(4), np.arange(4))), Value, r"positives"),
    # groups, keys, exclude, forbidden
    ("groups not a pair", mine(groups=NONE4), Type, r"groups.*(pair|tuple)"),
    ("groups query length", mine(groups=(NONE5, NONE5)), Value, r"groups.*5.*4|groups.*4.*5"),
    ("groups corpus length", mine(groups=(NONE4, NONE4)), Value, r"groups.*4.*5|groups.*5.*4"),
    ("groups float", mine(groups=(NONE4, NONE5.astype(float))), Type, r"groups.*float64"),
    ("groups text", mine(groups=(["a"] * 4, ["a"] * 5)), Type, r"groups"),
    ("groups remedy", mine(groups=(NONE4 * 1.0, NONE5)), Type, r"groups of the queries must.*float64; if .* \.astype"),
    ("groups masked", mine(groups=(MASKED(NONE4, mask=True), NONE5)), Type, r"groups of the queries.*filled"),
    ("groups 0-d array", mine(groups=(np.array(1), NONE5)), Value, r"groups of the queries.*\(\)"),
    ("groups -2", mine(groups=(np.full(4, -2), NONE5)), Value, r"groups.*-2"),
    ("keys corpus length", mine(keys=(NONE4, NONE4)), Value, r"keys.*4.*5|keys.*5.*4"),
    ("keys three axes", mine(keys=(NONE4, np.zeros((5, 1, 1), np.int64))), Value, r"keys.*\(5, 1, 1\)"),
    ("exclude beyond", mine(exclude=[[], [], [], [9]]), Index, r"exclude.*9"),
    ("exclude length", mine(exclude=[[1]]), Value, r"exclude.*1.*4|exclude.*4.*1"),
    ("exclude float", mine(exclude=np.ones((4, 1))), Type, r"exclude.*float64"),
    ("groups tuple of three", mine(groups=((0, 1, 2), NONE5)), Value, r"groups of the queries.*CSR.*tuple of 3"),
    ("groups csr of numbers", mine(groups=((0, 1), NONE5)), Type, r"groups of the queries\[0\].*int 0"),
    ("groups csr falls", mine(groups=(([0, 2, 1, 3, 3], [1, 1, 1]), NONE5)), Value, r"groups of the queries.*rises"),
    ("groups csr short", mine(groups=(NONE4, ([0, 1, 1], [7]))), Value, r"groups of the corpus.*5 rows.*got 2"),
    ("groups csr -2", mine(groups=(([0, 1, 1, 1, 1], [-2]), NONE5)), Value, r"groups of the queries.*-1.*-2"),
    ("groups lists short", mine(groups=([[1], [2]], NONE5)), Value, r"groups of the queries.*4 rows.*got 2"),
    ("groups lists of floats", mine(groups=([[0.5], [], [], []], NONE5)), Type, r"groups of the queries.*float64"),
    ("groups mixed", mine(groups=([[1], 2, [], []], NONE5)), Type, r"groups of the queries.*int 2 for row 1"),
    ("keys lists of lists of lists", mine(keys=(NONE4, [[[1]]] * 5)), Value, r"keys of the corpus.*flatten"),
    ("anchors beyond", mine(anchors=[0, 4]), Index, r"anchors.*queries.*0 to 4.*got 4 at position 1"),
    ("anchors -1", mine(anchors=np.array([-1])), Index, r"anchors.*-1"),
    ("anchors twice", mine(anchors=[3, 1, 3]), Value, r"anchors.*distinct.*row 3 at positions 0 and 2"),
    ("anchors float", mine(anchors=np.array([0.0])), Type, r"anchors.*float64"),
    ("anchors mask", mine(anchors=np.ones(4, bool)), Type, r"anchors.*bool"),
    ("anchors number", mine(anchors=3), Type, r"anchors.*int 3"),
    ("anchors table", mine(anchors=[[0, 1]]), Value, r"anchors.*\(1, 2\).*flatten"),
    ("forbidden mask short", mine(forbidden=np.zeros(4, bool)), Value, r"forbidden.*4.*5|forbidden.*5.*4"),
    ("forbidden beyond", mine(forbidden=np.array([0, 5])), Index, r"forbidden.*5"),
    ("forbidden -1", mine(forbidden=np.array([-1])), Index, r"forbidden.*-1"),
    ("forbidden float", mine(forbidden=np.array([0.0])), Type, r"forbidden.*float64"),
    ("forbidden two axes", mine(forbidden=np.zeros((5, 1), bool)), Value, r"forbidden.*\(5, 1\)"),
    # numbers and modes
    ("num_negatives negative", mine(num_negatives=-1), Value, r"num_negatives.*-1"),
    ("num_negatives float", mine(num_negatives=2.5), Type, r"num_negatives.*float"),
    ("num_negatives text", mine(num_negatives="8"), Type, r"num_negatives.*str"),
    ("num_negatives bool", mine(num_negatives=True), Type, r"num_negatives.*bool"),
    ("num_negatives huge", mine(num_negatives=2**31), Value, r"num_negatives.*at most 2147483647.*2147483648"),
    ("num_negatives huge, random", mine(num_negatives=2**62, draw="random"), Value, r"^num_negatives(?!.*range_max)"),
    ("num_negatives unprintable", mine(num_negatives=HUGE), Value, r"num_negatives.*bits"),
    (
        "range_min huge, random",
        lambda: mine(rules=negfast.Rules(range_min=2**63 - 1), draw="random")(),
        Value,
        r"^rules\.range_min(?!.*range_max)",
    ),
    ("metric array", mine(metric=np.array(["cosine", "dot"])), Type, r"metric.*cosine"),
    ("metric list", mine(metric=["cosine"]), Type, r"metric.*cosine"),
    ("draw array", mine(draw=np.array([1, 2])), Type, r"draw.*array"),
    ("draw array of text", mine(draw=np.array(["top"])), Type, r"draw.*array"),
    ("draw class", mine(draw=negfast.Softmax), Type, r"draw.*Softmax"),
    ("window too small", mine(rules=negfast.Rules(range_min=1, range_max=2)), Value, r"num_negatives.*range"),
    ("metric", mine(metric="l2"), Value, r"metric.*cosine.*dot.*l2"),
    ("metric type", mine(metric=3), Error, r"metric.*3|metric.*int"),
    ("draw", mine(draw="hardest"), Value, r"draw.*top.*random.*hardest"),
    ("draw type", mine(draw=0.5), Type, r"draw.*0\.5"),
    ("rules type", mine(rules={"relative_margin": 0.1}), Type, r"rules.*Rules.*dict"),
    ("tiers type", mine(tiers=(0.0, -0.1)), Type, r"tiers.*Tiers.*tuple"),
    ("search type", mine(search="exact"), Type, r"search.*Search.*str"),
    ("suspect_rank", mine(suspect_rank=-1), Value, r"suspect_rank.*-1"),
    ("seed negative", mine(seed=-1), Value, r"seed.*-1"),
    ("seed float", mine(seed=0.5), Type, r"seed.*float"),
    ("epoch negative", mine(epoch=-1), Value, r"epoch.*-1"),
    ("n_threads zero", mine(n_threads=0), Value, r"n_threads.*0"),
    ("n_threads negative", mine(n_threads=-2), Value, r"n_threads.*-2"),
    ("n_threads text", mine(n_threads="2"), Type, r"n_threads.*str"),
    (
        "exclude_self lengths",
        mine(rules=negfast.Rules(exclude_self=True)),
        Value,
        r"exclude_self.*4.*5|exclude_self.*5.*4",
    ),
    # near-duplicates
    ("threshold zero", duplicates(threshold=0.0), Value, r"threshold.*above 0.*0\.0"),
    ("threshold negative", duplicates(threshold=-0.5), Value, r"threshold.*above 0.*-0\.5"),
    ("threshold beyond", duplicates(threshold=1.5), Value, r"threshold.*1\.5"),
    ("threshold nan", duplicates(threshold=NAN), Value, r"threshold.*nan"),
    ("threshold text", duplicates(threshold="0.9"), Type, r"threshold.*str"),
    ("duplicates nan", duplicates(broken(NAN, 3)), Value, r"corpus.*row 3"),
    ("duplicates float64", duplicates(C.astype(float)), Type, r"corpus.*float64.*float32"),
    ("duplicates flat", duplicates(C[0]), Value, r"corpus.*\(6,\)"),
    ("duplicates list", duplicates(C.tolist()), Type, r"corpus.*list"),
    ("duplicates strided", duplicates(np.zeros((6, 8), np.float32).T), Value, r"corpus.*contiguous"),
    ("duplicates n_threads", duplicates(n_threads=0), Value, r"n_threads.*0"),
    ("duplicates progress", duplicates(progress=1), Type, r"progress.*int"),
    # settings
    ("relative_margin nan", rules(relative_margin=NAN), Value, r"relative_margin.*nan"),
    ("relative_margin negative", rules(relative_margin=-0.1), Value, r"relative_margin.*-0\.1"),
    ("relative_margin text", rules(relative_margin="5%"), Type, r"relative_margin.*str"),
    ("absolute_margin inf", rules(absolute_margin=INF), Value, r"absolute_margin.*inf"),
    ("absolute_margin negative", rules(absolute_margin=-0.1), Value, r"absolute_margin.*-0\.1"),
    ("max_score huge", rules(max_score=10**400), Value, r"max_score.*finite.*bits"),
    ("max_score unprintable", rules(max_score=HUGE), Value, r"max_score.*finite.*bits"),
    ("max_exposure unprintable", rules(max_exposure=HUGE), Value, r"max_exposure.*bits"),
    ("min_score array", rules(min_score=np.zeros(9999)), Type, r"min_score.*ndarray"),
    ("min_score masked", rules(min_score=np.ma.masked), Type, r"min_score"),
    ("hard huge", lambda: negfast.Tiers(10**400), Value, r"hard.*finite"),
    ("temperature huge", lambda: negfast.Softmax(10**400), Value, r"temperature.*finite"),
    ("method array", lambda: negfast.Search(method=np.array(["a", "b"])), Type, r"method"),  # type: ignore[arg-type]
    ("from_dict None", lambda: negfast.Rules.from_dict(None), Type, r"Rules.*None"),  # type: ignore[arg-type]
    ("from_dict list", lambda: negfast.Rules.from_dict([1]), Type, r"Rules.*list"),  # type: ignore[arg-type]
    ("from_dict mixed keys", lambda: negfast.Rules.from_dict({1: 2, "a": 3}), Value, r"Rules.*1"),  # type: ignore[dict-item]
    ("from_dict incomplete", lambda: negfast.Softmax.from_dict({}), Value, r"Softmax.*temperature"),
    ("max_score nan", rules(max_score=NAN), Value, r"max_score.*nan"),
    ("min_score list", rules(min_score=[0.1]), Type, r"min_score.*list"),
    ("range_min negative", rules(range_min=-1), Value, r"range_min.*-1"),
    ("range_min float", rules(range_min=1.5), Type, r"range_min.*float"),
    ("range_max equal", rules(range_min=5, range_max=5), Value, r"range_m(in|ax).*5"),
    ("range_max below", rules(range_min=5, range_max=2), Value, r"range_m(in|ax).*2"),
    ("distinct above one", rules(distinct=1.5), Value, r"distinct.*1\.5"),
    ("distinct below minus one", rules(distinct=-1.5), Value, r"distinct.*-1\.5"),
    ("distinct nan", rules(distinct=NAN), Value, r"distinct.*nan"),
    ("duplicate_of_positive", rules(duplicate_of_positive=2), Value, r"duplicate_of_positive.*2"),
    ("max_exposure zero", rules(max_exposure=0), Value, r"max_exposure.*0"),
    ("max_exposure float", rules(max_exposure=2.0), Type, r"max_exposure.*float"),
    ("exclude_self int", rules(exclude_self=1), Type, r"exclude_self.*int"),
    ("transitive None", rules(transitive=None), Type, r"transitive.*None"),
    ("tiers crossed", lambda: negfast.Tiers(hard=-0.2, semi_hard=-0.1), Value, r"semi_hard.*-0\.[12]"),
    ("tiers nan", lambda: negfast.Tiers(hard=NAN), Value, r"hard.*nan"),
    ("temperature zero", lambda: negfast.Softmax(0.0), Value, r"temperature.*0"),
    ("temperature negative", lambda: negfast.Softmax(-1), Value, r"temperature.*-1"),
    ("temperature nan", lambda: negfast.Softmax(NAN), Value, r"temperature.*nan"),
    ("temperature text", lambda: negfast.Softmax("hot"), Type, r"temperature.*str"),  # type: ignore[arg-type]
    ("a negative", lambda: negfast.SimANS(-1.0), Value, r"\ba\b.*-1"),
    ("a inf", lambda: negfast.SimANS(INF), Value, r"\ba\b.*inf"),
    ("b nan", lambda: negfast.SimANS(1.0, NAN), Value, r"\bb\b.*nan"),
    ("recall zero", lambda: negfast.Search(recall=0.0), Value, r"recall.*0"),
    ("recall above one", lambda: negfast.Search(recall=1.01), Value, r"recall.*1\.01"),
    ("recall nan", lambda: negfast.Search(recall=NAN), Value, r"recall.*nan"),
    ("method", lambda: negfast.Search(method="hnsw"), Value, r"method.*exact.*hnsw"),  # type: ignore[arg-type]
    ("max_memory negative", lambda: negfast.Search(max_memory=-1), Value, r"max_memory.*-1"),
    # topk
    ("k negative", topk(k=-1), Value, r"\bk\b.*-1"),
    ("k huge", topk(k=2**31), Value, r"\bk\b.*at most 2147483647"),
    ("k float", topk(k=3.0), Type, r"\bk\b.*float"),
    ("k None", topk(k=None), Type, r"\bk\b.*None"),
    ("topk corpus nan", topk(corpus=broken(NAN, 2)), Value, r"corpus.*row 2"),
    ("topk dim", topk(queries=np.ones((4, 7), np.float32)), Value, r"7.*6|6.*7"),
    ("topk metric", topk(metric="euclid"), Value, r"metric.*euclid"),
    ("topk n_threads", topk(n_threads=0), Value, r"n_threads.*0"),
    # select
    ("candidates beyond", select([[0], [1], [2], [5]]), Index, r"candidates.*5"),
    ("candidates -2", select(np.full((4, 1), -2)), Index, r"candidates.*-2"),
    ("candidates float", select(np.ones((4, 2))), Type, r"candidates.*float64"),
    ("candidates length", select([[0]] * 3), Value, r"candidates.*3.*4|candidates.*4.*3"),
    ("candidates None", select(None), Type, r"candidates.*None"),
    ("scores alone", select(scores=SCORES), Value, r"positive_scores"),
    (
        "scores shape",
        select(np.zeros((4, 2), np.int64), scores=np.ones((4, 3), np.float32), positive_scores=ONES),
        Value,
        r"scores.*(\(4, 3\)|8.*12)",
    ),
    (
        "scores ragged",
        select(P, scores=[[1.0], [1.0, 2.0], [1.0], [1.0]], positive_scores=ONES),
        Value,
        r"scores",
    ),
    (
        "scores transposed",
        select(np.zeros((4, 2), np.int64), scores=np.ones((2, 4), np.float32), positive_scores=ONES),
        Value,
        r"scores",
    ),
    (
        "scores with a bare number",
        select(P, scores=[[1.0], 2.0, [1.0], [1.0]], positive_scores=ONES),
        Error,
        r"scores",
    ),
    (
        "scores beyond float32",
        select(P, scores=[[1.0], [1e300], [1.0], [1.0]], positive_scores=ONES),
        Value,
        r"scores",
    ),
    (
        "scores nan",
        select(P, scores=[[1.0], [NAN], [1.0], [1.0]], positive_scores=ONES),
        Value,
        r"scores.*(1|nan)",
    ),
    (
        "positive_scores nan",
        select(scores=SCORES, positive_scores=np.array([1, 1, NAN, 1], np.float32)),
        Value,
        r"positive_scores.*(2|nan)",
    ),
    (
        "positive_scores length",
        select(scores=SCORES, positive_scores=np.ones(3, np.float32)),
        Value,
        r"positive_scores.*3",
    ),
    *(
        (f"{name} {kind}", select(**{"scores": SCORES, "positive_scores": ONES, name: value}), Error, rf"\b{name}\b")
        for name in ("scores", "positive_scores")
        for kind, value in {
            "ragged deep": [[[1.0], [2.0, 3.0]]] * 4,
            "ragged among numbers": [1.0, [[1.0], [2.0, 3.0]], 1.0, 1.0],
            "of one axis too many": [[[x] for x in row] for row in SCORES],
            "of two axes too many": np.ones((4, 5, 1, 1)),
            "masked": MASKED(SCORES, mask=True),
            "of masked lists": [MASKED(row, mask=True) for row in SCORES],
            "complex": np.ones((4, 5), complex),
            "object": object(),
            "one number": 3.0,
            "no number": "abc",
            "dict": {0: 1.0},
            "of None": [[None] * 5] * 4,
        }.items()
    ),
    (
        "scores in lists of one",
        select(P, scores=[[[1.0]]] * 4, positive_scores=ONES),
        Value,
        r"scores.*lists of lists",
    ),
    (
        "positive_scores of positives or of anchors",
        select(
            positives=(np.array([0, 2, 2, 3, 4]), np.arange(4)),
            scores=SCORES,
            positive_scores=ONES,
        ),
        Value,
        r"positive_scores.*per positive or per anchor.*list of lists",
    ),
    (
        "scores text",
        select(P, scores=[["a"]] * 4, positive_scores=ONES),
        Type,
        r"scores",
    ),
]


NAMES = [row[0] for row in TABLE]


@pytest.mark.parametrize(("call", "error", "message"), [row[1:] for row in TABLE], ids=NAMES)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(negfast.NegfastError) as caught:
        call()
    assert isinstance(caught.value, error), repr(caught.value)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert len(str(caught.value)) < 600


def test_names_in_the_table_are_unique() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 40


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (negfast.InvalidTypeError, TypeError),
        (negfast.InvalidValueError, ValueError),
        (negfast.RowIndexError, IndexError),
        (negfast.StateError, ValueError),
        (negfast.MissingExtraError, ImportError),
    ],
)
def test_errors_are_builtin_ones_too(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)
    assert issubclass(error, negfast.NegfastError)
    from negfast import errors

    assert getattr(errors, error.__name__) is error


def test_nothing_is_left_behind_by_a_refused_call() -> None:
    """A borrow that a failed call took is given back: the array can be read and written afterwards."""
    corpus = C.copy()
    with pytest.raises(negfast.RowIndexError):
        negfast.mine(Q, corpus, [[99]] * 4)
    corpus[0, 0] = 2.0
    negfast.mine(Q, corpus, P, num_negatives=2)


def test_torch_tensors_of_another_type() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(negfast.InvalidTypeError, match=r"corpus.*float64"):
        negfast.mine(Q, torch.ones(5, 6, dtype=torch.float64), P)
    with pytest.raises(negfast.InvalidValueError, match=r"corpus.*contiguous"):
        negfast.mine(Q, torch.ones(6, 5).T, P)
    with pytest.raises(negfast.NegfastError, match="corpus"):
        negfast.mine(Q, torch.ones(5, 6).to_sparse(), P)
    with pytest.raises(negfast.NegfastError, match="corpus"):
        negfast.mine(Q, torch.ones(5, 6, device="meta"), P)
    bad = torch.ones(5, 6, dtype=torch.bfloat16)
    bad[2, 1] = float("inf")
    with pytest.raises(negfast.InvalidValueError, match=r"corpus.*row 2"):
        negfast.mine(Q, bad, P)


def torch_oddities(rows: Any) -> dict[str, tuple[Any, str]]:
    """Make tensors whose memory does not hold their numbers, and what the error has to say of each."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "sparse": (rows.to_sparse(), r"sparse.*to_dense"),
            "sparse csr": (rows.to_sparse_csr(), r"sparse.*to_dense"),
            "negated": (torch._neg_view(rows), r"resolve_neg"),
            "conjugated": (rows.to(torch.complex64).conj(), r"resolve_conj"),
            "nested": (torch.nested.nested_tensor([rows[0], rows[1]]), r"nested.*to_padded_tensor"),
            "quantised": (torch.quantize_per_tensor(rows, 0.1, 0, torch.qint8), r"dequantize"),
            "meta": (rows.to("meta"), r"CPU"),
        }


KINDS = ["sparse", "sparse csr", "negated", "conjugated", "nested", "quantised", "meta"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("argument", ["queries", "corpus", "positives", "exclude"])
def test_odd_tensors(kind: str, argument: str) -> None:
    torch = pytest.importorskip("torch")
    value, message = torch_oddities(torch.ones(4, 6))[kind]
    call = mine(**{argument: value})
    with pytest.raises(negfast.InvalidTypeError, match=f"(?s){argument}.*{message}"):
        call()


@pytest.mark.parametrize("kind", KINDS)
def test_odd_tensors_of_scores(kind: str) -> None:
    torch = pytest.importorskip("torch")
    value, message = torch_oddities(torch.ones(4, 5))[kind]
    for name in ("scores", "positive_scores"):
        call = select(**{"scores": SCORES, "positive_scores": ONES, name: value})
        with pytest.raises(negfast.InvalidTypeError, match=f"(?s)^{name}.*{message}"):
            call()


@pytest.mark.parametrize("shape", [(), (30,), (1, 5, 6)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_other_dimensions(shape: tuple[int, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(negfast.InvalidValueError, match=rf"corpus.*{re.escape(str(shape))}"):
        negfast.mine(Q, torch.ones(shape, dtype=getattr(torch, dtype)), P)


def test_row_numbers_in_bfloat16_are_called_so() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(negfast.InvalidTypeError, match=r"positives.*bfloat16"):
        negfast.mine(Q, C, torch.arange(4).bfloat16())


def test_subclasses_of_arrays_are_read_as_arrays(tmp_path: Path) -> None:
    """The numbers are the same, and so is the memory."""
    plain = negfast.mine(Q, C, P, num_negatives=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matrix = np.matrix(C)
    mapped = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=C.shape)
    mapped[:] = C
    for rows in (matrix, mapped, C.view(type("Rows", (np.ndarray,), {}))):
        got = embeddings("corpus", rows)
        assert type(got) is np.ndarray
        assert np.shares_memory(got, rows)
        np.testing.assert_array_equal(negfast.mine(Q, rows, P, num_negatives=2).indices, plain.indices)
