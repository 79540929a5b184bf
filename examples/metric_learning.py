"""Metric learning with pytorch-metric-learning, and negatives from negfast: functions of one module come together.

    python examples/metric_learning.py

The classes are modules of this Python installation, the rows texts of their functions. A linear map over the built-in
encoder learns by a triplet loss over a memory of earlier batches; each step mines the memory. Functions that were held
out tell how often the nearest other one is of the same module.
"""

import argparse
import warnings
from collections.abc import Iterator

import numpy as np
import torch

with warnings.catch_warnings():  # what it warns of while it loads is its own
    warnings.simplefilter("ignore")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import CrossBatchMemory, TripletMarginLoss

import negfast
from negfast.cli.demo.installed_code import gather
from negfast.encoder import HashedEncoder
from negfast.integrations.pytorch_metric_learning import NegfastMiner

PER_CLASS, DIM = 8, 512


def functions(limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of functions and the numbers of their modules, each of a few functions at least."""
    code = gather(limit=limit)
    rows = torch.from_numpy(HashedEncoder(dim=DIM).fit(code.passages).encode(code.passages))
    labels = torch.from_numpy(np.unique(code.modules, return_inverse=True)[1])
    kept = torch.bincount(labels)[labels] >= 2 * PER_CLASS
    return rows[kept], labels[kept].unique(return_inverse=True)[1]


def batches(labels: torch.Tensor, n_steps: int, classes: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield rows of some classes, as many of each."""
    generator = torch.Generator().manual_seed(seed)
    of = [torch.where(labels == label)[0] for label in range(int(labels.max()) + 1)]
    for _ in range(n_steps):
        chosen = torch.randperm(len(of), generator=generator)[:classes].tolist()
        yield torch.cat([of[c][torch.randperm(len(of[c]), generator=generator)[:PER_CLASS]] for c in chosen])


def precision(rows: torch.Tensor, labels: torch.Tensor) -> float:
    """Return how often the nearest other row is of the same class."""
    plain = rows.detach().numpy()
    nearest = torch.from_numpy(negfast.topk(plain, plain, 2).indices)
    itself = torch.arange(len(labels))
    other = torch.where(nearest[:, 0] == itself, nearest[:, 1], nearest[:, 0])
    return float((labels[other] == labels).float().mean())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=int, default=20_000, help="at most (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of training (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=32, help="of a batch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    torch.manual_seed(chosen.seed)
    rows, labels = functions(chosen.functions)
    held_out = torch.rand(len(rows)) < 0.25
    learned, its_labels = rows[~held_out], labels[~held_out]
    print(f"{len(rows):,} functions of {int(labels.max()) + 1} modules, {int(held_out.sum()):,} of them held out")
    print(f"nearest is of the same module: {precision(rows[held_out], labels[held_out]):.1%} before")

    model = torch.nn.Linear(DIM, DIM, bias=False)
    torch.nn.init.eye_(model.weight)
    miner = NegfastMiner(0.1, "semihard", num_negatives=4, distance=CosineSimilarity(), collect_stats=True)
    loss = TripletMarginLoss(0.1, distance=CosineSimilarity())
    memory = CrossBatchMemory(loss, DIM, memory_size=2048, miner=miner)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    for step, batch in enumerate(batches(its_labels, chosen.steps, chosen.classes, chosen.seed)):
        value = memory(model(learned[batch]), its_labels[batch])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step % 50 == 0 or step == chosen.steps - 1:
            print(f"step {step:4}: loss {value.item():.4f}, {miner.num_triplets:,} triplets")
    print(f"nearest is of the same module: {precision(model(rows[held_out]), labels[held_out]):.1%} after")


if __name__ == "__main__":
    main()
