"""What mining and searching return, and how it is saved."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from negfast._negfast import __version__, read_tensors, write_tensors
from negfast.errors import MissingExtraError, StateError
from negfast.recipe import Recipe
from negfast.report import SUSPECT_COLUMNS, Report, Suspects, TopKReport
from negfast.states import check_state

if TYPE_CHECKING:
    import torch

FORMAT = 2
"""Version of the saved form of :class:`MinedNegatives`."""
_ARRAYS = {
    "anchors": np.int64,
    "indices": np.int64,
    "scores": np.float32,
    "positive_scores": np.float32,
    "positive_ranks": np.int64,
    "tiers": np.uint8,
}
_SUSPECTS = {f"suspect_{name}": kind for name, kind in SUSPECT_COLUMNS.items()}


@dataclass(frozen=True, eq=False)
class TopK:
    """The nearest rows of each query.

    Attributes
    ----------
    indices : ndarray of int64, shape (n_queries, k)
        Corpus rows, best first, -1 where there are fewer than `k`.
    scores : ndarray of float32, shape (n_queries, k)
        Their scores, -inf beside -1.
    report : TopKReport
        What was done.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    report: TopKReport


class NegativeTensors(NamedTuple):
    """The arrays of a :class:`MinedNegatives` as torch tensors that share their memory.

    Attributes
    ----------
    indices : Tensor of int64, shape (n_anchors, num_negatives)
    scores : Tensor of float32, shape (n_anchors, num_negatives)
    positive_scores : Tensor of float32, shape (n_anchors,)
    tiers : Tensor of uint8, shape (n_anchors, num_negatives)
    """

    indices: "torch.Tensor"
    scores: "torch.Tensor"
    positive_scores: "torch.Tensor"
    tiers: "torch.Tensor"


@dataclass(frozen=True, eq=False, repr=False)
class MinedNegatives:
    """The negatives of every anchor.

    Attributes
    ----------
    anchors : ndarray of int64, shape (n_anchors,)
        The row of the queries that each list belongs to.
    indices : ndarray of int64, shape (n_anchors, num_negatives)
        Corpus rows, best first, -1 where fewer are allowed.
    scores : ndarray of float32, shape (n_anchors, num_negatives)
        Their scores, -inf beside -1.
    positive_scores : ndarray of float32, shape (n_anchors,)
        Lowest positive score of each anchor, NaN without a positive.
    positive_ranks : ndarray of int64, shape (n_anchors,)
        Rank of that positive in the whole corpus, 1 for the best; 0 without a positive.
    tiers : ndarray of uint8, shape (n_anchors, num_negatives)
        0 for padding and anchors without a positive, 1 easy, 2 semi-hard, 3 hard.
    report : Report
        What was searched, what each rule removed, score distributions, time and memory.
    recipe : Recipe
        The settings of the call, those that depend on its data filled in.
    fingerprints : dict of str to str
        Dtype, shape and hash of each input array.
    """

    anchors: NDArray[np.int64]
    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    positive_scores: NDArray[np.float32]
    positive_ranks: NDArray[np.int64]
    tiers: NDArray[np.uint8]
    report: Report
    recipe: Recipe = Recipe()  # noqa: RUF009 - frozen
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of anchors."""
        return int(self.indices.shape[0])

    def __repr__(self) -> str:
        """Return a few lines for people."""
        n, k = self.indices.shape
        report = self.report
        tiers = ", ".join(f"{name.replace('_', '-')} {count:,}" for name, count in report.tiers.items() if count)
        return (
            f"MinedNegatives: {n:,} anchors x {k} negatives from {report.n_corpus:,} rows ({report.metric})\n"
            f"  scores: negatives median {report.negatives.values[3]:.3f}, "
            f"positives median {report.positives.values[3]:.3f}\n"
            f"  tiers: {tiers or 'none'}; missing: {report.missing_negatives:,}\n"
            f"  first anchor: indices {_brief(self.indices)}, scores {_brief(self.scores)}"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a safetensors file, through a temporary name in the same folder.

        Parameters
        ----------
        path : str or path-like
            The file; it is replaced if it exists.

        Raises
        ------
        OSError
            If it cannot be written.

        Examples
        --------
        >>> import negfast, numpy as np, tempfile, pathlib
        >>> rows = np.eye(4, 8, dtype=np.float32)
        >>> mined = negfast.mine(rows, rows, np.arange(4), num_negatives=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mined.save(pathlib.Path(folder) / "mined.safetensors")
        ...     again = negfast.MinedNegatives.load(pathlib.Path(folder) / "mined.safetensors")
        >>> bool((again.indices == mined.indices).all())
        True
        """
        state = self.to_dict()
        tensors = [_tensor(name, array) for name, array in state.items() if name != "settings"]
        write_tensors(os.fsdecode(path), tensors, json.dumps(state["settings"], allow_nan=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "MinedNegatives":
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        MinedNegatives

        Raises
        ------
        StateError
            If the file is corrupt, holds something else, or is of a later version.
        OSError
            If it cannot be read.
        """
        name = os.fsdecode(path)
        tensors, text = read_tensors(name)
        try:
            metadata = json.loads(text)
            arrays = {tensor: data.view(dtype).reshape(shape) for tensor, dtype, shape, data in tensors}
        except (ValueError, TypeError, RecursionError) as error:
            raise StateError(f"{name} is no file that negfast saved: {error}") from error
        return cls._of(metadata, arrays, name)

    def to_dict(self) -> dict[str, Any]:
        """Return everything: settings and report as plain values under "settings", the rest as arrays.

        Returns
        -------
        dict
            The arrays are not copied.
        """
        suspects = self.report.suspects
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"suspect_{name}": getattr(suspects, name) for name in SUSPECT_COLUMNS}
        # The header of a file is small, and there can be millions of suspects.
        none = Suspects(**{name: column[:0] for name, column in vars(suspects).items()})
        report = replace(self.report, suspects=none).to_dict()
        del report["suspects"]
        settings = {
            "format": FORMAT,
            "kind": "MinedNegatives",
            "versions": {"negfast": __version__, "numpy": np.__version__},
            "recipe": self.recipe.to_dict(),
            "fingerprints": self.fingerprints,
            "report": report,
        }
        return {"settings": settings, **arrays}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "MinedNegatives":
        """Make one from what :meth:`to_dict` returned.

        Parameters
        ----------
        state : mapping
            Tensors are taken for arrays.

        Returns
        -------
        MinedNegatives

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is damaged, holds something else, or is of a later version.
        """
        check_state(state, {}, "these lists")
        arrays = {name: np.asarray(value) for name, value in state.items() if name != "settings"}
        return cls._of(state.get("settings"), arrays, "state")

    @classmethod
    def _of(cls, metadata: Any, arrays: dict[str, Any], name: str) -> "MinedNegatives":
        """Put together what was saved under that name."""
        try:
            kind, version = metadata["kind"], metadata["format"]
        except (KeyError, TypeError) as error:
            raise StateError(f"{name} is no file that negfast saved: {error}") from error
        if kind != "MinedNegatives" or version != FORMAT:
            raise StateError(
                f"{name} must hold MinedNegatives of format {FORMAT}, got {kind} of format {version}; "
                "read it with the version of negfast that wrote it"
            )
        try:
            _check_arrays(arrays)
            suspects = {column: arrays.pop(f"suspect_{column}") for column in SUSPECT_COLUMNS}
            report = Report.from_dict({**metadata["report"], "suspects": suspects})
            recipe = Recipe.from_dict(metadata["recipe"])
            _check_values(arrays, report, recipe)
            mined = cls(**arrays, report=report, recipe=recipe, fingerprints=dict(metadata["fingerprints"]))
            # Whatever is shown of it later is looked at now.
            repr(mined), str(report), json.dumps(report.to_dict())
            return mined
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise StateError(f"{name} is damaged: {error!r}; mine again") from error

    def to_torch(self) -> NegativeTensors:
        """Return the arrays as torch tensors; nothing is copied.

        Returns
        -------
        NegativeTensors
            ``indices``, ``scores``, ``positive_scores`` and ``tiers``.

        Raises
        ------
        MissingExtraError
            If torch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("to_torch needs torch; install negfast[torch]") from error
        return NegativeTensors(*(torch.from_numpy(getattr(self, name)) for name in NegativeTensors._fields))


def _tensor(name: str, array: NDArray[Any]) -> tuple[str, str, list[int], NDArray[np.uint8]]:
    array = np.ascontiguousarray(array)
    return name, array.dtype.name, list(array.shape), array.reshape(-1).view(np.uint8)


def _check_arrays(arrays: dict[str, NDArray[Any]]) -> None:
    found = {name: array.dtype for name, array in arrays.items()}
    if found != {name: np.dtype(kind) for name, kind in {**_ARRAYS, **_SUSPECTS}.items()}:
        raise ValueError(f"tensors {found}")
    shape, length = arrays["indices"].shape, arrays["suspect_anchors"].size
    expected = {
        **dict.fromkeys(_ARRAYS, shape),
        **dict.fromkeys(("anchors", "positive_scores", "positive_ranks"), shape[:1]),
        **dict.fromkeys(_SUSPECTS, (length,)),
    }
    if len(shape) != 2 or any(array.shape != expected[name] for name, array in arrays.items()):
        raise ValueError(f"shapes {[array.shape for array in arrays.values()]}")


def _check_values(arrays: dict[str, NDArray[Any]], report: Report, recipe: Recipe) -> None:
    """Refuse numbers that no run gives: they would be taken as row numbers and as places in tables."""
    n_anchors, width = arrays["indices"].shape
    sizes = (report.n_queries, report.n_corpus, report.num_negatives)
    if not all(type(size) is int for size in sizes) or (n_anchors, width) != (report.n_queries, recipe.num_negatives):
        raise ValueError(f"sizes {sizes} of lists {arrays['indices'].shape}")
    outside = (arrays["indices"] < -1) | (arrays["indices"] >= report.n_corpus)
    anchors = arrays["anchors"]
    if outside.any() or (arrays["tiers"] > 3).any() or (anchors < 0).any() or len(np.unique(anchors)) < len(anchors):
        raise ValueError("numbers of rows or tiers that there are not")


def _brief(rows: NDArray[Any]) -> str:
    if rows.size == 0:
        return "[]"
    shown = [f"{x:.3f}" if rows.dtype.kind == "f" else str(x) for x in rows[0, :4]]
    return f"[{', '.join(shown)}{', ...' if rows.shape[1] > 4 else ''}]"
