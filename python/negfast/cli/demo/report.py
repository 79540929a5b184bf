"""What `negfast demo` shows, one function for each part."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from negfast.cli.demo.brute_force import Comparison
from negfast.cli.demo.files import TIER_NAMES
from negfast.cli.demo.installed_code import InstalledCode
from negfast.cli.screen import Screen, fit, printable
from negfast.report import Report
from negfast.results import MinedNegatives

N_SUSPECTS = 4
N_ANCHORS = 4
SOURCE_LINES = 8
WIDTH_OF_FOUR_COLUMNS = 132  # narrower screens show two rows of two columns
BAR_WIDTH = 40

_RULES = {
    "positive": "the anchor's own function",
    "key": "copy of the anchor's sentence or source",
    "group": "function of the anchor's own module",
    "relative_margin": "above 95 % of the positive's score",
    "duplicate_of_positive": "near-copy of the positive (above .95)",
    "range_min": "ranks before the window",
    "distinct": "near-copy of a harder negative (above .95)",
    "max_exposure": "serves too many anchors already",
}
_ALWAYS_SHOWN = ("key", "group", "duplicate_of_positive", "distinct")
_TIERS = (("hard", "red"), ("semi-hard", "yellow"), ("easy", "cyan"))


def show_pairs(screen: Screen, code: InstalledCode, seconds: float) -> None:
    """Show what was gathered, with an example of a copy."""
    screen.heading("Pairs: first sentence of a docstring -> source of its function")
    unreadable = f", {code.n_unreadable:,} more cannot be parsed" if code.n_unreadable else ""
    screen.prose(
        f"{len(code):,} functions of {len(set(code.modules)):,} modules, "
        f"from {code.n_files:,} files{unreadable} ({seconds:.1f} s)"
    )
    n_sources = len(code) - len(set(code.passages))
    n_sentences = len(code) - len(set(code.queries))
    screen.prose(f"copies of earlier ones: {n_sentences:,} docstring sentences and {n_sources:,} sources")
    copy = _copy_in_another_module(code)
    if copy is not None:
        first, second = (printable(code.locations[i]) for i in copy)
        screen.line(fit(f"  such as {second} = {first}", screen.width), "dim")


def _copy_in_another_module(code: InstalledCode) -> tuple[int, int] | None:
    first_of: dict[str, int] = {}
    for i, passage in enumerate(code.passages):
        first = first_of.setdefault(passage, i)
        if code.modules[first] != code.modules[i]:
            return first, i
    return None


def show_encoding(screen: Screen, model: str | None, dim: int, seconds: float) -> None:
    """Show with what the texts were encoded."""
    screen.heading("Encoding")
    built_in = "the built-in encoder, which knows spelling and not meaning (--model takes a real one)"
    screen.prose(f"{dim} dimensions with {model or built_in} ({seconds:.1f} s)")


def show_mining(screen: Screen, mined: MinedNegatives, seconds: float) -> None:
    """Show what was searched, what each rule removed and how hard the negatives are."""
    report = mined.report
    n_found = int((mined.indices >= 0).sum())
    screen.heading("Mining")
    screen.prose(
        f"{report.n_queries:,} anchors against {report.n_corpus:,} rows under all rules: {seconds:.1f} s "
        f"({report.search.method} search, {_threads(report.search.n_threads)}, {report.search.level})"
    )
    screen.prose(f"{n_found:,} negatives; {_underfilled(mined)}")
    _show_removed(screen, report)
    _show_tiers(screen, mined.tiers)


def _underfilled(mined: MinedNegatives) -> str:
    n, wanted = int((mined.indices < 0).any(axis=1).sum()), mined.indices.shape[1]
    return f"for {_anchors(n)} fewer than {wanted} are allowed" if n else f"every anchor has its {wanted}"


def _show_removed(screen: Screen, report: Report) -> None:
    screen.heading("Removed by each rule, of the rows as hard as the negatives or harder")
    used = [(rule, n) for rule, n in report.removed.items() if n or rule in _ALWAYS_SHOWN]
    screen.rows([(rule, f"{n:,}", _RULES.get(rule, "")) for rule, n in used], right=(1,))
    above = int((np.asarray(report.suspects.ranks) - 1).sum())
    if above:
        suspects = _anchors(len(report.suspects))
        screen.prose(f"{above:,} of them outscore the positive of a suspect pair ({suspects}, see below)")


def _show_tiers(screen: Screen, tiers: npt.NDArray[np.uint8]) -> None:
    screen.heading("Tiers of the negatives, by hardness (score of negative - score of positive)")
    counts = np.bincount(tiers.ravel(), minlength=len(TIER_NAMES))
    total = max(int(counts[1:].sum()), 1)
    rows = []
    for name, _ in _TIERS:
        share = int(counts[TIER_NAMES.index(name)]) / total
        rows.append((name, f"{100 * share:.0f} %", "#" * round(BAR_WIDTH * share)))
    screen.rows(rows, right=(1,))


def show_comparison(screen: Screen, comparison: Comparison) -> None:
    """Show the time of the plain search against numpy's, and what was compared."""
    n = comparison.n_queries
    screen.heading(f"Search alone, against brute force in numpy ({_threads(comparison.n_threads)} each)")
    screen.rows(
        [
            (
                "numpy",
                _time(comparison.numpy_seconds),
                "blocks of matmul and argpartition, on all threads",
            ),
            ("negfast", _time(comparison.negfast_seconds), f"{comparison.ratio:.1f} times as fast"),
        ],
        right=(1,),
    )
    screen.prose(
        f"the best {comparison.k} of {comparison.n_corpus:,} rows for {n:,} queries, no rules; "
        f"best of {comparison.n_rounds} alternating rounds each"
    )
    agreeing = "each query" if comparison.n_agreeing == n else f"only {comparison.n_agreeing:,} of the queries"
    screen.prose(f"both find the same rows for {agreeing}")


def show_suspects(screen: Screen, mined: MinedNegatives, code: InstalledCode) -> None:
    """Show pairs whose positive ranks low, and how many negatives would be false without rules."""
    suspects, false = mined.report.suspects, mined.report.false_negatives
    screen.heading("Worth a look")
    if false is not None:
        screen.prose(
            f"{100 * false.share_within_margin:.0f} % of the rows that the score rules alone would leave "
            "hold the anchor's text again or share its module: false negatives, removed by keys and groups."
        )
    bound, worst = mined.report.suspect_rank, ". The worst ranks:" if len(suspects) else ""
    screen.prose(f"{len(suspects):,} pairs are suspect: their own function ranks below {bound:,}{worst}")
    for i in np.argsort(-np.asarray(suspects.ranks), kind="stable")[:N_SUSPECTS]:
        anchor, rank = int(suspects.anchors[i]), int(suspects.ranks[i])
        screen.line(fit(f"    {rank:,}  {printable(code.locations[anchor])}", screen.width))
        screen.line(fit(f"      {printable(code.queries[anchor])}", screen.width), "dim")


def show_sample(screen: Screen, mined: MinedNegatives, code: InstalledCode, *, seed: int) -> None:
    """Show some anchors with their positive and a negative of each tier side by side."""
    screen.heading("Sample anchors: the positive, and the hardest negative of each tier")
    tiers = mined.tiers
    has_all = np.flatnonzero(np.logical_and.reduce([(tiers == tier).any(axis=1) for tier in (1, 2, 3)]))
    if not len(has_all):
        screen.prose("no anchor has negatives of all three tiers; gather more or raise --num-negatives")
    chosen = np.random.default_rng(seed).permutation(has_all)[:N_ANCHORS]
    for anchor in np.sort(chosen).tolist():
        screen.line()
        screen.line(fit(f"  {printable(code.queries[anchor])}", screen.width), "bold")
        _show_anchor(screen, mined, code, anchor)


def _show_anchor(screen: Screen, mined: MinedNegatives, code: InstalledCode, anchor: int) -> None:
    positive_score = float(mined.positive_scores[anchor])
    columns = [[f"positive  {positive_score:.2f}", *_source(code, anchor)]]
    for name, _ in _TIERS:
        place = int(np.flatnonzero(mined.tiers[anchor] == TIER_NAMES.index(name))[0])
        score = float(mined.scores[anchor, place])
        header = f"{name}  {score:.2f}  ({score - positive_score:+.2f})"
        columns.append([header, *_source(code, int(mined.indices[anchor, place]))])
    styles = ["green", *(style for _, style in _TIERS)]
    step = 4 if screen.width >= WIDTH_OF_FOUR_COLUMNS else 2
    for start in range(0, 4, step):
        if start:
            screen.line()
        screen.side_by_side(columns[start : start + step], header_styles=styles[start : start + step])


def _source(code: InstalledCode, row: int) -> list[str]:
    lines = [printable(line) for line in code.passages[row].split("\n") if line.strip()]
    if len(lines) > SOURCE_LINES:
        n_shown = SOURCE_LINES - 1
        lines = [*lines[:n_shown], f"... and {len(lines) - n_shown} more lines"]
    module, name, line = printable(code.locations[row]).rsplit(":", 2)
    return [module, f"{name}, line {line}", *lines]


def show_files(screen: Screen, folder: Path, seconds: Mapping[str, float]) -> None:
    """Show what was written and how long everything took."""
    screen.heading(f"Files in {folder}")
    screen.rows(
        [
            ("pairs.jsonl", "the texts, with module and location"),
            ("negatives.jsonl", "per anchor: its negatives with scores and tiers"),
            ("mined.safetensors", "the result as arrays, for negfast.MinedNegatives.load"),
            ("report.txt, report.json", "this text, and every number in it"),
        ]
    )
    stages = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    screen.line()
    screen.line(f"  {sum(seconds.values()):.0f} s in all: {stages}", "dim")


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


def _threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"


def _anchors(n: int) -> str:
    return "1 anchor" if n == 1 else f"{n:,} anchors"
