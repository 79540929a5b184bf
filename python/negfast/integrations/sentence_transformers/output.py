"""Columns of Arrow as a data set."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from negfast.inputs import fingerprints
from negfast.integrations.hard_negatives.tables import Columns

if TYPE_CHECKING:
    from datasets import Dataset


def dataset_of(columns: Columns) -> "Dataset":
    """Return a data set that holds these very columns.

    It names its contents by a hash, as every data set does, for the files of later `map` calls. Left to itself it
    would copy and serialise the table for that, which takes longer than making it.
    """
    import pyarrow as pa
    from datasets import Dataset

    table = pa.table(columns)
    key = blake2b(repr((table.schema.to_string(), len(table))).encode(), digest_size=8)
    for part in _hashes(table):
        key.update(part.encode())
    return Dataset(table, fingerprint=key.hexdigest())


def _hashes(table: Any) -> Iterator[str]:
    """Yield a hash of each piece of memory that a table consists of."""
    for column in table.columns:
        for chunk in column.chunks:
            yield repr((chunk.offset, len(chunk)))
            buffers = {
                str(place): np.frombuffer(buffer, np.uint8)
                for place, buffer in enumerate(chunk.buffers())
                if buffer is not None and buffer.size
            }
            yield repr(fingerprints(**buffers))
