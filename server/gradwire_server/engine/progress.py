"""What a run tells of itself: steps gathered into events, each thing told once."""

import math
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.snapshot import register

MIN_INTERVAL_SECONDS = 0.1
MAX_UNREPORTED_STEPS = 100_000
"""After so many steps a report is due whatever the interval, lest the losses fill the memory."""

Events = Sequence[runs_pb2.RunEvent]
Position = tuple[int, int]
"""A step, and what of that step: an index into `RANKS`."""
RANKS = ("started", "progress", "warning", "validation", "checkpoint", "ended")
"""In which order a step's events come."""
NOTHING: Position = (-1, 0)


@register
class Progress:
    """Gathers the steps of a run and makes events of them.

    A run that goes on from a checkpoint takes some steps again; what was told of them before is not
    told again. So the events of a run are the same sequence of steps, however often it was cut.

    Args:
        interval_seconds: The least time between two reports of steps.
        num_steps: How many steps the run takes in all.

    Attributes:
        step: Steps taken.
        mean_loss: The mean loss of the epoch so far, weighted by samples.
        reported: Up to where everything was told.
    """

    def __init__(self, *, interval_seconds: float, num_steps: int) -> None:
        self.step = 0
        self.reported = NOTHING
        self._interval_seconds = max(interval_seconds, MIN_INTERVAL_SECONDS)
        self._num_steps = num_steps
        self._elapsed_seconds = 0.0
        self._losses: list[float] = []
        self._rates: list[float] = []
        self._epochs: list[int] = []
        self._epoch = 0
        self._epoch_sum = 0.0
        self._epoch_samples = 0
        self.resume(NOTHING)

    def resume(self, reported: Position) -> None:
        """Begins or goes on; what was `reported` is not told again."""
        self.reported = max(self.reported, reported)
        self._began = self._reported_at = time.monotonic()
        self._first_step = self.step
        self._num_samples = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_elapsed_seconds": self.elapsed_seconds}

    @property
    def elapsed_seconds(self) -> float:
        """How long the run took, without rests."""
        return self._elapsed_seconds + time.monotonic() - self._began

    @property
    def mean_loss(self) -> float:
        """The mean loss of the epoch so far, weighted by samples."""
        return self._epoch_sum / self._epoch_samples if self._epoch_samples else float("nan")

    def begin_epoch(self, epoch: int) -> None:
        """Begins the mean of an epoch."""
        self._epoch, self._epoch_sum, self._epoch_samples = epoch, 0.0, 0

    def add(self, loss: float, learning_rate: float, num_samples: int) -> None:
        """Notes a step: its loss, learning rate, and how many samples it took."""
        self.step += 1
        if math.isfinite(loss):
            # A step that is left out counts for nothing.
            self._epoch_sum += loss * num_samples
            self._epoch_samples += num_samples
        self._num_samples += num_samples
        self._losses.append(loss)
        self._rates.append(learning_rate)
        self._epochs.append(self._epoch)

    def is_due(self) -> bool:
        """Returns whether it is time for a report of steps."""
        if len(self._losses) >= MAX_UNREPORTED_STEPS:
            return True
        return time.monotonic() - self._reported_at >= self._interval_seconds

    def is_repeating(self) -> bool:
        """Returns whether this step was taken and told of before."""
        return self.step < self.reported[0]

    def report(self, grad_norm: float, device: torch.device) -> list[runs_pb2.RunEvent]:
        """Returns the event of the steps since the last report; none if there were none."""
        self._reported_at = time.monotonic()
        # Steps told of before are the first ones.
        told = self.reported[0] - (self.step - len(self._losses))
        losses, rates = self._losses[max(told, 0) :], self._rates[max(told, 0) :]
        epochs = self._epochs[max(told, 0) :]
        self._losses, self._rates, self._epochs = [], [], []
        if not losses:
            return []
        seconds = self._reported_at - self._began
        num_steps = self.step - self._first_step
        return self.tell(
            progress=runs_pb2.RunProgress(
                epoch=self._epoch,
                step=self.step,
                losses=losses,
                mean_loss=self.mean_loss,
                learning_rates=rates,
                epochs=epochs,
                samples_per_second=self._num_samples / seconds if seconds else 0.0,
                elapsed_seconds=self.elapsed_seconds,
                grad_norm=grad_norm,
                remaining_seconds=seconds / num_steps * max(self._num_steps - self.step, 0),
                memory_bytes=_memory_bytes(device),
            )
        )

    def tell(self, **event: Any) -> list[runs_pb2.RunEvent]:
        """Returns an event at the present step, given by its field; none if it was told before."""
        (name,) = event
        position = (self.step, RANKS.index(name))
        if position <= self.reported and name != "ended":
            return []
        self.reported = position
        return [runs_pb2.RunEvent(**event)]


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
