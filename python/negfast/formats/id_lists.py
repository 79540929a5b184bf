"""What is listed for each query by id: judgements, or a ranking with scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.results import TopK

Lists = tuple[Ints, Ints]


@dataclass(frozen=True, eq=False, repr=False)
class IdLists:
    """Rows of a corpus that are listed for queries, by id, each with a number.

    Attributes
    ----------
    query_ids, corpus_ids : list of str
        Ids of the queries and of the rows that are listed, each once.
    lists : pair of int64 arrays
        Places in `corpus_ids` for each query, in CSR form: those of query ``i`` are
        ``indices[indptr[i]:indptr[i + 1]]``.
    values : ndarray of int64 or float32, shape (n_entries,)
        The grade of each entry where they are judgements, its score where they are a ranking.

    Examples
    --------
    >>> import negfast, numpy as np
    >>> from negfast.formats import IdLists
    >>> rows = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    >>> IdLists.from_topk(negfast.topk(rows, rows, 2), ["q1", "q2"], ["d1", "d2"]).to_dict()["q1"]["d1"]
    1.0
    """

    query_ids: list[str]
    corpus_ids: list[str]
    lists: Lists
    values: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.query_ids)

    def __repr__(self) -> str:
        """Return one line for people."""
        kind = "judged" if self.values.dtype.kind == "i" else "ranked"
        return f"IdLists: {len(self):,} queries, {self.values.size:,} rows {kind}"

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain dictionaries, as pytrec_eval, ranx and beir take them.

        Returns
        -------
        dict of str to dict of str to int or float
            For each query the number of each row.
        """
        indptr, indices = self.lists
        rows, values = indices.tolist(), self.values.tolist()
        bounds = indptr.tolist()
        return {
            query: {self.corpus_ids[rows[i]]: values[i] for i in range(bounds[place], bounds[place + 1])}
            for place, query in enumerate(self.query_ids)
        }

    @classmethod
    def from_topk(cls, found: TopK, query_ids: Sequence[str], corpus_ids: Sequence[str]) -> "IdLists":
        """Return what :func:`negfast.topk` found, by id.

        Parameters
        ----------
        found : TopK
        query_ids, corpus_ids : sequence of str
            Ids of the rows that were searched with and in.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `found` is something else, or ids are no texts, are there twice, or are not as many as the rows.
        """
        if not isinstance(found, TopK):
            raise InvalidTypeError(
                f"found must be a TopK, got {type(found).__name__}; pass what negfast.topk returned, or for mined "
                "negatives use RetrievalData.of(...).run()"
            )
        queries, corpus = checked_ids("query_ids", query_ids), checked_ids("corpus_ids", corpus_ids)
        refuse_other_length("query_ids", queries, len(found.indices), "rows that were searched with")
        refuse_other_length("corpus_ids", corpus, found.report.n_corpus, "rows that were searched in")
        real = found.indices >= 0
        indptr = np.concatenate([[0], np.cumsum(real.sum(axis=1))]).astype(np.int64)
        return cls(queries, corpus, (indptr, found.indices[real]), found.scores[real])


def checked_ids(argument: str, ids: Sequence[str]) -> list[str]:
    """Return ids as a list, and refuse what is no text or there twice."""
    if isinstance(ids, str) or not isinstance(ids, Sequence | np.ndarray):
        raise InvalidTypeError(f"{argument} must be a list of texts, got {type(ids).__name__}; pass list(ids)")
    known: dict[str, int] = {}
    for place, value in enumerate(ids):
        if not isinstance(value, str):
            raise InvalidTypeError(
                f"{argument} must hold texts, got {type(value).__name__} {shown(value)} at position {place}; pass str "
                "of each id"
            )
        if known.setdefault(value, place) != place:
            raise InvalidValueError(
                f"{argument} must hold each id once, got {shown(value)} at positions {known[value]} and {place}; give "
                "rows ids of their own"
            )
    return [str(value) for value in ids]


def refuse_other_length(argument: str, values: Sequence[Any], n: int, what: str) -> None:
    """Raise an error where there are not `n` values."""
    if len(values) != n:
        raise InvalidValueError(
            f"{argument} must have one entry for each of the {n} {what}, got {len(values)}; match them"
        )
