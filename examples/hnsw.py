"""Negatives from an index of hnswlib that is there already, and what it missed.

    python examples/hnsw.py

The texts are documented functions of this Python installation, encoded with the built-in encoder. An index over them is
made and saved, as a retrieval service may have done long ago; then negatives are mined from the file, of more and more
candidates: rules remove those that score too close to the positive, and where that ranks low many are needed.
"""

import argparse
import tempfile
import textwrap
from pathlib import Path

import hnswlib
import numpy as np

import negfast
from negfast.cli.demo.installed_code import gather
from negfast.encoder import HashedEncoder
from negfast.integrations.hnswlib import HnswSource

FIRST_LABEL = 10_000  # the service has numbers of its own


def saved_index(rows: np.ndarray, labels: np.ndarray, path: Path) -> None:
    index = hnswlib.Index(space="cosine", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), M=8, ef_construction=40, random_seed=0)
    index.add_items(rows, labels)
    index.save_index(str(path))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=int, default=20_000, help="at most (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    code = gather(limit=chosen.functions)
    encoder = HashedEncoder(dim=256).fit(code.passages)
    queries, corpus = encoder.encode(code.queries), encoder.encode(code.passages)
    known = np.flatnonzero(queries.any(axis=1) & corpus.any(axis=1))  # texts without a word have a row of zeros
    queries, corpus = queries[known], corpus[known]
    texts = [[side[row] for row in known] for side in (code.queries, code.passages)]
    keys = negfast.content_keys(texts)
    labels = np.arange(len(corpus)) + FIRST_LABEL
    print(f"{len(corpus):,} functions")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "passages.bin"
        saved_index(corpus, labels, path)
        source = HnswSource.load(path, space="cosine", dim=256, labels=labels)
        for n_candidates in (50, 200, 800):
            mined = source.mine(
                queries,
                corpus,
                np.arange(len(queries)),
                num_negatives=8,
                n_candidates=n_candidates,
                keys=(keys, keys[:, 1]),
            )
            search = mined.report.search
            low, high = search.recall_interval
            print(
                f"{n_candidates} candidates in {search.seconds['scan']:.2f} s: "
                f"recall {search.recall:.3f} ({low:.3f} to {high:.3f} on {search.audited} anchors)"
            )
    served = np.flatnonzero(mined.indices[:, 0] >= 0)
    for row in served[:: max(len(served) // 3, 1)].tolist():
        print(textwrap.shorten(texts[0][row], 100))
        for negative in mined.indices[row, :2].tolist():
            print(f"    {'-' if negative < 0 else textwrap.shorten(texts[1][negative], 96)}")


if __name__ == "__main__":
    main()
