"""One rank of a run over several, and the same in one process.

python loss_ranks.py RANK N_RANKS STORE OUTPUT
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import loss_cases
import negfast
from negfast.torch import CurriculumLoss, Negatives

ALL = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")
SIZES = {"even": (3, 3), "uneven": (4, 2), "one is empty": (0, 6)}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "directions": ALL,
        "relative_margin": 0.1,
        "hardness_strength": 2.0,
        "hardness_mode": "hard_negatives",
        "hard_weighted": 0.5,
        "debiased": 0.1,
        "temperature": 0.2,
    },
    "guided": {"relative_margin": 0.1},
    "soft": {
        "soft_positives": 0.5,
        "max_score": 0.3,
        "directions": ("query_to_doc", "doc_to_query"),
        "partition_mode": "per_direction",
    },
}
RUNS = [(options, sizes) for options in OPTIONS for sizes in SIZES]
SHARED = 7  # mined negatives of all ranks; the first ones belong to rank 0


def whole_case(sizes: tuple[int, ...], *, guided: bool) -> dict[str, Any]:
    """Return the batch of all ranks: what is local on a rank says nothing of others here."""
    case = loss_cases.make(3, b=6, n_positives=2)
    case["known_positives"][sizes[0] :, 1] = -1
    if guided:
        case["guide"] = torch.randn(6, 5), torch.randn(6, 2, 5)
        case["negatives"][0]["guide"] = torch.randn(SHARED, 5)
    begin = [sum(sizes[:rank]) for rank in range(len(sizes) + 1)]
    rank = torch.bucketize(torch.arange(6), torch.tensor(begin[1:]), right=True)
    case["mask"] |= (rank[:, None] != rank[None]).repeat_interleave(2, dim=1)
    mined = case["negatives"][0]
    split = rank_of_shared(len(sizes))
    mined["mask"] |= rank[:, None] != split
    foreign = (mined["index"] >= 0) & (split[mined["index"]] != rank[:, None])
    mined["index"] = mined["index"].masked_fill(foreign, -1)
    mined["log_weight"] = mined["log_weight"].masked_fill(foreign, -torch.inf)
    return case


def rank_of_shared(n_ranks: int) -> torch.Tensor:
    return (torch.arange(SHARED) >= 3).long() * (n_ranks - 1)


def part_of(case: dict[str, Any], sizes: tuple[int, ...], rank: int) -> dict[str, Any]:
    """Return what one rank holds."""
    own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    part = {name: case[name][own] for name in ("anchors", "positives", *loss_cases.LABELS)}
    if "guide" in case:
        part["guide"] = tuple(rows[own] for rows in case["guide"])
    part["mask"] = case["mask"][own, 2 * own.start : 2 * own.stop]
    part["known_positives"] = part["known_positives"][:, : 2 - rank]  # as wide as it happens to be
    mined, bank, replicated = case["negatives"]
    here = rank_of_shared(len(sizes)) == rank
    start = int(here.nonzero()[0])
    index = mined["index"][own]
    part["negatives"] = [
        {
            **{name: mined[name][here] for name in ("rows", "ids", "groups", "keys", "guide") if name in mined},
            "index": torch.where(index < 0, -1, index - start),
            "log_weight": mined["log_weight"][own],
            "mask": mined["mask"][own][:, here],
        },
        {name: value if name == "source" else value[own] for name, value in bank.items()},
        {**replicated, "gather": False},
    ]
    return part


class Model(nn.Module):
    """Moves rows by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6).double()

    def forward(self, rows: list[torch.Tensor]) -> list[torch.Tensor]:
        flat = self.layer(torch.cat([part.reshape(-1, 6) for part in rows]))
        sizes = [part.numel() // 6 for part in rows]
        return [out.reshape(part.shape) for out, part in zip(flat.split(sizes), rows, strict=True)]


def step(model: nn.Module, case: dict[str, Any], options: dict[str, Any], *, gather: bool) -> tuple[Any, Any, Any]:
    """Return the loss, its statistics and the gradients of the model."""
    loss = CurriculumLoss(gather_across_devices=gather, **options)
    mined = case["negatives"][0]
    anchors, positives, rows = model([case["anchors"], case["positives"], mined["rows"]])
    moved = {**case, "anchors": anchors, "positives": positives}
    moved["negatives"] = [{**mined, "rows": rows}, *case["negatives"][1:]]
    found, statistics = loss_cases.call(loss, moved, statistics=True)
    model.zero_grad()
    found.backward()
    return found.detach(), statistics, [part.grad.clone() for part in model.parameters()]


def alone(options: str, sizes: str) -> tuple[Any, Any]:
    """Return the loss and gradients in one process."""
    torch.manual_seed(0)
    case = whole_case(SIZES[sizes], guided=options == "guided")
    found, _, grads = step(Model(), case, OPTIONS[options], gather=False)
    return found, grads


def refused(rank: int) -> str:
    """Pass other arguments on each rank."""
    rows = torch.randn(3, 4, requires_grad=True)
    ids = torch.arange(3) if rank else None
    try:
        CurriculumLoss(gather_across_devices=True)(rows, rows.detach(), Negatives(rows.detach()), positive_ids=ids)
    except negfast.InvalidValueError as error:
        return str(error)
    return "taken"


def failed(rank: int, what: str) -> str:
    """Pass something wrong on rank 1 alone."""
    rows, own = torch.randn(3, 4, requires_grad=True), torch.randn(3, 2, 4)
    positives = torch.randn(2 if rank and what == "shape" else 3, 4)
    if rank and what == "row":
        own[2] = torch.nan
    try:
        CurriculumLoss(gather_across_devices=True)(rows, positives, Negatives(own, source="bank"))
    except negfast.InvalidValueError as error:
        return str(error)
    return "nothing"


def main(rank: int, n_ranks: int, store: str, output: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=n_ranks)
    results: dict[str, Any] = {}
    for options, sizes in RUNS:
        torch.manual_seed(0)
        case = whole_case(SIZES[sizes], guided=options == "guided")
        model = nn.parallel.DistributedDataParallel(Model())
        found, statistics, grads = step(model, part_of(case, SIZES[sizes], rank), OPTIONS[options], gather=True)
        results[f"{options}, {sizes}"] = found, grads, statistics.signals().to_dict()
    results["refused"] = refused(rank)
    results["failed"] = [failed(rank, what) for what in ("shape", "row")]
    torch.save(results, Path(output) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
