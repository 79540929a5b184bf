"""A memory bank: look-ups beside torch by hand, and what a bank costs in a training step.

    python benches/bank/bank.py

* look-up: the 64 hardest of 65,536 rows for each of 256 anchors, plain, and without rows of the anchor's id and group,
  against `matmul` and `topk` of torch, which mask the table of scores for that. The bank also returns the rows; torch
  is timed without and with gathering them. Scores are compared place by place before anything is timed.
* step: rows of 32 pairs enqueued, and a look-up for 32 anchors, beside a training step of a BERT of MiniLM's sizes (6
  layers, 384 wide) on these pairs: queries of 32 tokens, passages of 128, in-batch loss, AdamW. Weights are random,
  which does not change the time.

The command fails where a bar that it prints is missed.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "draws"))

from draws import groups

from bench import alternate, arguments, peer_libraries, pin, record, summary, timed, versions
from data import load

ROWS, ANCHORS, K, BATCH = 65_536, 256, 64, 32
LEAST_RATIO, MOST_SHARE = 2.0, 0.15


def main() -> None:
    chosen = arguments(__doc__ or "", rounds=11).parse_args()
    pin(chosen.threads, chosen.level, chosen.peers)
    import torch

    torch.set_num_threads(chosen.threads)
    held = Held(chosen)
    tables = {name: lookup(held, excludes, chosen.rounds) for name, excludes in (("plain", False), ("excluding", True))}
    share, lines = step(held, chosen.rounds)
    worst = min(rows["torch matmul + topk"]["ratio_to_negfast"] for rows in tables.values())
    texts = [f"{held.source}; {ROWS:,} rows of {held.dim}, {ANCHORS} anchors, k = {K}, {chosen.threads} threads", ""]
    for name, rows in tables.items():
        texts += [f"look-up, {name}", milliseconds(rows), ""]
    texts += [
        *lines,
        "",
        f"bars: look-up {LEAST_RATIO} x torch or more: {worst:.2f}; step {MOST_SHARE:.0%} or less: {share:.1%}",
    ]
    result = {
        "versions": versions("torch", "transformers"),
        "peer_libraries": peer_libraries(),
        "lookup": tables,
        "step_share": share,
    }
    record(chosen.name or "bank", result, "\n".join(texts))
    if worst < LEAST_RATIO or share > MOST_SHARE:
        raise SystemExit("a bar is missed")


class Held:
    """A full bank, the same rows in a plain tensor, and anchors that are in neither."""

    def __init__(self, chosen: Any) -> None:
        import torch

        from negfast.torch import MemoryBank

        pairs = load(chosen.n, dither=True)
        self.source, self.dim = pairs.source, pairs.queries.shape[1]
        rows = np.concatenate([pairs.corpus, pairs.queries])
        of = np.tile(groups(len(pairs)), 2)
        ids = np.tile(np.arange(len(pairs)), 2) + np.repeat([0, 1 << 32], len(pairs))
        order = np.random.default_rng(0).permutation(len(rows) - ANCHORS)[:ROWS]  # the last queries are the anchors
        self.rows = torch.from_numpy(np.ascontiguousarray(rows[order]))
        self.ids, self.of = torch.from_numpy(ids[order]), torch.from_numpy(of[order])
        self.anchors = torch.from_numpy(rows[-ANCHORS:])
        self.own_ids = torch.from_numpy(ids[len(pairs) - ANCHORS : len(pairs)])
        self.own_of = torch.from_numpy(of[-ANCHORS:])
        self.bank = MemoryBank(ROWS, self.dim)
        for start in range(0, ROWS, ANCHORS):
            part = slice(start, start + ANCHORS)
            self.bank.enqueue(self.rows[part], self.ids[part], self.of[part])


def lookup(held: Held, excludes: bool, rounds: int) -> dict[str, dict[str, float]]:
    import torch

    asked = {"exclude_ids": held.own_ids, "exclude_groups": held.own_of} if excludes else {}

    def ours() -> Any:
        return held.bank.hardest(held.anchors, K, **asked)

    def by_hand() -> Any:
        scores = held.anchors @ held.rows.T
        if excludes:
            scores.masked_fill_(held.of == held.own_of[:, None], -torch.inf)
            scores.masked_fill_(held.ids == held.own_ids[:, None], -torch.inf)
        return scores.topk(K)

    def with_rows() -> Any:
        return held.rows[by_hand().indices]

    torch.testing.assert_close(ours().scores, by_hand().values, atol=2e-6, rtol=0)
    contenders = {"negfast": ours, "torch matmul + topk": by_hand, "torch, rows gathered": with_rows}
    return summary(alternate({name: seconds_of(run) for name, run in contenders.items()}, rounds))


def seconds_of(run: Callable[[], object]) -> Callable[[], float]:
    return lambda: timed(run)


def step(held: Held, rounds: int) -> tuple[float, list[str]]:
    """Return the share of a bank's step in that of a model, and what to print."""
    train = trainer()
    at = 0

    def bank_step(n: int) -> float:
        nonlocal at
        part = slice(at, at + n)
        at = (at + n) % (ROWS - ANCHORS)
        rows, ids, of = held.rows[part], held.ids[part] + (1 << 40) + at, held.of[part]

        def run() -> None:
            held.bank.hardest(held.anchors[:n], K, exclude_ids=ids, exclude_groups=of)
            held.bank.enqueue(rows, ids, of)

        return timed(run)

    seconds = alternate(
        {"bank": lambda: bank_step(BATCH), "model": lambda: timed(train), "bank of 256": lambda: bank_step(ANCHORS)},
        min(rounds, 7),
    )
    medians = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    share = statistics.median([mine / theirs for mine, theirs in zip(seconds["bank"], seconds["model"], strict=True)])
    return share, [
        f"bank step of {BATCH} (look-up, enqueue)   {medians['bank']:8.1f} ms",
        f"training step of {BATCH} pairs            {medians['model']:8.1f} ms",
        f"bank step of {ANCHORS} (look-up, enqueue)  {medians['bank of 256']:8.1f} ms",
    ]


def trainer() -> Callable[[], object]:
    import torch
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    model = BertModel(BertConfig(**sizes)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    queries, passages = (torch.randint(1000, 30_000, (BATCH, length)) for length in (32, 128))

    def encode(tokens: Any) -> Any:
        return torch.nn.functional.normalize(model(tokens).last_hidden_state.mean(dim=1))

    def run() -> None:
        scores = encode(queries) @ encode(passages).T / 0.05
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    run()
    return run


def milliseconds(rows: dict[str, dict[str, float]]) -> str:
    lines = [f"{'contender':<24} {'median ms':>9} {'min':>8} {'max':>8} {'x negfast':>10}  (min, max of rounds)"]
    for name, row in rows.items():
        median, low, high = (1000 * row[f"{kind}_seconds"] for kind in ("median", "min", "max"))
        ratios = f"{row['ratio_to_negfast']:10.2f}  ({row['min_ratio']:.2f}, {row['max_ratio']:.2f})"
        lines.append(f"{name:<24} {median:9.1f} {low:8.1f} {high:8.1f} {ratios}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
