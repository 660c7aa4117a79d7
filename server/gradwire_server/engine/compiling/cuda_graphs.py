"""Steps on a GPU: captured once as a CUDA graph, and launched as one."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from gradwire_server.engine.compiling.builds import BuildError, Compiled
from gradwire_server.engine.compiling.capture import Captured
from gradwire_server.engine.compiling.graph import Graph
from gradwire_server.engine.compiling.modules import to_module

Capture = Callable[[Any], AbstractContextManager[Any]]
"""Makes a block in which kernels are written down in a graph and not run."""


class CudaGraphs:
    """Makes CUDA graphs of recorded steps: the same kernels, without what launches each of them.

    Args:
        new_graph: Makes an empty graph.
        capture: As `torch.cuda.graph`.
        is_available: Returns whether there is a GPU.
    """

    exact = False
    # The next call captures where the state lies, so there is none on copies.
    is_timed = False

    def __init__(
        self,
        *,
        new_graph: Callable[[], Any] = torch.cuda.CUDAGraph,
        capture: Capture = torch.cuda.graph,
        is_available: Callable[[], bool] = torch.cuda.is_available,
    ) -> None:
        self._new_graph = new_graph
        self._capture = capture
        self._is_available = is_available

    def require_possible(self) -> None:
        """Raises BuildError if there is no GPU."""
        if not self._is_available():
            raise BuildError("there is no GPU that CUDA graphs could run on")

    def get(self, captured: Captured) -> Compiled:
        """Returns what takes a step. It is captured when it is taken for the second time."""
        module = to_module(Graph.from_json(captured.graph_json))
        return _Replayed(module, len(captured.taken), self._new_graph, self._capture)


class _Replayed:
    """A step that is taken by launching a graph.

    A graph reads and writes where it did when it was captured: what is different each time is
    copied there, and results are copied from there. The first time, on copies of the state, the
    kernels run one by one, which also loads what they need.
    """

    def __init__(
        self,
        module: torch.fx.GraphModule,
        num_taken: int,
        new_graph: Callable[[], Any],
        capture: Capture,
    ) -> None:
        self.is_faster: bool | None = None
        self._module = module
        self._num_taken = num_taken
        self._new_graph = new_graph
        self._capture = capture
        self._is_warm = False
        self._graph: Any = None
        self._inputs: list[torch.Tensor] = []
        self._outputs: Sequence[torch.Tensor] = ()

    def __call__(self, tensors: list[torch.Tensor], /) -> Sequence[torch.Tensor]:
        """Takes the step."""
        with torch.no_grad():
            if not self._is_warm:
                self._is_warm = True
                outputs: Sequence[torch.Tensor] = self._module(*tensors)
                return outputs
            given, fixed = tensors[: self._num_taken], tensors[self._num_taken :]
            if self._graph is None:
                self._inputs = [tensor.clone() for tensor in given]
                graph = self._new_graph()
                with self._capture(graph):
                    self._outputs = self._module(*self._inputs, *fixed)
                self._graph = graph
            for place, tensor in zip(self._inputs, given, strict=True):
                place.copy_(tensor, non_blocking=True)
            self._graph.replay()
            return [output.clone() for output in self._outputs]
