"""Types of command-line options; a value out of range is a mistake that argparse reports."""

import math
import re
from argparse import ArgumentTypeError

_UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _whole_number(text, 1)


def natural(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole_number(text, 0)


def number(text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"must be a number, got {text!r}")
    return value


def fraction(text: str) -> float:
    """Return a number above 0 and at most 1."""
    value = number(text)
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"must be above 0 and at most 1, got {text!r}")
    return value


def memory(text: str) -> int:
    """Return a number of bytes from a number with or without a unit, such as 512MiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b)?", text.strip(), re.IGNORECASE)
    unit = (found.group(2) or "").lower() if found else "none"
    if found is None or unit not in _UNITS or len(text) > 32:
        raise ArgumentTypeError(f"must be a number of bytes such as 512MiB or 2GiB, got {text!r}")
    return int(float(found.group(1)) * _UNITS[unit])


def _whole_number(text: str, least: int) -> int:
    # More digits than any count needs would only be refused later, and Python does not even read very many.
    if not text.isdecimal() or len(text) > 20 or int(text) < least:
        raise ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return int(text)
