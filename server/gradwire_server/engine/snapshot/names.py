"""What may be part of snapshots, by name: classes, functions, containers, kinds of tensors."""

import enum
import functools
import operator
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from gradwire.v1 import catalog
from gradwire_server.engine.callbacks import Callback

T = TypeVar("T")

_BASES = (
    torch.nn.Module,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    torch.amp.GradScaler,
)
_HELPERS = frozenset(
    {
        "torch.nn.utils.spectral_norm:SpectralNorm",
        "torch.nn.utils.spectral_norm:SpectralNormLoadStateDictPreHook",
        "torch.nn.utils.spectral_norm:SpectralNormStateDictHook",
        "torch.nn.utils.weight_norm:WeightNorm",
        "torch.utils.hooks:RemovableHandle",
        "torch.nn.modules.module:_WrappedHook",
    }
)
"""Classes that are no modules, optimizers or schedulers and are parts of them."""
CONTAINERS: dict[str, Callable[[], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": Counter,
}
FACTORIES: dict[str, Any] = {
    "": None,
    "dict": dict,
    "list": list,
    "GradScaler": torch.amp.grad_scaler._refresh_per_optimizer_state,
}
"""What makes the missing values of a `defaultdict`."""
TENSOR_CLASSES: dict[str, type] = {
    "Tensor": torch.Tensor,
    "Parameter": torch.nn.Parameter,
    "UninitializedParameter": torch.nn.UninitializedParameter,
    "UninitializedBuffer": torch.nn.UninitializedBuffer,
}
_FUNCTIONS = [catalog.FUNCTIONS, catalog.METHODS, catalog.INITIALIZERS]


def allowed_class(name: str) -> type | None:
    """Returns the class of a name ``module:qualified.name``; None if it is not to be built."""
    own = _own_classes.get(name)
    if own is not None:
        return own
    module_name, _, qualified = name.partition(":")
    if module_name.partition(".")[0] != "torch" or module_name not in sys.modules:
        return None
    try:
        found = operator.attrgetter(qualified)(sys.modules[module_name])
    except AttributeError:
        return None
    if isinstance(found, type) and (issubclass(found, (*_BASES, enum.Enum)) or name in _HELPERS):
        return found
    return None


def register(kind: type[T]) -> type[T]:
    """Lets objects of a class of the engine be part of snapshots; used as a decorator."""
    _own_classes[class_name(kind)] = kind
    return kind


_own_classes: dict[str, type] = {}


def class_name(kind: type) -> str:
    """Returns the name of a class, ``module:qualified.name``."""
    return f"{kind.__module__}:{kind.__qualname__}"


register(Callback)


@functools.cache
def function_names() -> dict[Any, str]:
    """Returns the names of the functions of the catalog."""
    names: dict[Any, str] = {}
    for table in _FUNCTIONS:
        for name in table:
            function = operator.attrgetter(name.removeprefix("torch."))(torch)
            names.setdefault(function, name)
    return names


def function_named(name: str) -> Any:
    """Returns a function of the catalog.

    Raises:
        ValueError: It has none of that name.
    """
    if not any(name in table for table in _FUNCTIONS):
        raise ValueError(f"{name!r} is no function of the catalog")
    return operator.attrgetter(name.removeprefix("torch."))(torch)


def static_method(name: str) -> Any:
    """Returns a static method of a scheduler, ``module:class.name``; None if there is none."""
    owner_name, _, attribute = name.rpartition(".")
    owner = allowed_class(owner_name)
    if owner is None or not issubclass(owner, torch.optim.lr_scheduler.LRScheduler):
        return None
    found = vars(owner).get(attribute)
    return found.__func__ if isinstance(found, staticmethod) else None
