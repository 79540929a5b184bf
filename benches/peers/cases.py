"""The cases of the search bench: which rows, and what recall is asked for.

numpy loads late here: `bench.pin` comes first.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaled import Rows

K = 100
TUNED = Path(__file__).with_name("tuned.json")


@dataclass(frozen=True)
class Case:
    rows: str  # "pairs", or a recipe of `scaled`
    recall: float  # 1 is certified exact
    self_join: bool = False


CASES = {
    "exact": Case("pairs", 1.0),
    "99": Case("pairs", 0.99),
    "95": Case("pairs", 0.95),
    "large-95": Case("large", 0.95),
    "wide-99": Case("wide", 0.99),
    "self-join": Case("pairs", 1.0, self_join=True),
}


def rows_of(case: Case, n: int | None = None) -> "Rows":
    """Queries and corpus; `n` takes the first pairs of a case of pairs."""
    from data import load
    from scaled import Rows, scaled

    if case.rows != "pairs":
        return scaled(case.rows)
    pairs = load(n, dither=True)
    return Rows(pairs.source, pairs.corpus if case.self_join else pairs.queries, pairs.corpus)


def picked(queries: int) -> Any:
    """The order in which samples of the queries are taken: each sample is the first of these."""
    import numpy as np

    return np.random.default_rng(0).permutation(queries)
