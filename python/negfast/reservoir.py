"""Samples of bounded size from streams of ids."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from negfast._negfast import ReservoirCore
from negfast.arrays import floats, integers
from negfast.errors import InvalidTypeError, InvalidValueError, StateError, shown
from negfast.settings import one_of, whole
from negfast.states import check_state

if TYPE_CHECKING:
    import torch

    Numbers: TypeAlias = NDArray[Any] | torch.Tensor | Sequence[Any]
else:
    Numbers: TypeAlias = Any

ReservoirMethod = Literal["keyed", "skip", "aged"]
FORMAT = 1
"""Version of the state of :class:`Reservoir`."""
METHODS: tuple[ReservoirMethod, ...] = ("keyed", "skip", "aged")
"""The methods of :class:`Reservoir`."""
MOST = 2**31 - 1
"""The largest capacity."""
_WHOLE, _REAL = ("int", int), ("float", float)
_INTS, _FLOATS = ("an int64 array", np.int64), ("a float64 array", np.float64)
# What the state of each kind has, besides what all have.
_FIELDS: dict[str, dict[str, tuple[str, Any]]] = {
    "keyed": {"ids": _INTS, "keys": _FLOATS, "threshold": _REAL, "threshold_id": _WHOLE, "heaviest": _REAL},
    "skip": {"taken": _WHOLE, "ids": _INTS, "log_largest": _REAL, "wait": _WHOLE},
    "skip_weighted": {"taken": _WHOLE, "ids": _INTS, "keys": _FLOATS, "left": _REAL, "ones": _WHOLE},
    "aged": {"ids": _INTS, "numbers": _INTS},
}


class Reservoir:
    """A sample of at most `capacity` ids of a stream, at any moment of the stream.

    Parameters
    ----------
    capacity : int
        The most ids to keep, up to 2**31 - 1.
    method : {"keyed", "skip", "aged"}, default "keyed"
        ``"keyed"`` samples distinct ids, each as likely as every other however often it comes, and reservoirs of parts
        of a stream can be merged. ``"skip"`` samples occurrences: an id that comes twice as often is twice as likely.
        ``"aged"`` samples occurrences and forgets them: one that n others followed is held with probability
        ``(1 - 1 / capacity) ** n``.
    seed : int, default 0
        Chooses the sample. Reservoirs of one seed that see the same stream hold the same sample.

    Attributes
    ----------
    capacity, method, seed
        As given.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range.

    Notes
    -----
    Keyed: a hash of seed and id gives each id an exponential number, and the smallest, divided by weights, are kept.
    That draws without replacement, each draw in proportion to weight (Efraimidis and Spirakis, 2006, Weighted random
    sampling with a reservoir), and the samples of parts contain that of the whole (Cohen and Kaplan, 2007, Summarizing
    data using bottom-k sketches). Memory is that of up to 2 * `capacity` ids, about 40 bytes each.

    Skip: algorithm L (Li, 1994, Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))), and from the
    first weights on A-ExpJ (Efraimidis and Spirakis, as above).

    Aged: each item replaces one at random (Aggarwal, 2006, On biased reservoir sampling in the presence of stream
    evolution, algorithm 2.1), with a bias of ``1 / capacity``.

    A sample depends on the seed and the stream, not on how the stream is cut into calls of :meth:`add`, nor on the
    machine. A keyed one does not depend on the order of the stream either, as long as each id keeps its weight.

    Limitations
    -----------
    A keyed reservoir knows the weights of the ids that it holds. An id that was turned away or pushed out is taken for
    what it was then; its new weight counts when it comes again. Where weights in the sample fall, ids that were
    forgotten may deserve the places: up to `capacity` spare ones are kept for that, and once they are used up the
    sample is shorter than `capacity` until other ids come. What it holds is always the beginning of the true sample.
    After :meth:`merge`, the weight of an id that only one of both holds is the one that counts.

    One call at a time: threads that share a reservoir have to wait for each other, or are refused.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> reservoir = negfast.Reservoir(4, seed=1)
    >>> reservoir.add(np.arange(500)).add(range(400, 1000))
    Reservoir(4, method='keyed', seed=1): 4 ids of 1,100 seen
    >>> other = negfast.Reservoir(4, seed=1).add(range(1000))
    >>> reservoir.ids().tolist() == other.ids().tolist()
    True
    """

    def __init__(self, capacity: int, *, method: ReservoirMethod = "keyed", seed: int = 0) -> None:
        self.capacity = whole("capacity", capacity, low=1, high=MOST)
        self.method = one_of("method", method, METHODS)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        self._core = ReservoirCore.empty(self.method, self.capacity, self.seed)

    def __repr__(self) -> str:
        """Return the settings, and how much was seen."""
        settings = f"{self.capacity}, method={self.method!r}, seed={self.seed}"
        return f"Reservoir({settings}): {len(self):,} ids of {self.seen:,} seen"

    def __len__(self) -> int:
        """Return how many ids are in the sample."""
        return len(self._core)

    @property
    def seen(self) -> int:
        """How many items were offered, repeated ones included."""
        return self._core.seen()

    def add(self, ids: "Numbers | range", weights: Numbers | None = None) -> "Reservoir":
        """Offer items, in their order.

        Parameters
        ----------
        ids : array or CPU tensor of integers, shape (n,); a sequence of them; or a range
            From 0 on. Arrays of int64 are read in place, a range is not written out.
        weights : array or CPU tensor of numbers, shape (n,), or a sequence of them, optional
            From 0 to 1e280; ``None`` is 1 for each. An item of weight 0 (or below 1e-280) is never sampled. For
            ``"keyed"`` the last weight of an id counts, for ``"skip"`` each occurrence has its own, ``"aged"`` takes
            none.

        Returns
        -------
        Reservoir
            This object.

        Raises
        ------
        InvalidTypeError
            If an argument has a wrong type or dtype.
        InvalidValueError
            If an argument has a wrong shape or value, or the method takes no weights.
        """
        given = _range(ids) if isinstance(ids, range) else integers("ids", ids)
        numbers = None if weights is None else floats("weights", weights, np.float64)
        self._core.add(given, numbers)
        return self

    def merge(self, other: "Reservoir") -> "Reservoir":
        """Take in the sample of another keyed reservoir, as if its items had come after this one's.

        Parameters
        ----------
        other : Reservoir
            Of the same capacity and seed, both keyed. It stays as it is.

        Returns
        -------
        Reservoir
            This object: the sample of both streams together.

        Raises
        ------
        InvalidTypeError
            If `other` is no reservoir.
        InvalidValueError
            If one is not keyed, or capacities or seeds differ.
        """
        if not isinstance(other, Reservoir):
            raise InvalidTypeError(
                f"other must be a Reservoir, got {type(other).__name__} {shown(other)}; add ids with add"
            )
        self._core.merge(other._core)
        return self

    def ids(self) -> NDArray[np.int64]:
        """Return the sample.

        Returns
        -------
        ndarray of int64, shape (len(self),)
            For ``"keyed"`` in the order of the draws: the first m are a sample of size m. For ``"aged"`` the latest
            item first. For ``"skip"`` in an order without meaning.
        """
        return self._core.ids()

    def probabilities(self) -> NDArray[np.float64]:
        """Return how likely each id of a keyed sample was to be in it, given the keys of all others.

        Returns
        -------
        ndarray of float64, shape (len(self),)
            In the order of :meth:`ids`; 1 where all ids that came are held.

        Raises
        ------
        InvalidValueError
            If the method is not ``"keyed"``.

        Notes
        -----
        The sum of ``x / probabilities`` over the sample estimates the sum of x over all distinct ids without bias, as
        long as each id keeps its weight (Cohen and Kaplan, 2007). With x = 1 that is how many there are.

        Examples
        --------
        >>> import negfast
        >>> reservoir = negfast.Reservoir(1000).add(range(50_000)).add(range(50_000))
        >>> bool(abs((1 / reservoir.probabilities()).sum() / 50_000 - 1) < 0.1)
        True
        """
        return self._core.probabilities()

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values and arrays of their own."""
        return {**self._fixed(), **self._core.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another reservoir of the same settings was.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or other settings, or damaged. This object is as before then.
        """
        check_state(state, self._fixed(), "this Reservoir")
        kind = "skip_weighted" if self.method == "skip" and "keys" in state else self.method
        fields = {name: _field(state, name, kinds) for name, kinds in {"seen": _WHOLE, **_FIELDS[kind]}.items()}
        try:
            self._core = getattr(ReservoirCore, kind)(self.capacity, self.seed, **fields)
        except OverflowError as error:
            raise StateError(f"the state is damaged: {error}; save it again") from error

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, for copies and worker processes."""
        return self.state_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the reservoir that a state belongs to."""
        self.__init__(state["capacity"], method=state["method"], seed=state["seed"])  # type: ignore[misc]
        self.load_state_dict(state)

    def _fixed(self) -> dict[str, Any]:
        return {"format": FORMAT, "capacity": self.capacity, "method": self.method, "seed": self.seed}


def _range(ids: range) -> tuple[int, int, int]:
    """Return start, step and length of a range, for the compiled module."""
    if not ids:
        return (0, 1, 0)
    if min(ids[0], ids[-1]) < 0 or max(ids[0], ids[-1]) >= 2**63:
        raise InvalidValueError(f"ids must be from 0 to 2**63 - 1, got {shown(ids)}; shift or cut the range")
    # Python's len stops at sys.maxsize. A step may be any number where it leads to no second id.
    n = (ids[-1] - ids[0]) // ids.step + 1
    return (ids[0], ids.step if n > 1 else 1, n)


def _field(state: Mapping[str, Any], name: str, kinds: tuple[str, Any]) -> Any:
    expected, kind = kinds
    value = state.get(name)
    if isinstance(kind, type) and issubclass(kind, np.generic):
        right = isinstance(value, np.ndarray) and value.dtype == kind and value.ndim == 1
        return np.ascontiguousarray(value) if right else _refuse(name, expected, value)
    return value if type(value) is kind else _refuse(name, expected, value)


def _refuse(name: str, expected: str, value: object) -> Any:
    raise StateError(
        f"{name} of the state must be {expected}, got {type(value).__name__} {shown(value)}; save it again"
    )
