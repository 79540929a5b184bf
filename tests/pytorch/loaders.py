"""Loads epochs with workers that are started in the way named by the argument; a script, run by test_loaders.py."""

import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from made import N_PAIRS, PAIRS, dataset
from negfast.torch import EpochSampler, NegativesBatch, NegativesCollator

BATCH_SIZE, N_EPOCHS = 5, 3  # the last batch of an epoch is shorter
State = dict[str, Any]

# Python warns of a fork beside any other thread, and the queues of a loader have threads.
warnings.filterwarnings("ignore", "(?s).*fork", DeprecationWarning)


def encode(texts: list[str]) -> list[str]:
    """Be an encoder that a spawned worker can import."""
    return [text.upper() for text in texts]


def plain(batch: NegativesBatch) -> State:
    return {name: part if isinstance(part, list) else part.tolist() for name, part in vars(batch).items()}


def train(n_workers: int, method: str | None, state: State | None = None) -> Iterator[tuple[State, State]]:
    """Yield each batch with the state after it, as a training loop would, from a state on."""
    data, sampler = dataset(num_negatives=2, choose="random", seed=5), EpochSampler(N_PAIRS, seed=5)
    if state is not None:
        sampler.load_state_dict(state)
    loader = DataLoader(
        data,
        BATCH_SIZE,
        sampler=sampler,
        num_workers=n_workers,
        collate_fn=NegativesCollator(encode, positives=[[row] for row in range(N_PAIRS)]),
        multiprocessing_context=method,
        persistent_workers=n_workers > 0,
        timeout=30 if n_workers else 0,
    )
    for epoch in range(sampler.epoch, N_EPOCHS):
        data.set_epoch(epoch)
        sampler.set_epoch(epoch)
        for batch in loader:
            sampler.consumed(len(batch))
            yield plain(batch), json.loads(json.dumps(sampler.state_dict()))


def check_epochs_differ(run: list[tuple[State, State]]) -> None:
    """Each pair is there once an epoch, and gets other negatives from one epoch to the next."""
    negatives: list[dict[int, list[int]]] = [{} for _ in range(N_EPOCHS)]
    for batch, state in run:
        for row, index in zip(batch["rows"], batch["negative_index"], strict=True):
            assert row not in negatives[state["epoch"]]
            negatives[state["epoch"]][row] = [batch["negative_rows"][place] for place in index]
    assert [sorted(epoch) for epoch in negatives] == [list(range(N_PAIRS))] * N_EPOCHS
    assert negatives[0] != negatives[1] != negatives[2] != negatives[0]
    assert run[0][0]["anchors"] == [PAIRS[row][0].upper() for row in run[0][0]["rows"]]


def main(method: str) -> None:
    whole = list(train(0, None))
    check_epochs_differ(whole)
    assert list(train(2, method)) == whole, "workers make a difference"
    if method == "spawn":  # slow to start, and the same from here on
        return
    for stop, (_, state) in enumerate(whole):
        for n_workers in (0, 2):
            assert list(train(n_workers, method if n_workers else None, state)) == whole[stop + 1 :], (stop, n_workers)


if __name__ == "__main__":
    main(sys.argv[1])
