"""Train a small text-embedding model from scratch, with negatives that are mined, remembered, and mined anew.

    python examples/train_static.py --folder run            # a few minutes on two cores
    python examples/train_static.py --folder plain --plain  # the other passages of a batch alone

It learns to find functions by the first sentence of their docstrings, and is judged on modules that it has not seen.
Started again with the same folder, it goes on from its last checkpoint and ends as if it had never stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

import negfast
import negfast.torch as nt
from negfast.cli.demo.held_out import installed
from negfast.cli.demo.training import Training, TrainingSettings
from negfast.torch.static_encoder import StaticEncoder


class Run:
    """All that trains a model; it goes on from what `folder` holds."""

    num_negatives, bank_size, bank_negatives, observed_every, saved_every = 4, 4096, 32, 10, 50

    def __init__(self, model, pairs, folder, *, epochs, batch_size=256, learning_rate=1e-3, seed=0, workers=0):
        self.model, self.pairs, self.folder, self.epochs = model, pairs, folder, epochs
        self.learning_rate, self.workers, self.step = learning_rate, workers, 0
        self.groups, self.keys = torch.from_numpy(pairs.groups), torch.from_numpy(pairs.keys)
        rows, self.texts = np.arange(len(pairs)), (pairs.queries, pairs.passages)
        both = {"keys": (pairs.keys, pairs.keys), "groups": (pairs.groups, pairs.groups)}
        states = {}
        if (folder / "checkpoint.pt").exists():
            states = torch.load(folder / "checkpoint.pt", weights_only=True)
            self.step, self.lists = states.pop("step"), states.pop("lists")
            self.miner = negfast.Miner.load(folder / f"miner-{self.lists}.safetensors")
            self.mined = negfast.MinedNegatives.load(folder / f"mined-{self.lists}.safetensors")
        else:
            self.miner = negfast.Miner(num_negatives=100)
            self.keep(0, self.miner.mine(*map(model.encode, self.texts), rows, **both))
        labels = {"keys": pairs.keys, "groups": pairs.groups}
        self.batches = nt.HardBatchSampler(len(pairs), batch_size, **labels, mined=self.mined, seed=seed)
        self.steps = epochs * len(self.batches)
        tiers = {"hard": 0.5, "semi_hard": 0.3, "easy": 0.1}
        stages = negfast.Curriculum.random_first(max(self.steps, 10), **tiers, final_temperature=0.05)
        stages = replace(stages, relative_margin=0.0)  # what scores above the positive may be another one
        self.curriculum = negfast.AdaptiveCurriculum(stages, refresh=negfast.RefreshPolicy(max_drift=0.1))
        random = {"num_negatives": self.num_negatives, "probabilities": {}, "min_random": 1}  # until `begin` says more
        sources = [nt.MinedRows(self.mined), nt.UniformRows(len(pairs))]
        self.negatives = nt.NegativeSampler(sources, **random, positives=rows, **both, seed=seed)
        self.bank = nt.MemoryBank(self.bank_size, model.dim, seed=seed)
        self.loss = nt.CurriculumLoss(self.curriculum)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
        for name, state in states.items():
            getattr(self, name).load_state_dict(state)

    def keep(self, epoch, mined):
        self.lists, self.mined = epoch, mined
        self.miner.save(self.folder / f"miner-{epoch}.safetensors")
        mined.save(self.folder / f"mined-{epoch}.safetensors")

    def train(self):
        """Yield each epoch and its loss."""
        data = nt.NegativesDataset(list(zip(*self.texts, strict=True)), self.negatives, self.pairs.passages)
        collate = nt.NegativesCollator(self.model.tokenize)
        for epoch in range(self.batches.epoch, self.epochs):
            self.batches.set_epoch(epoch)
            if self.batches.position == 0:
                self.begin(epoch)
            losses = []
            for batch in DataLoader(data, batch_sampler=self.batches, collate_fn=collate, num_workers=self.workers):
                losses.append(self.train_on(batch))
                self.batches.consumed()
                self.step += 1
                if self.step % self.saved_every == 0:
                    self.save()
            self.batches.set_epoch(epoch + 1)
            self.save()
            yield epoch, sum(losses) / max(len(losses), 1)  # no step is left after a stop at the very end

    def begin(self, epoch):
        """Bring lists, tiers and their shares up to date, before the workers of a data loader read ahead."""
        if self.curriculum.refresh_due:
            self.keep(epoch, self.miner.refresh(*map(self.model.encode, self.texts)))
            self.batches.update(self.mined)
            self.curriculum.refreshed(self.step)
        self.negatives.set_epoch(epoch)
        sources = [nt.MinedRows(self.mined), nt.UniformRows(len(self.pairs))]
        self.negatives.publish(stage=self.curriculum.at(self.step), sources=sources)

    def train_on(self, batch):
        rate = min(1, (self.step + 1) / 20) * (1 - self.step / self.steps)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * rate
        anchors, documents = self.model(*batch.anchors), self.model(*batch.documents)  # (b, dim), (b + n, dim)
        rows, groups, keys = batch.rows, self.groups[batch.rows], self.keys[batch.rows]
        excluded = {"exclude_ids": rows, "exclude_groups": groups, "exclude_keys": keys}
        found = self.bank.hardest(anchors, self.bank_negatives, **excluded)
        mined = nt.Negatives.from_batch(batch, documents)
        mined = replace(mined, groups=self.groups[mined.ids], keys=self.keys[mined.ids, 1], log_weight=None)
        negatives = [mined, nt.Negatives(found.rows, found.ids, source="bank")]
        labels = {"anchor_groups": groups, "anchor_keys": keys[:, 1]}
        loss, told = self.loss(anchors, documents[: len(rows)], negatives, **labels, step=self.step, statistics=True)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.bank.enqueue(documents[: len(rows)], rows, groups, keys[:, 1])
        self.negatives.update(*told.pairs("mined"))
        if self.step % self.observed_every == 0:
            some = self.miner.sampled_anchors
            stale = self.miner.staleness(some, self.model.encode([self.pairs.passages[row] for row in some]))
            self.curriculum.observe(self.step, replace(told.signals(), drift=stale.drift.mean))
        return loss.item()

    def save(self):
        names = ("model", "optimizer", "batches", "bank", "negatives", "curriculum")
        states = {name: nt.as_tensors(getattr(self, name).state_dict()) for name in names}
        torch.save({**states, "step": self.step, "lists": self.lists}, self.folder / "new.pt")
        (self.folder / "new.pt").replace(self.folder / "checkpoint.pt")
        for old in [*self.folder.glob("miner-[0-9]*.safetensors"), *self.folder.glob("mined-[0-9]*.safetensors")]:
            if not old.stem.endswith(f"-{self.lists}"):
                old.unlink()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default="run", help="for checkpoints (default: run)")
    parser.add_argument("--plain", action="store_true", help="in-batch negatives alone, and no checkpoints")
    for name, default in {"pairs": 20_000, "epochs": 8, "seed": 0, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    benchmark = installed(options.pairs)
    train = benchmark.train
    if options.plain:
        run = Training(train, TrainingSettings.plain(epochs=options.epochs, seed=options.seed))
    else:
        model = StaticEncoder([*train.queries, *train.passages], seed=options.seed)
        run = Run(model, train, options.folder, epochs=options.epochs, seed=options.seed, workers=options.workers)
    for epoch, loss, *_ in run.train():
        found = benchmark.measure(run.model.encode)
        print(f"epoch {epoch}: loss {loss:.4f}, MRR@10 {found.mrr.mean():.4f}, nDCG@10 {found.ndcg.mean():.4f}")


if __name__ == "__main__":
    main()
