"""The state of a memory bank: in every file of tensors, into the same bank only, and as if it had never stopped."""

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from negfast.errors import InvalidTypeError, StateError
from negfast.torch import MemoryBank
from negfast.torch.bank import POLICIES
from test_bank import DTYPES, filled, numbers, same

OPTIONS: dict[str, Any] = {"capacity": 40, "dim": 8, "seed": 3, "momentum": 0.5}


def stepped(bank: MemoryBank, steps: range) -> MemoryBank:
    for step in steps:
        rng = np.random.default_rng(step)
        n = int(rng.integers(0, 60))
        bank.enqueue(numbers(n, 8, seed=step), rng.integers(-1, 90, n), rng.integers(-1, 5, n), step=step)
        bank.hardest(numbers(3, 8), 4)
    return bank


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stop", [0, 1, 5])
def test_resumed_is_as_never_stopped(policy: Any, dtype: Any, stop: int) -> None:
    options = {**OPTIONS, "policy": policy, "dtype": dtype}
    whole = stepped(MemoryBank(**options), range(9))
    file = io.BytesIO()
    torch.save(stepped(MemoryBank(**options), range(stop)).state_dict(), file)
    file.seek(0)
    resumed = stepped(MemoryBank(**options), range(3))  # what it held is forgotten
    resumed.load_state_dict(torch.load(file, weights_only=True))
    stepped(resumed, range(stop, 9))
    assert same(whole, resumed)
    assert torch.equal(whole.sample(7).ids, resumed.sample(7).ids)


def test_it_is_saved_with_the_module_that_it_belongs_to(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = torch.nn.ModuleDict({"head": torch.nn.Linear(8, 8), "memory": torch.nn.ModuleList([filled(n=20)])})
    names = {"memory.0.rows", "memory.0.book", "memory.0.counts", "memory.0.settings"}
    assert names < set(model.state_dict())
    safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = torch.nn.ModuleDict({"head": torch.nn.Linear(8, 8), "memory": torch.nn.ModuleList([MemoryBank(40, 8)])})
    done = other.load_state_dict(safetensors.load_file(tmp_path / "model.safetensors"))
    assert not done.missing_keys and not done.unexpected_keys
    assert same(other["memory"][0], model["memory"][0]) and len(other["memory"][0]) == 20 - 7


def test_a_state_is_of_the_moment_only_if_it_is_copied() -> None:
    bank = filled()
    state, live = copy.deepcopy(bank.state_dict()), bank.state_dict()
    before = copy.deepcopy(bank)
    stepped(bank, range(3, 5))
    for name, tensor in live.items():  # as of any module
        assert torch.equal(tensor, bank.state_dict()[name])
    other = filled()
    other.load_state_dict(live)
    assert same(other, bank)
    bank.load_state_dict(state)
    assert same(bank, before)


def test_distributed_checkpoints_take_it() -> None:
    checkpoints = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    model, other = (torch.nn.Sequential(torch.nn.Linear(8, 8), filled(n=n)) for n in (60, 20))
    state = checkpoints.get_model_state_dict(model)
    assert {"1.rows", "1.book", "1.counts", "1.settings"} < set(state)
    checkpoints.set_model_state_dict(other, copy.deepcopy(state))
    assert same(other[1], model[1])


def test_keys_that_lack_or_do_not_belong() -> None:
    bank, state = filled(), filled(n=20).state_dict()
    before = copy.deepcopy(bank)
    with pytest.raises(RuntimeError, match=r"Missing key.*book"):
        bank.load_state_dict({name: tensor for name, tensor in state.items() if name != "book"})
    done = bank.load_state_dict({}, strict=False)
    assert set(done.missing_keys) == {"rows", "book", "counts", "settings"} and same(bank, before)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*other"):
        bank.load_state_dict({**state, "other": torch.zeros(1)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capacity", 41),
        ("dim", 9),
        ("policy", "aged"),
        ("seed", 4),
        ("normalize", False),
        ("momentum", None),
        ("momentum", 0.25),
        ("dtype", torch.float16),
    ],
)
def test_other_banks_are_refused_by_name(name: str, value: Any) -> None:
    bank = stepped(MemoryBank(**OPTIONS), range(4))
    before = copy.deepcopy(bank)
    with pytest.raises(StateError, match=f"{name} of the state must be"):
        bank.load_state_dict(MemoryBank(**{**OPTIONS, name: value}).state_dict())
    assert same(bank, before)


def test_what_may_differ() -> None:
    bank = stepped(MemoryBank(**OPTIONS), range(4))
    other = MemoryBank(**OPTIONS, start_step=100, n_threads=1, sync="all")
    other.load_state_dict(bank.state_dict())
    assert other.seen == bank.seen and torch.equal(other.ids, bank.ids)


def damaged(state: dict[str, Any], name: str, line: int, slot: int, value: float) -> dict[str, Any]:
    state = copy.deepcopy(state)
    where = (line, slot) if state[name].ndim == 2 else (slot,)
    state[name][where] = value
    return state


@pytest.mark.parametrize(
    ("name", "line", "slot", "value", "message"),
    [
        ("rows", 3, 1, float("nan"), "rows of the state are damaged"),
        ("rows", 3, 1, 7.0, "rows of the state are damaged"),
        ("book", 0, 3, 4, "ids of the state are damaged"),
        ("book", 0, 3, -5, "ids of the state are damaged"),
        ("book", 1, 3, -5, "groups of the state are damaged"),
        ("book", 2, 3, -5, "keys of the state are damaged"),
        ("book", 3, 3, 999, "steps of the state are damaged"),
        ("book", 4, 3, 999, "numbers of the state are damaged"),
        ("book", 4, 3, 5, "of the state are damaged"),
        ("book", 5, 3, -1, "chosen of the state are damaged"),
        ("counts", 0, 0, -3, "of the state are damaged"),
        ("settings", 0, 0, 7, "settings of the state are damaged"),
    ],
)
def test_damaged_states_change_nothing(name: str, line: int, slot: int, value: float, message: str) -> None:
    bank = filled()
    before, state = copy.deepcopy(bank), bank.state_dict()
    wrong = damaged(state, name, line, slot, value)
    with pytest.raises(StateError, match=message):
        bank.load_state_dict(wrong)
    assert same(bank, before)


def test_a_state_of_other_kinds() -> None:
    bank, state = filled(), filled().state_dict()
    for name, value in {"rows": state["rows"].numpy(), "book": state["book"].int(), "counts": None}.items():
        with pytest.raises(StateError, match=f"{name} of the state must be"):
            bank.load_state_dict({**state, name: value})
    with pytest.raises((InvalidTypeError, TypeError)):
        bank.load_state_dict([])  # type: ignore[arg-type]
    with pytest.raises(StateError, match="book of the state must be"):
        bank.load_state_dict({**state, "book": state["book"][:, :-1]})
