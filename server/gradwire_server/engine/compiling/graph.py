"""A recorded step as data: what crosses to the process that compiles it, and names it by hash."""

import hashlib
import json
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch

FORMAT_VERSION = 3
"""Part of the hash: a change of what is made of a graph makes all others."""


class UnrecordableError(Exception):
    """A step can't be a graph; the message says why."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """What a compiled step takes for granted of a tensor that it is called with."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str
    device: str

    @staticmethod
    def of(tensor: torch.Tensor) -> "TensorInfo":
        """Returns what there is to say of a tensor."""
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise UnrecordableError(f"a tensor is {tensor.layout}")
        return TensorInfo(
            shape=tuple(tensor.shape),
            stride=tensor.stride(),
            dtype=str(tensor.dtype).removeprefix("torch."),
            device=str(tensor.device),
        )

    def make(self) -> torch.Tensor:
        """Returns a tensor like that, with any contents."""
        dtype = getattr(torch, self.dtype)
        return torch.empty_strided(self.shape, self.stride, dtype=dtype, device=self.device)


@dataclass(frozen=True, kw_only=True)
class Node:
    """An operation.

    Attributes:
        name: Of the overload, such as ``aten.add.Tensor``.
        args: Its arguments, encoded by `encode`.
        kwargs: The same by name.
        results: The numbers of the values that it returns, None for those that are no tensors.
        single: Whether it returns one value rather than several.
    """

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[int | None]
    single: bool = True

    @property
    def overload(self) -> Any:
        """The operation, as `torch.ops` has it."""
        return attrgetter(self.name)(torch.ops)


@dataclass(kw_only=True)
class Graph:
    """Operations on numbered values.

    Attributes:
        inputs: The tensors that it is called with, by value number.
        nodes: What is done, in order.
        outputs: The values that it returns.
    """

    inputs: dict[int, TensorInfo] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def undo_unless(self, ok: int, mutated: list[int], next_value: int) -> None:
        """Lets the step change nothing unless a value is true, which the step itself computes.

        Args:
            ok: The value; a boolean without dimensions.
            mutated: The inputs that the step changes.
            next_value: A number from which on none is taken.
        """
        before, after = [], []
        for number in mutated:
            old, new = next_value, next_value + 1
            next_value += 2
            value, kept = {"value": number}, {"value": old}
            before.append(Node(name="aten.clone.default", args=[value], kwargs={}, results=[old]))
            chosen = [{"value": ok}, value, kept]
            after.append(Node(name="aten.where.self", args=chosen, kwargs={}, results=[new]))
            after.append(
                Node(
                    name="aten.copy_.default",
                    args=[value, {"value": new}],
                    kwargs={},
                    results=[None],
                )
            )
        self.nodes = [*before, *self.nodes, *after]

    def to_json(self) -> str:
        """Returns the graph as JSON."""
        return json.dumps(
            {
                "inputs": [[number, vars(info)] for number, info in self.inputs.items()],
                "nodes": [vars(node) for node in self.nodes],
                "outputs": self.outputs,
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_json(text: str) -> "Graph":
        """Returns the graph that `to_json` wrote."""
        fields = json.loads(text)
        return Graph(
            inputs={
                number: TensorInfo(
                    shape=tuple(info["shape"]),
                    stride=tuple(info["stride"]),
                    dtype=info["dtype"],
                    device=info["device"],
                )
                for number, info in fields["inputs"]
            },
            nodes=[Node(**node) for node in fields["nodes"]],
            outputs=fields["outputs"],
        )


def key_of(graph_json: str, num_threads: int) -> str:
    """Returns the hash that a compiled graph is kept under, with all that it was compiled for."""
    made_for = (
        FORMAT_VERSION,
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        num_threads,
    )
    return hashlib.sha256(f"{made_for}\n{graph_json}".encode()).hexdigest()


def encode(argument: Any, value_of: Any) -> Any:
    """Returns an argument of an operation in JSON's terms.

    Args:
        argument: The argument.
        value_of: Returns the number of a tensor.

    Raises:
        UnrecordableError: There is no way to say it.
    """
    if isinstance(argument, torch.Tensor):
        return {"value": value_of(argument)}
    if argument is None or isinstance(argument, bool | int | float | str):
        return argument
    if isinstance(argument, list | tuple):
        return [encode(element, value_of) for element in argument]
    if isinstance(argument, torch.dtype | torch.layout | torch.memory_format):
        return {"torch": str(argument).removeprefix("torch.")}
    if isinstance(argument, torch.device):
        return {"device": str(argument)}
    if isinstance(argument, complex):
        return {"complex": [argument.real, argument.imag]}
    raise UnrecordableError(f"an operation takes a {type(argument).__name__}")


def decode(argument: Any, values: dict[int, Any]) -> Any:
    """Returns the argument that `encode` encoded, with what stands for the values."""
    if isinstance(argument, list):
        return [decode(element, values) for element in argument]
    if not isinstance(argument, dict):
        return argument
    ((kind, content),) = argument.items()
    match kind:
        case "value":
            return values[content]
        case "torch":
            return getattr(torch, content)
        case "device":
            return torch.device(content)
        case _:
            return complex(*content)
