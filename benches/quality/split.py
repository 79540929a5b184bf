"""Which pairs are trained on, which settings are chosen by, and which are asked about in the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

import negfast
from quality.data import Pairs

Ints = npt.NDArray[np.int64]
PARTS = ("train", "dev", "test")
_BOUNDS = (10, 20)  # per cent: below the first is dev, below the second test
_OF = 100


@dataclass(frozen=True, eq=False)
class Split:
    """Numbers for texts; row i of all but the parts belongs to pair i.

    Attributes
    ----------
    keys : int64 (n, 2), content keys of query and passage
    groups : int64 (n,), rows that answer each other's queries: the groups of the data, or else those of one query
    labels : int64 (n,)
    train, dev, test : int64, rows of the pairs
    corpus : int64 (m,), the first row of each passage, of all parts
    places : int64 (n,), where the passage of each row is in `corpus`
    """

    keys: Ints
    groups: Ints
    labels: Ints
    train: Ints
    dev: Ints
    test: Ints
    corpus: Ints
    places: Ints


def split(pairs: Pairs) -> Split:
    keys = negfast.content_keys([pairs.queries, pairs.passages])
    train, dev, test = parts(pairs.wholes, keys)
    _, corpus, places = np.unique(keys[:, 1], return_index=True, return_inverse=True)
    return Split(
        keys=keys,
        groups=keys[:, 0].copy() if pairs.groups is None else negfast.content_keys(pairs.groups),
        labels=np.unique(pairs.labels, return_inverse=True)[1].astype(np.int64),
        train=train,
        dev=dev,
        test=test,
        corpus=corpus.astype(np.int64),
        places=places.astype(np.int64),
    )


def parts(wholes: Sequence[str], keys: Ints) -> tuple[Ints, Ints, Ints]:
    """Deal wholes out by the hash of their names, so that a part stays what it is when others come or go.

    Training rows that have a text in common with a held-out row are dropped; so are dev rows that have one in common
    with the test part, as what is chosen by them would be chosen by it.
    """
    numbers = np.array([_number(name) for name in wholes], dtype=np.int64)
    dev, test, train = (np.flatnonzero(np.digitize(numbers, _BOUNDS) == which) for which in range(3))
    dev = dev[~_share(keys, dev, test)]
    return train[~_share(keys, train, np.concatenate([dev, test]))], dev, test


def _share(keys: Ints, rows: Ints, others: Ints) -> npt.NDArray[np.bool_]:
    return np.isin(keys[rows], keys[others]).any(axis=1)


def _number(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _OF


def some(rows: Ints, most: int | None) -> Ints:
    """Return the same random rows for every run, in ascending order."""
    if most is None or most >= len(rows):
        return rows
    return np.sort(np.random.default_rng(0).permutation(rows)[:most])
