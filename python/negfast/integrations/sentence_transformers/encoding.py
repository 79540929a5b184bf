"""Texts to embeddings, by the model and nothing else of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from negfast.integrations.sentence_transformers.cache import EmbeddingCache

Matrix = NDArray[np.float32]
Side = Literal["query", "corpus"]


@dataclass(frozen=True)
class Encoding:
    """How the texts of one side are encoded.

    Attributes
    ----------
    side : {"query", "corpus"}
    prompt_name, prompt : str or None
        As the model takes them.
    batch_size : int
    """

    side: Side
    prompt_name: str | None
    prompt: str | None
    batch_size: int

    def encode(self, model: Any, texts: list[str], *, pool: Any = None, show_progress_bar: bool = False) -> Matrix:
        """Return the embeddings of texts, normalised by the model."""
        encode = model.encode_query if self.side == "query" else model.encode_document
        rows = encode(
            texts,
            pool=pool,
            batch_size=self.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=show_progress_bar,
            prompt_name=self.prompt_name,
            prompt=self.prompt,
        )
        return np.ascontiguousarray(rows, dtype=np.float32)


@contextmanager
def processes(model: Any, wanted: list[str] | bool) -> Iterator[Any]:
    """Yield a pool of the model's processes, ``None`` if none are wanted; they end with the block."""
    if not wanted:
        yield None
        return
    pool = model.start_multi_process_pool(target_devices=None if isinstance(wanted, bool) else wanted)
    try:
        yield pool
    finally:
        model.stop_multi_process_pool(pool)


def both_sides(
    model: Any,
    sides: tuple[Encoding, Encoding],
    texts: tuple[Any, Any],
    cache: "EmbeddingCache | None",
    *,
    pool_wanted: list[str] | bool,
    show: bool,
) -> tuple[Matrix, Matrix]:
    """Return the embeddings of queries and corpus, from the cache where it has them.

    Parameters
    ----------
    model : SentenceTransformer
    sides, texts : pairs, of the queries and of the corpus
        How to encode, and pyarrow arrays of texts.
    cache : EmbeddingCache or None
    pool_wanted : bool or list of str
        Whether to encode in several processes, and on which devices.
    show : bool
        Show bars.
    """
    paths = [cache.path(side, column) if cache else None for side, column in zip(sides, texts, strict=True)]
    rows = [
        cache.load(path, side, column) if cache and path else None
        for path, side, column in zip(paths, sides, texts, strict=True)
    ]
    if any(found is None for found in rows):
        with processes(model, pool_wanted) as pool:
            for place in (1, 0):
                if rows[place] is not None:
                    continue
                column = texts[place].to_pylist()
                encoded = sides[place].encode(model, column, pool=pool, show_progress_bar=show)
                rows[place] = encoded
                path = paths[place]
                if cache and path:
                    cache.save(path, sides[place], encoded)
    queries, corpus = rows
    assert queries is not None, "encoded above"
    assert corpus is not None, "encoded above"
    return queries, corpus
