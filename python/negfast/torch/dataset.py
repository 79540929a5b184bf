"""Pairs joined with the negatives that were mined for them."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset

from negfast.arrays import Ints, integers
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, shown
from negfast.results import MinedNegatives
from negfast.settings import one_of, optional_whole, whole
from negfast.torch.epoch import SharedEpoch
from negfast.torch.negative_sampler import NegativeSampler
from negfast.torch.philox import random_bits

_Negatives = tuple[Ints, NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32] | None]
_NO_LIST = -1


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """An anchor, its positive, and its negatives.

    Attributes
    ----------
    anchor, positive : str, or whatever the pairs hold
    negatives : list of str, or whatever the corpus holds, length n
        The corpus rows that `negative_rows` names.
    row : int
        Row of the queries that the pair belongs to.
    negative_rows : ndarray of int64, shape (n,)
        Rows of the corpus, best first.
    scores : ndarray of float32, shape (n,)
    tiers : ndarray of uint8, shape (n,)
        0 for anchors without a positive, 1 easy, 2 semi-hard, 3 hard.
    log_weight : ndarray of float32, shape (n,), or None
        As :class:`Draw` has it, of negatives that a :class:`NegativeSampler` drew.
    """

    anchor: Any
    positive: Any
    negatives: list[Any]
    row: int
    negative_rows: Ints
    scores: NDArray[np.float32]
    tiers: NDArray[np.uint8]
    log_weight: NDArray[np.float32] | None = None


class NegativesDataset(Dataset[Example]):
    """Join a map-style data set of pairs with mined negatives.

    Parameters
    ----------
    pairs : sequence of (anchor, positive), or of mappings with named columns
        Anything with ``len`` and ``[]``, such as a list, a torch data set or a ``datasets.Dataset``.
    mined : MinedNegatives or NegativeSampler
        Negatives of the pairs' anchors, or a sampler that draws them, at step 0 of the epoch.
    corpus : sequence, length n_corpus
        What each row of the corpus is, its text for example.
    rows : int array of shape (n_pairs,), optional
        Row of the queries that each pair belongs to, for pairs that share an anchor. By default pair ``i`` belongs to
        row ``i``. A pair whose row was not mined for has no negatives.
    columns : pair of str, default ("anchor", "positive")
        Names of both columns, where pairs are mappings.
    num_negatives : int, optional
        Keep at most this many negatives of an example. All by default. Not for a sampler, which has a number of its
        own.
    choose : {"first", "random"}, default "first"
        Keep the first, which are the hardest where the draw was ``"top"``, or any, others each epoch.
    seed : int, default 0
        From 0 to 2**64 - 1, for ``choose="random"``.

    Raises
    ------
    InvalidTypeError
        If an argument, or a pair when it is read, has a wrong type.
    InvalidValueError
        If an argument lies out of its range, `corpus` is not as long as the one that was mined, or `rows` not as long
        as `pairs`.
    RowIndexError
        If `mined` has a list for a row that `pairs` do not have, or an index lies outside of the data set.

    Notes
    -----
    What ``choose="random"`` keeps is a function of seed, epoch and row of the queries alone, so it does not depend on
    workers, order or restarts. Negatives stay in their order, best first.

    The epoch lives in shared memory: :meth:`set_epoch` reaches the workers of a data loader, persistent ones too. Call
    it before the loop over the loader starts. Negatives that are mined anew need a new data set and a new loader.

    Examples
    --------
    >>> import negfast, numpy as np
    >>> from negfast.torch import NegativesDataset
    >>> corpus = ["a red fox", "a brown fox", "red wine", "brown bread"]
    >>> pairs = [("foxes that are red", "a red fox"), ("wine", "red wine")]
    >>> rows = np.array([[2, 0, 1], [1, 0, 2], [1, 2, 0], [0, 1, 0]], dtype=np.float32)
    >>> mined = negfast.mine(rows[[0, 2]], rows, [0, 2], num_negatives=2)
    >>> dataset = NegativesDataset(pairs, mined, corpus)
    >>> dataset[0].negatives, dataset[0].negative_rows.tolist()
    (['a brown fox', 'red wine'], [1, 2])
    """

    def __init__(
        self,
        pairs: Any,
        mined: MinedNegatives | NegativeSampler,
        corpus: Any,
        *,
        rows: NDArray[np.integer[Any]] | Sequence[int] | None = None,
        columns: tuple[str, str] = ("anchor", "positive"),
        num_negatives: int | None = None,
        choose: Literal["first", "random"] = "first",
        seed: int = 0,
    ) -> None:
        _check_sequence("pairs", pairs, "a list of (anchor, positive)")
        _check_sequence("corpus", corpus, "a list with one text per row")
        self._pairs = pairs
        self._corpus = corpus
        self._sampler = mined if isinstance(mined, NegativeSampler) else None
        if isinstance(mined, NegativeSampler):
            _check_sampler(mined, len(corpus), num_negatives, choose)
            self._rows = _rows_of_pairs(rows, len(pairs), np.arange(mined.n_queries))
        else:
            _check_mined(mined, len(corpus))
            # The report stays behind: a spawned worker gets a copy of all that is kept here.
            self._indices, self._scores, self._tiers = mined.indices, mined.scores, mined.tiers
            self._rows = _rows_of_pairs(rows, len(pairs), mined.anchors)
            self._lists = _positions(self._rows, mined.anchors)
        self._columns = _checked_columns(columns)
        self._most = optional_whole("num_negatives", num_negatives, low=1)
        self._random = one_of("choose", choose, ("first", "random")) == "random"
        self._seed = whole("seed", seed, low=0, high=2**64 - 1)
        self._epoch = SharedEpoch()
        if len(pairs) > 0:
            self[0]  # a wrong form of pairs is told here, not by a worker

    @property
    def epoch(self) -> int:
        """The epoch that ``choose="random"``, or the sampler, chooses for."""
        return self._epoch.value if self._sampler is None else self._sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose for this epoch from now on, in the workers of data loaders too; the sampler goes there with it.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `epoch` is no integer or below 0.
        """
        self._epoch.value = whole("epoch", epoch, low=0)
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        """Return one pair with its negatives."""
        index = self._checked(index)
        return self._example(index, self._pairs[index], self._negatives([index])[0])

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Return several pairs with their negatives; a data loader asks so for its batches."""
        places = [self._checked(index) for index in indices]
        read = getattr(self._pairs, "__getitems__", None)
        pairs = read(places) if read else [self._pairs[place] for place in places]
        negatives = self._negatives(places)
        return [self._example(*parts) for parts in zip(places, pairs, negatives, strict=True)]

    def _checked(self, index: int) -> int:
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise RowIndexError(f"index must be below the number of pairs, {len(self)}, got {place}; see len(dataset)")
        return place % len(self)

    def _example(self, index: int, pair: Any, negatives: _Negatives) -> Example:
        anchor, positive = self._parts(index, pair)
        negative_rows, scores, tiers, log_weight = negatives
        return Example(
            anchor=anchor,
            positive=positive,
            negatives=[self._corpus[negative] for negative in negative_rows.tolist()],
            row=int(self._rows[index]),
            negative_rows=negative_rows,
            scores=scores,
            tiers=tiers,
            log_weight=log_weight,
        )

    def _parts(self, index: int, pair: Any) -> tuple[Any, Any]:
        if isinstance(pair, Mapping):
            missing = [name for name in self._columns if name not in pair]
            if missing:
                raise InvalidValueError(
                    f"pairs[{index}] must have the columns {list(self._columns)}, got {shown(sorted(pair))}; "
                    'name them, columns=("question", "answer") for example'
                )
            return pair[self._columns[0]], pair[self._columns[1]]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidTypeError(
                f"pairs[{index}] must be (anchor, positive) or a mapping, got {type(pair).__name__} {shown(pair)}; "
                "drop or wrap what else it holds"
            )
        return pair[0], pair[1]

    def _negatives(self, places: list[int]) -> list[_Negatives]:
        """Return rows, scores, tiers and log weights of the negatives of the pairs at these places."""
        if self._sampler is None:
            return [self._listed(int(self._rows[place]), int(self._lists[place])) for place in places]
        draw = self._sampler.draw(self._rows[places], 0)
        parts = zip(draw.ids, draw.scores, draw.tiers, draw.log_weight, strict=True)
        return [(ids[ids >= 0], *(part[ids >= 0] for part in others)) for ids, *others in parts]

    def _listed(self, row: int, position: int) -> _Negatives:
        """Return what is kept of the list at `position`."""
        if position == _NO_LIST:
            return np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.uint8), None
        places = np.flatnonzero(self._indices[position] >= 0)
        if self._most is not None and len(places) > self._most:
            places = self._chosen(row, places)
        return self._indices[position, places], self._scores[position, places], self._tiers[position, places], None

    def _chosen(self, row: int, places: Ints) -> Ints:
        if not self._random:
            return places[: self._most]
        bits = random_bits(len(places), purpose="negatives", seed=self._seed, epoch=self.epoch, row=row)
        return places[np.sort(np.argsort(bits, kind="stable")[: self._most])]


def _check_sequence(argument: str, value: Any, remedy: str) -> None:
    if hasattr(value, "iloc"):  # pandas looks rows up by label, or even columns
        remedy = "use .tolist() of a series, or .to_dict('records') of a table"
    elif (
        not isinstance(value, str | bytes | Mapping | set | IterableDataset)
        and hasattr(value, "__len__")
        and hasattr(value, "__getitem__")
    ):
        return
    raise InvalidTypeError(f"{argument} must be a sequence, got {type(value).__name__}; {remedy}")


def _check_sampler(sampler: NegativeSampler, n_corpus: int, num_negatives: object, choose: object) -> None:
    if sampler.n_rows != n_corpus:
        raise InvalidValueError(
            f"corpus must have the {sampler.n_rows} rows that the sampler draws from, got {n_corpus}; "
            "pass the texts of the same rows in the same order"
        )
    if num_negatives is not None or choose != "first":
        raise InvalidValueError(
            f"num_negatives and choose must be left out with a sampler, got {shown(num_negatives)} and "
            f"{shown(choose)}; the sampler has num_negatives={sampler.num_negatives} and draws others each epoch"
        )


def _check_mined(mined: MinedNegatives, n_corpus: int) -> None:
    if not isinstance(mined, MinedNegatives):
        raise InvalidTypeError(
            f"mined must be a MinedNegatives or a NegativeSampler, got {type(mined).__name__}; pass what negfast.mine "
            "returned"
        )
    if mined.report.n_corpus != n_corpus:
        raise InvalidValueError(
            f"corpus must have the {mined.report.n_corpus} rows that were mined, got {n_corpus}; "
            "pass the texts of the same rows in the same order"
        )
    outside = np.argwhere((mined.indices < -1) | (mined.indices >= n_corpus))
    if outside.size:
        position, place = outside[0]
        raise RowIndexError(
            f"mined must hold rows of the corpus (0 to {n_corpus}, exclusive) and -1 for none, got "
            f"{mined.indices[position, place]} for row {mined.anchors[position]}; mine again"
        )


def _checked_columns(columns: Any) -> tuple[str, str]:
    if not isinstance(columns, tuple | list) or len(columns) != 2 or not all(isinstance(name, str) for name in columns):
        raise InvalidTypeError(f'columns must be two names, got {shown(columns)}; pass ("anchor", "positive")')
    return columns[0], columns[1]


def _rows_of_pairs(rows: Any, n_pairs: int, anchors: Ints) -> Ints:
    if rows is None:
        if anchors.size and anchors.max() >= n_pairs:
            raise RowIndexError(
                f"mined must have lists for rows of the {n_pairs} pairs, got one for row {anchors.max()}; "
                "pass the row of each pair as rows"
            )
        return np.arange(n_pairs, dtype=np.int64)
    array = integers("rows", rows)
    if array.shape != (n_pairs,):
        raise InvalidValueError(
            f"rows must be of shape ({n_pairs},), got {array.shape}; one row of the queries per pair"
        )
    if array.size and array.min() < 0:
        raise RowIndexError(
            f"rows must be 0 or more, got {array.min()} for pair {array.argmin()}; "
            "number the queries as in the call of negfast.mine"
        )
    return array


def _positions(rows: Ints, anchors: Ints) -> Ints:
    """Return where `anchors` holds each row."""
    if anchors.size == 0:
        return np.full(rows.shape, _NO_LIST, dtype=np.int64)
    order = np.argsort(anchors, kind="stable")
    found = order[np.minimum(np.searchsorted(anchors, rows, sorter=order), anchors.size - 1)]
    return np.where(anchors[found] == rows, found, _NO_LIST)
