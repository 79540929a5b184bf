"""Batches without duplicates: HardBatchSampler against both NoDuplicatesBatchSamplers of sentence-transformers.

The first epoch starts from the same columns of text: keys, hashes and the number of batches count. A later one starts
from what both have made by then. The plain variant, which makes nothing and takes minutes, runs once, and only with
--plain.

Texts of both columns follow Zipf's law as B. Mandelbrot shifted it, share ~ 1 / (rank + shift): by default the most
frequent text is on 1,000 rows of 50,000 and the rarest on four or five. A batch takes each text once, so that part of
the rows fits into no full batch, and a sampler that goes through the rows for each batch skips most of those that it
looks at.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import alternate, pin, record, summary, table, timed, versions


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000, help="rows (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--texts", type=int, default=2_000, help="distinct texts of a column (default: %(default)s)")
    parser.add_argument("--shift", type=float, default=8.0, help="less is more skewed (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="run the plain variant too, once")
    parser.add_argument("--patience", type=float, default=float("inf"), help="seconds after which plain is stopped")
    parser.add_argument("--large", type=int, default=1_000_000, help="rows of negfast alone (default: %(default)s)")
    return parser.parse_args()


def columns(n: int, n_texts: int, shift: float) -> dict[str, list[str]]:
    """Return pairs whose texts repeat."""
    import numpy as np

    rng = np.random.default_rng(0)
    share = 1.0 / (1.0 + np.arange(n_texts) + shift)
    drawn = rng.choice(n_texts, size=(2, n), p=share / share.sum())
    return {
        name: [f"{name} number {i} of the texts that repeat" for i in numbers.tolist()]
        for name, numbers in zip(("anchor", "positive"), drawn, strict=True)
    }


def before_a_repeat(batches: list[list[int]], size: int) -> int:
    """Count full batches before the first with a row that was there already."""
    seen: set[int] = set()
    for number, batch in enumerate(batches):
        if seen & set(batch) or len(batch) < size:
            return number
        seen |= set(batch)
    return len(batches)


def main() -> None:
    chosen = options()
    pin(1)
    import numpy as np
    from datasets import Dataset, disable_progress_bars
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

    import negfast
    from negfast.torch import HardBatchSampler

    disable_progress_bars()
    texts = columns(chosen.n, chosen.texts, chosen.shift)
    data = Dataset.from_dict(texts)
    found: dict[str, list[list[int]]] = {}
    samplers: dict[str, Any] = {}

    def later(name: str) -> None:
        samplers[name].set_epoch(samplers[name].epoch + 1)
        list(samplers[name])

    def ours() -> None:
        keys = negfast.content_keys(list(texts.values()))
        samplers["negfast"] = HardBatchSampler(chosen.n, chosen.batch, keys=keys)
        found["negfast"] = list(samplers["negfast"])

    def theirs(name: str, hashed: bool) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        sampler = NoDuplicatesBatchSampler(
            data, chosen.batch, True, generator=generator, precompute_hashes=hashed, precompute_num_proc=1
        )
        samplers[name] = sampler
        found[name] = []
        end = time.perf_counter() + (float("inf") if hashed else chosen.patience)
        for batch in sampler:
            found[name].append(batch)
            if time.perf_counter() > end:
                break

    seconds = alternate(
        {"negfast": lambda: timed(ours), "hashed": lambda: timed(lambda: theirs("hashed", True))}, chosen.rounds
    )
    again = {name: (lambda name=name: timed(lambda: later(name))) for name in samplers}
    epochs = alternate(again, chosen.rounds)
    if chosen.plain:
        seconds["plain"] = [timed(lambda: theirs("plain", False))]
    keys = negfast.content_keys(list(texts.values()))
    for batch in found["negfast"]:
        held = np.concatenate([np.unique(keys[row]) for row in batch])
        assert len(np.unique(held)) == len(held), "a batch with a duplicate"
    counts = {name: before_a_repeat(batches, chosen.batch) for name, batches in found.items()}
    assert all(counts["negfast"] >= count for count in counts.values()), counts
    alone = []
    for _ in range(chosen.rounds):
        large = np.random.default_rng(1).integers(0, chosen.large // 3, (chosen.large, 2))
        begin = time.perf_counter()
        batches = list(HardBatchSampler(chosen.large, chosen.batch, keys=large))
        alone.append(time.perf_counter() - begin)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {name: median[name] / median["negfast"] for name in median if name != "negfast"}
    epoch = {name: statistics.median(times) for name, times in epochs.items()}
    stopped = len(found.get("plain", [])) < chosen.n // chosen.batch and chosen.plain
    of_epochs = {name: epoch.get(name, median[name]) / epoch["negfast"] for name in ratios}
    text = (
        f"{chosen.n:,} rows of two columns with {chosen.texts:,} texts each, shares ~ 1 / (rank + {chosen.shift:g}), "
        f"batches of {chosen.batch}; one thread each\n\n"
        f"{table(summary({name: times for name, times in seconds.items() if len(times) == chosen.rounds}))}\n\n"
        + "\n".join(f"{name:<10} {count:4} full batches before a repeated row" for name, count in counts.items())
        + "\n\n"
        + "\n".join(
            f"{name} takes {ratio:,.0f} times as long as negfast for the first epoch, "
            f"{of_epochs[name]:,.0f} times for a later one"
            for name, ratio in ratios.items()
        )
        + f"\na later epoch: {', '.join(f'{name} {taken:.3f} s' for name, taken in epoch.items())}"
        + (
            f"\nplain was stopped after {len(found['plain'])} batches; ratios are what it takes at least"
            if stopped
            else ""
        )
        + f"\n\n{chosen.large:,} rows with a key in each of two columns, keys given: {len(batches):,} batches, "
        f"median {statistics.median(alone):.2f} s"
    )
    record(
        "batches-duplicates",
        {
            "versions": versions("sentence-transformers", "datasets", "torch"),
            "n": chosen.n,
            "batch": chosen.batch,
            "texts": chosen.texts,
            "shift": chosen.shift,
            "seconds": seconds,
            "plain_was_stopped": stopped,
            "full_batches_before_a_repeat": counts,
            "ratios": ratios,
            "later_epochs": epochs,
            "ratios_of_later_epochs": of_epochs,
            "large": {"n": chosen.large, "batches": len(batches), "seconds": alone},
        },
        text,
    )


if __name__ == "__main__":
    main()
