"""State of optimizers and schedulers on its way: dictionaries may have keys that are no strings."""

from collections import Counter
from typing import Any

from gradwire.calls import RemoteObject, unpack

PAIRS = "gradwire.pairs"
"""Marks a tuple (PAIRS, class, list of pairs) that stands for a dictionary."""


def fetch_structure(result: RemoteObject) -> Any:
    """Returns a result as Python values; its tensors stay on the server."""
    session = result._slot.session
    return unpack(session, result, session.fetch("gradwire.describe", (result,), {}))


def pack(value: Any) -> Any:
    """Returns state in which every dictionary has strings for keys."""
    if isinstance(value, dict):
        packed = {key: pack(element) for key, element in value.items()}
        if all(isinstance(key, str) for key in packed):
            return packed
        return (PAIRS, type(value).__name__, [list(pair) for pair in packed.items()])
    if isinstance(value, list):
        return [pack(element) for element in value]
    if type(value) is tuple:
        return tuple(pack(element) for element in value)
    return value


def unpack_pairs(value: Any) -> Any:
    """Returns what `pack` was given."""
    if isinstance(value, dict):
        return {key: unpack_pairs(element) for key, element in value.items()}
    if isinstance(value, list):
        return [unpack_pairs(element) for element in value]
    if type(value) is tuple:
        if len(value) == 3 and value[0] == PAIRS:
            kind = Counter if value[1] == "Counter" else dict
            return kind({key: unpack_pairs(element) for key, element in value[2]})
        return tuple(unpack_pairs(element) for element in value)
    return value
