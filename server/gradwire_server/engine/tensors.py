"""The verbs on a model's tensors: FetchTensors and SetTensors."""

from collections.abc import Mapping

import torch

from gradwire.v1 import models_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.models import find_model
from gradwire_server.engine.optimizers import named
from gradwire_server.engine.session import Session
from gradwire_server.engine.values import (
    decode_tensor,
    encode_tensor,
    require_fits,
    wire_bytes,
)
from gradwire_server.errors import invalid

Tensors = Mapping[str, torch.Tensor]


def fetch_tensors(
    session: Session, request: models_pb2.FetchTensorsRequest
) -> models_pb2.FetchTensorsResponse:
    """Returns parameters, gradients and buffers by name."""
    module = find_model(session, request.name).module
    kinds = set(request.kinds) or {models_pb2.TENSOR_KIND_PARAMETER}
    unknown = kinds - (set(models_pb2.TensorKind.values()) - {0})
    if unknown:
        raise invalid("kinds", f"{sorted(unknown)} are not kinds of tensors")
    # By name a tensor that is shared can be asked for under each of its names.
    by_name = bool(request.tensors)
    parameters: Tensors = dict(module.named_parameters(remove_duplicate=not by_name))
    buffers: Tensors = dict(module.named_buffers(remove_duplicate=not by_name))
    if by_name:
        known: dict[str, torch.Tensor] = {}
        if kinds & {models_pb2.TENSOR_KIND_PARAMETER, models_pb2.TENSOR_KIND_GRADIENT}:
            known |= parameters
        if models_pb2.TENSOR_KIND_BUFFER in kinds:
            known |= buffers
        for index, name in enumerate(request.tensors):
            named(known, name, f"tensors[{index}]")
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    names = set(request.tensors)

    def selected(kind: "models_pb2.TensorKind", tensors: Tensors) -> Tensors:
        if kind not in kinds:
            return {}
        return {name: t for name, t in tensors.items() if not by_name or name in names}

    chosen = (
        selected(models_pb2.TENSOR_KIND_PARAMETER, parameters),
        selected(models_pb2.TENSOR_KIND_GRADIENT, gradients),
        selected(models_pb2.TENSOR_KIND_BUFFER, buffers),
    )
    require_fits(wire_bytes(chosen), session.limits.max_message_bytes)
    with operation("FetchTensors"):
        encoded = [
            [
                models_pb2.NamedTensor(name=name, tensor=encode_tensor(tensor))
                for name, tensor in tensors.items()
            ]
            for tensors in chosen
        ]
    return models_pb2.FetchTensorsResponse(
        parameters=encoded[0], gradients=encoded[1], buffers=encoded[2]
    )


def set_tensors(
    session: Session, request: models_pb2.SetTensorsRequest
) -> models_pb2.SetTensorsResponse:
    """Overwrites parameters, gradients and buffers; all of them or none."""
    module = find_model(session, request.name).module
    parameters: Tensors = dict(module.named_parameters(remove_duplicate=False))
    buffers: Tensors = dict(module.named_buffers(remove_duplicate=False))
    changes: list[tuple[bool, torch.Tensor, torch.Tensor]] = []
    for field, entries, members in (
        ("parameters", request.parameters, parameters),
        ("gradients", request.gradients, parameters),
        ("buffers", request.buffers, buffers),
    ):
        for index, entry in enumerate(entries):
            path = f"{field}[{index}]"
            target = named(members, entry.name, f"{path}.name")
            value = _value_for(session, target, entry, f"{path}.tensor")
            changes.append((field == "gradients", target, value))
    for is_gradient, _, value in changes:
        if is_gradient:
            session.budget.add(value, "SetTensors")
    with torch.no_grad(), operation("SetTensors"):
        for is_gradient, target, value in changes:
            if is_gradient:
                target.grad = value
            else:
                target.copy_(value)
    return models_pb2.SetTensorsResponse()


def _value_for(
    session: Session, target: torch.Tensor, entry: models_pb2.NamedTensor, path: str
) -> torch.Tensor:
    """Returns the value of an entry, which must have the dtype and shape of its target."""
    value = decode_tensor(entry.tensor, session.device, path, session.regions).detach()
    if torch.nn.parameter.is_lazy(target):
        raise invalid(path, f"{entry.name} has no shape yet; run the model once")
    if value.shape != target.shape or value.dtype != target.dtype:
        raise invalid(
            path,
            f"{entry.name} is {target.dtype} of shape {list(target.shape)}, not {value.dtype} of "
            f"shape {list(value.shape)}",
        )
    return value
