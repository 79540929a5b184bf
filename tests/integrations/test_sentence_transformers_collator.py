"""`NegativesDataCollator`: what a batch holds, how texts go through their collator, and draws in workers."""

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    st = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    import collator_workers
    import torch

    from negfast.integrations.sentence_transformers import NegativesDataCollator, number_rows
    from negfast.torch import NegativeSampler, UniformRows

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
CORPUS = ["red fox", "red wine", "brown bread", "brown bear", "white wolf"]
POSITIVES = [[0], [1, 2], []]
Call = tuple[list[str], str | None, str | None]


class Letters:
    """A tokenizer that remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, texts: list[str], prompt: str | None = None, task: str | None = None) -> dict[str, Any]:
        self.calls.append((texts, prompt, task))
        return {"input_ids": torch.tensor([[len(text)] for text in texts])}


def sampler(**settings: Any) -> NegativeSampler:
    given = {"num_negatives": 2, "probabilities": {}, "min_random": 1, "positives": POSITIVES, "seed": 4}
    return NegativeSampler([UniformRows(5)], **given | settings)


def collator(tokenizer: Any = None, **settings: Any) -> NegativesDataCollator:
    given = {"sampler": sampler(), "corpus": CORPUS, "positives": POSITIVES}
    return NegativesDataCollator(tokenizer or Letters(), **given | settings)


ROWS = [
    {"anchor": "fox", "positive": "red fox", "row": 0},
    {"anchor": "food", "positive": "brown bread", "row": 1},
    {"anchor": "wolf", "positive": "white wolf", "row": 2},
]


def test_a_batch() -> None:
    tokenizer = Letters()
    groups = ([7, 8, -1], [7, 8, 9, 9, -1])
    batch = collator(tokenizer, groups=groups)(ROWS)
    keys = negfast.content_keys(["fox", "food", "wolf", "red fox", "brown bread", "white wolf"])
    assert batch["anchor_input_ids"].flatten().tolist() == [3, 4, 4]
    assert batch["anchor_negfast_ids"].tolist() == [0, 1, 2]
    assert batch["anchor_negfast_groups"].tolist() == [7, 8, -1]
    assert batch["anchor_negfast_keys"].tolist() == keys[:3].tolist()
    assert batch["positive_negfast_ids"].tolist() == [0, 2, -1]  # of two known ones by its text; the last has none
    assert batch["positive_negfast_groups"].tolist() == [7, 9, -1]
    assert batch["positive_negfast_keys"].tolist() == keys[3:].tolist()
    assert batch["positive_negfast_known_positives"].tolist() == [[0, -1], [1, 2], [-1, -1]]
    draw = sampler().draw([0, 1, 2], 0)
    drawn = batch["negfast_drawn_negfast_ids"]
    assert torch.where(
        batch["negfast_drawn_negfast_index"] >= 0, drawn[batch["negfast_drawn_negfast_index"]], -1
    ).equal(torch.from_numpy(draw.ids))
    assert len(set(drawn.tolist())) == len(drawn)
    assert batch["negfast_drawn_negfast_groups"].tolist() == [groups[1][row] for row in drawn]
    assert batch["negfast_drawn_negfast_log_weight"].equal(torch.from_numpy(draw.log_weight))
    assert batch["negfast_drawn_input_ids"].flatten().tolist() == [len(CORPUS[row]) for row in drawn]
    assert [call[0] for call in tokenizer.calls][:2] == [
        ["fox", "food", "wolf"],
        ["red fox", "brown bread", "white wolf"],
    ]
    assert "negfast_drawn_negfast_log_weight" not in collator(log_weight=False)(ROWS)
    assert not any("row" in name for name in batch)


@pytest.mark.parametrize("place", [0, 1])
def test_the_column_of_rows_may_stand_anywhere(place: int) -> None:
    names = ["anchor", "positive"]
    names.insert(place, "row")
    batch, want = collator()([{name: row[name] for name in names} for row in ROWS]), collator()(ROWS)
    assert batch.keys() == want.keys()
    assert all(torch.equal(batch[name], want[name]) for name in want)
    renamed = [{"number" if name == "row" else name: value for name, value in row.items()} for row in ROWS]
    assert collator(row_column="number")(renamed).keys() == want.keys()


def test_what_the_trainer_hands_to_the_loss() -> None:
    features, labels = st.SentenceTransformerTrainer.collect_features(None, collator()([{**ROWS[0], "label": 1}]))
    assert [sorted(column) for column in features] == [
        ["input_ids", "negfast_ids", "negfast_keys"],
        ["input_ids", "negfast_ids", "negfast_keys", "negfast_known_positives"],
        ["input_ids", "negfast_ids", "negfast_index", "negfast_keys", "negfast_log_weight", "negfast_tiers"],
    ]
    assert labels.tolist() == [1]


def test_prompts_and_tasks_of_the_positives_go_for_drawn_ones() -> None:
    tokenizer = Letters()
    prompts, tasks = {"anchor": "query: ", "positive": "passage: "}, {"anchor": "query", "positive": "document"}
    batch = collator(tokenizer, prompts=prompts, router_mapping=tasks)(ROWS)
    assert [call[1:] for call in tokenizer.calls] == [("query: ", "query"), *[("passage: ", "document")] * 2]
    assert batch["negfast_drawn_task"] == "document"
    tokenizer.calls.clear()
    nested = {"some": {"positive": "of some: "}, "other": {"positive": "of other: "}}
    named = [{**row, "dataset_name": "other"} for row in ROWS]
    batch = collator(tokenizer, prompts=nested)(named)
    assert [call[1] for call in tokenizer.calls] == [None, "of other: ", "of other: "]
    assert batch["dataset_name"] == "other"


def test_no_warning_of_the_order_of_drawn_ones(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        collator()(ROWS)
        assert not caplog.records
    st.util.logging.logging.getLogger("transformers").propagate = True
    swapped = [{"positive": "red fox", "anchor": "fox", "row": 0}]
    seen: list[list[str]] = []
    kind = collator()
    kind.maybe_warn_about_column_order = seen.append  # type: ignore[method-assign]
    kind(swapped)
    assert ["positive", "anchor"] in seen


def test_without_a_sampler_the_positive_of_a_row_is_its_document() -> None:
    batch = NegativesDataCollator(Letters())(ROWS)
    assert batch["positive_negfast_ids"].tolist() == [0, 1, 2]
    assert not any("drawn" in name for name in batch)
    plain = [{name: row[name] for name in ("anchor", "positive")} for row in ROWS]
    batch = NegativesDataCollator(Letters())(plain)
    assert sorted(batch) == [
        *("anchor_input_ids", "anchor_negfast_keys"),
        *("positive_input_ids", "positive_negfast_keys"),
    ]


def test_rows_that_nothing_is_known_of() -> None:
    known, unknown = ROWS[1], {"anchor": "a", "positive": "b", "row": -1}
    batch = collator()([unknown, known])
    assert batch["negfast_drawn_negfast_index"][0].tolist() == [-1, -1]
    draw = sampler().draw([1], 0)
    assert batch["negfast_drawn_negfast_ids"][batch["negfast_drawn_negfast_index"][1]].tolist() == draw.ids[0].tolist()
    assert batch["positive_negfast_ids"].tolist() == [-1, 2]
    assert not any("drawn" in name for name in collator()([unknown]))


def test_a_batch_for_which_there_is_nothing_to_draw_has_a_column_all_the_same() -> None:
    everything = [[0, 1, 2, 3, 4]]
    nothing = sampler(positives=everything)
    batch = collator(sampler=nothing, positives=everything)([{"anchor": "a", "positive": "red fox", "row": 0}])
    assert (batch["negfast_drawn_negfast_index"] == -1).all()
    assert batch["negfast_drawn_negfast_ids"].tolist() == [-1]
    assert batch["negfast_drawn_input_ids"].tolist() == [[7]]


def test_no_rows_no_batch() -> None:
    assert collator()([]) == {}


def test_a_column_of_a_data_set_is_not_copied(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": [f"text number {i}" for i in range(20_000)]}).save_to_disk(tmp_path / "corpus")
    column = datasets.load_from_disk(tmp_path / "corpus")["text"]
    known = NegativeSampler(
        [UniformRows(20_000)], num_negatives=2, probabilities={}, min_random=1, positives=[[0], [1]]
    )
    made = NegativesDataCollator(len, sampler=known, corpus=column, positives=[[0], [1]])
    saved = pickle.dumps({**vars(made), "sampler": None})
    assert len(saved) < 20_000
    assert made._read([3, 19_999]) == ["text number 3", "text number 19999"]
    assert pickle.loads(saved)["corpus"][[19_999]] == ["text number 19999"]  # noqa: S301


@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_workers_hear_of_what_is_published(method: str) -> None:
    collator_workers.check(method)


def test_row_numbers() -> None:
    one = datasets.Dataset.from_dict({"a": ["x", "y"]})
    assert number_rows(one, "number", start=5)["number"][:] == [5, 6]
    assert one.column_names == ["a"]
    both = number_rows(datasets.DatasetDict({"one": one, "two": one}))
    assert {name: part["row"][:] for name, part in both.items()} == {"one": [0, 1], "two": [2, 3]}
    assert number_rows(one, start=None)["row"][:] == [-1, -1]
    assert len(number_rows(datasets.Dataset.from_dict({"a": []}))) == 0


TABLE = datasets.Dataset.from_dict({"row": ["x"]})
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: number_rows([1]), TypeError, "dataset must be a datasets.Dataset or a DatasetDict, got list"),
    (lambda: number_rows(TABLE), ValueError, "column_name must be none of the columns, got 'row'"),
    (lambda: number_rows(TABLE, start=-1), ValueError, "start must be"),
    (lambda: number_rows(TABLE, 3), TypeError, "column_name must be a str, got 3"),
    (lambda: collator(sampler="x"), TypeError, "sampler must be a NegativeSampler, got str"),
    (lambda: collator(corpus=None), ValueError, "corpus must come with sampler, got None"),
    (lambda: collator(positives=None), ValueError, "positives must come with sampler, got None"),
    (lambda: collator(corpus="text"), TypeError, "corpus must be a list or a column of a data set, got str"),
    (lambda: collator(corpus=CORPUS[:4]), ValueError, "corpus must have the 5 rows .* got 4"),
    (lambda: collator(positives=[[0], [9], []]), IndexError, "positives must hold rows of the corpus"),
    (lambda: collator(groups=[1, 2, 3]), TypeError, "groups must be a pair of arrays"),
    (lambda: collator(groups=([1], [1] * 5)), ValueError, r"groups of the queries must be of shape \(3,\)"),
    (lambda: collator(row_column=1), TypeError, "row_column must be a str"),
    (lambda: collator(log_weight=1), TypeError, "log_weight must be"),
    (lambda: NegativesDataCollator(len, corpus=CORPUS), ValueError, "corpus must come with sampler, got none"),
    (lambda: collator()([{"anchor": "a", "positive": "b"}]), ValueError, "must have the column 'row'.*number_rows"),
    (lambda: collator()([{**ROWS[0], "row": 3}]), IndexError, "rows of the 3 queries .* got 3"),
    (lambda: collator()([{"anchor": "a", "row": 0}]), ValueError, "a column of anchors and one of positives, got"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_bad_input(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, negfast.NegfastError)


def test_known_positives_as_an_array() -> None:
    batch = collator(positives=np.array([[0, -1], [1, 2], [-1, -1]]))(ROWS)
    assert batch["positive_negfast_ids"].tolist() == [0, 2, -1]
