"""Make the plots of the documentation, most from real mining runs, each in a form for light and for dark pages.

The data are the documented functions of Python's standard library, encoded by the built-in encoder, as in
`negfast demo`: nothing is downloaded. Numbers differ a little between versions of Python.

    python docs/plots.py [folder]
"""

import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import negfast
from negfast import schedule
from negfast.cli.demo.installed_code import gather
from negfast.encoder import HashedEncoder

LIMIT = 6000
WIDTH, HEIGHT = 7.2, 3.4  # inches
NEAREST = 50

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Theme:
    """Colours of one form."""

    text: str
    faint: str
    series: tuple[str, ...]


THEMES = {
    "light": Theme("#33383d", "#d5d9dd", ("#00796b", "#d1600a", "#5b54c9", "#a8327e")),
    "dark": Theme("#d3d7de", "#4a4f5c", ("#4db6a5", "#f2a154", "#a5a0f5", "#e58ac2")),
}


@dataclass(frozen=True)
class Data:
    """Pairs of a docstring's first sentence and the source of its function, as embeddings and labels."""

    queries: Floats
    corpus: Floats
    keys: NDArray[np.int64]
    modules: NDArray[np.int64]

    def mine(self, **options: Any) -> negfast.MinedNegatives:
        """Mine with keys and groups; the row of each query is its positive."""
        return negfast.mine(
            self.queries,
            self.corpus,
            np.arange(len(self.queries)),
            keys=(self.keys, self.keys),
            groups=(self.modules, self.modules),
            **options,
        )


def load() -> Data:
    """Gather and encode the pairs, in a few seconds."""
    code = gather(limit=LIMIT, roots=[Path(sysconfig.get_paths()["stdlib"])])
    encoder = HashedEncoder().fit([*code.queries, *code.passages])
    return Data(
        queries=encoder.encode(code.queries),
        corpus=encoder.encode(code.passages),
        keys=negfast.content_keys([code.queries, code.passages]),
        modules=np.unique(code.modules, return_inverse=True)[1].astype(np.int64),
    )


def hardness(data: Data) -> Callable[[Theme], Figure]:
    """Plot the hardness of the nearest allowed rows, by tier, and of those that the margin refuses."""
    mined = data.mine(num_negatives=NEAREST, rules=negfast.Rules(relative_margin=None))
    found = mined.indices >= 0
    positive = np.broadcast_to(mined.positive_scores[:, None], found.shape)[found]
    score = mined.scores[found]
    values = score - positive
    refused = score > positive - 0.05 * np.abs(positive)
    edges = np.arange(-0.45, 0.4501, 0.0125)
    thousandths = np.full(int(refused.sum()), 1e-3)

    def draw(theme: Theme) -> Figure:
        figure, axes = _axes("hardness: score of the row − score of the positive", "rows (thousands)")
        tiers = negfast.Tiers()
        parts = {
            "easy": (values < tiers.semi_hard) & ~refused,
            "semi-hard": (values >= tiers.semi_hard) & (values < tiers.hard) & ~refused,
            "hard": (values >= tiers.hard) & ~refused,
        }
        colours = (theme.series[0], theme.series[2], theme.series[3])
        weights = [np.full(int(chosen.sum()), 1e-3) for chosen in parts.values()]
        axes.hist([values[p] for p in parts.values()], edges, weights=weights, stacked=True, histtype="stepfilled",
                  color=colours, label=list(parts))  # fmt: skip
        axes.hist(values[refused], edges, weights=thousandths, histtype="stepfilled", facecolor="none",
                  edgecolor=theme.series[1], hatch="////", label="refused by the 5 % margin")  # fmt: skip
        for edge in (tiers.semi_hard, tiers.hard):
            axes.axvline(edge, color=theme.text, linewidth=0.8, linestyle=":")
        axes.set_xlim(edges[0], edges[-1])
        axes.legend()
        return figure

    return draw


def removed(data: Data) -> Callable[[Theme], Figure]:
    """Plot how many rows each rule removes, in the order in which rules are asked."""
    rules = negfast.Rules(duplicate_of_positive=0.9, distinct=0.9, max_exposure=10)
    counts = {rule: n for rule, n in data.mine(rules=rules).report.removed.items() if n}

    def draw(theme: Theme) -> Figure:
        figure, axes = _axes("rows removed, at least as hard as the last negative kept", "", grid="x")
        bars = axes.barh(list(counts), list(counts.values()), color=theme.series[0])
        axes.bar_label(bars, [f"{n:,}" for n in counts.values()], padding=4, color=theme.text)
        axes.set_xscale("log")
        axes.set_xlim(1, 12 * max(counts.values()))
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelfontfamily="monospace")
        return figure

    return draw


def margins(data: Data) -> Callable[[Theme], Figure]:
    """Plot what wider margins leave of the known false negatives, and what they cost in hardness."""
    widths = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6])
    reports = [data.mine(rules=negfast.Rules(relative_margin=width)).report for width in widths]
    false = [100 * report.false_negatives.share_within_margin for report in reports if report.false_negatives]
    bands = np.array([[report.hardness.values[i] for i in (2, 3, 4)] for report in reports])

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained")
        left.plot(100 * widths, false, marker="o", color=theme.series[1])
        left.set_ylim(0, None)
        left.set_ylabel("known false negatives left (%)")
        right.plot(100 * widths, bands[:, 1], marker="o", color=theme.series[0], label="median")
        right.fill_between(100 * widths, bands[:, 0], bands[:, 2], color=theme.series[0], alpha=0.25, linewidth=0,
                           label="middle half")  # fmt: skip
        right.set_ylabel("hardness of the negatives")
        right.legend()
        for axes in (left, right):
            axes.set_xlabel("relative margin (%)")
            axes.grid(visible=True)
        return figure

    return draw


def ties(data: Data) -> Callable[[Theme], Figure]:
    """Plot how close the last row of a list and the first beyond it are, beside the resolution of number formats."""
    k = 8
    scores = negfast.topk(data.queries, data.corpus, k + 1).scores
    gaps = np.sort(scores[:, k - 1].astype(np.float64) - scores[:, k])
    share = 100 * np.arange(1, len(gaps) + 1) / len(gaps)
    typical = float(np.median(scores[:, k]))
    # Half the distance between neighbouring numbers near a typical score: the error of one rounding.
    formats = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
    errors = {name: 2.0 ** np.floor(np.log2(typical)) * step for name, step in formats.items()}

    def draw(theme: Theme) -> Figure:
        figure, axes = _axes("gap between the scores of rows 8 and 9", "anchors with a smaller gap (%)")
        axes.plot(np.maximum(gaps, 1e-7), share, color=theme.series[0])
        for (name, error), colour in zip(errors.items(), theme.series[1:], strict=False):
            axes.axvline(error, color=colour, linestyle="--")
            axes.annotate(f"one rounding\nto {name}", (error, 97), xytext=(-6, 0), textcoords="offset points",
                          color=colour, ha="right", va="top")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(1e-6, 0.3)
        axes.set_ylim(0, 100)
        return figure

    return draw


def exposure(data: Data) -> Callable[[Theme], Figure]:
    """Plot how often rows serve, with and without a cap."""
    curves = {}
    for cap in (None, 20, 12):
        rows = data.mine(rules=negfast.Rules(max_exposure=cap)).indices
        served = np.bincount(rows[rows >= 0], minlength=len(data.corpus))
        curves["no cap" if cap is None else f"max_exposure={cap}"] = np.sort(served)[::-1]

    def draw(theme: Theme) -> Figure:
        figure, axes = _axes("corpus rows, the most used first", "anchors that the row serves")
        for (name, served), colour in zip(curves.items(), (theme.series[1], *theme.series[::2]), strict=False):
            used = served[served > 0]
            axes.plot(np.arange(1, len(used) + 1), used, color=colour, drawstyle="steps-post", label=name)
        axes.set_xscale("log")
        axes.set_xlim(1, len(data.corpus))
        axes.set_ylim(0, None)
        axes.legend()
        return figure

    return draw


def draws(data: Data) -> Callable[[Theme], Figure]:
    """Plot which ranks of the window are drawn, and how hard the drawn rows are."""
    window, wanted, epochs = 40, 4, 4
    rules = negfast.Rules(range_max=window)
    nearest = data.mine(num_negatives=window, rules=rules)
    # A positive that its anchor hardly knows leaves room only just below the margin, where all draws look alike.
    chosen = nearest.positive_scores >= 0.45
    allowed = nearest.indices[chosen]
    kinds = {
        '"top"': "top",
        '"random"': "random",
        "Softmax(0.05)": negfast.Softmax(0.05),
        "SimANS(300, -0.15)": negfast.SimANS(300, -0.15),
    }
    edges = np.arange(-0.5, 0.001, 0.025)
    ranks, hardnesses = {}, {}
    for name, kind in kinds.items():
        by_rank, by_hardness = np.zeros(window), np.zeros(len(edges) - 1)
        for epoch in range(1 if kind == "top" else epochs):
            drawn = data.mine(num_negatives=wanted, rules=rules, draw=kind, epoch=epoch)
            rows, hardness_of = drawn.indices[chosen], (drawn.scores - drawn.positive_scores[:, None])[chosen]
            at = (allowed[:, None, :] == rows[:, :, None]).argmax(axis=2)[rows >= 0]
            by_rank += np.bincount(at, minlength=window)
            by_hardness += np.histogram(hardness_of[rows >= 0], edges)[0]
        ranks[name] = 100 * by_rank / by_rank.sum()
        hardnesses[name] = 100 * by_hardness / by_rank.sum()

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained")
        for name, colour in zip(kinds, theme.series, strict=True):
            left.plot(np.arange(1, window + 1), ranks[name], color=colour, label=name)
            right.plot((edges[:-1] + edges[1:]) / 2, hardnesses[name], color=colour)
        left.set_xlabel("rank among the allowed rows")
        left.set_ylabel("share of the negatives (%)")
        left.set_xlim(1, window)
        left.legend()
        right.set_xlabel("hardness")
        right.set_xlim(edges[0], 0)
        for axes in (left, right):
            axes.set_ylim(0, None)
            axes.grid(visible=True)
        return figure

    return draw


def memory(data: Data) -> Callable[[Theme], Figure]:
    """Plot the working memory of the exact method beside that of the matrix of all scores."""
    rows = np.resize(data.corpus, (8 * len(data.corpus), data.corpus.shape[1]))
    sizes = [len(rows) // 2**i for i in range(5)]
    exact = negfast.Search(method="exact")
    searches = [negfast.topk(data.queries, rows[:n], 100, search=exact, n_threads=2).report.search for n in sizes]
    planned = [search.working_bytes for search in searches]

    def draw(theme: Theme) -> Figure:
        figure, axes = _axes("corpus rows", "MiB")
        axes.plot(sizes, np.array(planned) / 2**20, marker="o", color=theme.series[0], label="buffers of negfast.topk")
        axes.plot(sizes, [4 * n * len(data.queries) / 2**20 for n in sizes], marker="s", color=theme.series[1],
                  label="all scores, as float32")  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.set_xticks([], minor=True)
        axes.set_ylim(1, 1e4)
        axes.legend(loc="upper left")
        return figure

    return draw


def curriculum(_data: Data) -> Callable[[Theme], Figure]:
    """Plot the plan of the how-to page, as `Curriculum.plot` draws it."""
    plan = negfast.Curriculum(
        temperature=schedule.Cosine(0.07, 0.02, steps=10_000),
        hard=schedule.Constant(0.0).then(2000, schedule.Linear(0.0, 0.3, steps=4000)),
        semi_hard=schedule.Piecewise([(1000, 0.0), (3000, 0.5), (6000, 0.4)]),
        easy=schedule.Warmup(0.2, steps=1000),
        min_random=0.1,
    )

    def draw(theme: Theme) -> Figure:
        with mpl.rc_context({"axes.prop_cycle": mpl.cycler(color=theme.series)}):
            return plan.plot(11_000)

    return draw


def adaptive(_data: Data) -> Callable[[Theme], Figure]:
    """Plot a simulated learner with and without an adaptive curriculum; its loss spikes in between."""
    runs = {name: _learn(adapts) for name, adapts in (("as planned", False), ("adaptive", True))}

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained")
        for (name, (skills, hardnesses)), colour in zip(runs.items(), (theme.series[1], theme.series[0]), strict=True):
            left.plot(skills, color=colour, label=name)
            right.plot(hardnesses, color=colour)
        left.set_ylabel("skill")
        left.set_ylim(0, None)
        left.legend(loc="lower right")
        right.set_ylabel("hardness")
        for axes in (left, right):
            axes.set_xlabel("observation")
            axes.set_xlim(0, len(skills))
            axes.grid(visible=True)
        return figure

    return draw


def _learn(adapts: bool) -> tuple[list[float], list[float]]:
    """Let a learner, simulated, learn for 3000 observations, and return its skill and hardness at each."""
    rng, skill = np.random.default_rng(0), 0.0
    control = negfast.AdaptiveCurriculum(negfast.Curriculum(hard=0.2, semi_hard=0.4, easy=0.2))
    skills, hardnesses = [], []
    for step in range(3000):
        share = 1.0 / (1.0 + np.exp(2.5 * control.hardness + 1.0 - skill))
        skill += 0.05 * share * (1.0 - share)
        loss = -np.log(share) * np.exp(rng.normal(0.0, 0.05)) + (1.0 if 1500 <= step < 1510 else 0.0)
        if adapts:
            probability = float(np.clip(share + rng.normal(0.0, 0.02), 0.0, 1.0))
            control.observe(step, negfast.Signals(loss=float(loss), positive_probability=probability))
        skills.append(float(skill))
        hardnesses.append(control.hardness)
    return skills, hardnesses


PLOTS = (hardness, removed, margins, ties, exposure, draws, memory, curriculum, adaptive)


def make(folder: Path) -> None:
    """Make all plots that are missing or older than this script."""
    paths = [folder / f"{plot.__name__}-{name}.svg" for plot in PLOTS for name in THEMES]
    made = Path(__file__).stat().st_mtime
    if all(path.exists() and path.stat().st_mtime > made for path in paths):
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = load()
    for plot in PLOTS:
        shown = plot(data)
        for name, theme in THEMES.items():
            with mpl.rc_context(style(theme)):
                figure = shown(theme)
                figure.savefig(folder / f"{plot.__name__}-{name}.svg", metadata={"Date": None}, transparent=True)
                plt.close(figure)


def _axes(x: str, y: str, grid: str = "both") -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, axis=grid)  # type: ignore[arg-type]
    return figure, axes


def style(theme: Theme) -> dict[str, Any]:
    """Return the settings of matplotlib for one form."""
    lines = dict.fromkeys(("axes.edgecolor", "grid.color"), theme.faint)
    texts = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), theme.text)
    return {
        **lines,
        **texts,
        "axes.axisbelow": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "backend": "svg",
        "font.size": 10,
        "grid.linewidth": 0.6,
        "hatch.color": theme.series[1],
        "hatch.linewidth": 0.7,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "svg.hashsalt": "negfast",
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
    }


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("plots"))
