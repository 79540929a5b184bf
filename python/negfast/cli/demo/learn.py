"""`negfast demo --train`: a small encoder learns the pairs, plainly and by the whole loop, and both are compared."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from negfast.cli.demo.held_out import Benchmark
from negfast.cli.screen import Screen
from negfast.errors import InvalidValueError, MissingExtraError

METHODS = ("plain", "negfast")
N_RESAMPLES = 2000
FEWEST_PAIRS = 1024  # of them a batch is no quarter


class Epoch(NamedTuple):
    """How well a model does after an epoch.

    Attributes
    ----------
    epoch : int
        0 before the first.
    loss : float or None
    mrr, ndcg : float
        Means over the questions.
    seconds : float
        Of training so far.
    """

    epoch: int
    loss: float | None
    mrr: float
    ndcg: float
    seconds: float


class Learned(NamedTuple):
    """The curve of a method, and what each question gained in the end.

    Attributes
    ----------
    curve : list of Epoch
    ndcg : ndarray of float64, shape (n_questions,)
    """

    curve: list[Epoch]
    ndcg: npt.NDArray[np.float64]


def check_torch() -> None:
    """Refuse to begin where torch is missing."""
    try:
        import negfast.torch  # noqa: F401
    except MissingExtraError as error:
        raise MissingExtraError("--train needs torch; install negfast[torch]") from error


def check_pairs(benchmark: Benchmark) -> None:
    """Refuse to begin with too few pairs."""
    n = len(benchmark.train)
    if n < FEWEST_PAIRS or not len(benchmark.held_out):
        raise InvalidValueError(
            f"--limit must leave at least {FEWEST_PAIRS:,} pairs to train on and a module to hold out, got {n:,} pairs "
            f"and {len(benchmark.held_out):,} questions; raise it"
        )


def learn(
    benchmark: Benchmark, *, epochs: int, seed: int, n_threads: int, progress: Callable[[int], None]
) -> dict[str, Learned]:
    """Train by both methods.

    Parameters
    ----------
    benchmark : Benchmark
    epochs, seed : int
    n_threads : int
        Of torch, and of mining.
    progress : callable
        Called with 1 after each epoch.

    Returns
    -------
    dict of str to Learned
        By the name of the method.
    """
    import torch

    from negfast.cli.demo.training import Training, TrainingSettings

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        settings = {
            "plain": TrainingSettings.plain(epochs=epochs, seed=seed),
            "negfast": TrainingSettings(epochs=epochs, seed=seed),
        }
        return {
            name: _learn(benchmark, partial(Training, benchmark.train, chosen, n_threads=n_threads), progress)
            for name, chosen in settings.items()
        }
    finally:
        torch.set_num_threads(before)


def _learn(benchmark: Benchmark, make: Callable[[], Any], progress: Callable[[int], None]) -> Learned:
    begin = time.perf_counter()
    training = make()
    seconds = time.perf_counter() - begin
    found = benchmark.measure(training.model.encode)
    curve = [Epoch(0, None, found.mrr.mean(), found.ndcg.mean(), seconds)]
    begin = time.perf_counter()
    for done in training.train():
        seconds += time.perf_counter() - begin
        found = benchmark.measure(training.model.encode)
        curve.append(Epoch(done.epoch + 1, done.loss, found.mrr.mean(), found.ndcg.mean(), seconds))
        progress(1)
        begin = time.perf_counter()
    return Learned(curve, found.ndcg)


def show_learning(screen: Screen, benchmark: Benchmark, learned: dict[str, Learned]) -> None:
    """Show both curves as a table, and what was gained."""
    screen.heading("Training: a static encoder from scratch, judged on modules that it has not seen")
    screen.prose(
        f"{len(benchmark.train):,} pairs to learn from; {len(benchmark.held_out):,} questions, each with "
        f"{len(benchmark.corpus):,} sources to find its own in"
    )
    plain, ours = (learned[name].curve for name in METHODS)
    rows: list[tuple[str, ...]] = [("epoch", "plain nDCG@10", "MRR@10", "negfast nDCG@10", "MRR@10")]
    for first, second in zip(plain, ours, strict=True):
        rows.append((str(first.epoch), *(f"{value:.3f}" for one in (first, second) for value in (one.ndcg, one.mrr))))
    screen.rows(rows, right=(0, 1, 2, 3, 4))
    gain = learned["negfast"].ndcg - learned["plain"].ndcg
    low, high = interval(gain)
    screen.prose(
        f"nDCG@10 {gain.mean():+.3f} over in-batch negatives alone (95 % of the questions drawn anew: {low:+.3f} to "
        f"{high:+.3f}; one seed); training took {plain[-1].seconds:.0f} s and {ours[-1].seconds:.0f} s"
    )


def interval(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle 95 % of the means of questions that are drawn anew (B. Efron, *Bootstrap methods*, 1979)."""
    rng = np.random.default_rng(0)
    n = len(differences)
    means = [differences[rng.integers(0, n, n)].mean() for _ in range(N_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def show_files(screen: Screen, folder: Path, *, drawn: bool) -> None:
    """Show what was written."""
    screen.heading(f"Files in {folder}")
    rows = [("training.txt, training.json", "this text, and every number of the curves")]
    if drawn:
        rows.insert(0, ("curves.png", "both learning curves"))
    screen.rows(rows)
    if not drawn:
        screen.prose("curves.png needs matplotlib; install negfast[plot]")
