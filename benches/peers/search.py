"""Searches at a given recall, index built in the time: negfast against faiss, hnswlib, usearch, pynndescent and torch.

    python benches/peers/search.py                                    # every case, every contender
    python benches/peers/search.py --case 95 99 --methods             # and the methods of negfast by name
    python benches/peers/search.py --case large-95 --only "faiss IndexFlatIP" hnswlib --rounds 1

Cases are in `cases.py`, parameters of the peers in `tuned.json` (`tune.py` found them), peers in `contenders.py`.
Contenders take turns, so a ratio is within a round. A peer far slower than the best peer runs in the first round only.
One that would take longer than `--limit` even so builds its whole index, searches some of the queries, and has the
seconds of that search scaled up, which the table marks with ~. So do exact peers on the larger sets: every query costs
them the same.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import arguments, peer_libraries, pin, record, versions
from cases import CASES, TUNED, Case, K, picked, rows_of

OURS = "negfast"
METHODS = ("exact", "certified", "signatures", "clusters")
SLOW = 3.0  # times the seconds of the fastest tuned peer, beyond which one round is enough
PLANNED_WITHIN = 1.3  # of the seconds of the best method by name
FULL_RECALL = 5e9  # pairs up to which recall is that of every query
SAMPLE = 2000  # queries whose recall is taken beyond


@dataclass
class Contender:
    parameters: str
    run: Callable[[Any], tuple[Any, float, float]]  # of queries: indices, seconds to build and to search
    scaled: bool = False  # searches a sample; its seconds are scaled up
    rounds: int = 1


def options() -> argparse.Namespace:
    names = list(CASES)
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.add_argument("--case", nargs="+", choices=names, default=names, help="cases (default: all)")
    parser.add_argument("--only", nargs="+", help="contenders to run, negfast among them (default: all)")
    parser.add_argument("--methods", action="store_true", help="also run each method of negfast by its name")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds beyond which a peer searches a sample")
    return parser.parse_args()


def ours(rows: Any, case: Case, chosen: argparse.Namespace, method: str | None = None) -> Contender | None:
    """Negfast as asked, or nothing where this version refuses the method."""
    import negfast

    settings = {} if case.recall == 1.0 else {"recall": case.recall}
    if method is not None:
        settings["method"] = method
    asked = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    try:
        search = negfast.Search(**settings)
        # This also warms it up.
        negfast.topk(rows.queries[:64], rows.corpus[:1000], K, search=search, n_threads=chosen.threads)
    except negfast.NegfastError as refused:
        print(f"refused: Search({asked}): {refused}", file=sys.stderr, flush=True)
        return None

    def run(queries: Any) -> tuple[Any, float, float]:
        begin = time.perf_counter()
        found = negfast.topk(queries, rows.corpus, K, search=search, n_threads=chosen.threads)
        return found.indices, 0.0, time.perf_counter() - begin

    return Contender(f"Search({asked})", run, rounds=chosen.rounds)


def theirs(name: str, rows: Any, tuned: dict[str, Any], chosen: argparse.Namespace) -> Contender:
    """A peer at the parameters that `tuned` holds for it; how long it took there decides how much of it runs."""
    from contenders import EXACT, PEERS, warm_up

    peer = PEERS[name]
    settings = {"build": EXACT[name], "search": {}} if name in EXACT else tuned[name]
    warm_up(name, rows)

    def run(queries: Any) -> tuple[Any, float, float]:
        begin = time.perf_counter()
        index = peer.build(rows.corpus, chosen.threads, **settings["build"])
        built = time.perf_counter()
        _, indices = peer.search(index, queries, K, chosen.threads, **settings["search"])
        return indices, built - begin, time.perf_counter() - built

    if name in EXACT:
        long = slow = pairs_of(rows) > FULL_RECALL
    else:
        long = settings["seconds"] > chosen.limit
        slow = settings["seconds"] > SLOW * min(one["seconds"] for one in tuned.values())
    parameters = ", ".join(f"{key} {value}" for key, value in (settings["build"] | settings["search"]).items())
    return Contender(parameters, run, scaled=long, rounds=1 if long or slow else chosen.rounds)


def pairs_of(rows: Any) -> int:
    return len(rows.queries) * len(rows.corpus)


def measure(rows: Any, contenders: dict[str, Contender], chosen: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Recall and the seconds of every round of each contender."""
    import numpy as np

    from contenders import recall, true_kth

    order = picked(len(rows.queries))
    judged = order[:SAMPLE] if pairs_of(rows) > FULL_RECALL else order
    kth = np.full(len(order), np.nan, np.float32)
    kth[judged] = true_kth(rows.queries[judged], rows.corpus, K, chosen.threads)
    results: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in contenders}
    for number in range(chosen.rounds):
        for name, contender in contenders.items():
            if number >= contender.rounds:
                continue
            ids = order[: 4 * SAMPLE] if contender.scaled else np.arange(len(order))
            # A self-join is asked for by the same buffer twice.
            queries = rows.queries[ids] if contender.scaled else rows.queries
            indices, built, searched = contender.run(queries)
            searched *= len(order) / len(ids)
            result = results[name]
            result["seconds"].append(built + searched)
            print(f"round {number + 1}: {name} {built:.2f} + {searched:.2f} s", file=sys.stderr, flush=True)
            if number == 0:
                known = np.flatnonzero(~np.isnan(kth[ids]))
                result |= {
                    "parameters": contender.parameters,
                    "recall": recall(indices[known], queries[known], rows.corpus, kth[ids[known]]),
                    "build_seconds": built,
                    "scaled_from_queries": len(ids) if contender.scaled else None,
                }
            del indices
            gc.collect()
    return results


def summed(results: dict[str, dict[str, Any]]) -> None:
    """Add medians, and ratios to negfast round by round."""
    for result in results.values():
        result["median_seconds"] = statistics.median(result["seconds"])
        if OURS in results:
            # A slow contender sits out the later rounds.
            ratios = [a / b for a, b in zip(result["seconds"], results[OURS]["seconds"], strict=False)]
            result |= {
                "ratio_to_negfast": statistics.median(ratios),
                "min_ratio": min(ratios),
                "max_ratio": max(ratios),
            }


def table(results: dict[str, dict[str, Any]], target: float) -> str:
    layout = "{:<32} {:>7} {:>9} {:>6}  {:>9}  {:<20}  {}"
    heads = ("contender", "recall", "seconds", "rounds", "x negfast", "(min, max of rounds)", "parameters")
    lines = [layout.format(*heads)]
    for name, row in results.items():
        seconds = f"{'~' if row['scaled_from_queries'] else ''}{row['median_seconds']:.2f}"
        ratio, spread = "", ""
        if "ratio_to_negfast" in row:
            ratio, spread = f"{row['ratio_to_negfast']:.2f}", "({min_ratio:.2f}, {max_ratio:.2f})".format_map(row)
        # Tuning looked at a sample, so a peer may miss by a little.
        missed = " (below)" if row["recall"] < target else ""
        cells = (f"{row['recall']:.4f}", seconds, len(row["seconds"]), ratio, spread, row["parameters"] + missed)
        lines.append(layout.format(name, *cells).rstrip())
    return "\n".join(lines)


def planner(results: dict[str, dict[str, Any]], target: float) -> tuple[float, str] | None:
    """How many times as long negfast's own choice took as its best method by name that reached the recall."""
    named = {
        name: result["median_seconds"]
        for name, result in results.items()
        if name.startswith(f"{OURS} ") and result["recall"] >= target
    }
    if not named:
        return None
    best = min(named, key=named.__getitem__)
    return results[OURS]["median_seconds"] / named[best], best


def run_case(name: str, chosen: argparse.Namespace) -> str | None:
    """Run and record one case; return what is wrong."""
    import negfast
    from contenders import EXACT, PEERS

    case = CASES[name]
    rows = rows_of(case, chosen.n)
    tuned = json.loads(TUNED.read_text()).get(case.rows, {}).get(f"{case.recall:g}", {})
    contenders: dict[str, Contender | None] = {}
    if chosen.only is None or OURS in chosen.only:
        contenders[OURS] = ours(rows, case, chosen)
        if chosen.methods:
            contenders |= {f"{OURS} method={method}": ours(rows, case, chosen, method) for method in METHODS}
    for peer in PEERS:
        wanted = chosen.only is None or peer in chosen.only
        if wanted and (peer in EXACT or peer in tuned):
            contenders[peer] = theirs(peer, rows, tuned, chosen)
    results = measure(rows, {key: one for key, one in contenders.items() if one is not None}, chosen)
    summed(results)
    level = negfast.simd_level()
    sampled = f"{SAMPLE:,} queries" if pairs_of(rows) > FULL_RECALL else "all queries"
    text = (
        f"case {name}: top-{K} at recall {case.recall:g}, {len(rows.queries):,} x {len(rows.corpus):,} rows, dim "
        f"{rows.corpus.shape[1]}{', self-join' if case.self_join else ''}, {chosen.threads} threads, level {level}\n"
        f"{rows.source}, dithered\n"
        f"seconds have the building of the index in them; recall by score, of {sampled}\n\n"
        f"{table(results, case.recall)}"
    )
    if any(result["scaled_from_queries"] for result in results.values()):
        text += f"\n\n~ built in full, searched {4 * SAMPLE:,} of the queries, those seconds scaled up"
    untuned = [peer for peer in PEERS if peer not in EXACT and peer not in tuned]
    if untuned and case.recall < 1.0:
        text += f"\n\nnot tuned for this case, and left out: {', '.join(untuned)}"
    planned = planner(results, case.recall)
    if planned:
        text += f"\n\nnegfast's own choice took {planned[0]:.2f} times as long as {planned[1]}, the best by name"
    record(
        f"{chosen.name or 'search'}-{name}",
        {
            "peer_libraries": peer_libraries(),
            "versions": versions("faiss-cpu", "hnswlib", "usearch", "pynndescent", "torch"),
            "case": name,
            "source": rows.source,
            "shape": [len(rows.queries), len(rows.corpus), rows.corpus.shape[1]],
            "k": K,
            "target_recall": case.recall,
            "threads": chosen.threads,
            "level": level,
            "recall_sample": sampled,
            "results": results,
        },
        text,
    )
    if results.get(OURS, {"recall": 1.0})["recall"] < case.recall:
        return f"case {name}: negfast's recall is {results[OURS]['recall']:.4f}"
    if planned and planned[0] > PLANNED_WITHIN:
        return f"case {name}: negfast's own choice took {planned[0]:.2f} times as long as {planned[1]}"
    return None


def main() -> None:
    chosen = options()
    pin(chosen.threads, chosen.level, chosen.peers)
    wrong = [problem for name in chosen.case if (problem := run_case(name, chosen))]
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
