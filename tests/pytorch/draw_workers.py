"""Loads epochs of drawn negatives with 0, 1, 2 and 8 workers, started in the way named by the argument.

A script, run by test_draw_workers.py. With ``faulty`` as a second argument the source depends on the worker.
"""

import sys
import warnings
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, get_worker_info

from made import CORPUS, N_CORPUS, N_PAIRS, PAIRS, mined
from negfast.torch import (
    Candidates,
    EpochSampler,
    MinedRows,
    NegativeSampler,
    NegativesCollator,
    NegativesDataset,
    Request,
    UniformRows,
)

N_EPOCHS = 3

# Python warns of a fork beside any other thread, and the queues of a loader have threads.
warnings.filterwarnings("ignore", "(?s).*fork", DeprecationWarning)
# Eight workers on few CPUs are what is tested.
warnings.filterwarnings("ignore", "(?s).*worker processes", UserWarning)


class PerWorker(UniformRows):
    """Random rows of a generator that each worker seeds by its own number, as many samplers do."""

    def candidates(self, request: Request) -> Candidates:
        """Return rows that depend on who asks."""
        worker = get_worker_info()
        mine = 0 if worker is None else worker.id + 1
        found = super().candidates(request)
        return Candidates((found.ids + mine) % N_CORPUS, log_inclusion=found.log_inclusion)


def sampler(faulty: bool, max_exposure: int | None) -> NegativeSampler:
    """Make a sampler; its usefulness differs from row to row."""
    uniform = (PerWorker if faulty else UniformRows)(N_CORPUS, candidates=4)
    return NegativeSampler(
        [MinedRows(mined()), uniform],
        num_negatives=4,
        probabilities={"hard": 0.3, "semi_hard": 0.2, "easy": 0.3},
        min_random=0.25,
        positives=np.arange(N_PAIRS),
        max_exposure=max_exposure,
        seed=5,
    )


def load(n_workers: int, method: str | None, faulty: bool, max_exposure: int | None, start: Any = None) -> list[Any]:
    """Return the negatives of all epochs, or of those after a state, and the states between them."""
    chosen = sampler(faulty, max_exposure)
    if start is not None:
        chosen.load_state_dict(start)
    data, order = NegativesDataset(PAIRS, chosen, CORPUS), EpochSampler(N_PAIRS, seed=5)
    loader = DataLoader(
        data,
        5,
        sampler=order,
        num_workers=n_workers,
        collate_fn=NegativesCollator(),
        multiprocessing_context=method,
        persistent_workers=n_workers > 0,
        timeout=30 if n_workers else 0,
    )
    seen: list[Any] = []
    for epoch in range(0 if start is None else start["epoch"] + 1, N_EPOCHS):
        data.set_epoch(epoch)
        order.set_epoch(epoch)
        batches = [(b.rows.tolist(), b.negative_rows.tolist(), b.log_weight.tolist()) for b in loader]
        chosen.update(np.arange(N_CORPUS), np.arange(N_CORPUS) + epoch)
        seen.append((batches, chosen.state_dict()))
    return seen


def batches(epochs: list[Any]) -> list[Any]:
    """Leave the states out."""
    return [batches for batches, _ in epochs]


def main(method: str, faulty: bool) -> None:
    """Compare all numbers of workers, and restarts after each epoch."""
    for max_exposure in (None, 6) if method == "fork" else (6,):  # spawned workers are slow to start
        alone = load(0, None, faulty, max_exposure)
        assert batches(alone)[0] != batches(alone)[1] != batches(alone)[2]
        for n_workers in (1, 2, 8) if method == "fork" else (2,):
            assert batches(load(n_workers, method, faulty, max_exposure)) == batches(alone), "workers make a difference"
        for epoch, (_, state) in enumerate(alone):
            assert batches(load(0, None, faulty, max_exposure, state)) == batches(alone)[epoch + 1 :], "a restart does"


if __name__ == "__main__":
    main(sys.argv[1], len(sys.argv) > 2)
