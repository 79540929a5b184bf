"""The pairs that the experiment trains on and asks about.

`packages`: short and long descriptions of Debian packages, from the folder named by `NEGFAST_BENCH_DATA` or
``../shared/data`` beside the checkout. `code`: the first sentences of docstrings and the functions they belong to, of
this Python installation; other installations have other functions, which the fingerprint of the data tells.
"""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_FUNCTIONS = 40_000


@dataclass(frozen=True)
class Pairs:
    """Entry i of each belongs to pair i.

    Pairs of one of `wholes` are never in different parts. Pairs of one of `groups` answer each other's queries; without
    `groups` nobody knows more than what texts say. `labels` are what clusters and probes are judged by, and no model
    is trained on them.
    """

    queries: list[str]
    passages: list[str]
    wholes: list[str]
    groups: list[str] | None
    labels: list[str]


def folder() -> Path:
    return Path(os.environ.get("NEGFAST_BENCH_DATA") or ROOT.parent / "shared" / "data")


def packages() -> Pairs:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder() / "package_pairs.parquet")
    columns = {name: table[name].to_pylist() for name in ("query", "passage", "group", "label")}
    return Pairs(columns["query"], columns["passage"], columns["group"], columns["group"], columns["label"])


def code() -> Pairs:
    from negfast.cli.demo.installed_code import gather

    found = gather(MOST_FUNCTIONS)
    labels = [module.partition(".")[0] for module in found.modules]
    return Pairs(list(found.queries), list(found.passages), list(found.modules), None, labels)


SOURCES = {"packages": packages, "code": code}


def available(name: str) -> bool:
    return name != "packages" or (folder() / "package_pairs.parquet").is_file()
