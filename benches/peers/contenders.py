"""Top-k by the peers: each builds its index of a corpus, then searches it.

`build` and `search` are apart so that tuning builds once for many searches; what the table says is the time of both.
Parameters come from `tuned.json`, by names that the peers use. Import this after `bench.pin`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scaled import Rows

Floats = npt.NDArray[np.float32]
Found = tuple[Floats, npt.NDArray[np.int64]]  # scores and indices; what a peer found less of is -1
TORCH_CHUNK = 2048  # queries at a time; the block of scores is 0.5 GB at 63k rows, 4 GB at 500k


@dataclass(frozen=True)
class Peer:
    package: str
    build: Callable[..., Any]  # of corpus, threads and its parameters
    search: Callable[..., Found]  # of what was built, queries, k, threads and its parameters


def build_faiss(corpus: Floats, threads: int, *, factory: str, **clustering: int) -> Any:
    """Any index that faiss' factory makes; `clustering` is of the k-means of its lists."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.index_factory(corpus.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    for name, value in clustering.items():
        setattr(faiss.extract_index_ivf(index).cp, name, value)
    index.train(corpus)
    index.add(corpus)
    return index


def search_faiss(
    index: Any, queries: Floats, k: int, threads: int, *, nprobe: int | None = None, k_factor: float | None = None
) -> Found:
    """`nprobe` lists a query, and `k_factor * k` candidates of them scored again by the float32 rows."""
    import faiss

    faiss.omp_set_num_threads(threads)
    if nprobe is not None:
        faiss.extract_index_ivf(index).nprobe = nprobe
    if k_factor is not None:
        index.k_factor = k_factor
    return index.search(queries, k)


def build_torch(corpus: Floats, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return torch.from_numpy(corpus).T


def search_torch(transposed: Any, queries: Floats, k: int, threads: int) -> Found:
    import torch

    torch.set_num_threads(threads)
    scores, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    rows = torch.from_numpy(queries)
    for begin in range(0, len(queries), TORCH_CHUNK):
        end = min(begin + TORCH_CHUNK, len(queries))
        best = torch.topk(rows[begin:end] @ transposed, k, dim=1)
        scores[begin:end], indices[begin:end] = best.values.numpy(), best.indices.numpy()
    return scores, indices


def build_hnswlib(corpus: Floats, threads: int, *, M: int, ef_construction: int) -> Any:  # noqa: N803
    import hnswlib

    index = hnswlib.Index("ip", corpus.shape[1])
    index.init_index(len(corpus), M=M, ef_construction=ef_construction)
    index.add_items(corpus, num_threads=threads)
    return index


def search_hnswlib(index: Any, queries: Floats, k: int, threads: int, *, ef: int) -> Found:
    index.set_ef(ef)
    indices, distances = index.knn_query(queries, k, num_threads=threads)
    return 1 - distances, indices.astype(np.int64)


def build_usearch(corpus: Floats, threads: int, *, dtype: str, connectivity: int, expansion_add: int) -> Any:
    from usearch.index import Index

    index = Index(
        ndim=corpus.shape[1],
        metric="ip",
        dtype=dtype,
        connectivity=connectivity,
        expansion_add=expansion_add,
        enable_key_lookups=False,
    )
    index.add(np.arange(len(corpus)), corpus, threads=threads, copy=True)
    return index


def search_usearch(index: Any, queries: Floats, k: int, threads: int, *, expansion_search: int) -> Found:
    index.expansion_search = expansion_search
    found = index.search(queries, k, threads=threads)
    keys = found.keys.astype(np.int64)
    missing = np.arange(k) >= found.counts[:, None]
    return np.where(missing, -np.inf, 1 - found.distances), np.where(missing, -1, keys)


def build_pynndescent(
    corpus: Floats, threads: int, *, n_neighbors: int, pruning_degree_multiplier: float, diversify_prob: float
) -> Any:
    from pynndescent import NNDescent

    index = NNDescent(
        corpus,
        metric="dot",
        n_neighbors=n_neighbors,
        pruning_degree_multiplier=pruning_degree_multiplier,
        diversify_prob=diversify_prob,
        random_state=0,
        n_jobs=threads,
        parallel_batch_queries=threads > 1,
    )
    index.prepare()
    return index


def search_pynndescent(index: Any, queries: Floats, k: int, threads: int, *, epsilon: float) -> Found:
    import numba

    numba.set_num_threads(threads)
    indices, distances = index.query(queries, k, epsilon=epsilon)
    return 1 - distances, indices.astype(np.int64)


PEERS = {
    "faiss IndexFlatIP": Peer("faiss-cpu", build_faiss, search_faiss),
    "torch matmul + topk": Peer("torch", build_torch, search_torch),
    "faiss IVFFlat": Peer("faiss-cpu", build_faiss, search_faiss),
    "faiss PQ fast-scan + refine": Peer("faiss-cpu", build_faiss, search_faiss),
    "faiss RaBitQ fast-scan + refine": Peer("faiss-cpu", build_faiss, search_faiss),
    "hnswlib": Peer("hnswlib", build_hnswlib, search_hnswlib),
    "usearch": Peer("usearch", build_usearch, search_usearch),
    "pynndescent": Peer("pynndescent", build_pynndescent, search_pynndescent),
}
PYNNDESCENT = {"n_neighbors": 30, "pruning_degree_multiplier": 1.5, "diversify_prob": 1.0}
# They need no tuning, and are exact.
EXACT: dict[str, dict[str, Any]] = {"faiss IndexFlatIP": {"factory": "Flat"}, "torch matmul + topk": {}}


def warm_up(name: str, rows: Rows, k: int = 10) -> None:
    """Let a peer load and compile what it does once in a process: pynndescent compiles for a minute."""
    if PEERS[name].package in {"torch", "pynndescent"}:
        build, search = ({}, {}) if name in EXACT else (PYNNDESCENT, {"epsilon": 0.1})
        index = PEERS[name].build(rows.corpus[:2000], 2, **build)
        PEERS[name].search(index, rows.queries[:64], k, 2, **search)


def true_kth(queries: Floats, corpus: Floats, k: int, threads: int) -> Floats:
    """The k-th best score of each query, by IndexFlatIP."""
    index = build_faiss(corpus, threads, factory="Flat")
    return search_faiss(index, queries, k, threads)[0][:, -1].copy()


# Scores are sums of float32 in another order.
TOLERANCE = 1e-6


def recall(indices: npt.NDArray[np.int64], queries: Floats, corpus: Floats, kth: Floats) -> float:
    """Share of the places that hold a distinct row whose true score reaches the true k-th; ties are as good."""
    k = indices.shape[1]
    hits = 0
    for found, query, bound in zip(indices, queries, kth, strict=True):
        distinct = np.unique(found[found >= 0])
        hits += min(k, int((corpus[distinct] @ query >= bound - TOLERANCE).sum()))
    return hits / (k * len(queries))
