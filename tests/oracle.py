"""Slow, obviously right `mine`, `select` and `topk`, written from the specification alone.

Everything here is plain loops over plain Python values, except the scores, which are vectorised over rows
but follow the documented order of additions to the last bit. Nothing is imported from the package.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
Lists = Sequence[Sequence[int]]
Labels = Rows | Lists

RULES = (
    "positive",
    "self",
    "key",
    "group",
    "exclude",
    "forbidden",
    "relative_margin",
    "absolute_margin",
    "max_score",
    "min_score",
    "duplicate_of_positive",
    "range_min",
    "distinct",
    "max_exposure",
)
LANES = 8


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The guard rails, field for field as the public class has them."""

    relative_margin: float | None = 0.05
    absolute_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    range_min: int = 0
    range_max: int | None = None
    duplicate_of_positive: float | None = None
    distinct: float | None = None
    max_exposure: int | None = None
    exclude_self: bool = False
    transitive: bool = False


@dataclass
class Expected:
    """What a call has to return."""

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    positive_scores: npt.NDArray[np.float32]
    tiers: npt.NDArray[np.uint8]
    removed: dict[str, int]
    suspects: list[tuple[int, int, float, int]]  # (anchor, positive, score, rank)
    pools: list[list[int]] = field(default_factory=list)  # what each anchor draws from, in rank order
    anchors_without_positive: int = 0
    anchors_underfilled: int = 0
    missing_negatives: int = 0


# ---------------------------------------------------------------------------------------------- the score


def _lane_sum(left: Rows, right: Rows) -> npt.NDArray[np.float64]:
    """Sum over the last axis of `left * right` in float64, in eight lanes that are then folded pairwise."""
    dim = left.shape[-1]
    shape = np.broadcast_shapes(left.shape[:-1], right.shape[:-1])
    lanes = np.zeros((*shape, LANES), dtype=np.float64)
    for start in range(0, dim, LANES):
        width = min(LANES, dim - start)
        block = slice(start, start + width)
        lanes[..., :width] += left[..., block].astype(np.float64) * right[..., block].astype(np.float64)
    l0, l1, l2, l3, l4, l5, l6, l7 = np.moveaxis(lanes, -1, 0)
    result: npt.NDArray[np.float64] = ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
    return result


def score_matrix(queries: Rows, corpus: Rows, metric: str = "cosine") -> npt.NDArray[np.float32]:
    """Score every query with every corpus row; float32, shape (n_queries, n_corpus)."""
    queries = np.asarray(queries).astype(np.float32)  # half precision widens exactly
    corpus = np.asarray(corpus).astype(np.float32)
    total = _lane_sum(queries[:, None, :], corpus[None, :, :])
    if metric == "cosine":
        norms = np.sqrt(_lane_sum(queries, queries))[:, None] * np.sqrt(_lane_sum(corpus, corpus))[None, :]
        total = np.divide(total, norms, out=np.zeros_like(total), where=norms > 0)
    elif metric != "dot":
        raise AssertionError(metric)
    return total.astype(np.float32)


def by_rank(rows: Iterable[int], scores: npt.NDArray[np.float32]) -> list[int]:
    """Sort rows by score, highest first; equal scores by index, lowest first."""
    return sorted(rows, key=lambda row: (-float(scores[row]), row))


# ------------------------------------------------------------------------------------------------ matching


def deferred_acceptance(
    preferences: Lists, scores: npt.NDArray[np.float32], wanted: int, capacity: int
) -> tuple[list[list[int]], set[tuple[int, int]]]:
    """Gale-Shapley, anchors proposing, many to many: what each anchor holds, and who was turned away.

    A row keeps the `capacity` proposals with the highest scores (then the lowest anchors).
    """
    holds: list[list[int]] = [[] for _ in preferences]
    holders: dict[int, list[int]] = {}
    asked = [0] * len(preferences)
    refused: set[tuple[int, int]] = set()
    moved = True
    while moved:
        moved = False
        for anchor, wishes in enumerate(preferences):
            if len(holds[anchor]) >= wanted or asked[anchor] >= len(wishes):
                continue
            moved = True
            row = wishes[asked[anchor]]
            asked[anchor] += 1
            holds[anchor].append(row)
            served = holders.setdefault(row, [])
            served.append(anchor)
            if len(served) > capacity:
                worst = max(served, key=lambda one: (-float(scores[one, row]), one))
                served.remove(worst)
                holds[worst].remove(row)
                refused.add((worst, row))
    return holds, refused


def blocking_pairs(
    holds: Lists, preferences: Lists, scores: npt.NDArray[np.float32], wanted: int, capacity: int
) -> list[tuple[int, int]]:
    """Pairs that would both rather have each other than something they hold; a stable result has none."""
    holders: dict[int, list[int]] = {}
    for anchor, rows in enumerate(holds):
        for row in rows:
            holders.setdefault(row, []).append(anchor)
    found = []
    for anchor, wishes in enumerate(preferences):
        place = {row: position for position, row in enumerate(wishes)}
        for row in wishes:
            if row in holds[anchor]:
                continue
            free = len(holds[anchor]) < wanted
            anchor_wants = free or any(place[row] < place[held] for held in holds[anchor])
            served = holders.get(row, [])
            mine = (-float(scores[anchor, row]), anchor)
            row_wants = len(served) < capacity or any(mine < (-float(scores[other, row]), other) for other in served)
            if anchor_wants and row_wants:
                found.append((anchor, row))
    return found


# ------------------------------------------------------------------------------------------------ the rules


def unique(rows: Iterable[int]) -> list[int]:
    """Drop padding and repeats; first occurrence first."""
    return list(dict.fromkeys(int(row) for row in rows if row != -1))


def labels(values: Labels | None, row: int) -> set[int]:
    """Read the set of groups or keys that one row carries; -1 is none."""
    if values is None:
        return set()
    return {int(value) for value in np.atleast_1d(values[row]) if value != -1}


@dataclass
class _Job:
    """One call, with every container turned into plain lists."""

    scores: npt.NDArray[np.float32]  # (n_queries, n_corpus)
    likeness: npt.NDArray[np.float32]  # (n_corpus, n_corpus), cosine
    in_play: list[list[int]]
    positives: list[list[int]]
    positive_scores: list[list[float]]
    groups: tuple[Labels, Labels] | None
    keys: tuple[Labels, Labels] | None
    exclude: list[set[int]]
    forbidden: set[int]
    rules: Rules

    def relatives(self, anchor: int) -> set[int]:
        """Find the known positives, and with `transitive` those of anchors that share one."""
        own = set(self.positives[anchor])
        if not self.rules.transitive:
            return own
        return own.union(*(other for other in self.positives if own & set(other)))

    def shares(self, pair: tuple[Labels, Labels] | None, anchor: int, row: int) -> bool:
        """Say whether a row has a label of the anchor or of one of its positives."""
        if pair is None:
            return False
        near = labels(pair[0], anchor).union(*(labels(pair[1], p) for p in self.positives[anchor]))
        return bool(near & labels(pair[1], row))

    def minimum(self, anchor: int) -> float | None:
        """Find the lowest positive score; None without a positive."""
        return min(self.positive_scores[anchor], default=None)

    def first_rule(self, anchor: int, row: int, relatives: set[int]) -> str | None:
        """Name the first identity or score rule that rejects a row; None when it is allowed."""
        rules = self.rules
        score = float(self.scores[anchor, row])
        positive = self.minimum(anchor)
        if row in relatives:
            return "positive"
        if rules.exclude_self and row == anchor:
            return "self"
        if self.shares(self.keys, anchor, row):
            return "key"
        if self.shares(self.groups, anchor, row):
            return "group"
        if row in self.exclude[anchor]:
            return "exclude"
        if row in self.forbidden:
            return "forbidden"
        if positive is not None:
            if rules.relative_margin is not None and score > positive - abs(positive) * rules.relative_margin:
                return "relative_margin"
            if rules.absolute_margin is not None and score > positive - rules.absolute_margin:
                return "absolute_margin"
        if rules.max_score is not None and score > rules.max_score:
            return "max_score"
        if rules.min_score is not None and score < rules.min_score:
            return "min_score"
        bound = rules.duplicate_of_positive
        if bound is not None and any(float(self.likeness[row, p]) > bound for p in self.positives[anchor]):
            return "duplicate_of_positive"
        return None

    def judge(self, anchor: int, range_max: int | None) -> tuple[list[int], dict[int, str]]:
        """Split an anchor's rows into the pool to draw from, by rank, and the removed with their rule."""
        relatives = self.relatives(anchor)
        removed: dict[int, str] = {}
        allowed = []
        for row in by_rank(self.in_play[anchor], self.scores[anchor]):
            rule = self.first_rule(anchor, row, relatives)
            if rule is None:
                allowed.append(row)
            else:
                removed[row] = rule
        for row in allowed[: self.rules.range_min]:
            removed[row] = "range_min"
        pool: list[int] = []
        for row in allowed[self.rules.range_min : range_max]:
            bound = self.rules.distinct
            if bound is not None and any(float(self.likeness[row, kept]) > bound for kept in pool):
                removed[row] = "distinct"
            else:
                pool.append(row)
        return pool, removed


def _tier(score: float, positive: float | None, tiers: tuple[float, float]) -> int:
    if positive is None:
        return 0
    hardness = score - positive
    return 3 if hardness >= tiers[0] else 2 if hardness >= tiers[1] else 1


def _suspects(job: _Job, suspect_rank: int) -> list[tuple[int, int, float, int]]:
    found = []
    for anchor, positives in enumerate(job.positives):
        for row, score in zip(positives, job.positive_scores[anchor], strict=True):
            rank = 1 + sum(float(job.scores[anchor, other]) > score for other in job.in_play[anchor])
            if rank > suspect_rank:
                found.append((anchor, row, score, rank))
    return found


def _run(job: _Job, num_negatives: int, tiers: tuple[float, float], suspect_rank: int, window: int | None) -> Expected:
    n = len(job.positives)
    range_max = job.rules.range_max if job.rules.range_max is not None else window
    judged = [job.judge(anchor, range_max) for anchor in range(n)]
    pools = [pool for pool, _ in judged]
    capacity = job.rules.max_exposure if job.rules.max_exposure is not None else n
    holds, refused = deferred_acceptance(pools, job.scores, num_negatives, capacity)

    expected = Expected(
        indices=np.full((n, num_negatives), -1, dtype=np.int64),
        scores=np.full((n, num_negatives), -np.inf, dtype=np.float32),
        positive_scores=np.full(n, np.nan, dtype=np.float32),
        tiers=np.zeros((n, num_negatives), dtype=np.uint8),
        removed=dict.fromkeys(RULES, 0),
        suspects=_suspects(job, suspect_rank),
        pools=pools,
    )
    for anchor, (_, removed) in enumerate(judged):
        positive = job.minimum(anchor)
        if positive is None:
            expected.anchors_without_positive += 1
        else:
            expected.positive_scores[anchor] = positive
        chosen = by_rank(holds[anchor], job.scores[anchor])
        for slot, row in enumerate(chosen):
            score = job.scores[anchor, row]
            expected.indices[anchor, slot] = row
            expected.scores[anchor, slot] = score
            expected.tiers[anchor, slot] = _tier(float(score), positive, tiers)
        expected.missing_negatives += num_negatives - len(chosen)
        expected.anchors_underfilled += len(chosen) < num_negatives
        # a removed row counts when it is at least as high as the last negative that was returned;
        # one that a list rule removed, when it ranks before that negative
        floor = float(job.scores[anchor, chosen[-1]]) if chosen else -np.inf
        last = chosen[-1] if chosen else job.scores.shape[1]
        rejected = removed | {row: "max_exposure" for one, row in refused if one == anchor}
        for row, rule in rejected.items():
            score = float(job.scores[anchor, row])
            listed = rule in ("range_min", "distinct", "max_exposure")
            expected.removed[rule] += score > floor or (score == floor and not (listed and row > last))
    return expected


# ------------------------------------------------------------------------------------------- the three calls


def mine(
    queries: Rows,
    corpus: Rows,
    positives: Lists,
    *,
    num_negatives: int = 8,
    metric: str = "cosine",
    groups: tuple[Labels, Labels] | None = None,
    keys: tuple[Labels, Labels] | None = None,
    exclude: Lists | None = None,
    forbidden: Iterable[int] = (),
    rules: Rules = Rules(),
    tiers: tuple[float, float] = (-0.05, -0.15),
    suspect_rank: int = 1000,
    window: int | None = None,
) -> Expected:
    """Mine by brute force with draw="top"; `window` is the range_max that other draws default to."""
    scores = score_matrix(queries, corpus, metric)
    own = [unique(rows) for rows in positives]
    n_queries, n_corpus = scores.shape
    job = _Job(
        scores=scores,
        likeness=score_matrix(corpus, corpus),
        in_play=[list(range(n_corpus))] * n_queries,
        positives=own,
        positive_scores=[[float(scores[i, row]) for row in rows] for i, rows in enumerate(own)],
        groups=groups,
        keys=keys,
        exclude=[set(unique(rows)) for rows in exclude] if exclude is not None else [set()] * n_queries,
        forbidden=set(forbidden),
        rules=rules,
    )
    return _run(job, num_negatives, tiers, suspect_rank, window)


def select(
    queries: Rows,
    corpus: Rows,
    candidates: Lists,
    positives: Lists,
    *,
    scores: Sequence[Sequence[float]] | None = None,
    positive_scores: Sequence[Sequence[float]] | None = None,
    num_negatives: int = 8,
    metric: str = "cosine",
    groups: tuple[Labels, Labels] | None = None,
    keys: tuple[Labels, Labels] | None = None,
    exclude: Lists | None = None,
    forbidden: Iterable[int] = (),
    rules: Rules = Rules(),
    tiers: tuple[float, float] = (-0.05, -0.15),
    suspect_rank: int = 1000,
    window: int | None = None,
) -> Expected:
    """Select by brute force; given scores replace the computed ones, the first occurrence counts."""
    table = score_matrix(queries, corpus, metric)
    own = [unique(rows) for rows in positives]
    own_scores = [[float(table[i, row]) for row in rows] for i, rows in enumerate(own)]
    if scores is not None:
        assert positive_scores is not None
        own_scores = []
        for anchor, rows in enumerate(candidates):
            for row, score in reversed(list(zip(rows, scores[anchor], strict=True))):
                if row != -1:
                    table[anchor, row] = score
            given = dict(reversed(list(zip(positives[anchor], positive_scores[anchor], strict=True))))
            own_scores.append([float(np.float32(given[row])) for row in own[anchor]])
    job = _Job(
        scores=table,
        likeness=score_matrix(corpus, corpus),
        in_play=[unique(rows) for rows in candidates],
        positives=own,
        positive_scores=own_scores,
        groups=groups,
        keys=keys,
        exclude=[set(unique(rows)) for rows in exclude] if exclude is not None else [set()] * len(own),
        forbidden=set(forbidden),
        rules=rules,
    )
    return _run(job, num_negatives, tiers, suspect_rank, window)


def topk(
    queries: Rows, corpus: Rows, k: int, metric: str = "cosine"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Find the k best rows of each query, padded with -1 and -inf."""
    scores = score_matrix(queries, corpus, metric)
    indices = np.full((len(scores), k), -1, dtype=np.int64)
    best = np.full((len(scores), k), -np.inf, dtype=np.float32)
    for query, row_scores in enumerate(scores):
        rows = by_rank(range(len(row_scores)), row_scores)[:k]
        indices[query, : len(rows)] = rows
        best[query, : len(rows)] = row_scores[rows]
    return indices, best


def near_duplicates(corpus: Rows, threshold: float) -> npt.NDArray[np.int64]:
    """Number the components of rows whose cosine reaches the threshold, by colouring from each row in turn."""
    linked = score_matrix(corpus, corpus).astype(np.float64) >= threshold
    numbers = np.full(len(corpus), -1, dtype=np.int64)
    for row in range(len(corpus)):
        if numbers[row] >= 0:
            continue
        reached, number = [row], numbers.max() + 1
        numbers[row] = number
        while reached:
            found = np.flatnonzero(linked[reached.pop()] & (numbers < 0))
            numbers[found] = number
            reached += found.tolist()
    return numbers


# ----------------------------------------------------------------------------------------------- containers


def padded(lists: Lists, width: int | None = None) -> npt.NDArray[np.int64]:
    """Turn lists into an (n, width) array padded with -1."""
    width = max((len(rows) for rows in lists), default=0) if width is None else width
    array = np.full((len(lists), width), -1, dtype=np.int64)
    for position, rows in enumerate(lists):
        array[position, : len(rows)] = rows
    return array


def csr(lists: Lists) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Turn lists into (indptr, indices)."""
    indptr = np.cumsum([0, *(len(rows) for rows in lists)], dtype=np.int64)
    indices = np.array([row for rows in lists for row in rows], dtype=np.int64)
    return indptr, indices


# ------------------------------------------------------------------------------------------------ comparing


def assert_same_bits(got: npt.NDArray[np.float32], want: npt.NDArray[np.float32]) -> None:
    """Fail unless two float32 arrays are equal bit for bit."""
    assert got.dtype == np.float32
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32), err_msg=f"{got}\n{want}")


def assert_same(mined: Any, want: Expected) -> None:
    """Fail unless a mined result equals the oracle's in every part that the specification fixes."""
    np.testing.assert_array_equal(mined.indices, want.indices)
    assert mined.indices.dtype == np.int64
    assert_same_bits(mined.scores, want.scores)
    assert mined.positive_scores.dtype == np.float32
    np.testing.assert_array_equal(mined.positive_scores, want.positive_scores)
    np.testing.assert_array_equal(mined.tiers, want.tiers)
    assert mined.tiers.dtype == np.uint8
    report = mined.report
    assert dict(report.removed) == want.removed
    assert report.anchors_without_positive == want.anchors_without_positive
    assert report.anchors_underfilled == want.anchors_underfilled
    assert report.missing_negatives == want.missing_negatives
    suspects = report.suspects
    got = zip(suspects.anchors, suspects.positives, suspects.scores, suspects.ranks, strict=True)
    assert sorted((int(a), int(p), float(s), int(r)) for a, p, s, r in got) == sorted(want.suspects)
