"""What a run tells of itself."""

import time
from typing import Any

import torch

from gradwire.v1 import runs_pb2

MAX_UNREPORTED_STEPS = 100_000
"""After so many steps a report is due whatever the interval, lest the losses fill the memory."""


class Progress:
    """Collects losses and makes events of them; reads the device only when it reports.

    Args:
        optimizer: Whose learning rate is reported.
        device: Where the run is.
        interval_seconds: The least time between two reports.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, device: torch.device, interval_seconds: float
    ) -> None:
        self._optimizer = optimizer
        self._device = device
        self._interval_seconds = interval_seconds
        self._start = self._reported = time.monotonic()
        self._number = 0
        self._step = 0
        self._num_samples = 0
        self._losses: list[torch.Tensor] = []
        self._weights: list[int] = []
        self._epoch = 0
        self._epoch_sum = 0.0
        self._epoch_samples = 0

    def started(self, num_samples: int, num_batches: int, epochs: int) -> runs_pb2.TrainResponse:
        """Returns the first event."""
        self._start = self._reported = time.monotonic()
        return self._event(
            started=runs_pb2.RunStarted(
                num_samples=num_samples,
                steps_per_epoch=num_batches,
                num_steps=num_batches * epochs,
                device=str(self._device),
            )
        )

    def start_epoch(self, epoch: int) -> None:
        """Begins the mean of an epoch."""
        self._epoch, self._epoch_sum, self._epoch_samples = epoch, 0.0, 0

    def add(self, loss: torch.Tensor, num_samples: int) -> None:
        """Notes a step: its loss, a tensor of one element, and how many samples it took."""
        self._step += 1
        self._num_samples += num_samples
        self._losses.append(loss.reshape(()))
        self._weights.append(num_samples)

    def is_due(self) -> bool:
        """Returns whether it is time for a report."""
        if len(self._losses) >= MAX_UNREPORTED_STEPS:
            return True
        return time.monotonic() - self._reported >= self._interval_seconds

    def report(self) -> runs_pb2.TrainResponse:
        """Returns the event of all steps since the last report."""
        losses: list[float] = torch.stack(self._losses).double().tolist()
        for loss, weight in zip(losses, self._weights, strict=True):
            self._epoch_sum += loss * weight
            self._epoch_samples += weight
        self._losses, self._weights = [], []
        self._reported = time.monotonic()
        elapsed = self._reported - self._start
        return self._event(
            progress=runs_pb2.RunProgress(
                epoch=self._epoch,
                step=self._step,
                losses=losses,
                mean_loss=self._mean_loss(),
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
                mean_loss=self._mean_loss(),
                elapsed_seconds=time.monotonic() - self._start,
            )
        )

    def _mean_loss(self) -> float:
        return self._epoch_sum / self._epoch_samples

    def _event(self, **event: Any) -> runs_pb2.TrainResponse:
        self._number += 1
        return runs_pb2.TrainResponse(number=self._number, **event)
