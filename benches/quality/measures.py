"""How good embeddings are: retrieval, geometry, clusters and probes. Metrics are those of well-kept libraries."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

import negfast

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
RETRIEVAL = ("nDCG@10", "RR@10", "R@100")
_DEPTH = 100  # of a ranking that is judged
_SMALL = 20  # rows of a group that nearly all groups have at most
_SAMPLE = 2000  # rows that geometry is measured on


def rankings(
    questions: Floats, corpus: Floats, right: Ints, groups: Ints, corpus_groups: Ints, *, threads: int
) -> tuple[Ints, Ints]:
    """Return the best rows of the corpus for each question, of all rows, and without others of its group.

    Parameters
    ----------
    right : int64 (n,), the row that answers each question
    groups, corpus_groups : int64, of questions and rows; each question's is that of some row

    Returns
    -------
    Two of int64 (n, 100), -1 for none
    """
    names, counts = np.unique(corpus_groups, return_counts=True)
    others = counts[np.searchsorted(names, groups)] - 1
    strict = np.full((len(questions), _DEPTH), -1, dtype=np.int64)
    aware = strict.copy()
    # Few groups are large, and so deep a search is only needed for those.
    for some in (np.flatnonzero(others <= _SMALL), np.flatnonzero(others > _SMALL)):
        found = negfast.topk(
            questions[some], corpus, _DEPTH + int(others[some].max(initial=0)), n_threads=threads
        ).indices
        left_out = (corpus_groups[found] == groups[some, None]) & (found != right[some, None])
        order = np.argsort(left_out, axis=1, kind="stable")[:, :_DEPTH]
        width = min(found.shape[1], _DEPTH)
        strict[some, :width] = found[:, :width]
        aware[some, :width] = np.where(
            np.take_along_axis(left_out, order, axis=1), -1, np.take_along_axis(found, order, axis=1)
        )
    return strict, aware


def judged(ranking: Ints, right: Ints) -> dict[str, Values]:
    """Return each measure for each question (ir_measures, S. MacAvaney et al., 2022, which runs trec_eval)."""
    import ir_measures

    judgements = {str(question): {str(row): 1} for question, row in enumerate(right.tolist())}
    answers = {
        str(question): {str(row): -float(rank) for rank, row in enumerate(rows) if row >= 0}
        for question, rows in enumerate(ranking.tolist())
    }
    wanted = [ir_measures.parse_measure(name) for name in RETRIEVAL]
    found = {name: np.zeros(len(right)) for name in RETRIEVAL}
    for value in ir_measures.iter_calc(wanted, judgements, answers):
        found[str(value.measure)][int(value.query_id)] = value.value
    return found


def geometry(queries: Floats, passages: Floats) -> dict[str, float]:
    """Return alignment and uniformity (T. Wang and P. Isola, 2020), and effective rank (O. Roy and M. Vetterli, 2007).

    Alignment is the mean squared distance of a query and its passage, uniformity the logarithm of the mean of
    ``exp(-2 d**2)`` over pairs of different passages; the lower both are, the better. Effective rank is the exponential
    of the entropy of the singular values of passages less their mean.
    """
    from scipy.spatial.distance import pdist

    some = np.random.default_rng(0).permutation(len(passages))[:_SAMPLE]
    spread = passages[some].astype(np.float64)
    values = np.linalg.svd(spread - spread.mean(axis=0), compute_uv=False)
    shares = values[values > 0] / values.sum()
    return {
        "alignment": float(((queries - passages) ** 2).sum(axis=1).mean()),
        "uniformity": float(np.log(np.exp(-2 * pdist(spread, "sqeuclidean")).mean())),
        "effective rank": float(np.exp(-(shares * np.log(shares)).sum())),
    }


def downstream(train: tuple[Floats, Ints], held_out: tuple[Floats, Ints]) -> dict[str, float]:
    """Return how well labels of held-out passages are found: by k-means, and by a linear probe of training ones."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import v_measure_score

    rows, labels = held_out
    clusters = KMeans(len(np.unique(labels)), n_init=1, random_state=0).fit_predict(rows)
    probe = LogisticRegression(C=10.0, max_iter=300).fit(*train)
    return {"V-measure": float(v_measure_score(labels, clusters)), "probe": float(probe.score(rows, labels))}


def means(found: Mapping[str, Values]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in found.items()}
