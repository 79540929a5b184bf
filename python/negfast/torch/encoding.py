"""Texts to rows by a model that is being trained, on all ranks together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from negfast.errors import InvalidTypeError, InvalidValueError, NegfastError, StateError, shown
from negfast.torch.gather import several_ranks

Rows = NDArray[Any]
Encode = Callable[[list[str]], Any]
"""Texts to rows: an array or a tensor of shape (n_texts, dim)."""
Encoders = Encode | tuple[Encode, Encode]
"""One for all texts, or one for queries and one for the corpus."""
_Made = TypeVar("_Made")


class RankError(NegfastError, RuntimeError):
    """Another rank failed, so that this one cannot go on either."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let a model encode: no dropout, no gradients. Then all modules are in their modes, and torch's generators too.

    Parameters
    ----------
    model : torch.nn.Module
    """
    modes = {module: module.training for module in model.modules()}
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def quietly(model: nn.Module, encode: Encoders) -> Encoders:
    """Return functions that encode with :func:`evaluating` around them."""

    def quiet(one: Encode) -> Encode:
        def call(texts: list[str]) -> Any:
            with evaluating(model):
                return one(texts)

        return call

    return (quiet(encode[0]), quiet(encode[1])) if isinstance(encode, tuple) else quiet(encode)


def check_encoders(encode: Any) -> None:
    """Refuse what cannot encode."""
    parts = encode if isinstance(encode, tuple) else (encode,)
    if not all(map(callable, parts)) or (isinstance(encode, tuple) and len(parts) != 2):
        raise InvalidTypeError(
            f"encode must be a function of a list of texts, or a pair of them, got {shown(encode)}; pass what turns "
            "texts into rows"
        )


def first_rank() -> bool:
    """Return whether this is the process that mines and saves."""
    return not several_ranks() or dist.get_rank() == 0


def encoded(encode: Encode, texts: Sequence[str], chunk: int) -> Rows | None:
    """Encode texts, each rank its share.

    Parameters
    ----------
    encode : callable
    texts : sequence of str
        The same on all ranks.
    chunk : int
        Texts that a rank encodes before it hands their rows over.

    Returns
    -------
    ndarray of shape (n_texts, dim), or None
        On the first rank; ``None`` on others.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If `encode` does not return a row for each text, all of one dim.
    RankError
        On the ranks where nothing failed, if something did on another.
    """
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if several_ranks() else (1, 0)
    parts: list[Rows] = []
    for start in range(0, max(len(texts), 1), chunk * ranks):
        begin = start + rank * chunk
        own = list(texts[begin : begin + chunk])
        rows = agreed(lambda own=own: _checked(encode(own), len(own)) if own else None)  # type: ignore[misc]
        parts += _on_first(rows)
    return agreed(lambda: _joined(parts))


def agreed(make: Callable[[], _Made]) -> _Made:
    """Return what `make` returns, if it raises on no rank; else raise on all, so that none waits for another.

    Raises
    ------
    RankError
        On the ranks where it did not raise, if it did on another.
    """
    if not several_ranks():
        return make()
    made, failure = None, None
    try:
        made = make()
    except Exception as error:
        failure = error
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, message in enumerate(told):
        if message is not None:
            raise RankError(f"rank {rank} failed, and this one has to stop with it: {message}")
    return made  # type: ignore[return-value]


def from_first(make: Callable[[], _Made]) -> _Made:
    """Return on every rank what `make` returns on the first; what it raises there is an error everywhere."""
    made = agreed(lambda: make() if first_rank() else None)
    if not several_ranks():
        return made  # type: ignore[return-value]
    told: list[Any] = [made]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def of_all(value: _Made) -> list[_Made]:
    """Return the values of all ranks."""
    if not several_ranks():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def own(values: Any) -> Any:
    """Return the value of this rank, of those of all; the first, if there were other ranks."""
    if not isinstance(values, Sequence) or not values:
        raise StateError("the state is damaged: it has none of this process; load that of another step")
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if several_ranks() else (1, 0)
    return values[rank if len(values) == ranks else 0]


def _on_first(rows: Rows | None) -> list[Rows]:
    """Return the rows of all ranks on the first, in order."""
    if several_ranks():
        parts: list[Any] = [None] * dist.get_world_size()
        dist.gather_object(rows, parts if first_rank() else None)
    else:
        parts = [rows]
    return [part for part in parts if part is not None]


def _joined(parts: list[Rows]) -> Rows | None:
    dims = {part.shape[1] for part in parts}
    if len(dims) > 1:
        raise InvalidValueError(
            f"encode must return rows of one dim for all texts, got {sorted(dims)}; do not cut or pad rows by batch"
        )
    return np.concatenate(parts) if parts else None


def _checked(rows: Any, n_texts: int) -> Rows:
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().float().cpu().numpy()
    if not isinstance(rows, np.ndarray):
        raise InvalidTypeError(
            f"encode must return an array or a tensor, got {type(rows).__name__}; stack the rows of the texts"
        )
    if rows.ndim != 2 or len(rows) != n_texts:
        raise InvalidValueError(
            f"encode must return a row for each of {n_texts} texts, got shape {rows.shape}; see what it does with them"
        )
    return np.ascontiguousarray(rows)
