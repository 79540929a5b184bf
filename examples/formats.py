"""What was mined, written in the format of every trainer, and read back.

    python examples/formats.py                 # into a folder that is removed at the end
    python examples/formats.py --folder out    # into a folder that stays

The pairs are documented functions of this Python installation: a query is the first line of a docstring, a passage the
code. Those of some modules are held out; their questions, the right answers and a ranking are written as a benchmark.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import negfast
from negfast import formats
from negfast.cli.demo.held_out import Benchmark, installed
from negfast.encoder import HashedEncoder
from negfast.formats import IdLists, RetrievalData


def mined(benchmark: Benchmark, encoder: HashedEncoder) -> RetrievalData:
    """Mine negatives for the pairs to train on; passages that read the same are one row."""
    train = benchmark.train
    _, first, row_of = np.unique(train.keys[:, 1], return_index=True, return_inverse=True)
    corpus = [train.passages[row] for row in first]
    found = negfast.mine(encoder.encode(train.queries), encoder.encode(corpus), row_of, num_negatives=4)
    names = [f"function-{row}" for row in range(len(corpus))]
    return RetrievalData.of(train.queries, corpus, row_of, found, corpus_ids=names).usable()


def training_files(folder: Path, data: RetrievalData) -> dict[str, RetrievalData]:
    """Write every training format, and return what is read back."""
    formats.write_flag_embedding(folder / "flag-embedding.jsonl", data)
    formats.write_tevatron(folder / "tevatron.jsonl", data, corpus=folder / "tevatron-corpus.jsonl")
    formats.write_tevatron_passages(folder / "tevatron-passages.jsonl.gz", data)
    formats.write_nemo(folder / "nemo.json", data, corpus="nemo-corpus")
    read = {
        "FlagEmbedding": formats.read_flag_embedding(folder / "flag-embedding.jsonl"),
        "Tevatron": formats.read_tevatron(folder / "tevatron.jsonl", corpus=folder / "tevatron-corpus.jsonl"),
        "Tevatron, passages": formats.read_tevatron_passages(folder / "tevatron-passages.jsonl.gz"),
        "NeMo": formats.read_nemo(folder / "nemo.json"),
    }
    try:
        formats.write_hugging_face(folder / "hugging-face", data)
    except negfast.MissingExtraError as error:
        print(f"  left out: {error}")
        return read
    return read | {"Hugging Face": formats.read_hugging_face(folder / "hugging-face")}


def evaluation_files(folder: Path, benchmark: Benchmark, encoder: HashedEncoder) -> float:
    """Write the questions that were held out as a benchmark with a ranking, and return its MRR@10 as read back."""
    right = [sorted(rows) for rows in benchmark.right]
    data = RetrievalData.of(benchmark.held_out.queries, benchmark.corpus, right)
    formats.write_beir(folder / "beir", data, split="test")
    found = negfast.topk(encoder.encode(data.queries), encoder.encode(benchmark.corpus), 10)
    formats.write_trec_run(folder / "run.txt.gz", IdLists.from_topk(found, data.query_ids, data.corpus_ids))

    qrels = formats.read_beir(folder / "beir", split="test").qrels().to_dict()
    run = formats.read_trec_run(folder / "run.txt.gz").to_dict()
    ranks = [[rank for rank, row in enumerate(run[query], 1) if row in rows] for query, rows in qrels.items()]
    return float(np.mean([1 / min(found) if found else 0 for found in ranks]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    parser.add_argument("--functions", type=int, default=2000, help="how many functions to gather")
    options = parser.parse_args(arguments)
    benchmark = installed(options.functions)
    encoder = HashedEncoder(dim=256).fit(benchmark.train.passages)
    data = mined(benchmark, encoder)
    print(data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, again in training_files(folder, data).items():
            same = np.array_equal(again.negative_scores, data.negative_scores)
            print(f"  {name:<20} {again.negatives[1].size:,} negatives{', with the same scores' if same else ''}")
        print(f"held out: MRR@10 {evaluation_files(folder, benchmark, encoder):.3f}")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            print(f"  {path.relative_to(folder).as_posix():<34} {path.stat().st_size / 2**20:6.2f} MiB")


if __name__ == "__main__":
    main()
