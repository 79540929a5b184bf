"""Larger sets made from the real rows of `data.load`, and the check that they are like them.

    python benches/peers/scaled.py     # make both sets, print them beside the original, fail where they differ

A new row is a mixture of a real row and one of its near neighbours, plus noise. The mixture loses variance in the
direction of local differences, exactly `weight * (1 - weight) * gap**2` of it in expectation; the noise gives that
much back, with the covariance of local differences. So the spectrum and the density around a query stay those of the
original, no row is a copy of a real one, and neighbourhoods are as skewed as in real text. Real text repeats itself:
a share of the rows are copies, or near-copies, of other new rows.

The wide set goes on from there: it is turned into a space of twice the dimension, whose new half holds smooth
nonlinear features of the row with a falling spectrum.

Sets are kept in the folder named by `NEGFAST_BENCH_CACHE`, or one in the system's temporary folder, until this file or
the original changes. A recipe gives the same set again on the same machine.
"""

import hashlib
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data import Floats, Pairs, load, unit_rows

BLOCK = 8192  # rows among which the neighbours of each of them are sought
NEIGHBOURS = 4
CHUNK = 50_000


@dataclass(frozen=True)
class Recipe:
    """What to make of real pairs. Weights are of the neighbour, uniform in a range."""

    corpus: int
    queries: int
    wide: bool = False
    corpus_weights: tuple[float, float] = (0.05, 0.45)
    query_weights: tuple[float, float] = (0.0, 0.2)
    copies: float = 0.065  # share of the corpus
    near_copies: float = 0.065
    wide_energy: float = 0.12  # share of the new half
    seed: int = 0


RECIPES = {
    "large": Recipe(corpus=500_000, queries=100_000),
    "wide": Recipe(corpus=200_000, queries=50_000, wide=True),
}

# Largest differences from the original that `check` accepts.
SPECTRUM_AT = (8, 32, 64, 128, 192, 256)
SPECTRUM_TOLERANCE = {"narrow": 0.03, "wide": 0.06}  # the new half takes its share of the energy from the old
WIDE_TAIL = (0.005, 0.08)  # share of the energy beyond the dimension of the original
RANKS = (13, 100, 1000)  # in the original; the same share of the corpus in the new set
SCORE_TOLERANCE = {"narrow": 0.03, "wide": 0.04}  # twice that between rows of the corpus, where families weigh more
DUPLICATES_ABOVE = (0.98, 0.999)
DUPLICATES_TOLERANCE = 0.05
SAMPLE = 500
CELLS, NEAR = 256, 16  # what share of the best rows of a query lies in the cells that are nearest to it
CELLS_TOLERANCE = 0.05


@dataclass(frozen=True)
class Rows:
    source: str
    queries: Floats
    corpus: Floats


def scaled(name: str) -> Rows:
    """Return a set by the name of its recipe: made, checked and kept, or found where it was kept."""
    recipe = RECIPES[name]
    original = load(dither=True)
    key = hashlib.sha256(repr((original.source, len(original), recipe, Path(__file__).read_text())).encode())
    folder = cache() / f"{name}-{key.hexdigest()[:12]}"
    if not (folder / "corpus.npy").exists():
        begin = time.perf_counter()
        queries, corpus = make(original, recipe)
        print(f"{name}: made in {time.perf_counter() - begin:.0f} s")
        check(original, queries, corpus, recipe)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "part.npy", corpus)
        (folder / "part.npy").rename(folder / "corpus.npy")  # only a whole set is found
    source = f"mixtures of {original.source}" + (", in a space of twice the dimension" if recipe.wide else "")
    return Rows(source, np.load(folder / "queries.npy"), np.load(folder / "corpus.npy"))


def cache() -> Path:
    return Path(os.environ.get("NEGFAST_BENCH_CACHE") or Path(tempfile.gettempdir()) / "negfast-bench")


def make(original: Pairs, recipe: Recipe) -> tuple[Floats, Floats]:
    """Queries and corpus of a recipe."""
    rng = np.random.default_rng(recipe.seed)
    copies, near = (round(recipe.corpus * share) for share in (recipe.copies, recipe.near_copies))
    fresh = recipe.corpus - copies - near
    mixtures, root = mix(original.corpus, fresh, recipe.corpus_weights, rng)
    corpus = np.concatenate(
        [
            mixtures,
            mixtures[rng.integers(fresh, size=copies)],
            near_copies(mixtures[rng.integers(fresh, size=near)], root, rng),
        ]
    )[rng.permutation(recipe.corpus)]
    queries, _ = mix(original.queries, recipe.queries, recipe.query_weights, rng)
    if recipe.wide:
        widen = widening(corpus.shape[1], recipe.wide_energy, rng)
        queries, corpus = widen(queries), widen(corpus)
    return queries, corpus


def mix(rows: Floats, count: int, weights: tuple[float, float], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """`count` mixtures of neighbours with their noise, and a root of the covariance of that noise, of trace 1."""
    near = neighbours(rows, rng)
    root = covariance_root(rows - rows[near[:, 0]])
    sources = rng.permutation(np.resize(np.arange(len(rows)), count))
    mixed = np.empty((count, rows.shape[1]), np.float32)
    for begin in range(0, count, CHUNK):
        source = sources[begin : begin + CHUNK]
        first, second = rows[source], rows[near[source, rng.integers(NEIGHBOURS, size=len(source))]]
        weight = rng.uniform(*weights, (len(source), 1)).astype(np.float32)
        gap = np.linalg.norm(first - second, axis=1, keepdims=True)
        noise = rng.standard_normal(first.shape, np.float32) @ root
        mixed[begin : begin + CHUNK] = unit_rows(
            (1 - weight) * first + weight * second + np.sqrt(weight * (1 - weight)) * gap * noise
        )
    return mixed, root


def neighbours(rows: Floats, rng: np.random.Generator) -> np.ndarray:
    """The nearest rows of each one among a random part of the rows: near, and seldom its copy."""
    found = np.empty((len(rows), NEIGHBOURS), np.int64)
    for part in np.array_split(rng.permutation(len(rows)), -(-len(rows) // BLOCK)):
        scores = rows[part] @ rows[part].T
        np.fill_diagonal(scores, -np.inf)
        found[part] = part[np.argpartition(scores, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]]
    return found


def covariance_root(rows: Floats) -> Floats:
    values, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    values = np.maximum(values, 0.0) / values.sum()
    return (vectors * np.sqrt(values)).T.astype(np.float32)


def near_copies(rows: Floats, root: Floats, rng: np.random.Generator) -> Floats:
    """Rows at cosines that are uniform between those of a near-duplicate and of a copy."""
    cosine = rng.uniform(*DUPLICATES_ABOVE, (len(rows), 1)).astype(np.float32)
    return unit_rows(rows + np.sqrt(2 - 2 * cosine) * (rng.standard_normal(rows.shape, np.float32) @ root))


def widening(dim: int, energy: float, rng: np.random.Generator):
    """A function from rows of `dim` to unit rows of twice that, alike for queries and corpus."""
    turn = np.linalg.qr(rng.standard_normal((2 * dim, 2 * dim)))[0].astype(np.float32)
    features = (rng.standard_normal((dim, dim)) * 1.5).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, dim).astype(np.float32)
    fall = (np.arange(dim, dtype=np.float32) + 4) ** -0.6
    # E[sin(...)**2] is 1/2.
    fall *= np.sqrt(2 * energy / (fall @ fall), dtype=np.float32)

    def widen(rows: Floats) -> Floats:
        wide = np.empty((len(rows), 2 * dim), np.float32)
        for begin in range(0, len(rows), CHUNK):
            part = rows[begin : begin + CHUNK]
            new = np.sin(part @ features + phases) * fall
            wide[begin : begin + CHUNK] = unit_rows(np.hstack([np.float32(np.sqrt(1 - energy)) * part, new]) @ turn)
        return wide

    return widen


def spectrum(rows: Floats, rng: np.random.Generator) -> np.ndarray:
    """Share of the energy of centred rows in the first p principal directions, for every p from 0."""
    some = rows[rng.choice(len(rows), min(len(rows), 60_000), replace=False)]
    values = np.linalg.eigvalsh(np.cov(some.T, dtype=np.float64))[::-1]
    return np.concatenate([[0.0], np.cumsum(values) / values.sum()])


def ranked_scores(queries: Floats, corpus: Floats, ranks: list[int], rng: np.random.Generator) -> np.ndarray:
    """Tenth, fiftieth and ninetieth percentile of the score at each rank, over a sample of queries."""
    some = queries[rng.choice(len(queries), min(len(queries), SAMPLE), replace=False)]
    places = [len(corpus) - rank for rank in ranks]
    scores = [np.partition(query[None] @ corpus.T, places, axis=1)[0, places] for query in some]
    return np.percentile(scores, [10, 50, 90], axis=0).T


def in_near_cells(queries: Floats, corpus: Floats, rank: int, rng: np.random.Generator) -> float:
    """Share of the rows up to `rank` that lie in the nearest cells, where random rows are the centres of cells.

    It says how far the set can be searched by clusters, which scores alone do not.
    """
    centres = corpus[rng.choice(len(corpus), CELLS, replace=False)]
    cells = np.concatenate(
        [(part @ centres.T).argmax(axis=1) for part in np.array_split(corpus, -(-len(corpus) // CHUNK))]
    )
    hits = 0
    for query in queries[rng.choice(len(queries), SAMPLE, replace=False)]:
        best = np.argpartition(corpus @ query, -rank)[-rank:]
        hits += np.isin(cells[best], np.argsort(centres @ query)[-NEAR:]).sum()
    return hits / (rank * SAMPLE)


def duplicate_rates(corpus: Floats, rng: np.random.Generator) -> np.ndarray:
    """Share of the rows that have another row above each bound."""
    nearest = []
    for part in np.array_split(rng.choice(len(corpus), min(len(corpus), 2 * SAMPLE), replace=False), 10):
        scores = corpus[part] @ corpus.T
        scores[np.arange(len(part)), part] = -1.0
        nearest.append(scores.max(axis=1))
    return (np.concatenate(nearest)[:, None] > DUPLICATES_ABOVE).mean(axis=0)


def check(original: Pairs, queries: Floats, corpus: Floats, recipe: Recipe) -> None:
    """Print the original and what was made of it side by side; exit where they are too far apart."""
    rng = np.random.default_rng(recipe.seed)
    width = "wide" if recipe.wide else "narrow"
    far = []

    def line(what: str, before: np.ndarray | float, after: np.ndarray | float, tolerance: float) -> None:
        differs = bool(np.max(np.abs(np.subtract(before, after))) > tolerance)
        shown = ["  ".join(f"{value:.3f}" for value in np.atleast_1d(side)) for side in (before, after)]
        print(f"{what:<48} {shown[0]:<22} {shown[1]:<22} within {tolerance:g}{': NO' * differs}", flush=True)
        far.extend([what] * differs)

    print(f"{asdict(recipe)}\n{'':<48} {'original':<22} made")
    for name, before, after in (("corpus", original.corpus, corpus), ("queries", original.queries, queries)):
        old, new = spectrum(before, rng), spectrum(after, rng)
        for p in SPECTRUM_AT:
            line(f"energy of {name} in {p} directions", old[p], new[p], SPECTRUM_TOLERANCE[width])
        if recipe.wide:
            middle, half = sum(WIDE_TAIL) / 2, (WIDE_TAIL[1] - WIDE_TAIL[0]) / 2
            line(
                f"energy of {name} beyond {len(old) - 1} (none; {middle:.4f} sought)",
                middle,
                1 - new[len(old) - 1],
                half,
            )
    growth = len(corpus) / len(original.corpus)
    for name, before, after, factor in (
        ("query", original.queries, queries, 1),
        ("corpus row", original.corpus, corpus, 2),
    ):
        old = ranked_scores(before, original.corpus, list(RANKS), rng)
        new = ranked_scores(after, corpus, [round(rank * growth) for rank in RANKS], rng)
        for rank, theirs, ours in zip(RANKS, old, new, strict=True):
            what = f"score of a {name} at {rank / len(original.corpus):.2%}: p10 50 90"
            line(what, theirs, ours, factor * SCORE_TOLERANCE[width])
    old, new = (
        in_near_cells(queries, rows, round(RANKS[0] * len(rows) / len(original.corpus)), rng)
        for queries, rows in ((original.queries, original.corpus), (queries, corpus))
    )
    line(
        f"share of the best {RANKS[0] / len(original.corpus):.2%} in {NEAR} of {CELLS} cells", old, new, CELLS_TOLERANCE
    )
    old, new = duplicate_rates(original.corpus, rng), duplicate_rates(corpus, rng)
    for bound, theirs, ours in zip(DUPLICATES_ABOVE, old, new, strict=True):
        line(f"share of corpus rows with another above {bound}", theirs, ours, DUPLICATES_TOLERANCE)
    if far:
        raise SystemExit(f"the set differs from the original: {'; '.join(far)}")


def main() -> None:
    for name in RECIPES:
        made = scaled(name)
        print(f"{name}: {made.queries.shape} queries, {made.corpus.shape} corpus rows, in {cache()}", flush=True)


if __name__ == "__main__":
    main()
