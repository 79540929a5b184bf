"""What is among the best scores of an anchor, over all negatives that it ever met."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints, floats, integers, plain_array
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, StateError, shown
from negfast.settings import number, whole
from negfast.states import check_state

VERSION = 1
"""Version of the state of :class:`AnchorQuantiles`."""
_HELD = {"thresholds": np.float32, "counts": np.int32}


class AnchorQuantiles:
    """For each anchor, the score that a share `alpha` of its negatives is above, learned as they come.

    Negatives above it are suspected to be false ones. A number and a count are kept for each anchor, however many
    negatives there are.

    Parameters
    ----------
    n_anchors : int
    alpha : float, default 0.01
        The share of the negatives above the threshold, above 0 and below 1.
    rate : float, default 0.05
        How far an update moves a threshold at least: by `rate` times the difference between the share above it and
        `alpha`. What it settles at wavers by about ``sqrt(rate * alpha * (1 - alpha) / (2 * density * n))``, with the
        density of scores there and n negatives an update.
    first_rate : float, default 1.0
        The n-th update of an anchor moves by ``first_rate / n`` where that is more than `rate`.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range.

    Notes
    -----
    Stochastic gradient descent on the quantile loss, as in V. Balmaseda, B. Wang, C.-L. Lin and T. Yang, *Discovering
    global false negatives on the fly for self-supervised contrastive learning* (2025): a threshold λ becomes
    ``λ - rate * (alpha - mean(scores > λ))``. The first update sets it to the quantile of its scores, since an anchor
    is met once an epoch and would take many epochs to come down to it. Later ones shorten from `first_rate` on (H.
    Robbins and S. Monro, *A stochastic approximation method*, 1951) to `rate`, which follows a model that moves.

    Rows of one anchor in one call count as if they came one after another.

    Limitations
    -----------
    Thresholds are about the negatives that were given. Of negatives that were mined or drawn by hardness, a share
    `alpha` is above them too, whether or not they are false: give it all scores of a batch, or random negatives, to
    learn from, and ask for the :meth:`share` of those that were mined. Steps do not depend on how far scores lie above
    a threshold, so that one that is off by much comes back slowly, and with a small `alpha` it takes about
    ``1 / (rate * density)`` updates to forget the first: for cosines and an `alpha` of 0.01 some hundred. Ranks learn
    apart from each other.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> rng = np.random.default_rng(0)
    >>> quantiles = negfast.AnchorQuantiles(2, alpha=0.1)
    >>> for _ in range(1000):
    ...     quantiles.update([0, 1], rng.uniform([[0.0], [0.5]], [[0.5], [1.0]], (2, 64)))
    >>> bool((abs(quantiles.thresholds([0, 1]) - [0.45, 0.95]) < 0.02).all())
    True
    >>> quantiles.share([0, 1], [[0.2, 0.48], [0.6, 0.7]])
    0.25
    """

    def __init__(self, n_anchors: int, *, alpha: float = 0.01, rate: float = 0.05, first_rate: float = 1.0) -> None:
        self.n_anchors = whole("n_anchors", n_anchors, low=0, high=2**40)
        self.alpha = number("alpha", alpha)
        if not 0.0 < self.alpha < 1.0:
            raise InvalidValueError(f"alpha must be above 0 and below 1, got {self.alpha}; it is a share of negatives")
        self.rate = number("rate", rate, low=0.0)
        self.first_rate = number("first_rate", first_rate, low=0.0)
        self._thresholds = np.full(self.n_anchors, np.inf, np.float32)
        self._counts = np.zeros(self.n_anchors, np.int32)

    def __repr__(self) -> str:
        """Return the settings, and how many anchors were met."""
        settings = f"{self.n_anchors}, alpha={self.alpha:g}, rate={self.rate:g}, first_rate={self.first_rate:g}"
        return f"AnchorQuantiles({settings}): {np.count_nonzero(self._counts):,} anchors met"

    def update(self, anchors: Any, scores: Any, mask: Any = None) -> None:
        """Learn from the scores of negatives.

        Parameters
        ----------
        anchors : int array or CPU tensor, shape (n,)
            Whose they are.
        scores : float array or CPU tensor, shape (n, m)
            NaN and infinity are left out.
        mask : bool array or CPU tensor, shape (n, m), optional
            Which of them count: no positives, no padding, nothing that is known to be false.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type or shape.
        RowIndexError
            If an anchor is not from 0 to `n_anchors`, exclusive.
        """
        rows, values, real = self._checked(anchors, scores, mask)
        met = real.any(axis=1)
        rows, values, real = rows[met], values[met], real[met]
        # Rows of one anchor wait for each other: each pass has an anchor once at most.
        order = _occurrence(rows)
        for turn in range(int(order.max(initial=-1)) + 1):
            chosen = order == turn
            self._learn(rows[chosen], values[chosen], real[chosen])

    def thresholds(self, anchors: Any) -> NDArray[np.float32]:
        """Return the score that suspected false negatives of each anchor are above.

        Parameters
        ----------
        anchors : int array or CPU tensor, shape (n,)

        Returns
        -------
        ndarray of float32, shape (n,)
            Infinity for an anchor that was not met.

        Raises
        ------
        InvalidTypeError, InvalidValueError, RowIndexError
            As in :meth:`update`.
        """
        return self._thresholds[self._rows(anchors)]

    def share(self, anchors: Any, scores: Any, mask: Any = None) -> float | None:
        """Return the share of negatives above the thresholds of their anchors: that of suspected false negatives.

        Parameters
        ----------
        anchors, scores, mask
            As in :meth:`update`.

        Returns
        -------
        float or None
            Over the negatives of anchors that were met; ``None`` if there are none, which :class:`Signals` takes.

        Raises
        ------
        InvalidTypeError, InvalidValueError, RowIndexError
            As in :meth:`update`.
        """
        rows, values, real = self._checked(anchors, scores, mask)
        real &= (self._counts[rows] > 0)[:, None]
        n = int(real.sum())
        return int((real & (values > self._thresholds[rows][:, None])).sum()) / n if n else None

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain values and arrays of their own."""
        return {**self._fixed(), "thresholds": self._thresholds.copy(), "counts": self._counts.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where other quantiles of the same settings were.

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
        check_state(state, self._fixed(), "these quantiles")
        held = {name: _held(name, state.get(name), self.n_anchors) for name in _HELD}
        if held["counts"].min(initial=0) < 0 or np.isnan(held["thresholds"]).any():
            raise StateError("the state is damaged: it has negative counts or thresholds that are NaN; save it again")
        self._thresholds, self._counts = held["thresholds"], held["counts"]

    def _learn(self, rows: Ints, values: NDArray[np.float32], real: NDArray[np.bool_]) -> None:
        """Learn from one row each of distinct anchors."""
        n = real.sum(axis=1)
        above = (real & (values > self._thresholds[rows][:, None])).sum(axis=1) / n
        new = self._counts[rows] == 0
        steps = np.maximum(self.first_rate / (self._counts[rows] + 1.0), self.rate)
        # What was not met is at infinity, and is set below.
        moved = self._thresholds[rows] - steps * (self.alpha - above)
        moved[new] = _upper_quantiles(values[new], real[new], self.alpha)
        self._thresholds[rows] = moved
        self._counts[rows] += self._counts[rows] < np.iinfo(np.int32).max

    def _checked(self, anchors: Any, scores: Any, mask: Any) -> tuple[Ints, NDArray[np.float32], NDArray[np.bool_]]:
        rows, values = self._rows(anchors), floats("scores", scores)
        if values.ndim != 2 or len(values) != len(rows):
            raise InvalidValueError(
                f"scores must be of shape (n_anchors, n_negatives), with {len(rows)} rows, got {values.shape}; give "
                "each anchor one row"
            )
        real = np.isfinite(values)
        if mask is not None:
            given = plain_array("mask", mask)
            array = np.asarray(mask) if given is None else given
            if array.dtype != np.bool_:
                raise InvalidTypeError(f"mask must be bool, got dtype {array.dtype}; compare with 0")
            if array.shape != values.shape:
                raise InvalidValueError(
                    f"mask must be of the shape of scores, {values.shape}, got {array.shape}; say of each score "
                    "whether it counts"
                )
            real &= array
        return rows, values, real

    def _rows(self, anchors: Any) -> Ints:
        rows = integers("anchors", anchors)
        if rows.ndim != 1:
            raise InvalidValueError(f"anchors must be of shape (n_anchors,), got {rows.shape}; flatten them")
        outside = np.flatnonzero((rows < 0) | (rows >= self.n_anchors))
        if outside.size:
            raise RowIndexError(
                f"anchors must be from 0 to {self.n_anchors}, exclusive, got {rows[outside[0]]} at position "
                f"{outside[0]}; make the quantiles for all anchors"
            )
        return rows

    def _fixed(self) -> dict[str, Any]:
        """Return what a state and its object have to agree on."""
        settings = {name: getattr(self, name) for name in ("n_anchors", "alpha", "rate", "first_rate")}
        return {"version": VERSION, **settings}


def _occurrence(rows: Ints) -> Ints:
    """Return for each entry how many equal ones are before it."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    lengths = np.diff(starts, append=len(rows))
    occurrence = np.empty(len(rows), np.int64)
    occurrence[order] = np.arange(len(rows)) - np.repeat(starts, lengths)
    return occurrence


def _upper_quantiles(values: NDArray[np.float32], real: NDArray[np.bool_], alpha: float) -> NDArray[np.float32]:
    """Return of each row the score that a share `alpha` of those that count is above, rounded down."""
    ordered = -np.sort(-np.where(real, values, -np.inf), axis=1)
    places = (alpha * real.sum(axis=1)).astype(np.int64)
    quantiles: NDArray[np.float32] = np.take_along_axis(ordered, places[:, None], axis=1)[:, 0]
    return quantiles


def _held(name: str, value: Any, n_anchors: int) -> NDArray[Any]:
    kind = _HELD[name]
    if not isinstance(value, np.ndarray) or value.dtype != kind or value.shape != (n_anchors,):
        raise StateError(
            f"{name} of the state must be an array of {np.dtype(kind).name} of shape ({n_anchors},), got "
            f"{type(value).__name__} {shown(value)}; save it again"
        )
    return value.copy()
