"""Batches of examples, with each negative once and a mask of what may count as one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from negfast.errors import InvalidTypeError
from negfast.torch.dataset import Example
from negfast.torch.mask import KnownPositives, negatives_mask


@dataclass(frozen=True, eq=False)
class NegativesBatch:
    """A batch of b examples with n distinct negatives.

    Attributes
    ----------
    anchors : list of length b, or what `encode` made of it
    documents : list of length b + n, or what `encode` made of it
        The positives of the examples in their order, then the distinct negatives. They are one list so that the model
        sees them in one pass, and so that a batch without a negative is no special case.
    rows : Tensor of int64, shape (b,)
        Rows of the queries.
    negative_rows : Tensor of int64, shape (n,)
        Rows of the corpus that ``documents[b:]`` are.
    negative_index : Tensor of int64, shape (b, most)
        Each example's own negatives, best first, as places in `negative_rows`; -1 beyond the last. Document ``b + i``
        is negative ``i``.
    scores : Tensor of float32, shape (b, most)
        Their scores when they were mined, -inf beside -1.
    tiers : Tensor of uint8, shape (b, most)
        Their tiers, 0 beside -1.
    log_weight : Tensor of float32, shape (b, most)
        Their log weights, 0 where no :class:`NegativeSampler` drew them, -inf beside -1.
    mask : Tensor of bool, shape (b, b + n)
        Whether a document belongs in an anchor's softmax: true for its own positive and for all that may be its
        negatives, false for what is known to be another positive.
    """

    anchors: Any
    documents: Any
    rows: torch.Tensor
    negative_rows: torch.Tensor
    negative_index: torch.Tensor
    scores: torch.Tensor
    tiers: torch.Tensor
    log_weight: torch.Tensor
    mask: torch.Tensor

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "NegativesBatch":
        """Return the batch with all tensors on a device; texts stay as they are."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "NegativesBatch":
        """Return the batch with all tensors in pinned memory, as a data loader with ``pin_memory=True`` asks."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "NegativesBatch":
        return NegativesBatch(**{field.name: _changed(getattr(self, field.name), change) for field in fields(self)})


class NegativesCollator:
    """Put examples together to a batch for a loss over in-batch and mined negatives.

    Parameters
    ----------
    encode : callable, optional
        Takes a list of what the pairs or the corpus hold and returns what the model takes, a tokenizer for example: a
        tensor, or a mapping (a dict after :meth:`NegativesBatch.to`), tuple or list of tensors. It runs in the workers
        of a data loader, once for the anchors and once for the documents. ``None``: batches hold the lists.
    positives : int array padded with -1, list of lists, or CSR tuple (indptr, indices), optional
        Corpus rows that are positives of each row of the queries, as given to :func:`negfast.mine`.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If `encode` cannot be called, `positives` are in another form, or, in a call, an example is none.
    RowIndexError
        If `positives` hold a row below 0, or, in a call, have no list for the row of an example.

    Notes
    -----
    A document is masked as a positive of an anchor if it is the positive of an example of the same anchor, if it is a
    negative that `positives` name for the anchor, or if it reads as one of those or as the anchor itself (texts are
    compared as by :func:`negfast.content_keys`; anchors are the same if their row or text is). Which row of the corpus
    an example's positive is, a pair does not say. So anchors that share a known positive are not given each other's
    positives as negatives: at worst, a negative is lost.

    Masks are for one batch. Over documents gathered from several ranks, gather what they are made of and make the mask
    from that.

    Examples
    --------
    InfoNCE (A. van den Oord, Y. Li and O. Vinyals, *Representation learning with contrastive predictive coding*, 2018)
    over the positives of the batch and all its mined negatives:

    >>> import negfast, numpy as np, torch
    >>> from torch.nn.functional import cross_entropy, normalize
    >>> from negfast.torch import NegativesCollator, NegativesDataset
    >>> corpus = ["a red fox", "a brown fox", "red wine", "brown bread"]
    >>> pairs = [("foxes", "a red fox"), ("wine", "red wine"), ("what is brown", "a brown fox")]
    >>> rows = np.array([[2, 0, 1], [1, 0, 2], [1, 2, 0], [0, 1, 0]], dtype=np.float32)
    >>> positives = [[0, 1], [2], [1, 3]]
    >>> mined = negfast.mine(rows[[0, 2, 1]], rows, positives, num_negatives=1)
    >>> dataset = NegativesDataset(pairs, mined, corpus)

    Foxes are also what is brown, by the positives, and what is brown is also bread. "red wine" is there as a positive
    and as a negative:

    >>> batch = NegativesCollator(positives=positives)([dataset[i] for i in range(3)])
    >>> batch.documents
    ['a red fox', 'red wine', 'a brown fox', 'red wine', 'brown bread']
    >>> print(batch.mask.int().numpy())
    [[1 1 0 1 1]
     [1 1 1 0 1]
     [0 1 1 1 0]]

    Here the encoder counts letters and the model is one layer:

    >>> letters = "abcdefghijklmnopqrstuvwxyz"
    >>> def encode(texts):
    ...     return torch.tensor([[float(text.count(letter)) for letter in letters] for text in texts])
    >>> model = torch.nn.Linear(26, 8)
    >>> loader = torch.utils.data.DataLoader(dataset, batch_size=3, collate_fn=NegativesCollator(encode, positives))
    >>> for batch in loader:
    ...     anchors, documents = normalize(model(batch.anchors)), normalize(model(batch.documents))
    ...     scores = anchors @ documents.T / 0.05  # (batch, batch + negatives)
    ...     scores = scores.masked_fill(~batch.mask, -torch.inf)
    ...     loss = cross_entropy(scores, torch.arange(len(batch)))  # document i is the positive of anchor i
    ...     loss.backward()
    """

    def __init__(self, encode: Callable[[list[Any]], Any] | None = None, positives: Any = None) -> None:
        if encode is not None and not callable(encode):
            raise InvalidTypeError(
                f"encode must be callable or None, got {type(encode).__name__}; pass a function of a list of texts"
            )
        self._encode = list if encode is None else encode
        self._known = KnownPositives(positives)

    def __call__(self, examples: Sequence[Example]) -> NegativesBatch:
        """Return the batch of these examples."""
        _check_examples(examples)
        distinct = {
            row: negative
            for example in examples
            for row, negative in zip(example.negative_rows.tolist(), example.negatives, strict=True)
        }
        place = {row: i for i, row in enumerate(distinct)}
        rows = [example.row for example in examples]
        anchors = [example.anchor for example in examples]
        documents = [*(example.positive for example in examples), *distinct.values()]
        mask = negatives_mask(rows, anchors, documents, list(distinct), self._known)
        index = ([place[row] for row in example.negative_rows.tolist()] for example in examples)
        return NegativesBatch(
            anchors=self._encode(anchors),
            documents=self._encode(documents),
            rows=torch.tensor(rows, dtype=torch.int64),
            negative_rows=torch.tensor(list(distinct), dtype=torch.int64),
            negative_index=_padded(index, len(examples), np.int64, -1),
            scores=_padded((example.scores for example in examples), len(examples), np.float32, -np.inf),
            tiers=_padded((example.tiers for example in examples), len(examples), np.uint8, 0),
            log_weight=_padded(map(_log_weight, examples), len(examples), np.float32, -np.inf),
            mask=torch.from_numpy(mask),
        )


def _check_examples(examples: Sequence[Example]) -> None:
    for i, example in enumerate(examples):
        if not isinstance(example, Example):
            raise InvalidTypeError(
                f"examples[{i}] must be an Example, got {type(example).__name__}; collate what a "
                "NegativesDataset returns"
            )


def _log_weight(example: Example) -> NDArray[np.float32]:
    if example.log_weight is None:
        return np.zeros(len(example.negative_rows), dtype=np.float32)
    return example.log_weight


def _padded(lists: Iterable[Any], n: int, dtype: Any, fill: float) -> torch.Tensor:
    """Return lists as one tensor, as wide as the longest."""
    held = list(lists)
    array: NDArray[Any] = np.full((n, max(map(len, held), default=0)), fill, dtype=dtype)
    for row, values in zip(array, held, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(array)


def _changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a value with each tensor in it changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _changed(part, change) for name, part in value.items()}
    if isinstance(value, tuple | list):
        make = getattr(type(value), "_make", type(value))  # named tuples take their parts one by one
        return make(_changed(part, change) for part in value)
    return value
