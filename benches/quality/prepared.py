"""Everything about the data that does not depend on the run, made once and kept in a folder."""

import json
import os
import tempfile
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from quality import data
from quality.settings import Encoder, digest
from quality.split import Split, split
from quality.texts import Texts, tokenised

_FORM = 1  # of the files


def cache() -> Path:
    folder = os.environ.get("NEGFAST_BENCH_CACHE") or tempfile.gettempdir()
    return Path(folder) / "negfast-quality"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Splits and tokens of the pairs, and on request their texts.

    Attributes
    ----------
    fingerprint : of texts, labels and tokens
    vocabulary : how many tokens there are
    """

    split: Split
    queries: Texts
    passages: Texts
    vocabulary: int
    fingerprint: str
    folder: Path

    @cached_property
    def pairs(self) -> data.Pairs:
        return data.Pairs(**json.loads((self.folder / "pairs.json").read_text(encoding="utf-8")))


def prepare(name: str, pairs: data.Pairs, encoder: Encoder) -> Path:
    """Return the folder of the data, which is made if it is not there yet."""
    text = json.dumps({field.name: getattr(pairs, field.name) for field in fields(pairs)})
    words = [str(_FORM), text, encoder.kind, str(encoder.path), str(encoder.vocabulary), str(encoder.most_tokens)]
    folder = cache() / "data" / f"{name}-{encoder.kind}-{digest(*words)}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pairs.json").write_text(text, encoding="utf-8")
        _write(folder / "arrays.npz", pairs, encoder)
        (folder / "done").touch()
    return folder


def _write(path: Path, pairs: data.Pairs, encoder: Encoder) -> None:
    from quality.encoders import tokenizer

    parts = split(pairs)
    learned = tokenizer(encoder, [side[row] for side in (pairs.queries, pairs.passages) for row in parts.train])
    arrays = {field.name: getattr(parts, field.name) for field in fields(parts)}
    for side in ("queries", "passages"):
        most, special = encoder.most_tokens, encoder.kind == "transformer"
        texts = tokenised(learned, getattr(pairs, side), most, special=special)
        arrays |= {f"{side}_tokens": texts.tokens, f"{side}_ends": texts.ends}
    np.savez(path, vocabulary=learned.get_vocab_size(), **arrays)


def load(folder: Path) -> Prepared:
    with np.load(folder / "arrays.npz") as arrays:
        texts = {side: Texts(arrays[f"{side}_tokens"], arrays[f"{side}_ends"]) for side in ("queries", "passages")}
        parts = Split(**{field.name: arrays[field.name] for field in fields(Split)})
        told = [arrays[name].tobytes() for name in sorted(arrays.files)]
        return Prepared(parts, **texts, vocabulary=int(arrays["vocabulary"]), fingerprint=digest(*told), folder=folder)
