"""Train: a training loop that advances one step a turn."""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from gradwire.v1 import runs_pb2, values_pb2
from gradwire_server.engine.batches import Batches
from gradwire_server.engine.failures import operation
from gradwire_server.engine.losses import Loss, build_loss, run_loss, spread
from gradwire_server.engine.models import Model, find_model, require_optimizer
from gradwire_server.engine.optimizers import build_optimizer, needs_closure
from gradwire_server.engine.progress import Progress
from gradwire_server.engine.session import Session
from gradwire_server.engine.steps import require_clip_norm
from gradwire_server.errors import invalid

DEFAULT_REPORT_INTERVAL_SECONDS = 0.1


def train(
    session: Session, request: runs_pb2.TrainRequest
) -> Generator[Sequence[runs_pb2.TrainResponse], None, None]:
    """Trains a model; yields after each step the events to send.

    The model is in training mode until the run ends; then the mode of each of its modules is what
    it was before.

    Raises:
        GradwireError: The request is malformed, a step failed, or the model was deleted.
    """
    run = _start(session, request)
    if request.HasField("seed"):
        with operation("torch.manual_seed"):
            torch.manual_seed(request.seed)
    batches, progress = run.batches, run.progress
    with session.pinning(run.optimizer, batches.tensors), _training(run.model.module):
        yield [progress.started(batches.num_samples, batches.num_batches, request.epochs)]
        for epoch in range(1, request.epochs + 1):
            progress.start_epoch(epoch)
            for number, (inputs, targets) in enumerate(batches.epoch(), start=1):
                # It may have been deleted, or switched to evaluation by another call.
                find_model(session, request.name)
                if not run.model.module.training:
                    run.model.module.train()
                loss = run.step(inputs, targets)
                session.num_steps += 1
                progress.add(loss, len(inputs[0]))
                last = number == batches.num_batches
                events = [progress.report()] if last or progress.is_due() else []
                if last and epoch == request.epochs:
                    events.append(progress.ended())
                yield events


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What a run works with.

    Attributes:
        model: The model that is trained.
        optimizer: What steps it.
        loss: What is made small.
        max_norm: What the norm of the gradients is scaled down to, if that is asked for.
        batches: The data.
        progress: What is told of it.
    """

    model: Model
    optimizer: torch.optim.Optimizer
    loss: Loss
    max_norm: float | None
    batches: Batches
    progress: Progress

    def step(self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> torch.Tensor:
        """Takes one training step and returns the loss, which stays on its device."""
        module = self.model.module

        def evaluate() -> torch.Tensor:
            self.optimizer.zero_grad()
            value = run_loss(self.loss, spread(module(*inputs)), targets)
            value.backward()
            if self.max_norm is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), self.max_norm)
            return value.detach()

        with operation("Train"):
            if needs_closure(self.optimizer):
                loss: torch.Tensor = self.optimizer.step(evaluate)  # type: ignore[arg-type,assignment]
            else:
                loss = evaluate()
                self.optimizer.step()
        self.model.num_steps += 1
        return loss


def _start(session: Session, request: runs_pb2.TrainRequest) -> _Run:
    """Returns what the run works with; raises if the request is malformed."""
    model = find_model(session, request.name)
    if request.epochs < 1:
        raise invalid("epochs", f"{request.epochs} is not at least 1")
    if request.batch_size < 0:
        raise invalid("batch_size", f"{request.batch_size} is negative; 0 takes all samples")
    interval = DEFAULT_REPORT_INTERVAL_SECONDS
    if request.HasField("report_interval_seconds"):
        interval = request.report_interval_seconds
        if not (interval >= 0 and math.isfinite(interval)):
            raise invalid("report_interval_seconds", f"{interval} is not a time in seconds")
    max_norm = None
    if request.HasField("clip_grad_norm"):
        max_norm = require_clip_norm(request.clip_grad_norm)
    batches = Batches(
        _decode_all(session, request.inputs, "inputs"),
        _decode_all(session, request.targets, "targets"),
        batch_size=request.batch_size,
        shuffle=request.shuffle,
        drop_last=request.drop_last,
    )
    loss = build_loss(session, request.loss, "loss")
    if request.HasField("optimizer"):
        optimizer = build_optimizer(session, request.optimizer, model.module, "optimizer")
    else:
        optimizer = require_optimizer(model)
    return _Run(
        model=model,
        optimizer=optimizer,
        loss=loss,
        max_norm=max_norm,
        batches=batches,
        progress=Progress(optimizer, device=session.device, interval_seconds=interval),
    )


@contextmanager
def _training(module: torch.nn.Module) -> Iterator[None]:
    """Switches a module to training mode for the block; the mode of each part is put back after."""
    modes = {part: part.training for part in module.modules()}
    module.train()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _decode_all(
    session: Session, values: Sequence[values_pb2.Value], field: str
) -> list[torch.Tensor]:
    tensors = []
    for index, value in enumerate(values):
        path = f"{field}[{index}]"
        tensor = session.decode(value, path)
        if not isinstance(tensor, torch.Tensor) or not tensor.dim():
            raise invalid(path, "is not a tensor with samples along its first dimension")
        tensors.append(tensor)
    return tensors
