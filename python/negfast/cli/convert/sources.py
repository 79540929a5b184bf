"""What `negfast convert` reads: each format by its name."""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from negfast import formats
from negfast.cli.mine.job import Job, check_tables
from negfast.cli.mine.pairs import Pairs, read_pairs
from negfast.errors import InvalidValueError
from negfast.formats import RetrievalData
from negfast.formats.builder import Builder
from negfast.formats.layout import rows_of
from negfast.formats.records import Record, parquet_records, records
from negfast.recipe import Recipe

_COLUMNS = ("anchor_id", "positive_ids", "positive_score", "negative_ids", "scores")


def read_mined(path: Path) -> RetrievalData:
    """Read negatives by id, as `negfast mine` wrote them, and the tables that its recipe beside them names.

    Parameters
    ----------
    path : Path
        The output of `negfast mine`.

    Returns
    -------
    RetrievalData
        Texts that read the same are one row, as they were when they were mined.

    Raises
    ------
    NegfastError, OSError
        If a file cannot be read, holds something else, or a table has changed since.
    """
    pairs = _tables_of(path)
    builder = Builder()
    for identity, text in zip(pairs.corpus.ids, pairs.corpus.texts, strict=True):
        builder.corpus.add(str(identity), text)
    texts = {str(identity): text for identity, text in zip(pairs.anchors.ids, pairs.anchors.texts, strict=True)}
    for record in _records(path):
        anchor = record.identity("anchor_id")
        if anchor not in texts:
            record.refuse_value("anchor_id", "an id of the table", anchor, "mine again")
        builder.queries.add(anchor, texts[anchor])
        positives, negatives = (rows_of(builder.corpus, record, name) for name in ("positive_ids", "negative_ids"))
        # With several positives it is not known whose score the lowest one is.
        score = record.score("positive_score") if len(positives) == 1 else math.nan
        builder.positives.add(positives, [score] * len(positives))
        builder.negatives.add(negatives, record.scores("scores", len(negatives)))
    return builder.data()


def _tables_of(path: Path) -> Pairs:
    recipe = path.with_name(f"{path.name}.recipe.json")
    if not recipe.exists():
        raise InvalidValueError(
            f"INPUT must be what `negfast mine` wrote, got {path}, beside which there is no {recipe.name}; name its "
            "format with --from"
        )
    _, recorded = Recipe.load_with_job(recipe)
    job = Job.from_dict(recorded, recipe.parent, str(recipe))
    known = recorded.get("fingerprints")
    check_tables(job, known if isinstance(known, dict) else {}, path)
    return read_pairs(job)


def _records(path: Path) -> Iterator[Record]:
    return parquet_records(path, _COLUMNS) if path.suffix == ".parquet" else records(path)


SOURCES: dict[str, Callable[[argparse.Namespace], RetrievalData]] = {
    "mined": lambda given: read_mined(given.input),
    "beir": lambda given: formats.read_beir(given.input, split=given.split or "train"),
    "flag-embedding": lambda given: formats.read_flag_embedding(given.input),
    "hugging-face": lambda given: formats.read_hugging_face(given.input),
    "nemo": lambda given: formats.read_nemo(given.input, corpus=given.corpus),
    "tevatron": lambda given: formats.read_tevatron(given.input, corpus=given.corpus),
    "tevatron-passages": lambda given: formats.read_tevatron_passages(given.input),
}
"""How each format is read, by the options of the command."""


def check_source(given: Any) -> None:
    """Refuse options of the input that would have no effect, or that are missing.

    Raises
    ------
    InvalidValueError
        If there are any.
    """
    if given.source == "tevatron" and given.corpus is None:
        raise InvalidValueError("--corpus must be given with --from tevatron, got none; name the file of its corpus")
    if given.corpus is not None and given.source not in ("nemo", "tevatron"):
        raise InvalidValueError(
            f"--corpus must be given with --from tevatron or nemo, got it with {given.source}; leave it out"
        )
