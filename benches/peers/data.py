"""Rows and texts for the benches: real pairs where they are at hand, else pairs that this machine holds.

`NEGFAST_BENCH_DATA` names a folder with ``package_pairs.parquet`` and the embeddings of its texts; without
it ``../shared/data`` beside the checkout is tried. Elsewhere the documented functions of the Python
installation are gathered and encoded with the built-in encoder: real text too, with its copies and
near-copies.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Pairs:
    """Row i of each belongs to pair i; rows of the matrices have length 1."""

    source: str
    queries: Floats  # (n, dim)
    corpus: Floats  # (n, dim)
    query_texts: list[str]
    corpus_texts: list[str]

    def __len__(self) -> int:
        return len(self.queries)


def load(n: int | None = None, *, dither: bool = False) -> Pairs:
    """Return the first `n` pairs, or all of them; `dither` hides that rows were stored as codes of 8 bits."""
    folder = Path(os.environ.get("NEGFAST_BENCH_DATA") or ROOT.parent / "shared" / "data")
    pairs = packages(folder, n, dither) if (folder / "package_pairs.parquet").is_file() else installed_code(n)
    if n is not None and len(pairs) < n:
        raise SystemExit(f"{pairs.source} holds {len(pairs):,} pairs, {n:,} were asked for")
    return pairs


def packages(folder: Path, n: int | None, dither: bool) -> Pairs:
    import pyarrow.parquet

    codes = [np.load(folder / f"package_{name}.i8.npy", mmap_mode="r")[:n] for name in ("queries", "passages")]
    queries, passages = dithered(codes) if dither else [stored.astype(np.float32) for stored in codes]
    table = pyarrow.parquet.read_table(folder / "package_pairs.parquet", columns=["query", "passage"]).slice(0, n)
    return Pairs(
        "descriptions of Debian packages, all-MiniLM-L6-v2",
        unit_rows(queries),
        unit_rows(passages),
        table["query"].to_pylist(),
        table["passage"].to_pylist(),
    )


def dithered(stored: list[npt.NDArray[np.int8]]) -> list[Floats]:
    """Move every coordinate within half a step of its code, so that no code of 8 bits holds a row exactly.

    Rows with equal codes move alike: copies stay copies.
    """
    codes = np.ascontiguousarray(np.concatenate(stored))
    unique, inverse = np.unique(codes.view(f"V{codes.shape[1]}").ravel(), return_inverse=True)
    rows = unique.view(np.int8).reshape(-1, codes.shape[1]).astype(np.float32)
    rows += np.random.default_rng(0).random(rows.shape, np.float32) - 0.5
    return np.split(rows[inverse], np.cumsum([len(part) for part in stored])[:-1])


def installed_code(n: int | None) -> Pairs:
    from negfast.cli.demo.installed_code import gather
    from negfast.encoder import HashedEncoder

    code = gather()
    encoder = HashedEncoder(dim=384).fit(code.passages)
    queries, passages = encoder.encode(code.queries), encoder.encode(code.passages)
    # A text without a word has a row of zeros, which would tie with every other.
    kept = np.flatnonzero(queries.any(axis=1) & passages.any(axis=1))[:n]
    return Pairs(
        "documented functions of this Python installation, built-in encoder",
        unit_rows(queries[kept]),
        unit_rows(passages[kept]),
        [code.queries[row] for row in kept],
        [code.passages[row] for row in kept],
    )


def unit_rows(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
