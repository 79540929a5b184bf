"""`CurriculumLoss` on columns of features, beside theirs and beside the loss of negfast.torch made by hand."""

import warnings
from typing import Any

import numpy as np
import pytest

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    st = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    import torch
    import trainer_runs as runs
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

    import negfast.torch as nt
    from negfast.integrations.sentence_transformers import CurriculumLoss, NegativesDataCollator
    from negfast.schedule import Linear

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
SETTINGS: list[dict[str, Any]] = [
    {},
    {"directions": ALL},
    {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
    {"hardness_mode": "hard_negatives", "hardness_strength": 5.0},
]


def columns_of(n: int, size: int = 12) -> tuple[list[str], list[dict[str, str]]]:
    """Return column names and rows whose texts are all different."""
    names = ["anchor", "positive", *(f"negative_{i}" for i in range(n))]
    texts = list(dict.fromkeys([*runs.ANCHORS, *runs.DOCUMENTS]))
    rows = [{name: texts[len(names) * i + place] for place, name in enumerate(names)} for i in range(size)]
    return names, rows


def features_of(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the trainer would hand to the loss."""
    found, _ = st.SentenceTransformerTrainer.collect_features(None, batch)
    return found


def gradients(loss: Any, features: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    loss.model.zero_grad()
    value = loss([dict(column) for column in features], None)
    value.backward()
    return value.detach(), next(loss.model.parameters()).grad.clone()


@pytest.mark.parametrize("n_columns", [0, 1, 3])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("labelled", [False, True], ids=["their collator", "our collator"])
def test_like_multiple_negatives_ranking(settings: dict[str, Any], n_columns: int, labelled: bool) -> None:
    model = runs.encoder()
    _, rows = columns_of(n_columns)
    kind = NegativesDataCollator if labelled else st.SentenceTransformerTrainer.data_collator_class
    features = features_of(kind(model.preprocess)(rows))
    ours = gradients(CurriculumLoss(model, temperature=0.05, **settings), features)
    theirs = gradients(MultipleNegativesRankingLoss(model, scale=20.0, **settings), features)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-6)


def test_within_their_matryoshka_loss() -> None:
    _, rows = columns_of(1)
    found = []
    for kind in (CurriculumLoss, MultipleNegativesRankingLoss):
        model = runs.encoder()
        features = features_of(NegativesDataCollator(model.preprocess)(rows))
        found.append(gradients(MatryoshkaLoss(model, kind(model), [16, 8]), features))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_what_reads_the_same_is_no_negative() -> None:
    model = runs.encoder()
    anchors, documents = runs.ANCHORS[:6], runs.DOCUMENTS[:6]
    rows = [{"anchor": a, "positive": d} for a, d in zip(anchors, documents, strict=True)]
    rows[4]["positive"] = f" {documents[2]}"  # the positive of another row
    rows[5]["anchor"] = anchors[0]
    features = features_of(NegativesDataCollator(model.preprocess)(rows))
    loss = CurriculumLoss(model)
    with torch.no_grad():
        embeddings = [model(dict(column))["sentence_embedding"] for column in features]
        mask = torch.ones(6, 6, dtype=torch.bool)
        for i, j in ((2, 4), (0, 5)):
            mask[i, j] = mask[j, i] = False
        want = nt.CurriculumLoss()(embeddings[0], embeddings[1], mask=mask)
        assert torch.equal(loss(features), want)
        plain = features_of(st.SentenceTransformerTrainer.data_collator_class(model.preprocess)(rows))
        assert loss(plain) > want


def test_drawn_negatives_by_hand() -> None:
    model = runs.encoder()
    mined = runs.mined_with(model)
    positives = [[*own, 30] if row == 17 else own for row, own in enumerate(runs.POSITIVES)]  # another's in the batch
    sampler = runs.sampler_of(
        mined, random=False, num_negatives=18, min_random=0.0, probabilities={"easy": 1.0}, positives=positives
    )
    groups = (np.arange(len(runs.PAIRS)) // 4, np.arange(len(runs.PAIRS)) // 4)
    collator = NegativesDataCollator(
        model.preprocess, sampler=sampler, corpus=runs.DOCUMENTS, positives=positives, groups=groups
    )
    chosen = [3, 0, 17, 39, 30, 55]
    batch = collator([runs.table()[row] for row in chosen])
    draw = sampler.draw(chosen, 0)
    assert len(set((draw.ids >= 0).sum(axis=1).tolist())) > 1, "all anchors have as many"
    distinct, places = np.unique(draw.ids, return_inverse=True)
    distinct, index = distinct[distinct >= 0], places.reshape(draw.ids.shape) - (-1 in draw.ids)
    with torch.no_grad():
        rows = [
            model(model.preprocess(texts))["sentence_embedding"]
            for texts in (
                [runs.ANCHORS[row] for row in chosen],
                [runs.DOCUMENTS[row] for row in chosen],
                [runs.DOCUMENTS[row] for row in distinct],
            )
        ]
        keys = [
            torch.from_numpy(negfast.content_keys(texts))
            for texts in ([runs.ANCHORS[row] for row in chosen], runs.DOCUMENTS)
        ]
        known = torch.from_numpy(_padded([positives[row] for row in chosen]))
        negatives = nt.Negatives(
            rows[2],
            torch.from_numpy(distinct),
            groups=torch.from_numpy(groups[1][distinct]),
            keys=keys[1][distinct],
            index=torch.from_numpy(index),
            log_weight=torch.from_numpy(draw.log_weight),
        )
        ids = torch.tensor(chosen)
        want = nt.CurriculumLoss()(
            rows[0],
            rows[1],
            negatives,
            anchor_ids=ids,
            anchor_keys=keys[0],
            anchor_groups=torch.from_numpy(groups[0])[ids],
            positive_ids=ids,
            positive_keys=keys[1][ids],
            positive_groups=torch.from_numpy(groups[1])[ids],
            known_positives=known,
        )
        assert torch.equal(CurriculumLoss(model)(features_of(batch)), want)


def _padded(lists: list[list[int]]) -> np.ndarray[Any, Any]:
    padded = np.full((len(lists), max(map(len, lists))), -1)
    for line, found in zip(padded, lists, strict=True):
        line[: len(found)] = found
    return padded


def labelled_batch(model: Any, rows: list[int]) -> list[dict[str, Any]]:
    return features_of(NegativesDataCollator(model.preprocess)([runs.table()[row] for row in rows]))


def test_a_bank_is_fed_and_asked_in_training_alone() -> None:
    model = runs.encoder()
    bank = nt.MemoryBank(20, 16)
    loss = CurriculumLoss(model, bank=bank, bank_negatives=3)
    loss.step = 7
    model.train()
    loss(labelled_batch(model, [0, 1, 2]))
    assert bank.ids.tolist() == [0, 1, 2]
    assert bank.step == 7
    loss.step = 8
    features = labelled_batch(model, [1, 8, 9])
    with_bank = loss(features)
    told = loss.last_statistics
    assert set(told.source_mass) == {"in-batch", "bank"}
    ids, _ = told.pairs("bank")
    assert sorted(ids[:3].tolist()) == [-1, 0, 2]  # not its own positive of an earlier step
    assert bank.ids.tolist() == [0, 2, 1, 8, 9]
    before = {name: value.clone() for name, value in bank.state_dict().items()}
    model.eval()
    alone = loss(features)
    with torch.no_grad():
        model.train()  # a wrapper does not hear of evaluation
        assert torch.equal(alone, loss(features))
    assert torch.equal(alone, CurriculumLoss(model)(features))
    assert alone < with_bank
    assert loss.last_statistics is told
    assert all(torch.equal(value, bank.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("by", ["ids", "known_positives", "groups", "keys"])
def test_what_a_bank_holds_of_an_anchor_is_not_found(by: str) -> None:
    """Each kind of label alone keeps row 1 from an anchor, which finds row 0 then."""
    rows, none = torch.eye(4), torch.tensor([-1])
    anchor: dict[str, Any] = {"rows": rows[1:2] + 0.1}
    positive: dict[str, Any] = {"rows": rows[2:3], "negfast_ids": torch.tensor([2])}
    bank = nt.MemoryBank(4, 4)
    bank.enqueue(rows[:2], [0, 1], [5, 6], [7, 8], step=0)
    if by == "ids":
        positive["negfast_ids"] = torch.tensor([1])
    elif by == "known_positives":
        positive["negfast_known_positives"] = torch.tensor([[2, 1, -1]])
    else:
        anchor[f"negfast_{by}"] = torch.tensor([{"groups": 6, "keys": 8}[by]])
        positive[f"negfast_{by}"] = none
    loss = CurriculumLoss(Rows(), bank=bank, bank_negatives=1)
    loss.step = 1
    loss([anchor, positive])
    assert loss.last_statistics.pairs("bank")[0].tolist() == [0]


def test_the_curriculum_is_asked_for_the_step() -> None:
    model = runs.encoder()
    curriculum = negfast.Curriculum(temperature=Linear(1.0, 0.1, 10))
    loss = CurriculumLoss(model, curriculum)
    features = labelled_batch(model, [0, 1, 2])
    for step in (0, 5, 10):
        loss.step = step
        want = CurriculumLoss(model, temperature=curriculum.at(step).temperature)
        want.step = step
        assert torch.equal(loss(features), want(features))


def test_a_state_goes_to_another_loss() -> None:
    model = runs.encoder()

    def made(**settings: Any) -> CurriculumLoss:
        return CurriculumLoss(model, bank=nt.MemoryBank(20, 16), learnable_temperature=True, **settings)

    loss = made(temperature=0.1)
    loss.step = 0
    loss(labelled_batch(model, [0, 1, 2]))
    with torch.no_grad():
        loss.criterion.log_scale.add_(0.5)
    other = made()
    other.load_training_state(loss.training_state())
    assert other.criterion.log_scale == loss.criterion.log_scale
    assert other.bank.ids.tolist() == [0, 1, 2]
    for state, message in (
        ({**loss.training_state(), "version": 0}, "version"),
        ({"version": 1, "criterion": {}}, "with the bank and the curriculum"),
        ({**loss.training_state(), "criterion": {}}, "must fit this loss"),
        ({**loss.training_state(), "bank": nt.MemoryBank(9, 16).state_dict()}, "capacity"),
    ):
        with pytest.raises(negfast.StateError, match=message):
            other.load_training_state(state)
    with pytest.raises(negfast.InvalidTypeError, match="state must be a mapping"):
        other.load_training_state(None)


def test_settings_and_papers_for_the_model_card() -> None:
    plain = CurriculumLoss(torch.nn.Identity(), temperature=0.1, relative_margin=0.05)
    config = plain.get_config_dict()
    assert config["temperature"] == 0.1
    assert config["relative_margin"] == 0.05
    assert "bank" not in config
    assert "Contrastive Predictive Coding" in plain.citation
    banked = CurriculumLoss(torch.nn.Identity(), negfast.Curriculum(), bank=nt.MemoryBank(8, 4, policy="aged"))
    assert banked.get_config_dict()["bank"]["policy"] == "aged"
    assert "curriculum" in banked.get_config_dict()
    assert "Cross-Batch Memory" in banked.citation


def _train(loss: CurriculumLoss, *, drawn: bool = False) -> Any:
    rows = torch.eye(3)
    negatives = {"rows": rows, "negfast_index": torch.tensor([[1], [2], [0]])}
    return loss([{"rows": rows}, {"rows": rows}, *([negatives] if drawn else [])])


class Rows(torch.nn.Module):
    def forward(self, features: Any) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": features["rows"]}


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: CurriculumLoss("model"), TypeError, "model must be a SentenceTransformer, got str"),
    (lambda: CurriculumLoss(Rows(), bank=[]), TypeError, "bank must be a MemoryBank or None, got list"),
    (lambda: CurriculumLoss(Rows(), bank_negatives=0), ValueError, "bank_negatives must be"),
    (lambda: CurriculumLoss(Rows(), temperature=0.0), ValueError, "temperature must be"),
    (lambda: CurriculumLoss(Rows(), object()), TypeError, "curriculum must have a method at"),
    (lambda: CurriculumLoss(Rows())([{"rows": torch.eye(3)}]), ValueError, "at least two columns, .* got 1"),
    (lambda: _train(CurriculumLoss(Rows(), negfast.Curriculum())), ValueError, "callbacks=.CurriculumCallback"),
    (lambda: _train(CurriculumLoss(Rows(), bank=nt.MemoryBank(4, 3))), ValueError, "callbacks=.CurriculumCallback"),
    (lambda: _train(CurriculumLoss(Rows(), learnable_temperature=True)), ValueError, "callbacks=.CurriculumCallback"),
    (lambda: _train(CurriculumLoss(Rows()), drawn=True), ValueError, "callbacks=.CurriculumCallback"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_bad_input(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, negfast.NegfastError)


def test_a_bank_without_row_numbers_is_refused() -> None:
    loss = CurriculumLoss(Rows(), bank=nt.MemoryBank(4, 3))
    loss.step = 0
    with pytest.raises(negfast.InvalidValueError, match=r"must say which rows they are.*number_rows"):
        _train(loss)


def test_a_loss_without_state_needs_no_step() -> None:
    assert _train(CurriculumLoss(Rows(), relative_margin=0.0)).isfinite()
