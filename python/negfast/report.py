"""What a call did, and what there is to know about its result."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast.refresh_report import RefreshReport
from negfast.settings import UsedMethod

SUSPECT_COLUMNS = {"anchors": np.int64, "positives": np.int64, "scores": np.float32, "ranks": np.int64}
"""The columns of :class:`Suspects`."""
ADDED: dict[str, Any] = {"why": "not recorded", "audited": 0, "rows_checked": 0}
"""Fields of :class:`SearchReport` that files of earlier versions lack; what they tell is exact."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MOST_SELECTED = 1 << 18
"""Numbers beyond which quantiles are those of an even part: selecting among all would take longer than a refresh."""


@dataclass(frozen=True)
class SearchReport:
    """How a search went.

    Attributes
    ----------
    method : str
        The method used; ``"given"`` if the candidates were.
    why : str
        What spoke for it.
    recall : float
        Share of the true best rows that were returned, on anchors solved exactly; 1.0 for a proven result.
    recall_interval : tuple of float
        95 % interval of `recall`.
    audited : int
        Anchors that `recall` was measured on; 0 where it is proven.
    seconds : dict of str to float
        Wall-clock seconds by stage, and their ``"total"``: ``"measure"`` (norms and finiteness), ``"plan"`` (choosing a
        method, fitting its effort, measuring its recall), ``"index"`` (codes of the corpus, lists), ``"pack"``,
        ``"scan"`` (tiles and thresholds), ``"finish"`` (scores, list rules, draw). Stages that several threads
        share are thread-time divided by threads. What a search does to measure its recall is in ``"plan"`` and in the
        stages it goes through.
    rows_scanned : int
        Pairs of anchor and corpus row that were multiplied, in float32 or as codes.
    rows_checked : int
        Pairs that codes could not settle, multiplied again in 16 bits.
    rows_rescored : int
        Pairs that were scored in float64.
    working_bytes : int
        Bytes that the buffers of the largest pass were planned to hold at one time on all threads, codes of the corpus
        included. Refused rows kept for the report, and candidates that wait under a cap on exposure, are not in it.
    zero_queries, zero_rows : int
        Rows of the queries and of the corpus that are all zeros; under cosine they score 0 with everything.
    level : str
        SIMD level.
    n_threads : int
        Threads used.
    """

    method: UsedMethod
    why: str
    recall: float
    recall_interval: tuple[float, float]
    audited: int
    seconds: dict[str, float]
    rows_scanned: int
    rows_checked: int
    rows_rescored: int
    working_bytes: int
    zero_queries: int
    zero_rows: int
    level: str
    n_threads: int

    @classmethod
    def from_core(cls, core: dict[str, Any]) -> "SearchReport":
        """Make the report of a search from what the compiled module measured."""
        return cls(**core)

    @classmethod
    def of_given(cls, core: dict[str, Any], candidates: int) -> "SearchReport":
        """Make the report of a call that was given its candidates."""
        proven: dict[str, Any] = {"recall": 1.0, "recall_interval": (1.0, 1.0), "audited": 0}
        return cls(**{**core, "method": "given", "why": "candidates were given", **proven, "rows_scanned": candidates})

    @classmethod
    def total(cls, parts: Sequence["SearchReport"]) -> "SearchReport":
        """Add up searches that ran one after the other; an interval of recall that holds for all is the widest.

        The method is one that was measured where there is one: that of a proven part would promise more than the whole
        has.
        """
        first = next((part for part in parts if part.audited), parts[0])
        names = dict.fromkeys(name for part in parts for name in part.seconds)
        return replace(
            first,
            recall=sum(part.recall for part in parts) / len(parts),
            recall_interval=(
                min(part.recall_interval[0] for part in parts),
                max(part.recall_interval[1] for part in parts),
            ),
            audited=sum(part.audited for part in parts),
            seconds={name: sum(part.seconds.get(name, 0.0) for part in parts) for name in names},
            rows_scanned=sum(part.rows_scanned for part in parts),
            rows_checked=sum(part.rows_checked for part in parts),
            rows_rescored=sum(part.rows_rescored for part in parts),
            working_bytes=max(part.working_bytes for part in parts),
        )

    def __str__(self) -> str:
        """Return one line for people."""
        low, high = self.recall_interval
        between = f" ({low:.4f} to {high:.4f} on {self.audited} anchors)" if self.audited else ""
        checked = f"{self.rows_checked:,} checked, " if self.rows_checked else ""
        return (
            f"{self.method} search, recall {self.recall:.4g}{between}: {self.rows_scanned:,} pairs scanned, {checked}"
            f"{self.rows_rescored:,} rescored in {self.seconds['total']:.2f} s on {self.n_threads} "
            f"thread{'s' if self.n_threads > 1 else ''} ({self.level}), {_size(self.working_bytes)} of buffers"
        )


@dataclass(frozen=True)
class TopKReport:
    """What a plain search did.

    Attributes
    ----------
    search : SearchReport
        How it went.
    n_queries, n_corpus, dim : int
        Sizes.
    metric : str
        What "close" means.
    """

    search: SearchReport
    n_queries: int
    n_corpus: int
    dim: int
    metric: str

    def __str__(self) -> str:
        """Return two lines for people."""
        return f"{self.n_queries:,} queries x {self.n_corpus:,} rows, dim {self.dim}, {self.metric}\n{self.search}"


@dataclass(frozen=True)
class Quantiles:
    """A distribution in eight numbers; all NaN if it is empty.

    Attributes
    ----------
    count : int
        Values.
    mean : float
        Their mean.
    values : tuple of float
        Their quantiles at 0, 5, 25, 50, 75, 95 and 100 %. Of more than 2 ** 18 values, those between the ends are of so
        many spread evenly over them: off by a tenth of a percent of the values or so.
    """

    count: int
    mean: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, numbers: NDArray[Any]) -> "Quantiles":
        """Summarise an array."""
        if numbers.size == 0:
            return cls(0, float("nan"), (float("nan"),) * len(QUANTILES))
        numbers = numbers.reshape(-1)
        inner = np.quantile(_spread(numbers).astype(np.float64), QUANTILES[1:-1])
        values = (float(numbers.min()), *(float(q) for q in inner), float(numbers.max()))
        return cls(int(numbers.size), float(numbers.mean(dtype=np.float64)), values)


def _spread(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return all numbers, or of very many an even part: lists are sorted, so places go by the golden ratio."""
    if numbers.size <= MOST_SELECTED:
        return numbers
    stride = int(numbers.size * (5**0.5 - 1) / 2)
    while gcd(stride, numbers.size) > 1:
        stride += 1
    return numbers[np.arange(MOST_SELECTED) * stride % numbers.size]


@dataclass(frozen=True, eq=False)
class Suspects:
    """Positives that rank low for their own anchor: wrong pairs, or hard ones.

    Attributes
    ----------
    anchors, positives : ndarray of int64, shape (n_suspects,)
        The pair: rows of the queries and of the corpus.
    scores : ndarray of float32, shape (n_suspects,)
        Its score.
    ranks : ndarray of int64, shape (n_suspects,)
        One more than the number of corpus rows that score higher for the anchor.
    """

    anchors: NDArray[np.int64]
    positives: NDArray[np.int64]
    scores: NDArray[np.float32]
    ranks: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of suspect pairs."""
        return int(self.anchors.size)


@dataclass(frozen=True)
class FalseNegatives:
    """How many rows at least as hard as the last returned negative are known to be false negatives.

    Known means that they share a key or a group with the anchor or a positive of it. Positives and the anchor itself
    are left out of both counts. Of false negatives that no key or group tells apart, this says nothing.

    Attributes
    ----------
    rows, known : int
        Such rows, and how many of them are known false negatives.
    rows_within_margin, known_within_margin : int
        The same among those that the score rules let pass.
    """

    rows: int
    known: int
    rows_within_margin: int
    known_within_margin: int

    @property
    def share_naive(self) -> float:
        """Share among all such rows: what a plain nearest-rows list would hold."""
        return self.known / max(self.rows, 1)

    @property
    def share_within_margin(self) -> float:
        """Share among those that the score rules let pass: what the margin alone would leave in."""
        return self.known_within_margin / max(self.rows_within_margin, 1)


@dataclass(frozen=True)
class Exposure:
    """How often corpus rows serve as negatives.

    Attributes
    ----------
    rows_used : int
        Rows that serve at least once.
    most : int
        Anchors that the most used row serves.
    top_percent_share : float
        Share of all negatives that come from the most used 1 % of the rows used.
    """

    rows_used: int
    most: int
    top_percent_share: float

    @classmethod
    def of(cls, rows: NDArray[np.int64], n_corpus: int) -> "Exposure":
        """Count how often each of the corpus rows occurs among `rows`."""
        served = np.bincount(rows, minlength=n_corpus)
        served = np.sort(served[served > 0])[::-1]
        if served.size == 0:
            return cls(rows_used=0, most=0, top_percent_share=0.0)
        top = served[: max(1, served.size // 100)].sum()
        return cls(rows_used=int(served.size), most=int(served[0]), top_percent_share=float(top / served.sum()))


@dataclass(frozen=True, eq=False)
class Report:
    """What was searched, what each rule removed, and how the negatives look.

    Attributes
    ----------
    search : SearchReport
        How the search went.
    n_queries, n_corpus, dim, num_negatives : int
        Sizes; of the queries only the anchors count.
    metric, dtype : str
        What "close" means; the element type of the corpus.
    removed : dict of str to int
        Rows removed, by the first rule that rejected them. Only rows that score at least the last negative returned
        for their anchor count, and of those that `range_min`, `distinct` and `max_exposure` removed only rows that rank
        before it: those that would have been in its list or before it. If the anchor got none, all count.
    anchors_without_positive : int
        Anchors to which margin rules did not apply.
    anchors_underfilled, missing_negatives : int
        Anchors that got fewer negatives than asked for, and how many negatives are missing in all.
    anchors_deepened : int
        Anchors that were searched again, deeper, because list rules used up their first candidates.
    positives, negatives, hardness : Quantiles
        Scores of the lowest positives; of the negatives; and their difference, negative minus positive.
    positive_ranks : Quantiles
        Ranks of the lowest positives in the whole corpus, 1 for the best.
    tiers : dict of str to int
        Negatives per tier; ``"none"`` for those of anchors without a positive.
    suspects : Suspects
        Positives that rank below `suspect_rank`.
    suspect_rank : int
        That bound.
    false_negatives : FalseNegatives or None
        An estimate from keys and groups, ``None`` without either.
    exposure : Exposure
        How often rows serve.
    seconds : dict of str to float
        Wall-clock seconds of the whole call, by stage.
    refresh : RefreshReport or None
        What became of the lists that a :class:`Miner` remembered, ``None`` but after a refresh. Counts and ranks are
        then among the candidates that it looked at.
    """

    search: SearchReport
    n_queries: int
    n_corpus: int
    dim: int
    num_negatives: int
    metric: str
    dtype: str
    removed: dict[str, int]
    anchors_without_positive: int
    anchors_underfilled: int
    missing_negatives: int
    anchors_deepened: int
    positives: Quantiles
    negatives: Quantiles
    hardness: Quantiles
    positive_ranks: Quantiles
    tiers: dict[str, int]
    suspects: Suspects
    suspect_rank: int
    false_negatives: FalseNegatives | None
    exposure: Exposure
    seconds: dict[str, float] = field(default_factory=dict)
    refresh: RefreshReport | None = None

    @property
    def working_bytes(self) -> int:
        """Bytes planned for the buffers of the search; see :class:`SearchReport`."""
        return self.search.working_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, fit for JSON; the numbers of an empty distribution are ``None``."""
        plain = asdict(self)
        for name in ("positives", "negatives", "hardness", "positive_ranks"):
            plain[name] = plain[name] if plain[name]["count"] else {"count": 0, "mean": None, "values": []}
        plain["suspects"] = {name: values.tolist() for name, values in plain["suspects"].items()}
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Report":
        """Make a report from what :meth:`to_dict` returned, in this version or an earlier one."""
        values = dict(plain)
        interval = values["search"]["recall_interval"]
        values["search"] = SearchReport(**{**ADDED, **values["search"], "recall_interval": tuple(interval)})
        for name in ("positives", "negatives", "hardness", "positive_ranks"):
            count, mean, found = (values[name][part] for part in ("count", "mean", "values"))
            values[name] = Quantiles(count, mean, tuple(found)) if count else Quantiles.of(np.zeros(0))
        columns = values["suspects"]
        values["suspects"] = Suspects(**{k: np.asarray(columns[k], dtype=t) for k, t in SUSPECT_COLUMNS.items()})
        if values["false_negatives"] is not None:
            values["false_negatives"] = FalseNegatives(**values["false_negatives"])
        values["exposure"] = Exposure(**values["exposure"])
        refresh = values.get("refresh")
        values["refresh"] = None if refresh is None else RefreshReport.from_dict(refresh)
        return cls(**values)

    def __str__(self) -> str:
        """Return a page for people."""
        return "\n".join([*self._sizes(), *self._removals(), *self._distributions(), *self._warnings()])

    def _sizes(self) -> list[str]:
        total = self.seconds.get("total", self.search.seconds["total"])
        found = self.n_queries * self.num_negatives - self.missing_negatives
        size = f"{self.n_queries:,} anchors x {self.n_corpus:,} rows, dim {self.dim}, {self.dtype}, {self.metric}"
        refresh = [] if self.refresh is None else [f"  {self.refresh}"]
        return [f"{size}: {found:,} negatives in {total:.2f} s", f"  {self.search}", *refresh]

    def _removals(self) -> list[str]:
        lines = [f"  {rule:<22}{count:>14,}" for rule, count in self.removed.items() if count]
        return ["removed rows at least as hard as the last negative kept, by rule:", *(lines or ["  none"])]

    def _distributions(self) -> list[str]:
        head = "".join(f"{name:>9}" for name in ("min", "5 %", "25 %", "median", "75 %", "95 %", "max", "mean"))
        rows = [("positives", self.positives), ("negatives", self.negatives), ("hardness", self.hardness)]
        lines = [f"{'scores':<14}{head}"]
        for name, q in rows:
            lines.append(f"  {name:<12}" + "".join(f"{x:>9.3f}" for x in (*q.values, q.mean)))
        ranks = "".join(f"{x:>9,.0f}" for x in (*self.positive_ranks.values, self.positive_ranks.mean))
        lines.append(f"  {'pos. rank':<12}{ranks}")
        total = max(sum(self.tiers.values()), 1)
        shares = ", ".join(f"{name.replace('_', '-')} {n / total:.1%}" for name, n in self.tiers.items() if n)
        lines.append(f"tiers: {shares or 'none'}")
        return lines

    def _warnings(self) -> list[str]:
        exposure = self.exposure
        used = f"exposure: {exposure.rows_used:,} rows serve; the most used serves {exposure.most:,} anchors, "
        lines = [f"{used}the top 1 % give {exposure.top_percent_share:.1%} of all negatives"]
        if self.false_negatives is not None:
            lines.append(
                f"known false negatives among rows this hard: {self.false_negatives.share_naive:.1%}; "
                f"the score rules alone would leave {self.false_negatives.share_within_margin:.1%}"
            )
        if len(self.suspects):
            lines.append(
                f"suspect pairs: {len(self.suspects):,} positives rank below {self.suspect_rank:,} for their anchor"
            )
        if self.search.zero_queries or self.search.zero_rows:
            lines.append(
                f"zero vectors: {self.search.zero_queries:,} queries and {self.search.zero_rows:,} corpus rows, which "
                "score 0 with everything"
            )
        if self.anchors_without_positive:
            lines.append(f"without a positive: {self.anchors_without_positive:,} anchors (no margin applied)")
        if self.anchors_underfilled:
            lines.append(f"underfilled: {self.anchors_underfilled:,} anchors lack {self.missing_negatives:,} negatives")
        return lines


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB"
