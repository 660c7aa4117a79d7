"""gradwire's own operations on sessions, modules and optimizers, beside those of torch.

Each public method of :class:`Intrinsics` is the operation `gradwire.<its name>`.
"""

import copy
import inspect
import math
import operator
from collections.abc import Iterator
from contextlib import AbstractContextManager, _GeneratorContextManager, contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch

from gradwire.v1 import values_pb2
from gradwire_server.engine import hot
from gradwire_server.engine.attributes import get_attribute, set_attribute
from gradwire_server.engine.inside import hooking
from gradwire_server.engine.memory import Budget, held_bytes
from gradwire_server.engine.programs import Program
from gradwire_server.engine.random_state import RandomState
from gradwire_server.engine.registry import Subject, operations_of
from gradwire_server.engine.values import class_name, describe_tensor, encode_value

_CONTEXTS = (
    torch.autocast,
    torch.autograd.detect_anomaly,
    torch.autograd.set_detect_anomaly,
    torch.utils._contextlib._DecoratorContextManager,
    _GeneratorContextManager,
)
"""What `catalog.CONTEXTS` makes; a device, for one, is a context manager too."""
_COPYABLE = (
    *(torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler),
    *(torch.amp.GradScaler, torch.Generator, list, tuple, dict),
)
_ADDRESSES = frozenset(
    (object.__repr__, FunctionType.__repr__, BuiltinFunctionType.__repr__, MethodType.__repr__)
)
"""The ways to print an object that show its address."""
MODULE_METHODS = (
    *("reset_parameters", "reset_running_stats", "flatten_parameters", "log_prob", "predict"),
    "_conv_forward",
)
"""Methods of modules that clients may call, where a module has them."""


class Intrinsics:
    """The intrinsic operations of one session.

    Args:
        device: The session's device.
        budget: What copies are held against.
    """

    def __init__(self, device: torch.device, budget: Budget) -> None:
        self._device = device
        self._budget = budget
        self._contexts: list[AbstractContextManager[Any]] = []

    def close_contexts(self) -> None:
        """Leaves all contexts that were entered and not left, innermost first."""
        while self._contexts:
            self._contexts.pop().__exit__(None, None, None)

    @staticmethod
    def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a module, or a program as a function of its inputs."""
        if isinstance(function, Program) and not kwargs:
            return function.call(*args)
        if not isinstance(function, torch.nn.Module):
            raise TypeError(f"a {class_name(function)} can't be called; only modules can")
        try:
            return hot.call(function, *args, **kwargs)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            known = f"{class_name(function)}.forward{inspect.signature(type(function).forward)}"
            raise TypeError(f"{error}\nthe signature is {known}") from error

    def call_inside(
        self,
        module: torch.nn.Module,
        hooks: list[Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Calls a module with hooks on modules inside it.

        Args:
            module: The module.
            hooks: For each the path of a submodule, its kind (`forward_pre`, `forward`,
                `backward_pre` or `backward`), the callback, and whether to call it on failure too.
            args: What the module is called with.
            kwargs: The same by name.
        """
        _require_module(module)
        with hooking(module, hooks):
            return self.call(module, *args, **kwargs)

    @staticmethod
    def getitem(sequence: Any, index: Any) -> Any:
        """Returns an element of a tuple, list or dict that an operation returned."""
        if not isinstance(sequence, tuple | list | dict):
            raise TypeError(f"a {class_name(sequence)} is no tuple, list or dict")
        if isinstance(sequence, dict) and index not in sequence:
            raise KeyError(index)
        return operator.getitem(sequence, index)

    @staticmethod
    def getattr(value: Any, path: str) -> Any:
        """Returns a public attribute by dotted path: a tensor, a module or plain data."""
        return get_attribute(value, path)

    @staticmethod
    def setattr(value: Any, name: str, attribute: Any) -> None:
        """Sets a public attribute of a tensor, a module, an optimizer or a scheduler."""
        set_attribute(value, name, attribute)

    @staticmethod
    def parameter(data: torch.Tensor, requires_grad: bool = True) -> torch.nn.Parameter:
        """Makes a parameter of a tensor's data."""
        return torch.nn.Parameter(data, requires_grad)

    def deepcopy(self, value: Any) -> Any:
        """Copies a module, an optimizer or a leaf tensor."""
        if not isinstance(value, _COPYABLE):
            raise TypeError(f"a {class_name(value)} can't be copied")
        self._budget.reserve(held_bytes([value]), "gradwire.deepcopy")
        result = copy.deepcopy(value)
        self._budget.note(result)
        return result

    @staticmethod
    def copy(tensor: torch.Tensor) -> torch.Tensor:
        """Returns another tensor or parameter with the same memory, as `copy.copy` does."""
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"a {class_name(tensor)} is no tensor")
        return copy.copy(tensor)

    @staticmethod
    def convert(parameter: torch.Tensor, method: str, *args: Any, **kwargs: Any) -> None:
        """Converts a parameter and its gradient in place, as a method of its module would.

        Args:
            parameter: The parameter.
            method: `to` or `type`.
            args: The method's arguments.
            kwargs: The same by name.
        """
        if method not in ("to", "type"):
            raise ValueError(f"{method!r} is no conversion; to and type are")
        getattr(torch.nn.ParameterList([parameter]), method)(*args, **kwargs)

    def materialize(self, parameter: Any, shape: tuple[int, ...]) -> None:
        """Gives a parameter of a lazy module its shape; the elements are zeros."""
        if torch.nn.parameter.is_lazy(parameter):
            self._budget.reserve(math.prod(shape) * parameter.element_size(), "materialize")
            parameter.materialize(shape)
            parameter.data.zero_()

    @staticmethod
    def repr(value: Any, **options: Any) -> str:
        """Returns Python's printout of a value.

        Args:
            value: The value.
            options: What `torch.set_printoptions` takes.
        """
        printing: Any = type(value).__repr__
        if printing in _ADDRESSES:
            # Where objects lie in the worker's memory is nobody's business.
            return f"<{class_name(value)}>"
        if not options:
            return repr(value)
        for name, limit in _PRINT_LIMITS.items():
            if name in options:
                options[name] = min(options[name], limit)
        torch.set_printoptions(**options)
        try:
            return repr(value)
        finally:
            torch.set_printoptions(profile="default")

    @staticmethod
    def default_dtype(dtype: torch.dtype) -> AbstractContextManager[None]:
        """Returns a context in which tensors made of Python floats are of this type."""
        return _default_dtype(dtype)

    @staticmethod
    def grad_fn(tensor: torch.Tensor) -> Any:
        """Returns the node of the autograd graph that made a tensor; None for a leaf."""
        return tensor.grad_fn

    @staticmethod
    def node_name(node: torch.autograd.graph.Node) -> str:
        """Returns the name of a node of the autograd graph."""
        return node.name()

    @staticmethod
    def next_inputs(node: torch.autograd.graph.Node) -> list[int | None]:
        """Returns for each gradient that a node passes on the input number of the next node."""
        return [None if following is None else number for following, number in node.next_functions]

    @staticmethod
    def next_node(node: torch.autograd.graph.Node, index: int) -> Any:
        """Returns one of the nodes that a node passes gradients on to."""
        return node.next_functions[index][0]

    @staticmethod
    def describe(value: Any) -> values_pb2.Value:
        """Returns what a value is: structure, shapes, dtypes, and of a module its members."""
        if isinstance(value, torch.nn.Module):
            return encode_value(_describe_module(value), describe_tensor)
        return encode_value(value, describe_tensor)

    def enter(self, context: AbstractContextManager[Any]) -> None:
        """Enters a context such as `torch.no_grad()`; it is left at the program's end at latest."""
        if not isinstance(context, _CONTEXTS):
            raise TypeError(f"a {class_name(context)} is not a context manager")
        if any(context is entered for entered in self._contexts):
            raise RuntimeError("this context was entered already and not left since")
        context.__enter__()
        self._contexts.append(context)

    def exit(self) -> None:
        """Leaves the context that was entered last."""
        if not self._contexts:
            raise RuntimeError("no context was entered in this program")
        self._contexts.pop().__exit__(None, None, None)

    def random_state(self) -> RandomState:
        """Returns the present state of the session's random numbers."""
        return RandomState.capture(self._device)

    def set_random_state(self, state: RandomState) -> None:
        """Puts the session's random numbers into a state that `random_state` returned."""
        if not isinstance(state, RandomState):
            raise TypeError(f"a {class_name(state)} is not a state of random numbers")
        state.restore(self._device)

    @staticmethod
    def options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        """Returns the options of each parameter group, such as `lr`."""
        return [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]

    @staticmethod
    def module_method(module: torch.nn.Module, name: str, *args: Any) -> Any:
        """Calls one of the few methods of modules that compute or change something."""
        if name not in MODULE_METHODS:
            raise AttributeError(f"{name!r} is none of {', '.join(MODULE_METHODS)}")
        return getattr(_require_module(module), name)(*args)

    @staticmethod
    def set_option(optimizer: torch.optim.Optimizer, group: int, name: str, value: Any) -> None:
        """Sets an option such as `lr` of a parameter group."""
        if name == "params":
            raise AttributeError("params is not an option; add_param_group adds parameters")
        optimizer.param_groups[group][name] = value


_PRINT_LIMITS = {"threshold": 1_000_000, "edgeitems": 1_000, "linewidth": 10_000, "precision": 100}
"""Printing more than this would take the worker minutes."""


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _require_module(value: Any) -> torch.nn.Module:
    if not isinstance(value, torch.nn.Module):
        raise TypeError(f"a {class_name(value)} is no module")
    return value


def _describe_module(module: torch.nn.Module) -> dict[str, Any]:
    """Returns a module's members by dotted path, in torch's order."""
    return {
        path: {
            "type": class_name(child),
            "training": child.training,
            "version": child._version,
            "extra_repr": child.extra_repr(),
            "parameters": dict(child._parameters),
            "buffers": dict(child._buffers),
            "non_persistent": sorted(child._non_persistent_buffers_set),
            "modules": {name: class_name(m) for name, m in child._modules.items() if m is not None},
            "methods": [name for name in MODULE_METHODS if hasattr(child, name)],
            "computed": _computed(child),
            "attributes": {
                name: value
                for name, value in vars(child).items()
                if not name.startswith("_") and _is_plain(value)
            },
        }
        for path, child in module.named_modules(remove_duplicate=False)
    }


def _computed(module: torch.nn.Module) -> list[str]:
    """Returns the names of tensors that a module has but does not own, such as normed weights."""
    names = [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]
    if torch.nn.utils.parametrize.is_parametrized(module):
        names += module.parametrizations  # type: ignore[arg-type]
    return names


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(element) for element in value)
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)


OPERATIONS = operations_of(Intrinsics, Subject.INTRINSICS, but={"close_contexts"})
"""The operations by name."""
