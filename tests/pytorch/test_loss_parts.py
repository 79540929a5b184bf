"""The parts of the loss alone, and in half precision, compiled, and with cached gradients."""

import importlib
import math
import sys
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import normalize

import loss_cases
from negfast.torch import CurriculumLoss, Negatives, infonce, mask_false_negatives, weight_negatives


def test_margins_are_below_the_positive_whatever_its_sign() -> None:
    positive = torch.tensor([0.8, 0.0, -0.5])
    scores = torch.tensor([[0.761, 0.759], [0.001, -0.001], [-0.524, -0.526]])
    expected = [[True, False]] * 3
    assert mask_false_negatives(scores, positive, relative_margin=0.05).tolist() == expected
    scores = positive[:, None] + torch.tensor([-0.09, -0.11])
    assert mask_false_negatives(scores, positive, absolute_margin=0.1).tolist() == expected
    assert mask_false_negatives(scores, positive, max_score=0.705).tolist() == [[True, False], [False] * 2, [False] * 2]
    assert not mask_false_negatives(scores, positive).any()


def test_the_lowest_positive_counts_and_absent_ones_do_not() -> None:
    scores = torch.tensor([[0.5], [0.5], [0.5]])
    positive = torch.tensor([[0.9, 0.4], [0.9, 0.4], [0.9, 0.4]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    found = mask_false_negatives(scores, positive, positive_mask=mask, absolute_margin=0.0, relative_margin=0.1)
    assert found.flatten().tolist() == [True, False, False]
    assert mask_false_negatives(scores, positive[:, :0], absolute_margin=0.0, max_score=0.4).all()


def test_a_margin_needs_more_than_bfloat16() -> None:
    """5 % below 0.8 is 0.76; 0.7598 is less, but in bfloat16 it is 0.7617."""
    positive, score = torch.tensor([0.8]), torch.tensor([[0.7598]])
    assert not mask_false_negatives(score, positive, relative_margin=0.05).any()
    assert mask_false_negatives(score.bfloat16(), positive.bfloat16(), relative_margin=0.05).any()


def test_weights_are_what_they_say() -> None:
    scores = torch.tensor([[0.5, 0.1, 0.9]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False]])
    weights = torch.tensor([[0.0, math.log(3.0), 5.0]], dtype=torch.float64)
    found = weight_negatives(scores, temperature=0.1, log_weight=weights, hardness_strength=2.0, beta=0.5, mask=mask)
    importance = [math.exp(0.5 * 5.0), math.exp(0.5 * 1.0)]
    mean = (importance[0] + 3.0 * importance[1]) / 4.0
    expected = [5.0 + 1.0 + math.log(importance[0] / mean), 1.0 + 0.2 + math.log(3.0 * importance[1] / mean)]
    assert found[0, :2].tolist() == pytest.approx(expected)
    assert math.exp(float(found[0, 2])) == 0.0


def test_infonce_of_numbers() -> None:
    positive, negative = torch.tensor([1.0], dtype=torch.float64), torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    e = math.exp
    mass = e(0.5) + e(-1.0)
    assert infonce(positive, negative).item() == pytest.approx(-math.log(e(1) / (e(1) + mass)))
    assert infonce(positive, negative, decoupled=True).item() == pytest.approx(-math.log(e(1) / mass))
    corrected = (mass - 0.2 * 2 * e(1)) / 0.8
    found = infonce(positive, negative, debiased=0.2, temperature=0.5).item()
    assert found == pytest.approx(-math.log(e(1) / (e(1) + corrected)))
    bounded = infonce(positive, negative, debiased=0.9, temperature=0.5).item()
    assert bounded == pytest.approx(-math.log(e(1) / (e(1) + 2 * e(-2))))
    weighted = infonce(positive, negative, debiased=0.2, temperature=0.5, log_count=torch.tensor([[math.log(1.5)]]))
    assert weighted.item() == pytest.approx(-math.log(e(1) / (e(1) + (mass - 0.2 * 1.5 * e(1)) / 0.8)))
    soft = infonce(
        positive, negative, soft_positive_logits=torch.tensor([[-torch.inf, 0.9]]).double(), soft_positives=0.5
    )
    terms = -math.log(e(1) / (e(1) + mass)) - 0.5 * math.log(e(0.9) / (e(0.9) + mass))
    assert soft.item() == pytest.approx(terms / 1.5)


def test_each_anchor_alone() -> None:
    positive = torch.tensor([[1.0, 0.5], [0.3, 0.1], [0.0, 0.0]])
    negative, mask = torch.randn(3, 4), torch.tensor([[True, True], [True, False], [False, False]])
    each = infonce(positive, negative, positive_mask=mask, reduction="none")
    assert each[2] == 0.0
    torch.testing.assert_close(infonce(positive, negative, positive_mask=mask), each[:2].mean())
    torch.testing.assert_close(each[1], infonce(positive[1:2, :1], negative[1:2]))
    split = infonce(positive, negative[:, None].expand(3, 2, 4), positive_mask=mask, reduction="none")
    torch.testing.assert_close(each, split)


def test_parts_are_the_loss() -> None:
    """What the class does, by hand."""
    torch.manual_seed(0)
    anchors, positives, bank = torch.randn(6, 8), torch.randn(6, 8), torch.randn(6, 5, 8)
    weights = torch.randn(6, 5)
    found = CurriculumLoss(relative_margin=0.1, hard_weighted=0.2, debiased=0.1)(
        anchors, positives, Negatives(bank, log_weight=weights)
    )
    a, p, n = normalize(anchors), normalize(positives), normalize(bank, dim=-1)
    own, scores = (a * p).sum(1), torch.cat([a @ p.T, (a[:, None] * n).sum(-1)], dim=1)
    kept = ~mask_false_negatives(scores, own, relative_margin=0.1) & ~torch.eye(6, 11).bool()
    log_weight = torch.cat([torch.zeros(6, 6), weights], dim=1)
    logits = weight_negatives(scores, temperature=0.05, log_weight=log_weight, beta=0.2, mask=kept)
    count = log_weight.masked_fill(~kept, -torch.inf).logsumexp(1, keepdim=True)
    torch.testing.assert_close(found, infonce(own / 0.05, logits, debiased=0.1, temperature=0.05, log_count=count))


def test_weights_make_a_sample_stand_for_the_corpus() -> None:
    """Rows drawn with probability q, with weights -ln q: on average the softmax over all rows, and its gradient."""
    rng = torch.Generator().manual_seed(0)
    anchor, positive = torch.randn(1, 4, generator=rng), torch.randn(1, 4, generator=rng)
    corpus = torch.randn(500, 4, generator=rng)
    scores = (normalize(corpus) @ normalize(anchor).T)[:, 0]
    q = (scores.exp() / 5.0).clamp(max=1.0)
    sums = []
    for _ in range(400):
        drawn = torch.rand(500, generator=rng) < q
        part = Negatives(corpus[drawn][None], log_weight=-q[drawn].log()[None])
        loss = CurriculumLoss(temperature=0.5, in_batch=False)(anchor, positive, part)
        sums.append(loss.exp() - 1.0)  # the sum over negatives by the positive's exponential
    whole = CurriculumLoss(temperature=0.5, in_batch=False)(anchor, positive, Negatives(corpus[None])).exp() - 1.0
    found = torch.stack(sums)
    # Five standard errors: a false alarm once in a million seeds.
    assert abs(found.mean() - whole) < 5.0 * found.std() / 20.0
    assert found.std() < 0.2 * whole  # so that the bound above says something


def test_half_precision_rows_are_scored_in_float32() -> None:
    case = loss_cases.make(0)
    rows = {name: case[name].bfloat16() for name in ("anchors", "positives")}
    given = [Negatives(part["rows"].bfloat16()) for part in case["negatives"]]
    wide = [Negatives(part.rows.float()) for part in given]
    loss = CurriculumLoss(relative_margin=0.05, hard_weighted=0.1)
    found = loss(*rows.values(), given)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(*(part.float() for part in rows.values()), wide))


def test_autocast_does_not_reach_the_scores() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 8)
    texts = torch.randn(12, 16), torch.randn(12, 16)
    loss = CurriculumLoss(relative_margin=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        anchors, positives = (layer(part) for part in texts)
        assert anchors.dtype == torch.bfloat16
        found = loss(anchors, positives)
    found.backward()
    assert torch.equal(found, loss(anchors.float(), positives.float()))
    assert layer.weight.grad.isfinite().all() and layer.weight.grad.abs().sum() > 0


class Encoder(torch.nn.Module):
    """A small model with dropout, whose random state matters when it runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.Tanh(), torch.nn.Linear(16, 6)).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    found = [part.grad.clone() for part in model.parameters()]
    model.zero_grad()
    return found


def cached_inputs() -> tuple[Encoder, list[torch.Tensor], CurriculumLoss]:
    torch.manual_seed(0)
    model = Encoder()
    texts = [torch.randn(n, 10, dtype=torch.float64) for n in (8, 8, 24)]
    return (
        model,
        texts,
        CurriculumLoss(temperature=0.1, relative_margin=0.1, directions=("query_to_doc", "doc_to_query")),
    )


def of_representations(loss: CurriculumLoss, *reps: torch.Tensor) -> torch.Tensor:
    index = torch.arange(24).reshape(8, 3)
    return loss(reps[0], reps[1], Negatives(reps[2], index=index))


def test_gradients_can_be_cached() -> None:
    """In chunks: representations without a graph, the loss's gradients for them, then each chunk once more."""
    model, texts, loss = cached_inputs()
    of_representations(loss, *(model(part) for part in texts)).backward()
    expected = gradients(model)
    with torch.no_grad():
        reps = [torch.cat([model(chunk) for chunk in part.split(3)]) for part in texts]
    leaves = [part.requires_grad_() for part in reps]
    of_representations(loss, *leaves).backward()
    for part, rows in zip(texts, leaves, strict=True):
        for chunk, cache in zip(part.split(3), rows.grad.split(3), strict=True):
            torch.autograd.backward(model(chunk), cache)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_the_library_for_cached_gradients() -> None:
    package = pytest.importorskip("gradcache")  # as it is called on the package index
    sys.modules.setdefault("grad_cache", package)  # as it calls itself
    library = importlib.import_module("gradcache.grad_cache")
    model, texts, loss = cached_inputs()
    of_representations(loss, *(model(part) for part in texts)).backward()
    expected = gradients(model)
    cache = library.GradCache(
        models=[model] * 3, chunk_sizes=3, loss_fn=lambda *reps: of_representations(loss, *reps), get_rep_fn=lambda x: x
    )
    cache(*texts)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def compiled(loss: Any, backend: str) -> Any:
    """Return the loss compiled as a whole, or skip where there is no compiler."""
    torch._dynamo.reset()
    try:
        torch.compile(lambda x: x + 1.0, fullgraph=True, backend=backend)(torch.ones(2))
    except Exception as error:  # whatever the machine lacks
        pytest.skip(f"torch.compile is of no use here: {str(error).splitlines()[0]}")
    return torch.compile(loss, fullgraph=True, dynamic=True, backend=backend)


EVERYTHING = {
    "directions": ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"),
    "relative_margin": 0.1,
    "hardness_strength": 2.0,
    "hard_weighted": 0.5,
    "debiased": 0.1,
    "angular_margin": 5.0,
}


@pytest.mark.filterwarnings("ignore")
def test_pairs_compile() -> None:
    """By the default backend, which needs a C++ compiler."""
    loss, rows = CurriculumLoss(), [torch.randn(6, 16).requires_grad_() for _ in range(2)]
    found = [function(*rows) for function in (loss, compiled(loss, "inductor"))]
    torch.testing.assert_close(*found)
    for plain, other in zip(*(torch.autograd.grad(value, rows) for value in found), strict=True):
        torch.testing.assert_close(plain, other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_compiled_loss_is_the_loss(options: dict[str, Any]) -> None:
    """Traced as one graph, for any batch size; no code is generated, which takes half a minute."""
    loss = CurriculumLoss(**options)
    fast = compiled(loss, "eager")
    for b in (6, 9, 13):
        results = []
        for function in (loss, fast):
            torch.manual_seed(b)
            rows = [torch.randn(b, 16).requires_grad_() for _ in range(2)]
            mined, bank = torch.randn(2 * b, 16).requires_grad_(), torch.randn(b, 3, 16)
            index = torch.arange(2 * b).reshape(b, 2)
            given = [Negatives(mined, torch.arange(2 * b), index=index), Negatives(bank, source="bank")]
            found = function(*rows, given, positive_ids=torch.arange(b))
            found.backward()
            results.append([found.detach(), *(part.grad for part in (*rows, mined))])
        for plain, other in zip(*results, strict=True):
            torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-5)
