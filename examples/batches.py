"""What a batch looks like: shuffled as ever, without duplicates, and hard.

    python examples/batches.py             # descriptions of Debian packages where they are at hand, else installed code
    python examples/batches.py --code      # the documented functions of this Python installation

Below each query stands the passage of its batch that scores highest for it, its own left out: what the row learns most
from telling apart. A passage is marked FALSE where it is no negative at all: the same text, or one of the same group.
"""

import argparse
import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, RandomSampler

import negfast
from negfast.cli.demo.installed_code import gather
from negfast.encoder import HashedEncoder
from negfast.torch import HardBatchSampler

DATA = Path(os.environ.get("NEGFAST_BENCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
WIDTH = 100


@dataclass
class Pairs:
    queries: list[str]
    passages: list[str]
    groups: Any  # (n,), -1 for none
    query_rows: Any  # (n, dim), of length 1
    passage_rows: Any  # (n, dim), of length 1


def packages(n: int) -> Pairs:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(DATA / "package_pairs.parquet").slice(0, n)
    rows = [np.load(DATA / f"package_{name}.i8.npy")[:n].astype(np.float32) for name in ("queries", "passages")]
    rows = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows]
    groups = np.unique(np.array(table["group"].to_pylist()), return_inverse=True)[1]
    return Pairs(table["query"].to_pylist(), table["passage"].to_pylist(), groups, *rows)


def installed_code(n: int) -> Pairs:
    code = gather(limit=n)
    encoder = HashedEncoder(dim=384).fit(code.passages)
    nobody = np.full(len(code.queries), -1)
    rows = encoder.encode(code.queries), encoder.encode(code.passages)
    return Pairs(list(code.queries), list(code.passages), nobody, *rows)


def scores_of(pairs: Pairs, keys: Any, batch: list[int]) -> tuple[Any, Any]:
    """Score each query with the passages of the others, and tell which of these are false negatives."""
    scores = pairs.query_rows[batch] @ pairs.passage_rows[batch].T
    np.fill_diagonal(scores, -np.inf)
    own, groups = keys[batch], pairs.groups[batch]
    false = (own[:, None, :, None] == own[None, :, None, :]).any(axis=(2, 3))
    false |= (groups[:, None] == groups[None, :]) & (groups >= 0)[:, None]
    np.fill_diagonal(false, False)
    return scores, false


def show(pairs: Pairs, keys: Any, name: str, batches: list[list[int]], n_shown: int) -> None:
    measured = [scores_of(pairs, keys, batch) for batch in batches]
    best = np.concatenate([np.where(false, -np.inf, scores).max(axis=1) for scores, false in measured])
    n_false = sum(int(false.any(axis=1).sum()) for _, false in measured)
    print(f"\n{name}: {len(batches):,} batches of {len(batches[0])}")
    print(f"  best score of a negative in the batch {best[np.isfinite(best)].mean():.3f} on average")
    print(f"  rows with a false negative in the batch {n_false / sum(map(len, batches)):.1%}")
    batch, (scores, false) = batches[0], measured[0]
    for row in np.argsort(-scores.max(axis=1), kind="stable")[:n_shown].tolist():
        hardest = int(scores[row].argmax())
        mark = "FALSE" if false[row, hardest] else "     "
        print(f"    {line(pairs.queries[batch[row]])}")
        print(f"      {mark} {scores[row, hardest]:.2f} {line(pairs.passages[batch[hardest]])}")


def line(text: str) -> str:
    return textwrap.shorten(text, WIDTH, placeholder=" ...")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", action="store_true", help="use the functions of this Python installation")
    parser.add_argument("--pairs", type=int, default=20_000, help="at most (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="rows of a batch (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=6, help="rows of a batch that are shown (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    at_hand = (DATA / "package_pairs.parquet").is_file() and not chosen.code
    pairs = packages(chosen.pairs) if at_hand else installed_code(chosen.pairs)
    n = len(pairs.queries)
    print(f"{n:,} pairs")

    keys = negfast.content_keys([pairs.queries, pairs.passages])
    labels: dict[str, Any] = {"keys": keys, "groups": pairs.groups}
    positives = np.arange(n)
    mined = negfast.mine(
        pairs.query_rows,
        pairs.passage_rows,
        positives,
        num_negatives=100,
        keys=(keys, keys[:, 1]),
        groups=(pairs.groups, pairs.groups),
    )
    shuffled = BatchSampler(RandomSampler(range(n), generator=torch.Generator().manual_seed(0)), chosen.batch, True)
    show(pairs, keys, "A plain shuffle", list(shuffled), chosen.rows)
    show(pairs, keys, "Without duplicates", list(HardBatchSampler(n, chosen.batch, **labels)), chosen.rows)
    hard = HardBatchSampler(n, chosen.batch, **labels, mined=mined)
    show(pairs, keys, "Hard", list(hard), chosen.rows)
    print(f"\nAn epoch leaves out {hard.left_out} rows; they come first in the next.")


if __name__ == "__main__":
    main()
