"""The entries of ``optim_db``: training, schedulers, carried-over state, and bad arguments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.testing._internal.common_optimizers import OptimizerInfo, optim_db

import gradwire
from tests.conformance.comparing import Tolerance, compare
from tests.conformance.outcomes import Outcome
from tests.conformance.running import SEED, Agreement, agree_in_raising
from tests.conformance.sides import Remote, attribute
from tests.conformance.tolerances import tolerance_of

NUM_STEPS = 4
IMPLEMENTATIONS = ("foreach", "fused")

Program = Callable[[Any, Any, dict[str, Any], "Setting"], Any]
"""Trains, given torch or gradwire, the optimizer's class, its options and the setting."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and what changes the learning rate.

    Attributes:
        info: The entry.
        dtype: The parameters' kind of element.
        sparse: Whether the gradient of the weight is made sparse.
        schedulers: Functions that make a scheduler of an optimizer.
    """

    info: OptimizerInfo
    dtype: torch.dtype = torch.float32
    sparse: bool = False
    schedulers: list[Callable[[Any], Any]] = field(default_factory=list)


def entries() -> dict[str, OptimizerInfo]:
    """Returns the entries by name."""
    return {info.name: info for info in optim_db}


def run(name: str, info: OptimizerInfo, *, num_options: int | None = None) -> Outcome:
    """Runs an entry's options, with each implementation and scheduler of the entry.

    Args:
        name: The entry's name.
        info: The entry.
        num_options: How many sets of options to run; all by default.
    """
    outcome = Outcome(table="optim_db", name=name, differentiable=True)
    tolerance = tolerance_of(info, torch.float32)
    for label, program, kwargs, setting in _cases(info, num_options):
        outcome.note(label, partial(agree, program, kwargs, setting, tolerance))
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        given = error.optimizer_error_input
        label = f"bad arguments: {given.desc}"
        outcome.note(label, partial(agree_in_refusing, info, given.params, given.kwargs))
    return outcome


def _cases(
    info: OptimizerInfo, num_options: int | None
) -> Iterator[tuple[str, Program, dict[str, Any], Setting]]:
    plain = Setting(info=info, sparse=info.only_supports_sparse_grads)
    implementations = [
        name
        for name in IMPLEMENTATIONS
        if name in info.supported_impls and (name != "fused" or "cpu" in info.supports_fused_on)
    ]
    options = info.optim_inputs_func(device="cpu", dtype=torch.float32)
    for given in options[:num_options]:
        yield given.desc, train, given.kwargs, plain
        for name in implementations:
            yield f"{given.desc}, {name}", train, {**given.kwargs, name: True}, plain
        if "differentiable" in info.supported_impls and not info.only_supports_sparse_grads:
            yield f"{given.desc}, differentiable", differentiate, given.kwargs, plain
    first = options[0].kwargs
    for index, schedulers in enumerate(info.scheduler_inputs):
        label = f"schedulers {index}"
        yield label, train, first, Setting(info=info, sparse=plain.sparse, schedulers=schedulers)
    for dtype in (torch.float64, torch.complex64):
        if info.supports_complex or not dtype.is_complex:
            yield str(dtype), train, first, Setting(info=info, dtype=dtype, sparse=plain.sparse)
    if info.supports_sparse:
        yield "sparse gradients", train, first, Setting(info=info, sparse=True)


def train(lib: Any, optimizer_class: Any, kwargs: dict[str, Any], setting: Setting) -> Any:
    """Trains a few steps, carries the state over to a second optimizer, and trains on."""
    dtype = attribute(lib, str(setting.dtype))
    weight = lib.nn.Parameter(lib.randn(6, 4, dtype=dtype))
    bias = lib.nn.Parameter(lib.randn(6, dtype=dtype))
    x, y = lib.randn(4, dtype=dtype), lib.randn(6, dtype=dtype)
    parameters = [weight] if setting.info.name == "Muon" else [weight, bias]
    optimizer = optimizer_class(parameters, **kwargs)
    schedulers = [make(optimizer) for make in setting.schedulers]

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (weight.mv(x) + bias - y).abs().pow(2).sum()
        loss.backward()
        if setting.sparse:
            weight.grad = weight.grad.to_sparse()
            bias.grad = bias.grad.to_sparse()
        return loss

    seen: list[Any] = []
    for step in range(2 * NUM_STEPS):
        if step == NUM_STEPS:
            state = optimizer.state_dict()
            optimizer = optimizer_class(parameters, **kwargs)
            optimizer.load_state_dict(state)
            schedulers = []
        if setting.info.step_requires_closure:
            loss = optimizer.step(closure)
        else:
            loss = closure()
            optimizer.step()
        for scheduler in schedulers:
            is_plateau = type(scheduler).__name__ == "ReduceLROnPlateau"
            scheduler.step(*[loss.item()] if is_plateau else [])
        group = optimizer.param_groups[0]
        options = {name: group[name] for name in sorted(group) if name != "params"}
        seen.append((loss, weight.clone(), bias.clone(), options))
    return seen


def differentiate(lib: Any, optimizer_class: Any, kwargs: dict[str, Any], setting: Setting) -> Any:
    """Differentiates what a step makes of a parameter by the parameter and by its gradient."""
    weight = lib.randn(3, 4, dtype=lib.float64, requires_grad=True)
    gradient = lib.randn(3, 4, dtype=lib.float64, requires_grad=True)
    parameter = weight.clone()
    parameter.grad = gradient.clone()
    optimizer = optimizer_class([parameter], differentiable=True, **kwargs)
    optimizer.step()
    parameter.sum().backward()
    return parameter, weight.grad, gradient.grad


def agree(
    program: Program, kwargs: dict[str, Any], setting: Setting, tolerance: Tolerance
) -> Agreement:
    """Runs a program on both sides and compares what it returns.

    Raises:
        NotAllowedError: The class is not in the catalog.
        DifferenceError: The sides disagree.
    """
    remote = Remote()
    kind: Any = setting.info.optim_cls
    local = _attempt(torch, partial(program, torch, kind, kwargs, setting))
    other_setting = Setting(
        info=setting.info,
        dtype=setting.dtype,
        sparse=setting.sparse,
        schedulers=[remote.function(make) for make in setting.schedulers],
    )
    other_kwargs = remote.value(kwargs)
    other = _attempt(
        gradwire, partial(program, gradwire, remote.function(kind), other_kwargs, other_setting)
    )
    if isinstance(local, Exception) or isinstance(other, Exception):
        return agree_in_raising(local, other)
    return Agreement(exact=compare(local, other, tolerance), differentiated=True)


def agree_in_refusing(info: OptimizerInfo, params: Any, kwargs: dict[str, Any]) -> Agreement:
    """Makes an optimizer of bad arguments on both sides."""
    if params is None:
        params = [torch.nn.Parameter(torch.zeros(1, 1))]
    remote = Remote()
    remote_kind = remote.function(info.optim_cls)
    kind: Any = info.optim_cls
    local = _attempt(torch, partial(kind, params, **kwargs))
    other = _attempt(gradwire, partial(remote_kind, *remote.value((params,)), **kwargs))
    if isinstance(local, Exception) or isinstance(other, Exception):
        return agree_in_raising(local, other)
    return Agreement(exact=True)


def _attempt(lib: Any, program: Callable[[], Any]) -> Any:
    """Returns what a program returns, or the exception that it raises."""
    lib.manual_seed(SEED)
    try:
        result = program()
        if lib is gradwire:
            gradwire.current_session().flush()
    except Exception as error:  # noqa: BLE001  # what it is, is the question
        return error
    return result
