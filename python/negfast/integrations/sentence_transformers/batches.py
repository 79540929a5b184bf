"""Hard batches inside the trainer of sentence-transformers."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.inputs import Labels, Lists
from negfast.keys import content_keys
from negfast.results import MinedNegatives
from negfast.torch.batches import HardBatchSampler as TorchSampler


class HardBatchSampler(DefaultBatchSampler):
    """Batches for losses that take the other rows of a batch for negatives: none false, and hard with mined lists.

    Pass the class to the arguments of the trainer, ``batch_sampler=HardBatchSampler``; or what :meth:`factory` returns,
    to set more than the trainer does.

    Parameters
    ----------
    dataset : datasets.Dataset
        Rows of the same text, in any column or in a list of texts, do not meet in a batch.
    batch_size, drop_last, seed : as the trainer sets them
    valid_label_columns : list of str, optional
        Columns that are no texts.
    generator : torch.Generator, optional
        Not used: batches are a function of `seed` and epoch.
    mined, groups, range_min, range_max, community, random_share : as in :class:`negfast.torch.HardBatchSampler`

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or value, or `dataset` is streamed.

    Notes
    -----
    Every process composes the batches of all n processes, and accelerate deals them out: batch ``i`` goes to process
    ``i % n``. The batches that go out in one step are clean together, for losses that gather across devices.

    Examples
    --------
    >>> from datasets import Dataset
    >>> from negfast.integrations.sentence_transformers import HardBatchSampler
    >>> dataset = Dataset.from_dict({"question": ["a", "b", "a", "c"], "answer": ["d", "e", "f", "g"]})
    >>> sampler = HardBatchSampler(dataset, batch_size=2, drop_last=True)
    >>> len(sampler), any({0, 2} == set(batch) for batch in sampler)
    (2, False)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        *,
        mined: MinedNegatives | None = None,
        groups: Labels | None = None,
        range_min: int = 0,
        range_max: int = 100,
        community: int = 32,
        random_share: float = 0.1,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise InvalidTypeError(
                f"dataset must be a datasets.Dataset, got {type(dataset).__name__}; batches are composed of rows that "
                "are all there"
            )
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self._batches = TorchSampler(
            len(dataset),
            batch_size,
            keys=text_keys(dataset, valid_label_columns or []),
            groups=groups,
            mined=mined,
            range_min=range_min,
            range_max=range_max,
            community=community,
            random_share=random_share,
            seed=seed,
            drop_last=drop_last,
            world_size=_processes(),
        )

    @classmethod
    def factory(cls, *, datasets: Dataset | Mapping[str, Dataset] | None = None, **settings: Any) -> "HardBatches":
        """Return what the trainer can call in the place of the class, with settings of its own.

        Parameters
        ----------
        datasets : Dataset or mapping of str to Dataset, optional
            The data set that `mined` and `groups` belong to, the same object that the trainer gets. Or several by
            name, such as a ``DatasetDict``: then `mined` and `groups` are mappings of these names. Any other data set,
            of evaluation for example, is composed without lists and groups.
        **settings
            Of `mined`, `groups`, `range_min`, `range_max`, `community`, `random_share`.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `datasets` are none, or `mined` and `groups` go by other names.

        Warns
        -----
        UserWarning
            When the trainer has batches made of a data set that is none of `datasets`, and not yet of each of them: it
            may be a copy.
        """
        if isinstance(datasets, Dataset):
            for name in _ARRAYS:
                _check_names(name, settings.get(name), None)
            settings |= {name: {"": settings[name]} for name in _ARRAYS if settings.get(name) is not None}
            datasets = {"": datasets}
        return HardBatches(settings, datasets=None if datasets is None else _checked_datasets(datasets))

    def __len__(self) -> int:
        """Return the number of batches of an epoch, of all processes together."""
        return len(self._batches) * self._batches.world_size

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the batches of the epoch, those of one step in a row."""
        return self._batches.of_all_ranks()

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch."""
        super().set_epoch(epoch)
        self._batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return what batches of this epoch and of later ones depend on; the trainer itself knows how far it got."""
        return self._batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the epoch that another sampler of the same rows was in, with the lists that it was begun with.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or of a sampler that was made otherwise, or damaged.
        """
        self._batches.load_state_dict(state)

    def update(self, mined: MinedNegatives) -> None:
        """Compose from these lists, from the next epoch on."""
        self._batches.update(mined)


_ARRAYS = ("mined", "groups")


@dataclass(frozen=True)
class HardBatches:
    """Makes a :class:`HardBatchSampler` for each data set that the trainer has.

    The trainer pickles its arguments with every checkpoint. Lists, groups and data sets are left out of that: they are
    large, and belong to the run. What is read back says what was set, and makes no sampler.
    """

    settings: dict[str, Any]
    complete: bool = True
    datasets: dict[str, Dataset] | None = None
    _met: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check that lists are of data sets that are there."""
        if self.complete:
            for name in _ARRAYS:
                _check_names(name, self.settings.get(name), self.datasets)

    def __call__(self, dataset: Dataset, **arguments: Any) -> HardBatchSampler:
        """Make the sampler of one data set, with what the trainer sets."""
        if not self.complete:
            raise StateError(
                "batch_sampler must be made anew, got one that was saved with its settings and without its lists; use "
                "HardBatchSampler.factory(...)"
            )
        return HardBatchSampler(dataset, **arguments, **self._settings_of(dataset))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the settings without arrays."""
        plain = {name: value for name, value in self.settings.items() if name not in _ARRAYS}
        return HardBatches, (plain, self.complete and len(plain) == len(self.settings))

    def _settings_of(self, dataset: Dataset) -> dict[str, Any]:
        """Return the settings for one data set, with its own lists and groups."""
        if self.datasets is None:
            _check_rows(self.settings.get("mined"), dataset)
            return self.settings
        name = next((name for name, own in self.datasets.items() if own is dataset), None)
        if name is not None:
            self._met.add(name)
        elif self._met != set(self.datasets):  # the trainer asks for those of evaluation last
            warnings.warn(
                f"batches of a data set of {len(dataset)} rows, which is none of those that HardBatchSampler.factory("
                "datasets=...) got, are composed without lists; pass there what the trainer gets, and not a copy of it",
                stacklevel=4,
            )
        own = {kind: (self.settings.get(kind) or {}).get(name) for kind in _ARRAYS}
        return {**self.settings, **own}


def _check_rows(mined: Any, dataset: Dataset) -> None:
    if isinstance(mined, MinedNegatives) and mined.report.n_corpus != len(dataset):
        raise InvalidValueError(
            f"mined must be lists of the {len(dataset)} rows of the data set, got lists of a corpus of "
            f"{mined.report.n_corpus} rows; mine these rows, or, if they are of another data set than the lists, such "
            "as one of evaluation, say which has them: HardBatchSampler.factory(datasets=train_dataset, mined=mined)"
        )


def _checked_datasets(datasets: Any) -> dict[str, Dataset]:
    if not isinstance(datasets, Mapping) or not all(isinstance(part, Dataset) for part in datasets.values()):
        held = datasets.values() if isinstance(datasets, Mapping) else [datasets]
        raise InvalidTypeError(
            "datasets must be a datasets.Dataset or a mapping of names to such, got "
            f"{sorted({type(part).__name__ for part in held})}; pass what the trainer gets"
        )
    return dict(datasets)


def _check_names(kind: str, value: Any, datasets: Mapping[str, Dataset] | None) -> None:
    """Refuse lists by name without data sets, lists of no name with them, and names of none."""
    if value is None:
        return
    if datasets is None:
        if isinstance(value, Mapping):
            raise InvalidValueError(
                f"datasets must be given by name where {kind} go by name, got no names; pass "
                f"HardBatchSampler.factory(datasets=dataset_dict, {kind}=...)"
            )
        return
    if not isinstance(value, Mapping):
        raise InvalidTypeError(
            f"{kind} must be a mapping of names of datasets, got {type(value).__name__}; pass {{name: {kind}}}"
        )
    unknown = [name for name in value if name not in datasets]
    if unknown:
        raise InvalidValueError(f"{kind} must be of datasets, {list(datasets)}, got {unknown}; name one of these")


def text_keys(dataset: Dataset, labels: list[str]) -> Lists:
    """Return the keys of all texts of each row, in CSR form; columns of numbers have none."""
    rows, keys = [], []
    for name in dataset.column_names:
        if name in labels:
            continue
        column = dataset.select_columns([name]).with_format("arrow")[:][name]
        owners, texts = _texts(column)
        if texts is not None:
            rows.append(owners)
            keys.append(content_keys(texts))
    owners = np.concatenate([*rows, np.empty(0, np.int64)])
    order = np.argsort(owners, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(dataset)))]).astype(np.int64)
    return indptr, np.concatenate([*keys, np.empty(0, np.int64)])[order]


def _texts(column: Any) -> tuple[Ints, Any]:
    """Return the texts of a column and their rows; ``None`` for the texts if it holds something else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        owners = np.asarray(pc.list_parent_indices(column)).astype(np.int64)
        column, kind = pc.list_flatten(column), kind.value_type
    else:
        owners = np.arange(len(column))
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return owners, column if is_text else None


def _processes() -> int:
    """Return how many processes train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
