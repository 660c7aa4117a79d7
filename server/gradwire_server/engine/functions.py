"""Autograd functions of the client's: computed there, part of the graph here."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def apply_function(
    name: str,
    callback: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    saved: Sequence[torch.Tensor | None],
    *,
    dirty: Sequence[torch.Tensor] = (),
    non_differentiable: Sequence[torch.Tensor] = (),
    materialize_grads: bool = True,
    once: bool = False,
) -> tuple[Any, ...]:
    """Makes a function the origin of outputs that were computed without autograd.

    Args:
        name: The function's name, for `grad_fn`.
        callback: Called in backward with the saved tensors, whether each input needs a gradient,
            and the gradients of the outputs; returns a gradient or None for each input.
        inputs: What the function was called with; None in place of what is no tensor.
        outputs: What it returned.
        saved: What its backward wants, unchanged since.
        dirty: The inputs that it changed in place.
        non_differentiable: The outputs that have no gradient.
        materialize_grads: Whether undefined gradients are passed as zeros.
        once: Whether its backward can't be differentiated in turn.

    Returns:
        The outputs, which the graph now leads through.
    """
    if not name.isidentifier():
        raise ValueError(f"{name!r} is no name for an autograd function")

    def prepare(ctx: Any) -> tuple[Any, ...]:
        ctx.callback = callback
        ctx.num_inputs = len(inputs)
        ctx.save_for_backward(*saved)
        ctx.mark_dirty(*dirty)
        ctx.mark_non_differentiable(*non_differentiable)
        ctx.set_materialize_grads(materialize_grads)
        return tuple(outputs)

    function = _function_class(name, once)
    result: tuple[Any, ...] = function.apply(prepare, *inputs)  # type: ignore[no-untyped-call]
    return result


class _Function(torch.autograd.Function):
    """A function whose forward was computed before."""

    @staticmethod
    def forward(ctx: Any, prepare: Callable[[Any], tuple[Any, ...]], *_: Any) -> Any:
        return prepare(ctx)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        saved, needed = ctx.saved_tensors, tuple(ctx.needs_input_grad[1:])
        returned = ctx.callback(saved, needed, gradients)
        if not isinstance(returned, tuple):
            returned = (returned,)
        extra = returned[ctx.num_inputs :]
        if len(returned) < ctx.num_inputs or any(g is not None for g in extra):
            raise RuntimeError(
                f"function {type(ctx).__name__} returned an incorrect number of gradients "
                f"(expected {ctx.num_inputs}, got {len(returned)})"
            )
        return (None, *returned[: ctx.num_inputs])


@lru_cache(maxsize=256)
def _function_class(name: str, once: bool) -> type[_Function]:
    members: dict[str, Any] = {}
    if once:
        members["backward"] = staticmethod(once_differentiable(_Function.backward))
    return type(name, (_Function,), members)
