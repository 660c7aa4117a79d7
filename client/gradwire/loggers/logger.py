"""What a logger is, and the numbers that an event brings."""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from gradwire.history import History
from gradwire.v1 import runs_pb2
from gradwire.v1.events import entries


class Logger(Protocol):
    """Takes what a run tells."""

    def update(self, event: runs_pb2.RunEvent, history: History) -> None:
        """Takes an event.

        Args:
            event: What happened.
            history: All that happened, this event included.
        """

    def close(self) -> None:
        """Writes what is left; the run has ended, or nobody follows it any more."""


class Scalar(NamedTuple):
    """A number of a run.

    Attributes:
        step: The step it belongs to, from 1.
        name: Its name, as in ``Run.history``.
        value: The number.
    """

    step: int
    name: str
    value: float


def scalars(event: runs_pb2.RunEvent) -> Iterator[Scalar]:
    """Yields the numbers that an event brings: of each step, and of evaluations."""
    if event.HasField("progress"):
        progress = event.progress
        first = progress.step - len(progress.losses) + 1
        for step, loss in enumerate(progress.losses, first):
            yield Scalar(step, "loss", loss)
        for step, rate in enumerate(progress.learning_rates, first):
            yield Scalar(step, "learning_rate", rate)
        yield Scalar(progress.step, "epoch", progress.epoch)
        yield Scalar(progress.step, "grad_norm", progress.grad_norm)
        yield Scalar(progress.step, "samples_per_second", progress.samples_per_second)
    elif event.HasField("validation"):
        for evaluation in entries(event.validation):
            for name, value in evaluation.values.items():
                yield Scalar(evaluation.step, name, value)


class Loggers:
    """The loggers of a run; one that fails is left out from then on, for the run goes on.

    Args:
        loggers: The loggers.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = list(loggers)

    def update(self, event: runs_pb2.RunEvent, history: History) -> None:
        """Passes an event on to all."""
        for logger in list(self._loggers):
            try:
                logger.update(event, history)
            except Exception as error:  # noqa: BLE001  # whatever it is, the run goes on
                self._leave_out(logger, error)

    def close(self) -> None:
        """Closes all of them, once."""
        for logger in list(self._loggers):
            try:
                logger.close()
            except Exception as error:  # noqa: BLE001
                self._leave_out(logger, error)
        self._loggers = []

    def _leave_out(self, logger: Logger, error: Exception) -> None:
        self._loggers.remove(logger)
        warnings.warn(
            f"{type(logger).__name__} failed and gets nothing more, while the run goes on: "
            f"{type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=4,
        )
