"""What the runs of a stage say of each arm, beside the in-batch one, as plain values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quality.arms import BASE, PLAIN, of_negfast
from quality.intervals import Interval, interval, of_seeds
from quality.plans import LONGER

Values = npt.NDArray[np.float64]
Result = dict[str, Any]
MEASURES = {"nDCG@10": "nDCG@10", "RR@10": "MRR@10", "R@100": "Recall@100"}
KINDS = ("strict", "group-aware")
RANDOM = "random"
EMBEDDINGS = ("alignment", "uniformity", "effective rank", "V-measure", "probe")


@dataclass(frozen=True, eq=False)
class Results:
    """Runs of one stage on one data set: for each arm one a seed, in the order of seeds.

    Attributes
    ----------
    clusters : int64 (n_questions,), the group of each question
    """

    by_arm: dict[str, list[Result]]
    clusters: npt.NDArray[np.int64]

    def values(self, arm: str, kind: str, measure: str) -> Values:
        """Return a measure, (n_seeds, n_questions)."""
        return np.array([run["measured"]["retrieval"][kind][measure] for run in self.by_arm[arm]])

    def mean(self, arm: str, kind: str = "strict", measure: str = "nDCG@10") -> Interval:
        return interval(self.values(arm, kind, measure), self.clusters)

    def over(self, arm: str, base: str, kind: str = "strict", measure: str = "nDCG@10") -> Interval:
        """Return what an arm has more than another, seed by seed and question by question."""
        return interval(self.values(arm, kind, measure) - self.values(base, kind, measure), self.clusters)

    def best_plain(self, kind: str = "strict") -> str | None:
        """Return the best arm without negfast but the base: by these very numbers, which is kind to it."""
        others = [arm for arm in self.by_arm if arm in PLAIN and arm != BASE]
        return max(others, key=lambda arm: self.values(arm, kind, "nDCG@10").mean(), default=None)


def retrieval(results: Results, kind: str) -> list[dict[str, Any]]:
    """Return one row for each arm: measures, and what it has over the in-batch arm and the best other one."""
    best = results.best_plain(kind)
    rows = []
    for arm in results.by_arm:
        row: dict[str, Any] = {"arm": arm}
        for measure, name in MEASURES.items():
            row[name] = results.mean(arm, kind, measure)._asdict()
        if arm != BASE and BASE in results.by_arm:
            row[f"over {BASE}"] = results.over(arm, BASE, kind)._asdict()
        if best is not None and of_negfast(arm):
            row["over best other"] = results.over(arm, best, kind)._asdict() | {"other": best}
        if LONGER in results.by_arm and of_negfast(arm):
            row["over equal seconds"] = results.over(arm, LONGER, kind)._asdict()
        rows.append(row)
    return rows


def embeddings(results: Results) -> list[dict[str, Any]]:
    """Return one row for each arm: geometry, clusters and probe, with intervals over seeds."""
    rows = []
    for arm, runs in results.by_arm.items():
        row: dict[str, Any] = {"arm": arm}
        for name in EMBEDDINGS:
            row[name] = _over_seeds(runs, name)._asdict()
        if arm != BASE and BASE in results.by_arm:
            for name in ("V-measure", "probe"):
                row[f"{name} over {BASE}"] = _over_seeds(runs, name, results.by_arm[BASE])._asdict()
        rows.append(row)
    return rows


def _over_seeds(runs: list[Result], name: str, base: list[Result] | None = None) -> Interval:
    values, others = (np.array([run["measured"]["embeddings"][name] for run in some or []]) for some in (runs, base))
    return of_seeds(values if base is None else values - others)


def times_as_long(results: Results, arm: str) -> float | None:
    """Return how many times as long as the in-batch arm another trains, the median over seeds."""
    if BASE not in results.by_arm or arm not in results.by_arm:
        return None
    seconds, of_base = (
        np.array([sum(run["cost"]["seconds"].values()) for run in results.by_arm[name]]) for name in (arm, BASE)
    )
    return float(np.median(seconds / of_base))


def costs(results: Results) -> list[dict[str, Any]]:
    """Return one row for each arm: false negatives, seconds by activity, and how they compare with the in-batch arm."""
    rows = []
    for arm, runs in results.by_arm.items():
        row: dict[str, Any] = {"arm": arm, "steps": runs[0]["measured"]["steps"]}
        row |= {f"false, {name}": value for name, value in _false(runs).items()}
        row["texts in steps"], row["texts for lists"] = (
            float(np.mean([run["measured"]["texts"].get(name, 0) for run in runs])) for name in ("steps", "lists")
        )
        row["seconds"] = _median(runs, lambda cost: sum(cost["seconds"].values()))
        for activity in ("train", "encode", "mine", "draw", "look up"):
            row[activity] = _median(runs, lambda cost, name=activity: cost["seconds"].get(name, 0.0))
        row["peak MB"] = _median(runs, lambda cost: cost["peak bytes"] / 1e6)
        if BASE in results.by_arm and RANDOM in results.by_arm:
            row["beyond texts"] = _spread(beyond_texts(runs, results.by_arm[BASE], results.by_arm[RANDOM]))
        rows.append(row)
    return rows


def beyond_texts(runs: list[Result], base: list[Result], random: list[Result]) -> list[float]:
    """Return an arm's seconds over those of the in-batch arm, less what its further texts cost, for each seed.

    What a further text costs in a step, gradient and scores included, the arm with random negatives tells, which does
    nothing else; those for lists cost what was measured.
    """
    ratios = []
    for run, of_base, of_random in zip(runs, base, random, strict=True):
        seconds, least, more = (sum(one["cost"]["seconds"].values()) for one in (run, of_base, of_random))
        texts, fewest, most = (one["measured"]["texts"]["steps"] for one in (run, of_base, of_random))
        each = (more - least) / (most - fewest)
        ratios.append((seconds - run["cost"]["seconds"].get("encode", 0.0) - (texts - fewest) * each) / least)
    return ratios


def _false(runs: list[Result]) -> dict[str, dict[str, float]]:
    """Return the share of false ones among negatives, the mean over epochs that had any, over seeds."""
    found: dict[str, dict[str, float]] = {}
    for name in ("chosen", "in-batch"):
        shares = [
            [epoch["false"][name] for epoch in run["measured"]["epochs"] if name in epoch["false"]] for run in runs
        ]
        if all(shares):
            found[name] = of_seeds(np.array([np.mean(share) for share in shares]))._asdict()
    return found


def _median(runs: list[Result], of: Any) -> dict[str, float]:
    return _spread([float(of(run["cost"])) for run in runs])


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def curves(results: Results) -> dict[str, dict[str, Any]]:
    """Return, for each arm, what is drawn: means over seeds, epoch by epoch."""
    found = {}
    for arm, runs in results.by_arm.items():
        epochs = [run["measured"]["epochs"] for run in runs]
        found[arm] = {
            "step": [epoch["step"] for epoch in epochs[0]],
            "seconds": np.median([run["cost"]["by epoch"] for run in runs], axis=0).tolist(),
            "nDCG@10": _by_epoch(epochs, lambda epoch: epoch.get("nDCG@10", {}).get("strict")),
            "false": _by_epoch(epochs, lambda epoch: epoch["false"].get("chosen")),
            "tiers": [_shares(epoch["tiers"]) for epoch in epochs[0]],
            "hardness": _by_epoch(epochs, lambda epoch: epoch["hardness"]),
        }
    return found


def _by_epoch(epochs: list[list[Result]], of: Any) -> list[list[float | None]]:
    """Return one list for each seed."""
    return [[of(epoch) for epoch in run] for run in epochs]


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}
