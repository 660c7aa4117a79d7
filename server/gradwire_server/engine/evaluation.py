"""Evaluation of a model in a run."""

from collections.abc import Generator, Sequence
from typing import Any

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.batches import Batches
from gradwire_server.engine.diagnosis import located
from gradwire_server.engine.failures import operation
from gradwire_server.engine.losses import Loss, run_loss, spread
from gradwire_server.engine.metrics import Mean, NamedMetric, ProgramMetric, build_metrics
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.sources import open_samples
from gradwire_server.engine.streams import StreamBatches
from gradwire_server.engine.transforms import build_transform
from gradwire_server.errors import GradwireError


@register
class Evaluation:
    """What a run evaluates its model on and by.

    Args:
        batches: The data.
        metrics: What is computed beside the loss, by name.
        loss_name: What the mean loss is reported as.

    Attributes:
        batches: The data.
        names: The names of the values that an evaluation gives; the mean loss is the last.
    """

    def __init__(
        self,
        batches: Batches,
        metrics: dict[str, ProgramMetric | NamedMetric],
        *,
        loss_name: str,
    ) -> None:
        self.batches = batches
        self._metrics = metrics
        self._loss_name = loss_name

    @property
    def names(self) -> list[str]:
        """The names of the values that an evaluation gives; the mean loss is the last."""
        return [*self._metrics, self._loss_name]

    def run(
        self, module: torch.nn.Module, loss: Loss, precision: Any
    ) -> Generator[None, None, dict[str, float]]:
        """Evaluates a module in evaluation mode; yields after each batch, returns the values."""
        metrics = {name: metric.begin() for name, metric in self._metrics.items()}
        modes = {part: part.training for part in module.modules()}
        mean = Mean(lambda value: value)
        for index in range(self.batches.num_batches):
            inputs, targets = self.batches.batch(index)
            module.eval()
            try:
                with torch.no_grad(), operation("Train"):
                    with precision():
                        outputs: Sequence[Any] = spread(module(*inputs))
                        value = run_loss(loss, outputs, targets)
                    num_samples = len(inputs[0])
                    mean.update([value], [], num_samples)
                    for metric in metrics.values():
                        metric.update(outputs, targets, num_samples)
            except GradwireError as error:
                where = f"in batch {index + 1} of an evaluation"
                raise located(error, where, inputs, targets) from error
            finally:
                # Between two turns the modes are those of training.
                for part, mode in modes.items():
                    part.training = mode
            yield
        values = {name: metric.compute() for name, metric in metrics.items()}
        return {**values, self._loss_name: mean.compute()}


def build_evaluation(
    session: Session, request: runs_pb2.TrainRequest, batches: Batches | StreamBatches
) -> Evaluation | None:
    """Returns what a request asks to evaluate, if it asks for anything."""
    metrics = build_metrics(session, request.metrics, "metrics")
    transform = None
    if request.HasField("evaluation_transform"):
        transform = build_transform(session, request.evaluation_transform, "evaluation_transform")
    if not request.HasField("validation"):
        if not metrics:
            return None
        plain = batches.in_order(request.batch_size, transform)
        return Evaluation(plain, metrics, loss_name="evaluation_loss")
    spec = request.validation
    data = Batches(
        open_samples(session, spec, "validation."),
        batch_size=spec.batch_size or request.batch_size,
        shuffle=False,
        drop_last=False,
        transform=transform,
    )
    return Evaluation(data, metrics, loss_name="validation_loss")
