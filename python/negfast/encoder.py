"""An encoder without a model: hashed words and character n-grams, projected at random.

It needs numpy alone and downloads nothing. It knows spelling, not meaning: texts are close when they share
rare words or parts of words. That is enough to see mining at work on real text and to test pipelines; train
with a real model.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from math import log
from typing import Self

import numpy as np
import numpy.typing as npt

from negfast.errors import InvalidTypeError
from negfast.settings import whole

# Words and the words inside identifiers: `parse_HTTPHeader2` gives parse, HTTP, Header, 2. A letter other
# than an ASCII capital, in any script, is whatever \w holds beyond digits, underscores and A-Z.
_TOKEN = re.compile(r"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+|\d+")

N_GRAM_SIZES = (3, 4)
MIN_TOKEN_FOR_N_GRAMS = 4  # a shorter one is its own only n-gram
MAX_TOKEN_FOR_N_GRAMS = 64  # longer ones are data, not words
NONZEROS = 8  # of each feature's projection row; more are slower and no better
TEXTS_PER_BLOCK = 512  # keeps the working memory of `encode` near 50 MiB

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]
_Hashes = npt.NDArray[np.uint64]


class HashedEncoder:
    """Encode texts as unit rows from hashed words, character n-grams, IDF and a random projection.

    Parameters
    ----------
    dim : int, default 384
        Width of the rows.
    seed : int, default 0
        Chooses the projection. Rows of different seeds or widths cannot be compared.

    Raises
    ------
    InvalidTypeError
        If `dim` or `seed` is not an integer.
    InvalidValueError
        If `dim` is below 1 or `seed` does not fit 64 bits without a sign.

    Notes
    -----
    A text is split into lower-case words, identifiers included. A word is a feature of its own, and its
    character n-grams together are as heavy as the word. Pairs of words are no features: at such widths they
    add more noise than they tell. Features are hashed (Weinberger, Dasgupta, Langford, Smola and Attenberg,
    2009, Feature hashing for large scale multitask learning), words are weighted by inverse document
    frequency (Sparck Jones, 1972, A statistical interpretation of term specificity) and by 1 + log of their
    count in the text. A feature's hash draws its projection row: a few entries of random sign at random
    places (Achlioptas, 2003, Database-friendly random projections), so no
    table is kept and every machine draws the same rows.

    Limitations
    -----------
    Synonyms are strangers. The projection adds noise of about 1 / sqrt(dim) to each score, so smaller
    differences mean nothing.

    Examples
    --------
    >>> from negfast.encoder import HashedEncoder
    >>> texts = ["read a file", "def read_file(path)", "draw a circle"]
    >>> rows = HashedEncoder().fit(texts).encode(texts)
    >>> rows.shape, rows.dtype.name
    ((3, 384), 'float32')
    >>> bool(rows[0] @ rows[1] > rows[0] @ rows[2])
    True
    """

    def __init__(self, dim: int = 384, *, seed: int = 0) -> None:
        self.dim = whole("dim", dim, low=1)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        self._counts: Counter[str] = Counter()  # token -> number of fitted texts that hold it
        self._n_texts = 0

    def __repr__(self) -> str:
        """Return the settings and what was fitted."""
        fitted = f"n_texts={self._n_texts}, n_tokens={len(self._counts)}"
        return f"HashedEncoder(dim={self.dim}, seed={self.seed}, {fitted})"

    def fit(self, texts: Iterable[str]) -> Self:
        """Count in how many texts each word occurs, replacing what was fitted before.

        Parameters
        ----------
        texts : iterable of str
            Texts like those to encode. Without fitting, all words weigh the same.

        Returns
        -------
        HashedEncoder
            This encoder.

        Raises
        ------
        InvalidTypeError
            If `texts` is a single text or holds something other than texts.
        """
        counts: Counter[int] = Counter()
        n_texts = 0
        tokens = _Tokens()
        for text in _checked(texts):
            counts.update(set(tokens.of(text)))
            n_texts += 1
        self._counts = Counter({tokens.names[token]: count for token, count in counts.items()})
        self._n_texts = n_texts
        return self

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> _Floats:
        """Encode texts.

        Parameters
        ----------
        texts : sequence of str, length n
            What to encode.
        progress : callable, optional
            Called with the number of texts done since the call before.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Rows of length 1; a text without any word or digit gives a row of zeros.

        Raises
        ------
        InvalidTypeError
            If `texts` is a single text or holds something other than texts.
        """
        checked = list(_checked(texts))
        rows = np.zeros((len(checked), self.dim), dtype=np.float32)
        for start in range(0, len(checked), TEXTS_PER_BLOCK):
            block = checked[start : start + TEXTS_PER_BLOCK]
            self._encode_block(block, rows[start : start + len(block)])
            if progress is not None:
                progress(len(block))
        return rows

    def _encode_block(self, texts: list[str], rows: _Floats) -> None:
        tokens = _Tokens()
        ids = [tokens.of(text) for text in texts]
        if not tokens.names:
            return
        places = np.repeat(np.arange(len(texts)), [len(text_ids) for text_ids in ids])
        flat = np.fromiter((token for text_ids in ids for token in text_ids), dtype=np.int64, count=len(places))
        pairs, counts = np.unique(places * len(tokens.names) + flat, return_counts=True)
        places, flat = np.divmod(pairs, len(tokens.names))  # now sorted by text, each token once
        table = self._token_rows(tokens.names)  # (n_tokens, dim)
        weighted = table[flat]
        weighted *= (1 + np.log(counts)).astype(np.float32)[:, None]
        filled, starts = np.unique(places, return_index=True)
        sums = np.add.reduceat(weighted, starts, axis=0)
        norms = np.sqrt(np.einsum("ij,ij->i", sums, sums, dtype=np.float64))
        norms[norms == 0] = 1  # all entries cancelled out, which only tiny widths make likely
        rows[filled] = sums / norms[:, None]

    def _token_rows(self, names: list[str]) -> _Floats:
        """Return one weighted row per token: its own projection plus that of its n-grams."""
        owners, n_grams = _n_grams(names)
        n_grams_of = np.bincount(owners, minlength=len(names))
        features = np.concatenate([_word_hashes(names), n_grams])
        owners = np.concatenate([np.arange(len(names)), owners])
        idf = np.array([self._idf(name) for name in names])
        weights = np.concatenate([idf, (idf / np.sqrt(np.maximum(n_grams_of, 1)))[owners[len(names) :]]])
        return _project(features, owners, weights, len(names), self.dim, self.seed)

    def _idf(self, token: str) -> float:
        # Never zero, not even for a word that all texts hold, so that no text that has words ends up as a
        # zero row.
        return log(1 + self._n_texts / (self._counts[token] or 1)) if self._n_texts else 1.0


class _Tokens(dict[str, int]):
    """Ids of tokens in order of appearance; keyed by spelling, so that each is lower-cased once."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._ids: dict[str, int] = {}

    def __missing__(self, spelling: str) -> int:
        name = spelling.lower()
        token = self._ids.setdefault(name, len(self.names))
        if token == len(self.names):
            self.names.append(name)
        self[spelling] = token
        return token

    def of(self, text: str) -> list[int]:
        return list(map(self.__getitem__, _TOKEN.findall(text)))


def _checked(texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, str | bytes):
        raise InvalidTypeError(f"texts must be a sequence of texts, got {type(texts).__name__}; use [texts]")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidTypeError(f"texts[{i}] must be a str, got {type(text).__name__}; use '' for a missing text")
        yield text


def _word_hashes(names: list[str]) -> _Hashes:
    digests = b"".join(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _n_grams(names: list[str]) -> tuple[_Ints, _Hashes]:
    """Return the owner and the hash of every character n-gram of every token that is long enough."""
    long = [i for i, name in enumerate(names) if len(name) >= MIN_TOKEN_FOR_N_GRAMS and not name.isdigit()]
    if not long:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
    # The marks make a prefix or a suffix differ from the same letters within a token.
    marked = [f"<{names[i][:MAX_TOKEN_FOR_N_GRAMS]}>" for i in long]
    code_points = "".join(marked).encode("utf-32-le", "surrogatepass")
    letters = np.frombuffer(code_points, dtype="<u4").astype(np.uint64)
    owners = np.repeat(np.array(long, dtype=np.int64), [len(name) for name in marked])
    found_owners, found = [], []
    for size in N_GRAM_SIZES:
        n_windows = max(len(letters) - size + 1, 0)
        hashes = np.full(n_windows, size, dtype=np.uint64)
        for offset in range(size):
            hashes = _mix(hashes ^ letters[offset : offset + n_windows])
        whole = owners[:n_windows] == owners[size - 1 : size - 1 + n_windows]
        found_owners.append(owners[:n_windows][whole])
        found.append(hashes[whole])
    return np.concatenate(found_owners), np.concatenate(found)


def _project(
    features: _Hashes, owners: _Ints, weights: npt.NDArray[np.float64], n_rows: int, dim: int, seed: int
) -> _Floats:
    """Add each feature's projection row, times its weight, to the row of its owner."""
    start = _mix(features ^ _mix(np.array([seed], dtype=np.uint64)))
    sums = np.zeros(n_rows * dim)
    for step in range(NONZEROS):
        draws = _mix(start + np.uint64(step))
        columns = ((draws >> np.uint64(32)) % np.uint64(dim)).astype(np.int64)
        signs = 1.0 - 2.0 * (draws & np.uint64(1)).astype(np.float64)
        sums += np.bincount(owners * dim + columns, signs * weights, n_rows * dim)
    return sums.reshape(n_rows, dim).astype(np.float32)


def _mix(values: _Hashes) -> _Hashes:
    """Return SplitMix64 of each (Steele, Lea and Flood, 2014, Fast splittable pseudorandom numbers)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
