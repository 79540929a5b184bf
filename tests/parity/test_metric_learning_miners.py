"""The miner beside those of pytorch-metric-learning that it stands for: the same tuples."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

with warnings.catch_warnings():  # what it warns of while it loads is its own
    warnings.simplefilter("ignore")
    pytest.importorskip("pytorch_metric_learning", exc_type=ImportError)
    import torch
    from pytorch_metric_learning import distances, miners

    from negfast.integrations.pytorch_metric_learning import NegfastMiner

DISTANCES: dict[str, Callable[[], Any]] = {
    "euclidean": distances.LpDistance,
    "squared": lambda: distances.LpDistance(power=2),
    "cosine": distances.CosineSimilarity,
    "dot": lambda: distances.DotProductSimilarity(normalize_embeddings=False),
    "raw": lambda: distances.LpDistance(normalize_embeddings=False),  # torch computes these
    "manhattan": lambda: distances.LpDistance(p=1, normalize_embeddings=False),
    "noise": distances.SNRDistance,
}
TYPES = ("all", "hard", "semihard", "easy")
Batch = tuple[torch.Tensor, ...]


def batch(n: int = 90, m: int = 0, dim: int = 16, classes: int = 20, seed: int = 0) -> Batch:
    """Return rows near the centres of their classes, and labels; with `m` rows to choose from, too."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=generator)
    sides = []
    for size in (n, m)[: 1 + (m > 0)]:
        labels = torch.randint(0, classes, (size,), generator=generator)
        sides += [centres[labels] + 0.8 * torch.randn(size, dim, generator=generator), labels]
    return tuple(sides)


def pairs(anchors: torch.Tensor, others: torch.Tensor) -> set[tuple[int, int]]:
    return set(zip(anchors.tolist(), others.tolist(), strict=True))


@pytest.mark.parametrize("given", [batch(), batch(m=130, seed=1), batch(n=50, classes=2, seed=2)])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", DISTANCES)
def test_all_triplets_of_a_type(name: str, kind: Any, given: Batch) -> None:
    theirs = miners.TripletMarginMiner(0.2, kind, distance=DISTANCES[name](), collect_stats=True)
    ours = NegfastMiner(0.2, kind, num_negatives=None, distance=DISTANCES[name](), collect_stats=True)
    expected, found = theirs(*given), ours(*given)
    assert len(expected[0]) > 5
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    for stat in ("num_triplets", "avg_triplet_margin", "pos_pair_dist", "neg_pair_dist"):
        assert getattr(ours, stat) == pytest.approx(getattr(theirs, stat), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("margin", [-2.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("kind", TYPES)
def test_the_same_side_of_every_edge(kind: Any, margin: float) -> None:
    """Products of small whole numbers are exact, so margins lie on the edges, many of them."""
    generator = torch.Generator().manual_seed(3)
    rows, labels = torch.randint(-2, 3, (80, 6), generator=generator).float(), torch.arange(80) % 9
    theirs = miners.TripletMarginMiner(margin, kind, distance=DISTANCES["dot"]())
    ours = NegfastMiner(margin, kind, num_negatives=None, distance=DISTANCES["dot"]())
    scores = rows @ rows.T
    same = labels[:, None] == labels
    margins = scores[:, :, None] - scores[:, None, :]
    on_edge = (margins == margin) & (same & ~torch.eye(80, dtype=torch.bool))[:, :, None] & ~same[:, None, :]
    assert on_edge.sum() > 1000
    expected = theirs(rows, labels)
    for given in (rows, rows.double()):  # torch computes the latter
        assert all(torch.equal(a, b) for a, b in zip(expected, ours(given, labels), strict=True))


@pytest.mark.parametrize("given", [batch(), batch(m=130, seed=1)])
@pytest.mark.parametrize("name", DISTANCES)
def test_the_hardest_of_a_batch(name: str, given: Batch) -> None:
    theirs = miners.BatchHardMiner(distance=DISTANCES[name]())(*given)
    ours = NegfastMiner(
        type_of_triplets="any", positives="hardest", num_negatives=1, distance=DISTANCES[name]()
    )(*given)  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("given", [batch(), batch(m=130, seed=1)])
@pytest.mark.parametrize("name", DISTANCES)
def test_easy_positives_and_semi_hard_negatives(name: str, given: Batch) -> None:
    theirs = miners.BatchEasyHardMiner("easy", "semihard", distance=DISTANCES[name]())(*given)
    ours = NegfastMiner(
        float("inf"), "semihard", positives="easiest", num_negatives=1, distance=DISTANCES[name]()
    )(*given)  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip((theirs[0], theirs[1], theirs[3]), ours, strict=True))


@pytest.mark.parametrize("given", [batch(), batch(m=130, seed=1)])
@pytest.mark.parametrize("name", DISTANCES)
def test_pairs_of_multi_similarity(name: str, given: Batch) -> None:
    theirs = miners.MultiSimilarityMiner(0.1, distance=DISTANCES[name]())(*given)
    ours = NegfastMiner(0.1, num_negatives=None, tuples="pairs", distance=DISTANCES[name]())(*given)
    assert pairs(*theirs[:2]) == pairs(*ours[:2])
    assert pairs(*theirs[2:]) == pairs(*ours[2:])
    assert all(len(a) == len(b) > 20 for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_few_negatives_are_the_closest_of_theirs(name: str) -> None:
    rows, labels = batch(seed=4)
    anchors, positives, negatives = miners.TripletMarginMiner(0.2, "semihard", distance=DISTANCES[name]())(rows, labels)
    distance = DISTANCES[name]()
    matrix = distance(rows) if not distance.is_inverted else -distance(rows)
    expected = {}
    for a, p, n in zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True):
        expected.setdefault((a, p), []).append((matrix[a, n].item(), n))
    ours = NegfastMiner(0.2, "semihard", num_negatives=3, distance=DISTANCES[name]())(rows, labels)
    found: dict[tuple[int, int], list[int]] = {}
    for a, p, n in zip(*(part.tolist() for part in ours), strict=True):
        found.setdefault((a, p), []).append(n)
    assert found == {pair: [n for _, n in sorted(list_)[:3]] for pair, list_ in expected.items()}


@pytest.mark.parametrize("labels", [torch.zeros(6, dtype=torch.long), torch.arange(6)])
def test_without_negatives_or_positives_there_is_nothing(labels: torch.Tensor) -> None:
    rows = batch(n=6)[0]
    for options in ({}, {"positives": "hardest"}, {"tuples": "pairs"}, {"num_negatives": None}):
        for distance in (DISTANCES["cosine"](), DISTANCES["raw"]()):
            miner = NegfastMiner(distance=distance, **options)
            for given in ((rows, labels), (rows, labels, rows[:0], labels[:0]), (rows[:0], labels[:0], rows, labels)):
                found = miner(*given)
                assert [part.tolist() for part in found] == [[]] * len(found)
                assert all(part.dtype == torch.int64 for part in found)
