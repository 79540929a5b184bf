"""Train a small text-embedding model with Lightning; mined lists are refreshed under the running data loader.

    python examples/train_lightning.py --folder run           # a minute or two on two cores
    python examples/train_lightning.py --folder run --resume  # goes on from the last checkpoint

It learns to find functions by the first sentence of their docstrings, and is judged on modules that it has not seen.
"""

import argparse
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

import negfast
import negfast.torch as nt
from negfast.cli.demo.held_out import installed
from negfast.integrations.lightning import RefreshCallback, StatisticsCallback
from negfast.torch.static_encoder import StaticEncoder


class Retriever(pl.LightningModule):
    def __init__(self, texts, *, seed):
        super().__init__()
        self.encoder = StaticEncoder(texts, seed=seed)
        self.criterion = nt.CurriculumLoss(temperature=0.05)
        self.told = None  # LossStatistics of the last batch

    def training_step(self, batch, batch_idx):  # noqa: ARG002 - as Lightning calls it
        anchors, documents = self.encoder(*batch.anchors), self.encoder(*batch.documents)  # (b, dim), (b + n, dim)
        mined = nt.Negatives.from_batch(batch, documents)
        loss, self.told = self.criterion(anchors, documents[: len(batch)], [mined], statistics=True)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def parts(pairs, *, width=50, batch_size=128, policy, seed=0):
    """Return the batches and the data to train on, and what refreshes the lists of negatives."""
    n, rows = len(pairs), np.arange(len(pairs))
    both = {"keys": (pairs.keys, pairs.keys), "groups": (pairs.groups, pairs.groups)}
    shares = {"probabilities": {"hard": 0.4, "semi_hard": 0.3, "easy": 0.1}, "min_random": 0.2}
    sources = [nt.LiveRows.empty(n, n, width), nt.UniformRows(n)]
    sampler = nt.NegativeSampler(sources, num_negatives=4, **shares, positives=rows, **both, seed=seed)
    miner = negfast.Miner(num_negatives=width)
    settings = {"positives": rows, **both, "policy": policy, "look_every": 20}
    refresher = nt.Refresher(pairs.queries, pairs.passages, miner, sampler, **settings)
    hard = nt.HardBatchSampler(n, min(batch_size, n // 4), keys=pairs.keys, groups=pairs.groups, seed=seed)
    data = nt.NegativesDataset(list(zip(pairs.queries, pairs.passages, strict=True)), sampler, pairs.passages)
    return refresher.batches(hard), data, refresher


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default="run", help="for checkpoints (default: run)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    for name, default in {"pairs": 10_000, "epochs": 4, "seed": 0, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    benchmark = installed(options.pairs)
    train = benchmark.train
    model = Retriever([*train.queries, *train.passages], seed=options.seed)
    # Every 20 steps a thousand rows are encoded again; if they have moved too far, all are, and mined anew.
    policy = negfast.RefreshPolicy(max_drift=0.1, every=200)
    batches, data, refresher = parts(train, policy=policy, seed=options.seed)
    loader = DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=nt.NegativesCollator(model.encoder.tokenize),
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    refresh = RefreshCallback(refresher, model.encoder.encode)
    statistics = StatisticsCallback({"loss": lambda: model.told})
    saves = ModelCheckpoint(options.folder, every_n_train_steps=50, save_last=True)
    trainer = pl.Trainer(
        max_epochs=options.epochs,
        callbacks=[refresh, statistics, saves],
        accelerator="cpu",
        logger=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader, ckpt_path="last" if options.resume else None)
    for event in refresh.events:
        print(event)
    found = benchmark.measure(model.encoder.encode)
    print(f"MRR@10 {found.mrr.mean():.4f}, nDCG@10 {found.ndcg.mean():.4f}")


if __name__ == "__main__":
    main()
