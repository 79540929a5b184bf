"""For those who have an index of hnswlib: negatives from its candidates."""

from importlib.util import find_spec

from negfast.errors import MissingExtraError

if find_spec("hnswlib") is None:
    raise MissingExtraError("negfast.integrations.hnswlib needs hnswlib; install negfast[hnsw]")

from negfast.integrations.hnswlib.source import HnswSource

__all__ = ["HnswSource"]
