"""A training run on the server, as a program sees it."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from gradwire.bar import ProgressBar
from gradwire.creation import as_tensor
from gradwire.errors import ServerUnavailableError
from gradwire.history import History, state_text
from gradwire.loggers.logger import Logger, Loggers
from gradwire.recorder.values import array_of_tensor
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.transport.channel import retry_delays, status_error
from gradwire.transport.server import Server
from gradwire.v1 import models_pb2, models_pb2_grpc, runs_pb2, runs_pb2_grpc


class Run:
    """A training run on a server.

    Made by :func:`gradwire.train` and :func:`attach`. What the run has told so far is here; `wait`
    follows it to its end.

    Args:
        server: The server that it is on.
        history: What is known of it.
        session: The session that the model is in, if it is one of this program.
        held: The call that began the run, if the run is to end with it.
        loggers: Where else what it tells goes.
        on_end: Called once when this program learns of the end.

    Attributes:
        name: ``runs/{run}``.
    """

    def __init__(
        self,
        server: Server,
        history: History,
        *,
        session: Session | None = None,
        held: Any = None,
        loggers: Sequence[Logger] = (),
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = history.name
        self._server = server
        self._stub = runs_pb2_grpc.RunServiceStub(server.channel)
        self._history = history
        self._on_end = on_end
        self._session = session
        self._held = held
        self._loggers = Loggers(loggers)

    # ---- what it told ------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """What it is doing: QUEUED, RUNNING, PAUSED, SUCCEEDED, FAILED or CANCELLED."""
        return self._history.state

    @property
    def reason(self) -> str:
        """Why it is in this state, such as ``EARLY_STOPPING``; empty if there is no more to say."""
        return self._history.reason

    @property
    def history(self) -> "dict[str, np.ndarray[Any, Any]]":
        """All numbers so far, as arrays by name.

        One entry for each step: ``step``, ``epoch``, ``loss``, ``learning_rate``, and where they
        were reported, else NaN, ``grad_norm`` and ``seconds``. One entry for each evaluation:
        ``validation_step``, ``validation_epoch``, ``validation_loss``, and each metric by name.
        """
        return self._history.arrays()

    @property
    def losses(self) -> list[float]:
        """The loss of each step, in order."""
        return list(self._history.losses)

    @property
    def mean_loss(self) -> float:
        """The mean loss of the last epoch, weighted by samples."""
        ended = self._history.ended
        return ended.mean_loss if self._history.is_done else self._history.progress.mean_loss

    @property
    def num_steps(self) -> int:
        """How many steps were taken."""
        return len(self._history.losses)

    @property
    def elapsed_seconds(self) -> float:
        """How long they took on the server, without rests."""
        return self._history.ended.elapsed_seconds or self._history.progress.elapsed_seconds

    @property
    def display_name(self) -> str:
        """Its name for people, as `gradwire.train` was given it; empty if it has none."""
        return self._history.started.display_name

    @property
    def device(self) -> str:
        """Where it runs, such as ``cpu`` or ``cuda:0``."""
        return self._history.started.device

    @property
    def validation(self) -> dict[str, float]:
        """The values of the latest evaluation, by name."""
        return dict(self._history.validation)

    @property
    def checkpoints(self) -> list[str]:
        """The names of its checkpoints, oldest first; `gradwire.restore` takes one."""
        return list(self._history.checkpoints)

    @property
    def warnings(self) -> list[str]:
        """What it warned of."""
        return list(self._history.warnings)

    @property
    def averaged_state_dict(self) -> dict[str, Tensor]:
        """The moving average of the weights, and the buffers, of a run with ``ema`` that has ended.

        Raises:
            ValueError: There is none, or the run was begun by another program, which can restore
                its last checkpoint instead.
        """
        name = self._history.ended.moving_average_model
        if not name or self._session is None:
            raise ValueError(f"{self.name} has no moving average that this program can reach")
        kinds = [models_pb2.TENSOR_KIND_PARAMETER, models_pb2.TENSOR_KIND_BUFFER]
        response = self._session.call(
            models_pb2_grpc.ModelServiceStub(self._session.channel).FetchTensors,
            models_pb2.FetchTensorsRequest(name=name, kinds=kinds),
        )
        return {
            named.name: as_tensor(array_of_tensor(named.tensor))
            for named in (*response.parameters, *response.buffers)
        }

    # ---- what can be done with it ------------------------------------------------------------

    def wait(self, *, progress: bool | None = None) -> Self:
        """Follows the run until it ends, or until it rests.

        Args:
            progress: Whether to show a progress bar on stderr; None shows it in a terminal and in
                a notebook.

        Returns:
            The run itself.

        Raises:
            GradwireError: The run failed, or the server can't be reached any more.
        """
        if self._rests():
            self.refresh()
        if self._rests():
            return self
        with ProgressBar(progress) as bar:
            if self._history.started.num_steps:
                bar.begin(self._history)
            for event in self.events():
                bar.update(event, self._history)
                if self._rests():
                    return self
        self.raise_failure()
        return self

    def events(self) -> "Iterator[runs_pb2.RunEvent]":
        """Yields what happens from now on, until the run has ended; connects anew if need be.

        Raises:
            GradwireError: The server can't be reached any more.
        """
        delays = retry_delays(time.monotonic() + self._server.timeout_seconds)
        while not self._history.is_done:
            request = runs_pb2.WatchRunRequest(
                name=self.name, from_event=self._history.last_event + 1
            )
            try:
                for response in self._server.stream(self._stub.WatchRun, request):
                    delays = retry_delays(time.monotonic() + self._server.timeout_seconds)
                    self.take(response.event)
                    yield response.event
                if self.state == "PAUSED":
                    return
            except ServerUnavailableError:
                delay = next(delays, None)
                if delay is None:
                    raise
                time.sleep(delay)
        self._finish()

    def take(self, event: "runs_pb2.RunEvent") -> None:
        """Takes in an event."""
        self._history.add(event)
        self._loggers.update(event, self._history)

    def refresh(self) -> Self:
        """Takes in what has happened by now, without waiting for more; returns the run itself."""
        last = self._get().last_event
        if last > self._history.last_event:
            for event in self.events():
                if event.number >= last:
                    break
        if self._history.is_done:
            self._finish()
        return self

    def cancel(self) -> Self:
        """Ends the run after the step it is in; steps taken stay. Returns the run itself."""
        self._server.call(self._stub.CancelRun, runs_pb2.CancelRunRequest(name=self.name))
        return self.refresh()

    def pause(self) -> Self:
        """Lets the run rest after the step it is in; returns the run itself."""
        self._server.call(self._stub.PauseRun, runs_pb2.PauseRunRequest(name=self.name))
        return self.refresh()

    def resume(self) -> Self:
        """Lets a run that rests go on; returns the run itself."""
        self._server.call(self._stub.ResumeRun, runs_pb2.ResumeRunRequest(name=self.name))
        return self.refresh()

    def delete(self) -> None:
        """Forgets the run, its events and its checkpoints; it must have ended."""
        self._server.call(self._stub.DeleteRun, runs_pb2.DeleteRunRequest(name=self.name))

    def to_pandas(self) -> Any:
        """Returns the numbers as a ``pandas.DataFrame``: a row for each step.

        Evaluations are in the rows of the steps after which they were made; else they are NaN.

        Raises:
            ModuleNotFoundError: pandas is not installed; the extra ``plot`` has it.
        """
        from gradwire.tables import to_pandas  # noqa: PLC0415  # an extra

        return to_pandas(self.history)

    def plot(self) -> Any:
        """Returns a ``matplotlib`` figure: loss and evaluations, learning rate below.

        Raises:
            ModuleNotFoundError: matplotlib is not installed; the extra ``plot`` has it.
        """
        from gradwire.tables import plot  # noqa: PLC0415  # an extra

        return plot(self.history, title=self._title())

    def raise_failure(self) -> None:
        """Raises what the run failed by, if it has failed."""
        if self.state == "FAILED":
            failure = self._history.ended.failure
            raise status_error(failure.code, failure.message, failure.details)

    def __repr__(self) -> str:
        progress, started = self._history.progress, self._history.started
        facts = [state_text(self.state, self.reason)]
        total = f"/{started.num_steps}" if started.num_steps else ""
        facts.append(f"step {progress.step}{total}")
        if self.losses:
            facts.append(f"loss {self.mean_loss:.4g}")
        facts += [f"{name} {value:.4g}" for name, value in self.validation.items()]
        return f"<gradwire.Run {self.name}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        from gradwire.html import run_html  # noqa: PLC0415  # only notebooks need it

        return run_html(self)

    def _rests(self) -> bool:
        """Whether it was paused, and goes on only if it is told to."""
        return self.state == "PAUSED" and self.reason == "PAUSED"

    def _title(self) -> str:
        return self.display_name or self.name

    def _get(self) -> "runs_pb2.Run":
        response = self._server.call(self._stub.GetRun, runs_pb2.GetRunRequest(name=self.name))
        run: runs_pb2.Run = response.run
        return run

    def _finish(self) -> None:
        on_end, self._on_end = self._on_end, lambda: None
        on_end()
        self._loggers.close()
