"""The learning curves of `negfast demo --train` as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from negfast.files.writers import replacing

WIDTH, HEIGHT = 4.2, 3.2  # inches of a panel
_COLOURS = {"plain": "tab:gray", "negfast": "tab:red"}
_LABELS = {"plain": "in-batch negatives", "negfast": "the whole loop"}


def draw_curves(path: Path, curves: Mapping[str, Sequence[Any]]) -> bool:
    """Draw nDCG@10 over epochs and over seconds.

    Parameters
    ----------
    path : Path
        A PNG file.
    curves : mapping of str to sequence of Epoch

    Returns
    -------
    bool
        False, and no file, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(2 * WIDTH, HEIGHT), layout="constrained")
    for axes, over in zip(figure.subplots(1, 2, sharey=True), ("epoch", "seconds"), strict=True):
        for name, curve in curves.items():
            at = [getattr(one, over) for one in curve]
            axes.plot(at, [one.ndcg for one in curve], ".-", color=_COLOURS[name], label=_LABELS[name])
        axes.set_xlabel("epoch" if over == "epoch" else "seconds of training")
        axes.grid(visible=True, alpha=0.4)
    figure.axes[0].set_ylabel("nDCG@10 on held-out modules")
    figure.axes[0].legend(loc="lower right")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True
