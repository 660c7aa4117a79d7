"""Train: a training loop that advances one step a turn."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.models import (
    Model,
    find_model,
    require_clip_norm,
    require_optimizer,
    spread,
)
from gradwire_server.engine.modules import Loss, build_loss, build_optimizer, run_loss
from gradwire_server.engine.session import Session
from gradwire_server.errors import invalid

DEFAULT_REPORT_INTERVAL_SECONDS = 0.1


def train(
    session: Session, request: runs_pb2.TrainRequest
) -> Generator[Sequence[runs_pb2.TrainResponse], None, None]:
    """Trains a model; yields after each step the events to send.

    Raises:
        GradwireError: The request is malformed, or a step failed.
    """
    model = find_model(session, request.name)
    if request.epochs < 1:
        raise invalid("epochs", f"{request.epochs} is not at least 1")
    if request.batch_size < 0:
        raise invalid("batch_size", f"{request.batch_size} is negative")
    inputs = _decode_all(session, request.inputs, "inputs")
    targets = _decode_all(session, request.targets, "targets")
    num_samples = _num_samples(inputs, targets)
    loss = build_loss(session, request.loss, "loss")
    if request.HasField("optimizer"):
        optimizer = build_optimizer(session, request.optimizer, model.module, "optimizer")
    else:
        optimizer = require_optimizer(model)
    max_norm = None
    if request.HasField("clip_grad_norm"):
        max_norm = require_clip_norm(request.clip_grad_norm)
    if request.HasField("seed"):
        with operation("torch.manual_seed"):
            torch.manual_seed(request.seed)
    batch_size = request.batch_size or num_samples
    num_batches = num_samples // batch_size
    if num_samples % batch_size and not request.drop_last:
        num_batches += 1
    if not num_batches:
        raise invalid("drop_last", f"{num_samples} samples make no batch of {batch_size}")
    interval = DEFAULT_REPORT_INTERVAL_SECONDS
    if request.HasField("report_interval_seconds"):
        interval = request.report_interval_seconds
    log = _Log(session, optimizer, interval)
    yield [log.started(num_samples, num_batches, request.epochs)]
    with _training(model):
        for epoch in range(1, request.epochs + 1):
            log.start_epoch(epoch)
            order = _Order(num_samples, request.shuffle)
            for batch in range(num_batches):
                indices = order.slice(batch * batch_size, (batch + 1) * batch_size)
                if not model.module.training:
                    model.module.train()
                value = _step(
                    model,
                    optimizer,
                    loss,
                    [_select(tensor, indices) for tensor in inputs],
                    [_select(tensor, indices) for tensor in targets],
                    max_norm,
                )
                log.add(value, min(batch_size, num_samples - batch * batch_size))
                last = batch == num_batches - 1
                events = [log.progress()] if last or log.is_due() else []
                if last and epoch == request.epochs:
                    events.append(log.ended())
                yield events


def _step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    inputs: list[torch.Tensor],
    targets: list[torch.Tensor],
    max_norm: float | None,
) -> torch.Tensor:
    """Takes one training step and returns the loss."""

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        value = run_loss(loss, spread(model.module(*inputs)), targets)
        value.backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.module.parameters(), max_norm)
        return value

    with operation("Train"):
        if isinstance(optimizer, torch.optim.LBFGS):
            value: torch.Tensor = optimizer.step(evaluate)
        else:
            value = evaluate()
            optimizer.step()
    model.num_steps += 1
    return value.detach()


@contextmanager
def _training(model: Model) -> Iterator[None]:
    """Switches a model to training mode for the block; each module's mode is restored after."""
    modes = {module: module.training for module in model.module.modules()}
    model.module.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class _Order:
    """The order of the samples in an epoch: that of torch's DataLoader.

    Each epoch draws a seed for the workers that the loader might have, whether it shuffles or not;
    then `torch.utils.data.RandomSampler` draws one for a generator of its own.
    """

    def __init__(self, num_samples: int, shuffle: bool) -> None:
        _draw_seed()
        self._permutation = None
        if shuffle:
            generator = torch.Generator()
            generator.manual_seed(_draw_seed())
            self._permutation = torch.randperm(num_samples, generator=generator)

    def slice(self, start: int, stop: int) -> "torch.Tensor | slice":
        """Returns the samples of a batch: their indices, or their range."""
        if self._permutation is None:
            return slice(start, stop)
        return self._permutation[start:stop]


def _draw_seed() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


def _select(tensor: torch.Tensor, indices: "torch.Tensor | slice") -> torch.Tensor:
    if isinstance(indices, torch.Tensor):
        return tensor.index_select(0, indices.to(tensor.device))
    return tensor[indices]


class _Log:
    """Collects losses and makes events of them; reads the device only when it reports."""

    def __init__(
        self, session: Session, optimizer: torch.optim.Optimizer, interval_seconds: float
    ) -> None:
        self._session = session
        self._optimizer = optimizer
        self._interval_seconds = interval_seconds
        self._start = self._reported = time.monotonic()
        self._number = 0
        self._step = 0
        self._num_samples = 0
        self._pending: list[torch.Tensor] = []
        self._weights: list[int] = []
        self._epoch = 0
        self._epoch_sum = 0.0
        self._epoch_samples = 0

    def start_epoch(self, epoch: int) -> None:
        """Begins the mean of an epoch."""
        self._epoch, self._epoch_sum, self._epoch_samples = epoch, 0.0, 0

    def add(self, loss: torch.Tensor, num_samples: int) -> None:
        """Notes a step."""
        self._step += 1
        self._num_samples += num_samples
        self._pending.append(loss)
        self._weights.append(num_samples)

    def is_due(self) -> bool:
        """Returns whether it is time for a report."""
        return time.monotonic() - self._reported >= self._interval_seconds

    def started(self, num_samples: int, num_batches: int, epochs: int) -> runs_pb2.TrainResponse:
        """Returns the first event."""
        return self._event(
            started=runs_pb2.RunStarted(
                num_samples=num_samples,
                steps_per_epoch=num_batches,
                num_steps=num_batches * epochs,
                device=str(self._session.device),
            )
        )

    def progress(self) -> runs_pb2.TrainResponse:
        """Returns the event that reports all steps since the last one."""
        self._reported = time.monotonic()
        losses = torch.stack(self._pending).double().tolist()
        for loss, weight in zip(losses, self._weights, strict=True):
            self._epoch_sum += loss * weight
            self._epoch_samples += weight
        self._pending, self._weights = [], []
        elapsed = self._reported - self._start
        return self._event(
            progress=runs_pb2.RunProgress(
                epoch=self._epoch,
                step=self._step,
                losses=losses,
                mean_loss=self._epoch_sum / self._epoch_samples,
                learning_rate=float(self._optimizer.param_groups[0]["lr"]),
                samples_per_second=self._num_samples / elapsed if elapsed else 0.0,
                elapsed_seconds=elapsed,
            )
        )

    def ended(self) -> runs_pb2.TrainResponse:
        """Returns the last event."""
        return self._event(
            ended=runs_pb2.RunEnded(
                num_steps=self._step,
                mean_loss=self._epoch_sum / self._epoch_samples,
                elapsed_seconds=time.monotonic() - self._start,
            )
        )

    def _event(self, **event: object) -> runs_pb2.TrainResponse:
        self._number += 1
        return runs_pb2.TrainResponse(number=self._number, **event)  # type: ignore[arg-type]


def _decode_all(session: Session, values: Sequence[object], field: str) -> list[torch.Tensor]:
    tensors = []
    for index, value in enumerate(values):
        path = f"{field}[{index}]"
        tensor = session.decode(value, path)  # type: ignore[arg-type]
        if not isinstance(tensor, torch.Tensor) or not tensor.dim():
            raise invalid(path, "is not a tensor with samples along its first dimension")
        tensors.append(tensor)
    return tensors


def _num_samples(inputs: list[torch.Tensor], targets: list[torch.Tensor]) -> int:
    if not inputs:
        raise invalid("inputs", "is empty; give the tensors to train on")
    num_samples = len(inputs[0])
    if not num_samples:
        raise invalid("inputs[0]", "holds no samples")
    for field, tensors in (("inputs", inputs), ("targets", targets)):
        for index, tensor in enumerate(tensors):
            if len(tensor) != num_samples:
                raise invalid(
                    f"{field}[{index}]",
                    f"holds {len(tensor)} samples, but inputs[0] holds {num_samples}",
                )
    return num_samples
