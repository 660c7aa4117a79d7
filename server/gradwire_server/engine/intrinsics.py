"""gradwire's own operations on sessions, modules and optimizers, beside those of torch.

Each public method of :class:`Intrinsics` is the operation `gradwire.<its name>`.
"""

import copy
import inspect
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager, _GeneratorContextManager
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch

from gradwire.v1 import values_pb2
from gradwire_server.engine import hot
from gradwire_server.engine.attributes import get_attribute, set_attribute
from gradwire_server.engine.closures import SteppedOptimizer
from gradwire_server.engine.memory import Budget, held_bytes
from gradwire_server.engine.programs import Program
from gradwire_server.engine.random_state import RandomState
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
        self._steps: dict[int, SteppedOptimizer] = {}

    def table(self) -> dict[str, Callable[..., Any]]:
        """Returns the operations by name."""
        names = [name for name in vars(type(self)) if not name.startswith("_")]
        return {f"gradwire.{n}": getattr(self, n) for n in names if n not in _NOT_OPERATIONS}

    def close_contexts(self) -> None:
        """Leaves all contexts that were entered and not left, innermost first."""
        while self._contexts:
            self._contexts.pop().__exit__(None, None, None)

    def close(self) -> None:
        """Gives up all steps that wait for their closure."""
        self._steps.clear()

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
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

    def getitem(self, sequence: Any, index: Any) -> Any:
        """Returns an element of a tuple, list or dict that an operation returned."""
        if not isinstance(sequence, tuple | list | dict):
            raise TypeError(f"a {class_name(sequence)} is no tuple, list or dict")
        if isinstance(sequence, dict) and index not in sequence:
            raise KeyError(index)
        return operator.getitem(sequence, index)

    def getattr(self, value: Any, path: str) -> Any:
        """Returns a public attribute by dotted path: a tensor, a module or plain data."""
        return get_attribute(value, path)

    def setattr(self, value: Any, name: str, attribute: Any) -> None:
        """Sets a public attribute of a tensor, a module, an optimizer or a scheduler."""
        set_attribute(value, name, attribute)

    def parameter(self, data: torch.Tensor, requires_grad: bool = True) -> torch.nn.Parameter:
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

    def repr(self, value: Any) -> str:
        """Returns Python's printout of a value."""
        printing: Any = type(value).__repr__
        if printing in _ADDRESSES:
            # Where objects lie in the worker's memory is nobody's business.
            return f"<{class_name(value)}>"
        return repr(value)

    def describe(self, value: Any) -> values_pb2.Value:
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

    def options(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        """Returns the options of each parameter group, such as `lr`."""
        return [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]

    def set_option(
        self, optimizer: torch.optim.Optimizer, group: int, name: str, value: Any
    ) -> None:
        """Sets an option such as `lr` of a parameter group."""
        if name == "params":
            raise AttributeError("params is not an option; add_param_group adds parameters")
        optimizer.param_groups[group][name] = value

    def begin_step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Begins a step that evaluates a closure.

        Returns:
            Whether the closure is to be evaluated; if so, `resume_step` goes on with its loss.
        """
        self._steps[id(optimizer)] = SteppedOptimizer(optimizer)
        return self.resume_step(optimizer, None)

    def resume_step(self, optimizer: torch.optim.Optimizer, loss: Any) -> bool:
        """Goes on with a step after the closure returned `loss`; returns as `begin_step`."""
        step = self._steps.pop(id(optimizer), None)
        if step is None:
            raise RuntimeError("no step of this optimizer waits for its closure")
        wanted = step.advance(loss)
        if wanted:
            self._steps[id(optimizer)] = step
        return wanted


_NOT_OPERATIONS = frozenset({"table", "close", "close_contexts"})


def _describe_module(module: torch.nn.Module) -> dict[str, Any]:
    """Returns a module's members by dotted path, in torch's order."""
    return {
        path: {
            "type": class_name(child),
            "training": child.training,
            "extra_repr": child.extra_repr(),
            "parameters": dict(child._parameters),
            "buffers": dict(child._buffers),
            "non_persistent": sorted(child._non_persistent_buffers_set),
            "modules": {name: class_name(m) for name, m in child._modules.items() if m is not None},
            "attributes": {
                name: value
                for name, value in vars(child).items()
                if not name.startswith("_") and _is_plain(value)
            },
        }
        for path, child in module.named_modules(remove_duplicate=False)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(element) for element in value)
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)
