"""Texts as tokens: each text is tokenised once, and batches are taken by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Texts:
    """Tokens of n texts, one after the other.

    Attributes
    ----------
    tokens : int32 (n_tokens,)
    ends : int64 (n + 1,), where each text begins, and the last one ends
    """

    tokens: npt.NDArray[np.int32]
    ends: Ints

    def __len__(self) -> int:
        return len(self.ends) - 1

    def lengths(self, rows: Ints) -> Ints:
        return self.ends[rows + 1] - self.ends[rows]

    def bags(self, rows: Ints) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens of some texts, and where each text begins, as an EmbeddingBag takes them."""
        lengths = self.lengths(rows)
        begins = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(self.ends[rows] - begins, lengths)
        return torch.from_numpy(self.tokens[places]), torch.from_numpy(begins.astype(np.int32))

    def padded(self, rows: Ints) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens of some texts, and which of them are none, both of shape (n_rows, longest)."""
        lengths = self.lengths(rows)
        within = np.arange(lengths.max(initial=1)) < lengths[:, None]
        ids = np.zeros(within.shape, dtype=np.int64)
        ids[within] = self.bags(rows)[0]
        return torch.from_numpy(ids), torch.from_numpy(within)


def tokenised(tokenizer: Any, texts: Sequence[str], most: int, *, special: bool) -> Texts:
    """Cut texts to at most so many tokens; an empty text gets token 0, so that it has an embedding."""
    tokenizer.enable_truncation(most)
    tokenizer.no_padding()
    ids = [encoded.ids or [0] for encoded in tokenizer.encode_batch(list(texts), add_special_tokens=special)]
    ends = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    return Texts(np.fromiter((token for one in ids for token in one), np.int32, ends[-1]), ends)


def trained_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Return WordPiece (M. Schuster and K. Nakajima, 2012) learned from these texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
