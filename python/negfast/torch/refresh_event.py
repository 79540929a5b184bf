"""What a look at the staleness, or a refresh, found."""

from dataclasses import dataclass, field

from negfast.refresh_report import RefreshReport
from negfast.staleness import Staleness


@dataclass(frozen=True, kw_only=True)
class RefreshEvent:
    """What a :class:`Refresher` did after a step.

    Attributes
    ----------
    step : int
        Steps of training before it.
    refreshed : bool
        Whether there are new lists.
    why : str
        What asked for it, or why not.
    staleness : Staleness or None
        What a sample said, if one was encoded.
    report : RefreshReport or None
        What became of the lists that were remembered; ``None`` without a refresh, and of the first lists.
    n_changed : int
        Anchors whose list is another one now.
    n_encoded : int
        Texts that were encoded, the sample included.
    seconds : dict of str to float
        Wall-clock seconds of this process: ``"encode"``, ``"mine"``.
    """

    step: int
    refreshed: bool
    why: str
    staleness: Staleness | None = None
    report: RefreshReport | None = None
    n_changed: int = 0
    n_encoded: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def logs(self) -> dict[str, float]:
        """Return what a trainer's log takes: plain numbers, each under a name that begins with ``negfast/``."""
        told: dict[str, float | None] = {"refreshed": float(self.refreshed), "encoded": float(self.n_encoded)}
        if self.staleness is not None:
            told |= {
                "staleness": self.staleness.drift.mean,
                "overlap": self.staleness.overlap,
                "expected_turnover": self.staleness.turnover,
            }
        if self.refreshed:
            told["changed"] = float(self.n_changed)
        if self.report is not None:
            told |= {"drift": self.report.drift.mean, "turnover": self.report.turnover, "recall": self.report.recall}
        told |= {f"{name}_seconds": seconds for name, seconds in self.seconds.items()}
        return {f"negfast/{name}": value for name, value in told.items() if value is not None}

    def __str__(self) -> str:
        """Return a line for people."""
        if not self.refreshed:
            return f"step {self.step}: no refresh, {self.why}"
        return f"step {self.step}: {self.n_changed:,} lists changed, {self.why}"
