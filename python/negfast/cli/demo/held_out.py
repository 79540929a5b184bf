"""Pairs to train on and pairs to ask with, of different modules, and how well the latter are answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

import negfast
from negfast.arrays import Ints
from negfast.cli.demo.installed_code import InstalledCode, gather

DEPTH = 10
"""How many rows of an answer count."""
_Floats = npt.NDArray[np.float32]


class Retrieval(NamedTuple):
    """How well questions are answered, one value for each of them.

    Attributes
    ----------
    mrr, ndcg : ndarray of float64, shape (n_questions,)
        Reciprocal rank of the first right row, and discounted gain of all right ones, among the best ten.
    """

    mrr: npt.NDArray[np.float64]
    ndcg: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Texts, and what says that two of them go together; entry i of each belongs to pair i.

    Attributes
    ----------
    queries, passages : list of str
    keys : ndarray of int64, shape (n, 2)
        Content keys of both.
    groups : ndarray of int64, shape (n,)
        What rows belong to that answer each other's queries, -1 for nothing.
    """

    queries: list[str]
    passages: list[str]
    keys: Ints
    groups: Ints

    @classmethod
    def of(cls, queries: Sequence[str], passages: Sequence[str], groups: Sequence[str] | None = None) -> Self:
        """Return pairs with their keys; `groups` are names."""
        keys = negfast.content_keys([list(queries), list(passages)])
        nobody = np.full(len(keys), -1, dtype=np.int64)
        return cls(
            list(queries), list(passages), keys, nobody if groups is None else negfast.content_keys(list(groups))
        )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.queries)

    def take(self, rows: Ints) -> "Pairs":
        """Return some of the pairs."""
        chosen = rows.tolist()
        queries, passages = ([side[row] for row in chosen] for side in (self.queries, self.passages))
        return Pairs(queries, passages, self.keys[rows], self.groups[rows])


@dataclass(frozen=True)
class Benchmark:
    """Pairs to learn from, and others whose queries are questions.

    Attributes
    ----------
    train, held_out : Pairs
    """

    train: Pairs
    held_out: Pairs

    @cached_property
    def corpus(self) -> list[str]:
        """What answers are looked for in: each passage of both parts once."""
        return [self._passages[row] for row in self._first]

    @cached_property
    def right(self) -> list[set[int]]:
        """The places in `corpus` that are right for each question.

        Its own passage, and those that belong to the same question elsewhere.
        """
        answers: dict[int, set[int]] = {}
        for (query, _), place in zip(self._keys.tolist(), self._places.tolist(), strict=True):
            answers.setdefault(query, set()).add(place)
        return [answers[query] for query in self.held_out.keys[:, 0].tolist()]

    @cached_property
    def _passages(self) -> list[str]:
        return [*self.held_out.passages, *self.train.passages]

    @cached_property
    def _keys(self) -> Ints:
        return np.concatenate([self.held_out.keys, self.train.keys])

    @cached_property
    def _first(self) -> list[int]:
        return np.unique(self._keys[:, 1], return_index=True)[1].tolist()  # type: ignore[no-any-return]

    @cached_property
    def _places(self) -> Ints:
        places: Ints = np.unique(self._keys[:, 1], return_inverse=True)[1]
        return places

    def measure(self, encode: Any, *, n_threads: int | None = None) -> Retrieval:
        """Answer every question by exact search.

        Parameters
        ----------
        encode : callable
            Takes a list of texts, returns their rows.
        n_threads : as in :func:`negfast.mine`

        Returns
        -------
        Retrieval
        """
        found = negfast.topk(encode(self.held_out.queries), encode(self.corpus), DEPTH, n_threads=n_threads)
        hits = np.array(
            [[row in right for row in rows] for rows, right in zip(found.indices.tolist(), self.right, strict=True)]
        ).reshape(-1, found.indices.shape[1])
        return _judged(hits, np.array([len(right) for right in self.right], dtype=np.int64))


PARTS = ("test", "validation")
"""What modules may be held out for."""


def installed(limit: int, *, part: str = "test") -> Benchmark:
    """Gather the functions of this Python installation and hold out modules, see :func:`of_code`.

    Parameters
    ----------
    limit : int
        The most functions that are gathered.
    part : str, default "test"

    Returns
    -------
    Benchmark
    """
    return of_code(gather(limit), part=part)


def of_code(code: InstalledCode, *, part: str = "test") -> Benchmark:
    """Hold out modules of gathered code.

    Functions of one module are the ones that are hardest to tell apart, and few of them do the same: they are no group.
    """
    return split(Pairs.of(code.queries, code.passages), code.modules, part=part)


def split(pairs: Pairs, wholes: Sequence[str], *, part: str = "test", of: int = 10) -> Benchmark:
    """Hold out some wholes, such as modules, one in `of`; those that are held out for another part are left out.

    Parameters
    ----------
    pairs : Pairs
    wholes : sequence of str
        Names; pairs of one name stay together.
    part : {"test", "validation"}, default "test"
        Settings are chosen on one part and judged on the other.
    of : int, default 10

    Returns
    -------
    Benchmark
        Pairs that have a text in common with any that are held out are not trained on.
    """
    parts = np.array([_part(name, of) for name in wholes], dtype=np.int64)
    held_out = np.flatnonzero(parts == PARTS.index(part))
    rest = np.flatnonzero(parts >= len(PARTS))
    known = np.isin(pairs.keys[rest], pairs.keys[parts < len(PARTS)]).any(axis=1)
    return Benchmark(pairs.take(rest[~known]), pairs.take(held_out))


def _part(name: str, of: int) -> int:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % of


def _judged(hits: npt.NDArray[np.bool_], n_right: Ints) -> Retrieval:
    """Return both measures from which of the best rows are right, and how many right ones there are."""
    n, depth = hits.shape
    discounts = 1.0 / np.log2(np.arange(2, DEPTH + 2))
    first = hits.argmax(axis=1) if depth else np.zeros(n, dtype=np.int64)
    mrr = np.where(hits.any(axis=1), 1.0 / (1.0 + first), 0.0)
    ideal = np.cumsum(discounts)[np.minimum(n_right, DEPTH) - 1]
    return Retrieval(mrr, hits @ discounts[:depth] / ideal)
