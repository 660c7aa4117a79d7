"""The calls that every training step makes: torch's own kernels, with less Python around them.

torch wraps them in profiler scopes and looks for hooks at several depths, which for a small model
takes longer than the arithmetic. Each function here does what the one of torch does, to the last
bit, and leaves whatever is out of the ordinary, such as hooks, to that one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import optimizer as _optimizer

_functional_linear: Callable[..., torch.Tensor] = torch.nn.functional.linear
_run_backward = torch.autograd.Variable._execution_engine.run_backward


def call(module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """Calls a module, as ``module(*args, **kwargs)``."""
    forward = _FORWARDS.get(type(module))
    if (
        forward is None
        or kwargs
        or module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    ):
        return module(*args, **kwargs)
    return forward(module, *args)


def backward(
    tensor: torch.Tensor,
    gradient: torch.Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Adds gradients to the leaves of a graph, as ``torch.Tensor.backward``."""
    if (
        gradient is None
        and not create_graph
        and inputs is None
        and type(tensor) is torch.Tensor
        and tensor.requires_grad
        and tensor.is_floating_point()
        and tensor.numel() == 1
    ):
        _run_backward(
            (tensor,),
            (torch.ones_like(tensor),),
            bool(retain_graph),
            False,
            (),
            allow_unreachable=True,
            accumulate_grad=True,
        )
    else:
        tensor.backward(gradient, retain_graph, create_graph, inputs)


def step(optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None) -> Any:
    """Takes a step, as ``optimizer.step(closure)``."""
    _require_optimizer(optimizer)
    raw = getattr(type(optimizer).step, "__wrapped__", None)
    patched = vars(optimizer).get("step")
    if (
        raw is None
        or (patched is not None and not hasattr(patched, "_wrapped_by_lr_sched"))
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _optimizer._global_optimizer_pre_hooks
        or _optimizer._global_optimizer_post_hooks
    ):
        return optimizer.step(closure) if closure is not None else optimizer.step()
    # What schedulers look at, to warn of being called too early.
    optimizer._opt_called = True  # type: ignore[attr-defined]
    return raw(optimizer, closure) if closure is not None else raw(optimizer)


def zero_grad(optimizer: torch.optim.Optimizer, set_to_none: bool = True) -> None:
    """Clears the gradients, as ``optimizer.zero_grad(set_to_none)``."""
    _require_optimizer(optimizer)
    if not set_to_none:
        optimizer.zero_grad(set_to_none=False)
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _require_optimizer(value: Any) -> None:
    if not isinstance(value, torch.optim.Optimizer):
        raise TypeError(f"this needs a torch.optim.Optimizer, not a {type(value).__name__}")


def _linear(module: torch.nn.Linear, features: torch.Tensor) -> torch.Tensor:
    parameters = module._parameters
    try:
        weight, bias = parameters["weight"], parameters["bias"]
    except KeyError:
        # They are computed, and no parameters of the module.
        return module.forward(features)
    return _functional_linear(features, weight, bias)


_FORWARDS: dict[type, Callable[..., Any]] = {torch.nn.Linear: _linear}
"""By class what its ``forward`` does, without looking its parameters up as attributes."""

CALLS: dict[str, Callable[..., Any]] = {
    "torch.Tensor.backward": backward,
    "torch.optim.Optimizer.step": step,
    "torch.optim.Optimizer.zero_grad": zero_grad,
}
"""By name in the catalog."""
