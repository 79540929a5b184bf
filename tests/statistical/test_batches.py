"""Batches that are clean still look random: who meets whom, and when, shows no pattern beyond what labels demand.

Seeds are fixed. Had they been drawn afresh, each bound of 5.5 standard deviations would be crossed with a probability
of 4e-8; there are fewer than 1000 of them, so a false alarm of all tests together has a probability below 4e-5. Counts
of one epoch depend on each other, those of different epochs do not: each count over epochs is binomial, and is judged
by itself.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from negfast.torch import HardBatchSampler

ROWS, BATCH, EPOCHS = 30, 6, 2500
# Three threes and three twos; the other 15 rows share nothing.
GROUPS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, *range(100, 115)])
Epochs = list[list[list[int]]]


def epochs(**options: object) -> Epochs:
    sampler = HardBatchSampler(ROWS, BATCH, groups=GROUPS, seed=1, **options)  # type: ignore[arg-type]
    made = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        made.append(list(sampler))
    return made


@pytest.fixture(scope="module")
def dealt() -> Epochs:
    return epochs()


def outliers(counts: npt.NDArray[np.int64], share: float) -> int:
    """Count the counts that lie 5.5 standard deviations from what a share of all epochs should give."""
    return int((np.abs(counts - EPOCHS * share) > 5.5 * np.sqrt(EPOCHS * share * (1 - share))).sum())


def misplaced(made: Epochs) -> int:
    """Rows that prefer a batch of the epoch, or a place in their batch."""
    batches, places = np.zeros((ROWS, ROWS // BATCH), np.int64), np.zeros((ROWS, BATCH), np.int64)
    for epoch in made:
        for number, batch in enumerate(epoch):
            batches[batch, number] += 1
            places[batch, np.arange(len(batch))] += 1
    return outliers(batches, BATCH / ROWS) + outliers(places, 1 / BATCH)


def met(made: Epochs) -> npt.NDArray[np.int64]:
    """In how many epochs each pair of rows met."""
    counts = np.zeros((ROWS, ROWS), np.int64)
    for batch in (batch for epoch in made for batch in epoch):
        counts[np.ix_(batch, batch)] += 1
    return counts


def attached(made: Epochs) -> int:
    """Pairs of rows without labels that meet more or less often than such pairs do on average."""
    free = np.arange(15, 30)
    counts = met(made)[np.ix_(free, free)][np.triu_indices(15, 1)]
    return outliers(counts, counts.mean() / EPOCHS)


def repeated(made: Epochs) -> int:
    return sum(len(rows) - len(set(rows)) for epoch in made for rows in [[row for batch in epoch for row in batch]])


def met_wrongly(made: Epochs) -> int:
    same = (GROUPS[:, None] == GROUPS[None, :]) & ~np.eye(ROWS, dtype=bool)
    return int(met(made)[same].sum())


CHECKS: list[Callable[[Epochs], int]] = [misplaced, attached, repeated, met_wrongly]


@pytest.mark.parametrize("check", CHECKS)
def test_batches_show_no_pattern(dealt: Epochs, check: Callable[[Epochs], int]) -> None:
    assert check(dealt) == 0


def test_unrelated_rows_meet_as_in_a_shuffle(dealt: Epochs) -> None:
    """Rows without labels meet those with labels a little more often, because these never meet their own."""
    counts = met(dealt)
    # In each batch of 6 a row meets 5 others: a row of a three one of 27, a row of a two one of 28.
    for rows, others in ((slice(0, 9), 27), (slice(9, 15), 28)):
        mean = counts[rows, 15:].mean() / EPOCHS
        assert abs(mean - 5 / others) < 0.02


def sorted_rows(made: Epochs) -> Epochs:
    """A biased order: low numbers first."""
    return [[sorted(batch) for batch in epoch] for epoch in made]


def early(made: Epochs) -> Epochs:
    """Batches of one epoch by their lowest row."""
    return [sorted(epoch, key=min) for epoch in made]


def one_row_twice(made: Epochs) -> Epochs:
    planted = [[list(batch) for batch in epoch] for epoch in made]
    planted[7][0][0] = planted[7][1][0]
    return planted


def companions(made: Epochs) -> Epochs:
    """Rows 20 and 21 are brought together in one epoch of eight."""
    planted = [[list(batch) for batch in epoch] for epoch in made]
    for epoch in planted[::8]:
        at = {row: (number, place) for number, batch in enumerate(epoch) for place, row in enumerate(batch)}
        (number, _), (other, place) = at[20], at[21]
        # Only a row without labels may go where row 21 was.
        swap = next((row for row in epoch[number] if row > 14 and row not in (20, 21)), None)
        if swap is None:
            continue
        a, b = at[swap]
        epoch[a][b], epoch[other][place] = 21, swap
    return planted


def labels_ignored(made: Epochs) -> Epochs:
    rng = np.random.default_rng(0)
    return [rng.permutation(ROWS).reshape(-1, BATCH).tolist() for _ in made]


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (sorted_rows, misplaced),
        (early, misplaced),
        (one_row_twice, repeated),
        (companions, attached),
        (labels_ignored, met_wrongly),
    ],
)
def test_faults_are_found(dealt: Epochs, plant: Callable[[Epochs], Epochs], check: Callable[[Epochs], int]) -> None:
    assert check(plant(dealt)) > 0
