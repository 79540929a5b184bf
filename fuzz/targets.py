"""Everything in negfast that parses a file: for each, a reader, and small whole files to start from.

A reader may refuse a file with `NegfastError` or `OSError`. Anything else, or no end, is a fault.
"""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import negfast
from negfast import formats
from negfast.cli.mine.job import Job
from negfast.cli.mine.parts import Parts
from negfast.files.embeddings import open_embeddings
from negfast.files.tables import group_numbers, ids, read_columns, text_lists, texts

COLUMNS = ("anchor", "positive", "group", "id")


class Target(NamedTuple):
    """A parser of files.

    Attributes
    ----------
    suffix : str
        Of the files that it reads.
    read : callable
        Reads a file.
    seeds : callable
        Returns whole files to start from.
    """

    suffix: str
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]


def survives(target: Target, data: bytes) -> bool:
    """Let a target read these bytes; tell whether it took them."""
    with tempfile.TemporaryDirectory(prefix="negfast-fuzz-") as folder:
        path = Path(folder) / f"file{target.suffix}"
        path.write_bytes(data)
        try:
            target.read(path)
        except (negfast.NegfastError, OSError) as error:
            if not str(error):
                raise AssertionError("a refusal says why") from error
            return False
        return True


def _table(path: Path) -> None:
    columns = read_columns(path, COLUMNS)
    texts("anchor", columns["anchor"])
    text_lists("positive", columns["positive"])
    group_numbers(("group", columns["group"]))
    ids("id", columns["id"])


def _embeddings(path: Path) -> None:
    rows = open_embeddings(path)
    assert rows.ndim == 2
    assert rows.dtype in (np.float32, np.float16)
    np.isfinite(rows).all()  # touches every byte


def _mined(path: Path) -> None:
    mined = negfast.MinedNegatives.load(path)
    assert mined.indices.ndim == 2
    assert mined.recipe.describe()
    assert repr(negfast.concatenate([mined]))


def _simhash(path: Path) -> None:
    simhash = negfast.SimHash.load(path)
    assert np.isfinite(simhash.centre).all()
    assert repr(simhash)


def _job(path: Path) -> None:
    recipe, job = negfast.Recipe.load_with_job(path)
    assert recipe.fingerprint
    Job.from_dict(job, path.parent, str(path))


def _plan(path: Path) -> None:
    with Parts(path.with_suffix(""), keeps_rows=False) as parts:
        parts.folder.mkdir()
        path.rename(parts.folder / "job.json")
        parts.open({"recipe": "1"}, resume=True, restart=False)


def _nemo(path: Path) -> None:
    folder = path.parent / "corpus"
    folder.mkdir(exist_ok=True)
    (folder / "merlin_metadata.json").write_text('{"class": "TextQADataset", "corpus_id": "c"}')
    (folder / "train.jsonl").write_text('{"id": "d1", "text": "t"}')
    _read(formats.read_nemo)(path)


def _read(reader: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda path: repr(reader(path)) and None


def _rows() -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(4, 3)


def _npy_seeds() -> list[bytes]:
    seeds = []
    for rows in (
        _rows(),
        _rows().astype(np.float16),
        _rows().astype(np.float64),
        np.asfortranarray(_rows()),
        _rows()[:0],
    ):
        file = io.BytesIO()
        np.save(file, rows)
        seeds.append(file.getvalue())
    return seeds


def _safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _safetensors_seeds() -> list[bytes]:
    f32 = ("F32", [4, 3], _rows().tobytes())
    return [
        _safetensors({"rows": f32}),
        _safetensors({"odd": ("U8", [3], b"abc"), "rows": f32}),
        _safetensors({"rows": ("BF16", [2, 3], bytes(12))}),
        _safetensors({"a": f32, "b": f32}),
        _safetensors({}),
    ]


def _mined_seeds() -> list[bytes]:
    rows = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    mined = negfast.mine(rows, rows, np.arange(6), num_negatives=2, suspect_rank=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mined"
        mined.save(path)
        return [path.read_bytes()]


def _simhash_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simhash"
        negfast.SimHash(3, 64, metric="dot", seed=5).fit(_rows()).save(path)
        return [path.read_bytes()]


def _table_rows() -> list[dict[str, object]]:
    return [
        {"anchor": "a b", "positive": "c", "group": 3, "id": "x"},
        {"anchor": "ä €", "positive": ["d", "e"], "group": ["g", 3], "id": "y"},
        {"anchor": "", "positive": None, "group": None, "id": "z"},
    ]


def _jsonl_seeds() -> list[bytes]:
    rows = _table_rows()
    return [
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
        "\ufeff".encode() + json.dumps(rows[0]).encode() + b"\r\n\r\n",
        b"",
    ]


def _parquet_seeds() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [
        pa.table({"anchor": ["a", "b"], "positive": ["c", None], "group": [1, None], "id": [1, 2]}),
        pa.table({"anchor": ["a"], "positive": [["c", "d"]], "group": [["g"]], "id": ["x"]}),
        pa.table(
            {
                "anchor": pa.array(["a", "a"]).dictionary_encode(),
                "positive": ["c", "d"],
                "group": ["", ""],
                "id": [0, 1],
            }
        ),
    ]
    seeds = []
    for table in tables:
        file = io.BytesIO()
        pq.write_table(table, file)
        seeds.append(file.getvalue())
    return seeds


def _recipe_seeds() -> list[bytes]:
    recipe = negfast.Recipe(draw=negfast.SimANS(3.0, 0.1), rules=negfast.Rules(distinct=0.9, max_exposure=3))
    job = Job(input="pairs.jsonl", output="out.jsonl", group="group", block_size=5).to_dict(Path())
    return [json.dumps({**recipe.to_dict(), "job": {**job, "fingerprints": {"input": "0"}}}, indent=2).encode()]


def _written(write: Callable[[Path, object], None], suffix: str) -> list[bytes]:
    data = formats.RetrievalData.of(
        ["a", "ä €"],
        ["c", "d", ""],
        [[0], [1, 2]],
        negatives=[[1], []],
        negative_scores=[[0.5], []],
        positive_scores=[[1.0], [0.5, -1e-8]],
        titles=["t", "", ""],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path, data)
        return [path.read_bytes()]


def _nemo_seeds() -> list[bytes]:
    item = {"question_id": 1, "question": "ä", "corpus_id": "c", "pos_doc": [{"id": "d1", "score": 1}], "neg_doc": []}
    return [json.dumps({"corpus": [{"path": "corpus"}], "data": [item]}, indent=1, ensure_ascii=False).encode()]


TARGETS = {
    "npy": Target(".npy", _embeddings, _npy_seeds),
    "safetensors": Target(".safetensors", _embeddings, _safetensors_seeds),
    "mined": Target(".safetensors", _mined, _mined_seeds),
    "simhash": Target(".safetensors", _simhash, _simhash_seeds),
    "jsonl": Target(".jsonl", _table, _jsonl_seeds),
    "parquet": Target(".parquet", _table, _parquet_seeds),
    "recipe": Target(".json", _job, _recipe_seeds),
    "flag-embedding": Target(
        ".jsonl", _read(formats.read_flag_embedding), lambda: _written(formats.write_flag_embedding, ".jsonl")
    ),
    "tevatron-passages": Target(
        ".jsonl.gz",
        _read(formats.read_tevatron_passages),
        lambda: _written(formats.write_tevatron_passages, ".jsonl.gz"),
    ),
    "nemo": Target(".json", _nemo, _nemo_seeds),
    "trec-qrels": Target(".txt", _read(formats.read_trec_qrels), lambda: _written(formats.write_trec_qrels, ".txt")),
    "trec-run": Target(".txt", _read(formats.read_trec_run), lambda: _written(formats.write_trec_run, ".txt")),
    "plan": Target(".json", _plan, lambda: [b'{"recipe": "1", "job": {}}', b"[]"]),
}
