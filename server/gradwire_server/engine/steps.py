"""The verb Step: an optimizer step, with gradient clipping and closures."""

import math
from collections.abc import Callable

import torch

from gradwire.v1 import models_pb2
from gradwire_server.engine import hot
from gradwire_server.engine.failures import operation
from gradwire_server.engine.losses import build_loss, run_loss, spread
from gradwire_server.engine.models import Model, find_model, require_optimizer
from gradwire_server.engine.optimizers import needs_closure
from gradwire_server.engine.session import Session
from gradwire_server.errors import GradwireError, Reason, invalid


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
        if needs_closure(optimizer):
            raise invalid(
                "closure",
                f"{type(optimizer).__name__} evaluates the model in its steps; say how, here",
            )
        if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
            raise GradwireError(
                Reason.NO_GRADIENT,
                f"no parameter of {model.name} has a gradient; call Backward before Step",
            )
        with operation("Step"):
            clip()
            hot.step(optimizer)
    model.num_steps += 1
    session.num_steps += 1
    return models_pb2.StepResponse(
        num_steps=model.num_steps,
        grad_norm=norms[0].item() if norms else None,
        loss=losses[0].item() if losses else None,
    )


def require_clip_norm(norm: float) -> float:
    """Returns the norm to clip to; raises if it is not a positive number."""
    if not (norm > 0 and math.isfinite(norm)):
        raise invalid("clip_grad_norm", f"{norm} is not a positive number")
    return norm


def _closure(
    session: Session,
    model: Model,
    optimizer: torch.optim.Optimizer,
    spec: models_pb2.Closure,
) -> Callable[[], torch.Tensor]:
    loss = build_loss(session, spec.loss, "closure.loss")
    inputs = [session.decode(v, f"closure.inputs[{i}]") for i, v in enumerate(spec.inputs)]
    targets = [session.decode(v, f"closure.targets[{i}]") for i, v in enumerate(spec.targets)]

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        value = run_loss(loss, spread(model.module(*inputs)), targets)
        value.backward()
        return value.detach()

    return evaluate
