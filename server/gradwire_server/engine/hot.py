"""The calls that every training step makes: torch's own kernels, with less Python around them.

torch wraps them in profiler scopes and looks for hooks at several depths, which for a small model
takes longer than the arithmetic. Each function here does what the one of torch does, to the last
bit, and leaves whatever is out of the ordinary, such as hooks, to that one.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch.nn import _reduction as _Reduction
from torch.optim import optimizer as _optimizer

from gradwire_server.engine import hot_optimizers

_functional_linear: Callable[..., torch.Tensor] = torch.nn.functional.linear
_USE_GRAD = _optimizer._use_grad_for_differentiable(lambda: None).__code__
_kernel_of_mse_loss: Callable[..., torch.Tensor] = torch._C._nn.mse_loss
_run_backward = torch.autograd.Variable._execution_engine.run_backward


def call(module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """Calls a module, as ``module(*args, **kwargs)``."""
    num_arguments, forward = _FORWARDS.get(type(module), _NONE)
    if (
        len(args) != num_arguments
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
    plain = _plain_step(type(optimizer))  # type: ignore[arg-type]  # classes can be hashed
    patched = vars(optimizer).get("step")
    if (
        plain is None
        or (patched is not None and not hasattr(patched, "_wrapped_by_lr_sched"))
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _optimizer._global_optimizer_pre_hooks
        or _optimizer._global_optimizer_post_hooks
    ):
        return optimizer.step(closure) if closure is not None else optimizer.step()
    # What schedulers look at, to warn of being called too early.
    optimizer._opt_called = True  # type: ignore[attr-defined]
    at_once = hot_optimizers.STEPS.get(type(optimizer))
    if at_once is not None and closure is None:
        graded = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            if at_once(optimizer):
                return None
        finally:
            torch._C._set_grad_enabled(graded)
    return plain(optimizer, closure) if closure is not None else plain(optimizer)


def zero_grad(optimizer: torch.optim.Optimizer, set_to_none: bool = True) -> None:
    """Clears the gradients, as ``optimizer.zero_grad(set_to_none)``."""
    _require_optimizer(optimizer)
    if not set_to_none:
        optimizer.zero_grad(set_to_none=False)
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


@cache
def _plain_step(kind: type[torch.optim.Optimizer]) -> Callable[..., Any] | None:
    """Returns the step of a class without the profiler's scope; None if it has no such scope."""
    step = getattr(kind.step, "__wrapped__", None)
    if step is not None and step.__code__ is _USE_GRAD:
        return partial(_in_grad_mode, step.__wrapped__)
    return step


def _in_grad_mode(
    step: Callable[..., Any], optimizer: torch.optim.Optimizer, *closure: Callable[[], Any]
) -> Any:
    """Takes a step as `_use_grad_for_differentiable` has it, but for a word to the compiler."""
    before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(optimizer.defaults["differentiable"])
    try:
        return step(optimizer, *closure)
    finally:
        torch._C._set_grad_enabled(before)


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


def _mse_loss(module: torch.nn.MSELoss, output: Any, target: Any) -> torch.Tensor:
    if not (
        isinstance(output, torch.Tensor)
        and isinstance(target, torch.Tensor)
        and output.size() == target.size()
    ):
        # torch warns, and broadcasts.
        return module.forward(output, target)
    return _kernel_of_mse_loss(output, target, _Reduction.get_enum(module.reduction))


_NONE = (-1, _linear)
_FORWARDS: dict[type, tuple[int, Callable[..., Any]]] = {
    torch.nn.Linear: (1, _linear),
    torch.nn.MSELoss: (2, _mse_loss),
}
"""By class how many arguments its ``forward`` has, and what it does, without what it asks and looks
up on the way."""

CALLS: dict[str, Callable[..., Any]] = {
    "torch.Tensor.backward": backward,
    "torch.optim.Optimizer.step": step,
    "torch.optim.Optimizer.zero_grad": zero_grad,
}
"""By name in the catalog."""
