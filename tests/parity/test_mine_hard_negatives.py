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

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    pytest.importorskip("faiss", exc_type=ImportError)
    util = pytest.importorskip("sentence_transformers.util", exc_type=ImportError)
    import torch
    from tiny_models import code_pairs, cross_encoder, static_encoder

    from negfast.integrations.sentence_transformers import mine_hard_negatives

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


class World:
    """Pairs, further texts and the models that look at them."""

    def __init__(self, folder: Path) -> None:
        self.pairs = code_pairs(N_PAIRS)
        texts = [text for pair in self.pairs for text in pair]
        self.separate = [passage for _, passage in code_pairs(N_PAIRS + 100)[N_PAIRS : N_PAIRS + 100]]
        # The text of a query among the corpus is a candidate like others; so are texts that are there twice.
        self.separate += [query for query, _ in self.pairs[::10]] + self.separate[:5]
        self.model = static_encoder(texts + self.separate)
        self.crossing = cross_encoder(texts, folder)
        self.dataset = self._dataset(self.pairs)
        self.crossed = self._dataset(self.pairs[:N_CROSSED] + self.pairs[N_PAIRS : N_PAIRS + 6] + self.pairs[:3])

    def _dataset(self, pairs: list[tuple[str, str]]) -> Any:
        columns = {"sentence": [query for query, _ in pairs], "code": [passage for _, passage in pairs]}
        return datasets.Dataset.from_dict(columns)

    def score(self, anchor: str, text: str, *, crossed: bool) -> float:
        if crossed:
            return float(self.crossing.predict([(anchor, text)])[0])
        return float(self.model.similarity_pairwise(*self.model.encode([anchor, text], normalize_embeddings=True)[:, None])[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    torch.set_num_threads(1)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return World(tmp_path_factory.mktemp("cross-encoder"))


def run(function: Callable[..., Any], world: World, case: dict[str, Any]) -> tuple[Any, str]:
    """Call one of the two, and return its data set and what it printed."""
    arguments = {"verbose": False, **case}
    if arguments.get("corpus") == "separate":
        arguments["corpus"] = world.separate
    dataset = world.dataset
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
    sizes = [len(run(mine_hard_negatives, world, case)[0]) for case in grid()]
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
