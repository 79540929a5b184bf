"""Refreshed lists after the embeddings moved: negfast.Miner.refresh against a search from scratch and IndexFlatIP.

    python benches/refresh/refresh.py                                    # all parts
    python benches/refresh/refresh.py --part drift --flat-queries 8000   # one, the peer's seconds scaled up

Embeddings are those of `trajectory.py`, along a real training run. The parts:

* `drift`: from the base to each later snapshot, at a recall of .99 and beside `faiss IndexFlatIP`; every round starts
  from the state after the base was mined. Recall is what the report measured, and the true one, by score, of a fixed
  sample.
* `certified`: the same at a recall of 1 against a certified search; every list has to be the same.
* `chain`: one refresh after another under rules, at a recall of 1, where every list has to be that of a certified
  search, and at .99, where recall is counted against those lists.
* `fine`: the same at a recall of 1, in steps so small that lists can be proven: eighths of the way between snapshots.
* `changed`: a hundredth of the corpus has moved, and the call is told which rows.

Contenders take turns, so a ratio is within a round. Each part says which bars it has to clear, and the command fails
where one is missed.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import alternate, arguments, peer_libraries, pin, record, summary, timed, versions
from trajectory import K, Rows, Trajectory, trajectory

RECALL = 0.99
SAMPLE = 2000  # queries whose recall is taken
CHANGED = 0.01  # share of the corpus
FINE, FINE_STEPS = 8, 32  # parts of the way from one snapshot to the next, and refreshes
CHANGED_AFTER = 0.15  # drift of the snapshot that changed rows are taken from
FLAT, FRESH, REFRESH = "faiss IndexFlatIP", "fresh search", "refresh"
SLOWEST = 1 / 1.1  # of a fresh search; no refresh may take longer
TOLERANCE = 1e-6  # float32 sums in another order
MEASURED = (
    "n_proven",
    "n_estimated",
    "n_searched",
    "prefix",
    "turnover",
    "recall",
    "recall_interval",
    "widened",
    "why",
)


class Bar(NamedTuple):
    """What a figure has to reach, or not to exceed."""

    what: str
    figure: float
    least: float = -np.inf
    most: float = np.inf
    goal: bool = False  # worth reaching, no failure to miss

    @property
    def missed(self) -> bool:
        return not self.least <= self.figure <= self.most

    def __str__(self) -> str:
        bound = f"at least {self.least:.4g}" if self.least > -np.inf else f"at most {self.most:.4g}"
        goal, missed = "goal: " if self.goal else "", " MISSED" if self.missed else ""
        return f"{self.what} {self.figure:.4g} ({goal}{bound}){missed}"


def failures(name: str, bars: list[Bar]) -> list[str]:
    return [f"{name}: {bar}" for bar in bars if bar.missed and not bar.goal]


class Case(NamedTuple):
    """How lists are mined, and refreshed, in one part."""

    recall: float
    rules: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        import negfast

        search = negfast.Search(recall=self.recall)
        return {"num_negatives": K, "rules": negfast.Rules(**self.rules), "search": search}

    def miner(self, rows: Rows) -> Any:
        """A miner that has mined the rows."""
        import negfast

        miner = negfast.Miner(**self.settings())
        miner.mine(*rows, np.arange(len(rows.queries)))
        return miner

    def fresh(self, rows: Rows) -> Any:
        import negfast

        return negfast.mine(*rows, np.arange(len(rows.queries)), **self.settings())


NO_SCORE_RULES = {"relative_margin": None}
ALL_RULES = {"relative_margin": 0.05, "duplicate_of_positive": 0.99, "distinct": 0.99}


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts (default: all)")
    parser.add_argument("--flat-queries", type=int, help="search so many by IndexFlatIP, and scale its seconds up")
    return parser.parse_args()


def measured(report: Any) -> dict[str, Any]:
    refresh = report.refresh
    drift = {f"drift_{name}": getattr(refresh.drift, name) for name in ("mean", "p50", "p99", "max")}
    return {**drift, **{name: getattr(refresh, name) for name in MEASURED}, "seconds": refresh.seconds}


def differences(mined: Any, expected: Any) -> int:
    """Anchors whose lists are not the same, to the bit."""
    same = np.ones(len(expected), bool)
    for name in ("indices", "scores", "tiers"):
        same &= (getattr(mined, name) == getattr(expected, name)).all(axis=1)
    return int((~same).sum())


def timed_into(found: dict[str, Any], name: str, run: Callable[[], Any]) -> float:
    """Seconds of a run whose result is kept."""
    return timed(lambda: found.__setitem__(name, run()))


def contenders(
    miner: Any, case: Case, rows: Rows, found: dict[str, Any], **told: Any
) -> dict[str, Callable[[], float]]:
    """A refresh from the state of `miner`, which is left as it is, and a search from scratch."""

    def refresh() -> float:
        again = copy.deepcopy(miner)
        return timed_into(found, REFRESH, lambda: again.refresh(*rows, **told))

    return {REFRESH: refresh, FRESH: lambda: timed_into(found, FRESH, lambda: case.fresh(rows))}


def flat(rows: Rows, chosen: argparse.Namespace) -> Callable[[], float]:
    """IndexFlatIP, one row deeper: the positive is taken out afterwards."""
    from contenders import build_faiss, search_faiss

    queries = rows.queries[: chosen.flat_queries]

    def run() -> float:
        index = []
        built = timed(lambda: index.append(build_faiss(rows.corpus, chosen.threads, factory="Flat")))
        searched = timed(lambda: search_faiss(index[0], queries, K + 1, chosen.threads))
        return built + searched * len(rows.queries) / len(queries)

    return run


class Truth:
    """The exact k-th best score, positives apart, of a fixed sample of queries."""

    def __init__(self, rows: Rows, threads: int) -> None:
        from contenders import build_faiss, search_faiss

        n = len(rows.queries)
        self.rows = rows
        self.picked = np.random.default_rng(0).permutation(n)[:SAMPLE]
        index = build_faiss(rows.corpus, threads, factory="Flat")
        scores, indices = search_faiss(index, rows.queries[self.picked], K + 1, threads)
        scores[indices == self.picked[:, None]] = np.inf
        self.kth = np.sort(scores, axis=1)[:, 0]
        # Where the positive is not among the best, the last row is one too many.
        deep = ~np.isinf(scores).any(axis=1)
        self.kth[deep] = scores[deep, K - 1]

    def recall(self, mined: Any) -> float:
        from contenders import recall

        return recall(mined.indices[self.picked], self.rows.queries[self.picked], self.rows.corpus, self.kth)


def recall_against(mined: Any, exact: Any) -> float:
    """Share of the places of exact lists for which there is a row that scores as much as the last of them."""
    filled = exact.indices >= 0
    last = np.where(filled, exact.scores, np.inf).min(axis=1, initial=np.inf)
    reached = ((mined.indices >= 0) & (mined.scores >= last[:, None] - TOLERANCE)).sum(axis=1)
    return float(np.minimum(reached, filled.sum(axis=1)).sum() / filled.sum())


def drift_bars(target: float, row: dict[str, Any]) -> list[Bar]:
    fresh, peer = row["ratios"][FRESH], row["ratios"][FLAT]
    audited, true = Bar("audited recall", row["recall"], RECALL), Bar("true recall", row["true_recall"], 0.985)
    if target <= 0.05:
        return [Bar("x IndexFlatIP", peer, 20), Bar("x fresh", fresh, 3), audited, true]
    if target <= 0.15:
        return [Bar("x IndexFlatIP", peer, 12), Bar("x fresh", fresh, 1.5), true]
    return [Bar("x fresh", fresh, SLOWEST), true]


def certified_bars(target: float, row: dict[str, Any]) -> list[Bar]:
    fresh = row["ratios"][FRESH]
    goals = [Bar("x fresh", fresh, 1.5, goal=True)] if target <= 0.02 else []
    return [Bar("x fresh", fresh, SLOWEST), *goals, Bar("different lists", row["different_lists"], most=0)]


def compared(seconds: dict[str, list[float]], found: dict[str, Any]) -> dict[str, Any]:
    """Seconds and ratios to the refresh, and what its report says."""
    summed = summary(seconds, REFRESH)
    return {
        "rounds": seconds,
        "summary": summed,
        "ratios": {name: one["ratio_to_negfast"] for name, one in summed.items()},
        **measured(found[REFRESH].report),
    }


def ratio(one: dict[str, float]) -> list[str]:
    return [f"{one['ratio_to_negfast']:.2f}", f"({one['min_ratio']:.2f}, {one['max_ratio']:.2f})"]


def table(results: dict[str, dict[str, Any]], head: str) -> str:
    layout = "{:>8} {:>6} {:>9} {:>9} {:>16} {:>9} {:>15} {:>7} {:>7} {:>8} {:>9} {:>8} {:>8}  {}"
    heads = (head, "drift", "refresh s", "x fresh", "(min, max)", "x flat", "(min, max)", "audited", "true",
             "proven", "estimated", "searched", "turnover", "")  # fmt: skip
    lines = [layout.format(*heads)]
    for name, row in results.items():
        cells: list[Any] = [name, f"{row['drift_mean']:.4f}", f"{row['summary'][REFRESH]['median_seconds']:.2f}"]
        for other in (FRESH, FLAT):
            cells += ratio(row["summary"][other]) if other in row["summary"] else ["", ""]
        cells += [f"{row['recall']:.4f}", f"{row['true_recall']:.4f}"]
        cells += [f"{row[kind]:,}" for kind in ("n_proven", "n_estimated", "n_searched")]
        cells += [f"{row['turnover']:.4f}", "widened" if row["widened"] else ""]
        lines.append(layout.format(*cells).rstrip())
    return "\n".join(lines)


def moved(run: Trajectory, base: Rows, case: Case, chosen: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Refresh from the base to each later snapshot."""
    miner = case.miner(base)
    results = {}
    for target, snapshot in run.later.items():
        rows, found = snapshot.load().first(chosen.n), {}
        runs = contenders(miner, case, rows, found)
        if case.recall < 1.0:
            runs[FLAT] = flat(rows, chosen)
        print(f"drift {target:g}", file=sys.stderr, flush=True)
        row = compared(alternate(runs, chosen.rounds), found)
        truth = Truth(rows, chosen.threads)
        row["true_recall"], row["fresh_true_recall"] = truth.recall(found[REFRESH]), truth.recall(found[FRESH])
        if case.recall == 1.0:
            row["different_lists"] = differences(found[REFRESH], found[FRESH])
        results[f"{target:g}"] = row
    return results


def drift(run: Trajectory, chosen: argparse.Namespace) -> list[str]:
    return record_moved(run, chosen, "drift", RECALL, drift_bars)


def certified(run: Trajectory, chosen: argparse.Namespace) -> list[str]:
    return record_moved(run, chosen, "certified", 1.0, certified_bars)


def record_moved(
    run: Trajectory,
    chosen: argparse.Namespace,
    name: str,
    recall: float,
    bars_of: Callable[[float, dict[str, Any]], list[Bar]],
) -> list[str]:
    base = run.base.load().first(chosen.n)
    results = moved(run, base, Case(recall, NO_SCORE_RULES), chosen)
    bars = {target: bars_of(float(target), row) for target, row in results.items()}
    text = table(results, "target")
    if chosen.flat_queries and recall < 1.0:
        text += (
            f"\n\nIndexFlatIP was built in full and searched {chosen.flat_queries:,} queries, those seconds scaled up"
        )
    text += "\n\n" + "\n".join(f"drift {target}: {', '.join(map(str, one))}" for target, one in bars.items())
    settings = {"recall": recall, "rules": NO_SCORE_RULES, "flat_queries": chosen.flat_queries}
    write(run, base, chosen, name, settings | {"results": results}, text)
    return [failure for target, one in bars.items() for failure in failures(f"{name}, drift {target}", one)]


def chain(run: Trajectory, chosen: argparse.Namespace) -> list[str]:
    """Refresh from link to link; at each, everything is also mined from scratch."""
    cases = {"certified": Case(1.0, ALL_RULES), "estimated": Case(RECALL, ALL_RULES)}
    start = run.chain[0].load().first(chosen.n)
    miners = {name: case.miner(start) for name, case in cases.items()}
    links = []
    for number, snapshot in enumerate(run.chain[1:], 1):
        rows, found = snapshot.load().first(chosen.n), {}
        links.append({"link": number, "step": snapshot.step, "drift": snapshot.drift} | {
            name: link(miners[name], case, rows, found) for name, case in cases.items()
        })  # fmt: skip
        print(f"link {number}: {link_line(links[-1])}", file=sys.stderr, flush=True)
    different = sum(one["certified"]["different_lists"] for one in links)
    last = links[-1]["estimated"]
    bars = [
        Bar("different lists", different, most=0),
        Bar(f"recall after {len(links)} refreshes less that of a fresh search",
            last["true_recall"] - last["fresh_true_recall"], -0.005),
    ]  # fmt: skip
    text = (
        f"{LINK_HEADS}\n" + "\n".join(map(link_line, links)) + f"\n\n{different:,} certified lists of "
        f"{len(links) * len(start.queries):,} differ from those of a certified search\n" + ", ".join(map(str, bars))
    )
    write(run, start, chosen, "chain", {"recall": RECALL, "rules": ALL_RULES, "links": links}, text)
    return failures("chain", bars)


def between(start: Rows, end: Rows, share: float) -> Rows:
    """Rows on the way from one snapshot to the next, of length 1."""
    mixed = [(1 - share) * a + share * b for a, b in zip(start, end, strict=True)]
    return Rows(*(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in mixed))


def fine(run: Trajectory, chosen: argparse.Namespace) -> list[str]:
    """Refresh in small steps under rules; lists that are proven are counted, and all compared with a search."""
    case = Case(1.0, ALL_RULES)
    snapshots = [snapshot.load().first(chosen.n) for snapshot in run.chain[: -(-FINE_STEPS // FINE) + 1]]
    start, links = snapshots[0], []
    miner = case.miner(start)
    for number in range(1, FINE_STEPS + 1):
        leg, part = divmod(number, FINE)
        rows = between(snapshots[leg], snapshots[leg + 1], part / FINE) if part else snapshots[leg]
        one = link(miner, case, rows, {})
        links.append({"step": number, **one})
        print(
            f"step {number}: {one['n_proven']:,} proven, {one['different_lists']:,} differ", file=sys.stderr, flush=True
        )
    different, proven = (sum(one[name] for one in links) for name in ("different_lists", "n_proven"))
    ratios = [one["rounds"][FRESH] / one["rounds"][REFRESH] for one in links]
    bars = [Bar("different lists", different, most=0), Bar("lists proven", proven, least=1)]
    text = (
        f"{FINE_STEPS} refreshes, each after a mean drift of {np.mean([one['drift_mean'] for one in links]):.4f}\n"
        f"{proven:,} lists of {FINE_STEPS * len(start.queries):,} were proven, the others searched again; x fresh "
        f"{np.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})\n{', '.join(map(str, bars))}"
    )
    write(run, start, chosen, "fine", {"rules": ALL_RULES, "links": links}, text)
    return failures("fine", bars)


def link(miner: Any, case: Case, rows: Rows, found: dict[str, Any]) -> dict[str, Any]:
    """Refresh and mine from scratch; what the first case, certified, finds is the truth of the second."""
    mined: dict[str, Any] = {}
    seconds = {
        REFRESH: timed_into(mined, REFRESH, lambda: miner.refresh(*rows)),
        FRESH: timed_into(mined, FRESH, lambda: case.fresh(rows)),
    }
    exact = found.setdefault("exact", mined[FRESH])
    return measured(mined[REFRESH].report) | {
        "rounds": seconds,
        "different_lists": differences(mined[REFRESH], exact),
        "true_recall": recall_against(mined[REFRESH], exact),
        "fresh_true_recall": recall_against(mined[FRESH], exact),
    }


LINK_LAYOUT = "{:>4} {:>6} {:>7}  {:>9} {:>8} {:>8} {:>9}  {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8}"
LINK_HEADS = "{:31}{}\n{}".format(
    "",
    f"{'certified':<40}{'recall ' + format(RECALL, 'g')}",
    LINK_LAYOUT.format("link", "step", "drift", "refresh s", "fresh s", "proven", "different",
                       "refresh s", "fresh s", "audited", "true", "fresh", "estimated", "searched"),
)  # fmt: skip


def link_line(one: dict[str, Any]) -> str:
    exact, other = one["certified"], one["estimated"]
    return LINK_LAYOUT.format(
        one["link"], one["step"], f"{one['drift']:.4f}",
        f"{exact['rounds'][REFRESH]:.2f}", f"{exact['rounds'][FRESH]:.2f}", f"{exact['n_proven']:,}",
        f"{exact['different_lists']:,}",
        f"{other['rounds'][REFRESH]:.2f}", f"{other['rounds'][FRESH]:.2f}", f"{other['recall']:.4f}",
        f"{other['true_recall']:.4f}", f"{other['fresh_true_recall']:.4f}", f"{other['n_estimated']:,}",
        f"{other['n_searched']:,}",
    )  # fmt: skip


def changed(run: Trajectory, chosen: argparse.Namespace) -> list[str]:
    """Refresh after a hundredth of the corpus was replaced by its later version."""
    base, later = (snapshot.load().first(chosen.n) for snapshot in (run.base, run.later[CHANGED_AFTER]))
    n = len(base.corpus)
    which = np.sort(np.random.default_rng(0).choice(n, max(1, round(CHANGED * n)), replace=False))
    corpus = base.corpus.copy()
    corpus[which] = later.corpus[which]
    rows = Rows(base.queries, corpus)
    truth = Truth(rows, chosen.threads)
    results, bars = {}, []
    for recall in (RECALL, 1.0):
        case, found = Case(recall, NO_SCORE_RULES), {}
        seconds = alternate(contenders(case.miner(base), case, rows, found, changed=which), chosen.rounds)
        row = results[f"{recall:g}"] = compared(seconds, found)
        row["true_recall"], row["fresh_true_recall"] = truth.recall(found[REFRESH]), truth.recall(found[FRESH])
        bars.append(Bar(f"recall {recall:g}: x fresh", row["ratios"][FRESH], 20))
        if recall == 1.0:
            row["different_lists"] = differences(found[REFRESH], found[FRESH])
            bars.append(Bar("different lists", row["different_lists"], most=0))
        else:
            bars.append(Bar("true recall", row["true_recall"], 0.985))
    text = (
        f"{len(which):,} rows of the corpus replaced by those after a drift of {CHANGED_AFTER:g}\n\n"
        f"{table(results, 'recall')}\n\n{', '.join(map(str, bars))}"
    )
    write(run, rows, chosen, "changed", {"changed": len(which), "rules": NO_SCORE_RULES, "results": results}, text)
    return failures("changed", bars)


def write(
    run: Trajectory, rows: Rows, chosen: argparse.Namespace, name: str, result: dict[str, Any], text: str
) -> None:
    import negfast

    shape = [len(rows.queries), *rows.corpus.shape]
    level = negfast.simd_level()
    head = (
        f"{name}: {K} negatives, {shape[0]:,} x {shape[1]:,} rows, dim {shape[2]}, {chosen.threads} threads, "
        f"level {level}, rules {result['rules']}\n{run.source}, static encoder along its training\n\n"
    )
    record(
        f"{chosen.name or 'refresh'}-{name}",
        {
            "peer_libraries": peer_libraries(),
            "versions": versions("faiss-cpu", "torch"),
            "source": run.source,
            "shape": shape,
            "k": K,
            "threads": chosen.threads,
            "level": level,
            **result,
        },
        head + text,
    )


PARTS = {"drift": drift, "certified": certified, "chain": chain, "fine": fine, "changed": changed}


def main() -> None:
    chosen = options()
    pin(chosen.threads, chosen.level, chosen.peers)
    run = trajectory()
    missed = [failure for part in chosen.part for failure in PARTS[part](run, chosen)]
    if missed:
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
