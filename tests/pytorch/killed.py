"""Trains a tiny model, saving each step, and is killed after some of them; run by test_killed.py.

Arguments: the file of the state, which is gone on from if it is there, and the step to be killed after, -1 for none.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

from made import N_PAIRS, dataset
from negfast.torch import EpochSampler, NegativesCollator

N_EPOCHS, BATCH_SIZE = 3, 5


def encode(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[float(text.count(digit)) for digit in "0123456789"] for text in texts])


def main(path: Path, last: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(10, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    data, sampler = dataset(num_negatives=2, choose="random", seed=5), EpochSampler(N_PAIRS, seed=5)
    parts = {"model": model, "optimizer": optimizer, "sampler": sampler}
    if path.exists():
        for name, state in torch.load(path, weights_only=True).items():
            parts[name].load_state_dict(state)
    loader = DataLoader(data, BATCH_SIZE, sampler=sampler, collate_fn=NegativesCollator(encode))
    n_steps = 0
    for epoch in range(sampler.epoch, N_EPOCHS):
        data.set_epoch(epoch)
        sampler.set_epoch(epoch)
        for batch in loader:
            scores = normalize(model(batch.anchors)) @ normalize(model(batch.documents)).T / 0.05
            loss = cross_entropy(scores.masked_fill(~batch.mask, -torch.inf), torch.arange(len(batch)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sampler.consumed(len(batch))
            torch.save({name: part.state_dict() for name, part in parts.items()}, f"{path}.part")
            os.replace(f"{path}.part", path)
            n_steps += 1
            if n_steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
    print([parameter.tolist() for parameter in model.parameters()])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
