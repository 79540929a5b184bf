"""Encoders that commands offer: a sentence-transformers model, or the built-in one."""

import logging
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from negfast.encoder import HashedEncoder
from negfast.errors import InvalidValueError, MissingExtraError

_Floats = npt.NDArray[np.float32]
TEXTS_PER_CALL = 512
"""Texts that a model gets at once: large enough to sort by length, small enough for a progress bar to move."""


class Encoder(Protocol):
    """What makes embeddings of texts.

    Attributes
    ----------
    description : str
        The encoder in a few words.
    versions : dict of str to str
        The packages that its embeddings depend on.
    """

    description: str
    versions: dict[str, str]

    def fit(self, texts: Sequence[str]) -> None:
        """Look at all texts once, before any is encoded."""

    def encode(self, texts: list[str], *, prompt: str | None, queries: bool) -> _Floats:
        """Return one float32 row per text, shape (n, dim)."""


def encoder_for(model: str | None) -> Encoder:
    """Return the encoder of that name; ``None`` is the built-in one.

    Raises
    ------
    MissingExtraError
        If a model is asked for and sentence-transformers is not installed.
    InvalidValueError
        If the model cannot be loaded.
    """
    return _BuiltIn() if model is None else _Model(model)


def chunks(
    encoder: Encoder, texts: Sequence[str], *, start: int = 0, prompt: str | None, queries: bool
) -> Iterator[_Floats]:
    """Encode texts from place `start` on, and yield the rows of one chunk after the other."""
    for begin in range(start, len(texts), TEXTS_PER_CALL):
        yield encoder.encode(list(texts[begin : begin + TEXTS_PER_CALL]), prompt=prompt, queries=queries)


def encode_all(
    encoder: Encoder, texts: Sequence[str], progress: Callable[[int], None], *, prompt: str | None, queries: bool
) -> _Floats:
    """Encode texts in chunks; `progress` is called with each number of encoded texts.

    Returns
    -------
    ndarray of float32, shape (n_texts, dim)
        Of dim 1 where there is no text.
    """
    rows, start = np.zeros((len(texts), 1), dtype=np.float32), 0
    for part in chunks(encoder, texts, prompt=prompt, queries=queries):
        if start == 0:
            rows = np.empty((len(texts), part.shape[1]), dtype=np.float32)
        rows[start : start + len(part)] = part
        start += len(part)
        progress(len(part))
    return rows


class _BuiltIn:
    description = "the built-in encoder, which knows spelling and not meaning"

    def __init__(self) -> None:
        self._encoder = HashedEncoder()
        self.versions: dict[str, str] = {}

    def fit(self, texts: Sequence[str]) -> None:
        self._encoder.fit(texts)

    def encode(self, texts: list[str], *, prompt: str | None, queries: bool) -> _Floats:  # noqa: ARG002
        return self._encoder.encode(texts)


class _Model:
    def __init__(self, name: str) -> None:
        self._name = name
        self._model = _load(name)
        self.description = f"the model {name} on {self._model.device}"
        self.versions = {name: metadata.version(name) for name in ("sentence-transformers", "transformers", "torch")}

    def fit(self, texts: Sequence[str]) -> None:
        """Do nothing: the model has been trained."""

    def encode(self, texts: list[str], *, prompt: str | None, queries: bool) -> _Floats:
        encode: Callable[..., Any] = self._model.encode_query if queries else self._model.encode_document
        options = {} if prompt is None else {"prompt": prompt}
        # No tokenizer takes half of a surrogate pair.
        texts = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        try:
            rows = encode(texts, show_progress_bar=False, convert_to_numpy=True, **options)
        except Exception as error:  # out of memory on the device, a token that a damaged model does not know
            raise InvalidValueError(
                f"--model {self._name} could not encode the texts, got {error}; try it alone on some of them"
            ) from error
        return np.ascontiguousarray(rows, dtype=np.float32)


def _load(name: str) -> Any:  # a SentenceTransformer, whose type is not at hand where it is not installed
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError(
            f"--model {name} needs sentence-transformers, which is not installed; "
            "use pip install 'negfast[sentence-transformers]', or leave --model out for the built-in encoder"
        ) from error
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    # Commands have bars of their own, --quiet means all of them, and a failure is told in one line.
    disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    set_verbosity_error()  # type: ignore[no-untyped-call,unused-ignore]
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        return SentenceTransformer(name)
    except Exception as error:  # a hub, a tokenizer or a weights file may fail in any way of their own
        reason = " ".join(str(error).split())[:300]
        raise InvalidValueError(
            f"--model {name} cannot be loaded ({reason}); give the folder of a model or the name of one that this "
            "machine can reach"
        ) from error
