"""Real models of sentence-transformers, so small that a test makes them; and real text for them."""

from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from negfast.cli.demo.installed_code import gather

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
    "initializer_range": 1.0,
}


def code_pairs(n: int, longest: int = 300) -> list[tuple[str, str]]:
    """Return sentences and their code; as in real tables, rows repeat and some have several positives."""
    code = gather(limit=n)
    pairs = [(query, passage[:longest]) for query, passage in zip(code.queries, code.passages, strict=True)]
    several = [(pairs[i][0], pairs[i + 1][1]) for i in range(0, n - 1, 7)]
    most = [(pairs[3][0], pairs[i][1]) for i in range(20, 26)]
    respaced = [(query, f"{passage} ") for query, passage in pairs[5:n:40]]  # another text, the same embedding
    return pairs + several + most + respaced + pairs[:n:9]


def tokenizer_of(texts: list[str]) -> tokenizers.Tokenizer:
    """Return a tokenizer whose words are those of the texts, all but the longest."""
    words = sorted({word for text in texts for word, _ in Whitespace().pre_tokenize_str(text) if len(word) < 30})
    tokenizer = tokenizers.Tokenizer(WordLevel({word: i for i, word in enumerate(SPECIAL + words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def static_encoder(texts: list[str], *, dim: int = 32, seed: int = 0, **arguments: Any) -> SentenceTransformer:
    """Return an encoder that averages random vectors of words."""
    tokenizer = tokenizer_of(texts)
    weights = np.random.default_rng(seed).standard_normal((tokenizer.get_vocab_size(), dim)).astype(np.float32)
    layer = StaticEmbedding(tokenizer, embedding_weights=weights)
    return SentenceTransformer(modules=[layer], device="cpu", **arguments)


def transformer_encoder(texts: list[str], folder: Path, *, seed: int = 0) -> SentenceTransformer:
    """Return an encoder of one small layer with random weights, and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = _words_of(texts)
        BertModel(BertConfig(vocab_size=len(words), **_SMALL)).save_pretrained(folder)
    words.save_pretrained(folder)
    layer = Transformer(str(folder), max_seq_length=48)
    return SentenceTransformer(modules=[layer, Pooling(_SMALL["hidden_size"])], device="cpu")


def cross_encoder(texts: list[str], folder: Path, *, seed: int = 0) -> CrossEncoder:
    """Return a cross-encoder of one small layer with random weights."""
    words = _words_of(texts)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(vocab_size=len(words), num_labels=1, **_SMALL)
        BertForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return CrossEncoder(str(folder), device="cpu")


def _words_of(texts: list[str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(texts),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=48,
    )
