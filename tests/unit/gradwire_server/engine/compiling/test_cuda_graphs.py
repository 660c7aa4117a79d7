"""CUDA graphs of steps, as far as that can be seen without a GPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradwire_server.engine.compiling import CudaGraphs
from tests.unit.gradwire_server.engine.compiling.test_step import Loop, adam, net, run


class FakeGraph:
    """Writes operations down and runs them on the same tensors again, as a CUDA graph does."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.num_replays = 0

    def replay(self) -> None:
        """Runs everything on the memory that it was captured with."""
        self.num_replays += 1
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            pairs = zip(
                *(x if isinstance(x, list | tuple) else [x] for x in (result, again)), strict=True
            )
            for old, new in pairs:
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class FakeCapture(TorchDispatchMode):
    """Fills a graph; what runs meanwhile leaves no trace in the tensors that were there before."""

    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = graph

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs an operation and writes it down."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._graph.calls.append((func, args, kwargs, result))
        return result


def graphs(model: torch.nn.Module, optimizer: torch.optim.Optimizer, made: list[FakeGraph]) -> Any:
    def new_graph() -> FakeGraph:
        made.append(FakeGraph())
        return made[-1]

    @contextmanager
    def capture(graph: FakeGraph) -> Iterator[None]:
        state = [
            *model.parameters(),
            *model.buffers(),
            *(value for entry in optimizer.state.values() for value in entry.values()),
        ]
        before: Sequence[torch.Tensor] = [tensor.detach().clone() for tensor in state]
        random_state = torch.get_rng_state()
        with FakeCapture(graph):
            yield
        torch.set_rng_state(random_state)
        for tensor, contents in zip(state, before, strict=True):
            tensor.detach().copy_(contents)

    return CudaGraphs(new_graph=new_graph, capture=capture, is_available=lambda: True)


def test_a_step_is_captured_once_and_replayed_with_each_batch() -> None:
    model = net()
    optimizer = adam(model)
    made: list[FakeGraph] = []
    loop = Loop(model, optimizer, graphs(model, optimizer, made))
    found = run(loop)
    (graph,) = made
    assert graph.num_replays == loop.counts["compiled"] > 0
    expected_model = net()
    expected = run(Loop(expected_model, adam(expected_model)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_without_a_gpu_steps_stay_eager() -> None:
    model = net()
    loop = Loop(model, adam(model), CudaGraphs(is_available=lambda: False))
    run(loop)
    assert loop.counts == {"failed": 1}
