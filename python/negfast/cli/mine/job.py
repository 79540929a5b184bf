"""What a job reads and writes: kept beside its result, so that the same command can be given again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from negfast.errors import InvalidValueError, StateError, shown
from negfast.files.embeddings import tensor_of
from negfast.files.fingerprints import path_fingerprint

# Fields that mean nothing without another.
_BELONG = {
    "corpus_text": "corpus",
    "corpus_group": "corpus",
    "corpus_id": "corpus",
    "corpus_embeddings": "corpus",
    "forbidden_text": "forbidden",
    "anchor_prompt": "model",
    "corpus_prompt": "model",
}
# Fields that name a column or a table, where a folder has its own.
_OF_TABLES = ("anchor", "positive", "group", "id", "exclude", "corpus", "positive_embeddings")

FORMAT = 1
"""Version of the plain form of a job."""
_BESIDE = ("format", "fingerprints", "rows", "versions")
"""What a recipe file says of a job beside its fields."""
BUILT_IN = "built-in"
"""The name of the encoder that needs no model."""
# Fields that name files, and those among them that a job reads.
_PATHS = ("input", "corpus", "forbidden", "output", "triplets", "n_tuples", "state")
_EMBEDDINGS = ("anchor_embeddings", "positive_embeddings", "corpus_embeddings")
READ = ("input", "corpus", "forbidden", *_EMBEDDINGS)


@dataclass(frozen=True, kw_only=True)
class Job:
    """The files and columns of one run of `negfast mine`.

    Attributes
    ----------
    input : str
        Table of pairs, or folder of BEIR.
    anchor, positive, group, id, exclude : str or None
        Its columns.
    split : str or None
        Which judgements of a folder of BEIR are its pairs.
    corpus : str or None
        Table of further rows that negatives are taken from.
    corpus_text, corpus_group, corpus_id : str or None
        Its columns.
    forbidden, forbidden_text : str or None
        Table of texts that are never negatives, and its column.
    anchor_embeddings, positive_embeddings, corpus_embeddings : str or None
        Files with one row for each row of the tables.
    model : str
        What encodes the texts where there are no such files.
    anchor_prompt, corpus_prompt : str or None
        What the model is given before each text.
    output, triplets, n_tuples, state : str or None
        The files to write.
    block_size : int or None
        Anchors mined at a time; ``None`` chooses.
    """

    input: str
    anchor: str = "anchor"
    positive: str = "positive"
    group: str | None = None
    id: str | None = None
    exclude: str | None = None
    split: str | None = None
    corpus: str | None = None
    corpus_text: str = "text"
    corpus_group: str | None = None
    corpus_id: str | None = None
    forbidden: str | None = None
    forbidden_text: str = "text"
    anchor_embeddings: str | None = None
    positive_embeddings: str | None = None
    corpus_embeddings: str | None = None
    model: str = BUILT_IN
    anchor_prompt: str | None = None
    corpus_prompt: str | None = None
    output: str | None = None
    triplets: str | None = None
    n_tuples: str | None = None
    state: str | None = None
    block_size: int | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether embeddings are given."""
        return any(getattr(self, name) is not None for name in _EMBEDDINGS)

    @property
    def is_folder(self) -> bool:
        """Whether the pairs are a folder of BEIR."""
        return Path(self.input).is_dir()

    def check(self) -> None:
        """Refuse fields that would have no effect, which tells of a mistake.

        Raises
        ------
        InvalidValueError
            If a field is given without the one that it belongs to.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for name in _OF_TABLES if self.is_folder else ("split",):
            if getattr(self, name) != defaults[name]:
                expected, found = ("a table", "a folder") if self.is_folder else ("a folder of BEIR", "a table")
                raise InvalidValueError(
                    f"{_option(name)} must be given with {expected} as INPUT, got it with {found}, {self.input}; leave "
                    "it out"
                )
        for name, owner in _BELONG.items():
            if self.is_folder and name == "corpus_embeddings":  # which has a corpus of its own
                continue
            if getattr(self, name) != defaults[name] and getattr(self, owner) == defaults[owner]:
                raise InvalidValueError(
                    f"{_option(name)} must be given with {_option(owner)}, got it alone; give both, or leave it out"
                )
        if self.is_embedded and self.model != BUILT_IN:
            raise InvalidValueError("--model must be given without embeddings, got both; leave one of them out")
        if self.state is not None and self.block_size is not None:
            raise InvalidValueError(
                "--block-size must be given without --state, got both; a state is mined in one call"
            )

    def files(self) -> dict[str, Path]:
        """Return the files, and the folder of the model, that the job reads, by field; a tensor's name is no part."""
        named = {name: getattr(self, name) for name in READ}
        files = {name: tensor_of(value)[0] for name, value in named.items() if value is not None}
        if self.model != BUILT_IN and Path(self.model).exists():
            files["model"] = Path(self.model)
        return files

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """Return the fields as plain values, with files as they are reached from `folder`."""
        plain: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in (*_PATHS, *_EMBEDDINGS):
            if plain[name] is not None:
                plain[name] = _relative(plain[name], folder)
        if Path(self.model).exists():
            plain["model"] = os.path.join(os.curdir, _relative(self.model, folder))
        return {"format": FORMAT, **plain}

    @classmethod
    def from_dict(cls, values: object, folder: Path, source: str) -> Self:
        """Make a job from what :meth:`to_dict` returned for the same folder."""
        if not isinstance(values, Mapping):
            raise StateError(f'"job" of {source} must be an object, got {shown(values)}; name the input file instead')
        if values.get("format") != FORMAT:
            raise StateError(
                f'"format" of the job in {source} must be {FORMAT}, got {shown(values.get("format"))}; use the version '
                "of negfast that wrote it, or name the input file"
            )
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(shown(name) for name in values if name not in {*known, *_BESIDE})
        if unknown:
            raise StateError(
                f"the job in {source} must have fields among {sorted(known)}, got {', '.join(unknown)}; correct their "
                "names"
            )
        given = {name: value for name, value in values.items() if name in known}
        for name, value in given.items():
            kind = int if name == "block_size" else str
            if not (isinstance(value, kind) or (value is None and known[name].default is None)):
                raise StateError(
                    f'"{name}" of the job in {source} must be {kind.__name__}, got {shown(value)}; mend the file or '
                    "name the input file"
                )
            if isinstance(value, int) and (isinstance(value, bool) or value < 1):
                raise StateError(
                    f'"{name}" of the job in {source} must be at least 1, got {shown(value)}; mend the file'
                )
            if isinstance(value, str) and not _is_name(value):
                raise StateError(f'"{name}" of the job in {source} must be a name, got {shown(value)}; mend the file')
        if "input" not in given:
            raise StateError(f'"input" must be in the job of {source}, got none; name the input file')
        job = cls(**given)
        found = {name: getattr(job, name) for name in (*_PATHS, *_EMBEDDINGS)}
        reached: dict[str, Any] = {name: _reached(value, folder) for name, value in found.items() if value is not None}
        if job.model.startswith(os.curdir):
            reached["model"] = _reached(job.model, folder)
        return replace(job, **reached)


def job_beside(state: Path) -> Path:
    """Return where the job is recorded whose miner's state is kept in a file."""
    return state.with_name(f"{state.name}.job.json")


def check_tables(job: Job, known: Mapping[str, Any], made: Path) -> None:
    """Refuse tables that have other bytes than when something was made of them.

    Parameters
    ----------
    job : Job
    known : mapping of str to str
        Fingerprints of its files then.
    made : Path
        What was made of them.

    Raises
    ------
    InvalidValueError
        If a table has changed.
    OSError
        If one cannot be read.
    """
    for name in ("input", "corpus", "forbidden"):
        if name in known and known[name] != path_fingerprint(Path(str(getattr(job, name)))):
            raise InvalidValueError(
                f"{getattr(job, name)} must be the file that {made} was mined from, got other bytes; mine again"
            )


def _is_name(value: str) -> bool:
    """Return whether a file can have this name; JSON can hold characters that no name can."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _relative(path: str, folder: Path) -> str:
    try:
        # Links are followed on both sides, or the way from one to the other would not lead there.
        return os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    except ValueError:  # another drive
        return os.path.realpath(path)


def _reached(path: str, folder: Path) -> str:
    return os.path.realpath(Path(os.path.realpath(folder)) / path)
