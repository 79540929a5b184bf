"""Fine-tune a transformer with the loop of train_static.py.

    python examples/train_minilm.py MODEL --folder run --pairs 2000 --epochs 1

MODEL is a folder that `transformers` can load, or a name that it may download, such as
sentence-transformers/all-MiniLM-L6-v2. On two cores a step of 32 pairs with their negatives takes seconds.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from negfast.cli.demo.held_out import installed
from train_static import Run


class Encoder(torch.nn.Module):
    """The mean of a transformer's last states, at length 1 (N. Reimers and I. Gurevych, *Sentence-BERT*, 2019)."""

    def __init__(self, path, *, max_length):
        super().__init__()
        self.tokenizer, self.max_length = AutoTokenizer.from_pretrained(path), max_length
        # Without dropout, whose random numbers a checkpoint would have to hold too.
        self.transformer = AutoModel.from_pretrained(path).eval()
        self.dim = self.transformer.config.hidden_size

    def tokenize(self, texts):
        lengths = {"padding": True, "truncation": True, "max_length": self.max_length}
        found = self.tokenizer(list(texts), **lengths, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]

    def forward(self, ids, mask):
        states = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state  # (n_texts, length, dim)
        return normalize((states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))

    @torch.no_grad()
    def encode(self, texts, block=64):
        """Encode texts of about the same length together."""
        rows = np.empty((len(texts), self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for begin in range(0, len(texts), block):
            chosen = order[begin : begin + block]
            rows[chosen] = self(*self.tokenize([texts[row] for row in chosen])).numpy()
        return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--folder", type=Path, default="run", help="for checkpoints (default: run)")
    for name, default in {"pairs": 2000, "epochs": 1, "batch": 32, "length": 128, "seed": 0, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-5, help="of learning (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    benchmark = installed(options.pairs)
    model = Encoder(options.model, max_length=options.length)
    found = benchmark.measure(model.encode)
    print(f"before: MRR@10 {found.mrr.mean():.4f}, nDCG@10 {found.ndcg.mean():.4f}", flush=True)
    settings = {"epochs": options.epochs, "batch_size": options.batch, "learning_rate": options.rate}
    run = Run(model, benchmark.train, options.folder, **settings, seed=options.seed, workers=options.workers)
    for epoch, loss in run.train():
        found = benchmark.measure(model.encode)
        print(f"epoch {epoch}: loss {loss:.4f}, MRR@10 {found.mrr.mean():.4f}, nDCG@10 {found.ndcg.mean():.4f}")


if __name__ == "__main__":
    main()
