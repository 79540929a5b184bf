"""The example with a transformer: a tiny one, made here, learns made pairs and goes on where it was stopped."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

import killed_loop


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """Return a model of random weights, through a folder as a user would name one."""
    words = sorted({word for text in killed_loop.made_pairs().passages for word in text.split()})
    vocabulary = tmp_path / "words"
    vocabulary.mkdir()
    (vocabulary / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words) + 5, max_position_embeddings=16, **sizes)
    folder = tmp_path / "model"
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(vocabulary / "vocab.txt")).save_pretrained(folder)
    return lambda: killed_loop.example("train_minilm").Encoder(folder, max_length=12)


def weights(run: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for value in run.model.state_dict().values() if value.is_floating_point()])


def test_it_learns_and_goes_on_where_it_was(tmp_path: Path, model: Any) -> None:
    settings = {"epochs": 3, "learning_rate": 2e-3}
    whole = killed_loop.made_run(tmp_path / "whole", model(), **settings)
    losses = [loss for _, loss in whole.train()]
    assert losses[-1] < losses[0]
    next(killed_loop.made_run(tmp_path / "parts", model(), **settings).train())
    resumed = killed_loop.made_run(tmp_path / "parts", model(), **settings)
    assert resumed.step == whole.steps // 3
    list(resumed.train())
    assert torch.equal(weights(whole), weights(resumed))
