"""The files of a result: by id, as triplets of texts, as tuples of texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.cli.mine.pairs import SOURCES, Pairs, Texts
from negfast.files.writers import Kind, RowWriter
from negfast.results import MinedNegatives
from negfast.summary import TIER_NAMES

ANCHORS_PER_WRITE = 8192


def write_by_id(path: Path, mined: MinedNegatives, pairs: Pairs) -> None:
    """Write one row per anchor: its positives and negatives by id, with scores, tiers and sources."""
    anchor_kind, row_kind = _id_kind(pairs.anchors), _id_kind(pairs.corpus)
    columns: dict[str, Kind] = {
        "anchor_id": anchor_kind,
        "positive_ids": _list_of(row_kind),
        "positive_sources": "strings",
        "positive_score": "float",
        "negative_ids": _list_of(row_kind),
        "scores": "floats",
        "tiers": "strings",
        "sources": "strings",
    }
    with RowWriter(path, columns) as writer:
        for start in range(0, len(mined), ANCHORS_PER_WRITE):
            anchors = range(start, min(start + ANCHORS_PER_WRITE, len(mined)))
            entries = [_by_id(anchor, mined, pairs) for anchor in anchors]
            writer.write({name: [entry[i] for entry in entries] for i, name in enumerate(columns)})


def _by_id(anchor: int, mined: MinedNegatives, pairs: Pairs) -> tuple[Any, ...]:
    indptr, indices = pairs.positives
    positives = indices[indptr[anchor] : indptr[anchor + 1]]
    negatives = _found(mined, anchor)
    (score,) = _shortest(mined.positive_scores[anchor : anchor + 1])
    return (
        pairs.anchors.ids[anchor],
        _ids(pairs, positives),
        _sources(pairs, positives),
        None if np.isnan(score) else score,
        _ids(pairs, negatives),
        _shortest(mined.scores[anchor, : len(negatives)]),
        [TIER_NAMES[tier] for tier in mined.tiers[anchor, : len(negatives)].tolist()],
        _sources(pairs, negatives),
    )


def suspects_by_id(mined: MinedNegatives, pairs: Pairs) -> dict[str, list[Any]]:
    """Return the pairs whose positive ranks low for its anchor, by id, with scores and ranks."""
    suspects = mined.report.suspects
    return {
        "anchor_ids": [pairs.anchors.ids[row] for row in suspects.anchors.tolist()],
        "positive_ids": _ids(pairs, suspects.positives),
        "scores": _shortest(suspects.scores),
        "ranks": suspects.ranks.tolist(),
    }


def _found(mined: MinedNegatives, anchor: int) -> Ints:
    found: Ints = mined.indices[anchor][mined.indices[anchor] >= 0]
    return found


def _shortest(scores: NDArray[np.float32]) -> list[float]:
    """Return the shortest numbers that read as these in float32."""
    return [float(str(score)) for score in scores]


def _ids(pairs: Pairs, rows: Ints) -> list[Any]:
    return [pairs.corpus.ids[row] for row in rows.tolist()]


def _sources(pairs: Pairs, rows: Ints) -> list[str]:
    return [SOURCES[source] for source in pairs.sources[rows].tolist()]


def _id_kind(texts: Texts) -> Kind:
    return "string" if texts.ids and isinstance(texts.ids[0], str) else "int"


def _list_of(kind: Kind) -> Kind:
    return "strings" if kind == "string" else "ints"


def write_triplets(path: Path, mined: MinedNegatives, pairs: Pairs) -> None:
    """Write one row of texts per pair and negative: anchor, positive, negative."""
    columns: dict[str, Kind] = dict.fromkeys(("anchor", "positive", "negative"), "string")
    with RowWriter(path, columns) as writer:
        for part in _parts(pairs):
            rows = [
                (pairs.anchors.texts[anchor], pairs.corpus.texts[positive], pairs.corpus.texts[negative])
                for anchor, positive in part
                for negative in _found(mined, anchor).tolist()
            ]
            writer.write({name: [row[i] for row in rows] for i, name in enumerate(columns)})


def write_n_tuples(path: Path, mined: MinedNegatives, pairs: Pairs) -> int:
    """Write one row of texts per pair: anchor, positive and all negatives; return how many pairs lack some.

    A table has a fixed number of columns, so pairs whose anchor has fewer negatives are left out.
    """
    n = mined.recipe.num_negatives
    names = ("anchor", "positive", *(f"negative_{i + 1}" for i in range(n)))
    short = 0
    with RowWriter(path, dict.fromkeys(names, "string")) as writer:
        for part in _parts(pairs):
            rows = [
                (pairs.anchors.texts[anchor], *(pairs.corpus.texts[row] for row in (positive, *negatives)))
                for anchor, positive in part
                if len(negatives := _found(mined, anchor).tolist()) == n
            ]
            short += len(part) - len(rows)
            writer.write({name: [row[i] for row in rows] for i, name in enumerate(names)})
    return short


def _parts(pairs: Pairs) -> Iterator[list[list[int]]]:
    for start in range(0, len(pairs.pairs), ANCHORS_PER_WRITE):
        yield pairs.pairs[start : start + ANCHORS_PER_WRITE].tolist()
