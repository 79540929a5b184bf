"""Training files written and read, beside the plain loop over `json` that people write.

    python benches/formats/formats.py

The pairs are mined first, by signatures, which is quick; what is written is texts of queries, positives and
negatives with their scores, as FlagEmbedding has them. The plain loop checks nothing. Both files are compared line
by line before anything is timed. Memory is the peak of what Python and numpy allocate in one more call, told by
tracemalloc; of a reader it holds what it returns.
"""

import argparse
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from bench import MIB, alternate, arguments, pin, record, summary, table, timed, versions


def options() -> argparse.Namespace:
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.set_defaults(name="formats")
    parser.add_argument("--num-negatives", type=int, default=8)
    return parser.parse_args()


def plain_write(path: Path, queries: list[str], corpus: list[str], mined: Any, positives: list[int]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for query, text in enumerate(queries):
            rows = [row for row in mined.indices[query].tolist() if row >= 0]
            entry = {
                "query": text,
                "pos": [corpus[positives[query]]],
                "neg": [corpus[row] for row in rows],
                "pos_scores": [float(mined.positive_scores[query])],
                "neg_scores": mined.scores[query, : len(rows)].tolist(),
            }
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def plain_read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def refuse_other(first: Path, second: Path) -> None:
    """Fail where two files do not hold the same, up to what float32 tells apart."""
    import numpy as np

    for one, other in zip(plain_read(first), plain_read(second), strict=True):
        assert {name: one[name] for name in ("query", "pos", "neg")} == {n: other[n] for n in ("query", "pos", "neg")}
        for name in ("pos_scores", "neg_scores"):
            assert np.array_equal(np.float32(one[name]), np.float32(other[name]))


def growth(run: Callable[[], object]) -> float:
    """Return how many MiB a call allocates at its peak."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MIB


def main() -> None:
    chosen = options()
    pin(chosen.threads, chosen.level, chosen.peers)

    import numpy as np

    import negfast
    from data import load
    from negfast.formats import RetrievalData, read_flag_embedding, write_flag_embedding

    pairs = load(chosen.n)
    keys = negfast.content_keys(pairs.corpus_texts)
    search = negfast.Search(method="signatures", recall=0.9)
    mined = negfast.mine(
        pairs.queries,
        pairs.corpus,
        np.arange(len(pairs)),
        num_negatives=chosen.num_negatives,
        keys=(keys, keys),
        search=search,
    )
    data = RetrievalData.of(pairs.query_texts, pairs.corpus_texts, np.arange(len(pairs)), mined)
    rows = list(range(len(pairs)))
    with tempfile.TemporaryDirectory() as folder:
        ours, plain, packed = (Path(folder) / name for name in ("ours.jsonl", "plain.jsonl", "ours.jsonl.gz"))
        jobs = {
            "write": {
                "negfast": lambda: write_flag_embedding(ours, data),
                "json.dumps in a loop": lambda: plain_write(plain, pairs.query_texts, pairs.corpus_texts, mined, rows),
            },
            "read": {"negfast": lambda: read_flag_embedding(ours), "json.loads in a loop": lambda: plain_read(ours)},
            "write, compressed": {"negfast": lambda: write_flag_embedding(packed, data)},
        }
        for run in jobs["write"].values():
            run()
        refuse_other(ours, plain)
        size = ours.stat().st_size / MIB
        result: dict[str, Any] = {"versions": versions(), "source": pairs.source, "n": len(pairs), "mib": size}
        negatives = data.negatives[1].size
        text = (
            f"{pairs.source}; {len(pairs):,} queries, {negatives:,} negatives with scores, FlagEmbedding JSON lines, "
            f"{size:.0f} MiB"
        )
        for job, contenders in jobs.items():
            memory = {name: growth(run) for name, run in contenders.items()}
            stopwatches = {name: (lambda run=run: timed(run)) for name, run in contenders.items()}
            seconds = alternate(stopwatches, chosen.rounds if len(contenders) > 1 else 1)
            result[job] = {"seconds": seconds, "mib_of_memory": memory}
            text += f"\n\n{job}\n{table(summary(seconds))}\nmemory: " + ", ".join(
                f"{name} {mib:.0f} MiB" for name, mib in memory.items()
            )
    record(chosen.name, result, text)


if __name__ == "__main__":
    main()
