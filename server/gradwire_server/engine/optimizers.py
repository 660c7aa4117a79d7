"""Optimizers from their descriptions."""

from collections.abc import Mapping
from typing import Any

import torch

from gradwire.v1 import catalog, models_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.registry import closest
from gradwire_server.engine.session import Session
from gradwire_server.errors import GradwireError, Reason, invalid


def build_optimizer(
    session: Session, spec: models_pb2.OptimizerSpec, module: torch.nn.Module, path: str
) -> torch.optim.Optimizer:
    """Returns the optimizer of a description for a module's parameters.

    Args:
        session: Where it is to live.
        spec: The description.
        module: Whose parameters the description names.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: A name is unknown, or arguments are refused.
    """
    if spec.handle:
        held = session.value(spec.handle, f"{path}.handle")
        if not isinstance(held, torch.optim.Optimizer):
            raise invalid(f"{path}.handle", f"handle {spec.handle} is not an optimizer")
        return held
    if not spec.type:
        raise invalid(f"{path}.type", "is empty; give an optimizer class such as torch.optim.Adam")
    construct = session.registry.constructor(spec.type, f"{path}.type", catalog.OPTIMIZERS)
    parameters: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    groups: list[Any] = []
    for index, group in enumerate(spec.groups):
        where = f"{path}.groups[{index}]"
        if not group.parameters:
            raise invalid(f"{where}.parameters", "is empty; name the parameters of the group")
        members = [
            named(parameters, name, f"{where}.parameters[{i}]")
            for i, name in enumerate(group.parameters)
        ]
        options = session.decode_map(group.options, f"{where}.options")
        _refuse_parameters(options, f"{where}.options")
        groups.append({"params": members, **options})
    kwargs = session.decode_map(spec.kwargs, f"{path}.kwargs")
    _refuse_parameters(kwargs, f"{path}.kwargs")
    with operation(spec.type):
        optimizer: torch.optim.Optimizer = construct(groups or list(module.parameters()), **kwargs)
    return optimizer


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether the optimizer evaluates the model in its steps."""
    return isinstance(optimizer, torch.optim.LBFGS)


def named(members: Mapping[str, torch.Tensor], name: str, path: str) -> torch.Tensor:
    """Returns a member by name.

    Raises:
        GradwireError: TENSOR_NOT_FOUND, naming the closest names.
    """
    try:
        return members[name]
    except KeyError:
        raise GradwireError(
            Reason.TENSOR_NOT_FOUND,
            f"{path}: there is no {name!r}{closest(name, members)}",
            metadata={"name": name},
        ) from None


def _refuse_parameters(options: Mapping[str, Any], path: str) -> None:
    if "params" in options:
        raise invalid(f"{path}['params']", "is not an option; name parameters in groups")
