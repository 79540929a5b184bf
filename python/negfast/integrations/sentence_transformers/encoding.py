"""Texts to embeddings, by the model and nothing else of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Side = Literal["query", "corpus"]


@dataclass(frozen=True, kw_only=True)
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
