"""Models of a session: what makes, describes, lists and ends them."""

import re
import secrets
from dataclasses import dataclass

import torch

from gradwire.v1 import models_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.modules import build_module
from gradwire_server.engine.optimizers import build_optimizer
from gradwire_server.engine.random_state import RandomState
from gradwire_server.engine.registry import closest
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.values import DATA_TYPE_OF_DTYPE, class_name
from gradwire_server.errors import GradwireError, Reason, invalid

MODEL_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


@register
@dataclass(kw_only=True, eq=False)
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
    """Builds a model and its optimizer.

    If it fails, no model stays and the session's random numbers are where they were.
    """
    model_id = request.model_id or secrets.token_hex(8)
    if not MODEL_ID.fullmatch(model_id):
        raise invalid(
            "model_id", f"{model_id!r} is not 1 to 63 letters, digits, hyphens and underscores"
        )
    if model_id in session.models:
        raise GradwireError(
            Reason.ALREADY_EXISTS,
            f"{session.name} has a model {model_id!r} already",
            metadata={"model": model_id},
        )
    if not request.HasField("module"):
        raise invalid("module", "is missing; describe the model")
    before = RandomState.capture(session.device)
    try:
        module, optimizer = _build(session, request)
    except Exception:
        before.restore(session.device)
        raise
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
    if request.name != session.name:
        raise invalid("name", f"{request.name!r} is not of the form sessions/{{session}}")
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    if size < 0:
        raise invalid("page_size", f"{request.page_size} is negative")
    ids = list(session.models)
    first = 0
    if request.page_token:
        # The last model of the page before; one that was deleted since can't be found again.
        if request.page_token not in session.models:
            raise invalid(
                "page_token",
                f"{request.page_token!r} is not the next_page_token of a response, or the last "
                "model of that page was deleted; list from the start",
            )
        first = ids.index(request.page_token) + 1
    page = ids[first : first + size]
    return models_pb2.ListModelsResponse(
        models=[_describe(session.models[model_id]) for model_id in page],
        next_page_token=page[-1] if first + size < len(ids) else "",
    )


def delete_model(
    session: Session, request: models_pb2.DeleteModelRequest
) -> models_pb2.DeleteModelResponse:
    """Forgets a model, its optimizer, and what unary calls computed with it."""
    model = find_model(session, request.name)
    del session.models[model.name.rpartition("/")[2]]
    session.drop_leftovers_of(model.module)
    return models_pb2.DeleteModelResponse()


def find_model(session: Session, name: str) -> Model:
    """Returns the model of a name.

    Raises:
        GradwireError: MODEL_NOT_FOUND, or the name is not a model's.
    """
    start = f"{session.name}/models/"
    model_id = name.removeprefix(start)
    model = session.models.get(model_id) if name.startswith(start) else None
    if model is None:
        if not name.startswith(start) or not MODEL_ID.fullmatch(model_id):
            raise invalid(
                "name", f"{name!r} is not of the form sessions/{{session}}/models/{{model}}"
            )
        raise GradwireError(
            Reason.MODEL_NOT_FOUND,
            f"{session.name} has no model {model_id!r}; it was deleted or never "
            f"created{closest(model_id, session.models)}",
            metadata={"model": model_id},
        )
    return model


def require_session_or_model(session: Session, name: str) -> None:
    """Raises unless a name is the session's or that of a model in it."""
    if name != session.name:
        find_model(session, name)


def require_optimizer(model: Model) -> torch.optim.Optimizer:
    """Returns the model's optimizer; raises NO_OPTIMIZER if there is none."""
    if model.optimizer is None:
        raise GradwireError(
            Reason.NO_OPTIMIZER,
            f"{model.name} has no optimizer; give one to CreateModel or Train",
        )
    return model.optimizer


def _build(
    session: Session, request: models_pb2.CreateModelRequest
) -> tuple[torch.nn.Module, torch.optim.Optimizer | None]:
    if request.HasField("seed"):
        with operation("torch.manual_seed"):
            torch.manual_seed(request.seed)
    module = build_module(session, request.module, "module")
    session.budget.add(module, "CreateModel")
    if not request.HasField("optimizer"):
        return module, None
    return module, build_optimizer(session, request.optimizer, module, "optimizer")


def _describe(model: Model) -> models_pb2.Model:
    module = model.module
    parameters = [_describe_tensor(*member) for member in module.named_parameters()]
    with operation("torch.nn.Module.__repr__"):
        summary = repr(module)
    return models_pb2.Model(
        name=model.name,
        type=class_name(module),
        summary=summary,
        parameters=parameters,
        buffers=[_describe_tensor(*member) for member in module.named_buffers()],
        num_parameters=sum(
            parameter.numel()
            for parameter in module.parameters()
            if not isinstance(parameter, torch.nn.parameter.UninitializedParameter)
        ),
        optimizer="" if model.optimizer is None else class_name(model.optimizer),
        training=module.training,
        num_steps=model.num_steps,
    )


def _describe_tensor(name: str, tensor: torch.Tensor) -> models_pb2.TensorInfo:
    lazy = torch.nn.parameter.is_lazy(tensor)
    return models_pb2.TensorInfo(
        name=name,
        dtype=DATA_TYPE_OF_DTYPE.get(tensor.dtype, 0),  # type: ignore[arg-type]
        shape=[] if lazy else list(tensor.shape),
        requires_grad=tensor.requires_grad,
    )
