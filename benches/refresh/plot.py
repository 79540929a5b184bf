"""Draw recall, proven lists and seconds along a real training run, from what `refresh.py` recorded of its chain.

python benches/refresh/plot.py [folder]    # by default where the plots of the documentation are
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))

from plots import HEIGHT, THEMES, WIDTH, Theme, style

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benches" / "results" / "refresh-chain.json"


def series(links: list[dict[str, Any]], case: str, name: str) -> list[float]:
    return [link[case][name] for link in links]


def seconds(links: list[dict[str, Any]], case: str, name: str) -> list[float]:
    return [link[case]["rounds"][name] for link in links]


def recalls(axes: Axes, chain: dict[str, Any], steps: list[int], theme: Theme) -> None:
    links = chain["links"]
    axes.plot(steps, series(links, "estimated", "true_recall"), color=theme.series[0], label="refresh")
    axes.plot(steps, series(links, "estimated", "fresh_true_recall"), color=theme.series[1], label="from scratch")
    axes.plot(steps, series(links, "estimated", "recall"), color=theme.series[0], linestyle=":", label="as reported")
    axes.axhline(chain["recall"], color=theme.faint, linewidth=0.8, linestyle="--")
    axes.set_ylabel(f"recall, {chain['recall']:g} asked for")
    axes.set_ylim(chain["recall"] - 0.02, 1)


def proven(axes: Axes, chain: dict[str, Any], steps: list[int], theme: Theme) -> None:
    n = chain["shape"][0]
    for case, label, colour in (("certified", "recall 1", theme.series[2]),
                                ("estimated", f"recall {chain['recall']:g}", theme.series[0])):  # fmt: skip
        axes.plot(steps, [100 * count / n for count in series(chain["links"], case, "n_proven")], color=colour,
                  label=label)  # fmt: skip
    axes.set_ylabel("lists proven (%)")
    axes.set_ylim(0, 100)


def durations(axes: Axes, chain: dict[str, Any], steps: list[int], theme: Theme) -> None:
    for case, label, colour in (("certified", "recall 1", theme.series[2]),
                                ("estimated", f"recall {chain['recall']:g}", theme.series[0])):  # fmt: skip
        axes.plot(steps, seconds(chain["links"], case, "refresh"), color=colour, label=f"refresh, {label}")
        axes.plot(steps, seconds(chain["links"], case, "fresh search"), color=colour, linestyle=":",
                  label=f"from scratch, {label}")  # fmt: skip
    axes.set_ylabel("seconds")
    axes.set_ylim(0, None)


def draw(chain: dict[str, Any], theme: Theme) -> Figure:
    steps = [link["step"] for link in chain["links"]]
    figure, panels = plt.subplots(1, 3, figsize=(1.4 * WIDTH, HEIGHT), layout="constrained")
    for axes, panel in zip(panels, (recalls, proven, durations), strict=True):
        panel(axes, chain, steps, theme)
        axes.set_xlabel("training steps since the first lists")
        axes.grid(visible=True)
        axes.legend()
    return figure


def make(folder: Path) -> None:
    """Write the light and the dark form."""
    chain = json.loads(RECORD.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    for name, theme in THEMES.items():
        with mpl.rc_context(style(theme)):
            figure = draw(chain, theme)
            figure.savefig(folder / f"refresh-{name}.svg", metadata={"Date": None}, transparent=True)
            plt.close(figure)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "plots")
