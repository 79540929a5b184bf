"""Embeddings along a real training run: the base of a warmed-up encoder, and the same rows after more and more steps.

    python benches/refresh/trajectory.py    # trains once, keeps the snapshots, records how far the rows moved

The encoder is static: hashed words and their character 4-grams, each with a row of a table; a text is the normalised
sum of its rows. It learns the pairs of `data.py` by InfoNCE with the other passages of the batch as negatives (van den
Oord, Li and Vinyals, 2018, Representation learning with contrastive predictive coding) and Adam. The warm-up makes its
scores mean something. After the base a snapshot of all pairs is taken whenever the mean drift, the length of x' - x
over queries and corpus, reaches the next of `DRIFTS`, and one of the first `CHAIN_PAIRS` whenever the drift since the
one before reaches `CHAIN_DRIFT`. For the largest drifts the learning rate rises again.

Snapshots are kept in the folder named by `NEGFAST_BENCH_CACHE`, or one in the system's temporary folder, until the
settings here or the pairs change. A seed gives the same run again on the same machine and number of threads.
"""

import argparse
import json
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import pin, record, versions
from data import Floats, load
from scaled import cache as cache_folder

DRIFTS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5)
CHAIN_LINKS = 30
CHAIN_DRIFT = 0.03
CHAIN_PAIRS = 20_000
K = 100
DEPTHS = (100, 150, 200, 300, 400, 800)  # of the base's lists, in which the new best rows are looked for
SAMPLE = 500  # queries that the table is made from
BLOCK = 4096  # texts encoded at a time

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """What makes the run; another value makes another folder of snapshots."""

    seed: int = 0
    dim: int = 384
    buckets: int = 1 << 15
    words: int = 40  # of a text that are read
    batch: int = 256
    temperature: float = 0.05
    warm_up_steps: int = 300
    warm_up_rate: float = 5e-3
    rate: float = 1e-3
    late_from: int = 600  # steps after the base, when rows hardly move any more
    late_rate: float = 5e-3
    most_steps: int = 1500
    probe: int = 512  # pairs that drift is watched on while training
    drifts: tuple[float, ...] = DRIFTS
    chain_links: int = CHAIN_LINKS
    chain_drift: float = CHAIN_DRIFT
    chain_pairs: int = CHAIN_PAIRS


class Rows(NamedTuple):
    """Row i of each matrix belongs to pair i."""

    queries: Floats  # (n, dim)
    corpus: Floats  # (n, dim)

    def first(self, n: int | None) -> "Rows":
        return Rows(self.queries[:n], self.corpus[:n])


@dataclass(frozen=True)
class Snapshot:
    """Rows after `step` steps from the base."""

    folder: Path
    name: str
    step: int
    drift: float  # mean over queries and corpus, since the base or since the link before

    def load(self) -> "Rows":
        return Rows(*(np.load(self.folder / f"{self.name}-{side}.npy") for side in Rows._fields))


class Trajectory(NamedTuple):
    source: str
    base: Snapshot
    later: dict[float, Snapshot]  # by the drift that was to be reached
    chain: list[Snapshot]  # its first is the base, of the first pairs


class Bags(NamedTuple):
    """Features of texts as CSR."""

    features: Ints
    ends: Ints  # (texts + 1,)

    @classmethod
    def of(cls, texts: list[str], settings: Settings) -> "Bags":
        bags = [features_of(text, settings) for text in texts]
        return cls(np.concatenate(bags), np.cumsum([0, *map(len, bags)]))

    def rows(self, chosen: Ints) -> "Bags":
        parts = [self.features[self.ends[row] : self.ends[row + 1]] for row in chosen]
        return Bags(np.concatenate(parts), np.cumsum([0, *map(len, parts)]))


def features_of(text: str, settings: Settings) -> Ints:
    words = re.findall(r"\w+", text.lower())[: settings.words] or [""]
    return np.concatenate([word_features(word, settings.buckets) for word in words])


@cache
def word_features(word: str, buckets: int) -> Ints:
    """Buckets of the word and of its 4-grams, edges marked."""
    edged = f"<{word}>"
    grams = {edged, *(edged[i : i + 4] for i in range(len(edged) - 3))}
    return np.array(sorted(zlib.crc32(gram.encode()) % buckets for gram in grams))


class Encoder:
    """A table of rows, one a feature; rare features start longer (inverse document frequency)."""

    def __init__(self, bags: list[Bags], settings: Settings) -> None:
        import torch

        counts = np.bincount(np.concatenate([bag.features for bag in bags]), minlength=settings.buckets)
        weights = np.log1p(counts.sum() / (1 + counts)).astype(np.float32)
        rows = np.random.default_rng(settings.seed).standard_normal((settings.buckets, settings.dim), np.float32)
        rows *= weights[:, None] / (weights.mean() * settings.dim**0.5)
        self.table = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(rows), freeze=False, mode="sum")

    def __call__(self, bags: Bags) -> Any:
        import torch

        summed = self.table(torch.from_numpy(bags.features), torch.from_numpy(bags.ends[:-1]))
        return torch.nn.functional.normalize(summed)

    def encode(self, bags: Bags) -> Floats:
        import torch

        with torch.no_grad():
            blocks = np.array_split(np.arange(len(bags.ends) - 1), -(-len(bags.ends) // BLOCK))
            return np.concatenate([self(bags.rows(block)).numpy() for block in blocks])


def steps(encoder: Encoder, queries: Bags, corpus: Bags, settings: Settings) -> Iterator[float]:
    """Train without end, a step for each loss that is taken."""
    import torch

    rng = np.random.default_rng([settings.seed, 1])
    optimizer = torch.optim.Adam(encoder.table.parameters(), lr=settings.warm_up_rate, fused=True)
    n = len(queries.ends) - 1
    right = torch.arange(settings.batch)
    changes = {0: settings.rate, settings.late_from: settings.late_rate}
    for step in range(-settings.warm_up_steps, settings.most_steps):
        optimizer.param_groups[0]["lr"] = changes.get(step, optimizer.param_groups[0]["lr"])
        rows = rng.choice(n, settings.batch, replace=False)
        scores = encoder(queries.rows(rows)) @ encoder(corpus.rows(rows)).T  # (batch, batch)
        loss = torch.nn.functional.cross_entropy(scores / settings.temperature, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def drifts(first: Rows, second: Rows) -> Floats:
    """How far every row of queries and corpus has moved."""
    return np.concatenate([np.linalg.norm(b - a, axis=1) for a, b in zip(first, second, strict=True)])


@dataclass
class Run:
    """A training run that writes its snapshots into a folder."""

    folder: Path
    settings: Settings
    queries: Bags
    corpus: Bags
    encoder: Encoder
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def encode(self, n: int | None = None) -> Rows:
        rows = np.arange(len(self.queries.ends) - 1)[:n]
        return Rows(self.encoder.encode(self.queries.rows(rows)), self.encoder.encode(self.corpus.rows(rows)))

    def keep(self, name: str, step: int, before: Rows | None, n: int | None = None) -> Rows:
        """Write the rows of the first `n` pairs, and note how far they are from those `before`."""
        rows = self.encode(n)
        for side, matrix in rows._asdict().items():
            np.save(self.folder / f"{name}-{side}.npy", matrix)
        moved = 0.0 if before is None else float(drifts(before, rows).mean())
        self.kept[name] = {"step": step, "drift": moved}
        print(f"step {step}: {name}, drift {moved:.4f}", file=sys.stderr, flush=True)
        return rows

    def train(self) -> None:
        settings = self.settings
        training = steps(self.encoder, self.queries, self.corpus, settings)
        for step in range(settings.warm_up_steps):
            loss = next(training)
            if step % 50 == 0:
                print(f"warm-up {step}: loss {loss:.3f}", file=sys.stderr, flush=True)
        base = self.keep("base", 0, None)
        link = self.keep("chain-00", 0, None, settings.chain_pairs)
        start = linked = self.encode(settings.probe)
        waiting, links = list(settings.drifts), 0
        for step, loss in enumerate(training, 1):
            probe = self.encode(settings.probe)
            since = drifts(start, probe).mean()
            if waiting and since >= waiting[0]:
                self.keep(f"later-{waiting.pop(0):g}", step, base)
            if links < settings.chain_links and drifts(linked, probe).mean() >= settings.chain_drift:
                links, linked = links + 1, probe
                link = self.keep(f"chain-{links:02}", step, link, settings.chain_pairs)
            if step % 20 == 0:
                print(f"step {step}: loss {loss:.3f}, drift {since:.4f}", file=sys.stderr, flush=True)
            if not waiting and links == settings.chain_links:
                return
        raise SystemExit(
            f"{settings.most_steps} steps are too few to reach a drift of {waiting or settings.chain_drift}"
        )


def trajectory(settings: Settings = Settings()) -> Trajectory:
    """The snapshots of the run, made if they are not there."""
    pairs = load()
    folder = cache_folder() / "trajectory"
    listing = folder / "trajectory.json"
    wanted = json.loads(json.dumps({"source": pairs.source, "pairs": len(pairs), "settings": asdict(settings)}))
    found = json.loads(listing.read_text()) if listing.exists() else {}
    if {key: found.get(key) for key in wanted} != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        listing.unlink(missing_ok=True)
        bags = [Bags.of(texts, settings) for texts in (pairs.query_texts, pairs.corpus_texts)]
        run = Run(folder, settings, *bags, Encoder(bags, settings))
        run.train()
        found = wanted | {"snapshots": run.kept}
        listing.write_text(json.dumps(found, indent=2) + "\n")
    kept = [Snapshot(folder, name, **values) for name, values in found["snapshots"].items()]
    later = {drift: one for drift in settings.drifts for one in kept if one.name == f"later-{drift:g}"}
    return Trajectory(pairs.source, kept[0], later, [one for one in kept if one.name.startswith("chain-")])


def best(queries: Floats, corpus: Floats, depth: int) -> Ints:
    """Rows of the best `depth` of each query, best first."""
    scores = queries @ corpus.T
    rows = np.argpartition(-scores, depth, axis=1)[:, :depth]
    return np.take_along_axis(rows, np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1), axis=1)


def overlaps(run: Trajectory) -> list[dict[str, Any]]:
    """For each later snapshot, the share of its best rows that lie within so many of the base's."""
    base = run.base.load()
    sample = np.random.default_rng(0).choice(len(base.queries), SAMPLE, replace=False)
    old = best(base.queries[sample], base.corpus, max(DEPTHS))
    measured = []
    for target, snapshot in run.later.items():
        rows = snapshot.load()
        new = best(rows.queries[sample], rows.corpus, K)
        within = {
            depth: float(np.mean([np.isin(a, b[:depth]).mean() for a, b in zip(new, old, strict=True)]))
            for depth in DEPTHS
        }
        moved = drifts(base, rows)
        p50, p99, most = (float(one) for one in np.quantile(moved, (0.5, 0.99, 1.0)))
        measured.append({"target": target, "step": snapshot.step, "drift_mean": float(moved.mean()), "drift_p50": p50,
                         "drift_p99": p99, "drift_max": most, "within": within})  # fmt: skip
    return measured


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'steps':>5} {'mean':>7} {'p50':>7} {'p99':>7} {'max':>7}  " + " ".join(f"{d:>7}" for d in DEPTHS)]
    for row in rows:
        moved = " ".join(f"{row[name]:7.4f}" for name in ("drift_mean", "drift_p50", "drift_p99", "drift_max"))
        lines.append(f"{row['step']:5} {moved}  " + " ".join(f"{row['within'][depth]:7.4f}" for depth in DEPTHS))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    chosen = parser.parse_args()
    pin(chosen.threads)

    import torch

    torch.set_num_threads(chosen.threads)
    run = trajectory()
    rows = overlaps(run)
    links = [{"step": one.step, "drift": one.drift} for one in run.chain[1:]]
    text = (
        f"{run.source}, static encoder\n"
        f"drift since the base, of queries and corpus; then the share of the exact top {K} of {SAMPLE:,} queries that "
        f"lies within so many of the base's best rows\n\n{table(rows)}\n\n"
        f"chain of {len(links)}: drift from link to link {min(one['drift'] for one in links):.3f} to "
        f"{max(one['drift'] for one in links):.3f}, {links[-1]['step']} steps"
    )
    record(
        "refresh-trajectory",
        {"versions": versions("torch"), "source": run.source, "k": K, "sample": SAMPLE, "later": rows, "chain": links},
        text,
    )


if __name__ == "__main__":
    main()
