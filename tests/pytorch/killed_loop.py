"""Trains by examples/train_static.py on made pairs, and is killed on the way; run by test_train_static.py.

Arguments: the folder of the run, the number of workers, and who is killed: "nobody", the loop before the step of a
number, or a "worker" in the middle of an epoch.
"""

import hashlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from negfast.cli.demo.held_out import Pairs
from negfast.torch.static_encoder import StaticEncoder

EXAMPLES = Path(__file__).parents[2] / "examples"
N_PAIRS, EPOCHS = 160, 4


def example(name: str = "train_static") -> Any:
    """Import an example, which is no package."""
    sys.path.insert(0, str(EXAMPLES))  # one example imports the other
    try:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


def made_pairs() -> Pairs:
    """Return pairs of texts that share some words, in groups of two that answer each other's queries."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(60)])
    topics = [rng.choice(words, 4, replace=False).tolist() for _ in range(N_PAIRS)]
    passages = [" ".join([*topic, str(rng.choice(words))]) for topic in topics]
    return Pairs.of([" ".join(topic[:2]) for topic in topics], passages, [str(i // 2) for i in range(N_PAIRS)])


def made_run(folder: Path, model: Any = None, **options: Any) -> Any:
    """Return a run that is so small that all of its parts have work within seconds."""
    torch.set_num_threads(1)
    pairs = made_pairs()
    run = type("SmallRun", (example().Run,), {"saved_every": 4, "observed_every": 2, "bank_size": 48})
    run.bank_size = options.pop("bank_size", 48)
    if model is None:
        model = StaticEncoder([*pairs.queries, *pairs.passages], 16, buckets=512)
    folder.mkdir(exist_ok=True)
    settings = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.02, **options}
    return run(model, pairs, folder, **settings)


class MortalEncoder(StaticEncoder):
    """Kills the process that tokenizes, once, if that is a worker that has done so for a while."""

    mark: Path
    calls = 0

    def tokenize(self, texts: Any) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            self.calls += 1
            if self.calls == 7 and not self.mark.exists():  # two calls for each batch
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().tokenize(texts)


def main(folder: Path, workers: int, victim: str) -> None:
    pairs = made_pairs()
    kind = MortalEncoder if victim == "worker" else StaticEncoder
    MortalEncoder.mark = folder / "killed"
    run = made_run(folder, kind([*pairs.queries, *pairs.passages], 16, buckets=512), workers=workers)
    if victim.isdigit():
        die_after(run, int(victim))
    for _ in run.train():
        pass
    print(run.curriculum.log[-1].action, run.lists, digest(run))


def die_after(run: Any, last: int) -> None:
    train_on = run.train_on

    def mortal(batch: Any) -> float:
        if run.step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_on(batch)  # type: ignore[no-any-return]

    run.train_on = mortal


def digest(run: Any) -> str:
    """Return a hash of everything that a run is made of, to the bit."""
    hashed = hashlib.sha256()
    for name in ("model", "optimizer", "batches", "bank", "negatives", "curriculum", "loss"):
        add(hashed, getattr(run, name).state_dict())
    add(hashed, run.miner.state_dict())
    for name in ("indices", "scores", "positive_scores"):
        add(hashed, getattr(run.mined, name))
    return hashed.hexdigest()


def add(hashed: Any, value: Any) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            hashed.update(repr(name).encode())
            add(hashed, part)
    elif isinstance(value, list | tuple):
        for part in value:
            add(hashed, part)
    elif isinstance(value, torch.Tensor | np.ndarray):
        array = np.ascontiguousarray(value)
        hashed.update(f"{array.dtype} {array.shape}".encode())
        hashed.update(array.tobytes())
    else:
        hashed.update(repr(value).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
