"""Batches of examples, and what may count as a negative in them."""

from collections import UserDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch
from torch.nn.functional import cross_entropy, normalize

import negfast
from made import CORPUS, N_PAIRS, dataset
from negfast.torch import Example, NegativesBatch, NegativesCollator

Two = namedtuple("Two", "first second")  # noqa: PYI024 - one without types, as tokenizers return them


def example(row: int, anchor: Any, positive: Any, negatives: dict[int, Any]) -> Example:
    n = len(negatives)
    scores = np.linspace(0.5, 0.1, n, dtype=np.float32)
    rows = np.fromiter(negatives, dtype=np.int64, count=n)
    return Example(anchor, positive, list(negatives.values()), row, rows, scores, np.full(n, 2, dtype=np.uint8))


EXAMPLES = [
    example(0, "q0", "p0", {5: "n5", 3: "n3"}),
    example(1, "q1", "p1", {3: "n3"}),
    example(2, "q2", "p2", {}),
]


def test_a_batch_holds_each_negative_once() -> None:
    batch = NegativesCollator()(EXAMPLES)
    assert len(batch) == 3
    assert batch.anchors == ["q0", "q1", "q2"]
    assert batch.documents == ["p0", "p1", "p2", "n5", "n3"]
    assert batch.rows.tolist() == [0, 1, 2]
    assert batch.negative_rows.tolist() == [5, 3]
    assert batch.negative_index.tolist() == [[0, 1], [1, -1], [-1, -1]]
    assert batch.scores.tolist() == [[0.5, pytest.approx(0.1)], [0.5, -np.inf], [-np.inf, -np.inf]]
    assert batch.tiers.tolist() == [[2, 2], [2, 0], [0, 0]]
    assert batch.mask.shape == (3, 5) and batch.mask.all()
    kinds = {"rows": torch.int64, "negative_rows": torch.int64, "negative_index": torch.int64}
    kinds |= {"scores": torch.float32, "tiers": torch.uint8, "mask": torch.bool}
    assert {name: getattr(batch, name).dtype for name in kinds} == kinds


def test_the_index_leads_back_to_the_lists() -> None:
    data = dataset()
    batch = NegativesCollator()([data[i] for i in range(N_PAIRS)])
    assert sorted(set(batch.negative_rows.tolist())) == sorted(batch.negative_rows.tolist())
    for i, index in enumerate(batch.negative_index):
        own = index[index >= 0]
        assert batch.negative_rows[own].tolist() == data[i].negative_rows.tolist()
        assert [batch.documents[len(batch) + place] for place in own] == data[i].negatives
        assert [CORPUS[row] for row in batch.negative_rows[own]] == data[i].negatives


@pytest.mark.parametrize("n", [0, 1])
def test_batches_without_negatives(n: int) -> None:
    batch = NegativesCollator()(EXAMPLES[2 : 2 + n])
    assert batch.negative_rows.shape == (0,)
    assert batch.negative_index.shape == (n, 0) == batch.scores.shape == batch.tiers.shape
    assert batch.mask.shape == (n, n)
    assert len(batch.documents) == n


def test_the_encoder_sees_anchors_and_documents() -> None:
    seen: list[list[str]] = []
    batch = NegativesCollator(lambda texts: seen.append(texts) or torch.tensor([len(t) for t in texts]))(EXAMPLES)
    assert seen == [["q0", "q1", "q2"], ["p0", "p1", "p2", "n5", "n3"]]
    assert batch.documents.tolist() == [2] * 5


MASKS: dict[str, tuple[list[Example], Any, list[list[int]]]] = {
    "same row": ([example(7, "q", "p0", {}), example(7, "r", "p1", {})], None, [[1, 0], [0, 1]]),
    "same anchor text": ([example(0, "a b", "p0", {}), example(1, " a  b", "p1", {})], None, [[1, 0], [0, 1]]),
    "same positive text": ([example(0, "q", "p", {}), example(1, "r", "p", {})], None, [[1, 0], [0, 1]]),
    "negative reads as the positive": ([example(0, "q", "p", {4: "p", 5: "n"})], None, [[1, 0, 1]]),
    "negative reads as the anchor": ([example(0, "q", "p", {4: "q", 5: "n"})], None, [[1, 0, 1]]),
    "known negative of another": (
        [example(0, "q", "p", {4: "n"}), example(1, "r", "s", {})],
        [[1], [2, 4]],
        [[1, 1, 1], [1, 1, 0]],
    ),
    "its text as a positive": (
        [example(0, "q", "p", {4: "n"}), example(1, "r", "s", {}), example(2, "t", "n", {})],
        [[1], [2, 4], [3]],
        [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]],
    ),
    "shared known positive": (
        [example(0, "q", "p", {}), example(1, "r", "s", {}), example(2, "t", "u", {})],
        ([0, 2, 4, 5], [1, 2, 2, 3, 5]),
        [[1, 0, 1], [0, 1, 1], [1, 1, 1]],
    ),
    "padded known positives": (
        [example(1, "q", "p", {6: "n"})],
        np.array([[5, -1], [5, 6]]),
        [[1, 0]],
    ),
    "texts that are none": ([example(0, 1.5, 2.5, {4: 2.5}), example(1, 1.5, 2.5, {})], None, [[1, 1, 1], [1, 1, 1]]),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_by_hand(name: str) -> None:
    examples, positives, expected = MASKS[name]
    assert NegativesCollator(positives=positives)(examples).mask.int().tolist() == expected


def naive_mask(examples: list[Example], positives: list[list[int]]) -> list[list[bool]]:
    """Ask each question of each anchor and document, in the words of the documentation."""
    distinct = {row: text for x in examples for row, text in zip(x.negative_rows.tolist(), x.negatives, strict=True)}
    documents = [x.positive for x in examples] + list(distinct.values())
    corpus_rows = [None] * len(examples) + list(distinct)

    def same_anchor(a: Example, b: Example) -> bool:
        return a.row == b.row or a.anchor == b.anchor

    def known(a: Example) -> set[int]:
        return {row for b in examples if same_anchor(a, b) for row in positives[b.row]}

    def is_positive(a: Example, place: int) -> bool:
        if place >= len(examples):
            return corpus_rows[place] in known(a)
        other = examples[place]
        return same_anchor(a, other) or bool(known(a) & set(positives[other.row]))

    def refused(a: Example, place: int) -> bool:
        copies = [k for k, text in enumerate(documents) if text == documents[place]]
        return documents[place] == a.anchor or any(is_positive(a, k) for k in copies)

    return [[i == k or not refused(a, k) for k in range(len(documents))] for i, a in enumerate(examples)]


@given(data=st.data(), n_texts=st.integers(1, 12))
def test_masks_are_those_of_the_naive_loop(data: st.DataObject, n_texts: int) -> None:
    n_queries, n_corpus = 5, 8
    texts = st.sampled_from([f"t{i}" for i in range(n_texts)])
    corpus = data.draw(st.lists(texts, min_size=n_corpus, max_size=n_corpus))
    rows = st.integers(0, n_corpus - 1)
    positives = data.draw(st.lists(st.lists(rows, max_size=3), min_size=n_queries, max_size=n_queries))
    examples = [
        example(
            data.draw(st.integers(0, n_queries - 1)),
            data.draw(texts | st.just(f"anchor {i}")),
            data.draw(texts),
            {row: corpus[row] for row in data.draw(st.lists(rows, unique=True, max_size=3))},
        )
        for i in range(data.draw(st.integers(0, 6)))
    ]
    assert NegativesCollator(positives=positives)(examples).mask.tolist() == naive_mask(examples, positives)


def encoders() -> dict[str, Callable[[list[str]], Any]]:
    def ones(texts: list[str]) -> torch.Tensor:
        return torch.ones(len(texts), 2)

    return {
        "tensor": ones,
        "mapping": lambda texts: UserDict(ids=ones(texts), mask={"inner": ones(texts)}),
        "tuple": lambda texts: (ones(texts), texts),
        "named tuple": lambda texts: Two(ones(texts), [ones(texts)]),
        "none": list,
    }


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if hasattr(value, "values") else value if isinstance(value, list | tuple) else []
    return [tensor for part in parts for tensor in tensors(part)]


@pytest.mark.parametrize("name", encoders())
def test_a_batch_moves_with_all_its_tensors(name: str) -> None:
    batch = NegativesCollator(encoders()[name])(EXAMPLES)
    moved = batch.to("meta", non_blocking=True)
    assert isinstance(moved, NegativesBatch)
    before, after = tensors(list(vars(batch).values())), tensors(list(vars(moved).values()))
    assert [t.shape for t in after] == [t.shape for t in before]
    assert {t.device.type for t in after} == {"meta"} and {t.device.type for t in before} == {"cpu"}
    if name == "named tuple":
        assert isinstance(moved.documents, Two)
    if name == "none":
        assert moved.documents == batch.documents


def test_a_batch_is_pinned_with_all_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    NegativesCollator(encoders()["mapping"])(EXAMPLES).pin_memory()
    assert len(pinned) == 4 + 7


def test_gradients_reach_anchors_and_allowed_documents_alone() -> None:
    letters = torch.nn.EmbeddingBag(128, 8)

    def encode(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[ord(letter) for letter in text] for text in texts])

    batch = NegativesCollator(encode, positives=[[1], [2, 5], [3]])(EXAMPLES)
    anchors, documents = normalize(letters(batch.anchors)), normalize(letters(batch.documents))
    documents.retain_grad()
    scores = (anchors @ documents.T).masked_fill(~batch.mask, -torch.inf)
    loss = cross_entropy(scores[1:2], torch.tensor([1]))  # of the second anchor, for which n5 is masked
    loss.backward()
    assert torch.isfinite(loss)
    assert documents.grad is not None and letters.weight.grad is not None
    assert [bool(row.any()) for row in documents.grad] == [True, True, True, False, True]
    assert torch.isfinite(letters.weight.grad).all() and letters.weight.grad.any()


Type, Value, Index = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.RowIndexError
TABLE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("encode is a text", lambda: NegativesCollator("tokenizer"), Type, "encode must be callable or None, got str"),  # type: ignore[arg-type]
    ("positives are a number", lambda: NegativesCollator(positives=3), Type, "positives must be.*int"),
    ("positives are a text", lambda: NegativesCollator(positives="rows"), Type, "positives must be.*str"),
    ("positives are floats", lambda: NegativesCollator(positives=[[0.5]]), Type, "positives.*float64"),
    ("positives do not rise", lambda: NegativesCollator(positives=([0, 2, 1], [3])), Value, "positives.*indptr"),
    ("a cube", lambda: NegativesCollator(positives=np.zeros((2, 2, 2), int)), Value, r"positives.*\(2, 2, 2\)"),
    ("a point", lambda: NegativesCollator(positives=np.array(1)), Value, r"positives.*\(\)"),
    ("a row below the padding", lambda: NegativesCollator(positives=[[-2]]), Index, "positives.*-2"),
    ("too few lists", lambda: NegativesCollator(positives=[[0]])(EXAMPLES), Index, "positives.*1 lists.*row [12]"),
    ("a tuple", lambda: NegativesCollator()([EXAMPLES[0], ("a", "b")]), Type, r"examples\[1\].*tuple"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("call", "kind", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, negfast.NegfastError)
