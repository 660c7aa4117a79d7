"""The verbs of a training pass: Forward, ComputeLoss, Backward, ZeroGrad."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from gradwire.v1 import models_pb2, values_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.losses import build_loss, run_loss
from gradwire_server.engine.models import find_model, require_session_or_model
from gradwire_server.engine.registry import closest
from gradwire_server.engine.session import Session
from gradwire_server.engine.values import class_name
from gradwire_server.errors import GradwireError, Reason, invalid


def forward(session: Session, request: models_pb2.ForwardRequest) -> models_pb2.ForwardResponse:
    """Runs a model on inputs."""
    model = find_model(session, request.name)
    module = model.module
    inputs = [session.decode(v, f"inputs[{i}]") for i, v in enumerate(request.inputs)]
    kwargs = session.decode_map(request.kwargs, "kwargs")
    watched = _submodules(module, request)
    if request.mode == models_pb2.MODE_TRAIN:
        module.train()
    elif request.mode == models_pb2.MODE_EVAL:
        module.eval()
    elif request.mode:
        raise invalid("mode", f"{request.mode} is not a Mode")
    with (
        torch.set_grad_enabled(not request.no_grad),
        _capturing(watched) as captured,
        operation("Forward"),
    ):
        output = module(*inputs, **kwargs)
    with_gradient = [i for i, v in enumerate(request.inputs) if _collects_gradient(v)]
    values = [output, *captured.values(), *(inputs[i] for i in with_gradient)]
    contents: list[values_pb2.Value | None] = [None] * len(values)
    if not request.handles_only:
        with operation("Forward"):
            contents = [*session.encode(values[: 1 + len(captured)])]
    handles = session.leave(values, "Forward")
    outputs = [
        models_pb2.Output(handle=handle, value=value)
        for handle, value in zip(handles, contents, strict=False)
    ]
    input_handles = dict(zip(with_gradient, handles[1 + len(captured) :], strict=True))
    return models_pb2.ForwardResponse(
        output=outputs[0],
        captured=dict(zip(captured, outputs[1:], strict=False)),
        input_handles=[input_handles.get(i, 0) for i in range(len(inputs))],
    )


def compute_loss(
    session: Session, request: models_pb2.ComputeLossRequest
) -> models_pb2.ComputeLossResponse:
    """Computes a loss of outputs and targets."""
    require_session_or_model(session, request.name)
    if not request.outputs:
        raise invalid("outputs", "is empty; give the handle of a Forward's output, or values")
    loss = build_loss(session, request.loss, "loss")
    outputs = [session.decode(v, f"outputs[{i}]") for i, v in enumerate(request.outputs)]
    targets = [session.decode(v, f"targets[{i}]") for i, v in enumerate(request.targets)]
    value = run_loss(loss, outputs, targets)
    with operation("ComputeLoss"):
        (contents,) = session.encode([value])
    (handle,) = session.leave([value], "ComputeLoss")
    return models_pb2.ComputeLossResponse(loss=models_pb2.Output(handle=handle, value=contents))


def backward(session: Session, request: models_pb2.BackwardRequest) -> models_pb2.BackwardResponse:
    """Adds gradients to the leaves that a value was computed from."""
    require_session_or_model(session, request.name)
    value = _tensor_of(session, request.handle, "handle")
    gradient = None
    if request.HasField("gradient"):
        gradient = session.decode(request.gradient, "gradient")
        if not isinstance(gradient, torch.Tensor):
            raise invalid("gradient", f"is a {class_name(gradient)}, not a tensor")
    leaves = [
        _leaf_of(session, handle, f"gradients[{index}]")
        for index, handle in enumerate(request.gradients)
    ]
    with operation("Backward"):
        value.backward(gradient, retain_graph=request.retain_graph)
        gradients = session.encode([leaf.grad for leaf in leaves])
    return models_pb2.BackwardResponse(gradients=gradients)


def zero_grad(session: Session, request: models_pb2.ZeroGradRequest) -> models_pb2.ZeroGradResponse:
    """Sets the gradients of a model's parameters to none."""
    find_model(session, request.name).module.zero_grad()
    return models_pb2.ZeroGradResponse()


def _submodules(
    module: torch.nn.Module, request: models_pb2.ForwardRequest
) -> dict[str, torch.nn.Module]:
    """Returns the submodules whose outputs are to be captured, by path."""
    if not request.capture:
        return {}
    submodules = dict(module.named_modules(remove_duplicate=False))
    for index, path in enumerate(request.capture):
        if path not in submodules:
            raise invalid(
                f"capture[{index}]", f"there is no submodule {path!r}{closest(path, submodules)}"
            )
    return {path: submodules[path] for path in request.capture}


@contextmanager
def _capturing(submodules: Mapping[str, torch.nn.Module]) -> Iterator[dict[str, Any]]:
    """Collects the outputs of submodules while the block runs them; of each the last."""
    outputs: dict[str, Any] = {}

    def hook(path: str) -> Any:
        def keep(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            outputs[path] = output

        return keep

    hooks = [m.register_forward_hook(hook(path)) for path, m in submodules.items()]
    try:
        yield outputs
    finally:
        for handle in hooks:
            handle.remove()


def _collects_gradient(value: values_pb2.Value) -> bool:
    return value.WhichOneof("kind") == "tensor" and value.tensor.requires_grad


def _tensor_of(session: Session, handle: int, path: str) -> torch.Tensor:
    value = session.value(handle, path)
    if not isinstance(value, torch.Tensor):
        raise invalid(path, f"handle {handle} is a {class_name(value)}, not a tensor")
    return value


def _leaf_of(session: Session, handle: int, path: str) -> torch.Tensor:
    tensor = _tensor_of(session, handle, path)
    if not (tensor.is_leaf or tensor.retains_grad):
        raise GradwireError(
            Reason.INVALID_REQUEST,
            f"{path}: handle {handle} was computed, and only leaves keep their gradient; give an "
            "input by value with requires_grad and use its handle",
            fields=[(path, "is not a leaf")],
        )
    return tensor
