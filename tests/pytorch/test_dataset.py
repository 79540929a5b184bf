"""Pairs joined with their negatives."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import negfast
from made import CORPUS, N_CORPUS, N_PAIRS, PAIRS, dataset, mined, plain
from negfast.torch import Example, NegativesDataset

PINNED = [[8, 13], [10, 12], [18, 9], [17, 9], [1, 3], [2, 1], [0, 1], [1, 2], [0, 2], [2, 1], [1, 2], [0, 2]]


def test_an_example_holds_its_whole_list() -> None:
    result, data = mined(), dataset()
    assert len(data) == N_PAIRS
    lengths = set()
    for i, example in enumerate(data):
        real = result.indices[i] >= 0
        assert (example.anchor, example.positive, example.row) == (*PAIRS[i], i)
        np.testing.assert_array_equal(example.negative_rows, result.indices[i][real])
        np.testing.assert_array_equal(example.scores, result.scores[i][real])
        np.testing.assert_array_equal(example.tiers, result.tiers[i][real])
        assert example.negatives == [CORPUS[row] for row in example.negative_rows]
        lengths.add(len(example.negatives))
    assert len(lengths) > 1


def test_rows_are_looked_up_in_the_anchors_and_pairs_may_share_them() -> None:
    part = mined(anchors=[7, 2])
    rows = [2, 7, 7, 3]
    data = NegativesDataset([("q", "p")] * 4, part, CORPUS, rows=rows)
    whole = mined()
    for i, row in enumerate(rows):
        expected = whole.indices[row][whole.indices[row] >= 0] if row != 3 else []
        assert data[i].negative_rows.tolist() == list(expected)
        assert data[i].row == row
    assert data[3].negatives == []
    by_default = NegativesDataset(PAIRS, part, CORPUS)
    assert [len(x.negatives) > 0 for x in by_default] == [row in (2, 7) for row in range(N_PAIRS)]


class Batched:
    """A data set that reads several rows at once."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return N_PAIRS

    def __getitem__(self, index: int) -> tuple[str, str]:
        return PAIRS[index]

    def __getitems__(self, indices: list[int]) -> list[tuple[str, str]]:
        self.asked.append(indices)
        return [PAIRS[index] for index in indices]


def named(anchor: str = "anchor", positive: str = "positive") -> list[dict[str, Any]]:
    return [{anchor: a, positive: p, "id": i} for i, (a, p) in enumerate(PAIRS)]


@pytest.mark.parametrize(
    ("pairs", "options"),
    [
        (tuple(map(list, PAIRS)), {}),
        (named(), {}),
        (named("question", "answer"), {"columns": ("question", "answer")}),
        (torch.utils.data.Subset(PAIRS, range(N_PAIRS)), {}),
        (Batched(), {}),
    ],
    ids=["lists", "mappings", "named columns", "subset", "batched"],
)
def test_pairs_come_in_many_forms(pairs: Any, options: Any) -> None:
    data = NegativesDataset(pairs, mined(), CORPUS, **options)
    expected = plain(dataset())
    assert plain(data[i] for i in range(N_PAIRS)) == expected
    assert plain(data.__getitems__(list(range(N_PAIRS)))) == expected


def test_a_batch_is_read_at_once_where_pairs_can() -> None:
    pairs = Batched()
    NegativesDataset(pairs, mined(), CORPUS).__getitems__([3, -1])
    assert pairs.asked == [[3, N_PAIRS - 1]]


def test_pairs_from_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    pairs = datasets.Dataset.from_list(named())
    data = NegativesDataset(pairs, mined(), datasets.Dataset.from_dict({"text": CORPUS})["text"])
    assert plain(data) == plain(dataset())
    assert plain(data.__getitems__([3, 1])) == plain([dataset()[3], dataset()[1]])


def test_negative_indices_count_from_the_end() -> None:
    data = dataset()
    assert plain([data[-1]]) == plain([data[N_PAIRS - 1]])
    assert plain([data[np.int64(2)]]) == plain([data[2]])


def test_the_first_are_the_hardest() -> None:
    for few, whole in zip(dataset(num_negatives=2), dataset(), strict=True):
        assert few.negatives == whole.negatives[:2]
        assert few.scores.tolist() == whole.scores[:2].tolist()


def chosen(data: NegativesDataset) -> list[list[int]]:
    return [example.negative_rows.tolist() for example in data]


def test_a_random_choice_is_pinned_and_keeps_the_order() -> None:
    data = dataset(num_negatives=2, choose="random", seed=5)
    data.set_epoch(1)
    assert chosen(data) == PINNED
    for rows, whole in zip(PINNED, dataset(), strict=True):
        assert [row for row in whole.negative_rows.tolist() if row in rows] == rows
        assert len(rows) == min(2, len(whole.negatives))


def test_a_random_choice_depends_on_seed_epoch_and_row_alone() -> None:
    data = dataset(num_negatives=2, choose="random", seed=5)
    first = chosen(data)
    data.set_epoch(1)
    assert (data.epoch, chosen(data) != first) == (1, True)
    data.set_epoch(0)
    assert chosen(data) == first
    assert chosen(dataset(num_negatives=2, choose="random", seed=6)) != first
    reverse = NegativesDataset(
        PAIRS, mined(), CORPUS, rows=range(N_PAIRS)[::-1], num_negatives=2, choose="random", seed=5
    )
    assert chosen(reverse) == first[::-1]


def test_each_negative_is_chosen_as_often() -> None:
    """2 of 6 in 3000 epochs: 1000 each; chance of a false alarm below 1e-6 (5.5 sigma, fixed seed)."""
    data = dataset(num_negatives=2, choose="random")
    row = max(range(N_PAIRS), key=lambda i: len(dataset()[i].negatives))
    n = len(dataset()[row].negatives)
    counts = dict.fromkeys(dataset()[row].negative_rows.tolist(), 0)
    for epoch in range(3000):
        data.set_epoch(epoch)
        for negative in data[row].negative_rows.tolist():
            counts[negative] += 1
    share = 2 / n
    assert all(abs(count - 3000 * share) < 5.5 * (3000 * share * (1 - share)) ** 0.5 for count in counts.values())


def test_a_pickled_data_set_is_the_same() -> None:
    data = dataset(num_negatives=2, choose="random", seed=5)
    data.set_epoch(3)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert plain(again) == plain(data)
    again.set_epoch(4)
    assert data.epoch == 3


def test_empty_data_sets() -> None:
    nothing = negfast.mine(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), [])
    assert list(NegativesDataset([], nothing, [])) == []
    assert NegativesDataset(PAIRS[:1], nothing, [])[0].negatives == []


def make(pairs: Any = PAIRS, result: Any = None, corpus: Any = CORPUS, **options: Any) -> Callable[[], Any]:
    return lambda: NegativesDataset(pairs, mined() if result is None else result, corpus, **options)


def with_row(row: int) -> negfast.MinedNegatives:
    """Mine, and put a row number where the best negative of the second anchor stands."""
    indices = mined().indices.copy()
    indices[1, 0] = row
    return replace(mined(), indices=indices)


class Stream(torch.utils.data.IterableDataset[tuple[str, str]]):
    """Pairs that can only be read from the first to the last."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(PAIRS)

    def __len__(self) -> int:
        return N_PAIRS


class Late(list[Any]):
    """Pairs of which only the first is right."""

    def __getitem__(self, index: Any) -> Any:
        return ("a", "b") if index == 0 else 7


Type, Value, Index = negfast.InvalidTypeError, negfast.InvalidValueError, negfast.RowIndexError
TABLE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("pairs is a text", make("pairs.jsonl"), Type, "pairs must be a sequence, got str; a list of"),
    ("pairs is a mapping", make({"anchor": []}), Type, "pairs must be a sequence, got dict"),
    ("pairs is an iterator", make(iter(PAIRS)), Type, "pairs must be a sequence, got list_iterator"),
    ("pairs is a stream", make(Stream()), Type, "pairs must be a sequence, got Stream"),
    ("pairs is None", make(None), Type, "pairs.*NoneType"),
    ("pair is a text", make(["ab"] * N_PAIRS), Type, r"pairs\[0\] must be \(anchor, positive\).*str 'ab'"),
    ("pair of three", make([("a", "b", "c")] * N_PAIRS), Type, r"pairs\[0\].*tuple"),
    (
        "pair without the column",
        make(named("question")),
        Value,
        r"pairs\[0\].*\['anchor', 'positive'\].*question.*columns=",
    ),
    ("late pair", lambda: NegativesDataset(Late(PAIRS), mined(), CORPUS)[3], Type, r"pairs\[3\].*int 7"),
    ("columns is a text", make(columns="ab"), Type, "columns must be two names, got 'ab'"),
    ("three columns", make(columns=("a", "b", "c")), Type, "columns must be two names"),
    ("mined is an array", make(result=np.zeros((3, 2))), Type, "a MinedNegatives or a NegativeSampler, got ndarray"),
    ("corpus is a text", make(corpus="text"), Type, "corpus must be a sequence, got str"),
    ("corpus is a mapping", make(corpus={0: "text"}), Type, "corpus must be a sequence, got dict"),
    ("corpus of another length", make(corpus=CORPUS[:-1]), Value, rf"corpus.*{N_CORPUS} rows.*got {N_CORPUS - 1}"),
    (
        "row past the corpus",
        make(result=with_row(20)),
        Index,
        "mined must hold rows.*0 to 20, exclusive.*got 20 for row 1",
    ),
    ("row below the padding", make(result=with_row(-2)), Index, "mined must hold rows.*got -2 for row 1"),
    ("fewer pairs than lists", make(PAIRS[:-1]), Index, rf"mined.*{N_PAIRS - 1} pairs.*row {N_PAIRS - 1}; .*rows"),
    ("rows of another length", make(rows=[0]), Value, rf"rows must be of shape \({N_PAIRS},\), got \(1,\)"),
    ("rows of floats", make(rows=np.zeros(N_PAIRS)), Type, "rows must be integers.*float64"),
    ("row below 0", make(rows=[0, -1] + [0] * (N_PAIRS - 2)), Index, "rows must be 0 or more, got -1 for pair 1"),
    ("no negatives", make(num_negatives=0), Value, "num_negatives must be at least 1, got 0"),
    ("half a negative", make(num_negatives=0.5), Type, "num_negatives must be an integer, got float"),
    ("unknown choice", make(choose="last"), Value, "choose must be 'first' or 'random', got 'last'"),
    ("seed below 0", make(seed=-1), Value, "seed must be at least 0, got -1"),
    ("seed of a text", make(seed="0"), Type, "seed must be an integer, got str"),
    ("epoch below 0", lambda: dataset().set_epoch(-1), Value, "epoch must be at least 0"),
    ("epoch of a float", lambda: dataset().set_epoch(1.0), Type, "epoch must be an integer"),  # type: ignore[arg-type]
    ("index past the end", lambda: dataset()[N_PAIRS], Index, rf"index.*{N_PAIRS}, got {N_PAIRS}"),
    ("index before the start", lambda: dataset()[-N_PAIRS - 1], IndexError, "index"),
]


@pytest.mark.parametrize(("call", "kind", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, negfast.NegfastError)


def test_pandas_is_refused_for_its_labels() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(named())
    with pytest.raises(Type, match=r"pairs.*DataFrame.*to_dict"):
        make(table)()
    with pytest.raises(Type, match=r"corpus.*Series.*tolist"):
        make(corpus=pandas.Series(CORPUS))()


def test_an_example_is_frozen() -> None:
    with pytest.raises(AttributeError):
        dataset()[0].row = 1  # type: ignore[misc]
    assert Example.__slots__
