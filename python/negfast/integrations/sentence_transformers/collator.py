"""Batches of the trainer with row numbers, keys of texts, and negatives that are drawn when a batch is made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import arrow_dataset
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from negfast import inputs
from negfast.arrays import Ints, integers
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, shown
from negfast.integrations.sentence_transformers.features import DRAWN, ColumnLabels
from negfast.integrations.sentence_transformers.rows import ROW_COLUMN
from negfast.keys import content_keys
from negfast.settings import truth
from negfast.torch.negative_sampler import NegativeSampler

_MANY_AT_ONCE = getattr(arrow_dataset, "Column", ())  # a column that is read from its file; a list in older versions


@dataclass
class NegativesDataCollator(SentenceTransformerDataCollator):
    """Batches for :class:`CurriculumLoss`: with row numbers, keys of the texts, and drawn negatives.

    Texts, labels, prompts and tasks of a router go the way of ``SentenceTransformerDataCollator``, which it extends.
    Parameters of that class come first; :meth:`for_training` takes them from the model and the arguments of the
    trainer.

    Parameters
    ----------
    sampler : NegativeSampler, optional
        Draws negatives for the rows of a batch, when the batch is made.
    corpus : sequence of str, optional
        With `sampler`: the text of each row that it draws from. A column of a ``datasets.Dataset``, which is mapped
        into memory, is read where it lies; a list is copied to each worker that is spawned.
    positives : as in :func:`negfast.mine`, optional
        With `sampler`: rows of the corpus that are positives of each row of the queries.
    groups : pair of int arrays, shapes (n_queries,) and (n_rows,), optional
        Labels of queries and of rows of the corpus, -1 for none; rows are no negatives of an anchor with their label.
        With `sampler`.
    row_column : str, default "row"
        The column with the row of the queries that each pair belongs to, see :func:`number_rows`; -1 where there is
        none. Nothing is drawn for such pairs.
    log_weight : bool, default True
        Whether the loss gets the log weights of the draw, with which a few rows stand for the whole corpus.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type, or some that go together were not given; in a call, if pairs have no second
        text, or no row although there is a sampler.
    RowIndexError
        If `positives` hold a number that is no row, or, in a call, a pair has none.

    Notes
    -----
    The first two columns of texts are anchor and positive, and all further ones negatives, as everywhere in
    sentence-transformers. Negatives that are drawn come as one more column, each text once, with the prompt and the
    task of the positives; how many there are differs from batch to batch.

    Which row of the corpus a positive is, `positives` say where they name one for its row, and the text of the corpus
    where they name several. Without a sampler the positive of row ``i`` is document ``i``.

    A draw depends on the sampler's epoch and what it published last, both in shared memory: the workers of a data
    loader follow the training, persistent ones too, whether they were forked or spawned. :class:`CurriculumCallback`
    sets them.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from negfast.integrations.sentence_transformers import NegativesDataCollator
    >>> from negfast.torch import NegativeSampler, UniformRows
    >>> corpus = ["red fox", "red wine", "brown bread", "brown bear"]
    >>> sampler = NegativeSampler(
    ...     [UniformRows(4)], num_negatives=1, probabilities={}, min_random=1, positives=[[0], [1]]
    ... )
    >>> def letters(texts, prompt=None, task=None):
    ...     return {"input_ids": torch.tensor([[len(text)] for text in texts])}
    >>> collator = NegativesDataCollator(letters, sampler=sampler, corpus=corpus, positives=[[0], [1]])
    >>> batch = collator(
    ...     [{"anchor": "fox", "positive": "red fox", "row": 0}, {"anchor": "wine", "positive": "red wine", "row": 1}]
    ... )
    >>> batch["anchor_negfast_ids"].tolist(), batch["negfast_drawn_negfast_index"].shape
    ([0, 1], torch.Size([2, 1]))
    """

    sampler: NegativeSampler | None = field(default=None, kw_only=True, repr=False)
    corpus: Sequence[str] | None = field(default=None, kw_only=True, repr=False)
    positives: Any = field(default=None, kw_only=True, repr=False)
    groups: Any = field(default=None, kw_only=True, repr=False)
    row_column: str = field(default=ROW_COLUMN, kw_only=True)
    log_weight: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Check what was given."""
        if not isinstance(self.row_column, str):
            raise InvalidTypeError(f"row_column must be a str, got {shown(self.row_column)}; name the column")
        truth("log_weight", self.log_weight)
        if self.sampler is None:
            given = [name for name in ("corpus", "positives", "groups") if getattr(self, name) is not None]
            if given:
                raise InvalidValueError(f"{given[0]} must come with sampler, got none; pass a NegativeSampler")
            return
        _check_sampler(self.sampler, self.corpus, self.positives)
        self.positives = inputs.row_lists("positives", self.positives, self.sampler.n_queries)
        if self.positives[1].size and not 0 <= self.positives[1].min() <= self.positives[1].max() < self.sampler.n_rows:
            raise RowIndexError(f"positives must hold rows of the corpus (0 to {self.sampler.n_rows}, exclusive)")
        if self.groups is not None:
            self.groups = _checked_groups(self.groups, (self.sampler.n_queries, self.sampler.n_rows))

    @classmethod
    def for_training(
        cls,
        model: Any,
        args: Any,
        *,
        sampler: NegativeSampler | None = None,
        corpus: Sequence[str] | None = None,
        positives: Any = None,
        groups: Any = None,
        row_column: str = ROW_COLUMN,
        log_weight: bool = True,
    ) -> "NegativesDataCollator":
        """Return the collator for a model and the arguments of its trainer.

        Parameters
        ----------
        model : SentenceTransformer
        args : SentenceTransformerTrainingArguments
            Say prompts, the mapping of a router and lengths.
        sampler, corpus, positives, groups, row_column, log_weight
            As in the class.
        """
        return cls(
            preprocess_fn=model.preprocess,
            router_mapping=args.router_mapping,
            prompts=args.prompts,
            max_length=getattr(args, "max_length", None),
            sampler=sampler,
            corpus=corpus,
            positives=positives,
            groups=groups,
            row_column=row_column,
            log_weight=log_weight,
        )

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch of these rows of the data set."""
        if not features:
            return {}
        rows = self._rows(features)
        features = [{name: value for name, value in row.items() if name != self.row_column} for row in features]
        batch = super().__call__(features)
        anchor, positive, *others = self._text_columns(features[0])
        texts = {name: [row[name] for row in features] for name in (anchor, positive, *others)}
        ids = self._rows_of_positives(rows, texts[positive])
        batch |= self._labels(rows, texts[anchor], side=0).entries(anchor)
        batch |= self._labels(ids, texts[positive], side=1, known=self._known(rows)).entries(positive)
        for name in others:
            batch |= ColumnLabels(keys=_keys(texts[name])).entries(name)
        if self.sampler is not None and rows is not None and (rows >= 0).any():
            batch |= self._drawn(rows, texts[positive][0], positive, batch.get("dataset_name"))
        return batch

    def maybe_warn_about_column_order(self, column_names: list[str]) -> None:
        """Warn of columns that are not in the expected order; drawn negatives, which come alone, have none."""
        if len(column_names) > 1:
            super().maybe_warn_about_column_order(column_names)

    def _rows(self, features: list[dict[str, Any]]) -> Ints | None:
        """Return the rows of the queries that pairs belong to, if they say so."""
        if self.row_column not in features[0]:
            if self.sampler is None:
                return None
            raise InvalidValueError(
                f"features must have the column {self.row_column!r}, for which negatives are drawn, got "
                f"{shown(sorted(features[0]))}; use number_rows(dataset), and number_rows(dataset, start=None) for "
                "evaluation"
            )
        rows = np.array([int(row[self.row_column]) for row in features], dtype=np.int64)
        if self.sampler is not None and rows.max(initial=-1) >= self.sampler.n_queries:
            raise RowIndexError(
                f"column {self.row_column!r} must hold rows of the {self.sampler.n_queries} queries that the sampler "
                f"knows, or -1, got {rows.max()}; number the rows as they were mined"
            )
        return rows

    def _text_columns(self, example: dict[str, Any]) -> list[str]:
        names = [name for name in example if name != "dataset_name"]
        label = next((name for name in self.valid_label_columns if name in names), None)
        columns = [name for name in names if name != label]
        if len(columns) < 2:
            raise InvalidValueError(
                f"features must have a column of anchors and one of positives, got {columns}; add the second"
            )
        return columns

    def _labels(
        self, ids: Ints | None, texts: list[Any], *, side: int, known: torch.Tensor | None = None
    ) -> ColumnLabels:
        """Return what is known of texts; `side` is 0 for queries and 1 for rows of the corpus."""
        groups = None
        if self.groups is not None and ids is not None:
            groups = torch.from_numpy(np.where(ids >= 0, self.groups[side][ids], -1))
        return ColumnLabels(
            ids=None if ids is None else torch.from_numpy(ids), groups=groups, keys=_keys(texts), known_positives=known
        )

    def _rows_of_positives(self, rows: Ints | None, texts: list[Any]) -> Ints | None:
        """Return which rows of the corpus the positives are, -1 for those that are not known."""
        if rows is None or self.sampler is None:
            return rows
        return np.array([self._row_of(row, text) for row, text in zip(rows.tolist(), texts, strict=True)], np.int64)

    def _row_of(self, row: int, text: Any) -> int:
        known = self._positives_of(row).tolist()
        if len(known) < 2:
            return known[0] if known else -1
        return next((place for place, own in zip(known, self._read(known), strict=True) if own == text), -1)

    def _known(self, rows: Ints | None) -> torch.Tensor | None:
        """Return the known positives of each row, padded with -1."""
        if rows is None or self.sampler is None:
            return None
        lists = [self._positives_of(row) for row in rows.tolist()]
        known = np.full((len(lists), max(map(len, lists))), -1, dtype=np.int64)
        for line, found in zip(known, lists, strict=True):
            line[: len(found)] = found
        return torch.from_numpy(known)

    def _positives_of(self, row: int) -> Ints:
        indptr, indices = self.positives
        found: Ints = indices[indptr[row] : indptr[row + 1]] if row >= 0 else indices[:0]
        return found

    def _drawn(self, rows: Ints, filler: Any, column: str, dataset_name: Any) -> dict[str, Any]:
        """Return negatives for the rows as one more column, each text once."""
        assert self.sampler is not None
        draw = self.sampler.draw(rows[rows >= 0], 0)
        ids, tiers, log_weight = (_spread(part, rows >= 0) for part in (draw.ids, draw.tiers, draw.log_weight))
        ids[rows < 0], log_weight[rows < 0] = -1, -np.inf
        distinct, places = np.unique(ids[ids >= 0], return_inverse=True)
        index = np.full(ids.shape, -1, dtype=np.int64)
        index[ids >= 0] = places
        # Where all ranks have to run the model alike, a batch without negatives has one too, that is nobody's own.
        texts = self._read(distinct.tolist()) if len(distinct) else [filler]
        labels = self._labels(distinct if len(distinct) else np.array([-1]), texts, side=1)
        drawn = ColumnLabels(
            ids=labels.ids,
            groups=labels.groups,
            keys=labels.keys,
            index=torch.from_numpy(index),
            tiers=torch.from_numpy(tiers),
            log_weight=torch.from_numpy(log_weight) if self.log_weight else None,
        )
        named = {} if dataset_name is None else {"dataset_name": dataset_name}
        encoded = super().__call__([{column: text, **named} for text in texts])
        own = {name.removeprefix(f"{column}_"): part for name, part in encoded.items() if name != "dataset_name"}
        return {f"{DRAWN}_{name}": part for name, part in own.items()} | drawn.entries(DRAWN)

    def _read(self, rows: list[int]) -> list[Any]:
        """Return texts of the corpus."""
        corpus: Any = self.corpus
        if isinstance(corpus, _MANY_AT_ONCE):
            return list(corpus[rows])
        return [corpus[row] for row in rows]


def _check_sampler(sampler: Any, corpus: Any, positives: Any) -> None:
    if not isinstance(sampler, NegativeSampler):
        raise InvalidTypeError(
            f"sampler must be a NegativeSampler, got {type(sampler).__name__}; make one with MinedRows(mined)"
        )
    for name, value in (("corpus", corpus), ("positives", positives)):
        if value is None:
            raise InvalidValueError(f"{name} must come with sampler, got None; pass what was mined with")
    if isinstance(corpus, str) or not hasattr(corpus, "__len__") or not hasattr(corpus, "__getitem__"):
        raise InvalidTypeError(
            f"corpus must be a list or a column of a data set, got {type(corpus).__name__}; one text per row"
        )
    if len(corpus) != sampler.n_rows:
        raise InvalidValueError(
            f"corpus must have the {sampler.n_rows} rows that the sampler draws from, got {len(corpus)}; pass the "
            "texts of the same rows in the same order"
        )


def _checked_groups(groups: Any, sizes: tuple[int, int]) -> tuple[Ints, Ints]:
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise InvalidTypeError(f"groups must be a pair of arrays, of queries and corpus, got {shown(groups)}")
    sides = integers("groups of the queries", groups[0]), integers("groups of the corpus", groups[1])
    for name, side, size in zip(("queries", "corpus"), sides, sizes, strict=True):
        if side.shape != (size,):
            raise InvalidValueError(
                f"groups of the {name} must be of shape ({size},), got {side.shape}; one label per row"
            )
    return sides


def _keys(texts: list[Any]) -> torch.Tensor:
    return torch.from_numpy(content_keys([text if isinstance(text, str) else None for text in texts]))


def _spread(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """Return an array with these rows where `where` is true, and zeros elsewhere."""
    spread = np.zeros((len(where), *values.shape[1:]), dtype=values.dtype)
    spread[where] = values
    return spread
