"""A memory bank: rows of late steps as negatives of the present one."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from negfast import threads
from negfast._negfast import BankPlaces, BankShelf
from negfast.errors import InvalidValueError
from negfast.settings import one_of, optional_number, truth, whole
from negfast.torch import bank_shards
from negfast.torch.bank_arguments import KINDS, Batch, Wanted, checked_batch, checked_dtype, checked_wanted
from negfast.torch.bank_lookup import by_torch, compiled, gathered, in_place
from negfast.torch.bank_state import NAMES, VERSION, check_rows, checked, packed
from negfast.torch.bank_sync import Ranks
from negfast.torch.bank_values import QUANTILES, BankStaleness, Hardest, Sampled
from negfast.torch.philox import random_bits

Policy = Literal["fifo", "reservoir", "aged"]
Sync = Literal["none", "all", "shard"]
POLICIES: tuple[Policy, ...] = ("fifo", "reservoir", "aged")
"""The policies of :class:`MemoryBank`."""
SYNCS: tuple[Sync, ...] = ("none", "all", "shard")
"""What ranks do with the rows of each other."""
_LINES = ("ids", "groups", "keys", "steps", "numbers", "chosen")
_TENSORS = ("_rows", "_book", "_counts")
_STEPS, _NUMBERS = _LINES.index("steps"), _LINES.index("numbers")


class MemoryBank(nn.Module):
    """Keep rows of late steps, each with its id, as negatives of the present step.

    Parameters
    ----------
    capacity : int
        The most rows, on all ranks together.
    dim : int
        Elements of a row, up to 65,536.
    policy : {"fifo", "reservoir", "aged"}, default "fifo"
        Which rows are held: ``"fifo"`` those written last, ``"reservoir"`` a uniform sample of all that came,
        ``"aged"`` a sample that prefers late rows but forgets none at once.
    dtype : {torch.float32, torch.float16, torch.bfloat16}, default torch.float32
        What rows are kept in. Scores are computed in float32 or better, whatever it is, and changing the dtype of a
        module that has a bank leaves the bank alone.
    normalize : bool, default True
        Keep rows at length 1, so that scores are cosines. Otherwise rows are kept as they are, and scores are dot
        products.
    momentum : float, optional
        From 0 to 1. A row of an id that is held becomes ``momentum * old + (1 - momentum) * new``, brought back to
        length 1 if `normalize`. By default it is replaced.
    sync : {"none", "all", "shard"}, default "none"
        What the ranks of ``torch.distributed`` do: nothing; ``"all"``: each adds the rows of all; ``"shard"``: rows are
        shared out, and a look-up asks every rank.
    start_step : int, default 0
        Look-ups return padding until rows of this step have come.
    seed : int, default 0
        For ``"reservoir"``, ``"aged"`` and :meth:`sample`, from 0 to 2**64 - 1.
    n_threads : as in :func:`negfast.mine`
        Of look-ups on the CPU.

    Attributes
    ----------
    capacity, dim, policy, dtype, normalize, momentum, sync, start_step, seed
        As given.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range.

    Notes
    -----
    A queue of rows of late steps is as good as a large batch as long as the model drifts slowly: X. Wang et al.,
    *Cross-batch memory for embedding learning* (2020), who begin after 2,000 steps; K. He et al., *Momentum contrast
    for unsupervised visual representation learning* (2020). A row per instance, moved by `momentum`, is that of Z. Wu
    et al., *Unsupervised feature learning via non-parametric instance discrimination* (2018). How old rows lead
    gradients astray is the subject of E. Lindgren et al., *Efficient training of retrieval models using negative cache*
    (2021); :meth:`staleness` tells how old they are.

    **Ids.** An id is held once. A row of an id that is held replaces the row in its slot, or is mixed with it, and its
    age begins anew; so do rows of one id within one call, one after the other. Rows of id -1 have none: none is the
    same as another. Batches of any size, of more rows than the capacity too, end as if rows had come one by one.

    **Policies.** ``"fifo"``: the row that was written longest ago goes; one that came again counts as young.
    ``"reservoir"``: each row that comes has a random key, an id the smallest of the keys it came with, and the
    `capacity` smallest are held. So every row is as likely as every other, and an id that came m times counts as m that
    came once. ``"aged"``: a row of a new id goes to a slot drawn at random (C. Aggarwal, *On biased reservoir sampling
    in the presence of stream evolution*, 2006), so it is still there after n others took slots with probability ``(1 -
    1 / capacity)**n``, whatever its age; one that comes again stays where it is. Random bits depend on the seed and on
    how many rows came before.

    **Look-ups** return the exact result: on the CPU, codes of 8 bits beside the rows prove which of them cannot be
    among the best, and all others are scored by the function that all of negfast decides by. The order is by score, and
    of rows of one score the one written first comes first; so it depends neither on threads nor on ranks. On another
    device torch multiplies block by block in bounded memory; there scores are rounded as torch rounds them.

    **Ranks.** With ``"all"`` and ``"shard"`` every rank must make the same calls, with any number of rows or anchors,
    none included, on banks of the same settings and of one moment: what differs is refused by name. Rows count in the
    order of ranks, so a bank holds and finds what a bank of one process does which is given the rows of all ranks at
    once, with the same capacity. In a ``"shard"`` slot s is on rank s modulo their number, and ids, labels and ages of
    all rows are on each. Rows are no buffers, so that ``DistributedDataParallel``, which sends the buffers of rank 0 to
    all others, does not touch them. An error on one rank is raised on all. Make the bank after ``torch.distributed``
    was started.

    **State.** ``state_dict`` holds four tensors: ``rows``; ``book``, for each slot id, group, key, step, the number of
    the last write and the number that the policy goes by; ``counts``; and ``settings``, JSON as bytes. As with any
    module they are those that the bank goes on writing: save them at once, or ``copy.deepcopy`` them. So every file of
    tensors can hold it, and a bank that goes on from it does what one that never stopped does, to the last bit. A state
    of other settings is refused by name. That of a ``"shard"`` is of its rank: save it on each.

    Calls of several threads wait for each other. A signal handler may read the bank within a call of its thread, and so
    save it, but not write. Rows are detached; no gradient flows into the bank.

    Limitations
    -----------
    Scores of rows of half precision are of rows as they are kept. Look-ups on the CPU are slow where codes cannot rule
    rows out: rows in a narrow cone, a `max_score` that leaves almost none, one far longer row among dot products. What
    others than :meth:`enqueue` write into the tensors of a state shows in no look-up for sure. On a GPU, rows of nearly
    the same score may come in another order than on the CPU, of rows that tie at the end of a list others may be in it,
    and where TF32 is allowed scores are as coarse as that; the checks wait for the device.

    Examples
    --------
    >>> import torch
    >>> from negfast.torch import MemoryBank
    >>> bank = MemoryBank(4, 2)
    >>> bank.enqueue(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]), ids=[10, 11, 12])
    >>> found = bank.hardest(torch.tensor([[1.0, 0.0]]), 2, exclude_ids=[10])
    >>> found.ids.tolist(), [round(score, 3) for score in found.scores[0].tolist()]
    ([[11, 12]], [0.6, 0.0])
    >>> bank.enqueue(torch.tensor([[0.0, 1.0]]), ids=[11])
    >>> bank.ids.tolist(), bank.ages.tolist()
    ([10, 12, 11], [1, 1, 0])
    """

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        policy: Policy = "fifo",
        dtype: torch.dtype = torch.float32,
        normalize: bool = True,
        momentum: float | None = None,
        sync: Sync = "none",
        start_step: int = 0,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        super().__init__()
        self.capacity = whole("capacity", capacity, low=1, high=2**31 - 1)
        self.dim = whole("dim", dim, low=1, high=2**16)
        self.policy = one_of("policy", policy, POLICIES)
        self.dtype = checked_dtype(dtype)
        self.normalize = truth("normalize", normalize)
        self.momentum = optional_number("momentum", momentum, low=0.0, high=1.0)
        self.sync = one_of("sync", sync, SYNCS)
        self.start_step = whole("start_step", start_step, low=0)
        self.seed = whole("seed", seed, low=0, high=2**64 - 1)
        if n_threads is not None:
            threads.resolve(n_threads)
        self._n_threads = n_threads
        self._shard = self._shard_of_now()
        rank, size = self._shard
        if self.capacity < size:
            raise InvalidValueError(
                f'capacity must be at least 1 for each rank with sync="shard", got {self.capacity} for {size} ranks; '
                'enlarge it, or use sync="all"'
            )
        with torch.inference_mode(False):
            self._rows = torch.zeros((len(range(rank, self.capacity, size)), self.dim), dtype=self.dtype)
            self._book = torch.full((len(_LINES), self.capacity), -1, dtype=torch.int64)
            self._counts = torch.tensor([0, -1], dtype=torch.int64, device="cpu")
        self._forget()

    def _forget(self) -> None:
        """Leave what the tensors tell to be found out again."""
        self._lock = threading.RLock()  # a signal handler may save the bank within a call
        self._calls: list[str | None] = []
        self._places: BankPlaces | None = None
        self._shelf: BankShelf | None = None

    def _shard_of_now(self) -> tuple[int, int]:
        """Return which part of the rows is here, and of how many."""
        ranks = Ranks()
        return (ranks.rank, ranks.size) if self.sync == "shard" else (0, 1)

    def extra_repr(self) -> str:
        """Return the settings that differ from module to module."""
        return f"{self.capacity}, {self.dim}, policy={self.policy!r}, dtype={self.dtype}, sync={self.sync!r}"

    def __len__(self) -> int:
        """Return how many rows are held, on all ranks together."""
        with self._turn():
            return len(self._current())

    @property
    def step(self) -> int:
        """The step of the last rows, -1 before any came."""
        return int(self._counts[1])

    @property
    def seen(self) -> int:
        """How many rows came, repeated ones included."""
        return int(self._counts[0])

    @property
    def rows(self) -> torch.Tensor:
        """Rows by slot as ``state_dict`` has them, not to be written."""
        return self._rows

    @property
    def book(self) -> torch.Tensor:
        """Labels by slot as ``state_dict`` has them, not to be written."""
        return self._book

    @property
    def counts(self) -> torch.Tensor:
        """`seen` and `step` as ``state_dict`` has them, not to be written."""
        return self._counts

    @property
    def settings(self) -> torch.Tensor:
        """The settings as ``state_dict`` has them, made anew."""
        return packed(self._settings())

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self._rows.device

    @property
    def ids(self) -> torch.Tensor:
        """Ids of the rows held, the one written first in front, int64, shape (len(self),); -1 for none."""
        with self._turn():
            return self._book[0, self._order()]

    @property
    def ages(self) -> torch.Tensor:
        """Steps since the rows were written, in the order of `ids`, int64, shape (len(self),)."""
        with self._turn():
            return self.step - self._book[_STEPS, self._order()]

    def enqueue(self, rows: torch.Tensor, ids: Any, groups: Any = None, keys: Any = None, *, step: Any = None) -> None:
        """Add rows, and renew those whose ids are held.

        Parameters
        ----------
        rows : float tensor, shape (n, dim)
            Of any device and any floating dtype.
        ids : int array, tensor or list, shape (n,)
            From 0 on; -1 for a row without an id.
        groups, keys : int array, tensor or list, shape (n,), optional
            Further labels, -1 for none.
        step : int, optional
            The step of the training, at least that of the last call. By default the one after that.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, shape or value, a row is not finite, has no direction although
            `normalize`, or does not fit the dtype, or ranks differ in their step. Nothing is changed then.
        """
        with self._turn("enqueue"), torch.no_grad():
            if self.sync == "none":
                self._write(checked_batch(self, rows, (ids, groups, keys), step))
            else:
                self._write(self._joint_batch(rows, (ids, groups, keys), step))

    def hardest(
        self,
        anchors: torch.Tensor,
        k: int,
        *,
        exclude_ids: Any = None,
        exclude_groups: Any = None,
        exclude_keys: Any = None,
        max_score: Any = None,
    ) -> Hardest:
        """Return the rows that score most for each anchor.

        Parameters
        ----------
        anchors : float tensor, shape (n_anchors, dim)
            Of any length if `normalize`: scores are cosines then.
        k : int
            Rows for each anchor.
        exclude_ids, exclude_groups, exclude_keys : int array, tensor or list, optional
            Of shape (n_anchors,) or (n_anchors, m): labels of rows that an anchor must not get, such as the ids of its
            positives. -1 is none.
        max_score : float, or float array or tensor of shape (n_anchors,), optional
            Rows that score more are left out: they may be false negatives.

        Returns
        -------
        Hardest
            Scores, ids and rows, best first, on the device of the anchors. What is missing has score -inf, id -1 and a
            row of zeros.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If an argument has a wrong type, shape or value.
        """
        excluded = dict(zip(KINDS, (exclude_ids, exclude_groups, exclude_keys), strict=True))
        with self._turn(), torch.no_grad():
            wanted, sizes = self._agreed(
                lambda: checked_wanted(self, anchors, k, excluded, max_score), bank_shards.sizes_of, bank_shards.N_SIZES
            )
            if self.step < self.start_step:
                slots, scores = self._padding(wanted)
            elif self._shard[1] == 1:
                slots, scores = self._found(wanted)
            else:
                numbers = self._book[_NUMBERS]
                slots, scores = bank_shards.hardest_of_shards(Ranks(), wanted, sizes, numbers, self._found)
            rows = self._rows_at(slots)
            ids = self._ids_at(slots)
        return Hardest(*(part.to(anchors.device) for part in (scores, ids, rows)))

    def sample(self, n: int) -> Sampled:
        """Return rows at random, each as likely as every other, none twice.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        Sampled
            Ids and rows; those beyond what the bank holds have id -1 and zeros. They depend on the seed, on how many
            rows came so far and on what is held: until rows come, every call returns the same.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If `n` is no number of rows.
        """
        with self._turn():
            slots, _ = self._agreed(lambda: self._drawn(whole("n", n, low=0)))
            return Sampled(self._ids_at(slots), self._rows_at(slots))

    def staleness(self) -> BankStaleness:
        """Return how old the rows are, in steps.

        Returns
        -------
        BankStaleness
            Their mean age and quantiles.
        """
        ages = self.ages.cpu().numpy()
        if not len(ages):
            return BankStaleness(0, float("nan"), (float("nan"),) * len(QUANTILES))
        quantiles = np.quantile(ages, QUANTILES, method="inverted_cdf")
        return BankStaleness(len(ages), float(ages.mean()), tuple(float(age) for age in quantiles))

    # --- what is held ---

    @contextlib.contextmanager
    def _turn(self, writer: str | None = None) -> Iterator[None]:
        """Let threads wait for each other: a row must not be read while it is written.

        A call within one of the same thread, as of a signal handler, may read. `writer` is the name of a call that
        writes.
        """
        with self._lock:
            if writer is not None and self._calls:
                raise InvalidValueError(
                    f"{writer} must not be called within another call of the bank, got it within "
                    f"{self._calls[-1] or 'one that reads'}; set a flag in the signal handler and call it later"
                )
            n_outer = len(self._calls)
            try:
                self._calls.append(writer)
                yield
            finally:
                del self._calls[n_outer:]
                if any(self._calls):  # what a read found out amid a write does not last
                    self._places = self._shelf = None

    def _current(self) -> BankPlaces:
        """Return what says where rows go, made from the tensors where it is not known."""
        if self._places is None:
            book = self._book.cpu().numpy()
            self._places = BankPlaces.restore(self.policy, self.seed, self.seen, book[0], book[_LINES.index("chosen")])
        return self._places

    def _ids_at(self, slots: torch.Tensor) -> torch.Tensor:
        return self._book[0, slots.clamp(min=0)].masked_fill_(slots < 0, -1)

    def _order(self) -> torch.Tensor:
        """Return the slots that hold a row, the one written first in front."""
        return self._book[_NUMBERS].argsort()[self.capacity - len(self._current()) :]

    def _rows_at(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the rows in these slots, wherever they are; zeros where a slot is -1."""
        if self._shard[1] == 1:
            return gathered(self._rows, slots)
        return bank_shards.fetched(Ranks(), self._rows, slots)

    # --- ranks ---

    def _agreed(
        self, check: Callable[[], Any], sizes: Callable[[Any], list[int]] = lambda _: [], n_sizes: int = 0
    ) -> Any:
        """Return what `check` returns and sizes of all ranks that look for it together, or raise on all of them."""
        if self.sync != "shard":
            return check(), []
        return self._agreed_by_all(check, sizes, n_sizes)

    def _agreed_by_all(self, check: Callable[[], Any], sizes: Callable[[Any], list[int]], n_sizes: int) -> Any:
        ranks = Ranks()

        def checked_here() -> Any:
            self._check_shard(ranks)
            return check()

        alike = {**self._settings(), "sync": self.sync, "start_step": self.start_step}
        alike |= {"seen": self.seen, "step": self.step}
        del alike["rank"]
        return bank_shards.agreed(ranks, checked_here, sizes, n_sizes, alike=alike)

    def _check_shard(self, ranks: Ranks) -> None:
        """Refuse to be used where the rows are shared out in another way."""
        if self.sync == "shard" and (ranks.rank, ranks.size) != self._shard:
            raise InvalidValueError(
                f"the bank must be used by rank {self._shard[0]} of {self._shard[1]}, where it was made, got rank "
                f"{ranks.rank} of {ranks.size}; start torch.distributed before the bank is made"
            )

    # --- writing ---

    def _joint_batch(self, rows: torch.Tensor, labels: tuple[Any, Any, Any], step: Any) -> Batch:
        """Return the rows of all ranks, rank by rank."""
        batch, sizes = self._agreed_by_all(
            lambda: checked_batch(self, rows, labels, step), lambda batch: [len(batch.rows), batch.step], 2
        )
        ranks = Ranks()
        lengths, steps = zip(*sizes, strict=True)
        if len(set(steps)) > 1:
            raise InvalidValueError(
                f"step must be the same on every rank, got {list(steps)}; pass the step of the loop"
            )
        tables = ranks.gathered(torch.from_numpy(batch.labels.T.copy()), lengths)
        return Batch(torch.cat(ranks.gathered(batch.rows, lengths)), torch.cat(tables).numpy().T.copy(), batch.step)

    def _write(self, batch: Batch) -> None:
        # Until all is done nothing is taken for known: a call that is interrupted leaves what the tensors tell.
        places, shelf = self._current(), self._shelf
        self._places = self._shelf = None
        first = self.seen
        placed = places.place(batch.labels[0], self.momentum is not None)
        slots, last = torch.from_numpy(placed["last_slots"]).to(self.device), placed["last_rows"]
        self._book[:, slots] = -1
        written = self._write_rows(batch.rows, placed)
        if shelf is not None:
            shelf.write(in_place(self._rows), written, threads.resolve(self._n_threads))
        steps = np.full(len(last), batch.step, dtype=np.int64)
        table = np.stack([*batch.labels[:, last], steps, first + last, placed["chosen"]])
        self._counts.copy_(torch.tensor([first + len(batch.rows), batch.step]))
        self._book[:, slots] = torch.from_numpy(table).to(self.device)
        self._places, self._shelf = places, shelf

    def _write_rows(self, rows: torch.Tensor, placed: Mapping[str, Any]) -> Any:
        """Write rows into their slots here, round by round; return these slots, ascending."""
        here, at = bank_shards.own_slots(self._shard, placed["slots"])
        rounds, mixes = placed["rounds"], placed["mixes"]
        for turn in range(int(rounds.max(initial=-1)) + 1):
            now = here & (rounds == turn)
            slots = torch.from_numpy(at[now]).to(self.device)
            new = rows[torch.from_numpy(placed["rows"][now]).to(self.device)]
            if mixes[now].any():
                mixed = torch.from_numpy(mixes[now]).to(self.device)[:, None]
                new = torch.where(mixed, self._mixed(self._rows[slots], new), new)
            self._rows[slots] = new
        here, at = bank_shards.own_slots(self._shard, placed["last_slots"])
        return at[here]

    def _mixed(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return rows that moved towards new ones."""
        share = self.momentum or 0.0
        rows = share * old.float() + (1.0 - share) * new.float()
        if self.normalize:
            norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            # Opposite rows may leave no direction.
            rows = torch.where(norms > 1e-3, rows / norms.clamp(min=1e-3), new.float())
        return rows.to(self.dtype)

    # --- looking up ---

    def _padding(self, wanted: Wanted) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (len(wanted.anchors), wanted.k)
        slots = torch.full(shape, -1, dtype=torch.int64, device=self.device)
        return slots, torch.full(shape, -torch.inf, dtype=torch.float32, device=self.device)

    def _found(self, wanted: Wanted) -> tuple[torch.Tensor, torch.Tensor]:
        """Return slots and scores of the hardest rows that are here."""
        rank, size = self._shard
        lines = self._book[:, rank::size]
        if self.device.type != "cpu":
            labels = dict(zip(KINDS, lines, strict=False))
            slots, scores = by_torch(self._rows, labels, lines[_NUMBERS], wanted, self.normalize)
        else:
            table = np.ascontiguousarray(lines.numpy())
            labels_here = dict(zip(KINDS, table, strict=False))
            n_threads = threads.resolve(self._n_threads)
            slots, scores = compiled(self._codes(), self._rows, labels_here, table[_NUMBERS], wanted, n_threads)
        return torch.where(slots >= 0, slots * size + rank, -1), scores

    def _codes(self) -> BankShelf:
        """Return the codes of the rows, made from them where they are not known."""
        if self._shelf is None:
            rank, size = self._shard
            shelf = BankShelf("cosine" if self.normalize else "dot", len(self._rows), self.dim)
            held = np.flatnonzero(self._book[_NUMBERS, rank::size].numpy() >= 0)
            shelf.write(in_place(self._rows), held, threads.resolve(self._n_threads))
            self._shelf = shelf
        return self._shelf

    def _drawn(self, n: int) -> torch.Tensor:
        """Return the slots of rows at random, -1 beyond what is held."""
        order = self._order()
        bits = random_bits(len(order), purpose="bank", seed=self.seed, epoch=self.seen)
        if 0 < n < len(bits):  # only those that can be drawn are sorted
            few = np.flatnonzero(bits <= np.partition(bits, n - 1)[n - 1])
            few = few[np.argsort(bits[few], kind="stable")]
        else:
            few = np.argsort(bits, kind="stable")
        chosen = torch.from_numpy(few[:n]).to(self.device)
        slots = torch.full((n,), -1, dtype=torch.int64, device=self.device)
        slots[: len(chosen)] = order[chosen]
        return slots

    # --- state ---

    def _settings(self) -> dict[str, Any]:
        rank, size = self._shard
        return {
            "version": VERSION,
            "policy": self.policy,
            "capacity": self.capacity,
            "dim": self.dim,
            "dtype": str(self.dtype),
            "normalize": self.normalize,
            "momentum": self.momentum,
            "seed": self.seed,
            "rank": rank,
            "world_size": size,
        }

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in NAMES}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:  # noqa: ARG002
        with self._turn():
            destination.update({prefix + name: tensor for name, tensor in self._tensors().items()})

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,  # noqa: ARG002
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],  # noqa: ARG002
    ) -> None:
        here = {name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)}
        if strict:
            unexpected_keys.extend(prefix + name for name in sorted(here - set(NAMES)))
        missing = [prefix + name for name in NAMES if name not in here]
        missing_keys.extend(missing)
        if not missing:
            self._take({name: state_dict[prefix + name] for name in NAMES})

    def _take(self, state: Mapping[str, Any]) -> None:
        """Become what a state says, or raise and stay as before."""
        with self._turn("load_state_dict"), torch.no_grad():
            places = checked(state, self._tensors(), self._settings())
            rank, size = self._shard
            check_rows(state["rows"], state["book"][_NUMBERS, rank::size] >= 0, self.normalize)
            self._places = self._shelf = None
            self._rows.copy_(state["rows"])
            self._book.copy_(state["book"])
            self._counts.copy_(state["counts"])
            self._places = places

    def _apply(self, fn: Any, recurse: bool = True) -> "MemoryBank":
        """Follow the module to another device; the dtype of the rows stays."""
        follow: Any = super()._apply  # torch has no types here
        follow(fn, recurse)
        with self._turn("to"), torch.no_grad(), torch.inference_mode(False):
            device = fn(torch.empty(0, dtype=self.dtype, device=self.device)).device
            if device.type == "meta":
                raise InvalidValueError("the bank must be on a device that holds numbers, got meta; leave it out")
            if device != self.device:
                self._rows, self._book, self._shelf = self._rows.to(device), self._book.to(device), None
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but what the tensors tell, for copies and pickles."""
        with self._turn():
            made = {"_lock", "_calls", "_places", "_shelf"}
            state = {name: value for name, value in self.__dict__.items() if name not in made}
            return {**state, **{name: state[name].clone() for name in _TENSORS}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become what was copied."""
        restore: Any = super().__setstate__
        restore(state)
        with torch.inference_mode(False):  # tensors copied in that mode could not be written later
            for name in _TENSORS:
                if state[name].is_inference():
                    setattr(self, name, state[name].clone())
        self._forget()
