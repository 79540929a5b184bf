"""What every state has to agree on with the object that takes it."""

from collections.abc import Mapping
from typing import Any

from negfast.errors import InvalidTypeError, StateError, shown


def check_state(state: Any, own: Mapping[str, Any], what: str) -> None:
    """Refuse a state that is no mapping, or of another version or other settings.

    Parameters
    ----------
    state : object
        What the user passed.
    own : mapping of str to object
        Version and settings of the object that is to take the state, by the names that the state has them under.
    what : str
        What the object is, such as ``"this sampler"``.

    Raises
    ------
    InvalidTypeError
        If `state` is no mapping.
    StateError
        If a value of `own` is missing in `state`, or is another or of another type there.
    """
    if not isinstance(state, Mapping):
        raise InvalidTypeError(
            f"state must be a mapping, got {type(state).__name__} {shown(state)}; pass what state_dict returned"
        )
    for name, value in own.items():
        if type(state.get(name)) is not type(value) or state[name] != value:
            raise StateError(
                f"{name} of the state must be {value!r}, as of {what}, got {shown(state.get(name))}; make {what} "
                "as the one that was saved"
            )
