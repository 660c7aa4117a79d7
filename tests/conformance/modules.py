"""The entries of ``module_db``: construction, state, printing, forward, and gradients."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.testing._internal.common_modules import FunctionInput, ModuleInfo, module_db

import gradwire
from tests.conformance.comparing import DifferenceError, Tolerance, compare
from tests.conformance.outcomes import Outcome
from tests.conformance.running import (
    SEED,
    Agreement,
    agree_in_gradients,
    agree_in_raising,
    copied,
    spread,
)
from tests.conformance.sides import Remote, attribute, noting_construction, tensors
from tests.conformance.tolerances import tolerance_of

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.complex64)


def entries() -> dict[str, ModuleInfo]:
    """Returns the entries by name."""
    found: dict[str, ModuleInfo] = {}
    for info in module_db:
        name = info.name if info.name not in found else f"{info.name} (again)"
        assert name not in found, name
        found[name] = info
    return found


def run(name: str, info: ModuleInfo, *, num_first: int, num_other: int) -> Outcome:
    """Runs the inputs of an entry on both sides, in training and in evaluation mode.

    Args:
        name: The entry's name.
        info: The entry.
        num_first: How many inputs to run, in each mode, with the first kind of element.
        num_other: How many with each other kind of element.
    """
    outcome = Outcome(table="module_db", name=name, differentiable=True)
    dtypes = [dtype for dtype in DTYPES if dtype in info.supported_dtypes("cpu")]
    for dtype in dtypes:
        count = num_first if dtype is dtypes[0] else num_other
        for training in (True, False) if info.train_and_eval_differ else (True,):
            torch.manual_seed(SEED)
            with noting_construction():
                samples = info.module_inputs_func(
                    info, device="cpu", dtype=dtype, requires_grad=True, training=training
                )
            mode = "train" if training else "eval"
            label = f"{mode}, {str(dtype).removeprefix('torch.')}"
            for sample in spread(list(samples), count):
                use = Use(
                    module_class=info.module_cls,
                    constructor=sample.constructor_input,
                    forward=sample.forward_input,
                    training=training,
                    dtype=dtype,
                )
                if not outcome.note(label, partial(agree, use, tolerance_of(info, dtype))):
                    break
    return outcome


@dataclass(frozen=True, kw_only=True)
class Use:
    """One way to make and to call a module.

    Attributes:
        module_class: Its class, of local torch.
        constructor: The arguments of the constructor.
        forward: The arguments of the call; None not to call it.
        training: Whether it is in training mode.
        dtype: What its parameters are converted to.
    """

    module_class: type[torch.nn.Module]
    constructor: FunctionInput
    forward: FunctionInput | None
    training: bool
    dtype: torch.dtype


def agree(use: Use, tolerance: Tolerance) -> Agreement:
    """Makes and calls a module on both sides, and compares all there is to see of it.

    Raises:
        NotAllowedError: The class is not in the catalog.
        DifferenceError: The sides disagree.
    """
    remote = Remote()
    inputs = use.forward or FunctionInput()
    made, given = copied(
        ((use.constructor.args, use.constructor.kwargs), (inputs.args, inputs.kwargs)), {}
    )
    remote_class = remote.function(use.module_class)
    local = _attempt(torch, use.module_class, made, given, use)
    remote_made, remote_given = remote.value((made, given))
    other = _attempt(gradwire, remote_class, remote_made, remote_given, use)
    if isinstance(local, Exception) or isinstance(other, Exception):
        return agree_in_raising(local, other)
    (module, output), (remote_module, remote_output) = local, other
    if repr(module) != repr(remote_module):
        raise DifferenceError(f"torch prints {module!r}, gradwire {remote_module!r}")
    exact = compare(module.state_dict(), remote_module.state_dict(), tolerance)
    exact &= compare(output, remote_output, tolerance)
    names = [name for name, _ in module.named_parameters()]
    remote_names = [name for name, _ in remote_module.named_parameters()]
    if names != remote_names:
        raise DifferenceError(f"torch has the parameters {names}, gradwire {remote_names}")
    leaves = [tensor for tensor in tensors(given) if tensor.requires_grad and tensor.is_leaf]
    differentiated = agree_in_gradients(
        (output, [*leaves, *module.parameters()]),
        (remote_output, [*map(remote.value, leaves), *remote_module.parameters()]),
        tolerance,
    )
    return replace(differentiated, exact=exact and differentiated.exact)


def _attempt(lib: Any, module_class: Any, made: Any, given: Any, use: Use) -> Any:
    """Returns a module and what it returns, or the exception that was raised."""
    lib.manual_seed(SEED)
    try:
        module = module_class(*made[0], **made[1])
        module = module.to(attribute(lib, str(use.dtype))).train(use.training)
        output = module(*given[0], **given[1]) if use.forward else None
        if lib is gradwire:
            gradwire.current_session().flush()
    except Exception as error:  # noqa: BLE001  # what it is, is the question
        return error
    return module, output
