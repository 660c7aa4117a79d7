"""Attributes that a program may read and set: those of values, and only if they are values.

Python reaches everything from anywhere by attributes: from a tensor its class, from there modules
and globals. So it is said here which objects have attributes to speak of and what these may be.
"""

from typing import Any

import torch

from gradwire.v1 import catalog
from gradwire_server.engine.values import class_name

SETTABLE = frozenset(name.rsplit(".", 1)[-1] for name in catalog.SETTABLE_PROPERTIES)
"""What of a tensor can be set."""

_READABLE = frozenset(name.rsplit(".", 1)[-1] for name in catalog.PROPERTIES)
_Scheduler = torch.optim.lr_scheduler.LRScheduler
_OWNERS = (torch.nn.Module, torch.optim.Optimizer, _Scheduler)
_VALUES = (
    *(*_OWNERS, torch.Tensor, torch.Generator, torch.amp.GradScaler),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    *(bool, int, float, complex, str, list, tuple, dict, type(None)),
)
_FIXED = frozenset({"param_groups", "state", "defaults", "optimizer"})
"""Attributes of optimizers and schedulers that hold their state together."""


def get_attribute(value: Any, path: str) -> Any:
    """Returns a public attribute by dotted path: a tensor, a module or plain data.

    Raises:
        AttributeError: There is none of that name, or it is something that is no value.
    """
    for name in path.split("."):
        if isinstance(value, torch.nn.Module) and name in _members(value):
            value = _members(value)[name]
            continue
        _require_public(name)
        if isinstance(value, torch.Tensor):
            if name not in _READABLE:
                raise AttributeError(f"{name!r} is not a property of tensors in the catalog")
        elif not isinstance(value, (*_OWNERS, tuple)):
            raise AttributeError(f"attributes of a {class_name(value)} can't be read")
        value = getattr(value, name)
        if not isinstance(value, _VALUES):
            raise AttributeError(f"{name!r} is no value; tensors, modules and data are returned")
    return value


def set_attribute(value: Any, name: str, attribute: Any) -> None:
    """Sets a public attribute of a tensor, a module, an optimizer or a scheduler.

    Raises:
        AttributeError: There is none of that name, or it can't be set.
        TypeError: It can't be set to that.
    """
    _require_public(name)
    if not isinstance(attribute, _VALUES):
        raise TypeError(f"{name!r} can't be set to a {class_name(attribute)}")
    if isinstance(value, torch.Tensor):
        if name not in SETTABLE:
            raise AttributeError(f"{name} of a tensor can't be set; {sorted(SETTABLE)} can")
    elif not isinstance(value, _OWNERS):
        raise AttributeError(f"attributes of a {class_name(value)} can't be set")
    elif not hasattr(value, name):
        raise AttributeError(f"{class_name(value)} has no attribute {name!r} to set")
    elif not isinstance(value, torch.nn.Module) and name in _FIXED:
        raise AttributeError(f"{name} of a {class_name(value)} can't be replaced")
    elif not isinstance(getattr(value, name), _VALUES):
        raise AttributeError(f"{name!r} is a method and can't be replaced")
    elif isinstance(getattr(value, name), bool) and not isinstance(attribute, bool | None):
        raise TypeError(f"{name!r} is true or false; a {class_name(attribute)} is neither")
    setattr(value, name, attribute)


def _members(module: torch.nn.Module) -> dict[str, Any]:
    """Returns what is registered in a module, whatever its name."""
    return {**module._parameters, **module._buffers, **module._modules}


def _require_public(name: str) -> None:
    if name.startswith("_") or not name:
        raise AttributeError(f"{name!r} is not a public attribute")
