"""The exceptions that negfast raises.

Each derives from :class:`NegfastError` and from the built-in exception of its kind, so that a caller can catch
either. The classes are made by the compiled module, which raises most of them.
"""

from negfast._negfast import (
    InvalidTypeError,
    InvalidValueError,
    MissingExtraError,
    NegfastError,
    RowIndexError,
    StateError,
)

__all__ = [
    "InvalidTypeError",
    "InvalidValueError",
    "MissingExtraError",
    "NegfastError",
    "RowIndexError",
    "StateError",
]
