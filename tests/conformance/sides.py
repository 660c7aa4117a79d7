"""The two sides of a comparison: local torch, and gradwire in its place."""

import builtins
import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    ModuleType,
)
from typing import Any
from unittest import mock

import torch

import gradwire
from gradwire.types import CONSTANTS, DTYPES
from gradwire.v1 import catalog

NAMES: dict[int, str] = {}
"""The name in the catalog of each function and class of torch, by the object's id."""


_MADE_WITH = "_made_with"


@contextmanager
def noting_construction() -> Iterator[None]:
    """Lets modules that are made in the block know what they were made with."""
    with ExitStack() as patches:
        for name in (*catalog.MODULES, *catalog.LOSSES):
            kind = attribute(torch, name)
            if "__init__" in vars(kind):
                patches.enter_context(mock.patch.object(kind, "__init__", _noting(kind.__init__)))
        yield


def _noting(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        # The outermost constructor comes first.
        self.__dict__.setdefault(_MADE_WITH, (args, kwargs))
        init(self, *args, **kwargs)

    return noting


def _fill_names() -> None:
    tables: tuple[dict[str, str], ...] = (
        catalog.FUNCTIONS,
        catalog.INITIALIZERS,
        catalog.MODULES,
        catalog.LOSSES,
    )
    tables += (catalog.METHODS, catalog.OPTIMIZERS, catalog.SCHEDULERS, catalog.CLASSES)
    for table in tables:
        for name in table:
            NAMES.setdefault(id(attribute(torch, name)), name)


def attribute(root: Any, name: str) -> Any:
    """Returns what a name such as ``torch.nn.functional.relu`` stands for under another root."""
    return functools.reduce(getattr, name.split(".")[1:], root)


class NotAllowedError(Exception):
    """A call needs something of torch that the catalog does not have.

    Attributes:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not in the catalog")
        self.name = name


class Remote:
    """Gives values and functions of local torch the form that they have with gradwire.

    What is translated twice is the same object both times, as it was before.
    """

    def __init__(self) -> None:
        self._memo: dict[int, tuple[Any, Any]] = {}

    def value(self, value: Any) -> Any:
        """Returns an argument for gradwire: tensors sent to the session, dtypes replaced."""
        if isinstance(value, torch.Tensor):
            return self._once(value, self._tensor)
        if isinstance(value, torch.nn.utils.rnn.PackedSequence):
            return gradwire.nn.utils.rnn.PackedSequence(*[self.value(part) for part in value])
        if isinstance(value, torch.Size):
            return gradwire.Size(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*[self.value(part) for part in value])
        if isinstance(value, list | tuple):
            return type(value)(self.value(part) for part in value)
        if isinstance(value, dict):
            return {key: self.value(part) for key, part in value.items()}
        if isinstance(value, slice):
            return slice(self.value(value.start), self.value(value.stop), self.value(value.step))
        if isinstance(value, torch.nn.Module):
            return self._once(value, self._module)
        if dataclasses.is_dataclass(value) and id(type(value)) in NAMES:
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return self.function(type(value))(**self.value(fields))
        return self.function(value)

    def _tensor(self, tensor: torch.Tensor) -> Any:
        if tensor.layout != torch.strided:
            remote = self._sparse(tensor.detach())
            return remote.requires_grad_() if tensor.requires_grad else remote
        remote = gradwire.tensor(tensor.detach(), requires_grad=tensor.requires_grad)
        if isinstance(tensor, torch.nn.Parameter):
            return gradwire.nn.Parameter(remote, requires_grad=tensor.requires_grad)
        return remote

    def _sparse(self, tensor: torch.Tensor) -> Any:
        size = list(tensor.shape)
        if tensor.layout == torch.sparse_coo:
            indices, values = map(gradwire.tensor, (tensor._indices(), tensor._values()))
            remote = gradwire.sparse_coo_tensor(indices, values, size)
            return remote.coalesce() if tensor.is_coalesced() else remote
        if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            compressed, plain = tensor.crow_indices(), tensor.col_indices()
        else:
            compressed, plain = tensor.ccol_indices(), tensor.row_indices()
        outer, inner, values = map(gradwire.tensor, (compressed, plain, tensor.values()))
        layout = CONSTANTS[str(tensor.layout).removeprefix("torch.")]
        return gradwire.sparse_compressed_tensor(outer, inner, values, size, layout=layout)

    def _module(self, module: torch.nn.Module) -> Any:
        """Returns a module made with the same arguments, and with the same state."""
        args, kwargs = module.__dict__[_MADE_WITH]
        remote = self.function(type(module))(*self.value(args), **self.value(kwargs))
        state = {name: gradwire.tensor(t.detach()) for name, t in module.state_dict().items()}
        remote.load_state_dict(state)
        return remote.to(self.value(next(iter(module.parameters())).dtype)) if state else remote

    def function(self, value: Any) -> Any:
        """Returns what stands for a function, class, module or constant of torch.

        A Python function of torch's test package is built anew, with all that it refers to
        translated: it then is what a script is that begins with ``import gradwire as torch``.

        Raises:
            NotAllowedError: A function of torch that is not in the catalog.
        """
        if isinstance(value, torch.dtype):
            element = DTYPES.get(str(value).removeprefix("torch."))
            if element is None:
                raise NotAllowedError(str(value))
            return element
        if isinstance(value, torch.device):
            return gradwire.device(str(value))
        if isinstance(value, torch.layout | torch.memory_format):
            return CONSTANTS[str(value).removeprefix("torch.")]
        if value is torch.Tensor:
            return gradwire.Tensor
        if isinstance(value, ModuleType):
            return _namespace(value)
        name = NAMES.get(id(value), "")
        if name:
            return attribute(gradwire, name)
        if isinstance(value, functools.partial):
            keywords = self.value(value.keywords)
            return functools.partial(self.function(value.func), *self.value(value.args), **keywords)
        module: str = getattr(value, "__module__", None) or ""
        if isinstance(value, FunctionType) and module.startswith("torch.testing."):
            if value.__name__ == "freeze_rng_state":
                return frozen_random_state
            return self._once(value, self._rebuilt)
        if isinstance(value, BuiltinFunctionType) and module.startswith("torch"):
            raise NotAllowedError(_public_name(module, value.__name__))
        if isinstance(value, MethodDescriptorType) and issubclass(torch.Tensor, value.__objclass__):
            raise NotAllowedError(f"torch.Tensor.{value.__name__}")
        if isinstance(value, torch._ops.OpOverload) and str(value) in catalog.ATEN:
            return attribute(gradwire.ops, f"ops.{value}")
        if isinstance(value, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
            raise NotAllowedError(f"torch.ops.{value}")
        return value

    def _rebuilt(self, function: FunctionType) -> Any:
        namespace: dict[str, Any] = {"__builtins__": builtins, "__name__": function.__module__}
        made = FunctionType(
            function.__code__,
            namespace,
            function.__name__,
            self.value(function.__defaults__),
            tuple(CellType() for _ in function.__closure__ or ()),
        )
        # Noted before what it refers to is translated: functions may refer to each other.
        self._memo[id(function)] = (function, made)
        made.__kwdefaults__ = self.value(function.__kwdefaults__)
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                namespace[name] = self.value(function.__globals__[name])
        for cell, original in zip(made.__closure__ or (), function.__closure__ or (), strict=True):
            cell.cell_contents = self.value(original.cell_contents)
        return made

    def _once(self, value: Any, translate: Callable[[Any], Any]) -> Any:
        known = self._memo.get(id(value))
        if known is None:
            # The original is kept, too, so that its id stays its own.
            known = self._memo[id(value)] = (value, translate(value))
        return known[1]


def tensors(value: Any) -> Iterator[Any]:
    """Yields the tensors in a result, of either side, in order."""
    if isinstance(value, torch.Tensor | gradwire.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)


def _public_name(module: str, name: str) -> str:
    """Returns the name that people know a built-in function by."""
    namespace = module.removeprefix("torch._C._")
    if namespace != module:
        return f"torch.{namespace}.{name.removeprefix(namespace + '_')}"
    return f"{module}.{name}"


def _namespace(module: ModuleType) -> Any:
    if module is torch:
        return gradwire
    if module.__name__.startswith("torch.") and not module.__name__.startswith("torch.testing"):
        return attribute(gradwire, module.__name__)
    return module


def _global_names(code: CodeType) -> Iterator[str]:
    """Yields the names that a function's code, and the functions inside it, may look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


@contextmanager
def frozen_random_state() -> Iterator[None]:
    """As torch's ``freeze_rng_state``: puts the session's random state back at the end."""
    state = gradwire.get_rng_state()
    try:
        yield
    finally:
        gradwire.set_rng_state(state)


_fill_names()
