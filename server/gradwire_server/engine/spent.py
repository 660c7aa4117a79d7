"""Results of steps that were replayed: tensors whose graph the step's own backward has used up."""

from collections.abc import Sequence

import torch

from gradwire_server.engine.lost_graphs import with_lost_graph
from gradwire_server.engine.memory import OBJECT_BYTES, Measured


class SpentGraph:
    """What there is to tell of a graph that a backward has used up.

    Args:
        name: What the `grad_fn` of its result is called.
        message: What another backward through it raises.
        leaves: The leaves that it led to.
    """

    def __init__(self, name: str, message: str, leaves: Sequence[torch.Tensor]) -> None:
        self._name = name
        self._message = message
        self._leaves = leaves

    def tensor(self, elements: torch.Tensor) -> torch.Tensor:
        """Returns a tensor that looks as if the graph had led to it."""
        return with_lost_graph(elements, self._error, anchors=self._leaves, name=self._name)

    def _error(self) -> Exception:
        return RuntimeError(self._message)


class Spent(Measured):
    """A tensor whose graph is used up. Most are only read, or replaced, and need no more than that.

    Attributes:
        elements: A tensor with its elements that has no graph.
    """

    __slots__ = ("_graph", "elements")

    def __init__(self, elements: torch.Tensor, graph: SpentGraph) -> None:
        self.elements = elements
        self._graph = graph

    @property
    def num_bytes(self) -> int:
        """How many bytes it takes."""
        return OBJECT_BYTES + self.elements.nbytes

    def tensor(self) -> torch.Tensor:
        """Returns the tensor as torch has it, with a graph to name in its place."""
        return self._graph.tensor(self.elements)


def restored(value: object) -> object:
    """Returns the tensor that a value is if it is a spent one; any other as it is."""
    return value.tensor() if type(value) is Spent else value
