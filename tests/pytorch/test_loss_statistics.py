"""What a step tells about its negatives, beside the softmax written out."""

import math
import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import normalize

import loss_cases
import negfast
from negfast.torch import CurriculumLoss, LossStatistics, MinedRows, Negatives, NegativeSampler, UniformRows

B, M = 6, 4


def step(seed: int = 0, **options: Any) -> tuple[LossStatistics, dict[str, Any]]:
    """Return statistics of a step, and its scores and logits as they should be."""
    rng = torch.Generator().manual_seed(seed)
    anchors = torch.randn(B, 8, generator=rng, dtype=torch.float64).requires_grad_()
    positives = torch.randn(B, 8, generator=rng, dtype=torch.float64)
    mined, bank = (
        torch.randn(9, 8, generator=rng, dtype=torch.float64),
        torch.randn(B, M, 8, generator=rng, dtype=torch.float64),
    )
    index = torch.stack([torch.randperm(9, generator=rng)[:3] for _ in range(B)])
    index[0, 2] = -1
    bank_ids = torch.arange(B * M).reshape(B, M) + 100
    bank_ids[1, 3] = -1
    tiers = torch.randint(0, 4, (B, 3), generator=rng, dtype=torch.uint8)
    weights = torch.rand(B, 3, generator=rng, dtype=torch.float64)
    loss = CurriculumLoss(temperature=0.3, **options)
    given = [
        Negatives(mined, torch.arange(9) + 50, index=index, tiers=tiers, log_weight=weights),
        Negatives(bank, bank_ids, source="bank"),
    ]
    found, statistics = loss(anchors, positives, given, positive_ids=torch.arange(B), statistics=True)
    a, p, n, k = (normalize(part.detach(), dim=-1) for part in (anchors, positives, mined, bank))
    scores = torch.cat([a @ p.T, a @ n.T, (a[:, None] * k).sum(-1)], dim=1)
    kept = torch.ones_like(scores, dtype=torch.bool)
    kept[:, :B] = ~torch.eye(B, dtype=torch.bool)
    kept[1, -1] = False
    log_weight = torch.zeros_like(scores)
    for i in range(B):
        for j, row in enumerate(index[i].tolist()):
            if row >= 0:
                log_weight[i, B + row] = weights[i, j]
    logits = (scores / 0.3 + log_weight).masked_fill(~kept, -torch.inf)
    own = scores.diagonal()
    ids = torch.cat([torch.arange(B).expand(B, B), (torch.arange(9) + 50).expand(B, 9), bank_ids], dim=1)
    truth = {"loss": found.detach(), "scores": scores, "own": own, "logits": logits, "kept": kept, "ids": ids}
    return statistics, truth | {"index": index, "tiers": tiers, "documents": p, "anchors": anchors, "out": found}


def shares(truth: dict[str, Any]) -> tuple[Any, Any]:
    """Return the share of the positive and of each candidate."""
    everything = torch.cat([truth["own"][:, None] / 0.3, truth["logits"]], dim=1).softmax(dim=1)
    return everything[:, 0], everything[:, 1:]


def test_signals_are_what_they_are_called() -> None:
    statistics, truth = step()
    positive, negative = shares(truth)
    among = negative / negative.sum(1, keepdim=True)
    entropy = -(among * among.clamp(min=1e-300).log()).sum(1)
    hardness = (truth["scores"] - truth["own"][:, None])[truth["kept"]]
    gram = truth["documents"] @ truth["documents"].T
    signals = statistics.signals()
    assert isinstance(signals, negfast.signals.Signals)
    expected = {
        "loss": truth["loss"].item(),
        "positive_distance": 1.0 - truth["own"].mean().item(),
        "negative_distance": 1.0 - (among * truth["scores"]).sum(1).mean().item(),
        "effective_negatives": entropy.exp().mean().item(),
        "positive_probability": positive.mean().item(),
        "false_negative_share": 0.0,
        "spread": ((gram.sum() - gram.trace()) / (B * (B - 1))).item(),
    }
    found = signals.to_dict()
    assert found.pop("drift") is None
    quantiles = found.pop("hardness_quantiles")
    assert found == pytest.approx(expected)
    assert quantiles == pytest.approx(np.quantile(hardness.numpy(), np.arange(1, 10) / 10))
    for name in ("positive_probability", "positive_distance", "negative_distance", "effective_negatives", "spread"):
        assert getattr(statistics, name) == pytest.approx(expected[name])


def test_sources_and_tiers() -> None:
    statistics, truth = step()
    _, negative = shares(truth)
    widths = {"in-batch": slice(0, B), "mined": slice(B, B + 9), "bank": slice(B + 9, None)}
    n = truth["kept"].sum().item()
    assert statistics.source_shares == pytest.approx(
        {name: truth["kept"][:, part].sum().item() / n for name, part in widths.items()}
    )
    mass = {name: negative[:, part].sum().item() / B for name, part in widths.items()}
    assert statistics.source_mass == pytest.approx(mass)
    assert sum(statistics.source_mass.values()) + statistics.positive_probability == pytest.approx(1.0)
    drawn = truth["index"] >= 0
    names = ("unknown", "easy", "semi_hard", "hard")
    counts = {name: (truth["tiers"][drawn] == i).sum().item() / drawn.sum().item() for i, name in enumerate(names)}
    assert statistics.tier_shares == pytest.approx(counts)
    of_drawn = negative[:, B : B + 9].gather(1, truth["index"].clamp(min=0)) * drawn
    by_tier = {name: (of_drawn * (truth["tiers"] == i)).sum().item() / B for i, name in enumerate(names)}
    assert statistics.tier_mass == pytest.approx(by_tier)


def test_pairs_are_what_a_sampler_takes() -> None:
    statistics, truth = step()
    _, negative = shares(truth)
    ids, mass = statistics.pairs("mined")
    index = truth["index"].flatten()
    assert ids.tolist() == torch.where(index >= 0, index + 50, -1).tolist()
    own = negative[:, B : B + 9].gather(1, truth["index"].clamp(min=0)) * (truth["index"] >= 0)
    torch.testing.assert_close(mass, own.flatten())
    every, _ = statistics.pairs()
    assert len(every) == len(ids) + B * M and every[-B * M + 7] == -1
    sampler = NegativeSampler(
        [MinedRows(mined()), UniformRows(200)], num_negatives=2, probabilities={"hard": 1.0}, min_random=0.5
    )
    sampler.update(*statistics.pairs())
    sampler.publish()
    assert sampler.usefulness.min() < 1.0 < sampler.usefulness.max()


def mined() -> Any:
    rows = np.random.default_rng(0).standard_normal((200, 4), dtype=np.float32)
    return negfast.mine(rows[:5], rows, np.arange(5), num_negatives=3)


def test_masked_shares_go_by_the_first_cause() -> None:
    case = loss_cases.make(0)
    loss = CurriculumLoss(relative_margin=0.1)
    _, statistics = loss_cases.call(loss, case, statistics=True)
    total = sum(statistics.masked_shares.values())
    assert statistics.false_negative_share == pytest.approx(total)
    assert all(share > 0.0 for share in statistics.masked_shares.values()), statistics.masked_shares
    # Without bounds on scores, what remains is in the same proportion: score is the last cause.
    _, before = loss_cases.call(CurriculumLoss(), case, statistics=True)
    del statistics.masked_shares["score"]
    assert before.masked_shares == pytest.approx({**statistics.masked_shares, "score": 0.0})


def test_offenders() -> None:
    statistics, truth = step(absolute_margin=0.3)
    false = (truth["scores"] > (truth["own"] - 0.3)[:, None]) & truth["kept"]
    assert false.any()
    logits = truth["logits"].masked_fill(false, -torch.inf)
    whole = torch.cat([truth["own"][:, None] / 0.3, logits], dim=1).logsumexp(dim=1, keepdim=True)
    would = truth["logits"] - torch.where(false, torch.logaddexp(whole, truth["logits"]), whole)
    mass: dict[int, float] = {}
    masked: dict[int, int] = {}
    for i, j in truth["kept"].nonzero().tolist():
        row = int(truth["ids"][i, j])
        mass[row] = mass.get(row, 0.0) + math.exp(would[i, j])
        masked[row] = masked.get(row, 0) + int(false[i, j])
    worst = sorted(mass, key=lambda row: -mass[row])
    found = statistics.offenders(5)
    assert [entry.id for entry in found] == worst[:5]
    assert [entry.mass for entry in found] == pytest.approx([mass[row] for row in worst[:5]])
    assert [entry.masked for entry in found] == [masked[row] for row in worst[:5]]
    assert len(statistics.offenders(1000)) == len(mass)
    assert statistics.offenders(0) == []
    few = torch.tensor([3, -1, -1, -1])
    _, statistics = CurriculumLoss()(torch.randn(4, 3), torch.randn(4, 3), positive_ids=few, statistics=True)
    assert [entry.id for entry in statistics.offenders()] == [3]
    assert {entry.n_anchors for entry in found} <= set(range(1, B + 1))


def test_what_was_not_measured_is_none() -> None:
    rows, others = torch.randn(4, 3), torch.randn(4, 3)
    none = torch.zeros(4, 4, dtype=torch.bool)
    signals = CurriculumLoss()(rows, others, mask=none, statistics=True)[1].signals()
    assert signals.loss == 0.0 and signals.false_negative_share == 1.0 and signals.positive_distance is not None
    assert signals.negative_distance is signals.effective_negatives is signals.positive_probability is None
    absent = torch.zeros(4, 1, dtype=torch.bool)
    _, statistics = CurriculumLoss()(rows, others, positive_mask=absent, statistics=True)
    assert statistics.signals() == negfast.Signals()
    _, statistics = CurriculumLoss()(rows[:0], others[:0], statistics=True)
    assert statistics.signals() == negfast.Signals()
    _, statistics = CurriculumLoss(check_finite=False)(rows * torch.nan, others, statistics=True)
    assert math.isnan(statistics.signals().loss)  # which is news


def test_nothing_is_worked_out_before_it_is_asked_for() -> None:
    statistics, truth = step()
    before = set(vars(statistics))
    truth["out"].backward()
    assert set(vars(statistics)) == before  # no property has been read
    assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in vars(statistics).values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert statistics.signals() == statistics.signals()


def test_a_step_with_statistics_is_the_same_step() -> None:
    case = loss_cases.make(2)
    grads = []
    for wanted in (False, True):
        anchors = case["anchors"].clone().requires_grad_()
        found = loss_cases.call(CurriculumLoss(), {**case, "anchors": anchors}, statistics=wanted)
        loss = found[0] if wanted else found
        if wanted:
            found[1].signals()
        loss.backward()
        grads.append((loss.detach(), anchors.grad))
    assert all(map(torch.equal, *grads))


def test_directions_with_denominators_of_their_own_are_averaged() -> None:
    torch.manual_seed(0)
    rows = torch.randn(7, 5), torch.randn(7, 5)
    loss = CurriculumLoss(directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction", temperature=0.2)
    _, statistics = loss(*rows, statistics=True)
    scores = normalize(rows[0]) @ normalize(rows[1]).T / 0.2
    shares = [part.softmax(1).diagonal().mean() for part in (scores, scores.T)]
    assert statistics.positive_probability == pytest.approx(float(sum(shares) / 2))
    assert statistics.positive_probability + statistics.source_mass["in-batch"] == pytest.approx(1.0)
    joint = CurriculumLoss(directions=("query_to_doc", "doc_to_query"), temperature=0.2)(*rows, statistics=True)[1]
    together = torch.cat([scores, scores.T], dim=1).softmax(1)
    twice = together[:, :7].diagonal() + together[:, 7:].diagonal()  # the positive is in both
    assert joint.positive_probability == pytest.approx(float(twice.mean()))


def test_quantiles_of_a_sample() -> None:
    """Of more candidates than are looked at: deciles are within 0.02, which is five standard errors."""
    torch.manual_seed(0)
    anchors, positives = torch.randn(300, 16), torch.randn(300, 16)
    _, statistics = CurriculumLoss()(anchors, positives, statistics=True)
    scores = normalize(anchors) @ normalize(positives).T
    hardness = (scores - scores.diagonal()[:, None])[~torch.eye(300, dtype=torch.bool)]
    expected = np.quantile(hardness.numpy(), np.arange(1, 10) / 10)
    assert statistics.hardness_quantiles == pytest.approx(expected, abs=0.02)
