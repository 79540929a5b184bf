"""`mine_hard_negatives` gives the rows of the original, over a grid of its parameters, on real text.

Scores agree to 1e-5, and texts whose scores are tied within 1e-6 may change places.
"""

import contextlib
import inspect
import io
import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    pytest.importorskip("faiss", exc_type=ImportError)
    util = pytest.importorskip("sentence_transformers.util", exc_type=ImportError)
    import torch

    from negfast.integrations.sentence_transformers import mine_hard_negatives
    from tiny_models import code_pairs, cross_encoder, static_encoder

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
TIED = 1e-6
N_PAIRS, N_CROSSED = 220, 40
LAYOUTS = ["triplet", "n-tuple", "labeled-pair", "labeled-list"]
FILTERS: list[dict[str, float]] = [
    {},
    {"max_score": 0.62},
    {"min_score": 0.52},
    {"absolute_margin": 0.03},
    {"relative_margin": 0.05},
    {"absolute_margin": -0.1, "max_score": 0.7},
    {"relative_margin": 0.02, "min_score": 0.45},
    {"absolute_margin": 0.01, "relative_margin": 0.01, "max_score": 0.75, "min_score": 0.4},
]
WINDOWS: list[dict[str, int]] = [{}, {"range_min": 2}, {"range_max": 6}, {"range_min": 3, "range_max": 20}]


def grid() -> list[dict[str, Any]]:
    """Every filter in every window in every layout; the other parameters take turns."""
    cases = []
    for i, (filters, window, layout) in enumerate(itertools.product(FILTERS, WINDOWS, LAYOUTS)):
        turn = i + i // 4 + i // 16
        cases.append(
            {
                **filters,
                **window,
                "output_format": layout,
                "output_scores": turn % 2 == 0,
                "num_negatives": (3, 1, 2)[turn % 3],
                "corpus": (None, "separate")[turn // 2 % 2],
                "use_faiss": turn // 3 % 2 == 0,
                "faiss_batch_size": (16384, 50)[turn // 5 % 2],
            }
        )
    return cases


def remembering(encode: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function of texts, so that it is called once for the same."""
    known: dict[tuple[str, ...], Any] = {}

    def remembered(texts: list[str], **arguments: Any) -> Any:
        key = tuple(texts)
        if key not in known:
            known[key] = encode(texts, **arguments)
        return known[key].copy()

    return remembered


class World:
    """Pairs, further texts and the models that look at them."""

    def __init__(self, folder: Path) -> None:
        self.pairs = code_pairs(N_PAIRS)
        texts = [text for pair in self.pairs for text in pair]
        self.separate = [passage for _, passage in code_pairs(N_PAIRS + 100)[N_PAIRS : N_PAIRS + 100]]
        # The text of a query among the corpus is a candidate like others; so are texts that are there twice.
        self.separate += [query for query, _ in self.pairs[::10]] + self.separate[:5]
        self.model = static_encoder(texts + self.separate)
        for name in ("encode_query", "encode_document"):  # each text is encoded once for the whole grid
            setattr(self.model, name, remembering(getattr(self.model, name)))
        self.crossing = cross_encoder(texts, folder)
        self.dataset = self._dataset(self.pairs)
        self.distinct = self._dataset(list(dict.fromkeys(self.pairs)))
        self.crossed = self._dataset(self.pairs[:N_CROSSED] + self.pairs[N_PAIRS : N_PAIRS + 6] + self.pairs[:3])

    def _dataset(self, pairs: list[tuple[str, str]]) -> Any:
        columns = {"sentence": [query for query, _ in pairs], "code": [passage for _, passage in pairs]}
        return datasets.Dataset.from_dict(columns)

    def score(self, anchor: str, text: str, *, crossed: bool) -> float:
        if crossed:
            return float(self.crossing.predict([(anchor, text)])[0])
        return float(
            self.model.similarity_pairwise(*self.model.encode([anchor, text], normalize_embeddings=True)[:, None])[0]
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    torch.set_num_threads(1)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return World(tmp_path_factory.mktemp("cross-encoder"))


def run(function: Callable[..., Any], world: World, case: dict[str, Any]) -> tuple[Any, str]:
    """Call one of the two, and return its data set and what it printed."""
    arguments = {"verbose": False, **case}
    dataset = world.distinct if arguments.pop("distinct", False) else world.dataset
    if arguments.get("corpus") == "separate":
        arguments["corpus"] = world.separate
    if arguments.get("cross_encoder"):
        arguments["cross_encoder"], dataset = world.crossing, world.crossed
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()) as printed:
        return function(dataset, world.model, **arguments), printed.getvalue()


def assert_same(world: World, case: dict[str, Any]) -> None:
    """Compare two data sets row by row."""
    (theirs, _), (ours, _) = run(util.mine_hard_negatives, world, case), run(mine_hard_negatives, world, case)
    assert ours.column_names == theirs.column_names
    assert len(ours) == len(theirs)
    if len(theirs):
        assert ours.features == theirs.features
    crossed = bool(case.get("cross_encoder"))
    anchors = list(theirs["sentence"])
    for name in theirs.column_names:
        for anchor, want, got in zip(anchors, theirs[name], ours[name], strict=True):
            if name.startswith(("score", "label")):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
            elif got != want:
                assert_tied(world, anchor, want, got, crossed=crossed)


def assert_tied(world: World, anchor: str, want: str | list[str], got: str | list[str], *, crossed: bool) -> None:
    wanted, found = ([want], [got]) if isinstance(want, str) else (want, got)
    for one, other in zip(wanted, found, strict=True):
        if one != other:
            scores = [world.score(anchor, text, crossed=crossed) for text in (one, other)]
            assert abs(scores[0] - scores[1]) <= TIED, (anchor, one, other, scores)


@pytest.mark.parametrize("case", grid(), ids=str)
def test_grid(world: World, case: dict[str, Any]) -> None:
    assert_same(world, case)


def test_grid_is_large_and_finds_something(world: World) -> None:
    assert len(grid()) >= 100
    sizes = [len(run(mine_hard_negatives, world, case)[0]) for case in grid()[::5]]
    assert np.count_nonzero(sizes) > 0.9 * len(sizes)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "filters",
    [{"max_score": 0.6}, {"min_score": 0.3}, {"absolute_margin": 0.05}, {"relative_margin": 0.1, "range_min": 1}],
    ids=str,
)
def test_cross_encoder(world: World, filters: dict[str, Any], layout: str) -> None:
    assert_same(world, {**filters, "cross_encoder": True, "output_format": layout, "output_scores": True})


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"num_negatives": 12, "output_scores": True},
        {"num_negatives": 5, "corpus": "separate"},
        {"num_negatives": 5, "relative_margin": 0.05},
        {"num_negatives": 5, "max_score": 0.9, "output_format": "triplet"},
        {"num_negatives": 5, "max_score": 0.9, "cross_encoder": True},
    ],
    ids=str,
)
def test_positives_included(world: World, case: dict[str, Any]) -> None:
    assert_same(world, {"include_positives": True, **case})


@pytest.mark.parametrize("name", ["dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("filters", [{}, {"relative_margin": 0.1}, {"min_score": -1.2}], ids=str)
def test_other_similarities(world: World, name: str, filters: dict[str, Any]) -> None:
    world.model.similarity_fn_name = name
    try:
        assert_same(world, {**filters, "output_scores": name != "euclidean"})  # theirs rounds distances to 1e-3 or so
    finally:
        world.model.similarity_fn_name = "cosine"


def eligible(world: World, case: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """All that the original could draw for each pair: the best of a window, as many as there are."""
    window = {"num_negatives": case["range_max"] - case.get("range_min", 0), "sampling_strategy": "top"}
    return negatives_of(run(util.mine_hard_negatives, world, {**case, **window})[0])


def negatives_of(mined: Any) -> dict[tuple[str, str], list[str]]:
    lists = defaultdict(list)
    for anchor, positive, negative in zip(mined["sentence"], mined["code"], mined["negative"], strict=True):
        lists[anchor, positive].append(negative.strip())  # texts that differ in spaces are tied here
    return lists


@pytest.mark.parametrize(
    "case",
    [
        {"range_max": 6},
        {"range_max": 8, "range_min": 2, "num_negatives": 2},
        {"range_max": 6, "relative_margin": 0.05},
        {"range_max": 7, "corpus": "separate", "use_faiss": True, "max_score": 0.62},
    ],
    ids=str,
)
def test_random_draws_from_the_same_rows(world: World, case: dict[str, Any]) -> None:
    allowed = eligible(world, case)
    n = case.get("num_negatives", 3)
    met: dict[tuple[str, str], set[str]] = defaultdict(set)
    for seed in range(12):
        mined, _ = run(mine_hard_negatives, world, {**case, "sampling_strategy": "random", "seed": seed})
        drawn = negatives_of(mined)
        assert drawn.keys() == allowed.keys()
        for pair, negatives in drawn.items():
            assert len(negatives) == min(n, len(allowed[pair]))
            assert set(negatives) <= set(allowed[pair])
            assert negatives == sorted(negatives, key=allowed[pair].index)  # best first
            met[pair] |= set(negatives)
    # A row stays undrawn in twelve draws of at least a third with a chance below 1 in 100; most pairs lack none.
    assert sum(met[pair] == set(allowed[pair]) for pair in allowed) > 0.8 * len(allowed)


NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")


def assert_printed_alike(theirs: str, ours: str) -> None:
    """Compare lines word by word; numbers with decimals may differ in the last."""
    assert len(ours.splitlines()) == len(theirs.splitlines()), (ours, theirs)
    for want, got in zip(theirs.splitlines(), ours.splitlines(), strict=True):
        assert NUMBER.sub("#", got).split() == NUMBER.sub("#", want).split()
        for one, other in zip(NUMBER.findall(want), NUMBER.findall(got), strict=True):
            assert abs(float(one.replace(",", "")) - float(other.replace(",", ""))) < 1.5e-4, (want, got)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"range_min": 2, "relative_margin": 0.05},
        {"absolute_margin": 0.02, "max_score": 0.6, "num_negatives": 2},
        {"max_score": 0.2},
        {"range_max": 5, "include_positives": True},
    ],
    ids=str,
)
def test_prints_the_same_lines(world: World, case: dict[str, Any], layout: str) -> None:
    case = {**case, "output_format": layout, "verbose": True}
    if layout == "labeled-pair" and case.get("include_positives") is None:
        case["distinct"] = True  # theirs counts repeated rows as samples that are missing
    (_, theirs), (_, ours) = run(util.mine_hard_negatives, world, case), run(mine_hard_negatives, world, case)
    assert_printed_alike(theirs, ours)


def test_same_signature() -> None:
    ours, theirs = (
        list(inspect.signature(function).parameters.values())
        for function in (mine_hard_negatives, util.mine_hard_negatives)
    )
    assert [(p.name, p.default) for p in ours[: len(theirs)]] == [(p.name, p.default) for p in theirs]
    assert all(p.kind == p.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize(
    "case",
    [
        {"num_negatives": 0},
        {"range_min": -1},
        {"range_min": 5, "range_max": 5},
        {"range_max": 2},
        {"faiss_batch_size": 0},
        {"output_format": "pairs"},
    ],
    ids=str,
)
def test_same_errors(world: World, case: dict[str, Any]) -> None:
    messages = []
    for function in (util.mine_hard_negatives, mine_hard_negatives):
        with pytest.raises(ValueError) as raised:
            run(function, world, case)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"a": [], "b": []}, "The dataset is empty"), ({"a": ["x"]}, "at least two columns")],
    ids=["no rows", "one column"],
)
def test_same_errors_of_data_sets(world: World, columns: dict[str, list[str]], message: str) -> None:
    dataset = datasets.Dataset.from_dict(columns)
    for function in (util.mine_hard_negatives, mine_hard_negatives):
        with pytest.raises(ValueError, match=message):
            function(dataset, world.model, verbose=False)


@pytest.mark.parametrize(
    "case", [{"as_triplets": False}, {"margin": 0.05}, {"output_format": "n-tuple-scores"}], ids=str
)
def test_earlier_names(world: World, case: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert_same(world, case)
    warned = [record.getMessage() for record in caplog.records if "deprecated" in record.getMessage()]
    assert len(warned) == 2
    assert warned[0] == warned[1]


def test_a_small_corpus_pads(world: World) -> None:
    few = datasets.Dataset.from_dict({"a": ["x y", "y z", "x y"], "b": ["one x", "two y", "three z"]})
    for layout in LAYOUTS:
        theirs, ours = (
            run_on(function, few, world.model, output_format=layout, num_negatives=4, output_scores=True)
            for function in (util.mine_hard_negatives, mine_hard_negatives)
        )
        for name in ("a", "b"):
            assert list(ours[name]) == list(theirs[name])


def run_on(function: Callable[..., Any], dataset: Any, model: Any, **arguments: Any) -> Any:
    with contextlib.redirect_stderr(io.StringIO()):
        return function(dataset, model, verbose=False, **arguments)


@pytest.mark.parametrize(
    ("anchor", "positive"), [("code", "sentence"), ("nowhere", None), (None, "code"), ("", "nowhere")], ids=str
)
def test_columns_are_chosen_alike(world: World, anchor: str | None, positive: str | None) -> None:
    dataset = world.dataset.select(range(30)).select_columns(
        ["code", "sentence"] if anchor == "code" else ["sentence", "code"]
    )
    theirs, ours = (
        run_on(function, dataset, world.model, anchor_column_name=anchor, positive_column_name=positive)
        for function in (util.mine_hard_negatives, mine_hard_negatives)
    )
    assert ours.to_dict() == theirs.to_dict()
