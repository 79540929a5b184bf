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
TIERS = ("hard", "semi_hard", "easy", "unknown")


def learning(curves: Mapping[str, Mapping[str, Any]]) -> Figure | None:
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
    shown = [row for row in rows if f"over {base}" in row]
    if not shown:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.3 * len(shown)), layout="constrained")
    found = [row[f"over {base}"] for row in shown]
    means = np.array([100 * one["mean"] for one in found])
    around = np.abs([[100 * one[bound] for one in found] for bound in ("low", "high")] - means)
    axes.errorbar(means, range(len(shown)), xerr=around, fmt="o", capsize=3)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [row["arm"] for row in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"nDCG@10 over {base} (points)")
    return figure


def false_negatives(curves: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Draw the share of false ones among chosen negatives by epoch."""
    drawn = {arm: curve for arm, curve in curves.items() if any(one is not None for one in curve["false"][0])}
    if not drawn:
        return None
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for arm, curve in drawn.items():
        shares = np.array(curve["false"], dtype=np.float64).mean(axis=0)
        axes.plot(range(1, len(shares) + 1), 100 * shares, marker=".", label=arm)
    axes.set(xlabel="epoch", ylabel="false among chosen negatives (%)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    return figure


def tiers(curves: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Draw the shares of tiers by epoch, of the first seed of each arm that draws by tier."""
    drawn = {arm: curve for arm, curve in curves.items() if any(curve["tiers"])}
    if not drawn:
        return None
    size = (4 * min(len(drawn), 3), 3 * -(-len(drawn) // 3))
    figure, all_axes = plt.subplots(
        -(-len(drawn) // 3), min(len(drawn), 3), figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for axes, (arm, curve) in zip(all_axes.flat, drawn.items(), strict=False):
        shares = [[epoch.get(tier, 0.0) for epoch in curve["tiers"]] for tier in TIERS]
        axes.stackplot(range(1, len(curve["tiers"]) + 1), shares, labels=TIERS)
        axes.set(title=arm, xlabel="epoch")
    all_axes.flat[0].legend(fontsize="small", loc="lower left")
    return figure


def write(
    folder: Path, name: str, rows: Sequence[Row], curves: Mapping[str, Mapping[str, Any]], base: str
) -> list[Path]:
    """Write all pictures of a table that there is something to draw for; return their files."""
    figures = {
        "learning": learning(curves), "gains": gains(rows, base), "false-negatives": false_negatives(curves),
        "tiers": tiers(curves),
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
