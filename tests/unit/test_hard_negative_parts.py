"""Texts as numbers, filters, layouts and printed lines of `mine_hard_negatives`, without any model."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from negfast import InvalidTypeError, InvalidValueError
from negfast.integrations.hard_negatives import screen as screening
from negfast.integrations.hard_negatives import tables
from negfast.integrations.hard_negatives.screen import lowest_of, screen, skipped, take_out
from negfast.integrations.hard_negatives.settings import Filters, Settings
from negfast.integrations.hard_negatives.summary import (
    possible_rows,
    print_missing,
    print_scores,
    print_skipped,
    scores_of_pairs,
)
from negfast.integrations.hard_negatives.tables import Negatives, Wanted, check_names, table
from negfast.integrations.hard_negatives.texts import Pairs, pairs_of, same_texts, text_array, text_ids

ANCHORS = ["q", "r", "q", "q", "s"]
POSITIVES = ["b", "c", "a", "b", "q"]


def texts(*values: str) -> Any:
    return pa.array(values, pa.large_string())


def pairs(corpus: list[str] | None = None) -> Pairs:
    return pairs_of(texts(*ANCHORS), texts(*POSITIVES), None if corpus is None else texts(*corpus))


def settings(**changes: Any) -> Settings:
    plain: dict[str, Any] = {
        "num_negatives": 2,
        "range_min": 0,
        "range_max": None,
        "filters": Filters(),
        "strategy": "top",
        "layout": "triplet",
        "output_scores": False,
        "include_positives": False,
    }
    return Settings(**plain | changes)


class TestTexts:
    def test_distinct_in_order_of_first_occurrence(self) -> None:
        found = pairs()
        assert found.queries.to_pylist() == ["q", "r", "s"]
        assert found.corpus.to_pylist() == ["b", "c", "a", "q"]
        assert found.query_rows.tolist() == [0, 1, 4]
        assert found.corpus_rows.tolist() == [0, 1, 2, 4]
        assert found.rows_per_query.tolist() == [3, 1, 1]

    def test_pairs_stand_together_by_query_and_once(self) -> None:
        found = pairs()
        assert found.anchors.tolist() == [0, 0, 1, 2]
        assert found.positives.tolist() == [0, 2, 1, 3]
        assert found.rows.tolist() == [0, 2, 1, 4]
        assert found.indptr.tolist() == [0, 2, 3, 4]

    def test_given_corpus_comes_first(self) -> None:
        found = pairs(["z", "c", "z"])
        assert found.corpus.to_pylist() == ["z", "c", "b", "a", "q"]
        assert found.corpus_rows.tolist() == [0, 1, 3, 5, 7]
        assert found.positives.tolist() == [2, 3, 1, 4]

    def test_equals_plain_python_on_random_texts(self) -> None:
        rng = np.random.default_rng(0)
        anchors, positives, corpus = ([f"t{i}" for i in rng.integers(0, 40, n)] for n in (300, 300, 50))
        found = pairs_of(texts(*anchors), texts(*positives), texts(*corpus))
        queries, documents = list(dict.fromkeys(anchors)), list(dict.fromkeys(corpus + positives))
        joined = list(dict.fromkeys(zip(anchors, positives, strict=True)))
        want = [(a, p) for query in queries for a, p in joined if a == query]
        assert found.queries.to_pylist() == queries
        assert found.corpus.to_pylist() == documents
        assert [(queries[a], documents[p]) for a, p in zip(found.anchors, found.positives, strict=True)] == want
        assert [(anchors[row], positives[row]) for row in found.rows] == want
        assert [anchors[row] for row in found.query_rows] == queries
        assert [(corpus + positives)[row] for row in found.corpus_rows] == documents

    def test_own_texts_and_ids(self) -> None:
        found = pairs()
        assert same_texts(found.queries, found.corpus).tolist() == [3, -1, -1]
        ids = text_ids(texts("a", "a ", "A", "a"))
        assert ids[0] == ids[3] and len(set(ids.tolist())) == 3 and (ids >= 0).all()

    def test_text_ids_are_pinned(self) -> None:
        assert text_ids(texts("negfast")).tolist() == [7854205708149140183]

    @pytest.mark.parametrize(
        ("values", "kind", "message"),
        [
            ("abc", InvalidTypeError, "corpus must be a list of texts, got a str"),
            ([1, 2], InvalidTypeError, "got values of type int64"),
            ([["a"]], InvalidTypeError, "got values of type list"),
            (["a", 1], InvalidTypeError, "corpus must hold texts"),
            (5, InvalidTypeError, "corpus must hold texts"),
            (["a", None], InvalidValueError, "got None in row 1"),
        ],
        ids=str,
    )
    def test_what_is_no_text_is_refused(self, values: Any, kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message):
            text_array("corpus", values)

    def test_any_column_of_texts_is_taken(self) -> None:
        for column in (["a", "b"], ("a", "b"), pa.array(["a", "b"]), pa.chunked_array([["a"], ["b"]])):
            assert text_array("corpus", column).equals(texts("a", "b"))
        assert len(text_array("corpus", [])) == 0


@pytest.fixture(params=[1, 1 << 20], ids=["blocks of one row", "one block"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(screening, "BLOCK", request.param)
    return request.param


@pytest.mark.usefixtures("block")
class TestScreen:
    def test_lists_are_taken_out(self) -> None:
        indices = np.array([[1, 2, 3], [3, 2, 1], [1, 2, -1]])
        take_out(indices, (np.array([0, 2, 2, 3]), np.array([3, 1, 2])))
        assert indices.tolist() == [[-1, 2, -1], [3, 2, 1], [1, -1, -1]]

    def test_nothing_is_taken_out_of_nothing(self) -> None:
        indices = np.zeros((2, 0), np.int64)
        take_out(indices, (np.array([0, 1, 2]), np.array([3, 1])))
        assert indices.shape == (2, 0)

    def test_lowest_of_each_list(self) -> None:
        scores = np.array([0.5, 0.25, 1.0], np.float32)
        assert lowest_of(scores, np.array([0, 2, 3])).tolist() == [0.25, 1.0]

    @pytest.mark.parametrize(
        ("filters", "kept"),
        [
            (Filters(), [1.0, 0.75, 0.5, 0.25, 0.0, -0.25]),
            (Filters(max_score=0.5), [0.5, 0.25, 0.0, -0.25]),
            (Filters(min_score=0.25), [1.0, 0.75, 0.5, 0.25]),
            (Filters(absolute_margin=0.25), [0.5, 0.25, 0.0, -0.25]),
            (Filters(relative_margin=0.5), [0.25, 0.0, -0.25]),
            (Filters(absolute_margin=0.0), [0.75, 0.5, 0.25, 0.0, -0.25]),
        ],
        ids=str,
    )
    def test_edges_stay(self, filters: Filters, kept: list[float]) -> None:
        scores = np.array([[1.0, 0.75, 0.5, 0.25, 0.0, -0.25]] * 2, np.float32)
        indices = np.arange(12).reshape(2, 6)
        screen(indices, scores, np.full(2, 0.75, np.float32), filters)
        for row in range(2):
            assert scores[row][indices[row] >= 0].tolist() == kept

    def test_relative_margin_lowers_the_edge_of_negative_scores(self) -> None:
        scores = np.array([[-0.4, -0.5, -0.6, -0.7]], np.float32)
        indices = np.arange(4)[None]
        screen(indices, scores, np.array([-0.5], np.float32), Filters(relative_margin=0.1))
        assert indices.tolist() == [[-2, -2, 2, 3]]

    def test_counts_name_the_first_filter_and_leave_out_padding(self) -> None:
        scores = np.array([[0.9, 0.7, 0.5, 0.1, -np.inf]], np.float32)
        indices = np.array([[7, -1, 5, 4, -1]])
        filters = Filters(absolute_margin=0.2, max_score=0.4, min_score=0.2)
        screen(indices, scores, np.array([0.8], np.float32), filters)
        assert skipped(indices, filters) == {"absolute_margin": 1, "max_score": 1, "min_score": 1}
        assert (indices < 0).all()


class TestSettings:
    def test_window_is_derived(self) -> None:
        said: list[str] = []
        plain = settings(range_min=5).windowed(4, spare=False, say=said.append)
        assert plain.range_max == 5 + 2 + 4
        assert settings(range_min=5).windowed(4, spare=True, say=said.append).range_max == 5 + 20 + 4
        assert settings(range_max=9).windowed(4, spare=True, say=said.append).range_max == 9
        assert said == [f"Setting range_max to {n} based on the provided parameters." for n in (11, 29)]

    @pytest.mark.parametrize(
        ("changes", "kind", "message"),
        [
            ({"num_negatives": 0}, InvalidValueError, "num_negatives must be at least 1, got num_negatives=0"),
            ({"num_negatives": 1.5}, InvalidTypeError, "num_negatives"),
            ({"range_min": -1}, InvalidValueError, "range_min must be non-negative, got range_min=-1"),
            ({"range_min": 4, "range_max": 4}, InvalidValueError, "range_min=4 and range_max=4"),
            ({"range_max": 1}, InvalidValueError, "Cannot mine 2 negatives per query: only 1 candidates remain"),
            ({"strategy": "best"}, InvalidValueError, "sampling_strategy must be 'top' or 'random', got 'best'"),
            ({"layout": "pairs"}, InvalidValueError, "Invalid output_format: pairs"),
        ],
        ids=str,
    )
    def test_bad_input(self, changes: dict[str, Any], kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message):
            settings(**changes).windowed(1, spare=False, say=lambda _: None)


NEGATIVES = Negatives(
    np.array([[1, 3], [0, -1], [-1, -1]]),
    np.array([[0.5, 0.25], [0.125, -np.inf], [-np.inf, -np.inf]], np.float32),
    np.array([1.0, 0.75, 0.5, 0.25], np.float32),
)


def layout(name: Any, **wanted: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"anchor": "a", "positive": "p", "scores": False, "ids": False, "others": {}}
    columns = table(name, pairs(), NEGATIVES, Wanted(**plain | wanted))
    return {name: column.to_pylist() for name, column in columns.items()}


class TestTables:
    def test_triplets(self) -> None:
        assert layout("triplet") == {
            "a": ["q", "q", "q", "q", "r"],
            "p": ["b", "b", "a", "a", "c"],
            "negative": ["c", "q", "c", "q", "b"],
        }
        assert layout("triplet", scores=True)["scores"][1:4] == [[1.0, 0.25], [0.75, 0.5], [0.75, 0.25]]

    def test_tuples_are_full(self) -> None:
        want = {"a": ["q", "q"], "p": ["b", "a"], "negative_1": ["c", "c"], "negative_2": ["q", "q"]}
        assert layout("n-tuple") == want
        assert layout("n-tuple", scores=True) == want | {"scores": [[1.0, 0.5, 0.25], [0.75, 0.5, 0.25]]}

    def test_labelled_pairs_have_all_positives(self) -> None:
        want = {"a": ["q", "q", "q", "q", "r", "r", "s"], "p": ["b", "a", "c", "q", "c", "b", "q"]}
        assert layout("labeled-pair") == want | {"label": [1, 1, 0, 0, 1, 0, 1]}
        assert layout("labeled-pair", scores=True) == want | {"score": [1.0, 0.75, 0.5, 0.25, 0.5, 0.125, 0.25]}

    def test_labelled_lists_have_a_negative(self) -> None:
        want = {"a": ["q", "q", "r"], "p": [["b", "c", "q"], ["a", "c", "q"], ["c", "b"]]}
        assert layout("labeled-list") == want | {"labels": [[1, 0, 0], [1, 0, 0], [1, 0]]}
        scores = [[1.0, 0.5, 0.25], [0.75, 0.5, 0.25], [0.5, 0.125]]
        assert layout("labeled-list", scores=True) == want | {"scores": scores}

    def test_ids_are_rows_of_the_table(self) -> None:
        found = layout("triplet", ids=True)
        assert list(found) == ["a", "a_id", "p", "p_id", "negative", "negative_id"]
        for column, source in (("a", ANCHORS), ("p", POSITIVES), ("negative", POSITIVES)):
            assert [source[row] for row in found[f"{column}_id"]] == found[column]
        assert layout("labeled-list", ids=True)["p_id"] == [[0, 1, 4], [2, 1, 4], [1, 0]]
        assert layout("n-tuple", ids=True)["negative_2_id"] == [4, 4]

    def test_other_columns_travel_with_their_pair(self) -> None:
        others = {"row": pa.chunked_array([[10, 11, 12, 13, 14]])}
        assert layout("triplet", others=others)["row"] == [10, 10, 12, 12, 11]
        assert layout("n-tuple", others=others)["row"] == [10, 12]
        assert layout("labeled-pair", others=others)["row"] == [10, 12, 10, 10, 11, 11, 14]
        assert layout("labeled-list", others=others)["row"] == [10, 12, 11]

    @pytest.mark.parametrize("name", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
    def test_long_columns_come_in_chunks(self, name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        want = layout(name, scores=True, ids=True)
        monkeypatch.setattr(tables, "_LARGEST", 1)
        assert layout(name, scores=True, ids=True) == want
        columns = table(name, pairs(), NEGATIVES, Wanted(anchor="a", positive="p", scores=False, ids=False, others={}))
        assert columns["p"].num_chunks > 1

    @pytest.mark.parametrize("name", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
    def test_types_do_not_depend_on_what_is_found(self, name: Any) -> None:
        nothing = NEGATIVES._replace(indices=np.full((3, 2), -1))
        wanted = Wanted(anchor="a", positive="p", scores=True, ids=True, others={})
        full, empty = (table(name, pairs(), found, wanted) for found in (NEGATIVES, nothing))
        assert {key: column.type for key, column in full.items()} == {key: column.type for key, column in empty.items()}

    @pytest.mark.parametrize(
        ("name", "wanted", "message"),
        [
            ("triplet", {"others": {"negative": None}}, "negative"),
            ("n-tuple", {"others": {"negative_2": None}}, "negative_2"),
            ("triplet", {"anchor": "negative"}, "negative"),
            ("labeled-pair", {"positive": "label"}, "label"),
            ("labeled-list", {"others": {"scores": None}, "scores": True}, "scores"),
            ("triplet", {"others": {"a_id": None}, "ids": True}, "a_id"),
        ],
        ids=str,
    )
    def test_names_that_meet_are_refused(self, name: Any, wanted: dict[str, Any], message: str) -> None:
        plain: dict[str, Any] = {"anchor": "a", "positive": "p", "scores": False, "ids": False, "others": {}}
        check_names(name, 2, Wanted(**plain))
        with pytest.raises(InvalidValueError, match=f"that the result adds, got {message};"):
            check_names(name, 2, Wanted(**plain | wanted))


class TestSummary:
    def test_scores(self) -> None:
        lines: list[str] = []
        print_scores(*scores_of_pairs("triplet", pairs(), NEGATIVES), lines.append)
        assert lines[:4] == [
            "Metric       Positive       Negative     Difference",
            "Count               4              5               ",
            "Mean           0.6250         0.3250         0.4750",
            "Median         0.5000         0.2500         0.5000",
        ]
        assert [line.split()[0] for line in lines[4:]] == ["Std", "Min", "25%", "50%", "75%", "Max"]

    def test_scores_of_tuples_are_those_of_full_rows(self) -> None:
        assert scores_of_pairs("n-tuple", pairs(), NEGATIVES)[1].tolist() == [0.5, 0.25, 0.5, 0.25]

    def test_nothing_to_describe(self) -> None:
        lines: list[str] = []
        print_scores(np.ones(1, np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32), lines.append)
        assert lines[2].split() == ["Mean", "1.0000", "nan", "nan"]
        assert lines[5].split() == ["Min", "1.0000", "inf", "inf"]
        assert lines[9].split() == ["Max", "1.0000", "-inf", "-inf"]

    def test_refused(self) -> None:
        lines: list[str] = []
        chosen = settings(filters=Filters(absolute_margin=0.1, max_score=0.5, min_score=0.2))
        print_skipped({"absolute_margin": 1000, "max_score": 0, "min_score": 300}, 4000, chosen, lines.append)
        assert lines == [
            "Skipped 1,000 potential negatives (25.00%) due to the absolute_margin of 0.1.",
            "Skipped 300 potential negatives (10.00%) due to the min_score of 0.2.",
        ]

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({}, "range_max parameter if"),
            ({"range_min": 1}, "range_max and range_min parameters if"),
            (
                {"filters": Filters(relative_margin=0.1, max_score=0.5, min_score=0.2)},
                "range_max, relative_margin and max_score parameters if",
            ),
        ],
        ids=str,
    )
    def test_missing(self, changes: dict[str, Any], named: str) -> None:
        lines: list[str] = []
        print_missing(8, 8, settings(**changes), lines.append)
        assert not lines
        print_missing(8, 6, settings(**changes), lines.append)
        assert len(lines) == 1
        assert lines[0].startswith("Could not find enough negatives for 2 samples (25.00%). Consider adjusting the ")
        assert named in lines[0]

    def test_possible_rows(self) -> None:
        want = {"triplet": 8, "n-tuple": 4, "labeled-pair": 10, "labeled-list": 4}
        assert {name: possible_rows(settings(layout=name), pairs()) for name in want} == want
