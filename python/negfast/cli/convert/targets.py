"""What `negfast convert` writes: each format by its name."""

import argparse
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from negfast import formats
from negfast.errors import InvalidValueError
from negfast.files.writers import Kind, RowWriter, check_writable
from negfast.formats import RetrievalData
from negfast.formats.beir import beir_files
from negfast.formats.hugging_face import hugging_face_files
from negfast.formats.layout import blocks, write_texts
from negfast.formats.nemo import nemo_corpus_files

_Write = Callable[[argparse.Namespace, RetrievalData], None]


def write_tables(pairs: Path, corpus: Path, data: RetrievalData) -> None:
    """Write what `negfast mine` reads: a table of pairs, and one of the corpus.

    Parameters
    ----------
    pairs, corpus : Path
        Two ``.parquet`` or ``.jsonl`` files. The first gets columns ``id``, ``anchor`` and ``positive``, a list; the
        second ``id`` and ``text``. Queries without a positive are left out.
    data : RetrievalData

    Raises
    ------
    MissingExtraError
        If a file is parquet and pyarrow is not installed.
    OSError
        If a file cannot be written.
    """
    columns: dict[str, Kind] = {"id": "string", "anchor": "string", "positive": "strings"}
    known = data.usable(0)
    indptr, indices = known.positives
    with ExitStack() as stack:
        texts = map(data.passage, range(len(data.corpus)))
        write_texts(stack, corpus, ("id", "text"), data.corpus_ids, texts)
        writer = stack.enter_context(RowWriter(pairs, columns))
        for queries in blocks(known):
            positives = [indices[indptr[query] : indptr[query + 1]].tolist() for query in queries]
            writer.write(
                {
                    "id": [known.query_ids[query] for query in queries],
                    "anchor": [known.query(query) for query in queries],
                    "positive": [[known.passage(row) for row in rows] for rows in positives],
                }
            )


def _nemo(given: argparse.Namespace, data: RetrievalData) -> None:
    # The file names the folder as it is reached from its own, the option as it is from here.
    beside = "corpus" if given.corpus_output is None else os.path.relpath(given.corpus_output, given.output.parent)
    formats.write_nemo(given.output, data, corpus=Path(beside).as_posix())


TARGETS: dict[str, _Write] = {
    "beir": lambda given, data: formats.write_beir(given.output, data, split=given.split or "train"),
    "flag-embedding": lambda given, data: formats.write_flag_embedding(given.output, data),
    "hugging-face": lambda given, data: formats.write_hugging_face(given.output, data),
    "nemo": _nemo,
    "tables": lambda given, data: write_tables(given.output, given.corpus_output, data),
    "tevatron": lambda given, data: formats.write_tevatron(given.output, data, corpus=given.corpus_output),
    "tevatron-passages": lambda given, data: formats.write_tevatron_passages(given.output, data),
    "trec-qrels": lambda given, data: formats.write_trec_qrels(given.output, data),
    "trec-run": lambda given, data: formats.write_trec_run(given.output, data),
}
"""How each format is written, by the options of the command."""


def check_target(given: Any) -> None:
    """Refuse options of the output that would have no effect, or that are missing, before anything is read.

    Raises
    ------
    InvalidValueError
        If there are any.
    """
    if given.target in ("tables", "tevatron") and given.corpus_output is None:
        raise InvalidValueError(
            f"--corpus-output must be given with --to {given.target}, got none; name a file for the corpus"
        )
    if given.corpus_output is not None and given.target not in ("nemo", "tables", "tevatron"):
        raise InvalidValueError(
            f"--corpus-output must be given with --to nemo, tables or tevatron, got it with {given.target}; leave it "
            "out"
        )
    if given.target == "tables":
        for option, path in (("--output", given.output), ("--corpus-output", given.corpus_output)):
            check_writable(path, option)
    if given.corpus_output is not None and os.path.realpath(given.output) == os.path.realpath(given.corpus_output):
        raise InvalidValueError(f"--corpus-output must be a file of its own, got {given.output} twice; name another")


def refuse_to_overwrite(given: Any, read: Iterable[Path]) -> None:
    """Refuse an output that is, or lies in, one of the files and folders that are read.

    Raises
    ------
    InvalidValueError
        If there is one.
    """
    kept = [Path(os.path.realpath(path)) for path in read]
    for path in _written(given):
        final = Path(os.path.realpath(path))
        if any(final.is_relative_to(other) for other in kept):
            raise InvalidValueError(f"--output must leave what is read as it is, got {path}; name another")


def _written(given: Any) -> list[Path]:
    """Return the files that the command writes."""
    if given.target == "beir":
        return beir_files(given.output, given.split or "train")
    if given.target == "hugging-face":
        return hugging_face_files(given.output)
    if given.target == "nemo":
        return [given.output, *nemo_corpus_files(given.corpus_output or given.output.parent / "corpus")]
    return [path for path in (given.output, given.corpus_output) if path is not None]
