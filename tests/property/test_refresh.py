"""A refresh equals mining from nothing: the same rows and the same bits, whatever happened to the vectors in between.

`mine` itself is compared with the oracle elsewhere. ``--hypothesis-profile explore`` tries many more ways.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import negfast
from negfast import Miner, Rules, Search
from strategies import DTYPES, as_dtype, cases, identity, rule_options

STEPS = [1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5]


class Vectors(NamedTuple):
    queries: Any
    corpus: Any


def shaken(rows: Any, step: float, rng: np.random.Generator) -> Any:
    """Move rows by about this share of their length."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) / max(rows.shape[1], 1) ** 0.5
    return (rows + step * lengths * rng.standard_normal(rows.shape)).astype(np.float32)


def turned(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    dim = vectors.corpus.shape[1]
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return Vectors(*((rows @ basis).astype(np.float32) for rows in vectors))


def some_of(rows: Any, rng: np.random.Generator, count: int) -> Any:
    return rng.integers(0, len(rows), count if len(rows) else 0)


def moved(kind: str, step: float, vectors: Vectors, positives: list[list[int]], rng: np.random.Generator) -> Vectors:
    if kind == "turn":
        return turned(vectors, rng)
    queries, corpus = (rows.copy() for rows in vectors)
    if kind in ("all", "queries", "jump", "fall"):
        queries = shaken(queries, step, rng)
    if kind in ("all", "corpus", "jump", "fall"):
        corpus = shaken(corpus, step, rng)
    if kind == "jump":
        rows = some_of(corpus, rng, 2)
        corpus[rows] = 3 * rng.standard_normal(corpus[rows].shape)
    elif kind == "half":
        rows = np.flatnonzero(rng.random(len(corpus)) < 0.5)
        corpus[rows] = rng.standard_normal(corpus[rows].shape)
    elif kind == "few":
        rows = some_of(corpus, rng, max(len(corpus) // 20, 1))
        corpus[rows] = shaken(corpus[rows], step, rng)
    elif kind == "vanish":
        corpus[some_of(corpus, rng, 3)] = 0
        queries[some_of(queries, rng, 1)] = 0
    elif kind == "copy":
        corpus[some_of(corpus, rng, 3)] = corpus[some_of(corpus, rng, 3)]
        if len(queries):
            corpus[some_of(corpus, rng, 1)] = queries[some_of(queries, rng, 1)[: len(corpus[:1])]]
    elif kind == "fall":
        fallen = [row for rows in positives[:3] for row in rows]
        corpus[fallen] *= -1
    return Vectors(queries, corpus)


KINDS = ["all", "all", "queries", "corpus", "jump", "half", "few", "turn", "vanish", "copy", "fall", "none"]


def same(a: Any, b: Any) -> bool:
    return bool((a.indices == b.indices).all() and (a.scores.view(np.uint32) == b.scores.view(np.uint32)).all())


class Ledger:
    """What a fresh call has to be given after rows were added and removed."""

    def __init__(self, options: dict[str, Any], size: int) -> None:
        self.options = options
        self.forbidden = np.zeros(size, bool)
        if "forbidden" in options:
            self.forbidden[options["forbidden"]] = True

    def remove(self, rows: Any) -> None:
        self.forbidden[rows] = True

    def add(self, count: int) -> None:
        self.forbidden = np.concatenate([self.forbidden, np.zeros(count, bool)])

    def arguments(self) -> dict[str, Any]:
        return {**self.options, "forbidden": self.forbidden}


draws = st.sampled_from(["top", "top", "random", negfast.Softmax(0.2), negfast.SimANS(3.0)])


@given(st.data())
def test_any_way_leads_to_what_a_fresh_call_finds(data: st.DataObject) -> None:
    itself = data.draw(st.booleans())
    case = data.draw(cases(same=itself))
    rng, dtype = case.rng, data.draw(st.sampled_from(DTYPES))
    vectors = Vectors(*case.plain)
    options, _ = data.draw(identity(*map(len, vectors), rng))
    limits = data.draw(rule_options())
    settings: dict[str, Any] = {
        "num_negatives": data.draw(st.integers(1, 5)),
        "metric": data.draw(st.sampled_from(["cosine", "dot"])),
        "draw": data.draw(draws),
        "seed": data.draw(st.integers(0, 9)),
        "n_threads": data.draw(st.sampled_from([1, 2, 7])),
    }
    if data.draw(st.booleans()):
        limits["range_max"] = limits["range_min"] + settings["num_negatives"] + data.draw(st.integers(0, 8))
    rules = Rules(**limits, exclude_self=itself)
    miner = Miner(
        **settings, rules=rules, reserve=data.draw(st.sampled_from(["auto", 0, 1, 5, 50, 10**9])),
        search=Search(method=data.draw(st.sampled_from(["auto", "certified"]))),
    )  # fmt: skip
    note(f"{case}\n{rules}\n{settings}\n{miner}\n{options}")
    miner.mine(*(as_dtype(rows, dtype) for rows in vectors), case.positives, **options)
    ledger = Ledger(options, len(vectors.corpus))
    for epoch in range(1, data.draw(st.integers(2, 6))):
        kind, step = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(STEPS))
        note(f"{kind} by {step}")
        vectors = moved(kind, step, vectors, case.positives, rng)
        if data.draw(st.integers(0, 4)) == 0:
            rows = some_of(vectors.corpus, rng, 2)
            miner.remove(rows)
            ledger.remove(rows)
        if not itself and not {"groups", "keys"} & options.keys() and data.draw(st.integers(0, 4)) == 0:
            more = rng.standard_normal((2, vectors.corpus.shape[1])).astype(np.float32)
            miner.add(as_dtype(more, dtype))
            ledger.add(2)
            vectors = vectors._replace(corpus=np.concatenate([vectors.corpus, more]))
        if data.draw(st.integers(0, 4)) == 0:
            miner.load_state_dict(miner.state_dict())
        given_vectors = [as_dtype(rows, dtype) for rows in vectors]
        found = miner.refresh(*given_vectors)
        expected = negfast.mine(
            *given_vectors, case.positives, rules=rules, epoch=epoch, **settings, **ledger.arguments()
        )
        note(str(found.report.refresh))
        assert same(found, expected)
        np.testing.assert_array_equal(found.tiers, expected.tiers)
        np.testing.assert_array_equal(found.positive_scores, expected.positive_scores)


def clustered(n: int, seed: int, dim: int = 32) -> Any:
    """Rows around 40 centres with a spectrum that falls, and some copies."""
    rng = np.random.default_rng(seed)
    scales = np.exp(-np.arange(dim) / 10)
    centres = np.random.default_rng(99).standard_normal((40, dim)) * scales
    rows = (centres[rng.integers(40, size=n)] + 0.5 * rng.standard_normal((n, dim)) * scales).astype(np.float32)
    rows[: n // 20] = rows[-(n // 20) :]
    return rows


RULES = {
    "margins": Rules(relative_margin=0.05, absolute_margin=0.02, transitive=True),
    "caps": Rules(relative_margin=None, max_score=0.8, min_score=0.3),
    "copies": Rules(duplicate_of_positive=0.95, distinct=0.95),
    "exposure": Rules(max_exposure=4, range_min=2),
    "window": Rules(range_min=3, range_max=20),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_thirty_refreshes_end_where_a_fresh_call_does(name: str, metric: Any) -> None:
    """Ceilings and floors are carried on from one proof to the next, until a search sets them again."""
    rng = np.random.default_rng(len(name))
    vectors = Vectors(clustered(60, 1), clustered(500, 2))
    positives = [[i] for i in range(60)]
    settings: dict[str, Any] = {
        "num_negatives": 5, "metric": metric, "rules": RULES[name], "draw": "random" if name == "window" else "top",
    }  # fmt: skip
    miner = Miner(**settings)
    miner.mine(*vectors, positives)
    proven = 0
    for epoch in range(1, 31):
        if epoch % 10:
            vectors = moved("all", 1e-4, vectors, positives, rng)
        else:
            vectors = moved(("jump", "fall", "half")[epoch // 10 - 1], 1e-3, vectors, positives, rng)
        found = miner.refresh(*vectors)
        assert same(found, negfast.mine(*vectors, positives, epoch=epoch, **settings))
        proven += found.report.refresh.n_proven
    assert proven > 60 * 5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_levels_and_threads_refresh_alike(level: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEGFAST_SIMD", level)
    queries, corpus = as_dtype(clustered(300, 3), dtype), as_dtype(clustered(900, 4), dtype)
    near = as_dtype(shaken(clustered(900, 4), 1e-3, np.random.default_rng(5)), dtype)
    expected = negfast.mine(queries, near, np.arange(300), num_negatives=5, epoch=1)
    for n_threads in (1, 2, 7):
        miner = Miner(num_negatives=5, n_threads=n_threads)
        miner.mine(queries, corpus, np.arange(300))
        assert same(miner.refresh(queries, near), expected)


@pytest.mark.parametrize("recall", [0.9, 0.97])
@pytest.mark.parametrize("step", [0.02, 0.2])
def test_trusted_lists_have_the_recall_that_is_told(recall: float, step: float) -> None:
    """What was measured on some anchors holds for all, but for five standard errors: once in a million runs."""
    rng = np.random.default_rng(6)
    vectors = Vectors(clustered(1500, 7), clustered(3000, 8))
    settings: dict[str, Any] = {"num_negatives": 10, "rules": Rules(relative_margin=None)}
    miner = Miner(**settings, search=Search(recall=recall), reserve=60)
    miner.mine(*vectors, np.arange(1500))
    trusted = 0
    for epoch in range(1, 5):
        vectors = moved("all", step, vectors, [], rng)
        found = miner.refresh(*vectors)
        expected = negfast.mine(*vectors, np.arange(1500), epoch=epoch, **settings)
        told = found.report.refresh
        assert told.n_proven + told.n_estimated + told.n_searched == 1500
        low, high = found.report.search.recall_interval
        shares = (found.scores >= expected.scores[:, -1:]).mean(axis=1)
        held = float(shares.mean())
        assert int((shares == 1).sum()) >= told.n_proven
        assert low >= recall
        assert held >= found.report.search.recall - 5 * (high - low) / 4
        trusted += told.n_estimated
        # Scores are those of the rows; rows differ from one another.
        rows = np.sort(found.indices, axis=1)
        assert (rows[:, 1:] != rows[:, :-1]).all()
        assert (found.scores <= expected.scores).all()
    assert trusted > 0


def test_trusted_lists_keep_to_the_rules() -> None:
    rng = np.random.default_rng(9)
    vectors = Vectors(clustered(800, 10), clustered(2000, 11))
    groups = np.arange(2000) // 2
    miner = Miner(num_negatives=6, rules=Rules(relative_margin=None, max_score=0.9), search=Search(recall=0.9))
    miner.mine(*vectors, np.arange(800), groups=(groups[:800], groups), forbidden=np.arange(0, 2000, 7))
    miner.remove([1, 2])
    miner.add(np.float32(1.1) * vectors.queries[:3], groups=[5000, 5001, 5002])
    vectors = vectors._replace(corpus=np.concatenate([vectors.corpus, np.float32(1.1) * vectors.queries[:3]]))
    found = miner.refresh(*moved("all", 0.2, vectors, [], rng))
    assert found.report.refresh.n_estimated > 0
    chosen, own = found.indices, groups[:800]
    labels = np.concatenate([groups, [5000, 5001, 5002]])
    assert (chosen >= 0).all() and found.scores.max() <= np.float32(0.9)
    assert not np.isin(chosen, [1, 2, *range(0, 2000, 7)]).any()
    assert (labels[chosen] != own[:, None]).all()


def test_a_change_of_dtype_is_a_move_like_any_other() -> None:
    vectors = Vectors(clustered(60, 12), clustered(400, 13))
    miner = Miner(num_negatives=5)
    miner.mine(*vectors, np.arange(60))
    for epoch, dtype in enumerate([*DTYPES, "float32"], 1):
        cast = [as_dtype(rows, dtype) for rows in vectors]
        found = miner.refresh(*cast)
        assert same(found, negfast.mine(*cast, np.arange(60), num_negatives=5, epoch=epoch))
        assert found.report.dtype == dtype


def test_rules_that_exclude_the_anchor_hold_when_vectors_come_apart() -> None:
    rows = clustered(300, 14)
    miner = Miner(num_negatives=5)
    miner.mine(rows, rows, np.full(300, -1))
    rules = replace(Rules(), exclude_self=True)
    for epoch, queries in enumerate([rows.copy(), shaken(rows, 1e-3, np.random.default_rng(15)), rows], 1):
        found = miner.refresh(queries, rows)
        assert same(found, negfast.mine(queries, rows, np.full(300, -1), num_negatives=5, rules=rules, epoch=epoch))
        assert (found.indices != np.arange(300)[:, None]).all()
