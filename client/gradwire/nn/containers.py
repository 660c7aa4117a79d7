"""Containers of modules and parameters; they hold Python objects and so live in the client."""

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gradwire.nn.module import Module
from gradwire.nn.parameter import Parameter
from gradwire.tensors import Tensor


class _Indexed(Module):
    """Submodules by position."""

    def _key(self, index: Any) -> str:
        length = len(self)
        index = operator.index(index)
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range")
        return str(list(self._modules)[index])

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._of(list(self._modules.values())[index], list(self._modules)[index])
        return self._modules[self._key(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self._modules[self._key(index)] = module

    def __delitem__(self, index: Any) -> None:
        keys = list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]
        for key in keys:
            del self._modules[key]
        self._renumber(list(self._modules.values()))

    def _new(self, *args: Any) -> Any:
        """Returns another container of this kind."""
        return type(self)(*args)

    def _of(self, modules: list[Any], _: list[str]) -> Any:
        return self._new(modules)

    def _renumber(self, modules: list[Any]) -> None:
        self._modules = {str(index): module for index, module in enumerate(modules)}

    def append(self, module: Module) -> Any:
        """Adds a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Adds a module before a position."""
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Adds modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def pop(self, index: int) -> Any:
        """Removes a module and returns it."""
        module = self[index]
        del self[index]
        return module

    def __add__(self, other: Any) -> Any:
        return (
            self._new(*self, *other)
            if isinstance(self, Sequential)
            else self._of([*self, *other], [])
        )

    def __iadd__(self, other: Any) -> Any:
        return self.extend(other)


class Sequential(_Indexed):
    """Modules that run one after the other.

    Args:
        args: The modules, or one OrderedDict of modules by name.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for index, module in enumerate(args):
                self.add_module(str(index), module)

    def _of(self, modules: list[Any], names: list[str]) -> Any:
        return self._new(OrderedDict(zip(names, modules, strict=True)))

    def forward(self, input: Any) -> Any:
        """Runs the modules in order, each on the output of the one before."""
        for module in self:
            input = module(input)
        return input


class ModuleList(_Indexed):
    """A list of modules.

    Args:
        modules: The modules.
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __repr__(self) -> str:
        """Prints equal neighbours as one line, as torch does."""
        reprs = [repr(module) for module in self]
        if not reprs:
            return f"{self._get_name()}()"
        blocks: list[tuple[int, int, str]] = []
        for index, text in enumerate(reprs):
            if blocks and blocks[-1][2] == text:
                blocks[-1] = (blocks[-1][0], index, text)
            else:
                blocks.append((index, index, text))
        lines = []
        for first, last, text in blocks:
            indented = text.replace("\n", "\n  ")
            where = f"({first})" if first == last else f"({first}-{last})"
            times = "" if first == last else f"{last - first + 1} x "
            lines.append(f"{where}: {times}{indented}")
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """Modules by name.

    Args:
        modules: The modules.
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Removes all modules."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Removes a module and returns it."""
        return self._modules.pop(key)

    def keys(self) -> Any:
        """Returns the names."""
        return self._modules.keys()

    def values(self) -> Any:
        """Returns the modules."""
        return self._modules.values()

    def items(self) -> Any:
        """Returns names and modules."""
        return self._modules.items()

    def update(self, modules: Any) -> None:
        """Adds modules of a mapping or of (name, module) pairs."""
        pairs = modules.items() if isinstance(modules, Mapping | ModuleDict) else modules
        for key, module in pairs:
            self.add_module(key, module)


def _as_parameter(value: Any) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, Parameter):
        return Parameter(value)
    return value


class ParameterList(Module):
    """A list of parameters.

    Args:
        values: Tensors, which become parameters.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self._parameters.values())[index])
        return list(self._parameters.values())[operator.index(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.register_parameter(list(self._parameters)[index], _as_parameter(value))

    def append(self, value: Any) -> "ParameterList":
        """Adds a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> "ParameterList":
        """Adds parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def __repr__(self) -> str:
        return _parameters_repr(self._get_name(), self._parameters)


class ParameterDict(Module):
    """Parameters by name.

    Args:
        parameters: Tensors by name, which become parameters.
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self.update(parameters or {})

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def keys(self) -> Any:
        """Returns the names."""
        return self._parameters.keys()

    def values(self) -> Any:
        """Returns the parameters."""
        return self._parameters.values()

    def items(self) -> Any:
        """Returns names and parameters."""
        return self._parameters.items()

    def update(self, parameters: Any) -> None:
        """Adds parameters of a mapping or of (name, tensor) pairs."""
        is_mapping = isinstance(parameters, Mapping | ParameterDict)
        for key, value in parameters.items() if is_mapping else parameters:
            self[key] = value

    def __repr__(self) -> str:
        return _parameters_repr(self._get_name(), self._parameters)


def _parameters_repr(name: str, parameters: Mapping[str, Any]) -> str:
    lines = []
    for key, parameter in parameters.items():
        size = "x".join(str(size) for size in parameter.shape)
        on_cuda = f" ({parameter.device})" if parameter.is_cuda else ""
        kind = "Parameter" if isinstance(parameter, Parameter) else "Tensor"
        element = _type_name(parameter)
        lines.append(f"({key}): {kind} containing: [{element} of size {size}{on_cuda}]")
    if not lines:
        return f"{name}()"
    return f"{name}(\n  " + "\n  ".join(lines) + "\n)"


def _type_name(tensor: Tensor) -> str:
    names = {
        "float32": "torch.FloatTensor",
        "float64": "torch.DoubleTensor",
        "float16": "torch.HalfTensor",
        "bfloat16": "torch.BFloat16Tensor",
        "int64": "torch.LongTensor",
        "int32": "torch.IntTensor",
    }
    return names.get(repr(tensor.dtype).removeprefix("torch."), repr(tensor.dtype))
