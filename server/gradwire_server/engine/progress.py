"""What a run tells of itself: gathered into few events, each thing told once."""

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.pace import Pace
from gradwire_server.engine.snapshot import register

MAX_UNREPORTED_STEPS = 100_000
"""After so many steps a report is due whatever the interval, lest the losses fill the memory."""

Events = Sequence[runs_pb2.RunEvent]
Told = Mapping[str, int]
"""Up to which step everything was told, by kind of event."""
_MESSAGES: dict[str, Any] = {
    "warning": runs_pb2.RunWarning,
    "validation": runs_pb2.RunValidation,
    "checkpoint": runs_pb2.RunCheckpoint,
}
"""What is told beside steps, in this order."""


@register
class Progress:
    """Gathers what happens in a run and makes events of it.

    What has to wait, as there were many events a moment ago, comes together in the next one of its
    kind. A run that goes on from a checkpoint takes some steps again; what was told of them before
    is not told again. So the events of a run tell the same, however often it was cut.

    Args:
        interval_seconds: The least time between two reports of steps.
        num_steps: How many steps the run takes in all.

    Attributes:
        step: Steps taken.
        mean_loss: The mean loss of the epoch so far, weighted by samples.
    """

    def __init__(self, *, interval_seconds: float, num_steps: int) -> None:
        self.step = 0
        self._told = dict.fromkeys(("progress", *_MESSAGES), -1)
        self._interval_seconds = interval_seconds
        self._num_steps = num_steps
        self._elapsed_seconds = 0.0
        self._losses: list[float] = []
        self._rates: list[float] = []
        self._epochs: list[int] = []
        self._waiting: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _MESSAGES}
        self._epoch = 0
        self._epoch_sum = 0.0
        self._epoch_samples = 0
        self.resume({})

    def resume(self, told: Told) -> None:
        """Begins or goes on; what was `told` is not told again."""
        for kind, step in told.items():
            self._told[kind] = max(self._told[kind], step)
        for kind, waiting in self._waiting.items():
            waiting[:] = [fields for fields in waiting if fields["step"] > self._told[kind]]
        self._told_before = dict(self._told)
        self._began = time.monotonic()
        self._pace = Pace(self._interval_seconds)
        # The server itself tells that it begins or goes on.
        self._pace.told()
        self._pace.told()
        self._first_step = self.step
        self._num_samples = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_elapsed_seconds": self.elapsed_seconds, "_pace": None}

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

    def note(self, kind: str, *, step: int, **fields: Any) -> None:
        """Notes something else, unless it was told before.

        Args:
            kind: "warning", "validation" or "checkpoint".
            step: The step it belongs to.
            fields: The other fields of its message.
        """
        if not self.was_told(kind, step):
            self._waiting[kind].append({"step": step, **fields})

    def was_told(self, kind: str, step: int) -> bool:
        """Whether something of a step was told before the run went on from a checkpoint."""
        return step <= self._told_before[kind]

    def due(self, grad_norm: float | torch.Tensor, device: torch.device) -> Events:
        """Returns the events that may be told now.

        Args:
            grad_norm: The norm of the gradients in the last step.
            device: Where the run is.
        """
        events: list[runs_pb2.RunEvent] = []
        full = len(self._losses) >= MAX_UNREPORTED_STEPS
        if full or (self._losses and self._pace.report_is_due()):
            events += self._report(grad_norm, device)
        for kind, waiting in self._waiting.items():
            if waiting and self._pace.has_room():
                events += self._bring(kind)
        return events

    def rest(self, grad_norm: float | torch.Tensor, device: torch.device) -> Events:
        """Returns the events of everything that was not told yet, as `due`."""
        events = self._report(grad_norm, device)
        for kind in self._waiting:
            events += self._bring(kind)
        return events

    def _report(
        self, grad_norm: float | torch.Tensor, device: torch.device
    ) -> list[runs_pb2.RunEvent]:
        """Returns the event of the steps since the last report; none if there were none."""
        # Steps told of before are the first ones.
        told = self._told["progress"] - (self.step - len(self._losses))
        losses, rates = self._losses[max(told, 0) :], self._rates[max(told, 0) :]
        epochs = self._epochs[max(told, 0) :]
        self._losses, self._rates, self._epochs = [], [], []
        if not losses:
            return []
        seconds = time.monotonic() - self._began
        num_steps = self.step - self._first_step
        self._count("progress", self.step)
        progress = runs_pb2.RunProgress(
            epoch=self._epoch,
            step=self.step,
            losses=losses,
            mean_loss=self.mean_loss,
            learning_rates=rates,
            epochs=epochs,
            samples_per_second=self._num_samples / seconds if seconds else 0.0,
            elapsed_seconds=self.elapsed_seconds,
            grad_norm=float(grad_norm),
            remaining_seconds=seconds / max(num_steps, 1) * max(self._num_steps - self.step, 0),
            memory_bytes=_memory_bytes(device),
        )
        return [runs_pb2.RunEvent(progress=progress)]

    def _bring(self, kind: str) -> list[runs_pb2.RunEvent]:
        """Returns the event of what waits of a kind, as far as its steps were told of."""
        last = max(self._told["progress"], 0)
        ready = [fields for fields in self._waiting[kind] if fields["step"] <= last]
        if not ready:
            return []
        self._waiting[kind] = self._waiting[kind][len(ready) :]
        self._count(kind, ready[-1]["step"])
        *earlier, latest = (_MESSAGES[kind](**fields) for fields in ready)
        latest.earlier.extend(earlier)
        return [runs_pb2.RunEvent(**{kind: latest})]

    def _count(self, kind: str, step: int) -> None:
        self._told[kind] = step
        self._pace.told(kind)


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
