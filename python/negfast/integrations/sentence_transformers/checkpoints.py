"""Files beside the trainer's own in a checkpoint, and the way back from them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from negfast.errors import StateError
from negfast.torch.portable import as_tensors
from negfast.torch.weights import weights_sum

VERSION = 1
"""Version of the files."""


def save_state(args: Any, state: Any, name: str, model: nn.Module, parts: Mapping[str, Any]) -> None:
    """Write the state of this rank into the checkpoint that the trainer has just made.

    Parameters
    ----------
    args : TrainingArguments
    state : TrainerState
    name : str
        What the file is called.
    model : Module
        The model whose checkpoint it is.
    parts : mapping
        Plain values, tensors and arrays.
    """
    folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    folder.mkdir(parents=True, exist_ok=True)
    held = {**_told(args), "step": state.global_step, "weights": weights_sum(model), "parts": as_tensors(parts)}
    path = folder / _file(name, args)
    torch.save(held, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def load_state(args: Any, state: Any, name: str, model: nn.Module) -> Any:
    """Return the parts that were saved with the checkpoint that the trainer goes on from.

    Parameters
    ----------
    args, state, name, model
        As in :func:`save_state`; the model with the weights of the checkpoint.

    Returns
    -------
    dict or None
        None where the training starts at step 0.

    Raises
    ------
    StateError
        If there is no such file, it is damaged, or was written by another number of processes.

    Notes
    -----
    A callback is not told which folder the trainer goes on from. It is `resume_from_checkpoint` of the arguments, or
    lies in their `output_dir`. That it is the right one is seen by the weights of the model, which are the sum of all
    their bits.
    """
    if state.global_step == 0:
        return None
    folders = [Path(args.output_dir) / f"checkpoint-{state.global_step}"]
    if isinstance(args.resume_from_checkpoint, str):
        folders.insert(0, Path(args.resume_from_checkpoint))
    weights = weights_sum(model)
    for folder in folders:
        held = _read(folder / _file(name, args))
        if held is None or held.get("weights") != weights or held.get("step") != state.global_step:
            continue
        for setting, value in _told(args).items():
            if held.get(setting) != value:
                raise StateError(
                    f"{folder / _file(name, args)} must have {setting} {value}, got {held.get(setting)}; go on with as "
                    "many processes as before, and with this version"
                )
        return held["parts"]
    places = " or ".join(map(str, folders))
    raise StateError(
        f"{_file(name, args)} must be in {places}, with the weights of step {state.global_step}, got no such file; set "
        "resume_from_checkpoint of the training arguments to the folder that the trainer goes on from, or start anew"
    )


def _told(args: Any) -> dict[str, int]:
    return {"version": VERSION, "world_size": args.world_size}


def _file(name: str, args: Any) -> str:
    return f"{name}_{args.process_index}.pt"


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged bytes torch raises whatever its reader of pickles came to
        raise StateError(
            f"{path} must be a whole file of a checkpoint, got one that cannot be read: {error}"
        ) from error
    if not isinstance(held, dict):
        raise StateError(f"{path} must hold a state, got {type(held).__name__}; it is of something else")
    return held
