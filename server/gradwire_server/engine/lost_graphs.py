"""Tensors that autograd computed and whose graphs are gone."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch


class LostGraph(torch.autograd.Function):
    """Stands for a graph that is gone; its backward says why."""

    @staticmethod
    def forward(
        ctx: Any, held: tuple[torch.Tensor], error: Callable[[], Exception], *anchors: torch.Tensor
    ) -> torch.Tensor:
        """Returns the tensor that is held; `anchors` are what makes it require a gradient."""
        del anchors
        ctx.error = error
        return held[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Raises the error."""
        del gradients
        raise ctx.error()


def with_lost_graph(
    tensor: torch.Tensor,
    error: Callable[[], Exception],
    *,
    anchors: Sequence[torch.Tensor] = (),
    name: str = "LostGraphBackward",
) -> torch.Tensor:
    """Returns a tensor with the same elements, in the same memory, that has a graph to name.

    Args:
        tensor: The elements.
        error: Makes what a backward through it raises.
        anchors: The leaves that the graph led to.
        name: What its `grad_fn` is called.
    """
    leaves = anchors or (torch.zeros((), requires_grad=True),)
    with torch.enable_grad():
        return _class_named(name).apply((tensor.detach(),), error, *leaves)  # type: ignore[no-any-return, no-untyped-call]


@cache
def _class_named(name: str) -> type[LostGraph]:
    """Returns the class whose nodes have a name."""
    made: Any = type("LostGraph", (LostGraph,), {})
    made._backward_cls.__name__ = name
    found: type[LostGraph] = made
    return found
