"""How a process grows while it mines, and two ranks that mine together, with our miner and with theirs; as JSON.

python miner_children.py FOLDER
"""

import json
import resource
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

with warnings.catch_warnings():  # what it warns of while it loads is its own
    warnings.simplefilter("ignore")
    import torch
    import torch.distributed as dist
    import torch.multiprocessing as mp
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import TripletMarginMiner
    from pytorch_metric_learning.utils.distributed import DistributedMinerWrapper

    from negfast.integrations.pytorch_metric_learning import NegfastMiner
    from negfast.integrations.pytorch_metric_learning.batch import checked_batch
    from negfast.integrations.pytorch_metric_learning.blocks import by_torch


def grown() -> tuple[float, int]:
    """Return by how many MiB the process grew over a batch, and the number of triplets."""
    miner = NegfastMiner(0.2, "semihard", num_negatives=4, n_threads=2)
    rows, labels = torch.randn(3000, 32, generator=torch.Generator().manual_seed(0)), torch.arange(3000) % 300
    miner(rows[:100], labels[:100])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = miner(rows, labels)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, len(found[0])


def grown_by_blocks() -> tuple[float, int]:
    """Return by how many MiB the process grew over many blocks of torch, of 4 MiB each, and the number of triplets."""
    miner = NegfastMiner(0.2, "semihard", distance=LpDistance(normalize_embeddings=False))
    rows, labels = torch.randn(4096, 32, generator=torch.Generator().manual_seed(0)), torch.arange(4096) % 32
    batch = checked_batch(rows[:128], labels[:128], rows, labels, None, None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = by_torch(batch, miner.choice, miner.distance, 1 << 20).tuples
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, len(found[0])


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meet", timeout=timedelta(seconds=30), rank=rank, world_size=2)
    rows = torch.randn(40, 8, generator=torch.Generator().manual_seed(rank))
    labels = torch.arange(40) % 10
    found: dict[str, Any] = {"sizes": []}
    for name, efficient in (("whole", False), ("efficient", True)):
        both = [
            DistributedMinerWrapper(miner, efficient)(rows, labels)
            for miner in (TripletMarginMiner(0.2, "semihard"), NegfastMiner(0.2, "semihard", num_negatives=None))
        ]
        found[name] = all(torch.equal(a, b) for a, b in zip(*both, strict=True))
        found["sizes"].append(len(both[0][0]))
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    measured, by_blocks = grown(), grown_by_blocks()
    # Forked: importing all this anew takes longer than the test.
    mp.start_processes(work, (sys.argv[1],), nprocs=2, start_method="fork")
    ranks = [json.loads((Path(sys.argv[1]) / f"rank{rank}.json").read_text()) for rank in range(2)]
    print(json.dumps({"grown": measured, "grown_by_blocks": by_blocks, "ranks": ranks}))
