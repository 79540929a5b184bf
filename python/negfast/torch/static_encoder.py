"""A text encoder small enough to be trained from scratch in minutes: a table of rows, summed."""

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import normalize

from negfast.arrays import Ints
from negfast.settings import whole

# Words and the words inside identifiers: `parse_HTTPHeader2` gives parse, HTTP, Header, 2.
_WORD = re.compile(r"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_N_GRAM = 4
_BLOCK = 2048  # texts encoded at a time

Bags = tuple[torch.Tensor, torch.Tensor]
"""Texts as a model takes them: all their features, shape (n_features,), and where each begins, shape (n_texts,)."""


class StaticEncoder(nn.Module):
    """Encode a text as the sum of one row for each of its words and their character 4-grams, at length 1.

    Parameters
    ----------
    texts : sequence of str
        Texts like those to encode; rows of features that are rare in them begin longer.
    dim : int, default 256
        Width of the rows.
    buckets : int, default 32768
        Rows of the table, onto which features are hashed.
    max_words : int, default 60
        Words of a text that are read.
    seed : int, default 0
        Of the rows that training begins with.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a number is none or lies out of its range.

    Notes
    -----
    Features are those of P. Bojanowski, E. Grave, A. Joulin and T. Mikolov, *Enriching word vectors with subword
    information* (2017), of four letters alone. Rows begin as random directions whose lengths are the inverse document
    frequency (K. Spärck Jones, *A statistical interpretation of term specificity*, 1972), so that an untrained encoder
    already finds texts with rare words in common.

    Limitations
    -----------
    The order of words does not count.
    """

    def __init__(
        self, texts: Sequence[str], dim: int = 256, *, buckets: int = 1 << 15, max_words: int = 60, seed: int = 0
    ) -> None:
        super().__init__()
        self.dim = whole("dim", dim, low=1)
        self.buckets = whole("buckets", buckets, low=1, high=2**31 - 1)
        self.max_words = whole("max_words", max_words, low=1)
        counts = np.bincount(self.tokenize(texts)[0].numpy(), minlength=self.buckets)
        lengths = np.log1p(counts.sum() / (1 + counts))
        rows = np.random.default_rng(whole("seed", seed, low=0)).standard_normal((self.buckets, self.dim), np.float32)
        rows *= (lengths / (lengths.mean() * self.dim**0.5)).astype(np.float32)[:, None]
        self.table = nn.EmbeddingBag.from_pretrained(torch.from_numpy(rows), freeze=False, mode="sum")

    def tokenize(self, texts: Sequence[str]) -> Bags:
        """Return texts as the model takes them; what a data loader runs in its workers.

        Parameters
        ----------
        texts : sequence of str

        Returns
        -------
        features : Tensor of int64, shape (n_features,)
        begins : Tensor of int64, shape (n_texts,)
        """
        bags = [_features(text, self.buckets, self.max_words) for text in texts]
        begins = np.cumsum([0, *map(len, bags)])[:-1]
        return torch.from_numpy(np.concatenate([*bags, np.empty(0, np.int64)])), torch.from_numpy(begins)

    def forward(self, features: torch.Tensor, begins: torch.Tensor) -> torch.Tensor:
        """Return the rows of texts, shape (n_texts, dim)."""
        return normalize(self.table(features, begins))

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of texts as an array, shape (n_texts, dim), without a gradient."""
        device = self.table.weight.device
        rows = [self(*(part.to(device) for part in bags)).cpu().numpy() for bags in self._blocks(texts)]
        return np.concatenate([*rows, np.empty((0, self.dim), np.float32)])

    def _blocks(self, texts: Sequence[str]) -> Iterator[Bags]:
        for begin in range(0, len(texts), _BLOCK):
            yield self.tokenize(texts[begin : begin + _BLOCK])


# A text of the training pairs comes up once an epoch or more.
@lru_cache(maxsize=1 << 17)
def _features(text: str, buckets: int, max_words: int) -> Ints:
    """Return the buckets of the first words of a text."""
    words = islice(_WORD.finditer(text), max_words)
    bags = [_word_features(word.group().lower(), buckets) for word in words]
    return np.concatenate(bags or [_word_features("", buckets)])


@lru_cache(maxsize=1 << 17)
def _word_features(word: str, buckets: int) -> Ints:
    """Return the buckets of a word and of its 4-grams, with its edges marked."""
    edged = f"<{word}>"
    grams = {edged, *(edged[i : i + _N_GRAM] for i in range(len(edged) - _N_GRAM + 1))}
    return np.array(sorted(zlib.crc32(gram.encode("utf-8", "surrogatepass")) % buckets for gram in grams))
