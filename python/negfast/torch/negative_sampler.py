"""Negatives of a step, drawn by tier from several sources."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from negfast import inputs, threads
from negfast._negfast import DrawAllotment, DrawIdentity, tiered_draw
from negfast.arrays import Ints, floats, integers
from negfast.errors import InvalidTypeError, InvalidValueError, RowIndexError, StateError, shown
from negfast.settings import Metric, Tiers, instance, number, one_of, optional_number, optional_whole, truth, whole
from negfast.torch.epoch import SharedEpoch
from negfast.torch.pair_scorer import PairScorer
from negfast.torch.shared import SharedNumbers
from negfast.torch.sources import Candidates, Request, Source, known
from negfast.torch.usefulness import Usefulness

VERSION = 1
"""Version of the state of :class:`NegativeSampler`."""
TIERS = ("hard", "semi_hard", "easy")
"""The tiers that have a probability, hardest first."""
MOST_NEGATIVES = 2**20
MOST_SOURCES = 100


class DrawTensors(NamedTuple):
    """The arrays of a :class:`Draw` as torch tensors.

    Attributes
    ----------
    ids : Tensor of int64, shape (n_anchors, num_negatives)
    scores : Tensor of float32, shape (n_anchors, num_negatives)
    tiers : Tensor of uint8, shape (n_anchors, num_negatives)
    sources : Tensor of int8, shape (n_anchors, num_negatives)
    log_weight : Tensor of float32, shape (n_anchors, num_negatives)
    """

    ids: torch.Tensor
    scores: torch.Tensor
    tiers: torch.Tensor
    sources: torch.Tensor
    log_weight: torch.Tensor


@dataclass(frozen=True, eq=False)
class Draw:
    """The negatives that were drawn for some anchors.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_anchors, num_negatives)
        Rows of the corpus, hardest tier first and random ones last, -1 where there were too few.
    scores : ndarray of float32, shape (n_anchors, num_negatives)
        Their scores as their source knew them, NaN where it did not, -inf beside -1.
    tiers : ndarray of uint8, shape (n_anchors, num_negatives)
        3 hard, 2 semi-hard, 1 easy, 0 where no hardness is known.
    sources : ndarray of int8, shape (n_anchors, num_negatives)
        Where each came from, as a place in `names`, -1 beside -1.
    log_weight : ndarray of float32, shape (n_anchors, num_negatives)
        What to add to a score divided by the temperature so that sums of exponentials over the draw estimate those over
        all allowed rows of the corpus; -inf beside -1.
    shortfall : ndarray of float32, shape (n_anchors, 4)
        Slots that hard, semi-hard, easy and random candidates were too few for. Those of a tier went to the next easier
        one, and from easy ones to random; what random ones lacked too is missing. On average over draws, so not always
        whole.
    names : tuple of str
        Names of the sources.
    """

    ids: Ints
    scores: NDArray[np.float32]
    tiers: NDArray[np.uint8]
    sources: NDArray[np.int8]
    log_weight: NDArray[np.float32]
    shortfall: NDArray[np.float32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of anchors."""
        return len(self.ids)

    def to_torch(self, device: torch.device | str | int | None = None) -> DrawTensors:
        """Return the arrays as tensors, which share their memory on the CPU.

        Parameters
        ----------
        device : optional
            Where to bring them.

        Returns
        -------
        DrawTensors
            ``ids``, ``scores``, ``tiers``, ``sources`` and ``log_weight``.
        """
        tensors = DrawTensors(*(torch.from_numpy(getattr(self, name)) for name in DrawTensors._fields))
        return tensors if device is None else DrawTensors(*(tensor.to(device) for tensor in tensors))


class NegativeSampler:
    """DOC"""

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
        instance("tiers", tiers, Tiers)
        self.tiers = tiers
        self.temperature = optional_number("temperature", temperature, low=1e-6)
        self.max_exposure = optional_whole("max_exposure", max_exposure, low=1)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        self.sources = _checked_sources(sources)
        self.n_rows = _n_rows(n_rows, self.sources)
        self.n_queries = _n_queries(n_queries, self.sources, positives, groups or keys)
        sizes = (self.n_queries, self.n_rows)
        self._known = _identity_arguments(sizes, positives, groups, keys, duplicates, exclude_self)
        self._identity: DrawIdentity | None = None
        self._allotment: tuple[tuple[int, int], DrawAllotment] | None = None
        self._scorer: PairScorer | None = None
        if embeddings is not None:
            chosen = one_of("metric", metric, ("cosine", "dot"))
            self._scorer = PairScorer(embeddings, chosen, sizes, self._known[2])
        self._n_threads = n_threads
        self._usefulness = Usefulness(self.n_rows, usefulness_decay, usefulness_cap)
        self._epoch, self._snapshot, self._lists = SharedEpoch(), SharedEpoch(), 0
        self._shares = SharedNumbers(np.array(_checked_shares(probabilities, min_random)))
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
            If an argument has a wrong type or shape, or a source returns something else than candidates of these anchors.
        RowIndexError
            If an anchor is no row of the queries, or a candidate none of the corpus.
        """
        rows = integers("anchors", anchors)
        if rows.ndim != 1:
            raise InvalidValueError(f"anchors must be of shape (n_anchors,), got {rows.shape}; flatten them")
        step = whole("step", step, low=0, high=2**64 - 1)
        self._check_anchors(rows)
        extra = {} if given is None else _checked_given(given, self.sources)
        proposals = [_proposals(name, candidates, len(rows)) for name, candidates in extra.items()]
        request = self._request(rows, step)
        proposals += [_proposals(source.name, source.candidates(request), len(rows)) for source in self.sources]
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
        sources: Sequence[Source] | None = None,
        probabilities: Mapping[str, float] | None = None,
        min_random: float | None = None,
    ) -> None:
        """Let draws depend from now on what was noted, and on what is given here.

        Parameters
        ----------
        sources : sequence of Source, optional
            Replace the sources by others of the same names, after lists were mined anew for example. Workers of a data
            loader that run already keep the ones that they started with.
        probabilities, min_random : optional
            Replace the shares of tiers.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As when the sampler is made. It is as before then.
        """
        shares = _checked_shares(
            self.probabilities if probabilities is None else probabilities,
            self.min_random if min_random is None else min_random,
        )
        if sources is not None:
            self._replace(_checked_sources(sources))
        self._shares.values[:] = shares
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
        """Return where the sampler stands, as plain values and arrays; not its sources."""
        return {
            **self._fixed(),
            "epoch": self.epoch,
            "snapshot": self.snapshot,
            "probabilities": self.probabilities,
            "min_random": self.min_random,
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
        if not isinstance(state, Mapping):
            raise InvalidTypeError(
                f"state must be a mapping, got {type(state).__name__} {shown(state)}; pass what state_dict returned"
            )
        for name, own in self._fixed().items():
            if type(state.get(name)) is not type(own) or state[name] != own:
                raise StateError(
                    f"{name} of the state must be {own!r}, as of this sampler, got {shown(state.get(name))}; make the "
                    "sampler as the one that was saved"
                )
        try:
            epoch = whole("epoch of the state", state.get("epoch"), low=0)
            snapshot = whole("snapshot of the state", state.get("snapshot"), low=0)
            exposure = whole("random_exposure of the state", state.get("random_exposure"), low=0)
            shares = _checked_shares(state.get("probabilities"), state.get("min_random"))
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(str(error)) from error
        self._usefulness.load_state_dict(state.get("usefulness"))
        self._epoch.value, self._snapshot.value, self._random_exposure.value = epoch, snapshot, exposure
        self._shares.values[:] = shares

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
            "tiers": self.tiers.to_dict(),
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
            "tiers": (self.tiers.hard, self.tiers.semi_hard),
            "slots": self._slots(),
            "temperature": self.temperature,
            "seed": self.seed,
            "epoch": self.epoch,
            "step": step,
        }

    def _request(self, anchors: Ints, step: int) -> Request:
        return Request(
            anchors=anchors,
            seed=self.seed,
            epoch=self.epoch,
            step=step,
            num_negatives=self.num_negatives,
            n_queries=self.n_queries,
            max_exposure=None if self.max_exposure is None else self._random_exposure.value,
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
        key = (self.epoch, self._lists)
        if self._allotment is None or self._allotment[0] != key:
            anchors = np.arange(self.n_queries, dtype=np.int64)
            request = self._request(anchors, 0)
            lists = [_proposals(source.name, source.candidates(request), len(anchors)) for source in fixed]
            most = self.max_exposure - self._random_exposure.value
            self._allotment = key, DrawAllotment(self._identify(), lists, anchors, most, self.seed, self.epoch)
        return self._allotment[1]

    def _replace(self, sources: tuple[Source, ...]) -> None:
        names = [source.name for source in self.sources]
        if [source.name for source in sources] != names:
            raise InvalidValueError(
                f"sources must have the names {names}, in this order, got {[source.name for source in sources]}; make "
                "another sampler for other sources"
            )
        _n_rows(self.n_rows, sources)
        _n_queries(self.n_queries, sources, None, None)
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
        asked = [_proposals(source.name, source.candidates(request), len(request.anchors)) for source in self.sources]
        if self._slots()[3] > 1e-6 and not any(proposals[4] is not None for proposals in asked):
            raise InvalidValueError(
                f"sources must have one that samples rows, for {self._slots()[3]:g} random negatives of "
                f"{self.num_negatives}, got {[source.name for source in self.sources]}; add UniformRows(n_rows), or let "
                "min_random be 0 and probabilities add up to 1"
            )

    def _check_anchors(self, anchors: Ints) -> None:
        outside = np.flatnonzero((anchors < 0) | (anchors >= self.n_queries))
        if outside.size:
            raise RowIndexError(
                f"anchors must hold rows of the queries (0 to {self.n_queries}, exclusive), got {anchors[outside[0]]} "
                f"at position {outside[0]}; pass the rows that were mined for"
            )


def _checked_sources(sources: Any) -> tuple[Source, ...]:
    if not isinstance(sources, Sequence) or isinstance(sources, str):
        raise InvalidTypeError(f"sources must be a list, got {type(sources).__name__}; pass [MinedRows(mined), ...]")
    if len(sources) > MOST_SOURCES:
        raise InvalidValueError(f"sources must be at most {MOST_SOURCES}, got {len(sources)}; join some of them")
    for i, source in enumerate(sources):
        if not isinstance(source, Source) or not isinstance(source.name, str) or not isinstance(source.fixed, bool):
            raise InvalidTypeError(
                f"sources[{i}] must have a name, fixed (a bool) and a method candidates, got {type(source).__name__} "
                f"{shown(source)}; wrap mined negatives as MinedRows(mined)"
            )
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise InvalidValueError(f"sources must have different names, got {names}; name them")
    return tuple(sources)


def _checked_given(given: Any, sources: tuple[Source, ...]) -> dict[str, Candidates]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidTypeError(
            f'given must be a mapping of names to Candidates, got {shown(given)}; pass {{"bank": Candidates(...)}}'
        )
    taken = [source.name for source in sources if source.name in given]
    if taken or len(given) + len(sources) > MOST_SOURCES:
        raise InvalidValueError(
            f"given must be a few names other than those of the sources, got {sorted(given)}; rename {taken}"
        )
    return dict(given)


def _proposals(name: str, candidates: Any, n: int) -> tuple[str, Ints, Any, Any, Any]:
    """Return candidates as the compiled module takes them."""
    if not isinstance(candidates, Candidates):
        raise InvalidTypeError(
            f"candidates of {name} must be Candidates, got {type(candidates).__name__}; return Candidates(ids, ...)"
        )
    ids = integers(f"ids of {name}", candidates.ids)
    if ids.ndim == 1:
        ids = np.ascontiguousarray(np.broadcast_to(ids, (n, len(ids))))
    if ids.ndim != 2 or len(ids) != n:
        raise InvalidValueError(
            f"ids of {name} must be of shape ({n}, m), a row for each anchor, or (m,), got {ids.shape}; pad with -1"
        )
    parts: list[Any] = []
    for part, shape in (("scores", ids.shape), ("positive_scores", (n,)), ("log_inclusion", ids.shape)):
        value = getattr(candidates, part)
        array = None if value is None else floats(f"{part} of {name}", value)
        if array is not None and array.shape != shape:
            raise InvalidValueError(f"{part} of {name} must be of shape {shape}, got {array.shape}; see Candidates")
        parts.append(array)
    return (name, ids, *parts)


def _n_rows(n_rows: int | None, sources: tuple[Source, ...]) -> int:
    sizes = {source.name: known(source, "n_rows") for source in sources}
    found = {size for size in sizes.values() if size is not None}
    if n_rows is not None:
        found.add(whole("n_rows", n_rows, low=0, high=2**32 - 2))
    if len(found) != 1:
        raise InvalidValueError(
            f"n_rows must be one number of corpus rows, got {sorted(found)} ({sizes}); name it, and use sources of one "
            "corpus"
        )
    return found.pop()


def _n_queries(n_queries: int | None, sources: tuple[Source, ...], positives: Any, labels: Any) -> int:
    lowest = max((known(source, "n_queries") or 0 for source in sources), default=0)
    if n_queries is None:
        pair = labels if isinstance(labels, tuple | list) and labels else (None,)
        n_queries = next((n for n in (_n_lists(positives), _n_lists(pair[0])) if n is not None), lowest)
    n_queries = whole("n_queries", n_queries, low=0, high=2**32 - 2)
    if n_queries < lowest:
        raise InvalidValueError(
            f"n_queries must be at least {lowest}, as sources have lists for, got {n_queries}; pass positives, groups "
            "and keys of all queries"
        )
    return n_queries


def _n_lists(value: Any) -> int | None:
    """Return how many lists there are, in any form; what has no length is refused later."""
    if isinstance(value, tuple) and value and hasattr(value[0], "__len__"):
        return max(len(value[0]) - 1, 0)
    return len(value) if hasattr(value, "__len__") else None


def _identity_arguments(
    sizes: tuple[int, int], positives: Any, groups: Any, keys: Any, duplicates: Any, exclude_self: bool
) -> tuple[Any, ...]:
    """Return what is known of rows and anchors, as the compiled module takes it."""
    n_queries, n_rows = sizes
    lists = (np.zeros(n_queries + 1, dtype=np.int64), np.empty(0, dtype=np.int64))
    if positives is not None:
        lists = inputs.row_lists("positives", positives, n_queries)
    if truth("exclude_self", exclude_self):
        indptr, indices = lists
        own = np.arange(min(n_queries, n_rows), dtype=np.int64)
        grown = indptr + np.minimum(np.arange(len(indptr)), len(own))
        lists = grown, np.insert(indices, indptr[1 : len(own) + 1], own)
    labels = [(name, inputs.label_pair(name, pair)) for name, pair in (("groups", groups), ("keys", keys)) if pair is not None]
    copies = None if duplicates is None else integers("duplicates", duplicates)
    return n_rows, copies, lists, labels


def _checked_shares(probabilities: Any, min_random: Any) -> list[float]:
    """Return the reserved share, then those of the tiers."""
    reserved = number("min_random", min_random, low=0.0, high=1.0)
    if not isinstance(probabilities, Mapping):
        raise InvalidTypeError(
            f"probabilities must be a mapping of tiers to numbers, got {type(probabilities).__name__} "
            f'{shown(probabilities)}; pass {{"hard": 0.3, "semi_hard": 0.4, "easy": 0.2}}'
        )
    unknown = [shown(name) for name in probabilities if name not in TIERS]
    if unknown:
        raise InvalidValueError(
            f"probabilities must be for tiers among {list(TIERS)}, got {', '.join(unknown)}; what they leave to 1 is "
            "random"
        )
    shares = [number(f"probabilities[{name!r}]", probabilities.get(name, 0.0), low=0.0, high=1.0) for name in TIERS]
    if sum(shares) > 1.0 + 1e-9:
        raise InvalidValueError(
            f"probabilities must add up to at most 1, got {sum(shares):g}; what they leave to 1 is random"
        )
    return [reserved, *shares]
