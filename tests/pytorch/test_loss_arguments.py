"""What the loss and its parts refuse, and what a batch of the collator becomes."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import cross_entropy, normalize

import negfast
from negfast.torch import (
    CurriculumLoss,
    MinedRows,
    Negatives,
    NegativeSampler,
    NegativesCollator,
    NegativesDataset,
    UniformRows,
    infonce,
    mask_false_negatives,
    weight_negatives,
)

Type, Value = negfast.InvalidTypeError, negfast.InvalidValueError
A, P, N = torch.randn(4, 3), torch.randn(4, 3), torch.randn(5, 3)
INTS = torch.zeros(4, dtype=torch.int64)
LOSS = CurriculumLoss()
GUARDED = CurriculumLoss(relative_margin=0.0)


def stage(**values: Any) -> Any:
    """Return a curriculum that always says this."""
    return SimpleNamespace(at=lambda step: SimpleNamespace(**values))  # noqa: ARG005


def collated() -> Any:
    return NegativesCollator()([])


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "anchors as a list": (lambda: LOSS([1.0], P), Type, "anchors must be a tensor of floats, got list"),
    "anchors of integers": (lambda: LOSS(A.long(), P), Type, "anchors must be a tensor of floats, got torch.int64"),
    "flat anchors": (lambda: LOSS(A[0], P), Value, "anchors must be of shape (b, dim), got (3,)"),
    "fewer positives": (
        lambda: LOSS(A, P[:3]),
        Value,
        "positives must be of shape (4, 3) or (4, n_positives, 3), got (3, 3)",
    ),
    "another dim": (lambda: LOSS(A, P[:, :2]), Value, "positives must be of shape (4, 3)"),
    "no positives": (lambda: LOSS(A, P[:, None][:, :0]), Value, "got (4, 0, 3); give each anchor its positives"),
    "negatives as rows": (
        lambda: LOSS(A, P, N),
        Type,
        "negatives must be a Negatives, a NegativesBatch or a list of them, got Tensor",
    ),
    "two batches": (lambda: LOSS(A, P, [collated(), collated()]), Value, "at most one NegativesBatch, got 2"),
    "a batch of others": (
        lambda: LOSS(A, P, collated()),
        Value,
        "anchors must be the 0 of the NegativesBatch, got 4 rows",
    ),
    "negatives of another dim": (
        lambda: LOSS(A, P, Negatives(N[:, :2])),
        Value,
        "rows of negatives must be of shape (n, 3) or (4, m, 3), got (5, 2)",
    ),
    "negatives of others": (
        lambda: LOSS(A, P, [Negatives(N), Negatives(N[:, None])]),
        Value,
        "rows of negatives[1] must be of shape (n, 3) or (4, m, 3), got (5, 1, 3)",
    ),
    "an index of others": (
        lambda: LOSS(A, P, Negatives(N, index=INTS[:2, None])),
        Value,
        "index of negatives must have a row for each of the 4 anchors, got 2",
    ),
    "a mask of others": (
        lambda: LOSS(A, P, Negatives(N, mask=torch.ones(2, 5) > 0)),
        Value,
        "mask of negatives must have a row for each of the 4 anchors, got 2",
    ),
    "a float mask": (
        lambda: LOSS(A, P, mask=torch.ones(4, 4)),
        Type,
        "mask must be a tensor of torch.bool, got torch.float32",
    ),
    "a small mask": (lambda: LOSS(A, P, mask=torch.ones(4, 3) > 0), Value, "mask must be of shape (4, 4), got (4, 3)"),
    "ids of int32": (
        lambda: LOSS(A, P, positive_ids=INTS.int()),
        Type,
        "positive_ids must be a tensor of torch.int64, got torch.int32",
    ),
    "ids of others": (lambda: LOSS(A, P, anchor_ids=INTS[:2]), Value, "anchor_ids must be of shape (4,), got (2,)"),
    "flat known positives": (
        lambda: LOSS(A, P, known_positives=INTS),
        Value,
        "known_positives must be of shape (4, most), padded with -1, got (4,)",
    ),
    "weights of others": (
        lambda: LOSS(A, P, in_batch_log_weight=torch.ones(3)),
        Value,
        "in_batch_log_weight must be of shape (4, 1), got (3,)",
    ),
    "a temperature that cannot be learned": (
        lambda: CurriculumLoss(temperature=0.005, learnable_temperature=True),
        Value,
        "temperature must be at least 0.01 with learnable_temperature, got 0.005; start from 0.07",
    ),
    "a guide without a bound": (
        lambda: LOSS(A, P, guide=(A, P)),
        Value,
        "guide needs relative_margin, absolute_margin or max_score, which say what is a false negative",
    ),
    "a guide without a bound of the curriculum": (
        lambda: CurriculumLoss(stage(temperature=0.1, relative_margin=None, hardness_strength=0.0))(
            A, P, step=0, guide=(A, P)
        ),
        Value,
        "guide needs relative_margin",
    ),
    "mined scores without a bound": (
        lambda: LOSS(A, P, mined_positive_scores=A[:, 0]),
        Value,
        "mined_positive_scores needs relative_margin",
    ),
    "scores of nobody": (lambda: Negatives(N, scores=N[:, 0]), Value, "scores must come with index beside shared rows"),
    "mask of three axes": (
        lambda: Negatives(N, mask=torch.ones(1, 4, 5, dtype=torch.bool)),
        Value,
        "mask must be of shape (5,) or (n_anchors, n), got (1, 4, 5)",
    ),
    "a weight of NaN": (
        lambda: LOSS(A, P, Negatives(N, log_weight=torch.tensor([0.0, torch.nan, 0.0, 0.0, 0.0]))),
        Value,
        "log_weight of negatives[0] must be finite, or -inf for none, got nan at 1",
    ),
    "an infinite weight in the batch": (
        lambda: LOSS(A, P, in_batch_log_weight=torch.full((4,), torch.inf)),
        Value,
        "in_batch_log_weight must be finite, or -inf for none, got inf at (0, 0)",
    ),
    "a place beyond the rows": (
        lambda: LOSS(A, P, Negatives(N, index=torch.tensor([[0], [1], [5], [-1]]))),
        Value,
        "index of negatives[0] must be places in its 5 rows, or -1 for none, got 5 at (2, 0)",
    ),
    "soft positives of another shape": (
        lambda: infonce(A[:, 0], A, soft_positives=1.0, soft_positive_logits=A.T),
        Value,
        "soft_positive_logits must be of shape (4, 3), got (3, 4)",
    ),
    "soft positives without logits": (
        lambda: infonce(A[:, 0], A, soft_positives=1.0),
        Value,
        "soft_positives and soft_positive_logits must be given together, got 1.0 and None",
    ),
    "logits of soft positives without a weight": (
        lambda: infonce(A[:, 0], A, soft_positive_logits=A),
        Value,
        "soft_positives and soft_positive_logits must be given together, got 0.0 and some",
    ),
    "infonce at no temperature": (
        lambda: infonce(A[:, 0], A, debiased=0.1, temperature=0.0),
        Value,
        "temperature must be above 0, got 0.0",
    ),
    "several temperatures": (
        lambda: weight_negatives(A, temperature=torch.ones(3)),
        Value,
        "temperature must be one number, got shape (3,)",
    ),
    "positive_mask of numbers": (
        lambda: infonce(A[:, 0], A, positive_mask=INTS),
        Type,
        "positive_mask must be a tensor of torch.bool, got torch.int64",
    ),
    "positive_mask of another shape": (
        lambda: infonce(A[:, 0], A, positive_mask=A > 0.0),
        Value,
        "positive_mask must be of shape (4,), got (4, 3)",
    ),
    "log_count of another shape": (
        lambda: infonce(A[:, 0], A, debiased=0.1, temperature=0.1, log_count=A),
        Value,
        "log_count must be of shape (4, 1)",
    ),
    "mask of numbers": (
        lambda: weight_negatives(A, mask=A),
        Type,
        "mask must be a tensor of torch.bool, got torch.float32",
    ),
    "mask of another shape": (
        lambda: weight_negatives(A, mask=A.T > 0.0),
        Value,
        "mask must broadcast to shape (4, 3), got (3, 4)",
    ),
    "log_weight as a list": (
        lambda: weight_negatives(A, log_weight=[0.0]),
        Type,
        "log_weight must be a tensor of floats, got list",
    ),
    "one guide": (lambda: GUARDED(A, P, guide=A), Type, "guide must be a pair of tensors"),
    "a guide of others": (
        lambda: GUARDED(A, P, guide=(A, P[:2])),
        Value,
        "guide must be of shapes (4, guide_dim) and (4, 1, guide_dim), got (4, 3) and (2, 3)",
    ),
    "two guides": (
        lambda: GUARDED(A, P, Negatives(N, guide=N[:, :2]), guide=(A, P)),
        Value,
        "guide of negatives must have rows of 3 elements",
    ),
    "nothing to compare with": (
        lambda: CurriculumLoss(in_batch=False)(A, P),
        Value,
        "negatives must be given with in_batch=False",
    ),
    "no step": (lambda: CurriculumLoss(stage(temperature=1))(A, P), Type, "step must be given with a curriculum"),
    "half a stage": (
        lambda: CurriculumLoss(stage(temperature=1))(A, P, step=0),
        Type,
        "curriculum.at(step) must return an object with temperature, relative_margin and hardness_strength",
    ),
    "a cold stage": (
        lambda: CurriculumLoss(stage(temperature=0.0, relative_margin=None, hardness_strength=0.0))(A, P, step=0),
        Value,
        "temperature of the stage must be above 0, got 0.0",
    ),
    "a NaN anchor": (
        lambda: LOSS(A.index_fill(0, torch.tensor([2]), torch.nan), P),
        Value,
        "anchors must be finite, got NaN or infinity in row 2",
    ),
    "an infinite positive": (
        lambda: LOSS(A, P.index_fill(0, torch.tensor([1]), torch.inf)),
        Value,
        "positives must be finite, got NaN or infinity in row (1, 0)",
    ),
    "a NaN negative": (
        lambda: LOSS(A, P, Negatives(N / 0 * 0, source="bank")),
        Value,
        "rows of negatives[0] ('bank') must be finite, got NaN or infinity in row 0",
    ),
    "scores that overflow": (
        lambda: CurriculumLoss(metric="dot")(A * 1e30, P * 1e30),
        Value,
        "scores must be finite, got NaN or infinity where rows are finite",
    ),
    # settings
    "no temperature": (lambda: CurriculumLoss(temperature=0.0), Value, "temperature must be above 0, got 0.0"),
    "a metric": (lambda: CurriculumLoss(metric="euclidean"), Value, "metric must be 'cosine' or 'dot'"),
    "a direction as it is": (
        lambda: CurriculumLoss(directions="query_to_doc"),
        Type,
        "directions must be a tuple of names, got 'query_to_doc'",
    ),
    "another direction": (
        lambda: CurriculumLoss(directions=("query_to_doc", "up")),
        Value,
        "directions must be distinct names among",
    ),
    "a direction twice": (
        lambda: CurriculumLoss(directions=("query_to_doc",) * 2),
        Value,
        "directions must be distinct names among",
    ),
    "without positives": (
        lambda: CurriculumLoss(directions=("doc_to_query",)),
        Value,
        "directions must include 'query_to_doc'",
    ),
    "a loss below 0": (
        lambda: CurriculumLoss(directions=("query_to_doc", "query_to_query"), partition_mode="per_direction"),
        Value,
        'partition_mode must be "joint" with the direction \'query_to_query\', got "per_direction"',
    ),
    "directions without a batch": (
        lambda: CurriculumLoss(directions=("query_to_doc", "doc_to_query"), in_batch=False),
        Value,
        "directions must be ('query_to_doc',) with in_batch=False",
    ),
    "gathering without a batch": (
        lambda: CurriculumLoss(in_batch=False, gather_across_devices=True),
        Value,
        "gather_across_devices must be False with in_batch=False",
    ),
    "debiased products": (
        lambda: CurriculumLoss(metric="dot", debiased=0.1),
        Value,
        'debiased must be 0 with metric="dot", got 0.1',
    ),
    "an angle of products": (
        lambda: CurriculumLoss(metric="dot", angular_margin=10),
        Value,
        'angular_margin must be 0 with metric="dot", got 10.0',
    ),
    "half a turn": (lambda: CurriculumLoss(angular_margin=180), Value, "angular_margin must be below 180 degrees"),
    "all false": (lambda: CurriculumLoss(debiased=1.0), Value, "debiased must be below 1, got 1.0"),
    "a negative beta": (lambda: CurriculumLoss(hard_weighted=-1.0), Value, "hard_weighted must be at least 0"),
    "a negative margin": (lambda: CurriculumLoss(relative_margin=-0.1), Value, "relative_margin must be at least 0"),
    "soft and debiased": (
        lambda: CurriculumLoss(soft_positives=0.5, debiased=0.1, max_score=0.9),
        Value,
        "debiased must be 0 with soft_positives, got 0.1",
    ),
    "soft without a bound": (
        lambda: CurriculumLoss(soft_positives=0.5),
        Value,
        "soft_positives needs relative_margin, absolute_margin or max_score",
    ),
    "a bare curriculum": (lambda: CurriculumLoss(0.05), Type, "curriculum must have a method at(step), got float 0.05"),
    "two temperatures": (
        lambda: CurriculumLoss(stage(), temperature=0.1),
        Value,
        "temperature must be left out with a curriculum, which says it, got 0.1",
    ),
    "two margins": (
        lambda: CurriculumLoss(stage(), relative_margin=0.1),
        Value,
        "relative_margin must be left out with a curriculum",
    ),
    "a curriculum and a parameter": (
        lambda: CurriculumLoss(stage(), learnable_temperature=True),
        Value,
        "learnable_temperature must be False with a curriculum",
    ),
    "a flag of 1": (lambda: CurriculumLoss(decoupled=1), Type, "decoupled must be True or False"),
    "a hardness mode": (lambda: CurriculumLoss(hardness_mode="all"), Value, "hardness_mode must be 'all_negatives' or"),
    # negatives
    "rows of one axis": (
        lambda: Negatives(N[0]),
        Value,
        "rows of negatives must be of shape (n, dim) or (n_anchors, m, dim), got (3,)",
    ),
    "rows of integers": (
        lambda: Negatives(N.long()),
        Type,
        "rows of negatives must be a tensor of floats, got torch.int64",
    ),
    "ids of another shape": (
        lambda: Negatives(N, INTS),
        Value,
        "ids must be of shape (5,) beside rows of shape (5, 3), got (4,)",
    ),
    "a weight of another shape": (
        lambda: Negatives(N, index=INTS[:, None], log_weight=torch.ones(5)),
        Value,
        "log_weight must be of shape (4, 1) beside rows of shape (5, 3) and this index, got (5,)",
    ),
    "an index of own rows": (
        lambda: Negatives(N[:, None], index=INTS[:, None]),
        Value,
        "index must be of shape (n_anchors, m) and beside shared rows",
    ),
    "a mask of another shape": (
        lambda: Negatives(N, mask=INTS > 0),
        Value,
        "mask must be of shape (5,) or (n_anchors, n), got (4,)",
    ),
    "a guide of another shape": (
        lambda: Negatives(N, guide=P),
        Value,
        "guide must be of shape (5, 'guide_dim'), got (4, 3)",
    ),
    "a source of 3": (lambda: Negatives(N, source=3), Type, "source must be a str, got 3"),
    "other documents": (
        lambda: Negatives.from_batch(collated(), N),
        Value,
        "documents must be of shape (0, dim), the positives and then the negatives of the batch, got (5, 3)",
    ),
    # parts
    "flat scores": (
        lambda: mask_false_negatives(A[0], A[0]),
        Value,
        "scores must be of shape (n_anchors, n), got (3,)",
    ),
    "positive scores of others": (
        lambda: mask_false_negatives(A, A[:2, 0]),
        Value,
        "positive_scores must be of shape (4,) or (4, n_positives), got (2,)",
    ),
    "a positive mask of others": (
        lambda: mask_false_negatives(A, A, positive_mask=A[:, :2] > 0),
        Value,
        "positive_mask must be of shape (4, 3), as positive_scores, got (4, 2)",
    ),
    "weights at 0": (lambda: weight_negatives(A, temperature=0.0), Value, "temperature must be above 0, got 0.0"),
    "weights of ids": (lambda: weight_negatives(INTS), Type, "scores must be a tensor of floats"),
    "logits of others": (
        lambda: infonce(A[:, 0], N),
        Value,
        "negative_logits must be of shape (4, n) or (4, 1, n), got (5, 3)",
    ),
    "three axes of positives": (
        lambda: infonce(A[None], N),
        Value,
        "positive_logits must be of shape (n_anchors,) or (n_anchors, n_positives), got (1, 4, 3)",
    ),
    "a bias without a temperature": (
        lambda: infonce(A[:, 0], A, debiased=0.1),
        Value,
        "temperature must be given with debiased",
    ),
    "a reduction": (lambda: infonce(A[:, 0], A, reduction="sum"), Value, "reduction must be 'mean' or 'none'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    make, kind, message = BAD[name]
    with pytest.raises(kind, match=re.escape(message)) as caught:
        make()
    assert isinstance(caught.value, negfast.NegfastError)


@pytest.mark.parametrize("what", ["positives", "negatives"])
def test_other_devices(what: str) -> None:
    elsewhere = torch.empty(4, 3, device="meta")
    with pytest.raises(Value, match="must be on cpu, as the rest, got meta; move it there"):
        LOSS(A, elsewhere) if what == "positives" else LOSS(A, P, Negatives(elsewhere))


def test_nan_passes_where_nobody_looks() -> None:
    """As on a device: the loss is NaN, which a gradient scaler can see."""
    bad = A.index_fill(0, torch.tensor([0]), torch.nan)
    assert CurriculumLoss(check_finite=False)(bad, P).isnan()


def test_a_stage_leads_the_loss() -> None:
    led = CurriculumLoss(
        SimpleNamespace(
            at=lambda step: SimpleNamespace(
                temperature=0.1 / (1 + step), relative_margin=0.2 * step, hardness_strength=step
            )
        )
    )
    for step in (0, 3):
        fixed = CurriculumLoss(temperature=0.1 / (1 + step), relative_margin=0.2 * step, hardness_strength=step)
        assert torch.equal(led(A, P, Negatives(N), step=step), fixed(A, P, Negatives(N)))
    assert led.state_dict() == {}


def test_config_is_plain() -> None:
    config = CurriculumLoss(
        directions=["doc_to_query", "query_to_doc"], relative_margin=np.float32(0.5)
    ).get_config_dict()
    assert json.loads(json.dumps(config)) == config
    assert config["directions"] == ["query_to_doc", "doc_to_query"] and config["relative_margin"] == 0.5
    assert CurriculumLoss(**config).get_config_dict() == config
    led = CurriculumLoss(SimpleNamespace(at=lambda step: step, to_dict=lambda: {"temperature": 0.5})).get_config_dict()
    assert led["curriculum"] == {"temperature": 0.5} and "temperature" not in led
    assert "in_batch=True" in repr(CurriculumLoss())


@pytest.mark.parametrize("label", [-2, -(2**63)])
def test_labels_below_none_are_labels(label: int) -> None:
    labels, others = torch.tensor([label, label, 5, -1]), torch.tensor([label, -1, 5, -3, -2])
    for name in ("groups", "keys", "ids"):
        shifted = {f"positive_{name}": labels.where(labels == -1, labels + 2**62)}
        negative = Negatives(N, **{name: others.where(others == -1, others + 2**62)})
        expected = LOSS(A, P, negative, **shifted)
        assert torch.equal(LOSS(A, P, Negatives(N, **{name: others}), **{f"positive_{name}": labels}), expected)
    own = torch.tensor([[-2, -1]] * 4)
    padded = LOSS(A, P, Negatives(torch.stack([P, N[:4]], dim=1), own, source="bank"))
    assert torch.equal(padded, LOSS(A, P, Negatives(P[:, None])))


def drawn() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((60, 8), dtype=np.float32)
    queries = corpus[:20] + 0.3 * rng.standard_normal((20, 8), dtype=np.float32)
    positives = np.arange(20)
    mined = negfast.mine(queries, corpus, positives, num_negatives=10)
    sampler = NegativeSampler(
        [MinedRows(mined), UniformRows(60)],
        num_negatives=4,
        probabilities={"hard": 0.3, "semi_hard": 0.3, "easy": 0.2},
        min_random=0.25,
        positives=positives,
    )
    dataset = NegativesDataset([(f"q{i}", f"d{i}") for i in range(20)], sampler, [f"d{i}" for i in range(60)])
    batch = NegativesCollator(positives=positives)([dataset[i] for i in (3, 8, 3, 15)])
    return batch, torch.from_numpy(queries)[[3, 8, 3, 15]], torch.from_numpy(corpus)


def test_a_collated_batch_goes_in_as_it_is() -> None:
    batch, anchors, corpus = drawn()
    documents = corpus[torch.cat([batch.rows, batch.negative_rows])]
    found = CurriculumLoss(temperature=0.1)(anchors, documents, batch)
    logits = normalize(anchors) @ normalize(documents).T / 0.1
    for i, index in enumerate(batch.negative_index):  # what an anchor drew stands for more than itself
        logits[i, 4 + index[index >= 0]] += batch.log_weight[i][index >= 0]
    expected = cross_entropy(logits.masked_fill(~batch.mask, -torch.inf), torch.arange(4))
    torch.testing.assert_close(found, expected)
    # With what each anchor drew alone, each has its own estimate of the whole corpus.
    alone = CurriculumLoss(temperature=0.1, in_batch=False)(anchors, documents, batch)
    own = torch.zeros_like(batch.mask)
    for i, index in enumerate(batch.negative_index):
        own[i, 4 + index[index >= 0]] = True
        own[i, i] = True
    torch.testing.assert_close(
        alone, cross_entropy(logits.masked_fill(~(own & batch.mask), -torch.inf), torch.arange(4))
    )


def test_a_bank_goes_beside_a_batch() -> None:
    batch, anchors, corpus = drawn()
    documents = corpus[torch.cat([batch.rows, batch.negative_rows])]
    bank = Negatives(corpus[30:42].reshape(4, 3, 8), torch.arange(12).reshape(4, 3) - 1, source="bank")
    found, statistics = CurriculumLoss()(anchors, documents, [batch, bank], statistics=True)
    by_hand = CurriculumLoss()(
        anchors,
        documents[:4],
        [Negatives.from_batch(batch, documents), bank],
        mask=batch.mask[:, :4],
        anchor_ids=batch.rows,
    )
    assert torch.equal(found, by_hand)
    assert set(statistics.source_shares) == {"in-batch", "mined", "bank"}


def test_a_guide_reads_a_collated_batch() -> None:
    batch, anchors, corpus = drawn()
    documents = corpus[torch.cat([batch.rows, batch.negative_rows])]
    guide = torch.randn(4, 5), torch.randn(len(documents), 5)
    found = CurriculumLoss(relative_margin=0.1)(anchors, documents, batch, guide=guide)
    scores = normalize(guide[0]) @ normalize(guide[1]).T
    false = mask_false_negatives(scores, scores.diagonal(), relative_margin=0.1) & ~torch.eye(*scores.shape).bool()
    less = replace(batch, mask=batch.mask & ~false)
    torch.testing.assert_close(found, CurriculumLoss()(anchors, documents, less))


def test_scores_of_whoever_mined() -> None:
    """Known scores are compared with known positives; what has none is compared by the model."""
    torch.manual_seed(0)
    anchors, positives, rows = torch.randn(3, 8), torch.randn(3, 8), torch.randn(3, 2, 8)
    scores = torch.tensor([[0.9, 0.1], [torch.nan, 0.2], [0.5, 0.3]])
    loss = CurriculumLoss(absolute_margin=0.05)
    found = loss(
        anchors, positives, Negatives(rows, scores=scores), mined_positive_scores=torch.tensor([0.5, 0.9, 0.45])
    )
    a, p, n = normalize(anchors), normalize(positives), normalize(rows, dim=-1)
    in_batch, of_rows, own = a @ p.T, (a[:, None] * n).sum(-1), (a * p).sum(-1)
    kept = torch.tensor([[False, True], [bool(of_rows[1, 0] <= own[1] - 0.05), True], [False, True]])
    others = ~mask_false_negatives(in_batch, own, absolute_margin=0.05) & ~torch.eye(3).bool()
    logits = weight_negatives(torch.cat([in_batch, of_rows], 1), temperature=0.05, mask=torch.cat([others, kept], 1))
    torch.testing.assert_close(found, infonce(own / 0.05, logits))
