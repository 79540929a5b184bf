"""Embeddings kept in files, under a key that changes with whatever decides them."""

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from negfast.files.writers import replacing
from negfast.integrations.sentence_transformers.encoding import Encoding, Matrix

_VERSION = b"negfast embeddings 1"
_SAMPLE = 16
_TOLERANCE = 0.01
"""How far a row may lie from what its text is encoded to again: batches of other shapes round otherwise, in half
precision by a few thousandths."""


class EmbeddingCache:
    """Files of embeddings in one folder, for one model as it is now.

    The key of a file is a hash of the weights, the prompts, the dimension that rows are cut to, and the texts. What no
    key can hold, such as a tokenizer or a pooling layer that was exchanged, is found by encoding a few texts again.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    model : SentenceTransformer, or what encodes as it does
        Its `state_dict` is hashed where it has one; where not, the sample alone tells models apart.
    say : callable
        Hears which files are read and written.
    """

    def __init__(self, folder: str | os.PathLike[str], model: Any, say: Callable[[str], None]) -> None:
        self._folder = Path(os.fsdecode(folder))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._model = model
        self._weights = weights_fingerprint(model)
        self._say = say

    def path(self, encoding: Encoding, texts: Any) -> Path:
        """Return the file that holds the embeddings of a pyarrow array of texts, or would."""
        key = blake2b(_VERSION, digest_size=32)
        prompts = getattr(self._model, "prompts", None)
        named = prompts.get(encoding.prompt_name) if isinstance(prompts, dict) else None
        cut = getattr(self._model, "truncate_dim", None)
        key.update(repr((self._weights, encoding.prompt, encoding.prompt_name, named, cut, len(texts))).encode())
        for buffer in texts.buffers()[1:]:  # where texts begin, and their bytes; none is missing
            if buffer is not None:
                key.update(buffer)
        return self._folder / f"{encoding.side}_embeddings_{key.hexdigest()}.npy"

    def load(self, path: Path, encoding: Encoding, texts: Any) -> Matrix | None:
        """Return the embeddings in a file, ``None`` if there is none or the model gives others now."""
        try:
            rows = np.load(path)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, OSError) as error:
            self._say(f"[Cache] {path} cannot be read ({error}); encoding again")
            return None
        if not self._current(rows, encoding, texts):
            self._say(f"[Cache] {path} differs from what the model gives now; encoding again")
            return None
        self._say(f"[Cache] Loaded {encoding.side} embeddings from {path} (shape={rows.shape})")
        return np.ascontiguousarray(rows, dtype=np.float32)

    def save(self, path: Path, encoding: Encoding, rows: Matrix) -> None:
        """Write embeddings; the file is whole or not there."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows)
        self._say(f"[Cache] Saved {encoding.side} embeddings to {path}")

    def _current(self, rows: Any, encoding: Encoding, texts: Any) -> bool:
        if rows.ndim != 2 or len(rows) != len(texts):
            return False
        sample = np.unique(np.linspace(0, len(texts) - 1, min(_SAMPLE, len(texts))).astype(np.int64))
        fresh = encoding.encode(self._model, texts.take(sample).to_pylist())
        if fresh.shape != rows[sample].shape:
            return False
        return bool((np.linalg.norm(fresh - rows[sample], axis=1) <= _TOLERANCE).all())


def weights_fingerprint(model: Any) -> str:
    """Return a hash of all tensors of a model's state, by name; an empty text if it has none to give."""
    if not callable(getattr(model, "state_dict", None)):
        return ""
    key = blake2b(digest_size=32)
    for name, value in sorted(model.state_dict().items()):
        if hasattr(value, "detach"):
            key.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
            key.update(_bytes(value))
        else:
            key.update(repr((name, value)).encode())
    return key.hexdigest()


def _bytes(tensor: Any) -> Any:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""
