"""The models: a static one that begins at random, and a transformer that is read from a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import normalize

from quality.settings import Encoder
from quality.texts import Texts, trained_tokenizer

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_BLOCK = {"static": 4096, "transformer": 64}  # texts at a time


class Static(nn.Module):
    """The mean of a row for each token."""

    def __init__(self, vocabulary: int, dim: int, seed: int) -> None:
        super().__init__()
        rows = torch.randn(vocabulary, dim, generator=torch.Generator().manual_seed(seed))
        self.table = nn.EmbeddingBag.from_pretrained(rows, freeze=False, mode="mean")
        self.dim, self.block = dim, _BLOCK["static"]

    def forward(self, texts: Texts, rows: Ints) -> torch.Tensor:
        return normalize(self.table(*texts.bags(rows)))


class Transformer(nn.Module):
    """The mean of a transformer's last states; dropout is off, so that a text has one embedding."""

    def __init__(self, path: str) -> None:
        from transformers import AutoModel

        super().__init__()
        self.model = AutoModel.from_pretrained(path).eval()
        self.dim, self.block = int(self.model.config.hidden_size), _BLOCK["transformer"]

    def forward(self, texts: Texts, rows: Ints) -> torch.Tensor:
        ids, mask = texts.padded(rows)
        states = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        weights = mask[:, :, None] / mask.sum(dim=1)[:, None, None]
        return normalize((states * weights).sum(dim=1))


Model = Static | Transformer


def make(encoder: Encoder, vocabulary: int, seed: int) -> Model:
    if encoder.kind == "transformer":
        return Transformer(str(encoder.path))
    return Static(vocabulary, encoder.dim, seed)


def tokenizer(encoder: Encoder, texts: list[str]) -> Any:
    """Return the tokenizer of a transformer, or for the static encoder one that is learned from `texts`."""
    if encoder.kind == "static":
        return trained_tokenizer(texts, encoder.vocabulary)
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(str(encoder.path)) / "tokenizer.json"))


@torch.no_grad()
def encode(model: Model, texts: Texts, rows: Ints) -> Floats:
    """Return the embeddings of some texts, (n_rows, dim), texts of like length together."""
    order = np.argsort(texts.lengths(rows), kind="stable")
    blocks = [model(texts, rows[order[i : i + model.block]]).numpy() for i in range(0, len(rows), model.block)]
    found = np.empty((len(rows), blocks[0].shape[1]), dtype=np.float32)
    found[order] = np.concatenate(blocks)
    return found
