"""The state of optimizers, schedulers and scalers, as values that travel.

Each public function is the operation `gradwire.<its name>`.
"""

from collections import Counter
from typing import Any

import torch

from gradwire_server.engine.callbacks import Callback
from gradwire_server.engine.registry import Operation
from gradwire_server.engine.values import class_name

_PAIRS = "gradwire.pairs"
"""Marks a tuple that stands for a dictionary whose keys are not all strings."""

_STATEFUL = (
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    torch.amp.GradScaler,
)


def state(owner: Any) -> Any:
    """Returns the state dict of an optimizer, a scheduler or a scaler.

    Dictionaries whose keys are not all strings become tuples ("gradwire.pairs", class, pairs);
    functions become None.
    """
    return _pack(_require_stateful(owner).state_dict())


def load_state(owner: Any, state_dict: Any) -> None:
    """Loads a state dict that has the form of what `state` returns."""
    unpacked = _unpack(state_dict)
    if not isinstance(unpacked, dict):
        raise TypeError(f"a state is a dictionary, not a {class_name(unpacked)}")
    if isinstance(owner, torch.optim.lr_scheduler.LRScheduler):
        unpacked = _for_scheduler(owner, unpacked)
    _require_stateful(owner).load_state_dict(unpacked)


def option_groups(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Returns an optimizer of no parameters: the options of one that the client runs itself.

    Schedulers change them there.
    """
    return torch.optim.Optimizer(
        [{**group, "params": [torch.nn.Parameter(torch.zeros(0))]} for group in groups], {}
    )


def _require_stateful(owner: Any) -> Any:
    if not isinstance(owner, _STATEFUL):
        raise TypeError(f"a {class_name(owner)} has no state to read or load")
    return owner


def _for_scheduler(
    owner: torch.optim.lr_scheduler.LRScheduler, state_dict: dict[str, Any]
) -> dict[str, Any]:
    """Returns what a scheduler may load. It takes over every entry as an attribute of its own.

    Only entries that it has may come, and its functions stay.
    """
    own = owner.state_dict()
    unknown = sorted(state_dict.keys() - own.keys())
    if unknown:
        raise ValueError(f"{unknown} are no entries of the state of a {type(owner).__name__}")
    loaded: dict[str, Any] = {}
    for name, value in state_dict.items():
        present = getattr(owner, name, None)
        if name == "lr_lambdas":
            loaded[name] = [None] * len(owner.lr_lambdas)  # type: ignore[attr-defined]
        elif name == "_scale_fn_custom":
            loaded[name] = None
        elif name == "_schedulers":
            loaded[name] = [
                _for_scheduler(inner, entry)
                for inner, entry in zip(owner._schedulers, value, strict=True)  # type: ignore[attr-defined]
            ]
        elif not callable(present):
            if isinstance(value, torch.nn.Module | Callback) or callable(value):
                raise ValueError(f"{name} of a {type(owner).__name__} can't be a function")
            loaded[name] = value
    return loaded


def _pack(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("lr_lambdas"), list):
            value = {**value, "lr_lambdas": [None] * len(value["lr_lambdas"])}
        if isinstance(value.get("_scale_fn_custom"), dict):
            value = {**value, "_scale_fn_custom": None}
        packed = {key: _pack(element) for key, element in value.items()}
        if all(isinstance(key, str) for key in packed):
            return packed
        return (_PAIRS, type(value).__name__, [list(pair) for pair in packed.items()])
    if isinstance(value, list):
        return [_pack(element) for element in value]
    if type(value) is tuple:
        return tuple(_pack(element) for element in value)
    # What has a state of functions is restored with functions that are there already.
    return None if callable(value) and not isinstance(value, torch.Tensor) else value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unpack(element) for key, element in value.items()}
    if isinstance(value, list):
        return [_unpack(element) for element in value]
    if type(value) is tuple:
        if len(value) == 3 and value[0] == _PAIRS:
            kind = Counter if value[1] == "Counter" else dict
            return kind({_key(key): _unpack(element) for key, element in value[2]})
        return tuple(_unpack(element) for element in value)
    return value


def _key(key: Any) -> str | int | float:
    if not isinstance(key, str | int | float):
        raise TypeError(f"a {class_name(key)} is no key of a state's dictionary")
    return key


OPERATIONS = {
    f"gradwire.{function.__name__}": Operation(function)
    for function in (state, load_state, option_groups)
}
"""The operations by name."""
