"""Inputs and outputs of captured modules: any structure of tensors, as torch's pytrees."""

import inspect
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch.utils import _pytree as pytree

from gradwire.recorder.arrays import dtype_of_array
from gradwire.tensors import Tensor
from gradwire.types import device, dtype

Shape = tuple[int, ...]


class Opaque:
    """Stands for something that a captured module returns and that can't come back.

    Any use of it raises AttributeError or TypeError; passing it on does not.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __repr__(self) -> str:
        return f"<{self._kind}, which from_torch does not bring back>"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"the module returned a {self._kind}, which is no structure that torch.utils._pytree "
            f"knows, so it does not come back and has no {name!r}; register it there, or have "
            "the module return tensors (for a cache of Hugging Face: use_cache=False)"
        )


@dataclass(frozen=True)
class TensorType:
    """A tensor among the inputs.

    Attributes:
        dtype: Its element type, as a name such as ``float32``.
        ndim: How many dimensions it has.
    """

    dtype: str
    ndim: int


@dataclass(frozen=True)
class _Again:
    """A tensor that was among the inputs before: code may ask whether two are the same one."""

    index: int


@dataclass(frozen=True)
class _Plain:
    """A plain value among the inputs; 1, 1.0 and True differ."""

    kind: type
    value: Any


@dataclass(frozen=True)
class Inputs:
    """The structure of a module's inputs: all about them but sizes and contents of tensors.

    Attributes:
        leaves: Tensors' types and plain values, in order.
        spec: How they are put together.
    """

    leaves: tuple[TensorType | _Again | _Plain, ...]
    spec: pytree.TreeSpec

    def arguments(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns positional and keyword arguments with these tensors."""
        remaining = iter(tensors)
        leaves: list[Any] = []
        for leaf in self.leaves:
            match leaf:
                case TensorType():
                    leaves.append(next(remaining))
                case _Again(index):
                    leaves.append(tensors[index])
                case _Plain():
                    leaves.append(leaf.value)
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs

    def examples(self, shapes: Sequence[Shape], where: torch.device) -> list[torch.Tensor]:
        """Returns tensors of these shapes, each one of its own: none may stand for two inputs."""
        types = [leaf for leaf in self.leaves if isinstance(leaf, TensorType)]
        return [
            torch.zeros(shape, dtype=getattr(torch, each.dtype), device=where)
            for each, shape in zip(types, shapes, strict=True)
        ]


def flatten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Inputs, list[Any], list[Shape]]:
    """Takes arguments apart.

    Returns:
        Their structure, the tensors among them, each once, and the tensors' shapes.

    Raises:
        TypeError: One of them is neither a tensor nor a plain value nor a structure of these.
    """
    found, spec = pytree.tree_flatten((args, kwargs))
    leaves: list[TensorType | _Again | _Plain] = []
    tensors: list[Any] = []
    known: dict[int, int] = {}
    shapes: list[Shape] = []
    for index, leaf in enumerate(found):
        if isinstance(leaf, Tensor | torch.Tensor | np.ndarray):
            if id(leaf) in known:
                leaves.append(_Again(known[id(leaf)]))
                continue
            known[id(leaf)] = len(tensors)
            name, shape = _description(leaf)
            leaves.append(TensorType(name, len(shape)))
            tensors.append(leaf)
            shapes.append(shape)
            continue
        value = _plain(leaf)
        if value is _UNKNOWN:
            path, _ = pytree.tree_flatten_with_path((args, kwargs))[0][index]
            raise TypeError(
                f"the input {_path_text(path)} is a {type(leaf).__name__}; inputs of a captured "
                "module are tensors, numbers, strings, None, and tuples, lists and dicts of them"
            )
        leaves.append(_Plain(type(value), value))
    return Inputs(tuple(leaves), spec), tensors, shapes


def _description(tensor: Any) -> tuple[str, Shape]:
    if isinstance(tensor, Tensor):
        # Not `tensor.shape`: that would become part of a function that is being recorded.
        info = tensor._info()
        return _name(info.dtype), tuple(info.shape)
    if isinstance(tensor, torch.Tensor):
        return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    return _name(dtype_of_array(tensor)), tensor.shape


def _name(element: dtype | None) -> str:
    return str(element).removeprefix("torch.")


_UNKNOWN = object()


def _plain(value: Any) -> Any:
    """Returns a plain value as torch knows it, or _UNKNOWN."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dtype):
        return getattr(torch, _name(value))
    if isinstance(value, device):
        return torch.device(str(value))
    if value is None or isinstance(
        value, bool | int | float | complex | str | torch.dtype | torch.device | torch.Size
    ):
        return value
    return _UNKNOWN


def _path_text(path: Any) -> str:
    (position, *rest) = path
    where = "args" if getattr(position, "idx", 0) == 0 else "kwargs"
    return where + pytree.keystr(tuple(rest))


@dataclass(frozen=True)
class Position:
    """Stands for the output of a graph with this index."""

    index: int


@dataclass(frozen=True)
class Outputs:
    """What a module returns: how the outputs of its graph are put together.

    Attributes:
        leaves: Positions of outputs, plain values, and what does not come back, in order.
        spec: How they are put together.
    """

    leaves: tuple[Any, ...]
    spec: pytree.TreeSpec

    def build(self, outputs: Sequence[Any]) -> Any:
        """Returns a new structure with these outputs."""
        # Classes such as the outputs of Hugging Face's models may look into what they are made of,
        # and iterating over a tensor asks the server; so they are made first and filled later.
        return _fill(pytree.tree_unflatten(self.leaves, self.spec), outputs)


def _fill(structure: Any, outputs: Sequence[Any]) -> Any:
    if isinstance(structure, Position):
        return outputs[structure.index]
    if structure is None or isinstance(structure, bool | int | float | complex | str | Opaque):
        return structure
    if isinstance(structure, tuple):
        elements = [_fill(element, outputs) for element in structure]
        if hasattr(structure, "_fields"):
            return type(structure)(*elements)
        # Results such as torch.return_types.max take one sequence, as tuples do.
        return type(structure)(elements)
    if type(structure) is list:
        return [_fill(element, outputs) for element in structure]
    if isinstance(structure, MutableMapping):
        for key in list(structure):
            structure[key] = _fill(structure[key], outputs)
        return structure
    for name, value in vars(structure).items():
        object.__setattr__(structure, name, _fill(value, outputs))
    return structure


def dynamic_dimensions(
    inputs: Inputs, shapes: Sequence[Shape], forward: Callable[..., Any], given: Any
) -> list[list[Any]]:
    """Returns what `torch.export.export` is told of the sizes of each tensor among the inputs.

    Args:
        inputs: The inputs.
        shapes: The tensors' shapes.
        forward: The function that takes them.
        given: As `dynamic_shapes` of `from_torch`.

    Returns:
        What to try, in order: what was given; or, if all sizes may differ, then all but those
        that are 1, which code often treats apart, then none.

    Raises:
        TypeError: It does not have the structure of the inputs.
    """
    fixed: list[Any] = [None] * len(shapes)
    if given is None:
        auto = torch.export.Dim.AUTO
        return [
            [dict.fromkeys(range(len(shape)), auto) for shape in shapes],
            [{d: auto for d, size in enumerate(shape) if size != 1} for shape in shapes],
            fixed,
        ]
    if given is False:
        return [fixed]
    found: list[Any] = [None] * len(shapes)
    args, kwargs = inputs.arguments([Position(index) for index in range(len(shapes))])
    arguments = inspect.signature(forward).bind(*args, **kwargs).arguments
    if isinstance(given, Mapping) and set(given) - set(arguments):
        raise TypeError(
            f"dynamic_shapes names {sorted(set(given) - set(arguments))}; the inputs are "
            f"{list(arguments)}"
        )
    _match(
        dict(arguments) if isinstance(given, Mapping) else list(arguments.values()), given, found
    )
    return [found]


def _match(value: Any, given: Any, found: list[Any]) -> None:
    """Notes for each tensor of a structure what another one of the same structure says of it."""
    if given is None:
        return
    if isinstance(value, Position):
        found[value.index] = given
    elif isinstance(value, Mapping) and isinstance(given, Mapping):
        for key, element in value.items():
            _match(element, given.get(key), found)
    elif isinstance(value, list | tuple) and isinstance(given, list | tuple):
        if len(value) != len(given):
            raise TypeError(f"dynamic_shapes has {len(given)} entries where there are {len(value)}")
        for element, of_element in zip(value, given, strict=True):
            _match(element, of_element, found)
    elif not isinstance(value, bool | int | float | complex | str | None):
        raise TypeError(f"dynamic_shapes has a {type(given).__name__} for a {type(value).__name__}")
