"""What the experiment measures equals what is worked out by hand."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("ir_measures")
pytest.importorskip("sklearn")

import torch

from quality import measures
from quality.losses import Batch, CrossBatch, InBatch
from quality.miners import _rows_of
from quality.tally import Tally
from quality.texts import Texts
from quality.training import distinct

# One question, and corpus rows whose scores with it are 1, .8, .6, .4.
CORPUS = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.4, np.sqrt(0.84)]], np.float32)
QUESTION = np.array([[1.0, 0.0]], np.float32)


def test_a_question_is_judged_by_the_rank_of_its_passage() -> None:
    groups = np.array([7, 7, 8, 9])
    strict, aware = measures.rankings(QUESTION, CORPUS, np.array([2]), np.array([8]), groups, threads=1)
    assert strict[0, :4].tolist() == aware[0, :4].tolist() == [0, 1, 2, 3] and (strict[0, 4:] == -1).all()
    found = measures.judged(strict, np.array([2]))
    assert found["RR@10"][0] == pytest.approx(1 / 3) and found["nDCG@10"][0] == pytest.approx(1 / np.log2(4))
    assert found["R@100"][0] == 1.0


def test_other_rows_of_its_group_are_left_out_of_a_group_aware_ranking() -> None:
    groups = np.array([8, 9, 8, 8])
    strict, aware = measures.rankings(QUESTION, CORPUS, np.array([2]), np.array([8]), groups, threads=1)
    assert strict[0, :4].tolist() == [0, 1, 2, 3]
    assert aware[0, :3].tolist() == [1, 2, -1]
    assert measures.judged(aware, np.array([2]))["RR@10"][0] == 0.5


def test_rankings_are_full_where_a_group_is_large() -> None:
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((400, 8)).astype(np.float32)
    groups = np.where(np.arange(400) < 150, 1, np.arange(400))
    right = np.array([0, 200])
    _, aware = measures.rankings(corpus[right], corpus, right, groups[right], groups, threads=1)
    assert (aware >= 0).all()
    scores = corpus[0] @ corpus.T / np.linalg.norm(corpus, axis=1)
    scores[1:150] = -np.inf
    assert aware[0].tolist() == np.argsort(-scores)[:100].tolist()


def test_passages_beyond_the_tenth_count_for_recall_alone() -> None:
    ranking = np.arange(100)[None].repeat(3, axis=0)
    found = measures.judged(ranking, np.array([9, 10, 100]))
    assert found["RR@10"].tolist() == pytest.approx([0.1, 0.0, 0.0])
    assert found["R@100"].tolist() == [1.0, 1.0, 0.0]


def test_geometry_is_that_of_its_definitions() -> None:
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    found = measures.geometry(square, np.roll(square, 1, axis=0))
    assert found["alignment"] == pytest.approx(2.0)
    # Of six pairs four are at a squared distance of 2, and two at 4.
    assert found["uniformity"] == pytest.approx(np.log((4 * np.exp(-4) + 2 * np.exp(-8)) / 6))
    assert found["effective rank"] == pytest.approx(2.0)


def test_labels_that_rows_show_are_found_again() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    rows = (np.eye(3)[labels] + 0.01 * rng.standard_normal((120, 3))).astype(np.float32)
    assert measures.downstream((rows, labels), (rows, labels)) == {"V-measure": pytest.approx(1.0), "probe": 1.0}
    mixed = rng.permutation(labels)
    assert measures.downstream((rows, mixed), (rows, rng.permutation(labels)))["V-measure"] < 0.2


def test_negatives_that_share_a_text_or_a_group_are_false() -> None:
    keys = np.array([[1, 10], [2, 20], [1, 30], [3, 10], [4, 40]])
    tally = Tally(keys, np.array([0, 0, 1, 2, 3]))
    tally.add("chosen", np.array([0]), np.array([[1, 2, 3, 4, -1]]))
    assert tally.shares() == {"chosen": 0.75}  # group, query, passage; -1 is none
    tally.add_batch(np.array([0, 1, 4]))
    assert tally.shares()["in-batch"] == pytest.approx(2 / 6)


def test_what_is_drawn_is_embedded_once() -> None:
    others, index = distinct(np.array([3, 5]), np.array([[9, 5, -1], [7, 9, 3]]))
    assert others.tolist() == [7, 9]
    assert index.tolist() == [[1, -1, -1], [0, 1, -1]]  # positives of the batch are there already
    assert distinct(np.array([3]), np.array([[3, -1]]))[1].tolist() == [[-1, -1]]


def test_tokens_of_rows_are_cut_out_of_all() -> None:
    texts = Texts(np.array([1, 2, 3, 4, 5, 6], np.int32), np.array([0, 2, 3, 6]))
    tokens, begins = texts.bags(np.array([2, 0]))
    assert tokens.tolist() == [4, 5, 6, 1, 2] and begins.tolist() == [0, 3]
    ids, mask = texts.padded(np.array([1, 2]))
    assert ids.tolist() == [[3, 0, 0], [4, 5, 6]] and mask.sum(dim=1).tolist() == [1, 3]


def batch(b: int = 4, drawn: int = 3) -> Batch:
    torch.manual_seed(0)
    anchors, documents = (torch.nn.functional.normalize(torch.randn(n, 8)) for n in (b, b + drawn))
    return Batch(np.arange(b), anchors, documents, np.arange(100, 100 + drawn), None)


def test_the_in_batch_loss_is_that_of_sentence_transformers() -> None:
    losses = pytest.importorskip("sentence_transformers.losses")
    theirs = losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0)
    made = batch(drawn=4)
    value = theirs.compute_loss_from_embeddings([made.anchors, made.documents[:4], made.documents[4:]], None)
    assert float(InBatch(0.05)(made, 0)) == pytest.approx(float(value), rel=1e-5)


def test_the_cross_batch_loss_adds_late_passages() -> None:
    pytest.importorskip("pytorch_metric_learning")
    loss, first = CrossBatch(0.05, 8, 16), batch(drawn=0)
    plain = float(InBatch(0.05)(first, 0))
    assert float(loss(first, 0)) == pytest.approx(2 * plain, rel=1e-5)  # the memory holds this batch alone
    late = Batch(np.arange(4, 8), first.anchors, first.documents, first.drawn, None)
    assert float(loss(late, 1)) > 2 * plain  # each passage is there again, as a negative


def test_triplets_are_rows_again() -> None:
    queries, passages = ["a", "b", "a"], ["x", "y", "y"]
    found = _rows_of(["a", "a", "b"], ["y", "x", "x"], queries, passages, 2)
    assert found.tolist() == [[1, 0], [0, -1], [1, 0]]
