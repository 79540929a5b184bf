"""Draws of a NegativeSampler come with the probabilities that their weights state.

Seeds are fixed, so nothing here is flaky. Were they drawn afresh, each mean would raise a false alarm with a
probability of 6e-10 (6.2 standard errors, of averages that are close to normal), so that all tests together, of less
than 1,600 means, would with 1e-6. Each check is also shown to fail on planted faults.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import negfast
from negfast.torch import Candidates, Draw, MinedRows, NegativeSampler, Request, UniformRows

N_QUERIES, N_ROWS, DIM, WIDTH, TAU = 6, 120, 6, 30, 0.3
LIMIT = 6.2
_RNG = np.random.default_rng(3)
CORPUS = _RNG.standard_normal((N_ROWS, DIM), dtype=np.float32)
CORPUS[60:75] = CORPUS[:15]  # copies
QUERIES = CORPUS[:N_QUERIES] + 0.8 * _RNG.standard_normal((N_QUERIES, DIM), dtype=np.float32)
POSITIVES = [[i] for i in range(N_QUERIES)]
COPIES = negfast.near_duplicates(CORPUS, 0.999)
MINED = negfast.mine(QUERIES, CORPUS, POSITIVES, num_negatives=WIDTH, rules=negfast.Rules(relative_margin=None))
ALL = np.arange(N_QUERIES)
_UNIT = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (QUERIES.astype(float), CORPUS.astype(float))]
EXPONENTIALS = np.exp(_UNIT[0] @ _UNIT[1].T / TAU)
SHARES = {"hard": 0.3, "semi_hard": 0.3, "easy": 0.3}
STEPS = 1500


class Skewed:
    """A source that samples with probabilities of its own: each row by a coin."""

    name, fixed = "skewed", False
    chances = np.linspace(0.1, 0.9, N_ROWS)

    def candidates(self, request: Request) -> Candidates:
        shape = (len(request.anchors), N_ROWS)
        tossed = np.empty(shape)
        for i, anchor in enumerate(request.anchors):
            tossed[i] = np.random.default_rng([request.seed, request.epoch, request.step, anchor]).random(N_ROWS)
        chances = np.broadcast_to(self.chances, shape)
        ids = np.where(tossed < chances, np.arange(N_ROWS), -1)
        return Candidates(ids, log_inclusion=np.log(chances))


def sampler(source: Any = None, **options: Any) -> NegativeSampler:
    chosen: dict[str, Any] = {
        "num_negatives": 9,
        "probabilities": SHARES,
        "min_random": 0.2,
        "positives": POSITIVES,
        "duplicates": COPIES,
        "seed": 11,
    }
    return NegativeSampler([MinedRows(MINED), source or UniformRows(N_ROWS)], **chosen | options)


def many(made: NegativeSampler, steps: int = STEPS, epochs: bool = False) -> list[Draw]:
    draws = []
    for step in range(steps):
        if epochs:
            made.set_epoch(step)
        draws.append(made.draw(ALL, step))
    return draws


def allowed(anchor: int) -> Any:
    return COPIES[POSITIVES[anchor][0]] != COPIES


def estimates(draws: list[Draw]) -> Any:
    """Estimate each anchor's partition function from each draw: shape (draws, anchors)."""
    places = ALL[:, None]
    return np.array([(EXPONENTIALS[places, draw.ids] * np.exp(draw.log_weight.astype(float))).sum(1) for draw in draws])


def bias(draws: list[Draw]) -> float:
    """Return how many standard errors the worst anchor's mean estimate lies off the truth."""
    truth = np.array([EXPONENTIALS[i, allowed(i)].sum() for i in ALL])
    found = estimates(draws)
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    return float(np.abs((found.mean(axis=0) - truth) / error).max())


DESIGNS: dict[str, Callable[[], NegativeSampler]] = {
    "by tier": sampler,
    "a tier that is closed": lambda: sampler(probabilities={"easy": 0.6}),
    "all random": lambda: sampler(probabilities={}, min_random=1.0),
    "by temperature": lambda: sampler(temperature=TAU, probabilities={"hard": 0.5, "semi_hard": 0.3, "easy": 0.1}),
    "lists whole": lambda: sampler(num_negatives=WIDTH + 8, probabilities={"hard": 1.0}, min_random=8 / (WIDTH + 8)),
    "many sampled copies": lambda: sampler(UniformRows(N_ROWS, candidates=100)),
    "a reservoir": lambda: sampler(Reservoirs()),
    "a skewed source": lambda: sampler(Skewed()),
    "useful rows": lambda: useful(sampler(usefulness_cap=8.0)),
    "without copies": lambda: sampler(duplicates=None),
    "no duplicates in view": lambda: sampler(duplicates=None, temperature=TAU),
}


class Reservoirs:
    """Uniform rows of a reservoir that is sampled anew in every step."""

    name, fixed = "reservoir", False

    def candidates(self, request: Request) -> Candidates:
        ids = np.random.default_rng([5, request.step]).choice(N_ROWS, 60, replace=False)
        return UniformRows(N_ROWS, ids=ids, candidates=40).candidates(request)


def useful(made: NegativeSampler) -> NegativeSampler:
    made.update(np.arange(N_ROWS), np.linspace(0.01, 3.0, N_ROWS))
    made.publish()
    return made


def copies_are_allowed(anchor: int) -> Any:
    return np.arange(N_ROWS) != POSITIVES[anchor][0]


@pytest.mark.parametrize("design", DESIGNS)
def test_the_partition_function_is_estimated_without_bias(design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if ("cop" in design and "without" in design) or "no dup" in design:
        monkeypatch.setitem(globals(), "allowed", copies_are_allowed)
    assert bias(many(DESIGNS[design]())) < LIMIT


@pytest.mark.parametrize("design", ["by tier", "by temperature", "useful rows"])
def test_a_cap_on_exposure_is_weighed(design: str) -> None:
    options: dict[str, Any] = {"max_exposure": 4, "n_queries": N_QUERIES}
    if design == "by temperature":
        options |= {"temperature": TAU}
    made = sampler(UniformRows(N_ROWS, candidates=30), **options)
    if design == "useful rows":
        useful(made)
    assert bias(many(made, epochs=True)) < LIMIT


def test_mean_of_a_lone_row() -> None:
    """A draw of one negative: weights are as wild as they get."""
    assert bias(many(sampler(num_negatives=1, min_random=0.0, probabilities={"hard": 0.5, "easy": 0.2}), 6000)) < LIMIT


# --------------------------------------------------------------------------------------------------------------- faults


def spoiled(draws: list[Draw], change: Callable[[Draw], Any]) -> list[Draw]:
    """Return draws with other log weights."""
    return [Draw(**vars(draw) | {"log_weight": change(draw)}) for draw in draws]


FAULTS: dict[str, Callable[[Draw], Any]] = {
    "no weights": lambda draw: np.where(draw.ids >= 0, 0.0, -np.inf),
    "weights of lists left out": lambda draw: np.where(draw.sources == 0, 0.0, draw.log_weight),
    "all rows as if random": lambda draw: np.full(draw.ids.shape, math.log(N_ROWS / 9)),
    "5 % too much": lambda draw: draw.log_weight + math.log(1.05),
    "copies count once": lambda draw: draw.log_weight - np.where(COPIES[draw.ids] < 15, math.log(2), 0.0),
    "candidates counted as drawn": lambda draw: np.where(draw.sources == 1, math.log(N_ROWS / 34), draw.log_weight),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_weights_are_noticed(fault: str) -> None:
    assert bias(spoiled(many(sampler()), FAULTS[fault])) > LIMIT


# ----------------------------------------------------------------------------------------------------- inclusion counts


def inclusion(draws: list[Draw]) -> float:
    """Return how many standard errors the worst row's mean inverse probability lies off 1, over anchors and rows.

    A row that is drawn with probability p counts 1 / p each time: the mean is 1 if p is what it is drawn with.
    """
    totals = np.zeros((2, N_QUERIES, N_ROWS))
    for draw in draws:
        weights = np.exp(draw.log_weight.astype(float))
        np.add.at(totals, (0, ALL[:, None], draw.ids), weights)
        np.add.at(totals, (1, ALL[:, None], draw.ids), weights**2)
    mean = totals[0] / len(draws)
    deviation = np.sqrt(np.maximum(totals[1] / len(draws) - mean**2, 1e-12) / len(draws))
    possible = np.array([allowed(i) for i in ALL])
    assert (totals[0][~possible] == 0).all()
    certain = mean == 1.0
    return float((np.abs(mean - 1.0) / deviation)[possible & ~certain].max())


@pytest.mark.parametrize("listed", [True, False])
def test_rows_are_drawn_as_often_as_stated(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "allowed", copies_are_allowed)
    options = {} if listed else {"probabilities": {}, "min_random": 1.0}
    draws = many(sampler(duplicates=None, **options), 3000)
    assert inclusion(draws) < LIMIT


def test_a_biased_draw_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that says uniform and is not: every third time, the rows of the first half."""
    monkeypatch.setitem(globals(), "allowed", copies_are_allowed)

    class Biased:
        name, fixed = "biased", False

        def candidates(self, request: Request) -> Candidates:
            found = UniformRows(N_ROWS).candidates(request)
            return Candidates(found.ids // (2 if request.step % 3 == 0 else 1), log_inclusion=found.log_inclusion)

    assert inclusion(many(sampler(Biased(), duplicates=None, probabilities={}, min_random=1.0), 3000)) > LIMIT


def test_a_repeated_row_is_noticed() -> None:
    """A draw that takes its second row once more in place of its last: as fair by sums of slots, but not by row."""
    draws = many(sampler())
    for draw in draws:
        draw.ids[:, -1], draw.log_weight[:, -1] = draw.ids[:, 1], draw.log_weight[:, 1]
    assert bias(draws) > LIMIT


def test_pairs_are_not_drawn_together_too_often() -> None:
    """Both of two rows are never likelier than by independent draws: the sample is spread out."""
    draws = many(sampler(duplicates=None), 3000)
    listed = [row for row in MINED.indices[0] if row >= 0]
    held = np.array([np.isin(listed, draw.ids[0]) for draw in draws]).astype(float)
    rates, both = held.mean(axis=0), held.T @ held / len(held)
    excess = (both - np.outer(rates, rates)) / np.sqrt(np.maximum(np.outer(rates, rates), 1e-3) / len(held))
    np.fill_diagonal(excess, 0.0)
    assert excess.max() < LIMIT


# ------------------------------------------------------------------------------------------ independence of coordinates


def test_neighbouring_draws_share_nothing() -> None:
    """First random rows of neighbouring anchors, steps and epochs: no two are equal more often than by chance."""
    n = 50
    made = NegativeSampler([UniformRows(n)], num_negatives=1, probabilities={}, min_random=1.0, n_queries=2000, seed=2)
    first = made.draw(np.arange(2000), 0).ids[:, 0]
    for others in (np.roll(first, 1), made.draw(np.arange(2000), 1).ids[:, 0]):
        equal = int((first == others).sum())
        assert abs(equal - 2000 / n) < LIMIT * math.sqrt(2000 / n)
    made.set_epoch(1)
    assert abs(int((first == made.draw(np.arange(2000), 0).ids[:, 0]).sum()) - 40) < LIMIT * math.sqrt(40)


# -------------------------------------------------------------------------------------------------- against the softmax


def gradient_error(draw: Draw, rows: Any, queries: Any, tau: float, log_weight: Any) -> float:
    """Return the mean relative error of the gradient of InfoNCE, against all rows but the positive."""
    scores = queries @ rows.T / tau
    n = len(queries)
    full = np.exp(scores - scores.max(axis=1, keepdims=True))
    full /= full.sum(axis=1, keepdims=True)
    truth = full @ rows - rows[:n]
    own = np.concatenate([scores[np.arange(n), np.arange(n)][:, None], np.take_along_axis(scores, draw.ids, 1)], axis=1)
    own[:, 1:] += log_weight
    share = np.exp(own - own.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    found = share[:, :1] * rows[:n] + np.einsum("ij,ijk->ik", share[:, 1:], rows[draw.ids]) - rows[:n]
    return float((np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1)).mean())


def test_the_gradient_of_the_whole_softmax() -> None:
    """Half the list whole and half a weighted uniform tail, and a list drawn by the temperature of the loss."""
    rng = np.random.default_rng(0)
    dim, n, n_queries = 64, 4000, 100
    centres = rng.standard_normal((60, dim))
    rows = centres[rng.integers(0, 60, n)] + 0.9 * rng.standard_normal((n, dim)) + 0.5
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    queries = rows[:n_queries] + 0.08 * rng.standard_normal((n_queries, dim)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    options: dict[str, Any] = {"num_negatives": 256, "probabilities": {"hard": 1.0}, "positives": np.arange(n_queries)}
    off = negfast.Rules(relative_margin=None)
    errors = {}
    for width, temperature, random in ((128, None, 0.5), (1024, 0.05, 0.25)):
        mined = negfast.mine(queries, rows, np.arange(n_queries), num_negatives=width, rules=off)
        made = NegativeSampler(
            [MinedRows(mined), UniformRows(n)], min_random=random, temperature=temperature, **options
        )
        made.publish(tiers=negfast.Tiers(-2.0, -2.0))  # the list is one tier
        draw = made.draw(np.arange(n_queries), 0)
        errors[width] = gradient_error(draw, rows, queries, 0.05, draw.log_weight)
        assert gradient_error(draw, rows, queries, 0.05, np.zeros(draw.ids.shape)) > 2 * errors[width]
    assert errors[1024] < errors[128]
    assert errors[1024] < 0.06
