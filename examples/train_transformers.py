"""Train a small transformer with the trainer of transformers; lists are refreshed under the running data loader.

    python examples/train_transformers.py --folder run           # a few minutes on two cores
    python examples/train_transformers.py --folder run --resume  # goes on from the last checkpoint

The transformer is made here, with the words of the texts, so that nothing is downloaded. It learns to find functions by
the first sentence of their docstrings, and is judged on modules that it has not seen.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Punctuation, Sequence, Whitespace
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Trainer, TrainingArguments

import negfast
import negfast.torch as nt
from negfast.cli.demo.held_out import installed
from negfast.integrations.transformers import RefreshCallback, StatisticsCallback
from train_lightning import parts


class Encoder(torch.nn.Module):
    """The mean of a transformer's last states, at length 1 (N. Reimers and I. Gurevych, *Sentence-BERT*, 2019)."""

    def __init__(self, texts, *, words=8000, dim=64, length=48, seed=0):
        super().__init__()
        split = Sequence([Whitespace(), Punctuation()])
        counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(text))
        known = ["[PAD]", "[UNK]", *(word for word, _ in sorted(counts.most_common(words)))]
        made = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
        made.pre_tokenizer = split
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")
        self.length, self.dim = length, dim
        torch.manual_seed(seed)
        sizes = {"hidden_size": dim, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": dim}
        self.transformer = BertModel(BertConfig(vocab_size=len(known), **sizes), add_pooling_layer=False)

    def tokenize(self, texts):
        lengths = {"padding": True, "truncation": True, "max_length": self.length}
        found = self.tokenizer(list(texts), **lengths, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]

    def forward(self, ids, mask):
        states = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state  # (n_texts, length, dim)
        return normalize((states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))

    @torch.no_grad()
    def encode(self, texts, block=256):
        rows, device = np.empty((len(texts), self.dim), np.float32), next(self.parameters()).device
        for begin in range(0, len(texts), block):
            tokens = self.tokenize(texts[begin : begin + block])
            rows[begin : begin + block] = self(*(part.to(device) for part in tokens)).cpu().numpy()
        return rows


class RetrieverTrainer(Trainer):
    def __init__(self, *arguments, batches, **settings):
        super().__init__(*arguments, **settings)
        self.batches, self.criterion, self.told = batches, nt.CurriculumLoss(temperature=0.05), None

    def get_train_dataloader(self):
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_persistent_workers,
        )
        return self.accelerator.prepare(loader)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ARG002 - as they call it
        batch = inputs["batch"]
        anchors, documents = model(*batch.anchors), model(*batch.documents)
        mined = nt.Negatives.from_batch(batch, documents)
        loss, self.told = self.criterion(anchors, documents[: len(batch)], [mined], statistics=True)
        return loss


class Collator(nt.NegativesCollator):
    """Batches in a dict, which is what the trainer looks into."""

    def __call__(self, examples):
        return {"batch": super().__call__(examples)}


def made_trainer(pairs, model, folder, *, policy, **settings):
    """Return a trainer with all that refreshes its negatives."""
    batches, data, refresher = parts(pairs, policy=policy, batch_size=64)
    arguments = TrainingArguments(str(folder), use_cpu=True, report_to=[], disable_tqdm=True, **settings)
    trainer = RetrieverTrainer(
        model, arguments, data_collator=Collator(model.tokenize), train_dataset=data, batches=batches
    )
    trainer.add_callback(RefreshCallback(refresher, model.encode))
    trainer.add_callback(StatisticsCallback({"loss": lambda: trainer.told}))
    return trainer


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default="run", help="for checkpoints (default: run)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    for name, default in {"pairs": 4000, "epochs": 3, "seed": 0, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    benchmark = installed(options.pairs)
    model = Encoder([*benchmark.train.queries, *benchmark.train.passages], seed=options.seed)
    trainer = made_trainer(
        benchmark.train,
        model,
        options.folder,
        policy=negfast.RefreshPolicy(max_drift=0.3, every=100),
        num_train_epochs=options.epochs,
        learning_rate=1e-3,
        logging_steps=20,
        save_steps=50,
        seed=options.seed,
        dataloader_num_workers=options.workers,
        dataloader_persistent_workers=options.workers > 0,
    )
    trainer.train(resume_from_checkpoint=options.resume or None)
    for entry in trainer.state.log_history:
        if "negfast/refreshed" in entry and "loss" not in entry:
            shown = ("changed", "staleness", "overlap", "turnover")
            print(entry["step"], {name: entry[f"negfast/{name}"] for name in shown if f"negfast/{name}" in entry})
    found = benchmark.measure(model.encode)
    print(f"MRR@10 {found.mrr.mean():.4f}, nDCG@10 {found.ndcg.mean():.4f}")


if __name__ == "__main__":
    main()
