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


def shown(value: object) -> str:
    """Return `value` as it is shown in an error: on one line, and short."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        # Python refuses to print very long integers, in lists too.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
