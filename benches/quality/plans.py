"""Plans: which arms are trained on what, with how many seeds, and what that may take."""

from dataclasses import dataclass
from typing import Literal

from quality.arms import ARMS, BASE, PLAIN, WHOLE
from quality.settings import Part

LEADERS = "leaders"
"""Stands for the arms of negfast that did best in the stages before."""
LONGER = f"{BASE}, equal seconds"
"""The in-batch arm with as many more epochs as the whole pipeline takes longer."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Runs whose results make one table for each data set.

    Attributes
    ----------
    name : of the table
    data : names of the pairs
    arms : names, or "leaders"
    temperatures : of which the in-batch arm's best on the dev part is chosen for the stages after this one
    longer : how many times as many epochs the in-batch arm of equal seconds has; None: there is none
    seconds : that a run is thought to take, evaluation included, on one processor
    """

    name: str
    data: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: int
    seconds: float
    encoder: Literal["static", "transformer"] = "static"
    part: Part = "dev"
    most: int | None = None
    most_questions: int | None = None
    most_corpus: int | None = None
    epochs: int = 8
    batch_size: int = 256
    curve: int = 0
    temperatures: tuple[float, ...] = ()
    longer: float | None = None


@dataclass(frozen=True)
class Plan:
    """Stages, in order.

    Attributes
    ----------
    minutes : that all of it may take
    leaders : how many arms of negfast go on from a screening
    """

    name: str
    stages: tuple[Stage, ...]
    minutes: float
    leaders: int = 2

    def estimate(self, processes: int) -> float:
        """Return the minutes that all runs are thought to take; longer ones count as long as they are."""
        return sum(stage.seconds * runs(stage, self.leaders) for stage in self.stages) / 60 / processes


def runs(stage: Stage, leaders: int) -> float:
    """Return how many runs a stage has; one with more epochs counts for several."""
    arms = sum(leaders if name == LEADERS else 1 for name in stage.arms) + (stage.longer or 0)
    return arms * stage.seeds * len(stage.data) * max(len(stage.temperatures), 1)


BOTH = ("packages", "code")
_SMALL = {"most": 6_000, "epochs": 4}
_FEW = {
    "encoder": "transformer", "most": 2_000, "most_questions": 1_500, "most_corpus": 5_000, "epochs": 2,
    "batch_size": 64,
}  # fmt: skip
_LEADING = (*PLAIN, WHOLE, LEADERS)
_TEMPERATURES = (0.02, 0.03, 0.05, 0.1)

QUICK = Plan(
    "quick",
    (
        Stage(name="temperature", data=BOTH, arms=(BASE,), seeds=1, seconds=17, temperatures=_TEMPERATURES, **_SMALL),
        Stage(name="screening", data=BOTH, arms=tuple(ARMS), seeds=1, seconds=22, **_SMALL),
        Stage(
            name="test", data=BOTH, arms=(BASE, "random", WHOLE, LEADERS), seeds=2, seconds=25, part="test", curve=1000,
            longer=2, **_SMALL,
        ),
    ),
    minutes=18,
    leaders=1,
)  # fmt: skip

FULL = Plan(
    "full",
    (
        Stage(
            name="temperature", data=BOTH, arms=(BASE,), seeds=1, seconds=35, temperatures=_TEMPERATURES, most=12_000,
        ),
        Stage(name="screening", data=BOTH, arms=tuple(ARMS), seeds=2, seconds=60, most=12_000),
        Stage(
            name="test", data=BOTH, arms=_LEADING, seeds=5, seconds=150, part="test", most=29_000, curve=2000, longer=2
        ),
        Stage(
            name="temperature", data=("packages",), arms=(BASE,), seeds=1, seconds=500, temperatures=(0.02, 0.05),
            **_FEW,
        ),
        Stage(
            name="transformer", data=("packages",), arms=(BASE, "nearest, each epoch", LEADERS), seeds=3, seconds=1300,
            part="test", **_FEW,
        ),
    ),
    minutes=480,
)  # fmt: skip

PLANS = {plan.name: plan for plan in (QUICK, FULL)}
