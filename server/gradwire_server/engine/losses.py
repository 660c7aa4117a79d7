"""Losses from their descriptions: functions of a model's outputs, then the targets."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradwire.v1 import catalog, models_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.programs import Program
from gradwire_server.engine.registry import unknown_name
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import GradwireError, Reason, invalid

Loss = Callable[..., Any]

FUNCTIONS = frozenset(
    name
    for name in catalog.FUNCTIONS
    if name.startswith("torch.nn.functional.")
    and (name.endswith(("_loss", ".kl_div")) or "cross_entropy" in name)
)
"""Functions that can be named as a loss."""


@register
class ProgramFunction:
    """A program as a function."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def __call__(self, *values: Any) -> Any:
        """Runs the program."""
        return self._program.call(*values)


@register
class CatalogFunction:
    """A function of the catalog with keyword arguments."""

    def __init__(self, function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        self._function = function
        self._kwargs = kwargs

    def __call__(self, *values: Any) -> Any:
        """Calls the function."""
        return self._function(*values, **self._kwargs)


def build_loss(session: Session, spec: models_pb2.LossSpec, path: str) -> Loss:
    """Returns the loss of a description.

    Args:
        session: Whose handles and catalog it refers to.
        spec: The description.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: A name is unknown, or arguments are refused.
    """
    match spec.WhichOneof("kind"):
        case "catalog":
            return _catalog_loss(session, spec.catalog, f"{path}.catalog")
        case "program":
            return ProgramFunction(session.program(spec.program, f"{path}.program"))
        case "handle":
            held = session.value(spec.handle, f"{path}.handle")
            if not isinstance(held, torch.nn.Module):
                raise invalid(f"{path}.handle", f"handle {spec.handle} is not a loss module")
            return held
        case _:
            raise invalid(path, "has no kind set; give a catalog loss, a program or a handle")


def run_loss(loss: Loss, outputs: Sequence[Any], targets: Sequence[Any]) -> torch.Tensor:
    """Returns the loss of outputs and targets."""
    with operation("ComputeLoss"):
        value = loss(*outputs, *targets)
    if not isinstance(value, torch.Tensor):
        raise GradwireError(
            Reason.INVALID_REQUEST, f"the loss is a {type(value).__name__}, not a tensor"
        )
    return value


def spread(output: Any) -> Sequence[Any]:
    """Returns a model's output as the loss takes it: a tuple's elements one by one."""
    return output if isinstance(output, tuple) else (output,)


def _catalog_loss(session: Session, spec: models_pb2.CatalogLoss, path: str) -> Loss:
    is_module = spec.type in catalog.LOSSES
    if not is_module and spec.type not in FUNCTIONS:
        raise unknown_name(spec.type, f"{path}.type", [*catalog.LOSSES, *FUNCTIONS])
    kwargs = session.decode_map(spec.kwargs, f"{path}.kwargs")
    function = session.registry.resolve(spec.type, f"{path}.type")
    if is_module:
        module = None if kwargs else _plain_losses.get(spec.type)
        if module is None:
            with operation(spec.type):
                module = function(**kwargs)
            if not kwargs:
                _plain_losses[spec.type] = module
        return module
    return CatalogFunction(function, kwargs)


_plain_losses: dict[str, Loss] = {}
"""The catalog's losses that were asked for without arguments, by name; such a loss has no state, so
one serves all sessions."""
