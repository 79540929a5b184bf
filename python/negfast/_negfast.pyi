"""The compiled module. Private: arguments are checked for memory safety here and for sense in Python."""

from collections.abc import Callable
from os import PathLike
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BankPlaces",
    "BankShelf",
    "DrawAllotment",
    "DrawIdentity",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingExtraError",
    "NegfastError",
    "ReservoirCore",
    "RowIndexError",
    "StateError",
    "__version__",
    "available_threads",
    "batch_communities",
    "batch_conflicts",
    "batch_epoch",
    "batch_sizes",
    "fingerprint",
    "index_tuples",
    "measured_recall",
    "mine",
    "near_duplicates",
    "pair_scores",
    "plan",
    "read_tensors",
    "refresh",
    "safetensors_layout",
    "search_depth",
    "select",
    "shuffled_rows",
    "sign_candidates",
    "sign_centre",
    "sign_encode",
    "sign_hamming",
    "simd_level",
    "tiered_draw",
    "topk",
    "uniform_rows",
    "write_tensors",
]

__version__: str

class NegfastError(Exception): ...
class InvalidTypeError(NegfastError, TypeError): ...
class InvalidValueError(NegfastError, ValueError): ...
class RowIndexError(NegfastError, IndexError): ...
class StateError(NegfastError, ValueError): ...
class MissingExtraError(NegfastError, ImportError): ...

_Progress: TypeAlias = Callable[[int, int], None] | None
_Lists: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
_Labels: TypeAlias = NDArray[np.int64] | _Lists
_Conflicts: TypeAlias = tuple[NDArray[np.int64], NDArray[np.uint32]]

def mine(
    queries: NDArray[Any],
    corpus: NDArray[Any],
    known: dict[str, Any],
    anchors: NDArray[np.int64] | None,
    settings: dict[str, Any],
    n_threads: int,
    progress: _Progress,
) -> dict[str, Any]: ...
def refresh(
    queries: NDArray[Any],
    corpus: NDArray[Any],
    known: dict[str, Any],
    past: dict[str, Any],
    settings: dict[str, Any],
    n_threads: int,
    progress: _Progress,
) -> dict[str, Any]: ...
def select(
    queries: NDArray[Any],
    corpus: NDArray[Any],
    known: dict[str, Any],
    candidates: _Lists,
    scores: NDArray[np.float32] | None,
    positive_scores: NDArray[np.float32] | None,
    lowest: bool,
    settings: dict[str, Any],
    n_threads: int,
    progress: _Progress,
) -> dict[str, Any]: ...
def topk(
    queries: NDArray[Any],
    corpus: NDArray[Any],
    k: int,
    metric: str,
    search: tuple[float, str, int | None],
    n_threads: int,
    progress: _Progress,
) -> dict[str, Any]: ...
def near_duplicates(
    corpus: NDArray[Any], threshold: float, n_threads: int, progress: _Progress
) -> NDArray[np.int64]: ...
def plan(
    n_queries: int, n_corpus: int, dim: int, depth: int, max_memory: int | None, n_threads: int
) -> dict[str, Any]: ...
def search_depth(settings: dict[str, Any], n_corpus: int) -> int: ...
def measured_recall(found: list[int], sought: list[int]) -> tuple[float, tuple[float, float], int]: ...
def index_tuples(
    rows: NDArray[Any],
    others: NDArray[Any],
    positives: _Lists,
    labels: tuple[tuple[_Labels, _Labels] | None, tuple[_Labels, _Labels] | None],
    settings: dict[str, Any],
    n_threads: int,
) -> dict[str, Any]: ...
def sign_centre(rows: NDArray[Any], coder: dict[str, Any], n_threads: int) -> NDArray[np.float32]: ...
def sign_encode(
    rows: NDArray[Any], coder: dict[str, Any], n_threads: int, progress: _Progress
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]: ...
def sign_hamming(
    a: NDArray[np.uint64], b: NDArray[np.uint64], coder: dict[str, Any], n_threads: int
) -> NDArray[np.uint16]: ...
def sign_candidates(
    queries: NDArray[Any],
    signatures: NDArray[np.uint64],
    factors: NDArray[np.float32] | None,
    k: int,
    symmetric: bool,
    coder: dict[str, Any],
    n_threads: int,
    progress: _Progress,
) -> NDArray[np.int64]: ...
def batch_communities(
    conflicts: _Conflicts, mined: dict[str, Any], most: int, n_threads: int
) -> tuple[NDArray[np.int64], tuple[float, float]]: ...
def batch_conflicts(
    n_rows: int, keys: _Labels | None, groups: _Labels | None
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]: ...
def batch_sizes(
    conflicts: _Conflicts, batch_size: int, n_ranks: int, drop_last: bool, seed: int
) -> tuple[NDArray[np.int64], int]: ...
def batch_epoch(
    conflicts: _Conflicts,
    sizes: tuple[NDArray[np.int64], int],
    n_ranks: int,
    first: NDArray[np.int64],
    together: tuple[NDArray[np.int64], float] | None,
    seed: int,
    epoch: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...

_Ids: TypeAlias = NDArray[np.int64] | tuple[int, int, int]

@final
class BankPlaces:
    def __new__(cls, name: str, capacity: int, seed: int) -> Self: ...
    @staticmethod
    def restore(name: str, seed: int, seen: int, ids: NDArray[np.int64], chosen: NDArray[np.int64]) -> BankPlaces: ...
    def place(self, ids: NDArray[np.int64], mixes: bool) -> dict[str, Any]: ...
    def __len__(self) -> int: ...

@final
class BankShelf:
    def __new__(cls, metric: str, slots: int, dim: int) -> Self: ...
    def write(self, rows: NDArray[Any], slots: NDArray[np.int64], n_threads: int) -> None: ...
    def hardest(
        self,
        rows: NDArray[Any],
        numbers: NDArray[np.int64],
        anchors: NDArray[Any],
        k: int,
        excluded: list[tuple[str, NDArray[np.int64], NDArray[np.int64]]],
        max_scores: NDArray[np.float64] | None,
        n_threads: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...

@final
class ReservoirCore:
    @staticmethod
    def empty(method: str, capacity: int, seed: int) -> ReservoirCore: ...
    @staticmethod
    def keyed(
        capacity: int,
        seed: int,
        seen: int,
        ids: NDArray[np.int64],
        keys: NDArray[np.float64],
        threshold: float,
        threshold_id: int,
        heaviest: float,
    ) -> ReservoirCore: ...
    @staticmethod
    def skip(
        capacity: int, seed: int, seen: int, taken: int, ids: NDArray[np.int64], log_largest: float, wait: int
    ) -> ReservoirCore: ...
    @staticmethod
    def skip_weighted(
        capacity: int,
        seed: int,
        seen: int,
        taken: int,
        ids: NDArray[np.int64],
        keys: NDArray[np.float64],
        left: float,
        ones: int,
    ) -> ReservoirCore: ...
    @staticmethod
    def aged(
        capacity: int, seed: int, seen: int, ids: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> ReservoirCore: ...
    def state(self) -> dict[str, Any]: ...
    def add(self, ids: _Ids, weights: NDArray[np.float64] | None) -> None: ...
    def merge(self, other: ReservoirCore) -> None: ...
    def ids(self) -> NDArray[np.int64]: ...
    def probabilities(self) -> NDArray[np.float64]: ...
    def seen(self) -> int: ...
    def __len__(self) -> int: ...

def simd_level() -> str: ...
def available_threads() -> int: ...
def fingerprint(data: NDArray[np.uint8]) -> str: ...
def safetensors_layout(path: str | PathLike[str]) -> list[tuple[str, str, list[int], int, int]]: ...
def write_tensors(
    path: str | PathLike[str],
    tensors: list[tuple[str, str, list[int], NDArray[np.uint8]]],
    metadata: str,
) -> None: ...
def read_tensors(
    path: str | PathLike[str],
) -> tuple[list[tuple[str, str, list[int], NDArray[np.uint8]]], str]: ...

_Proposals: TypeAlias = tuple[
    str,
    NDArray[np.int64],
    NDArray[np.float32] | None,
    NDArray[np.float32] | None,
    NDArray[np.float32] | None,
]

@final
class DrawIdentity:
    def __new__(
        cls,
        n_rows: int,
        duplicates: NDArray[np.int64] | None,
        positives: _Lists,
        labels: list[tuple[str, tuple[Any, Any]]],
    ) -> Self: ...

@final
class DrawAllotment:
    def __new__(
        cls,
        identity: DrawIdentity,
        lists: list[_Proposals],
        most: int,
        seed: int,
        epoch: int,
    ) -> Self: ...

def tiered_draw(
    identity: DrawIdentity,
    allotment: DrawAllotment | None,
    usefulness: NDArray[np.float32],
    proposals: list[_Proposals],
    anchors: NDArray[np.int64],
    settings: dict[str, Any],
    n_threads: int,
) -> dict[str, NDArray[Any]]: ...
def pair_scores(queries: NDArray[Any], corpus: NDArray[Any], metric: str) -> NDArray[np.float32]: ...
def uniform_rows(
    n: int, width: int, anchors: NDArray[np.int64], seed: int, epoch: int, step: int
) -> NDArray[np.int64]: ...
def shuffled_rows(n: int, seed: int, epoch: int) -> NDArray[np.int64]: ...
