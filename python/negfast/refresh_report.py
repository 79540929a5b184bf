"""What became of the lists that a miner remembered."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Drift:
    """How far rows moved: the distance of their directions under cosine, of the rows themselves under dot.

    Attributes
    ----------
    mean, p50, p99, max : float
        Over rows.
    """

    mean: float
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, lengths: NDArray[np.floating[Any]]) -> "Drift":
        """Summarise the distances of rows."""
        if lengths.size == 0:
            return cls(0.0, 0.0, 0.0, 0.0)
        p50, p99 = np.quantile(lengths, [0.5, 0.99])
        return cls(float(lengths.mean(dtype=np.float64)), float(p50), float(p99), float(lengths.max()))


@dataclass(frozen=True, kw_only=True)
class RefreshReport:
    """What a refresh kept and what it searched.

    Attributes
    ----------
    drift, drift_queries, drift_corpus : Drift
        How far rows moved since the last call: all, the queries, the corpus.
    n_proven : int
        Lists that no row which is not remembered can have entered: the same bits as a fresh call's.
    n_estimated : int
        Lists trusted because of `recall`.
    n_searched : int
        Lists searched again.
    n_movers : int
        Corpus rows compared with every anchor: named, added, or moved far more than others.
    prefix : int
        Candidates of each list that were scored; 0 if all lists were searched again.
    widened : bool
        Whether lists fell short and everything was searched again.
    why : str
        What was decided, and why.
    recall, recall_interval : float, tuple of float
        Recall of trusted lists, measured on anchors solved exactly, and its 95 % interval; 1 where none is trusted.
    audited : int
        Anchors that it was measured on; 0 where none is trusted.
    turnover : float
        Share of the negatives that their anchor did not have after the last call, on 1,000 anchors.
    seconds : dict of str to float
        Wall-clock seconds: ``"drift"``, ``"decide"`` (rows that moved most, the sample), ``"lists"``, ``"search"``
        (what was searched again, norms, report of the search) and ``"total"``.
    """

    drift: Drift
    drift_queries: Drift
    drift_corpus: Drift
    n_proven: int
    n_estimated: int
    n_searched: int
    n_movers: int
    prefix: int
    widened: bool
    why: str
    recall: float
    recall_interval: tuple[float, float]
    audited: int
    turnover: float
    seconds: dict[str, float]

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "RefreshReport":
        """Make a report from its plain values."""
        drifts = {name: Drift(**plain[name]) for name in ("drift", "drift_queries", "drift_corpus")}
        return cls(**{**plain, **drifts, "recall_interval": tuple(plain["recall_interval"])})

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Return a line for people."""
        lists = f"{self.n_proven:,} lists proven, {self.n_estimated:,} estimated, {self.n_searched:,} searched again"
        moved = f"rows moved by {self.drift.p50:.3f} (median) to {self.drift.max:.3f}"
        return f"refresh: {moved}; {lists}; turnover {self.turnover:.1%}; {self.why}"
