"""Arguments of a sampler of negatives, brought to what the compiled module takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from negfast import inputs
from negfast.arrays import Ints, floats, integers
from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.settings import Tiers, instance, number, optional_whole, truth, whole
from negfast.torch.sources import Candidates, Source, source_size

TIERS = ("hard", "semi_hard", "easy")
"""The tiers that have a probability, hardest first."""
_MOST_SOURCES = 100
_MOST_ROWS = 2**32 - 2


def checked_sources(sources: Any) -> tuple[Source, ...]:
    """Return the sources as a tuple, if they are some."""
    if not isinstance(sources, Sequence) or isinstance(sources, str):
        raise InvalidTypeError(f"sources must be a list, got {type(sources).__name__}; pass [MinedRows(mined), ...]")
    if len(sources) > _MOST_SOURCES:
        raise InvalidValueError(f"sources must be at most {_MOST_SOURCES}, got {len(sources)}; join some of them")
    for i, source in enumerate(sources):
        if not isinstance(source, Source) or (type(source.name), type(source.fixed)) != (str, bool):
            raise InvalidTypeError(
                f"sources[{i}] must have a name, fixed (a bool) and a method candidates, got {type(source).__name__} "
                f"{shown(source)}; wrap mined negatives as MinedRows(mined)"
            )
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise InvalidValueError(f"sources must have different names, got {names}; name them")
    return tuple(sources)


def checked_given(given: Any, sources: tuple[Source, ...]) -> dict[str, Candidates]:
    """Return candidates that come with a draw, if their names are free."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidTypeError(
            f'given must be a mapping of names to Candidates, got {shown(given)}; pass {{"bank": Candidates(...)}}'
        )
    taken = [source.name for source in sources if source.name in given]
    if taken or len(given) + len(sources) > _MOST_SOURCES:
        raise InvalidValueError(
            f"given must be a few names other than those of the sources, got {sorted(given)}; rename {taken}"
        )
    return dict(given)


def plain_candidates(name: str, candidates: Any, n: int) -> tuple[str, Ints, Any, Any, Any]:
    """Return candidates as the compiled module takes them."""
    if not isinstance(candidates, Candidates):
        raise InvalidTypeError(
            f"candidates of {name} must be Candidates, got {type(candidates).__name__}; return Candidates(ids, ...)"
        )
    ids = integers(f"ids of {name}", candidates.ids)
    if ids.ndim == 1:
        ids = np.ascontiguousarray(np.broadcast_to(ids, (n, len(ids))))
    if ids.ndim != 2 or len(ids) != n:
        raise InvalidValueError(
            f"ids of {name} must be of shape ({n}, m), a row for each anchor, or (m,), got {ids.shape}; pad with -1"
        )
    parts: list[Any] = []
    for part, shape in (("scores", ids.shape), ("positive_scores", (n,)), ("log_inclusion", ids.shape)):
        value = getattr(candidates, part)
        array = None if value is None else floats(f"{part} of {name}", value)
        if array is not None and array.shape != shape:
            raise InvalidValueError(f"{part} of {name} must be of shape {shape}, got {array.shape}; see Candidates")
        parts.append(array)
    return (name, ids, *parts)


def corpus_size(n_rows: int | None, sources: tuple[Source, ...]) -> int:
    """Return the number of corpus rows that all sources agree on."""
    sizes = {source.name: source_size(source, "n_rows") for source in sources}
    found = {size for size in sizes.values() if size is not None}
    if n_rows is not None:
        found.add(whole("n_rows", n_rows, low=0, high=_MOST_ROWS))
    if len(found) != 1:
        raise InvalidValueError(
            f"n_rows must be one number of corpus rows, got {sorted(found)} ({sizes}); name it, and use sources of one "
            "corpus"
        )
    return found.pop()


def query_size(n_queries: int | None, sources: tuple[Source, ...], positives: Any, labels: Any) -> int:
    """Return the number of rows of the queries, from whatever tells."""
    lowest = max((source_size(source, "n_queries") or 0 for source in sources), default=0)
    if n_queries is None:
        pair = labels if isinstance(labels, tuple | list) and labels else (None,)
        n_queries = next((n for n in (_n_lists(positives), _n_lists(pair[0])) if n is not None), lowest)
    n_queries = whole("n_queries", n_queries, low=0, high=_MOST_ROWS)
    if n_queries < lowest:
        raise InvalidValueError(
            f"n_queries must be at least {lowest}, as sources have lists for, got {n_queries}; pass positives, groups "
            "and keys of all queries"
        )
    return n_queries


def _n_lists(value: Any) -> int | None:
    """Return how many lists there are, in any form; what has no length is refused later."""
    if isinstance(value, tuple) and value and hasattr(value[0], "__len__"):
        return max(len(value[0]) - 1, 0)
    return len(value) if hasattr(value, "__len__") else None


def identity_arguments(
    sizes: tuple[int, int], positives: Any, groups: Any, keys: Any, duplicates: Any, exclude_self: bool
) -> tuple[Any, ...]:
    """Return what is known of rows and anchors, as the compiled module takes it."""
    n_queries, n_rows = sizes
    lists = (np.zeros(n_queries + 1, dtype=np.int64), np.empty(0, dtype=np.int64))
    if positives is not None:
        lists = inputs.row_lists("positives", positives, n_queries)
    if truth("exclude_self", exclude_self):
        indptr, indices = lists
        own = np.arange(min(n_queries, n_rows), dtype=np.int64)
        grown = indptr + np.minimum(np.arange(len(indptr)), len(own))
        lists = grown, np.insert(indices, indptr[1 : len(own) + 1], own)
    labels = [
        (name, inputs.label_pair(name, pair)) for name, pair in (("groups", groups), ("keys", keys)) if pair is not None
    ]
    copies = None if duplicates is None else integers("duplicates", duplicates)
    return n_rows, copies, lists, labels


def checked_shares(probabilities: Any, min_random: Any) -> list[float]:
    """Return the reserved share, then those of the tiers."""
    reserved = number("min_random", min_random, low=0.0, high=1.0)
    if not isinstance(probabilities, Mapping):
        raise InvalidTypeError(
            f"probabilities must be a mapping of tiers to numbers, got {type(probabilities).__name__} "
            f'{shown(probabilities)}; pass {{"hard": 0.3, "semi_hard": 0.4, "easy": 0.2}}'
        )
    unknown = [shown(name) for name in probabilities if name not in TIERS]
    if unknown:
        raise InvalidValueError(
            f"probabilities must be for tiers among {list(TIERS)}, got {', '.join(unknown)}; what they leave to 1 is "
            "random"
        )
    shares = [number(f"probabilities[{name!r}]", probabilities.get(name, 0.0), low=0.0, high=1.0) for name in TIERS]
    if sum(shares) > 1.0 + 1e-9:
        raise InvalidValueError(
            f"probabilities must add up to at most 1, got {sum(shares):g}; what they leave to 1 is random"
        )
    return [reserved, *shares]


def checked_edges(tiers: Any) -> list[float]:
    """Return where the hard and the semi-hard tier begin."""
    instance("tiers", tiers, Tiers)
    return [tiers.hard, tiers.semi_hard]


def checked_window(window: Any) -> list[float]:
    """Return the first rank that serves and the first that no longer does, which may be infinity."""
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise InvalidTypeError(
            f"window must be a pair of the first rank and the one to stop before, got {shown(window)}; pass (0, None)"
        )
    first = whole("window[0]", window[0], low=0, high=_MOST_ROWS)
    end = optional_whole("window[1]", window[1], low=first + 1)
    return [float(first), math.inf if end is None else float(end)]
