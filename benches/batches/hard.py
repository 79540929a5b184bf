"""Hard batches: communities against METIS, hardness against k-means and random batches, and a million rows.

METIS gets the same graph, cut into as many parts as leave 32 rows a part or fewer, by both of its schemes; its best
counts, parts that are too large included. K-means is that of contextual document embeddings (J. Morris and A. Rush,
2024): spherical, on query and passage side by side in both orders, clusters of about a batch; what a cluster has
beyond whole batches is joined with what others have. Cleaned, its batches are dealt as communities are: rows that may
not meet leave their places to others.

A million rows are copies of the mined lists, joined by a tenth of their edges at random and numbered at random; the
denser set, of the lists of 62,500 clustered points in 8 dimensions.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import pin, record, versions

WIDTH = 100
COMMUNITY = 32


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 64, 512])
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--part", choices=["quality", "speed"], default="quality")
    return parser.parse_args()


def communities(lists: dict[str, Any], threads: int, rows: int) -> tuple[Any, float, float, float]:
    from negfast import _negfast

    conflicts = _negfast.batch_conflicts(rows, None, None)
    begin = time.perf_counter()
    found, (within, total) = _negfast.batch_communities(conflicts, lists, COMMUNITY, threads)
    return found, within, total, time.perf_counter() - begin


def lists_of(indices: Any, scores: Any, positive_scores: Any) -> dict[str, Any]:
    import numpy as np

    lists = {"anchors": np.arange(len(indices)), "indices": indices, "scores": scores}
    return lists | {"positive_scores": positive_scores, "margin": 0.05, "range_min": 0, "range_max": WIDTH}


def metis(lists: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Cut the graph of mutual edges; return weight within parts for each way of cutting."""
    import numpy as np
    import pymetis
    import scipy.sparse as sp

    n = len(lists["indices"])
    rows, columns = np.repeat(np.arange(n), WIDTH), lists["indices"].ravel()
    real = (columns >= 0) & (rows != columns)
    one = sp.csr_matrix((lists["scores"].ravel()[real], (rows[real], columns[real])), (n, n))
    graph = (one + one.T).multiply(one.astype(bool).multiply(one.T.astype(bool))).tocsr()
    graph = graph[:, np.flatnonzero(np.diff(graph.indptr))][np.flatnonzero(np.diff(graph.indptr))].tocsr()
    whole = np.maximum(1, np.round(graph.data * 500)).astype(int)
    ends = graph.tocoo()
    found = {}
    for rows_a_part in (30, 31, 32):
        for scheme, recursive, settings in [
            ("recursive", True, {}),
            ("recursive, more", True, {"ufactor": 10, "niter": 30, "ncuts": 2}),
            ("k-way", False, {}),
            ("k-way, looser", False, {"ufactor": 100}),
        ]:
            n_parts = graph.shape[0] // rows_a_part
            begin = time.perf_counter()
            _, part = pymetis.part_graph(
                n_parts,
                adjacency=pymetis.CSRAdjacency(graph.indptr, graph.indices),
                eweights=whole,
                recursive=recursive,
                options=pymetis.Options(seed=1, **settings),
            )
            part = np.array(part)
            sizes = np.bincount(part)
            within = float(ends.data[part[ends.row] == part[ends.col]].sum()) / 4
            found[f"{scheme}, {n_parts} parts"] = {
                "within": within,
                "seconds": time.perf_counter() - begin,
                "largest": int(sizes.max()),
                "rows_beyond": int((sizes - COMMUNITY).clip(0).sum()),
            }
    return found


def kmeans_batches(queries: Any, passages: Any, size: int) -> list[Any]:
    import faiss
    import numpy as np

    rng = np.random.default_rng(0)
    both = np.concatenate([queries, passages], axis=1)
    turned = np.concatenate([passages, queries], axis=1)
    model = faiss.Kmeans(both.shape[1], len(queries) // size, niter=20, spherical=True, seed=1)
    model.train(np.concatenate([both, turned]))
    nearest = model.index.search(both, 1)[1][:, 0]
    whole, rest = [], []
    for cluster in rng.permutation(len(queries) // size):
        rows = rng.permutation(np.flatnonzero(nearest == cluster))
        cut = len(rows) // size * size
        whole += list(rows[:cut].reshape(-1, size))
        rest.append(rows[cut:])
    left = np.concatenate(rest)
    return whole + list(left[: len(left) // size * size].reshape(-1, size))


def cleaned(batches: list[Any], n: int, size: int, labels: dict[str, Any], random_share: float) -> list[Any]:
    """Return batches with the rows of these, as many as may meet, and of others."""
    import numpy as np

    from negfast import _negfast, inputs

    together = np.arange(n)
    for batch in batches:
        together[batch] = batch.min()
    conflicts = _negfast.batch_conflicts(n, *(inputs.labels(name, labels[name]) for name in ("keys", "groups")))
    sizes = _negfast.batch_sizes(conflicts, size, 1, True, 0)
    nobody = np.empty(0, dtype=np.int64)
    rows = _negfast.batch_epoch(conflicts, sizes, 1, nobody, (together, random_share), 0, 0)[0]
    return np.split(rows, np.cumsum(sizes[0])[:-1])


def measure(batches: list[Any], queries: Any, passages: Any, keys: Any, groups: Any) -> dict[str, float]:
    """Mean best score in the batch: of any other passage, and of one that is a negative; rows with a false negative."""
    import numpy as np

    every, allowed, false = [], [], 0
    for batch in batches:
        scores = queries[batch] @ passages[batch].T
        own = np.diag(scores).copy()
        np.fill_diagonal(scores, -1.0)
        every.append(scores.max(axis=1))
        bad = groups[batch][:, None] == groups[batch][None, :]
        bad |= (keys[batch][:, None, :, None] == keys[batch][None, :, None, :]).any(axis=(2, 3))
        np.fill_diagonal(bad, False)
        false += int(bad.any(axis=1).sum())
        bad |= scores > (own - np.abs(own) * 0.05)[:, None]
        allowed.append(np.where(bad, -1.0, scores).max(axis=1))
    n = sum(map(len, batches))
    return {
        "best": float(np.concatenate(every).mean()),
        "best_allowed": float(np.concatenate(allowed).mean()),
        "rows_with_false_negatives": false / n,
    }


def quality(chosen: argparse.Namespace) -> None:
    import numpy as np
    import pyarrow.parquet

    import negfast
    from data import ROOT, load
    from negfast.torch import HardBatchSampler

    pairs = load()
    n, positives = len(pairs), np.arange(len(pairs))
    folder = Path(os.environ.get("NEGFAST_BENCH_DATA") or ROOT.parent / "shared" / "data")
    column = pyarrow.parquet.read_table(folder / "package_pairs.parquet", columns=["group"])["group"].to_pylist()
    groups = np.unique(np.array(column), return_inverse=True)[1]
    keys = negfast.content_keys([pairs.query_texts, pairs.corpus_texts])
    plain = negfast.mine(pairs.queries, pairs.corpus, positives, num_negatives=WIDTH)
    lists = lists_of(plain.indices, plain.scores, plain.positive_scores)
    _, within, total, seconds = communities(lists, chosen.threads, n)
    cut = metis(lists)
    best = max(cut.values(), key=lambda way: way["within"])
    lines = [f"weight within communities of {COMMUNITY}, of {total:,.0f} in all mutual edges"]
    lines.append(f"{'negfast':<34} {within:10,.0f}  {seconds:6.2f} s  largest {COMMUNITY}")
    for name, way in cut.items():
        lines.append(
            f"{'METIS ' + name:<34} {way['within']:10,.0f}  {way['seconds']:6.2f} s  largest {way['largest']}, "
            f"{way['rows_beyond']} rows beyond {COMMUNITY}"
        )
    lines.append(f"negfast has {within / best['within']:.3f} of the best of METIS")
    apart = negfast.mine(
        pairs.queries, pairs.corpus, positives, num_negatives=WIDTH, keys=(keys, keys[:, 1]), groups=(groups, groups)
    )
    ceiling = float(apart.scores[:, 0][apart.indices[:, 0] >= 0].mean())
    labels = {"keys": keys, "groups": groups}
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for size in chosen.batch:
        clusters = kmeans_batches(pairs.queries, pairs.corpus, size)
        contenders = {
            "shuffled": list(np.random.default_rng(0).permutation(n)[: n // size * size].reshape(-1, size)),
            "k-means": clusters,
            "k-means, cleaned": cleaned(clusters, n, size, labels, 0.1),
            "same, no random rows": cleaned(clusters, n, size, labels, 0.0),
            "random, clean": list(HardBatchSampler(n, size, **labels)),
            "hard, clean": list(HardBatchSampler(n, size, **labels, mined=apart)),
            "hard, keys only": list(HardBatchSampler(n, size, keys=keys, mined=plain)),
            "hard, no random rows": list(HardBatchSampler(n, size, **labels, mined=apart, random_share=0.0)),
        }
        rows = {
            name: measure(batches, pairs.queries, pairs.corpus, keys, groups) for name, batches in contenders.items()
        }
        measured[str(size)] = rows
        base = rows["shuffled"]["best_allowed"]
        gain = rows["k-means"]["best_allowed"] - base
        lines.append(
            f"\nbatches of {size}: mean best score in the batch (of all negatives in the corpus {ceiling:.3f})"
        )
        lines.append(f"{'':<24} {'any':>6} {'negative':>9} {'gain, of k-means':>17} {'rows with a false negative':>28}")
        for name, row in rows.items():
            lines.append(
                f"{name:<24} {row['best']:6.3f} {row['best_allowed']:9.3f} {(row['best_allowed'] - base) / gain:17.2f} "
                f"{row['rows_with_false_negatives']:28.2%}"
            )
        lines.append(f"{'all of the corpus':<24} {'':>6} {ceiling:9.3f} {(ceiling - base) / gain:17.2f}")
    result = {"versions": versions("pymetis", "faiss-cpu", "scipy"), "source": pairs.source, "metis": cut}
    result |= {"within": within, "total": total, "ceiling": ceiling, "batches": measured}
    record("batches-hard", result, "\n".join(lines))


def joined_copies(indices: Any, scores: Any, positive_scores: Any, copies: int) -> dict[str, Any]:
    """Copies of lists whose edges go from copy to copy, a tenth of them, the same way from both ends."""
    import numpy as np

    n = len(indices)
    number = np.random.default_rng(1).permutation(n * copies)
    made = np.empty((n * copies, WIDTH), np.int64)
    repeated = np.empty((n * copies, WIDTH), np.float32)
    positives = np.empty(n * copies, np.float32)
    own = np.arange(n)[:, None]
    low, high = np.minimum(own, indices), np.maximum(own, indices)
    mixed = (low * 2654435761 + high * 40503 + 12345) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) & 0xFFFFFFFF
    mixed ^= mixed >> 13
    shift = np.where(mixed % 10 == 0, (mixed >> 8) % copies, 0) * np.where(own < indices, 1, -1)
    for copy in range(copies):
        rows = number[copy * n : (copy + 1) * n]
        made[rows] = number[(copy + shift) % copies * n + indices]
        repeated[rows], positives[rows] = scores, positive_scores
    return lists_of(made, repeated, positives)


def speed(chosen: argparse.Namespace) -> None:
    import numpy as np

    import negfast
    from data import load

    pairs = load()
    mined = negfast.mine(pairs.queries, pairs.corpus, np.arange(len(pairs)), num_negatives=WIDTH)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((600, 8))[rng.integers(0, 600, 62_500)] + 0.5 * rng.standard_normal((62_500, 8))
    near = negfast.topk(points.astype(np.float32), points.astype(np.float32), WIDTH + 1)
    unknown = np.full(62_500, np.nan, np.float32)
    sets = {
        "as mined": (mined.indices, mined.scores, mined.positive_scores),
        "8 dimensions": (near.indices[:, 1:].copy(), near.scores[:, 1:].copy(), unknown),
    }
    lines, results = [], {}
    for name, (indices, scores, positive_scores) in sets.items():
        lists = joined_copies(indices, scores, positive_scores, chosen.copies)
        n = len(lists["indices"])
        _, within, total, seconds = communities(lists, chosen.threads, n)
        results[name] = {"rows": n, "seconds": seconds, "within": within / total}
        lines.append(
            f"{name:<14} {n:,} rows x {WIDTH}, {chosen.threads} threads: {seconds:6.2f} s, {within / total:.3f} within"
        )
    record("batches-million", {"versions": versions(), "sets": results}, "\n".join(lines))


def main() -> None:
    chosen = options()
    pin(chosen.threads)
    quality(chosen) if chosen.part == "quality" else speed(chosen)


if __name__ == "__main__":
    main()
