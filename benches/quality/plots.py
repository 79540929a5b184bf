"""Pictures of a stage: learning curves, gains of each arm, false negatives, tiers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Row = Mapping[str, Any]
Curves = Mapping[str, Mapping[str, Any]]
Tables = Mapping[str, Sequence[Row]]
TIERS = {"hard": "hard", "semi_hard": "semi-hard", "easy": "easy", "unknown": "random"}
_PANELS = 4


def learning(curves: Curves) -> Figure | None:
    """Draw nDCG@10 on the dev part by step and by second, mean over seeds."""
    drawn = {arm: curve for arm, curve in curves.items() if curve["nDCG@10"][0][0] is not None}
    if not drawn:
        return None
    figure, (by_step, by_second) = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for arm, curve in drawn.items():
        values = 100 * np.mean(curve["nDCG@10"], axis=0)
        by_step.plot(curve["step"], values, marker=".", label=arm)
        by_second.plot(curve["seconds"], values, marker=".", label=arm)
    by_step.set(xlabel="step", ylabel="nDCG@10, dev questions (points)")
    by_second.set(xlabel="seconds of training, mining included")
    by_second.legend(fontsize="small")
    return figure


def gains(rows: Sequence[Row], base: str) -> Figure | None:
    """Draw what each arm has over the in-batch one, with its interval."""
    figure = _beside(rows, f"over {base}", f"nDCG@10 over {base} (points)")
    if figure is not None:
        figure.axes[0].axvline(0, color="grey", linewidth=0.8)
    return figure


def false_negatives(rows: Sequence[Row]) -> Figure | None:
    """Draw the share of false ones among the negatives that each arm chose."""
    figure = _beside(rows, "false, chosen", "false among chosen negatives (%)")
    if figure is not None:
        figure.axes[0].set_xlim(left=0)
    return figure


def _beside(rows: Sequence[Row], column: str, label: str) -> Figure | None:
    """Draw one number of each arm, in hundredths, with its interval."""
    shown = [row for row in rows if column in row]
    if not shown:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.3 * len(shown)), layout="constrained")
    found = [row[column] for row in shown]
    means = np.array([100 * one["mean"] for one in found])
    around = np.abs([[100 * one[bound] for one in found] for bound in ("low", "high")] - means)
    axes.errorbar(means, range(len(shown)), xerr=np.nan_to_num(around), fmt="o", capsize=3)
    axes.set_yticks(range(len(shown)), [row["arm"] for row in shown])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    return figure


def tiers(curves: Curves) -> Figure | None:
    """Draw the shares of tiers by epoch, of the first seed of the first arms that draw by tier."""
    drawn = {arm: curve for arm, curve in curves.items() if any(curve["tiers"])}
    if not drawn:
        return None
    n = min(len(drawn), _PANELS)
    figure, panels = plt.subplots(1, n, figsize=(4 * n, 3.2), squeeze=False, sharey=True, layout="constrained")
    for axes, (arm, curve) in zip(panels[0], drawn.items(), strict=False):
        shares = [[epoch.get(tier, 0.0) for epoch in curve["tiers"]] for tier in TIERS]
        axes.stackplot(range(1, len(curve["tiers"]) + 1), shares, labels=list(TIERS.values()))
        axes.set(title=arm, xlabel="epoch")
    panels[0, 0].set_ylabel("share of what was drawn")
    panels[0, 0].legend(fontsize="small", loc="lower left")
    return figure


def write(folder: Path, name: str, tables: Tables, curves: Curves, base: str) -> list[Path]:
    """Write all pictures of a stage that there is something to draw for; return their files."""
    figures = {
        "learning": learning(curves), "gains": gains(tables["strict"], base),
        "false-negatives": false_negatives(tables["costs"]), "tiers": tiers(curves),
    }  # fmt: skip
    written = []
    for kind, figure in figures.items():
        if figure is not None:
            written.append(folder / f"{name}-{kind}.svg")
            # Without a date and with fixed ids, so that the same results are the same file.
            with mpl.rc_context({"svg.hashsalt": name}):
                figure.savefig(written[-1], metadata={"Date": None})
            plt.close(figure)
    return written
