"""Hypothesis strategies that property tests share: problems, containers, rules, and what is known about the rows."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import oracle

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

DTYPES = ["float32", "float16"] + (["bfloat16"] if torch is not None else [])


class Case(NamedTuple):
    """Arguments for both sides; `plain` are the rows in float32, `given` what the package gets."""

    given: tuple[Any, Any]
    plain: tuple[Any, Any]
    positives: list[list[int]]
    rng: np.random.Generator


def as_dtype(plain: Any, dtype: str) -> Any:
    if dtype == "bfloat16":
        return torch.from_numpy(plain).to(torch.bfloat16)
    return plain.astype(dtype)


def some_rows(rng: np.random.Generator, n: int, dim: int, style: str) -> Any:
    """Make rows in which ties, copies and zeros are common; exact in every dtype when they are integers."""
    if style == "integers":
        rows = rng.integers(-2, 3, (n, dim)).astype(np.float32)
    elif style == "sparse":
        rows = (rng.integers(-3, 4, (n, dim)) * (rng.random((n, dim)) < 0.3)).astype(np.float32)
    else:
        rows = rng.standard_normal((n, dim)).astype(np.float16).astype(np.float32)
    if n > 1 and style != "normal":
        copies = rng.random(n) < 0.3
        rows[copies] = rows[rng.integers(0, n, copies.sum())]
    return rows


@st.composite
def cases(draw: st.DrawFn, *, same: bool = False) -> Case:
    """Draw the sizes and styles by hypothesis, so that they shrink, and the values by a seed."""
    n = draw(st.integers(0, 14))
    size = n if same else draw(st.one_of(st.integers(0, 40), st.sampled_from([0, 1, 2, 63, 64, 65, 120])))
    dim = draw(st.one_of(st.integers(1, 20), st.sampled_from([1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 70])))
    style = draw(st.sampled_from(["integers", "sparse", "normal"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(DTYPES))
    corpus = some_rows(rng, size, dim, style)
    queries = corpus if same else some_rows(rng, n, dim, style)
    if dtype == "bfloat16":
        corpus = torch.from_numpy(corpus).to(torch.bfloat16).float().numpy()
        queries = corpus if same else torch.from_numpy(queries).to(torch.bfloat16).float().numpy()
    given_corpus = as_dtype(corpus, dtype)
    given_queries = given_corpus if same else as_dtype(queries, dtype)
    most = draw(st.sampled_from([0, 1, 1, 3]))
    positives = [rng.integers(0, size, rng.integers(0, most + 1)).tolist() if size else [] for _ in range(n)]
    return Case((given_queries, given_corpus), (queries, corpus), positives, rng)


def contain(lists: list[list[int]], how: str) -> Any:
    """Put lists into one of the legal containers."""
    if how == "padded":
        return oracle.padded(lists)
    if how == "csr":
        return oracle.csr(lists)
    if how == "flat" and all(len(rows) <= 1 for rows in lists):
        return oracle.padded(lists, 1)[:, 0].copy()
    return lists


containers = st.sampled_from(["padded", "csr", "lists", "flat"])
bounds = st.one_of(st.none(), st.sampled_from([-0.5, 0.0, 0.3, 0.5, 0.6, 0.9, 1.0]))


@st.composite
def rule_options(draw: st.DrawFn, *, lists: bool = True) -> dict[str, Any]:
    options: dict[str, Any] = {
        "relative_margin": draw(st.sampled_from([None, 0.0, 0.05, 0.5])),
        "absolute_margin": draw(st.sampled_from([None, None, 0.0, 0.1, 1.0])),
        "max_score": draw(st.one_of(st.none(), bounds, st.just(3.0))),
        "min_score": draw(st.sampled_from([None, None, -1.0, 0.0, 0.1, 0.25])),
        "duplicate_of_positive": draw(bounds),
        "transitive": draw(st.booleans()),
    }
    if options["max_score"] is not None and options["min_score"] is not None:
        options["max_score"] = max(options["max_score"], options["min_score"])
    if lists:
        options["range_min"] = draw(st.sampled_from([0, 0, 1, 3]))
        options["distinct"] = draw(bounds)
        options["max_exposure"] = draw(st.sampled_from([None, None, 1, 2, 4]))
    return options


def labels(rng: np.random.Generator, n: int, how: str) -> tuple[Any, Any]:
    """Make group or key labels for the package and for the oracle, few enough to collide."""
    if how == "flat":
        flat = rng.integers(-1, 9, n)
        return flat, flat
    if how == "columns":
        table = rng.integers(-1, 9, (n, rng.integers(1, 3)))
        return table, table
    lists = [rng.integers(-1, 9, rng.integers(0, 4)).tolist() for _ in range(n)]
    return contain(lists, how), lists


@st.composite
def identity(draw: st.DrawFn, n: int, size: int, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw keyword arguments for the package and for the oracle."""
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for name in ("groups", "keys"):
        if draw(st.booleans()):
            ways = st.sampled_from(["flat", "columns", "csr", "lists"])
            sides = labels(rng, n, draw(ways)), labels(rng, size, draw(ways))
            ours[name], theirs[name] = zip(*sides, strict=True)
    if draw(st.booleans()) and size:
        lists = [rng.integers(0, size, rng.integers(0, 5)).tolist() for _ in range(n)]
        ours["exclude"], theirs["exclude"] = contain(lists, draw(containers)), lists
    if draw(st.booleans()):
        mask = rng.random(size) < 0.2
        theirs["forbidden"] = np.flatnonzero(mask).tolist()
        ours["forbidden"] = mask if draw(st.booleans()) else np.flatnonzero(mask)
    return ours, theirs
