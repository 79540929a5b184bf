"""Batches that tell mined lists which anchors are dealt out."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import BatchSampler

from negfast.arrays import Ints, integers
from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.torch.live_rows import LiveRows


class LiveBatches(BatchSampler):
    """A batch sampler around another: it says to :class:`LiveRows` which anchors a batch holds before it is dealt out.

    Parameters
    ----------
    batches : batch sampler
        Anything that a data loader takes for `batch_sampler`: an iterable of lists of places in the data set.
    lists : LiveRows
        What the anchors draw from.
    rows : int array of shape (n_pairs,), optional
        Row of the queries that each pair of the data set belongs to, as :class:`NegativesDataset` takes it. By default
        pair ``i`` belongs to row ``i``.

    Attributes
    ----------
    batches
        The batch sampler inside.
    batch_size, drop_last, sampler
        As that one says.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument is something else.

    Notes
    -----
    A data loader asks its batch sampler for batches in the process of the loop, and always as many ahead of it. So what
    :class:`LiveRows` is told is a function of how many batches the loop has taken.
    """

    def __init__(self, batches: Any, lists: LiveRows, *, rows: Any = None) -> None:
        if not hasattr(batches, "__iter__") or not hasattr(batches, "__len__"):
            raise InvalidTypeError(
                f"batches must be a batch sampler, got {type(batches).__name__}; pass what a DataLoader takes for "
                "batch_sampler"
            )
        if not isinstance(lists, LiveRows):
            raise InvalidTypeError(
                f"lists must be LiveRows, got {type(lists).__name__}; pass the source of the sampler"
            )
        self.batches, self._lists, self._rows = batches, lists, _checked_rows(rows)
        # What those look at who wrap a batch sampler once more.
        self.batch_size: Any = getattr(batches, "batch_size", None)
        self.drop_last: bool = getattr(batches, "drop_last", False)
        self.sampler: Any = getattr(batches, "sampler", None)

    def __len__(self) -> int:
        """Return the number of batches, as the batch sampler inside says it."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the batches inside."""
        for batch in self.batches:
            self._lists.deal(batch if self._rows is None else self._rows[batch])
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Tell what is inside of the epoch."""
        for inside in (self.batches, self.sampler):
            if hasattr(inside, "set_epoch"):
                inside.set_epoch(epoch)
                return


def _checked_rows(rows: Any) -> Ints | None:
    if rows is None:
        return None
    array = integers("rows", rows)
    if array.ndim != 1 or (array.size and array.min() < 0):
        raise InvalidValueError(
            f"rows must be a list of rows of the queries, 0 or more, got shape {array.shape}; pass one a pair"
        )
    return array
