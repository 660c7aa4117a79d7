"""The verbs on models: what each unary call does."""

import math
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from gradwire.v1 import models_pb2, values_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.modules import (
    build_loss,
    build_module,
    build_optimizer,
    named,
    run_loss,
)
from gradwire_server.engine.registry import closest
from gradwire_server.engine.session import Session
from gradwire_server.engine.values import (
    DATA_TYPE_OF_DTYPE,
    class_name,
    decode_tensor,
    encode_tensor,
    encode_value,
)
from gradwire_server.errors import GradwireError, Reason, invalid

MODEL_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


@dataclass(kw_only=True)
class Model:
    """A model of a session.

    Attributes:
        name: `sessions/{session}/models/{model}`.
        module: The root module.
        optimizer: What Step and Train use, if there is one.
        num_steps: How many optimizer steps were taken.
    """

    name: str
    module: torch.nn.Module
    optimizer: torch.optim.Optimizer | None
    num_steps: int = 0


def create_model(
    session: Session, request: models_pb2.CreateModelRequest
) -> models_pb2.CreateModelResponse:
    """Builds a model and its optimizer; leaves nothing behind if it fails."""
    model_id = request.model_id or secrets.token_hex(8)
    if not MODEL_ID.fullmatch(model_id):
        raise invalid(
            "model_id", f"{model_id!r} is not 1 to 63 letters, digits, hyphens and underscores"
        )
    if model_id in session.models:
        raise GradwireError(
            Reason.ALREADY_EXISTS, f"{session.name} has a model {model_id!r} already"
        )
    if not request.HasField("module"):
        raise invalid("module", "is missing; describe the model")
    if request.HasField("seed"):
        with operation("torch.manual_seed"):
            torch.manual_seed(request.seed)
    module = build_module(session, request.module, "module")
    session.budget.add(module, "CreateModel")
    optimizer = None
    if request.HasField("optimizer"):
        optimizer = build_optimizer(session, request.optimizer, module, "optimizer")
    model = Model(name=f"{session.name}/models/{model_id}", module=module, optimizer=optimizer)
    session.models[model_id] = model
    return models_pb2.CreateModelResponse(model=_describe(model))


def get_model(session: Session, request: models_pb2.GetModelRequest) -> models_pb2.GetModelResponse:
    """Describes a model."""
    return models_pb2.GetModelResponse(model=_describe(find_model(session, request.name)))


def list_models(
    session: Session, request: models_pb2.ListModelsRequest
) -> models_pb2.ListModelsResponse:
    """Describes the models of the session, oldest first."""
    _require_session(session, request.name)
    size = request.page_size or DEFAULT_PAGE_SIZE
    if not 0 < size <= MAX_PAGE_SIZE:
        raise invalid("page_size", f"{request.page_size} is not 0 to {MAX_PAGE_SIZE}")
    token = request.page_token or "0"
    if not token.isdecimal():
        raise invalid("page_token", f"{token!r} is not the next_page_token of a response")
    first = int(token)
    models = list(session.models.values())
    more = first + size < len(models)
    return models_pb2.ListModelsResponse(
        models=[_describe(model) for model in models[first : first + size]],
        next_page_token=str(first + size) if more else "",
    )


def delete_model(
    session: Session, request: models_pb2.DeleteModelRequest
) -> models_pb2.DeleteModelResponse:
    """Forgets a model and its optimizer."""
    model = find_model(session, request.name)
    del session.models[model.name.rpartition("/")[2]]
    return models_pb2.DeleteModelResponse()


def forward(session: Session, request: models_pb2.ForwardRequest) -> models_pb2.ForwardResponse:
    """Runs a model on inputs."""
    model = find_model(session, request.name)
    module = model.module
    inputs = [session.decode(v, f"inputs[{i}]") for i, v in enumerate(request.inputs)]
    kwargs = {k: session.decode(v, f"kwargs[{k!r}]") for k, v in request.kwargs.items()}
    if request.mode == models_pb2.MODE_TRAIN:
        module.train()
    elif request.mode == models_pb2.MODE_EVAL:
        module.eval()
    with (
        torch.set_grad_enabled(not request.no_grad),
        _captured(module, request.capture) as captured,
        operation("Forward"),
    ):
        output = module(*inputs, **kwargs)
    fetch = not request.handles_only
    handles = [
        session.keep(value, f"inputs[{i}]") if _collects_gradient(sent) else 0
        for i, (value, sent) in enumerate(zip(inputs, request.inputs, strict=True))
    ]
    return models_pb2.ForwardResponse(
        output=_output(session, output, "output", fetch),
        captured={path: _output(session, v, path, fetch) for path, v in captured.items()},
        input_handles=handles,
    )


def compute_loss(
    session: Session, request: models_pb2.ComputeLossRequest
) -> models_pb2.ComputeLossResponse:
    """Computes a loss of outputs and targets."""
    _require_session_or_model(session, request.name)
    if not request.outputs:
        raise invalid("outputs", "is empty; give the handle of a Forward's output, or values")
    loss = build_loss(session, request.loss, "loss")
    outputs = [session.decode(v, f"outputs[{i}]") for i, v in enumerate(request.outputs)]
    targets = [session.decode(v, f"targets[{i}]") for i, v in enumerate(request.targets)]
    value = run_loss(loss, outputs, targets)
    return models_pb2.ComputeLossResponse(loss=_output(session, value, "loss", fetch=True))


def backward(session: Session, request: models_pb2.BackwardRequest) -> models_pb2.BackwardResponse:
    """Adds gradients to the leaves that a value was computed from."""
    _require_session_or_model(session, request.name)
    value = _tensor_of(session, request.handle, "handle")
    gradient = None
    if request.HasField("gradient"):
        gradient = session.decode(request.gradient, "gradient")
    leaves = [
        _tensor_of(session, handle, f"gradients[{index}]")
        for index, handle in enumerate(request.gradients)
    ]
    with operation("Backward"):
        value.backward(gradient, retain_graph=request.retain_graph)
    return models_pb2.BackwardResponse(gradients=[encode_value(leaf.grad) for leaf in leaves])


def zero_grad(session: Session, request: models_pb2.ZeroGradRequest) -> models_pb2.ZeroGradResponse:
    """Sets the gradients of a model's parameters to none."""
    find_model(session, request.name).module.zero_grad()
    return models_pb2.ZeroGradResponse()


def step(session: Session, request: models_pb2.StepRequest) -> models_pb2.StepResponse:
    """Lets a model's optimizer take one step."""
    model = find_model(session, request.name)
    optimizer = require_optimizer(model)
    max_norm = None
    if request.HasField("clip_grad_norm"):
        max_norm = require_clip_norm(request.clip_grad_norm)
    norms: list[torch.Tensor] = []
    losses: list[torch.Tensor] = []

    def clip() -> None:
        if max_norm is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(model.module.parameters(), max_norm))

    if request.HasField("closure"):
        evaluate = _closure(session, model, optimizer, request.closure)

        def closure() -> torch.Tensor:
            losses.append(evaluate())
            clip()
            return losses[-1]

        with operation("Step"):
            optimizer.step(closure)  # type: ignore[arg-type]
    else:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise invalid("closure", "LBFGS evaluates the model in its steps; say how, in closure")
        if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
            raise GradwireError(
                Reason.NO_GRADIENT,
                f"no parameter of {model.name} has a gradient; call Backward before Step",
            )
        with operation("Step"):
            clip()
            optimizer.step()
    model.num_steps += 1
    return models_pb2.StepResponse(
        num_steps=model.num_steps,
        grad_norm=norms[0].item() if norms else None,
        loss=losses[0].item() if losses else None,
    )


def fetch_tensors(
    session: Session, request: models_pb2.FetchTensorsRequest
) -> models_pb2.FetchTensorsResponse:
    """Returns parameters, gradients and buffers by name."""
    module = find_model(session, request.name).module
    parameters: dict[str, torch.Tensor] = dict(module.named_parameters())
    buffers = dict(module.named_buffers())
    names = set(request.tensors)
    for index, name in enumerate(request.tensors):
        named(parameters | buffers, name, f"tensors[{index}]")
    gradients = {k: p.grad for k, p in parameters.items() if p.grad is not None}
    kinds = set(request.kinds) or {models_pb2.TENSOR_KIND_PARAMETER}
    unknown = kinds - set(models_pb2.TensorKind.values()) | kinds & {0}
    if unknown:
        raise invalid("kinds", f"{sorted(unknown)} are not kinds of tensors")

    def selected(
        kind: "models_pb2.TensorKind", tensors: Mapping[str, torch.Tensor]
    ) -> list[models_pb2.NamedTensor]:
        if kind not in kinds:
            return []
        return [
            models_pb2.NamedTensor(name=name, tensor=encode_tensor(tensor))
            for name, tensor in tensors.items()
            if not names or name in names
        ]

    return models_pb2.FetchTensorsResponse(
        parameters=selected(models_pb2.TENSOR_KIND_PARAMETER, parameters),
        gradients=selected(models_pb2.TENSOR_KIND_GRADIENT, gradients),
        buffers=selected(models_pb2.TENSOR_KIND_BUFFER, buffers),
    )


def set_tensors(
    session: Session, request: models_pb2.SetTensorsRequest
) -> models_pb2.SetTensorsResponse:
    """Overwrites parameters, gradients and buffers; all of them or none."""
    module = find_model(session, request.name).module
    parameters: dict[str, torch.Tensor] = dict(module.named_parameters())
    tables = (
        ("parameters", request.parameters, parameters),
        ("gradients", request.gradients, parameters),
        ("buffers", request.buffers, dict(module.named_buffers())),
    )
    changes: list[tuple[bool, torch.Tensor, torch.Tensor]] = []
    for field, entries, members in tables:
        for index, entry in enumerate(entries):
            path = f"{field}[{index}]"
            target = named(members, entry.name, f"{path}.name")
            value = decode_tensor(entry.tensor, session.device, f"{path}.tensor")
            if value.shape != target.shape or value.dtype != target.dtype:
                raise invalid(
                    f"{path}.tensor",
                    f"{entry.name} is {target.dtype} of shape {list(target.shape)}, not "
                    f"{value.dtype} of shape {list(value.shape)}",
                )
            changes.append((field == "gradients", target, value.detach()))
    with torch.no_grad():
        for is_gradient, target, value in changes:
            if is_gradient:
                target.grad = value
            else:
                target.copy_(value)
    return models_pb2.SetTensorsResponse()


def find_model(session: Session, name: str) -> Model:
    """Returns the model of a name.

    Raises:
        GradwireError: MODEL_NOT_FOUND, or the name is not a model's.
    """
    start = f"{session.name}/models/"
    model_id = name.removeprefix(start)
    if not name.startswith(start) or not MODEL_ID.fullmatch(model_id):
        raise invalid("name", f"{name!r} is not of the form sessions/{{session}}/models/{{model}}")
    model = session.models.get(model_id)
    if model is None:
        raise GradwireError(
            Reason.MODEL_NOT_FOUND,
            f"{session.name} has no model {model_id!r}; it was deleted or never "
            f"created{closest(model_id, session.models)}",
            metadata={"model": model_id},
        )
    return model


def require_optimizer(model: Model) -> torch.optim.Optimizer:
    """Returns the model's optimizer; raises NO_OPTIMIZER if there is none."""
    if model.optimizer is None:
        raise GradwireError(
            Reason.NO_OPTIMIZER,
            f"{model.name} has no optimizer; give one to CreateModel or Train",
        )
    return model.optimizer


def require_clip_norm(norm: float) -> float:
    """Returns the norm to clip to; raises if it is not a positive number."""
    if not (norm > 0 and math.isfinite(norm)):
        raise invalid("clip_grad_norm", f"{norm} is not a positive number")
    return norm


def spread(output: Any) -> Sequence[Any]:
    """Returns a model's output as the loss takes it: a tuple's elements one by one."""
    return output if isinstance(output, tuple) else (output,)


def _closure(
    session: Session,
    model: Model,
    optimizer: torch.optim.Optimizer,
    spec: models_pb2.Closure,
) -> Any:
    loss = build_loss(session, spec.loss, "closure.loss")
    inputs = [session.decode(v, f"closure.inputs[{i}]") for i, v in enumerate(spec.inputs)]
    targets = [session.decode(v, f"closure.targets[{i}]") for i, v in enumerate(spec.targets)]

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        value = run_loss(loss, spread(model.module(*inputs)), targets)
        value.backward()
        return value

    return evaluate


@contextmanager
def _captured(module: torch.nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collects the outputs of submodules while the block runs the module."""
    submodules = dict(module.named_modules())
    outputs: dict[str, Any] = {}
    hooks = []
    try:
        for index, path in enumerate(paths):
            if path not in submodules:
                raise invalid(
                    f"capture[{index}]",
                    f"there is no submodule {path!r}{closest(path, submodules)}",
                )

            def keep(_: Any, __: Any, output: Any, path: str = path) -> None:
                outputs[path] = output

            hooks.append(submodules[path].register_forward_hook(keep))
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _collects_gradient(value: values_pb2.Value) -> bool:
    return value.WhichOneof("kind") == "tensor" and value.tensor.requires_grad


def _output(session: Session, value: Any, what: str, fetch: bool) -> models_pb2.Output:
    return models_pb2.Output(
        handle=session.keep(value, what), value=encode_value(value) if fetch else None
    )


def _tensor_of(session: Session, handle: int, path: str) -> torch.Tensor:
    value = session.value(handle, path)
    if not isinstance(value, torch.Tensor):
        raise invalid(path, f"handle {handle} is a {class_name(value)}, not a tensor")
    return value


def _require_session(session: Session, name: str) -> None:
    if name != session.name:
        raise invalid("name", f"{name!r} is not of the form sessions/{{session}}")


def _require_session_or_model(session: Session, name: str) -> None:
    if name != session.name:
        find_model(session, name)


def _describe(model: Model) -> models_pb2.Model:
    module = model.module
    parameters = [_describe_tensor(*member) for member in module.named_parameters()]
    return models_pb2.Model(
        name=model.name,
        type="torch.nn.Module" if module._get_name() == "Module" else class_name(module),
        summary=repr(module),
        parameters=parameters,
        buffers=[_describe_tensor(*member) for member in module.named_buffers()],
        num_parameters=sum(math.prod(parameter.shape) for parameter in parameters),
        optimizer="" if model.optimizer is None else class_name(model.optimizer),
        training=module.training,
        num_steps=model.num_steps,
    )


def _describe_tensor(name: str, tensor: torch.Tensor) -> models_pb2.TensorInfo:
    lazy = torch.nn.parameter.is_lazy(tensor)
    return models_pb2.TensorInfo(
        name=name,
        dtype=DATA_TYPE_OF_DTYPE[tensor.dtype],  # type: ignore[arg-type]
        shape=[] if lazy else list(tensor.shape),
        requires_grad=tensor.requires_grad,
    )
