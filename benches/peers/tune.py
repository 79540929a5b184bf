"""Find the peers' parameters for the cases of `search.py`, and write them to `tuned.json`.

    python benches/peers/tune.py --rows pairs --recall 0.95 0.99
    python benches/peers/tune.py --rows large --recall 0.95 --only "faiss PQ fast-scan + refine"

Each peer has a grid. What it builds is built once; then each chain of search parameters is walked from cheap to dear
until the recall is reached. Recall is that of the sample of queries that `search.py` takes, cost is that of the whole
job: the build, and the search of `--queries` queries scaled up. The cheapest that reaches the recall wins, by processor
seconds over threads: those hold on a busy machine, and are the seconds of a quiet one as far as threads are kept busy.
Every trial is kept in `benches/results/tuning-<rows>.txt`.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench import RESULTS, machine, pin, versions
from cases import CASES, TUNED, K, picked, rows_of

Chain = list[dict[str, Any]]  # parameters of a search, from cheap to dear
Trial = dict[str, Any]
NPROBE = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
# The grid at each set of rows: nlist of IVF, by rows.
NLIST = {"pairs": (64, 256), "large": (512, 1024), "wide": (256,)}
TRAINING = {"niter": 5, "max_points_per_centroid": 64}  # less than by default, because building counts


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=list(NLIST), default="pairs")
    parser.add_argument("--recall", type=float, nargs="+", default=[0.95, 0.99])
    parser.add_argument("--only", nargs="+", help="peers to tune (default: all)")
    parser.add_argument("--match", default="", help="tune builds whose parameters hold this text")
    parser.add_argument("--queries", type=int, default=8000, help="queries that are timed (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=2000, help="queries whose recall is taken (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def probes(nlist: int, **rest: Any) -> Chain:
    return [{"nprobe": nprobe, **rest} for nprobe in NPROBE if nprobe < nlist]


def grid(peer: str, rows: str, dim: int) -> Iterator[tuple[dict[str, Any], list[Chain]]]:
    """What to build, and chains of what to search it with, from cheap to dear."""
    if peer == "faiss IVFFlat":
        for nlist in NLIST[rows]:
            yield {"factory": f"IVF{4 * nlist},Flat", **TRAINING}, [probes(4 * nlist)]
    elif peer == "faiss PQ fast-scan + refine":
        for m, ratios in (
            (dim // 4, (2, 2.5, 3, 3.5, 4, 5, 6, 8)),
            (dim // 3, (2, 2.25, 2.5, 3, 4)),
            (dim // 2, (1.5, 2, 2.25)),
        ):
            yield {"factory": f"PQ{m}x4fs,RFlat"}, [[{"k_factor": ratio} for ratio in ratios]]
        for nlist in NLIST[rows]:
            for m, ratios in ((dim // 4, (4, 6, 8)), (dim // 2, (2, 3, 4))):
                chains = [probes(nlist, k_factor=ratio) for ratio in ratios]
                yield {"factory": f"IVF{nlist},PQ{m}x4fs,RFlat", **TRAINING}, chains
    elif peer == "faiss RaBitQ fast-scan + refine":
        yield {"factory": "RaBitQfs,RFlat"}, [[{"k_factor": ratio} for ratio in (2, 3, 4, 6, 8)]]
        for nlist in NLIST[rows]:
            chains = [probes(nlist, k_factor=ratio) for ratio in (3, 5)]
            yield {"factory": f"IVF{nlist},RaBitQfs,RFlat", **TRAINING}, chains
    elif peer == "hnswlib":
        for m, ef_construction in {"pairs": ((16, 100), (24, 200)), "large": ((16, 100),), "wide": ((24, 200),)}[rows]:
            yield (
                {"M": m, "ef_construction": ef_construction},
                [[{"ef": ef} for ef in (100, 150, 200, 250, 300, 350, 400, 600, 900)]],
            )
    elif peer == "usearch":
        for expansion in {"pairs": (64, 128), "large": (64,), "wide": (128,)}[rows]:
            yield (
                {"dtype": "bf16", "connectivity": 16, "expansion_add": expansion},
                [[{"expansion_search": ef} for ef in (100, 150, 200, 250, 300, 350, 400, 600, 900)]],
            )
    elif peer == "pynndescent":
        tried = {"pairs": ((30, 1.5), (50, 2.0)), "large": ((30, 1.5),), "wide": ((50, 2.0),)}
        for n_neighbors, multiplier in tried[rows]:
            yield (
                {"n_neighbors": n_neighbors, "pruning_degree_multiplier": multiplier, "diversify_prob": 1.0},
                [[{"epsilon": epsilon} for epsilon in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)]],
            )


def cost(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, its processor seconds over threads, and its seconds by the clock."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    begin, busy = time.perf_counter(), time.process_time()
    result = run()
    return result, (time.process_time() - busy) / threads, time.perf_counter() - begin


def better(trial: Trial, other: Trial | None, target: float) -> bool:
    """The cheaper of those that reach the recall; while none does, the one that comes closest."""
    if other is None or other["recall"] < target:
        return other is None or trial["recall"] > other["recall"]
    return trial["recall"] >= target and trial["seconds"] < other["seconds"]


@dataclass
class Job:
    """What is searched, and what is known of it."""

    queries: Any
    corpus: Any
    kth: Any  # of the first queries, which are the sample
    scale: float  # all queries over those here
    threads: int
    targets: list[float]

    def walk(
        self,
        name: str,
        build: dict[str, Any],
        chains: list[Chain],
        best: dict[float, Trial],
        log: Callable[[str], None],
    ) -> None:
        """Build once and walk the chains; keep what is cheapest at each target in `best`."""
        from contenders import PEERS, recall

        peer, sample, hardest = PEERS[name], len(self.kth), max(self.targets)
        index, built, waited = cost(lambda: peer.build(self.corpus, self.threads, **build))
        for chain in chains:
            for search in chain:
                (_, indices), searched, more = cost(
                    lambda search=search: peer.search(index, self.queries, K, self.threads, **search)
                )
                got = recall(indices[:sample], self.queries[:sample], self.corpus, self.kth)
                total = built + searched * self.scale
                log(
                    f"{name}: {shown(build | search)}: recall {got:.4f}, {built:.1f} + {searched * self.scale:.1f} "
                    f"= {total:.1f} s, by the clock {waited + more * self.scale:.1f} s"
                )
                trial = {
                    "build": build,
                    "search": search,
                    "recall": got,
                    "seconds": round(total, 2),
                    "build_seconds": round(built, 2),
                }
                for target in self.targets:
                    if better(trial, best.get(target), target):
                        best[target] = trial
                # What follows is dearer.
                winner = best[hardest]
                if got >= hardest or (winner["recall"] >= hardest and total > 1.2 * winner["seconds"]):
                    break


def shown(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def keep(name: str, rows: str, best: dict[float, Trial], said: dict[str, Any], only_better: bool) -> None:
    """Write winners to `tuned.json`."""
    tuned = json.loads(TUNED.read_text()) if TUNED.exists() else {}
    tuned |= said
    for target, winner in best.items():
        at = tuned.setdefault(rows, {}).setdefault(f"{target:g}", {})
        if not only_better or better(winner, at.get(name), target):
            at[name] = winner
    TUNED.write_text(json.dumps(tuned, indent=2) + "\n")


def main() -> None:
    chosen = options()
    pin(chosen.threads)

    from contenders import EXACT, PEERS, true_kth, warm_up

    rows = rows_of(next(case for case in CASES.values() if case.rows == chosen.rows))
    queries = rows.queries[picked(len(rows.queries))[: chosen.queries]]
    kth = true_kth(queries[: chosen.sample], rows.corpus, K, chosen.threads)
    job = Job(queries, rows.corpus, kth, len(rows.queries) / len(queries), chosen.threads, chosen.recall)
    said = {"machine": machine(), "versions": versions(*sorted({peer.package for peer in PEERS.values()}))}
    trials = RESULTS / f"tuning-{chosen.rows}.txt"

    def log(text: str) -> None:
        print(text, flush=True)
        with trials.open("a") as lines:
            lines.write(text + "\n")

    shape = f"{len(rows.queries):,} x {len(rows.corpus):,} rows, dim {rows.corpus.shape[1]}"
    log(
        f"\n{time.strftime('%Y-%m-%d')}, {machine()['processor']}: {shape}, k {K}, "
        f"{chosen.threads} threads, recall {chosen.recall}; {len(queries):,} queries ran"
    )
    for name in PEERS:
        if name in EXACT or (chosen.only and name not in chosen.only):
            continue
        warm_up(name, rows)
        best: dict[float, Trial] = {}
        for build, chains in grid(name, chosen.rows, rows.corpus.shape[1]):
            if chosen.match in shown(build):
                job.walk(name, build, chains, best, log)
                # With --match, builds tried before still count.
                keep(name, chosen.rows, best, said, only_better=bool(chosen.match))
        for target in chosen.recall:
            if target in best:
                log(f"{name}, recall {target:g}: {shown(best[target])}{' (below)' * (best[target]['recall'] < target)}")


if __name__ == "__main__":
    main()
