"""`NegfastMiner` inside the losses and wrappers of pytorch-metric-learning; on any device the same; wrong arguments."""

import copy
import json
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

with warnings.catch_warnings():  # what it warns of while it loads is its own
    warnings.simplefilter("ignore")
    pytest.importorskip("pytorch_metric_learning", exc_type=ImportError)
    import torch
    from pytorch_metric_learning import distances, losses, miners

    from negfast.integrations.pytorch_metric_learning import NegfastMiner
    from negfast.integrations.pytorch_metric_learning.batch import checked_batch
    from negfast.integrations.pytorch_metric_learning.blocks import by_torch

import negfast
from children import output_of
from negfast import Rules

Type, Value = negfast.InvalidTypeError, negfast.InvalidValueError


def rows(n: int = 60, dim: int = 12, classes: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    return centres[labels] + 0.7 * torch.randn(n, dim, generator=generator), labels


def same(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("tuples", ["triplets", "pairs"])
@pytest.mark.parametrize(
    "loss",
    [
        losses.ContrastiveLoss(),
        losses.MarginLoss(),
        losses.MultiSimilarityLoss(),
        losses.NTXentLoss(),
        losses.TripletMarginLoss(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_losses_take_what_it_returns(loss: Any, tuples: Any) -> None:
    given, labels = rows()
    given.requires_grad_()
    value = loss(given, labels, NegfastMiner(num_negatives=3, tuples=tuples)(given, labels))
    value.backward()
    assert value > 0 and torch.isfinite(given.grad).all() and given.grad.any()


def test_a_memory_with_all_negatives_is_as_with_their_miner() -> None:
    values = []
    for miner in (miners.TripletMarginMiner(0.2, "semihard"), NegfastMiner(0.2, "semihard", num_negatives=None)):
        memory = losses.CrossBatchMemory(losses.TripletMarginLoss(0.2), 12, memory_size=100, miner=miner)
        values.append([memory(*rows(30, seed=step)) for step in range(6)])  # it goes round twice
    assert torch.equal(torch.stack(values[0]), torch.stack(values[1])) and min(values[0]) > 0


def test_a_memory_that_some_rows_go_into() -> None:
    values = []
    for miner in (miners.MultiSimilarityMiner(0.1), NegfastMiner(0.1, "all", tuples="pairs", num_negatives=None)):
        miner.distance = distances.CosineSimilarity()
        memory = losses.CrossBatchMemory(losses.ContrastiveLoss(), 12, memory_size=50, miner=miner)
        mask = torch.arange(40) >= 20
        values.append([memory(*rows(40, seed=step), enqueue_mask=mask) for step in range(4)])
    torch.testing.assert_close(torch.stack(values[0]), torch.stack(values[1]))


def test_a_memory_never_pairs_a_row_with_itself_in_a_tuple() -> None:
    memory = losses.CrossBatchMemory(losses.TripletMarginLoss(0.2), 12, memory_size=64, miner=NegfastMiner(0.5))
    seen: list[Any] = []
    real = memory.loss.forward
    memory.loss.forward = lambda *given: seen.append(given) or real(*given)
    memory(*rows(32, classes=4))
    _, labels, (anchors, positives, negatives), _, held_labels = seen[0]
    assert len(anchors) and (anchors != positives).all()
    assert (labels[anchors] == held_labels[positives]).all() and (labels[anchors] != held_labels[negatives]).all()


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    script = Path(__file__).with_name("miner_children.py")
    folder = tmp_path_factory.mktemp("ranks")
    written: dict[str, Any] = json.loads(output_of(str(script), str(folder), deadline=100).splitlines()[-1])
    return written


def test_two_ranks_mine_as_with_their_miner(children: dict[str, Any]) -> None:
    for rank in children["ranks"]:
        assert rank["whole"] and rank["efficient"] and min(rank["sizes"]) > 0


def test_there_is_no_table_of_anchors_positives_and_negatives(children: dict[str, Any]) -> None:
    """It would take 27 GB."""
    mebibytes, n_triplets = children["grown"]
    assert mebibytes < 60 and n_triplets > 10_000


def test_blocks_of_torch_leave_no_room_behind(children: dict[str, Any]) -> None:
    """Results that are kept one by one between 64 tables of 4 MiB make the process grow by all of them."""
    mebibytes, n_triplets = children["grown_by_blocks"]
    assert mebibytes < 100 and n_triplets > 100_000


CHOICES: list[dict[str, Any]] = [
    {},
    {"num_negatives": None, "type_of_triplets": "semihard"},
    {"tuples": "pairs", "num_negatives": 4},
    {"tuples": "pairs", "num_negatives": None, "type_of_triplets": "easy"},
    {"positives": "hardest", "type_of_triplets": "any"},
    {"positives": "easiest", "margin": 0.05},
    {"rules": Rules(relative_margin=0.05)},
    {"rules": Rules(relative_margin=None, absolute_margin=0.05, max_score=0.6, min_score=-1.9), "num_negatives": None},
    {"rules": Rules(relative_margin=None, duplicate_of_positive=0.7), "num_negatives": None},
]


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_blocks_of_torch_choose_the_same(choice: dict[str, Any], reference: bool, labelled: bool) -> None:
    given = [*rows(), *(rows(80, seed=1) if reference else (None, None))]
    sizes = (60, 80 if reference else 60)
    generator = torch.Generator().manual_seed(2)
    further: list[Any] = [None, None]
    if labelled:
        columns = [torch.randint(-1, 30, (n, 2), generator=generator) for n in sizes]
        single = [torch.randint(-1, 25, (n,), generator=generator) for n in sizes]
        further = [tuple(columns), tuple(single)] if reference else [columns[0], single[0]]
    for distance, cells in ((distances.CosineSimilarity(), 2000), (distances.LpDistance(power=2), 1 << 22)):
        miner = NegfastMiner(distance=distance, **choice)
        found = miner(*given, groups=further[0], keys=further[1])
        assert len(found[0])
        blocks = by_torch(checked_batch(*given, *further), miner.choice, distance, cells)
        assert same(found, blocks.tuples)
        if labelled:
            assert not same(found, miner(*given))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_gpu_chooses_the_same(choice: dict[str, Any]) -> None:
    given, labels = rows(300, classes=40)
    distance = distances.CosineSimilarity()
    found = NegfastMiner(distance=distance, **choice)(given.cuda(), labels.cuda())
    assert all(part.is_cuda for part in found)
    here, there = (
        set(zip(*(part.tolist() for part in tuples[-2:]), strict=True))
        for tuples in (NegfastMiner(distance=distance, **choice)(given, labels), found)
    )
    assert len(here ^ there) <= 0.01 * len(here)  # within rounding of an edge


def test_guards_are_kept() -> None:
    given, labels = rows(classes=6)
    unit = torch.nn.functional.normalize(given, dim=1)
    scores = unit @ unit.T
    rules = Rules(relative_margin=0.05, duplicate_of_positive=0.8)
    miner = NegfastMiner(type_of_triplets="any", num_negatives=5, rules=rules, distance=distances.CosineSimilarity())
    groups, keys = torch.arange(60) % 7, torch.arange(60) // 3
    anchors, _, negatives = miner(given, labels, groups=groups, keys=keys)
    own = (labels[:, None] == labels) & ~torch.eye(60, dtype=torch.bool)
    lowest = scores.masked_fill(~own, 2.0).amin(dim=1)
    assert (scores[anchors, negatives] <= lowest[anchors] - 0.05 * lowest[anchors].abs() + 1e-6).all()
    for a, n in zip(anchors.tolist(), negatives.tolist(), strict=True):
        near = [a, *torch.where(own[a])[0].tolist()]
        assert groups[n] not in groups[near] and keys[n] not in keys[near]
        assert (scores[near[1:], n] <= 0.8 + 1e-6).all()


def test_settings_are_changed_between_calls() -> None:
    given, labels = rows()
    miner = NegfastMiner(0.2, num_negatives=None)
    miner.margin, miner.num_negatives = 0.05, 2
    assert same(miner(given, labels), NegfastMiner(0.05, num_negatives=2)(given, labels))
    assert (miner.margin, miner.num_negatives) == (0.05, 2)


def test_threads_and_layout_change_nothing() -> None:
    given, labels = rows(400, classes=60)
    found = [NegfastMiner(n_threads=n)(given, labels) for n in (1, 2, 7)]
    assert same(found[0], found[1]) and same(found[0], found[2])
    assert same(found[0], NegfastMiner()(given.T.contiguous().T, labels.int()))
    assert not same(found[0], NegfastMiner()(given.half(), labels)) or given.half().float().equal(given)
    assert same(NegfastMiner()(given.bfloat16(), labels), NegfastMiner()(given.bfloat16().float(), labels))


def test_statistics_are_noted_on_request_alone() -> None:
    given, labels = rows()
    miner = NegfastMiner(tuples="pairs", collect_stats=True, distance=distances.LpDistance(collect_stats=True))
    found = miner(given, labels)
    assert (miner.num_pos_pairs, miner.num_neg_pairs) == (len(found[0]), len(found[2]))
    assert 0 < miner.pos_pair_dist < miner.neg_pair_dist and miner.distance.final_avg_query_norm == pytest.approx(1.0)
    assert miner._record_these == ["margin", "num_negatives"]
    plain = NegfastMiner()
    plain(given, labels)
    assert not hasattr(plain, "pos_pair_dist")


def test_it_is_copied_and_saved_as_a_module() -> None:
    given, labels = rows()
    miner = NegfastMiner(0.1, "hard", rules=Rules())
    for other in (copy.deepcopy(miner), pickle.loads(pickle.dumps(miner))):  # noqa: S301 - made above
        assert other.choice == miner.choice and same(other(given, labels), miner(given, labels))
    assert miner.state_dict() == {}


def test_no_history_is_kept() -> None:
    given, labels = rows()
    given.requires_grad_()
    assert same(NegfastMiner()(given, labels), NegfastMiner()(given.detach(), labels))
    assert not any(part.requires_grad for part in NegfastMiner()(given.double(), labels))


E, L = rows(8, dim=4, classes=2)
RAW = distances.LpDistance(normalize_embeddings=False)
"""Computed by torch."""
INFINITE = torch.where(torch.arange(8)[:, None] == 5, torch.nan, E)
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: NegfastMiner("x"), Type, r"margin must be a number, got str 'x'; pass"),
    (lambda: NegfastMiner(True), Type, r"margin must be a number, got bool"),
    (lambda: NegfastMiner(float("nan")), Value, r"margin must be a number, got nan; 0.2"),
    (lambda: NegfastMiner(10**400), Value, r"margin must be finite"),
    (lambda: setattr(NegfastMiner(), "margin", "x"), Type, r"margin must be a number"),
    (lambda: setattr(NegfastMiner(), "num_negatives", 0), Value, r"num_negatives must be"),
    (lambda: NegfastMiner(distance="cosine"), Type, r"distance must be a distance of .* got str 'cosine'"),
    (lambda: NegfastMiner(distance=distances.CosineSimilarity), Type, r"distance must be .* pass one, as Cosine"),
    (lambda: NegfastMiner(0.2, "semi"), Value, r"type_of_triplets must be"),
    (lambda: NegfastMiner(num_negatives=0), Value, r"num_negatives must be"),
    (lambda: NegfastMiner(num_negatives=2**31), Value, r"num_negatives must be"),
    (lambda: NegfastMiner(num_negatives=1.5), Type, r"num_negatives must be"),
    (lambda: NegfastMiner(positives="some"), Value, r"positives must be"),
    (lambda: NegfastMiner(tuples="quads"), Value, r"tuples must be"),
    (lambda: NegfastMiner(rules=0.05), Type, r"rules must be"),
    (lambda: NegfastMiner(rules=Rules(range_min=3)), Value, r"rules.range_min must be 0 .* got 3; .* leave it out"),
    (lambda: NegfastMiner(rules=Rules(distinct=0.9)), Value, r"rules.distinct must be None"),
    (lambda: NegfastMiner(rules=Rules(max_exposure=1)), Value, r"rules.max_exposure must be None"),
    (lambda: NegfastMiner(n_threads=0), Value, r"n_threads must be"),
    (lambda: NegfastMiner()(E.numpy(), L), Type, r"embeddings must be a tensor of floats, got ndarray"),
    (lambda: NegfastMiner()(E.long(), L), Type, r"embeddings must be a tensor of floats, got torch.int64"),
    (lambda: NegfastMiner()(E[0], L), Value, r"embeddings must be of shape \(n, dim\), got \(4,\)"),
    (lambda: NegfastMiner()(E, L.tolist()), Type, r"labels must be a tensor of integers, got list"),
    (lambda: NegfastMiner()(E, L.float()), Type, r"labels must be a tensor of integers, got torch.float32"),
    (lambda: NegfastMiner()(E, L[:-1]), Value, r"labels must be of shape \(8,\).* got \(7,\)"),
    (lambda: NegfastMiner()(E, L[:, None]), Value, r"labels must be of shape \(8,\).* got \(8, 1\)"),
    (lambda: NegfastMiner()(E, L, E), Value, r"ref_labels must be given with ref_emb, got None"),
    (lambda: NegfastMiner()(E, L, None, L), Value, r"ref_emb must be given with ref_labels, got None"),
    (lambda: NegfastMiner()(E, L, E[:, :2], L), Value, r"ref_emb must be of dim 4, .* got 2"),
    (lambda: NegfastMiner()(E, L, E[:5], L), Value, r"ref_labels must be of shape \(5,\)"),
    (lambda: NegfastMiner()(E, L, E.to("meta"), L), Value, r"ref_emb must be on cpu.* got meta"),
    (lambda: NegfastMiner()(INFINITE, L), Value, r"embeddings must hold finite numbers.* row 5"),
    (lambda: NegfastMiner()(E, L, INFINITE, L), Value, r"ref_emb must hold finite numbers.* row 5"),
    (lambda: NegfastMiner()(INFINITE.double(), L), Value, r"embeddings must hold finite numbers.* row 5"),
    (lambda: NegfastMiner(distance=RAW)(E, L, INFINITE, L), Value, r"ref_emb must hold finite numbers.* row 5"),
    (lambda: NegfastMiner(distance=RAW)(E, L, E.double(), L), Type, r"ref_emb must be of torch.float32.* got torch.f"),
    (lambda: NegfastMiner()(E, L, E.double(), L), Type, r"ref_emb must be of torch.float32.* got torch.float64; use"),
    (lambda: NegfastMiner()(E, L, groups=[1] * 8), Type, r"groups must be tensors of integers, got list"),
    (lambda: NegfastMiner()(E, L, keys=L[:3]), Value, r"keys must be of shape \(8,\) or \(8, columns\).* got \(3,\)"),
    (lambda: NegfastMiner()(E, L, E.clone(), L.clone(), keys=L), Type, r"keys must be a pair with ref_emb"),
    (
        lambda: NegfastMiner(distance=distances.BatchedDistance(distances.LpDistance(), lambda *_: None))(E, L),
        Type,
        r"distance must return one number for each pair",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_bad_input(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert re.match(message, str(caught.value)), str(caught.value)
    assert isinstance(caught.value, negfast.NegfastError)
