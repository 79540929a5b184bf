"""When to refresh: steps and measurements turned into a decision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import floats
from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.settings import instance, number, optional_number, optional_whole, whole
from negfast.staleness import Staleness
from negfast.states import check_state

FORMAT = 1
"""Version of the plain form."""
_TRIGGERS = ("every", "min_overlap", "max_drift", "easy_share")


@dataclass(frozen=True)
class Decision:
    """What a :class:`RefreshPolicy` says. It is true in an ``if`` when it says to refresh.

    Attributes
    ----------
    refresh : bool
        Whether to refresh now.
    why : str
        What asks for it, or why not, with the numbers.
    """

    refresh: bool
    why: str

    def __bool__(self) -> bool:
        """Return whether to refresh now."""
        return self.refresh


class RefreshPolicy:
    """Decides when lists are stale enough to be mined again.

    Any condition that is met asks for a refresh; one whose measurement is not given is not judged.

    Parameters
    ----------
    every : int, optional
        Steps after which a refresh is due, whatever is measured.
    min_overlap : float from 0 to 1, optional
        Refresh if ``staleness.overlap`` is below this.
    max_drift : float of 0 or more, optional
        Refresh if ``staleness.drift.mean``, or `drift` where that was measured alone, is above this.
    easy_share : float from 0 to 1, optional
        Refresh if at least this share of the anchors, and at least one, has negatives that have gone easy: see Notes.
    easy_ratio : float of 0 or more, default 1.15
    easy_ceiling : float of 0 or more, default 0.8
        The two constants of that rule.
    min_steps : int, default 0
        Steps after a refresh in which there is no other, so that a measurement near its bound does not cause one after
        another.

    Attributes
    ----------
    last_step : int
        The step of the last refresh; 0, when training begins with lists just mined, until :meth:`refreshed` says more.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a setting has a wrong type or lies out of its range, there is no condition, or `every` is below `min_steps`.

    Notes
    -----
    Negatives of an anchor have gone easy if ``easy_ratio * now < then`` and ``abs(now) < easy_ceiling``, where `then`
    is the mean score of its negatives when they were mined, and `now` the mean of the same negatives' scores. This is
    the rule of S. Li et al., *Conan-embedding: General Text Embedding with More and Better Negative Samples* (2024),
    who look at it every 100 steps and replace the negatives of the sample that it holds for. Here the lists of all
    anchors are made anew together, so it is counted over anchors.

    The rule is about cosines, and about scores, not hardness: a mean below zero meets it without having moved.

    Decisions are functions of the settings, `last_step` and the arguments alone.

    Examples
    --------
    >>> import negfast
    >>> policy = negfast.RefreshPolicy(every=1000, min_steps=200)
    >>> bool(policy.decide(999))
    False
    >>> policy.decide(1000).why
    '1000 steps since the last refresh, every is 1000'
    >>> policy.refreshed(1000)
    >>> bool(policy.decide(1900)), bool(policy.decide(2000))
    (False, True)
    """

    def __init__(
        self,
        *,
        every: int | None = None,
        min_overlap: float | None = None,
        max_drift: float | None = None,
        easy_share: float | None = None,
        easy_ratio: float = 1.15,
        easy_ceiling: float = 0.8,
        min_steps: int = 0,
    ) -> None:
        self.every = optional_whole("every", every, low=1)
        self.min_overlap = optional_number("min_overlap", min_overlap, low=0.0, high=1.0)
        self.max_drift = optional_number("max_drift", max_drift, low=0.0)
        self.easy_share = optional_number("easy_share", easy_share, low=0.0, high=1.0)
        self.easy_ratio = number("easy_ratio", easy_ratio, low=0.0)
        self.easy_ceiling = number("easy_ceiling", easy_ceiling, low=0.0)
        self.min_steps = whole("min_steps", min_steps, low=0)
        self.last_step = 0
        if all(getattr(self, name) is None for name in _TRIGGERS):
            raise InvalidValueError(
                f"one of {', '.join(_TRIGGERS)} must be given, got none; say what asks for a refresh"
            )
        if self.every is not None and self.every < self.min_steps:
            raise InvalidValueError(
                f"every must be at least min_steps = {self.min_steps}, got {self.every}; raise one or lower the other"
            )

    def __repr__(self) -> str:
        """Return the settings that were given, and the last step."""
        given = {name: value for name, value in self._settings().items() if value is not None}
        settings = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"RefreshPolicy({settings}): last refresh at step {self.last_step}"

    def decide(
        self,
        step: int,
        staleness: Staleness | None = None,
        *,
        drift: float | None = None,
        negative_scores: Any = None,
        initial_scores: Any = None,
    ) -> Decision:
        """Say whether to refresh now. Nothing changes: :meth:`refreshed` is told when it was done.

        Parameters
        ----------
        step : int
            The step of training, no less than that of the last refresh.
        staleness : Staleness, optional
            What :meth:`Miner.staleness` measured.
        drift : float, optional
            The mean distance that rows moved since the last refresh, where `staleness` is not given.
        negative_scores : array of float, shape (n_anchors, num_negatives) or (n_anchors,), optional
            Scores of served negatives with the vectors of now, of any anchors, or the mean of each; NaN and infinity
            are left out.
        initial_scores : array of the same shape, required with `negative_scores`
            Scores of the same negatives when they were mined: ``mined.scores[anchors]``.

        Returns
        -------
        Decision

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, shape or value.
        """
        since = self._checked(step) - self.last_step
        if staleness is not None:
            instance("staleness", staleness, Staleness)
        drift = optional_number("drift", drift, low=0.0) if staleness is None else staleness.drift.mean
        easy = _gone_easy(negative_scores, initial_scores, self.easy_ratio, self.easy_ceiling)
        causes = [*self._due(since), *self._stale(staleness, drift), *self._easy(easy)]
        steps = f"{since} steps since the last refresh"
        if not causes:
            return Decision(False, f"{steps}, and nothing that was measured asks for one")
        if since < self.min_steps:
            return Decision(False, f"{steps}, min_steps is {self.min_steps}")
        return Decision(True, "; ".join(causes))

    def refreshed(self, step: int) -> None:
        """Take note of a refresh.

        Parameters
        ----------
        step : int
            When it was done, no less than the step of the last one.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `step` is no integer or below the last.
        """
        self.last_step = self._checked(step)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and the step of the last refresh as plain values, fit for JSON."""
        return {"format": FORMAT, **self._settings(), "last_step": self.last_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the step of the last refresh from a policy of the same settings.

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
        check_state(state, {"format": FORMAT, **self._settings()}, "this policy")
        try:
            self.last_step = whole("last_step", state.get("last_step"), low=0)
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error

    def _checked(self, step: object) -> int:
        checked = whole("step", step, low=0)
        if checked < self.last_step:
            raise InvalidValueError(
                f"step must be at least that of the last refresh, {self.last_step}, got {checked}; count steps over "
                "restarts"
            )
        return checked

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_TRIGGERS, "easy_ratio", "easy_ceiling", "min_steps")}

    def _due(self, since: int) -> list[str]:
        if self.every is None or since < self.every:
            return []
        return [f"{since} steps since the last refresh, every is {self.every}"]

    def _stale(self, staleness: Staleness | None, drift: float | None) -> list[str]:
        causes: list[str] = []
        if self.min_overlap is not None and staleness is not None and staleness.overlap < self.min_overlap:
            causes.append(f"overlap {staleness.overlap:.3f} is below min_overlap {self.min_overlap:g}")
        if self.max_drift is not None and drift is not None and drift > self.max_drift:
            causes.append(f"mean drift {drift:.3f} is above max_drift {self.max_drift:g}")
        return causes

    def _easy(self, easy: NDArray[np.bool_]) -> list[str]:
        count = int(easy.sum())
        if self.easy_share is None or not count or count < self.easy_share * easy.size:
            return []
        return [f"negatives of {count} of {easy.size} anchors have gone easy, easy_share is {self.easy_share:g}"]


def _gone_easy(now: Any, then: Any, ratio: float, ceiling: float) -> NDArray[np.bool_]:
    """Tell of which anchors the negatives have gone easy, anchors without any left out."""
    if (now is None) != (then is None):
        given = "negative_scores" if then is None else "initial_scores"
        raise InvalidValueError(
            f"negative_scores and initial_scores must be given together, got {given} alone; pass both, or neither"
        )
    if now is None:
        return np.zeros(0, np.bool_)
    new, old = floats("negative_scores", now), floats("initial_scores", then)
    if new.ndim not in (1, 2) or new.shape != old.shape:
        raise InvalidValueError(
            f"negative_scores must be of shape (n_anchors, num_negatives) or (n_anchors,), as initial_scores, got "
            f"{new.shape} and {old.shape}; score the same negatives as then"
        )
    # One array for both, so that a negative without a score on one side counts on neither.
    pair = np.atleast_3d(np.stack([new, old]).astype(np.float64))
    real = np.isfinite(pair).all(axis=0)
    counts = real.sum(axis=1)
    means = np.where(real, pair, 0.0).sum(axis=2)[:, counts > 0] / counts[counts > 0]
    easy: NDArray[np.bool_] = (ratio * means[0] < means[1]) & (np.abs(means[0]) < ceiling)
    return easy
