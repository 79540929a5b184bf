"""What `negfast convert` reads: each format by its name."""

import argparse
import math
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from negfast import formats
from negfast.cli.mine.job import Job, check_tables
from negfast.cli.mine.pairs import SOURCES as SOURCE_NAMES
from negfast.cli.mine.pairs import Pairs, read_pairs
from negfast.errors import InvalidValueError
from negfast.formats import RetrievalData
from negfast.formats.builder import Builder
from negfast.formats.nemo import corpus_folder
from negfast.formats.records import Record, parquet_records, records
from negfast.recipe import Recipe

_COLUMNS = (
    "anchor_id", "positive_ids", "positive_sources", "positive_score", "negative_ids", "scores", "sources"
)  # fmt: skip


def read_mined(path: Path) -> RetrievalData:
    """Read negatives by id, as `negfast mine` wrote them, and the tables that its recipe beside them names.

    Parameters
    ----------
    path : Path
        The output of `negfast mine`.

    Returns
    -------
    RetrievalData
        Texts that read the same are one row, as they were when they were mined. Where a row of the corpus file and
        one of the pairs have the same id, all ids get the source of their rows before them: ``corpus:0``, ``pairs:0``.

    Raises
    ------
    NegfastError, OSError
        If a file cannot be read, holds something else, or a table has changed since.
    """
    job, known = _job_of(path)
    check_tables(job, known, path)
    pairs = read_pairs(job)
    builder = Builder()
    for identity, text in zip(_corpus_ids(pairs), pairs.corpus.texts, strict=True):
        builder.corpus.add(identity, text)
    places = {key: row for row, key in enumerate(_sources_and_ids(pairs))}
    texts = {str(identity): text for identity, text in zip(pairs.anchors.ids, pairs.anchors.texts, strict=True)}
    for record in _records(path):
        anchor = record.identity("anchor_id")
        if anchor not in texts:
            record.refuse_value("anchor_id", "an id of the table", anchor, "mine again")
        builder.queries.add(anchor, texts[anchor])
        positives = _rows(record, places, "positive_ids", "positive_sources")
        negatives = _rows(record, places, "negative_ids", "sources")
        # With several positives it is not known whose score the lowest one is.
        score = record.score("positive_score") if len(positives) == 1 else math.nan
        builder.positives.add(positives, [score] * len(positives))
        builder.negatives.add(negatives, record.scores("scores", len(negatives)))
    return builder.data()


def _sources_and_ids(pairs: Pairs) -> Iterator[tuple[str, str]]:
    """Yield what tells rows apart: the corpus file and the pairs have ids of their own."""
    for source, identity in zip(pairs.sources.tolist(), pairs.corpus.ids, strict=True):
        yield SOURCE_NAMES[source], str(identity)


def _corpus_ids(pairs: Pairs) -> list[str]:
    found = [str(identity) for identity in pairs.corpus.ids]
    if len(set(found)) < len(found):
        found = [f"{source}:{identity}" for source, identity in _sources_and_ids(pairs)]
    return found


def _rows(record: Record, places: dict[tuple[str, str], int], ids: str, sources: str) -> list[int]:
    """Return the rows of a list of ids and one of the sources that they are ids in."""
    keys = list(zip_longest(record.texts(sources), record.identities(ids)))
    for key in keys:
        if key not in places:
            record.refuse_value(ids, f'ids of the tables, one for each of "{sources}"', key[1], "mine again")
    return [places[key] for key in keys]


def _job_of(path: Path) -> tuple[Job, dict[str, Any]]:
    """Return the job whose output this is, and the fingerprints that its files had."""
    recipe = _recipe_of(path)
    if not recipe.exists():
        raise InvalidValueError(
            f"INPUT must be what `negfast mine` wrote, got {path}, beside which there is no {recipe.name}; name its "
            "format with --from"
        )
    _, recorded = Recipe.load_with_job(recipe)
    known = recorded.get("fingerprints")
    return Job.from_dict(recorded, recipe.parent, str(recipe)), known if isinstance(known, dict) else {}


def _recipe_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.recipe.json")


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


def read_paths(given: Any) -> list[Path]:
    """Return the files and folders that the command reads, none of which it may write to.

    Raises
    ------
    NegfastError, OSError
        If what names them cannot be read.
    """
    paths = [path for path in (given.input, given.corpus, given.run_file) if path is not None]
    if given.source == "mined":
        paths += [_recipe_of(given.input), *_job_of(given.input)[0].files().values()]
    if given.source == "nemo" and given.corpus is None:
        paths.append(corpus_folder(given.input))
    return paths


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
