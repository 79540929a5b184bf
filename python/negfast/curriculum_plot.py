"""A picture of a curriculum, drawn by matplotlib."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from negfast.arrays import Ints, integers
from negfast.errors import InvalidValueError, MissingExtraError
from negfast.settings import whole
from negfast.stage import Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from negfast.curriculum import Curriculum

MOST_POINTS = 512
"""The most steps that are drawn, but for those at which something changes."""
WIDTH, HEIGHT = 3.6, 2.4  # inches of a panel
LEAST_NAMED = 0.07
"""The least share whose band is wide enough for its name."""
_TIERS = {"hard": "hard", "semi_hard": "semi-hard", "easy": "easy", "random": "random"}


def draw(curriculum: "Curriculum", steps: int | Iterable[int] | None) -> "Figure":
    """Draw every quantity over the steps: see :meth:`negfast.Curriculum.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Curriculum.plot needs matplotlib; install negfast[plot]") from error
    at = _steps(curriculum, steps)
    stages = [curriculum.at(step) for step in at.tolist()]
    panels = list(_panels(stages))
    rows = (len(panels) + 1) // 2
    figure = Figure(figsize=(2 * WIDTH, rows * HEIGHT), layout="constrained")
    every = figure.subplots(rows, 2, sharex=True, squeeze=False).ravel()
    for axes, (title, paint) in zip(every, panels, strict=False):
        paint(axes, at)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.grid(visible=True, alpha=0.4)
        axes.set_xlim(at[0], max(at[-1], at[0] + 1))
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    for axes in every[max(len(panels) - 2, 0) : len(panels)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    return figure


def _steps(curriculum: "Curriculum", steps: int | Iterable[int] | None) -> Ints:
    """Return the steps to draw, with all in between at which something changes."""
    if steps is None or isinstance(steps, int | np.integer):
        last = max(curriculum.knots[-1] * 6 // 5, 1) if steps is None else whole("steps", steps, low=1, high=2**53)
        spread = np.linspace(0, last, min(MOST_POINTS, last + 1)).astype(np.int64)
        return np.union1d(spread, [knot for knot in curriculum.knots if knot <= last])
    given = integers("steps", list(steps))
    if given.ndim != 1 or not given.size or (np.diff(given) <= 0).any():
        raise InvalidValueError(
            f"steps must be at least one step, in increasing order, got {given.tolist()[:8]}; use range(0, last, every)"
        )
    return given


def _panels(stages: list[Stage]) -> "Iterable[tuple[str, Callable[[Axes, Ints], Any]]]":
    """Yield title and painter of each quantity, without those that are turned off."""
    yield "temperature", _line([stage.temperature for stage in stages])
    yield "share of all slots", _shares(stages)
    if stages[0].relative_margin is not None:
        yield "relative margin", _line([stage.relative_margin for stage in stages])
    if any(stage.hardness_strength for stage in stages):
        yield "hardness strength", _line([stage.hardness_strength for stage in stages])
    if stages[0].range_max is not None:
        yield "rank window", _window(stages)
    elif any(stage.range_min for stage in stages):
        yield "ranks skipped", _line([stage.range_min for stage in stages])


def _line(values: list[Any]) -> "Callable[[Axes, Ints], Any]":
    def paint(axes: "Axes", steps: Ints) -> None:
        axes.plot(steps, values)
        axes.set_ylim(0, 1.1 * max(values) or 1.0)

    return paint


def _shares(stages: list[Stage]) -> "Callable[[Axes, Ints], Any]":
    def paint(axes: "Axes", steps: Ints) -> None:
        shares = {label: np.array([stage.shares[name] for stage in stages]) for name, label in _TIERS.items()}
        reserved = np.array([stage.min_random for stage in stages])
        shares["random"] = np.maximum(shares["random"] - reserved, 0.0)
        shares["reserved random"] = reserved
        axes.stackplot(steps, *shares.values(), colors=["C0", "C1", "C2", "0.75", "0.6"], alpha=0.8, linewidth=0)
        below = np.zeros(len(steps))
        for label, share in shares.items():
            _name(axes, label, steps, below, share)
            below += share
        axes.set_ylim(0, 1)

    return paint


def _name(axes: "Axes", label: str, steps: Ints, below: Any, share: Any) -> None:
    """Write a label in the middle of where its band is widest, away from the sides, if it fits."""
    first, last = len(steps) // 6, len(steps) - len(steps) // 6
    wide = np.flatnonzero(share[first:last] >= 0.95 * share[first:last].max()) + first
    at = wide[len(wide) // 2]
    if share[at] >= LEAST_NAMED:
        middle = below[at] + share[at] / 2
        axes.text(steps[at], middle, label, ha="center", va="center", fontsize="x-small", color="black")


def _window(stages: list[Stage]) -> "Callable[[Axes, Ints], Any]":
    def paint(axes: "Axes", steps: Ints) -> None:
        lowest = [stage.range_min for stage in stages]
        deepest = [stage.range_max or 0 for stage in stages]
        axes.fill_between(steps, lowest, deepest, alpha=0.6, linewidth=0)
        axes.set_ylim(0, 1.1 * max(deepest))
        axes.set_ylabel("rank")

    return paint
