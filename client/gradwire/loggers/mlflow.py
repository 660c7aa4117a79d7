"""Logging to MLflow, by its own client; the extra ``mlflow`` has it."""

from collections.abc import Mapping
from typing import Any

from gradwire.extras import import_extra
from gradwire.history import History
from gradwire.loggers.logger import scalars
from gradwire.v1 import runs_pb2

_MAX_METRICS = 1000
"""What a request of MLflow may bring."""

_STATUSES = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


class MLflow:
    """Logs a run as one of MLflow: its numbers as metrics, what it is as parameters and tags.

    The metrics have the names in ``Run.history``, such as ``loss`` and ``validation_loss``, and the
    times of the server. A program that follows a run makes an MLflow run of its own.

    Args:
        experiment: The experiment; it is created if need be.
        tracking_uri: Where MLflow keeps it, such as ``http://HOST:5000`` or
            ``sqlite:///mlflow.db``; None means what MLflow itself is set to.
        run_name: What MLflow calls the run; None means the run's own name for people.
        params: Parameters to log, such as what the model was built with.

    Attributes:
        run_id: MLflow's id of the run; empty until it has begun.

    Raises:
        ModuleNotFoundError: mlflow is not installed.
    """

    def __init__(
        self,
        experiment: str = "Default",
        *,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_id = ""
        self._entities = import_extra("mlflow.entities", "mlflow")
        self._client = import_extra("mlflow", "mlflow").MlflowClient(tracking_uri)
        self._experiment = experiment
        self._run_name = run_name
        self._params = dict(params or {})

    def update(self, event: runs_pb2.RunEvent, history: History) -> None:
        """Logs what an event brings."""
        milliseconds = event.time.ToMilliseconds()
        if not self.run_id:
            self._begin(history, milliseconds)
        match event.WhichOneof("event"):
            case "started":
                started = event.started
                for name in ("num_samples", "batches_per_epoch", "num_steps", "num_epochs"):
                    self._client.log_param(self.run_id, name, getattr(started, name))
                for name, value in self._params.items():
                    self._client.log_param(self.run_id, name, value)
                self._client.set_tag(self.run_id, "gradwire.device", started.device)
                if self._run_name is None and started.display_name:
                    self._client.set_tag(self.run_id, "mlflow.runName", started.display_name)
            case "progress" | "validation":
                metrics = [
                    self._entities.Metric(name, value, milliseconds, step)
                    for step, name, value in scalars(event)
                ]
                for first in range(0, len(metrics), _MAX_METRICS):
                    self._client.log_batch(self.run_id, metrics[first : first + _MAX_METRICS])
            case "ended":
                status = _STATUSES[history.state]
                self._client.set_terminated(self.run_id, status, milliseconds)

    def close(self) -> None:
        """Does nothing: everything is with MLflow, and a run that goes on may be joined again."""

    def _begin(self, history: History, milliseconds: int) -> None:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            experiment_id = self._client.create_experiment(self._experiment)
        else:
            experiment_id = found.experiment_id
        run = self._client.create_run(
            experiment_id,
            start_time=milliseconds,
            run_name=self._run_name or history.name,
            tags={"gradwire.run": history.name},
        )
        self.run_id = run.info.run_id
