"""The parts of the experiment's data have no source and no text in common, and every passage is looked for once."""

import numpy as np
import pytest

import negfast
from quality import split as module
from quality.data import Pairs
from quality.split import Split, some, split


def made(n: int = 2000, seed: int = 0) -> Pairs:
    """Make pairs of sources of four, of which some have texts of other sources, on either side."""
    rng = np.random.default_rng(seed)
    queries = [f"what is {i}" for i in range(n)]
    passages = [f"it is {i}" for i in range(n)]
    for row, other in rng.integers(0, n, (n // 10, 2)).tolist():
        passages[row] = rng.choice([passages[other], queries[other]])
        queries[other] = rng.choice([queries[other], queries[row]])
    wholes = [f"source {i // 4}" for i in range(n)]
    return Pairs(queries, passages, wholes, wholes, ["x"] * n)


def texts(pairs: Pairs, rows: np.ndarray) -> set[str]:
    return {side[row] for side in (pairs.queries, pairs.passages) for row in rows.tolist()}


def wholes(pairs: Pairs, rows: np.ndarray) -> set[str]:
    return {pairs.wholes[row] for row in rows.tolist()}


def leaks(pairs: Pairs, found: Split) -> int:
    parts = (found.train, found.dev, found.test)
    return sum(
        len(of(pairs, one) & of(pairs, other))
        for of in (texts, wholes)
        for i, one in enumerate(parts)
        for other in parts[i + 1 :]
    )


def test_parts_have_no_source_and_no_text_in_common() -> None:
    pairs = made()
    found = split(pairs)
    assert leaks(pairs, found) == 0
    assert min(len(found.dev), len(found.test)) > 100 and len(found.train) > 1000


@pytest.mark.parametrize("fault", ["rows dealt one by one", "texts in common are kept"])
def test_leaks_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = made()
    if fault == "texts in common are kept":
        monkeypatch.setattr(module, "_share", lambda keys, rows, others: np.zeros(len(rows), np.bool_))  # noqa: ARG005
        found = split(pairs)
    else:
        found = split(Pairs(pairs.queries, pairs.passages, pairs.queries, pairs.groups, pairs.labels))
    assert leaks(pairs, found) > 0


def test_parts_stay_when_other_pairs_come() -> None:
    pairs, more = made(400), made(2000)
    found = split(Pairs(pairs.queries, pairs.passages, pairs.wholes, pairs.groups, pairs.labels))
    again = split(Pairs(*((*getattr(pairs, name), *(f"other {text}" for text in getattr(more, name)))
                          for name in ("queries", "passages", "wholes", "groups", "labels"))))  # fmt: skip
    for part in ("train", "dev", "test"):
        rows = getattr(again, part)
        assert np.array_equal(rows[rows < 400], getattr(found, part))


def test_each_passage_is_in_the_corpus_once() -> None:
    pairs = made()
    found = split(pairs)
    keys = negfast.content_keys(pairs.passages)
    assert len(np.unique(keys[found.corpus])) == len(found.corpus) == len(set(keys.tolist()))
    assert np.array_equal(keys[found.corpus][found.places], keys)


def test_without_groups_those_of_one_query_are_one() -> None:
    pairs = Pairs(["a", "b", "a"], ["1", "2", "3"], ["x", "y", "z"], None, ["l"] * 3)
    groups = split(pairs).groups
    assert groups[0] == groups[2] != groups[1]


def test_fewer_rows_are_the_same_for_every_run() -> None:
    rows = np.arange(100, 200)
    assert np.array_equal(some(rows, 10), some(rows, 10)) and len(some(rows, 10)) == 10
    assert np.array_equal(some(rows, None), rows) and np.array_equal(some(rows, 1000), rows)
