"""Arrays are read where they lie, whatever holds them, and results never depend on threads or level."""

import hashlib
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast
import oracle


@pytest.fixture
def inputs(rows: Any) -> tuple[Any, Any, list[list[int]]]:
    return rows(23, 19), rows(150, 19, seed=1), [[i, i + 40] for i in range(23)]


def digest(mined: negfast.MinedNegatives) -> str:
    parts = (mined.indices, mined.scores, mined.positive_scores, mined.tiers)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_memory_map(inputs: Any, tmp_path: Path) -> None:
    queries, corpus, positives = inputs
    np.save(tmp_path / "corpus.npy", corpus)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    want = digest(negfast.mine(queries, corpus, positives))
    assert digest(negfast.mine(queries, mapped, positives)) == want
    raw = np.memmap(tmp_path / "raw", dtype=np.float16, mode="w+", shape=corpus.shape)
    raw[:] = corpus
    half = corpus.astype(np.float16)
    assert digest(negfast.mine(queries, raw, positives)) == digest(negfast.mine(queries, half, positives))


def test_read_only_rows_stay_as_they_were(inputs: Any) -> None:
    queries, corpus, positives = inputs
    want = digest(negfast.mine(queries, corpus, positives))
    before = corpus.copy()
    for array in (queries, corpus):
        array.flags.writeable = False
    assert digest(negfast.mine(queries, corpus, positives)) == want
    np.testing.assert_array_equal(corpus, before)


def test_read_only_index_arrays(inputs: Any) -> None:
    queries, corpus, positives = inputs
    padded = oracle.padded(positives)
    forbidden = np.array([5, 6])
    padded.flags.writeable = forbidden.flags.writeable = False
    mined = negfast.mine(queries, corpus, padded, forbidden=forbidden)
    assert digest(mined) == digest(negfast.mine(queries, corpus, positives, forbidden=[5, 6]))


def test_the_same_array_twice_and_views_of_one_array(rows: Any) -> None:
    corpus = rows(60, 9)
    views = negfast.mine(corpus[10:30], corpus, [[0]] * 20)
    copies = negfast.mine(corpus[10:30].copy(), corpus.copy(), [[0]] * 20)
    assert digest(views) == digest(copies)


def test_subclasses_of_arrays(inputs: Any) -> None:
    queries, corpus, positives = inputs

    class Named(np.ndarray[Any, Any]):
        pass

    assert digest(negfast.mine(queries, corpus.view(Named), positives)) == digest(
        negfast.mine(queries, corpus, positives)
    )


def test_one_row_and_one_column_are_contiguous_however_they_were_made(rows: Any) -> None:
    wide = rows(1, 12)
    transposed = np.ascontiguousarray(wide.T).T  # (1, 12), contiguous both ways
    assert negfast.topk(transposed, rows(9, 12, seed=1), 3).indices.shape == (1, 3)
    column = np.asfortranarray(rows(9, 1))
    assert negfast.topk(rows(2, 1), column, 3).indices.shape == (2, 3)


@pytest.mark.parametrize("layout", ["fortran", "rows", "columns", "reversed"])
def test_other_layouts_are_refused_not_copied(rows: Any, layout: str) -> None:
    corpus = rows(20, 8)
    views = {
        "fortran": np.asfortranarray(corpus),
        "rows": corpus[::2],
        "columns": corpus[:, :4],
        "reversed": corpus[::-1],
    }
    view = views[layout]
    with pytest.raises(negfast.InvalidValueError, match="contiguous"):
        negfast.topk(rows(3, view.shape[1]), view, 2)


def test_nothing_the_size_of_the_corpus_is_allocated() -> None:
    """Every buffer that numpy makes is known to tracemalloc, so a silent copy of the rows would show."""
    corpus = np.random.default_rng(0).standard_normal((20_000, 32)).astype(np.float32)
    queries = corpus[:8].copy()
    positives = [[0]] * 8
    negfast.mine(queries, corpus, positives)
    tracemalloc.start()
    try:
        negfast.mine(queries, corpus, positives)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < corpus.nbytes / 4


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_torch_tensors(inputs: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    queries, corpus, positives = (torch.from_numpy(inputs[0]), torch.from_numpy(inputs[1]), inputs[2])
    queries, corpus = queries.to(getattr(torch, dtype)), corpus.to(getattr(torch, dtype))
    before = corpus.clone()
    mined = negfast.mine(queries, corpus, positives)
    wide = negfast.mine(queries.float().numpy(), corpus.float().numpy(), positives)
    assert digest(mined) == digest(wide)
    assert torch.equal(corpus, before)
    tensors = negfast.mine(queries, corpus, torch.from_numpy(oracle.padded(positives)))
    assert digest(tensors) == digest(wide)


def test_torch_tensor_is_its_own_corpus() -> None:
    torch = pytest.importorskip("torch")
    rows = torch.nn.functional.normalize(torch.arange(60, dtype=torch.float32).reshape(12, 5).sin())
    mined = negfast.mine(rows, rows, [[]] * 12, num_negatives=11)
    assert mined.report.removed["self"] == 12


def test_torch_tensor_that_needs_a_gradient() -> None:
    """Embeddings straight from a model: only their values are read."""
    torch = pytest.importorskip("torch")
    rows = torch.ones(6, 4, requires_grad=True)
    assert negfast.topk(rows, rows, 2).indices.tolist() == [[0, 1]] * 6


def test_results_do_not_share_memory_with_inputs(inputs: Any) -> None:
    mined = negfast.mine(*inputs)
    for result in (mined.indices, mined.scores, mined.positive_scores, mined.tiers):
        for array in inputs[:2]:
            assert not np.shares_memory(result, array)


@pytest.mark.parametrize("draw", ["top", "random", negfast.Softmax(0.3), negfast.SimANS(5.0)], ids=repr)
def test_threads_agree(rows: Any, draw: Any) -> None:
    corpus, queries = rows(1100, 33), rows(301, 33, seed=1)
    rules = negfast.Rules(distinct=0.6, max_exposure=3)
    results = [
        negfast.mine(
            queries,
            corpus,
            [[i] for i in range(301)],
            num_negatives=5,
            draw=draw,
            rules=rules,
            n_threads=threads,
        )
        for threads in (1, 2, 7)
    ]
    assert len({digest(mined) for mined in results}) == 1
    assert results[0].report.removed == results[1].report.removed == results[2].report.removed


LEVEL_SCRIPT = """
import hashlib, negfast, numpy as np
rng = np.random.default_rng(0)
h = hashlib.sha256()
for dim in (1, 7, 8, 9, 33, 130):
    for dtype in (np.float32, np.float16):
        for metric in ("cosine", "dot"):
            corpus = rng.standard_normal((333, dim)).astype(dtype)
            queries = rng.standard_normal((45, dim)).astype(dtype)
            mined = negfast.mine(queries, corpus, [[i] for i in range(45)], metric=metric, n_threads=2,
                                 rules=negfast.Rules(distinct=.9, max_exposure=4))
            for part in (mined.indices, mined.scores, mined.positive_scores, mined.tiers):
                h.update(part.tobytes())
            h.update(repr(dict(mined.report.removed)).encode())
print(negfast.simd_level(), h.hexdigest())
"""


def at_level(level: str | None) -> tuple[str, str]:
    environment = {key: value for key, value in os.environ.items() if key != "NEGFAST_SIMD"}
    if level is not None:
        environment["NEGFAST_SIMD"] = level
    done = subprocess.run(
        [sys.executable, "-c", LEVEL_SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, value = done.stdout.split()
    return name, value


def test_levels_agree() -> None:
    best, want = at_level(None)
    ladder = ["scalar", "avx2", "avx512"]
    for level in ladder:
        name, value = at_level(level)
        assert value == want, f"{level} differs from {best}"
        assert ladder.index(name) <= ladder.index(best)
        assert name == min(level, best, key=ladder.index)  # the variable lowers the level, it never raises it
