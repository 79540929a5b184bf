"""Loads epochs of copied data sets with persistent workers, started as the argument says; run by test_copies.py."""

import copy
import pickle
import sys
import warnings

from torch.utils.data import DataLoader

from made import dataset, plain
from negfast.torch import NegativesDataset

# Python warns of a fork beside any other thread, and the queues of a loader have threads.
warnings.filterwarnings("ignore", "(?s).*fork", DeprecationWarning)


def check(data: NegativesDataset, method: str) -> None:
    """Compare what a persistent worker returns in each of three epochs with what the data set itself returns."""
    loader = DataLoader(
        data, 4, collate_fn=plain, num_workers=1, persistent_workers=True, multiprocessing_context=method, timeout=30
    )
    for epoch in (0, 7, 1):
        data.set_epoch(epoch)
        assert [example for batch in loader for example in batch] == plain(data), epoch


def main(method: str) -> None:
    data = dataset(num_negatives=2, choose="random", seed=5)
    data.set_epoch(3)
    for copied in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):  # noqa: S301
        assert copied.epoch == 3
        check(copied, method)
    assert data.epoch == 3, "a copy has an epoch of its own"


if __name__ == "__main__":
    main(sys.argv[1])
