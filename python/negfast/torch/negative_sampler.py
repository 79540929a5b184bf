"""Negatives of a step, drawn by tier from several sources."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast import threads
from negfast._negfast import DrawAllotment, DrawIdentity, tiered_draw
from negfast.arrays import Ints, integers
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, StateError
from negfast.settings import Metric, Tiers, instance, one_of, optional_number, optional_whole, whole
from negfast.stage import Stage
from negfast.states import check_state
from negfast.torch.draw import Draw
from negfast.torch.epoch import SharedEpoch
from negfast.torch.pair_scorer import PairScorer
from negfast.torch.sampler_arguments import (
    TIERS,
    checked_edges,
    checked_given,
    checked_shares,
    checked_sources,
    checked_window,
    corpus_size,
    identity_arguments,
    plain_candidates,
    query_size,
)
from negfast.torch.shared import SharedNumbers
from negfast.torch.sources import Candidates, Request, Source, source_fingerprint
from negfast.torch.usefulness import Usefulness

VERSION = 2
"""Version of the state of :class:`NegativeSampler`."""
MOST_NEGATIVES = 2**20
"""The most negatives of an anchor."""


class NegativeSampler:
    """Draw the negatives of a step by tier, from several sources, never two copies of one content.

    Parameters
    ----------
    sources : sequence of Source
        Where candidates come from: :class:`MinedRows`, :class:`UniformRows`, your own. The first that has a row counts.
    num_negatives : int
        Negatives an anchor.
    probabilities : mapping of {"hard", "semi_hard", "easy"} to float
        The share of each tier in the slots that are not reserved. What they leave to 1 is drawn at random.
    min_random : float
        The share of all slots, rounded up, that is reserved for random rows.
    tiers : Tiers, optional
        Where the tiers of hardness begin.
    window : pair of int and int or None, default (0, None)
        The ranks of mined lists that serve, from the first to before the second; ``None`` is the end of the list.
    positives : as in :func:`mine`, optional
        Never drawn, nor are copies of them.
    groups, keys : as in :func:`mine`, optional
        Pairs of labels. A row that shares one with its anchor or with a positive of it is never drawn.
    duplicates : int array, shape (n_rows,), optional
        Labels that rows share which are copies of each other, such as :func:`near_duplicates` returns. An anchor gets
        at most one row of each; what is not allowed for one of them is not for the others. Rows below 0 are copies of
        none.
    exclude_self : bool, default False
        Anchor ``i`` never gets row ``i``.
    temperature : float, optional
        Within a tier, draw listed rows with weights ``exp(score / temperature)``. All alike by default.
    max_exposure : int, optional
        The most anchors that a row may serve in an epoch.
    usefulness_decay : float, default 0.5
        How much of what was learned about a row is left after each publication, from 0 to 1.
    usefulness_cap : float, default 4.0
        Usefulness multiplies the weight of a row by at most this, and divides it by no more; 1 turns it off.
    embeddings : pair of arrays or CPU tensors, optional
        Rows of the queries and of the corpus, to score drawn rows whose source knows no score; read in place.
    metric : {"cosine", "dot"}, default "cosine"
        For these scores.
    seed : int, default 0
        From 0 to 2**64 - 1.
    n_rows, n_queries : int, optional
        Rows of the corpus and of the queries, where neither sources nor `positives` tell.
    n_threads : as in :func:`mine`

    Attributes
    ----------
    num_negatives, temperature, max_exposure, seed, n_rows, n_queries
        As given.
    sources : tuple of Source

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range, sizes do not fit, random negatives are asked for and
        no source samples rows, or `max_exposure` leaves an anchor no random row.
    RowIndexError
        If `positives` hold a number that is no row.

    Notes
    -----
    **Slots.** ``ceil(min_random * num_negatives)`` slots are random. Of the rest each tier has its share on average,
    and in any one draw that number rounded up or down. What a tier lacks goes to the next easier one, then to listed
    rows of unknown hardness, then to random rows; ``Draw.shortfall`` counts it.

    **Weights.** The sample is by the ordered pivotal method (J.-C. Deville and Y. Tillé, *Unequal probability sampling
    without replacement through a splitting method*, 1998), so that the probability of each row to be drawn is known
    exactly; ``log_weight`` is minus its logarithm (D. Horvitz and D. Thompson, *A generalization of sampling without
    replacement from a finite universe*, 1952). A listed row that is certain to be drawn has 0, m random rows of N have
    about ``ln((N - k) / m)`` where k are listed, and a source that samples has minus the logarithm of its probability,
    the correction of X. Yi et al., *Sampling-bias-corrected neural modeling for large corpus item recommendations*
    (2019). The sum of ``exp(score / temperature + log_weight)`` over a draw is an unbiased estimate of the partition
    function over all rows that are allowed to the anchor, whatever the probabilities of tiers, as long as some slot is
    random: a row whose tier cannot be drawn is left to random rows. With lists deep and `temperature` that of the loss
    its error is small.

    **Copies** are sampled as one, and the one that is drawn counts for all.

    **Usefulness.** :meth:`update` notes loss mass, relative to the mean of its call. A publication moves the weight of
    each observed row towards the mean of what was noted, and that of every other row towards 1. Weights are within ``[1
    / cap, cap]``, so that of two rows of one tier one is never drawn more than cap**2 times as often as the other; a
    share f of the rows of a tier gets at most ``c * f / (c * f + 1 - f)`` of its slots, with c = cap**2. Shares of
    tiers and random rows are not swayed.

    **Exposure.** Before an epoch each row hands out its tokens: some to anchors that list it, at whatever rank, at
    random and others each epoch, and the rest by dealing random rows out in turn. The cap is kept however draws are
    made, if each source is `fixed` or heeds it; `given` candidates are not counted. A cap near ``num_negatives *
    n_queries / n_rows`` leaves tiers short.

    **The same draws.** A draw is a function of the seed, the epoch, the step, the anchor and the snapshot: sources,
    shares, tiers, window, usefulness and tokens, which change only in :meth:`set_epoch` and :meth:`publish`. It does
    not depend on other anchors, workers, threads or restarts. All but sources and tokens are in shared memory and reach
    the workers of a data loader; publish while workers are loading, and how far ahead they are decides which draws
    change.

    Limitations
    -----------
    Sums are over what is allowed to the sampler. Lists that were mined under a margin leave out rows that it took for
    false negatives, but a random row may be one of them: mask by score in the loss. Copies of a listed row that are not
    listed themselves count as those that are. Of two sources that sample, a row that both can propose counts twice.
    Scores are as old as the lists that they come from. Under `max_exposure` a second draw of an anchor in the same
    epoch sees the same rows as the first, listed ones by their tokens and random ones by their turn.

    Examples
    --------
    >>> import negfast, numpy as np
    >>> from negfast.torch import MinedRows, NegativeSampler, UniformRows
    >>> rng = np.random.default_rng(0)
    >>> corpus = rng.standard_normal((1000, 16), dtype=np.float32)
    >>> queries = corpus[:100] + 0.5 * rng.standard_normal((100, 16), dtype=np.float32)
    >>> mined = negfast.mine(queries, corpus, np.arange(100), num_negatives=50)
    >>> sampler = NegativeSampler(
    ...     [MinedRows(mined), UniformRows(1000)],
    ...     num_negatives=8,
    ...     probabilities={"hard": 0.2, "semi_hard": 0.4, "easy": 0.3},
    ...     min_random=0.1,
    ...     positives=np.arange(100),
    ...     seed=1,
    ... )
    >>> draw = sampler.draw([3, 5], step=0)
    >>> draw.ids.shape, draw.tiers[0].tolist(), draw.names
    ((2, 8), [1, 1, 1, 1, 1, 1, 1, 0], ('mined', 'uniform'))
    >>> np.array_equal(draw.ids[1], sampler.draw([5], step=0).ids[0])
    True
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        num_negatives: int,
        probabilities: Mapping[str, float],
        min_random: float,
        tiers: Tiers = Tiers(),  # noqa: B008 - frozen
        positives: Any = None,
        groups: Any = None,
        keys: Any = None,
        duplicates: Any = None,
        exclude_self: bool = False,
        window: tuple[int, int | None] = (0, None),
        temperature: float | None = None,
        max_exposure: int | None = None,
        usefulness_decay: float = 0.5,
        usefulness_cap: float = 4.0,
        embeddings: tuple[Any, Any] | None = None,
        metric: Metric = "cosine",
        seed: int = 0,
        n_rows: int | None = None,
        n_queries: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.num_negatives = whole("num_negatives", num_negatives, low=1, high=MOST_NEGATIVES)
        self.temperature = optional_number("temperature", temperature, low=1e-6)
        self.max_exposure = optional_whole("max_exposure", max_exposure, low=1)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        self.sources = checked_sources(sources)
        self.n_rows = corpus_size(n_rows, self.sources)
        self.n_queries = query_size(n_queries, self.sources, positives, keys if groups is None else groups)
        sizes = (self.n_queries, self.n_rows)
        self._known = identity_arguments(sizes, positives, groups, keys, duplicates, exclude_self)
        self._identity: DrawIdentity | None = DrawIdentity(*self._known)
        self._allotment: tuple[tuple[int, ...], DrawAllotment] | None = None
        one_of("metric", metric, ("cosine", "dot"))
        self._scorer = None if embeddings is None else PairScorer(embeddings, metric, sizes, self._known[2])
        self._n_threads = n_threads
        self._usefulness = Usefulness(self.n_rows, usefulness_decay, usefulness_cap)
        self._epoch, self._snapshot, self._lists = SharedEpoch(), SharedEpoch(), 0
        self._shares = SharedNumbers(np.array(checked_shares(probabilities, min_random)))
        self._edges = SharedNumbers(np.array(checked_edges(tiers)))
        self._window = SharedNumbers(np.array(checked_window(window)))
        self._random_exposure = SharedEpoch(self._exposure_of_random())
        self._try_out()

    @property
    def epoch(self) -> int:
        """The epoch that is drawn for."""
        return self._epoch.value

    @property
    def snapshot(self) -> int:
        """How often something was published."""
        return self._snapshot.value

    @property
    def probabilities(self) -> dict[str, float]:
        """What part of the slots that are not reserved each tier gets."""
        return dict(zip(TIERS, self._shares.values[1:].tolist(), strict=True))

    @property
    def min_random(self) -> float:
        """The part of the slots that is reserved for random negatives."""
        return float(self._shares.values[0])

    @property
    def tiers(self) -> Tiers:
        """Where the tiers of hardness begin."""
        return Tiers(*self._edges.values.tolist())

    @property
    def window(self) -> tuple[int, int | None]:
        """The ranks of mined lists that serve, from the first to before the second."""
        first, end = self._window.values.tolist()
        return int(first), None if end == math.inf else int(end)

    @property
    def usefulness(self) -> NDArray[np.float32]:
        """The published weight of each row, shape (n_rows,); a copy."""
        return self._usefulness.weights.copy()

    def draw(self, anchors: Any, step: int, *, given: Mapping[str, Candidates] | None = None) -> Draw:
        """Draw negatives.

        Parameters
        ----------
        anchors : int array, tensor or list, shape (n_anchors,)
            Rows of the queries.
        step : int
            The step of the epoch, or any number that tells draws of one anchor in one epoch apart.
        given : mapping of str to Candidates, optional
            Candidates that come with this draw, by the name of their source: rows of a memory bank, of the batch.
            Where a source has the same row too, it counts as given.

        Returns
        -------
        Draw

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type or shape, or a source returns something else than candidates of these
            anchors.
        RowIndexError
            If an anchor is no row of the queries, or a candidate none of the corpus.
        """
        rows = integers("anchors", anchors)
        if rows.ndim != 1:
            raise InvalidValueError(f"anchors must be of shape (n_anchors,), got {rows.shape}; flatten them")
        step = whole("step", step, low=0, high=2**64 - 1)
        self._check_anchors(rows)
        extra = {} if given is None else checked_given(given, self.sources)
        proposals = [plain_candidates(name, candidates, len(rows)) for name, candidates in extra.items()]
        request = self._request(rows, step, self.window)
        proposals += [plain_candidates(source.name, source.candidates(request), len(rows)) for source in self.sources]
        drawn = tiered_draw(
            self._identify(),
            self._allot(),
            self._usefulness.weights,
            proposals,
            rows,
            self._settings(step),
            threads.resolve(self._n_threads),
        )
        if extra:  # given candidates go first, but are named last
            order = [*range(len(self.sources), len(proposals)), *range(len(self.sources)), -1]
            drawn["sources"] = np.array(order, dtype=np.int8)[drawn["sources"]]
        names = (*(source.name for source in self.sources), *extra)
        if self._scorer is not None:
            self._scorer.fill(rows, drawn, self.tiers)
        return Draw(**drawn, names=names)

    def update(self, ids: Any, mass: Any) -> None:
        """Note how much of the loss negatives made up; it counts from the next publication on.

        Parameters
        ----------
        ids : int array or tensor of any shape
            Rows of the corpus, -1 for none.
        mass : float array or tensor of the same shape
            Their share in the loss, such as their softmax probability; at least 0. Only how it compares with the mean
            over the call counts.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, shape or value.
        RowIndexError
            If an id is no row.
        """
        self._usefulness.observe(ids, mass)

    def publish(
        self,
        *,
        stage: Stage | None = None,
        sources: Sequence[Source] | None = None,
        probabilities: Mapping[str, float] | None = None,
        min_random: float | None = None,
        tiers: Tiers | None = None,
        window: tuple[int, int | None] | None = None,
    ) -> None:
        """Let draws depend from now on what was noted, and on what is given here.

        Parameters
        ----------
        stage : Stage, optional
            What a curriculum says of the step, ``curriculum.at(step)``: replaces all of what follows but `sources`,
            where it is not given beside it.
        sources : sequence of Source, optional
            Replace the sources by others of the same names, after lists were mined anew for example. Workers of a data
            loader that run already keep the ones that they started with.
        probabilities, min_random : optional
            Replace the shares of tiers.
        tiers : Tiers, optional
            Replace where tiers begin.
        window : pair of int and int or None, optional
            Replace the ranks that serve.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As when the sampler is made. It is as before then.
        """
        if stage is not None:
            instance("stage", stage, Stage)
            probabilities = stage.probabilities if probabilities is None else probabilities
            min_random = stage.min_random if min_random is None else min_random
            tiers = stage.tiers if tiers is None else tiers
            window = (stage.range_min, stage.range_max) if window is None else window
        shares = checked_shares(
            self.probabilities if probabilities is None else probabilities,
            self.min_random if min_random is None else min_random,
        )
        edges = checked_edges(self.tiers if tiers is None else tiers)
        ranks = checked_window(self.window if window is None else window)
        if sources is not None:
            self._replace(checked_sources(sources))
        self._shares.values[:], self._edges.values[:], self._window.values[:] = shares, edges, ranks
        self._usefulness.publish()
        self._snapshot.value += 1

    def set_epoch(self, epoch: int) -> None:
        """Go to another epoch, and publish; in the epoch that the sampler is in nothing changes.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `epoch` is no integer or below 0.
        """
        epoch = whole("epoch", epoch, low=0)
        if epoch == self.epoch:
            return
        self._epoch.value = epoch
        self._random_exposure.value = self._exposure_of_random()
        self._usefulness.publish()
        self._snapshot.value += 1
        self._allot()  # here rather than in each worker that is forked later

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands, as plain values and arrays; of its sources only fingerprints."""
        return {
            **self._fixed(),
            "epoch": self.epoch,
            "snapshot": self.snapshot,
            "probabilities": self.probabilities,
            "min_random": self.min_random,
            "tiers": self.tiers.to_dict(),
            "window": list(self.window),
            "random_exposure": self._random_exposure.value,
            "usefulness": self._usefulness.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where another sampler of the same settings and sources stood.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or other settings, or damaged. The sampler is as before then.
        """
        check_state(state, self._fixed(), "this sampler")
        try:
            epoch = whole("epoch of the state", state.get("epoch"), low=0)
            snapshot = whole("snapshot of the state", state.get("snapshot"), low=0)
            exposure = whole("random_exposure of the state", state.get("random_exposure"), low=0)
            shares = checked_shares(state.get("probabilities"), state.get("min_random"))
            edges = checked_edges(Tiers.from_dict(state.get("tiers")))  # type: ignore[arg-type]
            ranks = checked_window(state.get("window"))
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(str(error)) from error
        self._usefulness.load_state_dict(state.get("usefulness"))
        self._epoch.value, self._snapshot.value, self._random_exposure.value = epoch, snapshot, exposure
        self._shares.values[:], self._edges.values[:], self._window.values[:] = shares, edges, ranks

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made anew from the rest."""
        return {**vars(self), "_identity": None, "_allotment": None}

    def _fixed(self) -> dict[str, Any]:
        """Return what a state and its sampler have to agree on."""
        return {
            "version": VERSION,
            "seed": self.seed,
            "num_negatives": self.num_negatives,
            "n_rows": self.n_rows,
            "n_queries": self.n_queries,
            "sources": [source.name for source in self.sources],
            "lists": [source_fingerprint(source) for source in self.sources],
            "temperature": self.temperature,
            "max_exposure": self.max_exposure,
            "usefulness_decay": self._usefulness.decay,
            "usefulness_cap": self._usefulness.cap,
        }

    def _slots(self) -> tuple[float, float, float, float]:
        """Return how many slots hard, semi-hard, easy and random negatives get on average."""
        reserved = math.ceil(self.num_negatives * self.min_random - 1e-9)
        free = self.num_negatives - reserved
        hard, semi_hard, easy = (free * share for share in self._shares.values[1:].tolist())
        return hard, semi_hard, easy, max(self.num_negatives - hard - semi_hard - easy, 0.0)

    def _settings(self, step: int) -> dict[str, Any]:
        return {
            "num_negatives": self.num_negatives,
            "tiers": tuple(self._edges.values.tolist()),
            "slots": self._slots(),
            "temperature": self.temperature,
            "seed": self.seed,
            "epoch": self.epoch,
            "step": step,
        }

    def _request(self, anchors: Ints, step: int, window: tuple[int, int | None] = (0, None)) -> Request:
        return Request(
            anchors=anchors,
            seed=self.seed,
            epoch=self.epoch,
            step=step,
            num_negatives=self.num_negatives,
            n_queries=self.n_queries,
            max_exposure=None if self.max_exposure is None else self._random_exposure.value,
            window=window,
        )

    def _exposure_of_random(self) -> int:
        """Return how often a row may serve as a random negative; what is left of the cap is for lists."""
        if self.max_exposure is None:
            return 0
        fixed = sum(source.fixed for source in self.sources)
        if fixed in (0, len(self.sources)):
            return 0 if fixed else self.max_exposure
        if self.max_exposure == 1:
            raise InvalidValueError(
                "max_exposure must be at least 2 where lists and random rows both serve, got 1; raise it"
            )
        share = round(self.max_exposure * self._slots()[3] / self.num_negatives)
        return min(max(share, 1), self.max_exposure - 1)

    def _identify(self) -> DrawIdentity:
        if self._identity is None:
            self._identity = DrawIdentity(*self._known)
        return self._identity

    def _allot(self) -> DrawAllotment | None:
        """Return who may draw which listed rows in this epoch."""
        fixed = [source for source in self.sources if source.fixed]
        if self.max_exposure is None or not fixed:
            return None
        # Lists may change in place, and say so.
        key = (self.epoch, self._lists, *(getattr(source, "generation", 0) for source in fixed))
        if self._allotment is None or self._allotment[0] != key:
            anchors = np.arange(self.n_queries, dtype=np.int64)
            request = self._request(anchors, 0)
            lists = [plain_candidates(source.name, source.candidates(request), len(anchors)) for source in fixed]
            most = self.max_exposure - self._random_exposure.value
            self._allotment = key, DrawAllotment(self._identify(), lists, most, self.seed, self.epoch)
        return self._allotment[1]

    def _replace(self, sources: tuple[Source, ...]) -> None:
        names = [source.name for source in self.sources]
        if [source.name for source in sources] != names:
            raise InvalidValueError(
                f"sources must have the names {names}, in this order, got {[source.name for source in sources]}; make "
                "another sampler for other sources"
            )
        corpus_size(self.n_rows, sources)
        query_size(self.n_queries, sources, None, None)
        before, self.sources = self.sources, sources
        try:
            self._try_out()
        except BaseException:
            self.sources = before
            raise
        self._lists += 1

    def _try_out(self) -> None:
        """Ask each source for one anchor, so that what is wrong with it is told here and not by a worker."""
        request = self._request(np.arange(min(self.n_queries, 1), dtype=np.int64), 0)
        asked = [
            plain_candidates(source.name, source.candidates(request), len(request.anchors)) for source in self.sources
        ]
        if self._slots()[3] > 1e-6 and not any(proposals[4] is not None for proposals in asked):
            raise InvalidValueError(
                f"sources must have one that samples rows, for {self._slots()[3]:g} random negatives of "
                f"{self.num_negatives}, got {[source.name for source in self.sources]}; add UniformRows(n_rows), or "
                "let min_random be 0 and probabilities add up to 1"
            )

    def _check_anchors(self, anchors: Ints) -> None:
        outside = np.flatnonzero((anchors < 0) | (anchors >= self.n_queries))
        if outside.size:
            raise RowIndexError(
                f"anchors must hold rows of the queries (0 to {self.n_queries}, exclusive), got {anchors[outside[0]]} "
                f"at position {outside[0]}; pass the rows that were mined for"
            )
