"""What a miner remembers between calls, and how it is saved."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from negfast import inputs
from negfast._negfast import __version__, read_tensors, write_tensors
from negfast.errors import InvalidValueError, StateError, shown
from negfast.inputs import Embeddings, Labels
from negfast.mining import Call
from negfast.progress import Wanted
from negfast.recipe import Recipe

FORMAT = 1
"""Version of the saved form."""
SAMPLE = 1000
"""Anchors on which the turnover of lists is counted."""
_RESERVE = {"indptr": np.int64, "rows": np.uint32, "scores": np.float32, "ceilings": np.float32, "floors": np.float32}
_LISTS = ("positives", "exclude")
_LABELS = ("keys", "groups")
Known = dict[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class MinerState:
    """The vectors of the last call, the ids that rules need, and the candidates remembered."""

    recipe: Recipe
    dtype: str
    queries: NDArray[Any]
    corpus: NDArray[Any]
    known: Known
    reserve: dict[str, NDArray[Any]]
    ids: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    served: NDArray[np.int64]
    pending: NDArray[np.int64]

    def __repr__(self) -> str:
        """Return the sizes."""
        kept = self.reserve["rows"].size / max(len(self.queries), 1)
        return f"{len(self.queries):,} queries, {len(self.corpus):,} rows, {kept:.0f} candidates each"

    @classmethod
    def of_call(
        cls,
        call: Call,
        reserve: dict[str, NDArray[Any]],
        ids: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
        served: NDArray[np.int64],
    ) -> Self:
        """Remember a call, what it found, and the negatives of a sample of anchors."""
        known = {name: _copied(value) for name, value in call.known.items()}
        queries = call.queries.copy()
        corpus = queries if call.corpus is call.queries else call.corpus.copy()
        none = np.zeros(0, np.int64)
        return cls(call.recipe, call.dtype, queries, corpus, known, reserve, ids, served, none)

    def call(
        self, queries: Embeddings, corpus: Embeddings, *, epoch: int, n_threads: int | None, progress: Wanted
    ) -> Call:
        """Return a call for the same rows with other vectors."""
        recipe = replace(self.recipe, epoch=epoch)
        call = Call.of_known(queries, corpus, self.known, recipe=recipe, n_threads=n_threads, progress=progress)
        for name, array, old in (("queries", call.queries, self.queries), ("corpus", call.corpus, self.corpus)):
            if array.shape != old.shape:
                raise InvalidValueError(
                    f"{name} must be of shape {old.shape}, as the miner knows them, got {array.shape}; pass the same "
                    "rows in the same order, or mine again"
                )
        return call

    def check_ids(self, ids: tuple[NDArray[np.int64], NDArray[np.int64]] | None) -> None:
        """Refuse rows that stand in another order."""
        if self.ids is None:
            return
        if ids is None:
            raise InvalidValueError("ids must be given, as they were when the rows were mined, got None; pass them")
        for name, own, others in zip(("queries", "corpus"), self.ids, ids, strict=True):
            other = np.flatnonzero(own != others)
            if other.size:
                raise InvalidValueError(
                    f"ids of the {name} must be those of the rows that were mined, in their order, got another at row "
                    f"{other[0]}; put the rows in order, or mine again"
                )

    def past(self, changed: NDArray[np.int64] | None, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Return what is remembered, as the compiled module takes it.

        Where `changed` names the rows that differ, it sees that no other does, unless the new corpus is of another
        `dtype`: then all do, by the rounding.
        """
        pending = self.pending if changed is None else np.union1d(self.pending, changed)
        told = changed is not None and dtype == self.corpus.dtype
        vectors = {"queries": self.queries, "corpus": self.corpus}
        return {**vectors, **self.reserve, "pending": np.asarray(pending, np.uint32), "told": told}

    def moved(self, call: Call, reserve: dict[str, NDArray[Any]], served: NDArray[np.int64]) -> Self:
        """Return the state after a refresh. It takes over the memory of this one, which is not to be used any more."""
        queries = _taken_over(self.queries, call.queries)
        if call.corpus is call.queries:
            corpus = queries
        elif self.corpus is self.queries:  # that memory holds the queries now
            corpus = call.corpus.copy()
        else:
            corpus = _taken_over(self.corpus, call.corpus)
        return replace(
            self,
            recipe=call.recipe,
            dtype=call.dtype,
            queries=queries,
            corpus=corpus,
            reserve=reserve,
            served=served,
            pending=np.zeros(0, np.int64),
        )

    def with_rows(
        self, array: NDArray[Any], *, groups: Labels | None, keys: Labels | None, ids: NDArray[np.int64] | None
    ) -> tuple[Self, NDArray[np.int64]]:
        """Return the state with rows added to the corpus, and their numbers."""
        if array.shape[1] != self.corpus.shape[1] or array.dtype != self.corpus.dtype:
            raise InvalidValueError(
                f"rows must be {self.dtype} of dim {self.corpus.shape[1]}, as the corpus is, got {array.dtype} of dim "
                f"{array.shape[1]}; encode them as the corpus was"
            )
        bad = _not_finite(array)
        if bad.size:
            raise InvalidValueError(
                f"rows must hold finite numbers, got NaN or infinity in row {bad[0]}; remove the row or encode it again"
            )
        self._check_new_ids(ids)
        known = dict(self.known)
        for name, labels in (("groups", groups), ("keys", keys)):
            known[name] = _extended(name, known[name], labels, len(array))
        if known["forbidden"] is not None:
            known["forbidden"] = np.concatenate([known["forbidden"], np.zeros(len(array), np.uint8)])
        numbers = np.arange(len(self.corpus), len(self.corpus) + len(array))
        state = replace(
            self,
            corpus=np.concatenate([self.corpus, array]),
            known=known,
            ids=self.ids if self.ids is None or ids is None else (self.ids[0], np.concatenate([self.ids[1], ids])),
            pending=np.concatenate([self.pending, numbers]),
        )
        return state, numbers

    def _check_new_ids(self, ids: NDArray[np.int64] | None) -> None:
        if (self.ids is None) != (ids is None):
            raise InvalidValueError(
                f"ids must be given if and only if the corpus has some, got {'none' if ids is None else 'some'}; add "
                "rows as the corpus was mined"
            )
        if self.ids is None or ids is None:
            return
        held = np.flatnonzero(np.isin(ids, self.ids[1]))
        if held.size:
            raise InvalidValueError(
                f"ids must be those of new rows, got one that the corpus has, at row {held[0]}; name every row once"
            )

    def without_rows(self, rows: Labels) -> Self:
        """Return the state with rows of the corpus forbidden."""
        mask = inputs.forbidden_mask(rows, len(self.corpus), "rows")
        held = self.known["forbidden"]
        return replace(self, known={**self.known, "forbidden": mask if held is None else held | mask})

    def check_settings(self, recipe: Recipe) -> None:
        """Refuse the state of a miner with other settings."""
        # What a call fills in is no setting of its own.
        last, itself = recipe.last_rank, recipe.rules.exclude_self
        itself = self.recipe.rules.exclude_self if itself is None else itself
        whole = replace(recipe, rules=replace(recipe.rules, range_max=last, exclude_self=itself))
        own, held = whole.to_dict(), self.recipe.to_dict()
        for name in own:
            if name not in ("epoch", "seed") and own[name] != held[name]:
                raise StateError(
                    f"{name} of the state must be {shown(own[name])}, as of this miner, got {shown(held[name])}; make "
                    "this one as the one that was saved"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain settings under "settings", and arrays of their own."""
        settings = {"format": FORMAT, "recipe": self.recipe.to_dict(), "dtype": self.dtype}
        return {"settings": settings, **{name: array.copy() for name, array in self._arrays().items()}}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Make a state from what :meth:`to_dict` returned.

        Raises
        ------
        StateError
            If it is of another version, or damaged.
        """
        try:
            settings = state["settings"]
            version = settings["format"]
            if version != FORMAT:
                raise StateError(
                    f"the state must be of format {FORMAT}, got {shown(version)}; load it with the version of negfast "
                    "that wrote it"
                )
            arrays = {name: np.array(value) for name, value in state.items() if name != "settings"}
            return cls._of_arrays(Recipe.from_dict(settings["recipe"]), str(settings["dtype"]), arrays)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"the state is damaged: {error!r}; mine again") from error

    def save(self, path: str | os.PathLike[str], miner: dict[str, Any]) -> None:
        """Write the state and the settings of its miner to a file."""
        state = self.to_dict()
        versions = {"negfast": __version__, "numpy": np.__version__}
        metadata = {"kind": "Miner", "versions": versions, "miner": miner, **state.pop("settings")}
        tensors = [
            (name, array.dtype.name, list(array.shape), np.ascontiguousarray(array).reshape(-1).view(np.uint8))
            for name, array in state.items()
        ]
        write_tensors(os.fsdecode(path), tensors, json.dumps(metadata, allow_nan=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[Self, dict[str, Any]]:
        """Read what :meth:`save` wrote: the state and the settings of its miner."""
        name = os.fsdecode(path)
        tensors, text = read_tensors(name)
        try:
            metadata = json.loads(text)
            kind = metadata.pop("kind")
            miner = metadata.pop("miner") if kind == "Miner" else {}
            arrays = {tensor: data.view(dtype).reshape(shape) for tensor, dtype, shape, data in tensors}
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            raise StateError(f"{name} is no file that negfast saved: {error!r}") from error
        if kind != "Miner":
            raise StateError(f"{name} must hold a Miner, got {shown(kind)}; load it with the class that saved it")
        return cls.from_dict({"settings": metadata, **arrays}), miner

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {"queries": self.queries, "corpus": self.corpus, "served": self.served, "pending": self.pending}
        arrays |= {f"reserve_{name}": array for name, array in self.reserve.items()}
        for name in _LISTS:
            arrays |= _parts(name, self.known[name])
        for name in _LABELS:
            if self.known[name] is not None:
                queries, corpus = self.known[name]
                arrays |= _parts(f"{name}_of_queries", queries) | _parts(f"{name}_of_corpus", corpus)
        if self.known["forbidden"] is not None:
            arrays["forbidden"] = self.known["forbidden"]
        if self.ids is not None:
            arrays |= {"ids_of_queries": self.ids[0], "ids_of_corpus": self.ids[1]}
        return arrays

    @classmethod
    def _of_arrays(cls, recipe: Recipe, dtype: str, arrays: dict[str, NDArray[Any]]) -> Self:
        reserve = {name: arrays.pop(f"reserve_{name}") for name in _RESERVE}
        known: Known = {name: _joined(name, arrays) for name in _LISTS}
        for name in _LABELS:
            pair = _joined(f"{name}_of_queries", arrays), _joined(f"{name}_of_corpus", arrays)
            if (pair[0] is None) != (pair[1] is None):
                raise ValueError(f"{name} of one side are missing")
            known[name] = None if pair[0] is None else pair
        known["forbidden"] = arrays.pop("forbidden", None)
        ids = (arrays.pop("ids_of_queries"), arrays.pop("ids_of_corpus")) if "ids_of_queries" in arrays else None
        state = cls(recipe, dtype, known=known, reserve=reserve, ids=ids, **arrays)
        state._check()
        return state

    def _check(self) -> None:
        """Refuse arrays of other dtypes or shapes than a miner's, and rows that are none of the corpus."""
        n, size = len(self.queries), len(self.corpus)
        dim = self.corpus.shape[1]
        shapes: dict[str, tuple[int, ...]] = {
            "queries": (n, dim),
            "corpus": (size, dim),
            "served": (min(n, SAMPLE), self.recipe.num_negatives),
            "reserve_indptr": (n + 1,),
            "reserve_ceilings": (n,),
            "reserve_floors": (n,),
            "forbidden": (size,),
            "ids_of_queries": (n,),
            "ids_of_corpus": (size,),
        }
        for name, array in self._arrays().items():
            _require(name, array.dtype.name in _dtypes(name), array)
            _require(name, array.shape == shapes.get(name, array.shape), array)
        for name in _LISTS:
            if self.known[name] is not None:
                _check_lists(name, self.known[name], n, size)
        for name in _LABELS:
            if self.known[name] is not None:
                for side, length in zip(self.known[name], (n, size), strict=True):
                    _check_labels(name, side, length)
        _check_lists("reserve", (self.reserve["indptr"], self.reserve["rows"]), n, size)
        scores, most = self.reserve["scores"], 1.0001 if self.recipe.metric == "cosine" else np.finfo(np.float32).max
        # NaN where one is not known.
        possible = scores.shape == self.reserve["rows"].shape and not (np.abs(scores) > most).any()
        _require("reserve_scores", possible, scores)
        _check_rows("pending", self.pending, size)
        _check_rows("served", self.served.ravel() + 1, size + 1)
        for name in ("ceilings", "floors"):
            _require(f"reserve_{name}", not np.isnan(self.reserve[name]).any(), self.reserve[name])
        for name, vectors in (("queries", self.queries), ("corpus", self.corpus)):
            _require(name, not _not_finite(vectors).size, vectors)


def _copied(value: Any) -> Any:
    """Return the arrays of an argument as arrays of their own."""
    if isinstance(value, tuple):
        return tuple(_copied(part) for part in value)
    return None if value is None else value.copy()


def _taken_over(held: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of `array`, in the memory that is held where it fits: new pages cost more than the copy."""
    if held.dtype != array.dtype or not held.flags.writeable:
        return array.copy()
    np.copyto(held, array)
    return held


def _parts(name: str, value: Any) -> dict[str, NDArray[Any]]:
    if value is None:
        return {}
    return {f"{name}_indptr": value[0], f"{name}_indices": value[1]} if isinstance(value, tuple) else {name: value}


def _joined(name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Take the argument of that name out of `arrays`: an array, a CSR pair, or None."""
    if f"{name}_indptr" in arrays:
        return arrays.pop(f"{name}_indptr"), arrays.pop(f"{name}_indices")
    return arrays.pop(name, None)


def _extended(name: str, held: Any, labels: Labels | None, n_rows: int) -> Any:
    """Return labels of queries and corpus with those of more rows."""
    if (held is None) != (labels is None):
        raise InvalidValueError(
            f"{name} must be given if and only if the corpus has some, got {'none' if labels is None else 'some'}; add "
            "rows as the corpus was mined"
        )
    if held is None or labels is None:
        return None
    queries, corpus = held
    added = inputs.labels(f"{name} of the rows", labels)
    if isinstance(added, tuple):
        fits, got = isinstance(corpus, tuple) and len(added[0]) == n_rows + 1, f"lists for {len(added[0]) - 1} rows"
    else:
        fits = not isinstance(corpus, tuple) and added.shape == (n_rows, *corpus.shape[1:])
        got = f"shape {added.shape}"
    if not fits:
        raise InvalidValueError(
            f"{name} must be one entry for each of the {n_rows} rows, shaped as those of the corpus, got {got}; label "
            "rows as the corpus is"
        )
    if isinstance(added, tuple):
        indptr = np.concatenate([corpus[0], corpus[0][-1] + added[0][1:]])
        return queries, (indptr, np.concatenate([corpus[1], added[1]]))
    return queries, np.concatenate([corpus, added])


def _not_finite(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows that hold NaN or infinity; of bfloat16, which comes as its bits, those have all exponent bits."""
    bad = (rows & 0x7F80) == 0x7F80 if rows.dtype == np.uint16 else ~np.isfinite(rows)
    return np.flatnonzero(bad.any(axis=1))


def _dtypes(name: str) -> tuple[str, ...]:
    """Return the dtypes that a saved array may have."""
    if name in ("queries", "corpus"):
        return "float32", "float16", "uint16"
    kinds = {f"reserve_{part}": kind for part, kind in _RESERVE.items()} | {"forbidden": np.uint8}
    return (np.dtype(kinds.get(name, np.int64)).name,)


def _require(name: str, sound: object, array: NDArray[Any]) -> None:
    if not sound:
        raise ValueError(f"{name}, {array.dtype} of shape {array.shape}, does not fit the rest")


def _check_rows(name: str, rows: NDArray[Any], size: int) -> None:
    _require(name, rows.ndim == 1 and (not rows.size or (rows.min() >= 0 and rows.max() < size)), rows)


def _check_indptr(name: str, indptr: NDArray[Any], entries: NDArray[Any], length: int) -> None:
    _require(name, indptr.shape == (length + 1,) and entries.ndim == 1, indptr)
    _require(name, indptr[0] == 0 and indptr[-1] == entries.size and (np.diff(indptr) >= 0).all(), indptr)


def _check_lists(name: str, lists: Any, length: int, size: int) -> None:
    indptr, rows = lists
    _check_indptr(name, indptr, rows, length)
    _check_rows(name, rows, size)


def _check_labels(name: str, side: Any, length: int) -> None:
    if isinstance(side, tuple):
        indptr, labels = side
        _check_indptr(name, indptr, labels, length)
    else:
        _require(name, side.ndim in (1, 2) and len(side) == length, side)
