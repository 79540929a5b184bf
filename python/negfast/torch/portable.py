"""States as files of torch take them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def as_tensors(state: Any) -> Any:
    """Return a state with its arrays as tensors, so that ``torch.load(..., weights_only=True)`` reads it.

    Parameters
    ----------
    state : mapping
        What a `state_dict` returned, of this package or of torch.

    Returns
    -------
    dict
        The same keys; arrays share their memory, everything else is as it was. Every `load_state_dict` of
        :mod:`negfast.torch` takes it.

    Examples
    --------
    >>> import numpy as np
    >>> from negfast.torch import as_tensors
    >>> as_tensors({"epoch": 3, "inner": {"rows": np.arange(2)}})
    {'epoch': 3, 'inner': {'rows': tensor([0, 1])}}
    """
    if isinstance(state, Mapping):
        return {name: as_tensors(value) for name, value in state.items()}
    if isinstance(state, list):
        return [as_tensors(value) for value in state]
    return torch.from_numpy(state) if isinstance(state, np.ndarray) else state


def as_arrays(state: Any) -> Any:
    """Return a state with its tensors as arrays: the way back from :func:`as_tensors`.

    Parameters
    ----------
    state : mapping
        What :func:`as_tensors` returned, read from a file perhaps.

    Returns
    -------
    dict
        The same keys; arrays share the memory of tensors of the CPU, everything else is as it was.
    """
    if isinstance(state, Mapping):
        return {name: as_arrays(value) for name, value in state.items()}
    if isinstance(state, list):
        return [as_arrays(value) for value in state]
    return state.detach().cpu().numpy() if isinstance(state, torch.Tensor) else state
