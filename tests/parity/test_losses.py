"""The loss beside those of sentence-transformers and pytorch-metric-learning, and the published code of two papers."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import cosine_similarity, normalize

from negfast.torch import CurriculumLoss, Negatives

ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def rows(seed: int, *shapes: tuple[int, ...]) -> list[Any]:
    torch.manual_seed(seed)
    return [torch.randn(shape).requires_grad_() for shape in shapes]


def assert_same(ours: Any, theirs: Any, given: list[Any]) -> None:
    """Compare two losses, and their gradients for the same rows."""
    torch.testing.assert_close(ours, theirs)
    grads = [torch.autograd.grad(loss, given, retain_graph=True) for loss in (ours, theirs)]
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other)


def columns(n: int) -> Negatives:
    """Return n columns of negatives as sentence-transformers has them: of one anchor each, and shared by all."""
    b = len(n[0])
    index = torch.arange(len(n) * b).reshape(len(n), b).T
    return Negatives(torch.cat(list(n)), index=index)


CASES = [
    {},
    {"directions": ALL},
    {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
    {"directions": ("query_to_doc", "query_to_query")},
    {"directions": ("query_to_doc", "doc_to_doc")},
    {"hardness_mode": "all_negatives", "hardness_strength": 9.0},
    {"hardness_mode": "in_batch_negatives", "hardness_strength": 9.0, "directions": ALL},
    {"hardness_mode": "hard_negatives", "hardness_strength": 5.0, "directions": ("query_to_doc", "doc_to_query")},
]


@pytest.mark.parametrize("n_columns", [0, 1, 3])
@pytest.mark.parametrize("options", CASES)
def test_multiple_negatives_ranking(options: dict[str, Any], n_columns: int) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    given = rows(0, *[(16, 12)] * (2 + n_columns))
    theirs = losses.MultipleNegativesRankingLoss(None, scale=20.0, **options)
    negatives = [columns(given[2:])] if n_columns else None
    ours = CurriculumLoss(temperature=0.05, **options)(given[0], given[1], negatives)
    assert_same(ours, theirs.compute_loss_from_embeddings(given, None), given)


# With a column of negatives theirs compares positives with positives alone, ours with all documents.
CONTRASTS = [(a, b, n) for n in (0, 1) for a in (True, False) for b in (True, False) if not (n and b)]


@pytest.mark.parametrize("margin", [("absolute", 0.0), ("absolute", 0.1), ("relative", 0.05)])
@pytest.mark.parametrize(("contrast_anchors", "contrast_positives", "n_columns"), CONTRASTS)
def test_gist(
    margin: tuple[str, float], contrast_anchors: bool, contrast_positives: bool, n_columns: int, monkeypatch: Any
) -> None:
    gist = pytest.importorskip("sentence_transformers.sentence_transformer.losses.gist_embed")
    given, guided = rows(1, *[(16, 12)] * (2 + n_columns)), rows(2, *[(16, 5)] * (2 + n_columns))
    theirs = gist.GISTEmbedLoss.__new__(gist.GISTEmbedLoss)
    torch.nn.Module.__init__(theirs)
    vars(theirs).update(
        model=None,
        guide=None,
        temperature=0.01,
        must_retokenize=False,
        gather_across_devices=False,
        margin_strategy=margin[0],
        margin=margin[1],
        contrast_anchors=contrast_anchors,
        contrast_positives=contrast_positives,
        similarity_fct=torch.nn.CosineSimilarity(dim=-1),
        cross_entropy_loss=torch.nn.CrossEntropyLoss(),
    )
    answers = iter([given, guided])
    monkeypatch.setattr(gist, "embed_columns", lambda *_: next(answers))
    expected = theirs([{}] * len(given), None)

    directions = ["query_to_doc"]
    directions += ["query_to_query"] * contrast_anchors + ["doc_to_doc"] * contrast_positives
    negatives = [Negatives(given[2], guide=guided[2])] if n_columns else None
    loss = CurriculumLoss(temperature=0.01, directions=directions, **{f"{margin[0]}_margin": margin[1]})
    assert_same(loss(given[0], given[1], negatives, guide=guided[:2]), expected, given)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent(temperature: float) -> None:
    """A term for each positive pair, with the other positives left out, as for several positives here."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    n_classes, size = 5, 3
    [given] = rows(3, (n_classes * size, 8))
    labels = torch.arange(n_classes).repeat_interleave(size)
    theirs = losses.NTXentLoss(temperature=temperature)(given, labels)
    others = torch.tensor(
        [[j for j in range(len(given)) if labels[j] == labels[i] and j != i] for i in range(len(given))]
    )
    ours = CurriculumLoss(temperature=temperature, in_batch=False)(
        given, given[others], Negatives(given, keys=labels), anchor_keys=labels
    )
    assert_same(ours, theirs, [given])


@pytest.mark.parametrize("beta", [None, 0.5, 1.0])
def test_published_code_of_debiased_and_hard_negatives(beta: float | None) -> None:
    """As github.com/joshr17/HCL has both, over two views of each image; `beta` is in the scale of that code."""
    temperature, share, b = 0.5, 0.1, 12
    given = rows(4, (b, 8), (b, 8))
    first, second = (normalize(part) for part in given)
    out = torch.cat([first, second])
    neg = torch.exp(out @ out.T / temperature)
    mask = torch.ones_like(neg, dtype=torch.bool)
    for i in range(b):
        mask[i, [i, i + b]] = mask[i + b, [i, i + b]] = False
    neg = neg.masked_select(mask).view(2 * b, -1)
    pos = torch.exp((first * second).sum(-1) / temperature)
    pos = torch.cat([pos, pos])
    n = 2 * b - 2
    total = neg.sum(-1)
    if beta is not None:
        importance = (beta * neg.log()).exp()
        total = (importance * neg).sum(-1) / importance.mean(-1)
    ng = torch.clamp((-share * n * pos + total) / (1 - share), min=n * np.e ** (-1 / temperature))
    theirs = (-torch.log(pos / (pos + ng))).mean()

    loss = CurriculumLoss(
        temperature=temperature,
        debiased=share,
        hard_weighted=beta or 0.0,
        directions=("query_to_doc", "query_to_query"),
    )
    ours = (loss(given[0], given[1]) + loss(given[1], given[0])) / 2  # each view in turn
    assert_same(ours, theirs, given)


def test_arc_cse() -> None:
    """exp(cos(angle + margin) / temperature) in the numerator and, once, in the denominator."""
    given = rows(5, (10, 6), (10, 6))
    cosines = cosine_similarity(given[0][:, None], given[1][None], dim=-1)
    angles = torch.arccos(cosines.diagonal())
    positive = torch.cos(angles + np.radians(10.0)) / 0.05
    rest = (cosines / 0.05).masked_fill(torch.eye(10) > 0, -torch.inf).exp().sum(1)
    theirs = -(positive - (positive.exp() + rest).log()).mean()
    assert_same(CurriculumLoss(angular_margin=10.0)(*given), theirs, given)


def test_decoupled() -> None:
    """The positive is in the numerator alone."""
    given = rows(6, (10, 6), (10, 6))
    cosines = cosine_similarity(given[0][:, None], given[1][None], dim=-1) / 0.1
    rest = cosines.masked_fill(torch.eye(10) > 0, -torch.inf).logsumexp(1)
    theirs = (rest - cosines.diagonal()).mean()
    assert_same(CurriculumLoss(temperature=0.1, decoupled=True)(*given), theirs, given)


def test_attraction() -> None:
    """A weight of 1 is that of false negative cancellation, where false negatives are positives among others."""
    given = rows(7, (10, 6), (10, 6))
    cosines = cosine_similarity(given[0][:, None], given[1][None], dim=-1)
    false = cosines > 0.4
    false.fill_diagonal_(False)
    assert false.any()
    logits = cosines / 0.1
    rest = logits.masked_fill(false | (torch.eye(10) > 0), -torch.inf).exp().sum(1, keepdim=True)
    positive = false | (torch.eye(10) > 0)
    terms = -(logits - (logits.exp() + rest).log())
    theirs = ((terms * positive).sum(1) / positive.sum(1)).mean()
    assert_same(CurriculumLoss(temperature=0.1, max_score=0.4, soft_positives=1.0)(*given), theirs, given)
