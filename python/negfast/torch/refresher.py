"""Refresh inside a training that is running, whoever runs it."""

import copy
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from negfast.adaptive_curriculum import AdaptiveCurriculum
from negfast.arrays import Ints
from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.inputs import Labels, RowLists
from negfast.miner import Miner
from negfast.refresh_policy import RefreshPolicy
from negfast.results import MinedNegatives
from negfast.settings import instance, one_of, optional_whole, truth, whole
from negfast.staleness import Staleness
from negfast.states import check_state
from negfast.torch.encoding import Encoders, Rows, agreed, check_encoders, encoded, first_rank, from_first, of_all, own
from negfast.torch.epoch_batches import EpochBatches
from negfast.torch.live_batches import LiveBatches
from negfast.torch.live_rows import LiveRows, merged
from negfast.torch.negative_sampler import NegativeSampler
from negfast.torch.philox import random_bits
from negfast.torch.refresh_event import RefreshEvent
from negfast.torch.state_files import read_state, write_state

VERSION = 1
"""Version of the state of :class:`Refresher`."""
FOLDER = "negfast-refresh"
"""Where a checkpoint holds it."""
_STATE = "state.safetensors"


class Refresher:
    """Watch how stale mined lists are, encode and mine again, and swap the lists under a data loader that is running.

    It knows no trainer: a loop, or a callback of one, tells it when an epoch begins, and calls :meth:`step` after each
    step.

    Parameters
    ----------
    queries, corpus : sequence of str
        The texts, in the order of the rows. Where `corpus` is `queries`, they are encoded once.
    miner : Miner
        It mines the first lists too, unless it has mined already.
    negatives : NegativeSampler
        With :class:`LiveRows` among its sources, which get the lists.
    positives : as in :func:`mine`
        For the first lists, as are `groups`, `keys`, `exclude` and `forbidden`. Not needed where `miner` has mined.
    groups, keys, exclude, forbidden : as in :func:`mine`, optional
    policy : RefreshPolicy, optional
        When to refresh. Without one, each epoch after the first begins with a refresh.
    when : {"step", "epoch"}, optional
        Whether a refresh may come after any step, or only where an epoch begins. By default ``"step"`` with a policy or
        a curriculum.
    look_every : int, default 100
        Steps from one look at the staleness to the next, if `policy` judges it. With ``when="epoch"`` each epoch begins
        with one.
    sample : int, default 1000
        Corpus rows that such a look encodes, beside at most 1,000 queries.
    curriculum : AdaptiveCurriculum, optional
        A refresh that it asks for is done after that step, and it is told so. Its state stays with who observes.
    chunk : int, default 8192
        Texts that are encoded before their rows are handed over.
    seed : int, default 0
        From 0 to 2**64 - 1: which rows are looked at.

    Attributes
    ----------
    miner, negatives, curriculum
        As given.
    policy : RefreshPolicy or None
        A copy.
    skips_batches : bool
        Whether the trainer itself, once started again, skips the batches of the epoch that it has trained on; false
        where batches go on where :meth:`consumed` has left them.
    epoch : int or None
        The epoch that was begun last.
    last : RefreshEvent or None
        What was done last.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range, sizes do not fit, or nothing can ask for a refresh.

    Notes
    -----
    **The same bits after a restart.** Batches that are on their way to the loop when lists change were drawn from old
    ones or will be drawn from new ones, by how far workers are. So the lists of an anchor are swapped when it is dealt
    out: train on what :meth:`batches` returns. A state holds what the miner remembers, the latest lists, and the lists
    that anchors of this epoch have kept; a run that goes on from it draws what the run without a stop draws.

    **Several processes** of a default group each encode a share of the texts. The first one mines, and holds the miner;
    the lists are broadcast. Every method that takes `encode`, and the state, must be called on all of them, and a
    curriculum must observe the same on each (see :func:`all_reduced`). Where one fails, the others raise
    :class:`RankError`.

    Limitations
    -----------
    Without :meth:`batches` a refresh within an epoch takes effect where the next one begins, and warns of it.

    While the first process mines the others wait in a broadcast, for at most as long as their group allows. Lists that
    different numbers of processes encode differ where a model rounds by what else is in its batch.

    Examples
    --------
    >>> import negfast, numpy as np
    >>> from negfast.encoder import HashedEncoder
    >>> from negfast.torch import LiveRows, NegativeSampler, Refresher, UniformRows
    >>> corpus = [f"the number {n} in words and digits" for n in range(50)]
    >>> queries = [f"number {n}" for n in range(20)]
    >>> sampler = NegativeSampler(
    ...     [LiveRows.empty(20, 50, width=10), UniformRows(50)],
    ...     num_negatives=2,
    ...     probabilities={"easy": 0.5},
    ...     min_random=0.5,
    ...     positives=np.arange(20),
    ... )
    >>> miner = negfast.Miner(num_negatives=10)
    >>> refresher = Refresher(
    ...     queries, corpus, miner, sampler, positives=np.arange(20), policy=negfast.RefreshPolicy(every=3)
    ... )
    >>> model = HashedEncoder(64)
    >>> refresher.begin(model.encode).n_changed
    20
    >>> for step in range(1, 7):  # after each step of training
    ...     event = refresher.step(step, model.encode)
    ...     if event is not None:
    ...         print(event)
    step 3: 0 lists changed, 3 steps since the last refresh, every is 3
    step 6: 0 lists changed, 3 steps since the last refresh, every is 3
    """

    def __init__(
        self,
        queries: Sequence[str],
        corpus: Sequence[str],
        miner: Miner,
        negatives: NegativeSampler,
        *,
        positives: RowLists | None = None,
        groups: tuple[Labels, Labels] | None = None,
        keys: tuple[Labels, Labels] | None = None,
        exclude: RowLists | None = None,
        forbidden: Labels | None = None,
        policy: RefreshPolicy | None = None,
        when: Literal["step", "epoch"] | None = None,
        look_every: int = 100,
        sample: int = 1000,
        curriculum: AdaptiveCurriculum | None = None,
        chunk: int = 8192,
        seed: int = 0,
    ) -> None:
        instance("miner", miner, Miner)
        if not isinstance(negatives, NegativeSampler):
            raise InvalidTypeError(
                f"negatives must be a NegativeSampler, got {type(negatives).__name__}; pass the sampler that the data "
                "set or the collator draws with"
            )
        self.miner, self.negatives, self.curriculum = miner, negatives, curriculum
        self._same = corpus is queries
        self._texts = _checked_texts("queries", queries), _checked_texts("corpus", corpus)
        self._lists = _live_rows(negatives)
        self._check_sizes()
        self._first = {"groups": groups, "keys": keys, "exclude": exclude, "forbidden": forbidden}
        self._positives = positives
        if policy is not None:
            instance("policy", policy, RefreshPolicy)
        self.policy = copy.deepcopy(policy)
        if curriculum is not None:
            instance("curriculum", curriculum, AdaptiveCurriculum)
        asked = policy is not None or curriculum is not None
        self._when = one_of("when", when or ("step" if asked else "epoch"), ("step", "epoch"))
        if self._when == "step":
            self._check_steps(asked)
        self._look_every = whole("look_every", look_every, low=1)
        self._sample = whole("sample", sample, low=1)
        self._chunk = whole("chunk", chunk, low=1)
        self._seed = whole("seed", seed, low=0, high=2**64 - 1)
        self.skips_batches = False
        self.epoch: int | None = None
        self.last: RefreshEvent | None = None
        self._batches = EpochBatches()
        self._loaded = False  # and not begun since

    @property
    def mined(self) -> MinedNegatives | None:
        """The latest lists; ``None`` before there are any."""
        return self._lists.mined

    @property
    def at_end(self) -> bool:
        """Whether all batches of the epoch were consumed, as far as the batch sampler knows."""
        return not self.skips_batches and self._batches.at_end()

    def batches(self, batches: Any, *, rows: Any = None, follow: bool = True) -> LiveBatches:
        """Return a batch sampler that swaps the lists of anchors as it deals them out; train on its batches.

        Parameters
        ----------
        batches : batch sampler
            What a data loader takes for `batch_sampler`. The state of a :class:`HardBatchSampler` is kept in that of
            this object.
        rows : int array of shape (n_pairs,), optional
            Row of the queries that each pair of the data set belongs to. By default pair ``i`` belongs to row ``i``.
        follow : bool, default True
            Whether a :class:`HardBatchSampler` gets new lists where an epoch begins. Only if the positive of pair ``i``
            is row ``i`` of the corpus, as far as numbers tell.

        Returns
        -------
        LiveBatches

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As :class:`LiveBatches` does.
        """
        made = LiveBatches(batches, self._lists, rows=rows)
        fits = self._lists.n_queries == self._lists.n_rows
        fits = fits and (rows is None or np.array_equal(rows, np.arange(self._lists.n_rows)))
        self._batches.take(made, truth("follow", follow) and bool(fits), self.epoch, self.mined)
        return made

    def begin(self, encode: Encoders, *, step: int = 0) -> RefreshEvent | None:
        """Begin a training, before its first batch is dealt out: mine the first lists, unless there are some.

        With lists that there are, of a training before this one perhaps, the first epoch begins. After
        :meth:`load_state_dict` or :meth:`load` a training goes on instead, and this does nothing.

        Parameters
        ----------
        encode : callable, or pair of them for queries and corpus
            Texts to an array or a tensor of shape (n_texts, dim), by the model as it is now.
        step : int, default 0
            Steps of training before this.

        Returns
        -------
        RefreshEvent or None
            ``None`` where there were lists.

        Raises
        ------
        InvalidTypeError, InvalidValueError, RowIndexError
            If `encode` returns something else than rows, or mining refuses what was given for it.
        """
        step, loaded, self._loaded = whole("step", step, low=0), self._loaded, False
        if self.mined is not None and from_first(lambda: self.miner.is_mined):
            if not loaded:
                self._begin_anew(step)
            return None
        begun, self.epoch = self.epoch, None  # no batch is on its way
        try:
            event = self._refresh(_Clock(), step, encode, "the first lists")
        finally:
            self.epoch = begun
        if begun is not None:
            self._batches.compose(self.mined)
        return event

    def begin_epoch(self, epoch: int, encode: Encoders, *, step: int = 0) -> RefreshEvent | None:
        """Go to the beginning of an epoch, before its first batch is dealt out; in the one that was begun do nothing.

        Lists that were mined after steps of the epoch before are those of all anchors then, and of the batches.

        Parameters
        ----------
        epoch : int
        encode, step : as in :meth:`begin`

        Returns
        -------
        RefreshEvent or None
            What was found, where epochs begin with a look or a refresh.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As :meth:`begin`, and if `epoch` is none.
        """
        epoch, self._loaded = whole("epoch", epoch, low=0), False
        self._batches.set_epoch(epoch)  # not every trainer reaches it, after a restart within an epoch
        if epoch == self.epoch:
            return None
        event, begun = None, self.epoch
        self.epoch = None  # no batch is on its way
        if begun is not None and self._when == "epoch":
            event = self._judged(step, encode, look=True)
        self.epoch = epoch
        self._lists.begin_epoch()
        self._batches.compose(self.mined)
        self.negatives.set_epoch(epoch)
        return event

    def step(self, step: int, encode: Encoders) -> RefreshEvent | None:
        """Look, decide and refresh if it is time to: after each step of training.

        Parameters
        ----------
        step : int
            Steps of training so far, over restarts.
        encode : as in :meth:`begin`

        Returns
        -------
        RefreshEvent or None
            ``None`` after a step that nothing was looked at.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As :meth:`begin`.
        """
        step = whole("step", step, low=0)
        if self._when == "epoch":
            return None
        return self._judged(step, encode, look=step % self._look_every == 0)

    def refresh(self, step: int, encode: Encoders) -> RefreshEvent:
        """Refresh now, whatever the policy says.

        Parameters
        ----------
        step, encode : as in :meth:`step`

        Returns
        -------
        RefreshEvent

        Raises
        ------
        InvalidTypeError, InvalidValueError
            As :meth:`begin`.
        """
        return self._refresh(_Clock(), whole("step", step, low=0), encode, "asked for")

    def consumed(self) -> None:
        """Note that the loop trained on a batch, for loops whose batches go on by themselves after a restart."""
        self._batches.consumed()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that this and what it refreshes need to go on, as plain values and arrays.

        On several processes all have to call it; what the miner remembers is in that of the first only.
        """
        return {**self._state_dict(), "miner": self.miner.state_dict() if first_rank() else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where another one of the same texts and settings stood, before the first batch is dealt out.

        Parameters
        ----------
        state : mapping
            What :meth:`state_dict` returned on the first process.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or other settings, or damaged; then nothing may be trained with this object.
        """
        self._load(state, lambda: self.miner.load_state_dict(state.get("miner")))  # type: ignore[arg-type]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the state to a folder: the miner to a file of its own, which :meth:`Miner.load` reads.

        Parameters
        ----------
        folder : str or path-like
            It is made if it is not there. On several processes all have to call this, and the first one writes.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        state, path = self._state_dict(), Path(folder)

        def write() -> None:
            path.mkdir(parents=True, exist_ok=True)
            # The state is there last, so that a folder without it is not read.
            (path / _STATE).unlink(missing_ok=True)
            self.miner.save(path / "miner.safetensors")
            write_state(path / _STATE, "Refresher", state)

        agreed(lambda: write() if first_rank() else None)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Read what :meth:`save` wrote, before the first batch is dealt out.

        Parameters
        ----------
        folder : str or path-like
            All processes read it.

        Raises
        ------
        StateError
            As :meth:`load_state_dict`.
        OSError
            If it cannot be read.
        """
        path = Path(folder)
        state = agreed(lambda: read_state(path / _STATE, "Refresher"))
        self._load(state, lambda: self.miner.load_state_dict(Miner.load(path / "miner.safetensors").state_dict()))

    def _state_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            **self._fixed(),
            "epoch": self.epoch,
            "policy": None if self.policy is None else self.policy.state_dict(),
            "lists": merged(of_all(self._lists.state_dict())),
            # Each process notes what was useful among its own negatives.
            "negatives": of_all(self.negatives.state_dict()),
            **self._batches.state_dict(self.mined, skips=self.skips_batches),
        }

    def _load(self, state: Mapping[str, Any], load_miner: Callable[[], None]) -> None:
        agreed(lambda: check_state(state, {"version": VERSION, **self._fixed()}, "this refresher"))

        def load() -> None:
            epoch = optional_whole("epoch", state.get("epoch"), low=0)
            if (self.policy is None) != (state.get("policy") is None):
                raise StateError("policy of the state must be of the same settings; make the refresher as it was")
            if first_rank():
                load_miner()
            self._lists.load_state_dict(state.get("lists"))  # type: ignore[arg-type]
            self.negatives.load_state_dict(own(state.get("negatives")))
            if self.policy is not None:
                self.policy.load_state_dict(state["policy"])
            self._batches.load_state_dict(state, self.mined)
            self.epoch, self._loaded = epoch, True

        try:
            agreed(load)
        except (InvalidTypeError, InvalidValueError) as error:
            raise StateError(f"the state is damaged: {error}") from error

    def _begin_anew(self, step: int) -> None:
        """Forget the epoch and the steps of a training before this one; its lists stay."""
        self.epoch = None
        if self.policy is not None:
            self.policy.last_step = min(self.policy.last_step, step)

    @property
    def _nothing_is_on_its_way(self) -> bool:
        """Whether no batch was dealt out, on any process, that draws from the lists."""
        if self.epoch is None:
            return True
        return self._batches.are_dealt and not any(of_all(self._lists.is_dealt))

    def _fixed(self) -> dict[str, Any]:
        return {"n_queries": len(self._texts[0]), "n_corpus": len(self._texts[1]), "when": self._when}

    def _judged(self, step: int, encode: Encoders, *, look: bool) -> RefreshEvent | None:
        """Look if that is wanted, and refresh if something asks for it."""
        clock = _Clock()
        if self.curriculum is not None and self.curriculum.refresh_due:
            return self._refresh(clock, step, encode, "the curriculum asks for it")
        if self.policy is None:
            return self._refresh(clock, step, encode, "an epoch begins") if self._when == "epoch" else None
        decision, stale = self.policy.decide(step), None
        if not decision and look and self._judges_staleness():
            stale = self._look(clock, step, encode)
            decision = self.policy.decide(step, stale)
        if decision:
            return self._refresh(clock, step, encode, decision.why, stale)
        if stale is None:
            return None
        self.last = RefreshEvent(step=step, refreshed=False, why=decision.why, staleness=stale, **clock.told())
        return self.last

    def _judges_staleness(self) -> bool:
        return self.policy is not None and (self.policy.min_overlap is not None or self.policy.max_drift is not None)

    def _look(self, clock: "_Clock", step: int, encode: Encoders) -> Staleness:
        anchors = from_first(lambda: self.miner.sampled_anchors)
        bits = random_bits(len(self._texts[1]), purpose="staleness", seed=self._seed, epoch=step)
        rows = np.sort(np.argsort(bits, kind="stable")[: self._sample])
        with clock.measuring("encode"):
            queries = self._encode(clock, 0, encode, _taken(self._texts[0], anchors))
            vectors = self._encode(clock, 1, encode, _taken(self._texts[1], rows))

        def measure() -> Staleness:
            assert queries is not None and vectors is not None, "the first rank has all rows"
            return self.miner.staleness(rows, vectors, query_rows=anchors, query_vectors=queries)

        return from_first(measure)

    def _refresh(
        self, clock: "_Clock", step: int, encode: Encoders, why: str, stale: Staleness | None = None
    ) -> RefreshEvent:
        at_once = self._nothing_is_on_its_way
        if not at_once and not self._batches.are_dealt and not self._lists.is_dealt:
            warnings.warn(
                "new lists are used where the next epoch begins, as nothing says which anchors are dealt out; train on "
                "what refresher.batches(...) returns",
                stacklevel=4,
            )
        with clock.measuring("encode"):
            queries = self._encode(clock, 0, encode, self._texts[0])
            corpus = queries if self._same else self._encode(clock, 1, encode, self._texts[1])
        before = self.mined
        with clock.measuring("mine"):
            mined = from_first(lambda: self._mine(queries, corpus))
        self._lists.swap(mined)
        if at_once:
            self._lists.begin_epoch()
        if self.policy is not None:
            self.policy.refreshed(step)
        if self.curriculum is not None and self.curriculum.refresh_due:
            self.curriculum.refreshed(step)
        self.last = RefreshEvent(
            step=step,
            refreshed=True,
            why=why,
            staleness=stale,
            report=mined.report.refresh,
            n_changed=_changed(before, mined),
            **clock.told(),
        )
        return self.last

    def _mine(self, queries: Rows | None, corpus: Rows | None) -> MinedNegatives:
        assert queries is not None and corpus is not None, "the first rank has all rows"
        if self.miner.is_mined:
            return self.miner.refresh(queries, corpus)
        if self._positives is None:
            raise InvalidValueError("positives must be given, as the miner has not mined yet, got None; pass them")
        return self.miner.mine(queries, corpus, self._positives, **self._first)  # type: ignore[arg-type]

    def _encode(self, clock: "_Clock", side: int, encode: Encoders, texts: Sequence[str]) -> Rows | None:
        check_encoders(encode)
        one = encode[side] if isinstance(encode, tuple) else encode
        clock.n_encoded += len(texts)
        return encoded(one, texts, self._chunk)

    def _check_sizes(self) -> None:
        sizes = {"queries": self._lists.n_queries, "corpus": self._lists.n_rows}
        for (name, size), texts in zip(sizes.items(), self._texts, strict=True):
            if len(texts) != size:
                raise InvalidValueError(
                    f"{name} must be the {size} texts that the lists are for, got {len(texts)}; pass all in the order "
                    "of the rows"
                )
        width = self.miner.recipe.num_negatives
        if width != self._lists.width:
            raise InvalidValueError(
                f"miner must mine the {self._lists.width} negatives that a list of negatives holds, got {width}; make "
                "the lists as wide as num_negatives of the miner"
            )

    def _check_steps(self, asked: bool) -> None:
        if not asked:
            raise InvalidValueError(
                'policy must be given where a refresh may come after any step, got None; pass one, or when="epoch"'
            )
        if self.policy is not None and self.policy.every is None and not self._judges_staleness():
            raise InvalidValueError(
                "policy must have one of every, min_overlap, max_drift, got none of them; scores of negatives are not "
                "measured here"
            )
        if self.negatives.max_exposure is not None:
            raise InvalidValueError(
                f"when must be 'epoch' with a cap on exposure, got 'step' and max_exposure="
                f"{self.negatives.max_exposure}; tokens are dealt for a whole epoch"
            )


def check_refresher(value: Any) -> None:
    """Refuse what is no refresher."""
    if not isinstance(value, Refresher):
        raise InvalidTypeError(
            f"refresher must be a Refresher, got {type(value).__name__}; make one, negfast.torch.Refresher(...)"
        )


class _Clock:
    """What a look or a refresh took."""

    def __init__(self) -> None:
        self.n_encoded = 0
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        began = time.perf_counter()
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

    def told(self) -> dict[str, Any]:
        return {"n_encoded": self.n_encoded, "seconds": dict(self._seconds)}


def _checked_texts(argument: str, texts: Any) -> list[str]:
    if isinstance(texts, str | bytes) or not hasattr(texts, "__iter__"):
        raise InvalidTypeError(f"{argument} must be a list of texts, got {type(texts).__name__}; pass them in a list")
    held = list(texts)
    if not held:
        raise InvalidValueError(f"{argument} must be at least one text, got none; pass those of all rows")
    for i, text in enumerate(held):
        if not isinstance(text, str):
            raise InvalidTypeError(f"{argument}[{i}] must be a str, got {type(text).__name__}; pass texts")
    return held


def _live_rows(negatives: NegativeSampler) -> LiveRows:
    found = [source for source in negatives.sources if isinstance(source, LiveRows)]
    if len(found) != 1:
        raise InvalidValueError(
            f"negatives must have one source that is LiveRows, got {len(found)} among "
            f"{[source.name for source in negatives.sources]}; use LiveRows(mined) in the place of MinedRows(mined)"
        )
    return found[0]


def _taken(texts: list[str], rows: Ints) -> list[str]:
    return [texts[row] for row in rows.tolist()]


def _changed(before: MinedNegatives | None, after: MinedNegatives) -> int:
    if before is None or before.indices.shape != after.indices.shape:
        return len(after)
    return int((before.indices != after.indices).any(axis=1).sum())
