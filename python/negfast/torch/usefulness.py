"""How useful rows have been as negatives, as far as it may sway draws."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import floats, integers
from negfast.errors import InvalidValueError, RowIndexError, StateError
from negfast.settings import number
from negfast.torch.shared import SharedNumbers


class Usefulness:
    """Running weights of rows, with what was observed since they were published.

    Parameters
    ----------
    n_rows : int
        Rows of the corpus.
    decay : float
        What share of a weight's distance from 1 is left after a publication.
    cap : float
        Weights stay between ``1 / cap`` and `cap`.
    """

    def __init__(self, n_rows: int, decay: float, cap: float) -> None:
        self.decay = number("usefulness_decay", decay, low=0.0, high=1.0)
        self.cap = number("usefulness_cap", cap, low=1.0, high=1e6)
        self._shared = SharedNumbers(np.ones(n_rows, dtype=np.float32))
        self._mass = np.zeros(n_rows, dtype=np.float64)
        self._count = np.zeros(n_rows, dtype=np.int64)

    @property
    def weights(self) -> NDArray[np.float32]:
        """The published weights."""
        return self._shared.values

    def observe(self, ids: Any, mass: Any) -> None:
        """Take note of the loss mass of negatives, relative to the mean of the call."""
        rows, values = integers("ids", ids), floats("mass", mass)
        if rows.shape != values.shape:
            raise InvalidValueError(
                f"mass must be of shape {rows.shape}, as ids, got {values.shape}; give each negative its mass"
            )
        rows, values = rows.ravel(), values.ravel().astype(np.float64)
        outside = np.flatnonzero((rows < -1) | (rows >= len(self.weights)))
        if outside.size:
            raise RowIndexError(
                f"ids must hold rows of the corpus (0 to {len(self.weights)}, exclusive) and -1 for none, got "
                f"{rows[outside[0]]}; pass the ids of a draw"
            )
        rows, values = rows[rows >= 0], values[rows >= 0]
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0.0)))
        if bad.size:
            raise InvalidValueError(
                f"mass must be finite and at least 0, got {values[bad[0]]} for row {rows[bad[0]]}; pass the share of "
                "each negative in the loss"
            )
        mean = values.mean() if values.size else 0.0
        if mean > 0.0:
            np.add.at(self._mass, rows, values / mean)
            np.add.at(self._count, rows, 1)

    def publish(self) -> None:
        """Let weights age, and blend in what was observed."""
        weights = 1.0 + (self.weights - 1.0) * self.decay
        seen = np.flatnonzero(self._count)
        found = np.clip(self._mass[seen] / self._count[seen], 1.0 / self.cap, self.cap)
        weights[seen] = self.decay * self.weights[seen] + (1.0 - self.decay) * found
        self.weights[:] = np.clip(weights, 1.0 / self.cap, self.cap)
        self._mass[:], self._count[:] = 0.0, 0

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the weights, and what was observed since, as arrays."""
        seen = np.flatnonzero(self._count)
        return {
            "weights": self.weights.copy(),
            "seen": seen,
            "mass": self._mass[seen],
            "count": self._count[seen],
        }

    def load_state_dict(self, state: Any) -> None:
        """Take over what :meth:`state_dict` returned, or raise `StateError` and stay."""
        weights, seen, mass, count = _checked(state, len(self.weights), self.cap)
        self.weights[:] = weights
        self._mass[:], self._count[:] = 0.0, 0
        self._mass[seen], self._count[seen] = mass, count


def _checked(state: Any, n_rows: int, cap: float) -> tuple[NDArray[Any], ...]:
    kinds = {"weights": np.float32, "seen": np.int64, "mass": np.float64, "count": np.int64}
    try:
        weights, seen, mass, count = (np.asarray(state[name]) for name in kinds)
        whole = all(np.asarray(state[name]).dtype == kind for name, kind in kinds.items())
        whole = whole and weights.shape == (n_rows,) and seen.ndim == 1 and seen.shape == mass.shape == count.shape
        # float32 rounds 1 / cap.
        whole = whole and bool(((weights >= 0.999 / cap) & (weights <= cap * 1.001)).all())
        whole = whole and bool(((seen >= 0) & (seen < n_rows) & (count > 0) & (mass >= 0) & np.isfinite(mass)).all())
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StateError(f"usefulness of the state is damaged: {error!r}; load the state of another step") from error
    if not whole:
        raise StateError(
            f"usefulness of the state must be weights of {n_rows} rows within the cap of {cap} and what was observed "
            "since, got something else; make the sampler as the one that was saved"
        )
    return weights, seen, mass, count
