"""The two matrices of a job: given, or encoded chunk by chunk into files that a later run can continue."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.cli.encoding import TEXTS_PER_CALL, Encoder, chunks
from negfast.cli.mine.job import Job
from negfast.cli.mine.pairs import Pairs
from negfast.errors import InvalidValueError
from negfast.files.embeddings import EmbeddingWriter, open_embeddings, refuse_bad_rows

Rows = NDArray[Any]
Progress = Callable[[int], None]
ROWS_PER_COPY = 8192


def given_sources(job: Job, pairs: Pairs) -> tuple[Rows, list[Rows]]:
    """Return the embeddings of all anchors, and those of the corpus file and of all positives, as far as needed."""
    anchors = _opened("--anchor-embeddings", job.anchor_embeddings, pairs.anchors.n_read, job.input)
    n_corpus, n_positives = pairs.n_corpus_file, pairs.corpus.n_read - pairs.n_corpus_file
    sources: dict[str, Rows] = {}
    if n_corpus:
        option = "--corpus-embeddings"
        sources[option] = _opened(option, job.corpus_embeddings, n_corpus, job.corpus or job.input)
    elsewhere = pairs.corpus.rows[pairs.corpus.rows >= n_corpus]
    if len(elsewhere):
        if n_corpus and job.positive_embeddings is None:
            raise InvalidValueError(
                f"--positive-embeddings must be given, since not all positives are rows of {job.corpus}, got none; the "
                f"first that is none is {pairs.corpus.texts[-len(elsewhere)]!r:.60}"
            )
        option = "--positive-embeddings"
        sources[option] = _opened(option, job.positive_embeddings, n_positives, job.input)
    for option, source in sources.items():
        dtype = next(iter(sources.values())).dtype
        if source.shape[1] != anchors.shape[1] or source.dtype != dtype:
            raise InvalidValueError(
                f"{option} must be {dtype} of width {anchors.shape[1]}, as the other embeddings, got "
                f"{source.dtype} of width {source.shape[1]}; encode all texts with one model"
            )
    return anchors, list(sources.values())


def given_matrices(job: Job, pairs: Pairs, folder: Path) -> tuple[Rows, Rows]:
    """Return embeddings of the distinct anchors and corpus rows from the files of the job.

    Where the rows of a file are just these, it is mapped as it is; else the rows are copied into a file in `folder`.
    """
    anchors, sources = given_sources(job, pairs)
    return (
        gathered([anchors], pairs.anchors.rows, folder / "given-anchors.npy"),
        gathered(sources, pairs.corpus.rows, folder / "given-corpus.npy"),
    )


def _opened(option: str, spec: str | None, n_rows: int, table: str) -> Rows:
    if spec is None:
        raise InvalidValueError(f"{option} must be given with other embeddings, got none; name their file")
    rows = open_embeddings(spec)
    if len(rows) != n_rows:
        raise InvalidValueError(
            f"{option} must have one row for each of the {n_rows:,} texts of {table}, got {len(rows):,} in {spec}; "
            "give the file that belongs to the table"
        )
    return rows


def name_bad_row(job: Job) -> None:
    """Raise an error that names the first row of the given embeddings that is not finite, if there is one."""
    for option, spec in (
        ("--anchor-embeddings", job.anchor_embeddings),
        ("--corpus-embeddings", job.corpus_embeddings),
        ("--positive-embeddings", job.positive_embeddings),
    ):
        if spec is not None:
            refuse_bad_rows(option, spec)


def gathered(sources: Sequence[Rows], rows: Ints, path: Path) -> Rows:
    """Return these rows of the sources, one after the other; copied into a file unless they are all rows of one."""
    if not sources:
        return np.zeros((0, 1), dtype=np.float32)
    if len(sources) == 1 and len(rows) == len(sources[0]):
        return sources[0]
    starts = np.cumsum([0, *map(len, sources)])
    with EmbeddingWriter(path, sources[0].shape[1], dtype=sources[0].dtype) as writer:
        for start in range(0, len(rows), ROWS_PER_COPY):
            part = rows[start : start + ROWS_PER_COPY]
            # Rows ascend, so each part is a stretch of one source after the other.
            cuts = np.searchsorted(part, starts)
            for i, source in enumerate(sources):
                writer.append(source[part[cuts[i] : cuts[i + 1]] - starts[i]])
    return open_embeddings(path)


def encoded(
    encoder: Encoder, texts: list[str], path: Path, progress: Progress, *, prompt: str | None, queries: bool
) -> Rows:
    """Encode texts into a file, going on where an earlier run stopped, and return its rows."""
    if path.exists():
        progress(len(texts))
        return open_embeddings(path)
    if not texts:
        return np.zeros((0, 1), dtype=np.float32)
    first = encoder.encode(texts[:TEXTS_PER_CALL], prompt=prompt, queries=queries)
    with EmbeddingWriter(path, first.shape[1], resume=True) as writer:
        # Chunks are the same whenever they are made, since a model's rows depend a little on what is encoded beside.
        writer.truncate(writer.rows // TEXTS_PER_CALL * TEXTS_PER_CALL)
        if writer.rows == 0:
            writer.append(first)
        progress(writer.rows)
        for part in chunks(encoder, texts, start=writer.rows, prompt=prompt, queries=queries):
            writer.append(part)
            progress(len(part))
    return open_embeddings(path)


def encoded_matrices(job: Job, pairs: Pairs, encoder: Encoder, folder: Path, progress: Progress) -> tuple[Rows, Rows]:
    """Return embeddings of the distinct anchors and corpus rows, made by an encoder and kept in `folder`."""
    encoder.fit([*pairs.anchors.texts, *pairs.corpus.texts])
    anchors = encoded(
        encoder, pairs.anchors.texts, folder / "anchors.npy", progress, prompt=job.anchor_prompt, queries=True
    )
    corpus = encoded(
        encoder, pairs.corpus.texts, folder / "corpus.npy", progress, prompt=job.corpus_prompt, queries=False
    )
    dim = max(anchors.shape[1], corpus.shape[1])
    return _empty_as(anchors, dim), _empty_as(corpus, dim)


def _empty_as(rows: Rows, dim: int) -> Rows:
    return rows if len(rows) else np.zeros((0, dim), dtype=np.float32)
