"""Steps of the optimizers that most programs use: torch's kernels, called for all tensors at once.

On CPUs torch goes through the parameters one by one in Python. The functions of ``torch._foreach``
call the same kernels with the same numbers, so the results are the same to the last bit. Each
function here takes a step of one class, or returns False and has done nothing; then torch does it.
"""

from collections.abc import Callable
from typing import Any

import torch

_Group = dict[str, Any]
_Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]

_UNUSUAL = ("foreach", "fused", "capturable", "differentiable", "maximize", "amsgrad")
"""Options that torch has other code for, if they are set."""
_SCALARS = (float, int)
_STRIDED = torch.strided
_DTYPES = (torch.float32, torch.float64)


def adam(optimizer: torch.optim.Optimizer) -> bool:
    """Takes a step of ``torch.optim.Adam`` or ``AdamW``."""
    prepared = []
    for group in optimizer.param_groups:
        parameters, gradients = _with_gradients(group)
        states = [optimizer.state[parameter] for parameter in parameters]
        if not _is_usual(group, parameters, gradients) or not all(states):
            return False
        counts = [state["step"] for state in states]
        steps = {count.item() for count in counts}
        if len(steps) > 1 or not all(type(beta) in _SCALARS for beta in group["betas"]):
            return False
        if parameters:
            prepared.append((group, parameters, gradients, states, counts, steps.pop() + 1))
    for group, parameters, gradients, states, counts, step in prepared:
        rate, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
        averages = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        torch._foreach_add_(counts, 1)
        if decay != 0:
            if group["decoupled_weight_decay"]:
                torch._foreach_mul_(parameters, 1 - rate * decay)
            else:
                gradients = torch._foreach_add(gradients, parameters, alpha=decay)  # noqa: PLW2901
        torch._foreach_lerp_(averages, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, (1 - beta2**step) ** 0.5)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(parameters, averages, denominators, -(rate / (1 - beta1**step)))
    return True


def sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Takes a step of ``torch.optim.SGD``."""
    prepared = []
    for group in optimizer.param_groups:
        parameters, gradients = _with_gradients(group)
        buffers: list[Any] = []
        if group["momentum"] != 0:
            buffers = [optimizer.state[p].get("momentum_buffer") for p in parameters]
        if not _is_usual(group, parameters, gradients) or any(buffer is None for buffer in buffers):
            return False
        if parameters:
            prepared.append((group, parameters, gradients, buffers))
    for group, parameters, gradients, buffers in prepared:
        momentum, decay = group["momentum"], group["weight_decay"]
        if decay != 0:
            gradients = torch._foreach_add(gradients, parameters, alpha=decay)  # noqa: PLW2901
        if momentum != 0:
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, gradients, alpha=1 - group["dampening"])
            if group["nesterov"]:
                gradients = torch._foreach_add(gradients, buffers, alpha=momentum)  # noqa: PLW2901
            else:
                gradients = buffers  # noqa: PLW2901
        torch._foreach_add_(parameters, gradients, alpha=-group["lr"])
    return True


STEPS: dict[type, Callable[[torch.optim.Optimizer], bool]] = {
    torch.optim.Adam: adam,
    torch.optim.AdamW: adam,
    torch.optim.SGD: sgd,
}
"""By class what takes a step, without gradients being tracked."""


def _with_gradients(group: _Group) -> tuple[_Tensors, _Tensors]:
    """Returns the parameters of a group that have a gradient, and these."""
    parameters, gradients = [], []
    for parameter in group["params"]:
        gradient = parameter.grad
        if gradient is not None:
            parameters.append(parameter)
            gradients.append(gradient)
    return parameters, gradients


def _is_usual(group: _Group, parameters: _Tensors, gradients: _Tensors) -> bool:
    """Returns whether torch would go through a group one by one, with numbers for options.

    Numbers of less precision are rounded elsewhere when all tensors are changed at once.
    """
    for option in _UNUSUAL:
        if group.get(option):
            return False
    if type(group["lr"]) not in _SCALARS or type(group["weight_decay"]) not in _SCALARS:
        return False
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if (
            parameter.dtype not in _DTYPES
            or gradient.dtype is not parameter.dtype
            or not gradient.is_cpu
            or gradient.layout is not _STRIDED
        ):
            return False
    return True
