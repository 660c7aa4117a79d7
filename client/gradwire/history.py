"""What a run has told so far: every step's numbers, and every evaluation's."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradwire.v1 import runs_pb2
from gradwire.v1.events import entries


class History:
    """Gathers the events of a run.

    Attributes:
        last_event: The number of the last event.
        started: What the run told when it began.
        progress: The latest report of steps.
        validation: The values of the latest evaluation.
        checkpoints: The checkpoints there are, oldest first.
        warnings: What it warned of.
        ended: What the run told at its end; empty while it goes on.
    """

    def __init__(self) -> None:
        self.last_event = 0
        self.name = ""
        self.state = "QUEUED"
        self.reason = ""
        self.started = runs_pb2.RunStarted()
        self.progress = runs_pb2.RunProgress()
        self.validation: dict[str, float] = {}
        self.checkpoints: list[str] = []
        self.warnings: list[str] = []
        self.ended = runs_pb2.RunEnded()
        self._steps: dict[str, list[float]] = {
            name: [] for name in ("epoch", "loss", "learning_rate", "grad_norm", "seconds")
        }
        self._evaluations: dict[str, list[float]] = {"validation_step": [], "validation_epoch": []}

    def add(self, event: runs_pb2.RunEvent) -> None:
        """Takes an event in; one that was there before is left out."""
        if event.number <= self.last_event:
            return
        self.last_event = event.number
        kind = event.WhichOneof("event")
        take: Callable[[Any], None] | None = getattr(self, f"_take_{kind}", None)
        if take is not None:
            take(getattr(event, kind or ""))

    def arrays(self) -> "dict[str, np.ndarray[Any, Any]]":
        """Returns all numbers as arrays by name; see `gradwire.runs.Run.history`."""
        steps = {name: np.array(numbers) for name, numbers in self._steps.items()}
        count = len(self._steps["loss"])
        steps["epoch"] = steps["epoch"].astype(np.int64)
        evaluations = {name: np.array(numbers) for name, numbers in self._evaluations.items()}
        for name in ("validation_step", "validation_epoch"):
            evaluations[name] = evaluations[name].astype(np.int64)
        return {"step": np.arange(1, count + 1), **steps, **evaluations}

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return self._steps["loss"]

    @property
    def is_done(self) -> bool:
        """Whether the run has ended."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")

    def _take_created(self, event: runs_pb2.RunCreated) -> None:
        self.name = event.name

    def _take_started(self, event: runs_pb2.RunStarted) -> None:
        self.started, self.state = event, "RUNNING"

    def _take_progress(self, event: runs_pb2.RunProgress) -> None:
        self.progress = event
        count = len(event.losses)
        unknown = [float("nan")] * (count - 1)
        self._steps["epoch"] += event.epochs
        self._steps["loss"] += event.losses
        self._steps["learning_rate"] += event.learning_rates
        # These two are known of the last step of a report.
        self._steps["grad_norm"] += [*unknown, event.grad_norm]
        self._steps["seconds"] += [*unknown, event.elapsed_seconds]

    def _take_validation(self, event: runs_pb2.RunValidation) -> None:
        self.validation = _ordered(event.values)
        for evaluation in entries(event):
            self._evaluations["validation_step"].append(evaluation.step)
            self._evaluations["validation_epoch"].append(evaluation.epoch)
            for name, value in _ordered(evaluation.values).items():
                self._evaluations.setdefault(name, []).append(value)

    def _take_checkpoint(self, event: runs_pb2.RunCheckpoint) -> None:
        for checkpoint in entries(event):
            gone = {*checkpoint.dropped, checkpoint.name}
            self.checkpoints = [name for name in self.checkpoints if name not in gone]
            self.checkpoints.append(checkpoint.name)

    def _take_warning(self, event: runs_pb2.RunWarning) -> None:
        self.warnings += [warning.message for warning in entries(event)]

    def _take_state_change(self, event: runs_pb2.RunStateChange) -> None:
        self.state, self.reason = state_name(event.state), event.reason

    def _take_ended(self, event: runs_pb2.RunEnded) -> None:
        self.ended = event
        self.state, self.reason = state_name(event.state), event.reason


def _ordered(values: Mapping[str, float]) -> dict[str, float]:
    """Returns the values of an evaluation, the loss first; on the way they have no order."""
    return dict(sorted(values.items(), key=lambda item: (item[0] != "validation_loss", item[0])))


def state_text(state: str, reason: str) -> str:
    """Returns a state with its reason, if that says more."""
    return f"{state} ({reason})" if reason not in ("", state) else state


def state_name(state: "runs_pb2.RunState") -> str:
    """Returns a state as people read it, such as ``RUNNING``."""
    return runs_pb2.RunState.Name(state).removeprefix("RUN_STATE_")
