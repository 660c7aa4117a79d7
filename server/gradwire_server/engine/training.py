"""Train: a training loop that advances one batch a turn."""

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.batches import Batches
from gradwire_server.engine.diagnosis import located
from gradwire_server.engine.evaluation import build_evaluation
from gradwire_server.engine.failures import operation
from gradwire_server.engine.judging import Judge
from gradwire_server.engine.models import Model, find_model, require_optimizer
from gradwire_server.engine.optimizers import build_optimizer
from gradwire_server.engine.progress import Events, Progress, Told
from gradwire_server.engine.recipe import Recipe, read_recipe, require_possible
from gradwire_server.engine.saving import Saver
from gradwire_server.engine.schedules import Schedule, build_schedule
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.sources import open_samples
from gradwire_server.engine.stepping import Stepper
from gradwire_server.engine.streams import UNKNOWN_BATCHES, StreamBatches
from gradwire_server.engine.transforms import build_transform
from gradwire_server.errors import GradwireError, Reason, invalid

Turns = Generator[Events | None, None, None]
"""Yields, at the end of each turn, the events to send; None if the run has to wait."""

MAX_DISPLAY_NAME_LENGTH = 128


@register
class TrainingRun:
    """A run: what it works with, and how far it is. All of it is part of checkpoints.

    Attributes:
        name: ``runs/{run}``; empty if nobody keeps its events.
        model: The model that is trained.
        optimizer: What steps it.
        progress: What is told of it.
        wish: What it is asked to do after the step it is in: "", "cancel" or "pause".
    """

    model: Model
    optimizer: torch.optim.Optimizer
    progress: Progress

    def __init__(self, session: Session, request: runs_pb2.TrainRequest) -> None:
        self.name = request.run
        self.wish = ""
        if len(request.display_name) > MAX_DISPLAY_NAME_LENGTH:
            raise invalid("display_name", f"has more than {MAX_DISPLAY_NAME_LENGTH} characters")
        self._display_name = request.display_name
        self._cancel_on_disconnect = request.cancel_on_disconnect
        self.model = find_model(session, request.name)
        self._model_id = self.model.name.rpartition("/")[2]
        self._batches = _build_batches(session, request)
        self._evaluation = build_evaluation(session, request, self._batches)
        names = ["loss"] if self._evaluation is None else ["loss", *self._evaluation.names]
        self._recipe: Recipe = read_recipe(request, self._batches, names)
        self.progress = Progress(
            interval_seconds=_interval_seconds(request), num_steps=self._known_steps
        )
        self._saver = Saver(session, request, self._recipe, self.progress)
        if request.HasField("optimizer"):
            self.optimizer = build_optimizer(
                session, request.optimizer, self.model.module, "optimizer"
            )
        else:
            self.optimizer = require_optimizer(self.model)
        require_possible(self._recipe, self.optimizer)
        self._stepper = Stepper(session, request, self._recipe, self.model, self.optimizer)
        self._schedule: Schedule | None = build_schedule(
            session, request, self.optimizer, self._recipe.scheduler_monitor
        )
        self._judge = Judge(self._recipe)
        self._epoch = 0
        self._batch = self._batches.num_batches
        self._values: dict[str, float] = {}
        self._evaluated_step = -1
        self._end_reason = ""
        self._modes: list[bool] = []
        if request.HasField("seed"):
            with operation("torch.manual_seed"):
                torch.manual_seed(request.seed)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "wish": ""}

    def begin(self, session: Session) -> Turns:
        """Trains from the start on.

        Who is told that it began can rely on it: its first checkpoint is there by then.
        """
        self._modes = [part.training for part in self.model.module.modules()]
        self._batches.open(session)
        self._saver.write(session, self._values, self._stepper.average)
        while not self._saver.is_written(session.turn_until):
            yield []
        started = runs_pb2.RunStarted(
            num_samples=self._batches.num_samples,
            batches_per_epoch=self._batches.num_batches,
            num_steps=self._known_steps,
            num_epochs=self._recipe.num_epochs,
            steps_per_epoch=self._steps_per_epoch,
            device=str(session.device),
            display_name=self._display_name,
            cancel_on_disconnect=self._cancel_on_disconnect,
            exact=self._recipe.exact,
        )
        yield [runs_pb2.RunEvent(started=started), *self._rest(session)]
        yield from self._follow(session)

    def resume(self, session: Session, told: Told) -> Turns:
        """Trains on after a rest or from a checkpoint.

        Args:
            session: The session.
            told: What was told of it by then.
        """
        self.wish = ""
        self.progress.resume(told)
        yield from self._follow(session)

    def _follow(self, session: Session) -> Turns:
        self._saver.begin()
        self._stepper.begin(session)
        held = (self.optimizer, self._batches.tensors, self._judge.best_state or {})
        with session.pinning(*held), self._training():
            while not (self._is_done() or self._batches.is_over):
                if self.wish == "pause":
                    yield from self._checkpoint(session)
                    yield from self._written(session)
                    yield self._rest(session)
                    return
                if self.wish:
                    break
                if not self._batches.is_ready:
                    yield self._due(session) or None
                    continue
                try:
                    if self._advance(session):
                        yield from self._after_step(session)
                except GradwireError:
                    yield from self._written(session)
                    yield self._rest(session)
                    raise
                # A turn takes less time than passes between two events.
                if not session.has_time():
                    self._saver.is_written(0.0)
                    yield self._due(session)
            yield from self._finish(session)

    def close(self, session: Session) -> None:
        """Takes no more batches, and leaves no checkpoint half-written."""
        self._batches.close(session)
        self._saver.abandon()
        if self._schedule is not None:
            self._schedule.release()

    @property
    def _known_steps(self) -> int:
        """How many steps the run takes in all; 0 if its data tells that only in the end."""
        return self._recipe.num_steps if self._recipe.num_steps < UNKNOWN_BATCHES else 0

    @property
    def _steps_per_epoch(self) -> int:
        """How many steps an epoch has; 0 if its data tells that only in the end."""
        steps = -(-self._batches.num_batches // self._recipe.accumulate)
        return steps if self._batches.num_batches < UNKNOWN_BATCHES else 0

    def _is_done(self) -> bool:
        return bool(self._end_reason) or self.progress.step >= self._recipe.num_steps

    def _advance(self, session: Session) -> bool:
        """Takes in the next batch; returns whether that made a step."""
        if self.model is not session.models.get(self._model_id):
            find_model(session, self.model.name)
        if self._batch == self._batches.num_batches:
            self._epoch += 1
            self._batch = 0
            self._stepper.begin_epoch()
            self._batches.begin_epoch()
            self.progress.begin_epoch(self._epoch)
        # Another call may have switched it to evaluation.
        if not self.model.module.training:
            self.model.module.train()
        inputs, targets = self._batches.batch(self._batch)
        self._batch += 1
        try:
            taken = self._stepper.take(
                session, inputs, targets, ends_epoch=self._batch == self._batches.num_batches
            )
            if taken is None:
                return False
            if not self._stepper.bad:
                self._step_schedule(per_step=True)
        except GradwireError as error:
            step = self.progress.step + 1
            where = f"in step {step} (epoch {self._epoch}, batch {self._batch})"
            raise located(error, where, inputs, targets) from error
        self.progress.add(taken.loss, taken.learning_rate, taken.num_samples)
        self.model.num_steps += 1
        session.num_steps += 1
        return True

    def _step_schedule(self, *, per_step: bool) -> None:
        if self._schedule is not None and self._schedule.per_step == per_step:
            self._schedule.step(self._watched)

    def _evaluates(self, *, epoch_ended: bool) -> bool:
        """Whether an evaluation is due after this step."""
        if self._evaluation is None:
            return False
        every = self._recipe.validate_every_steps
        return self.progress.step % every == 0 if every else epoch_ended or self._is_done()

    def _after_step(self, session: Session) -> Turns:
        """Does what is due between two steps."""
        if self._stepper.bad:
            self._note_bad()
        epoch_ended = self._batch == self._batches.num_batches
        evaluates = self._evaluates(epoch_ended=epoch_ended)
        if evaluates:
            yield from self._evaluate(session)
        if epoch_ended:
            self._step_schedule(per_step=False)
        best = False
        if epoch_ended if self._evaluation is None else evaluates:
            if self._judge.ends_run(self._watched, self.model.module):
                self._end_reason = "EARLY_STOPPING"
            best = self._judge.is_best(self._watched)
        wanted = best or (self._saver.is_due() and not self._is_done())
        if wanted and self._saver.is_able():
            yield from self._checkpoint(session, best=best)

    def _note_bad(self) -> None:
        """Notes a loss or a gradient that was not finite, and does what the recipe says."""
        bad, self._stepper.bad = self._stepper.bad, []
        data, self._stepper.bad_data = self._stepper.bad_data, []
        step = self.progress.step
        shown = ", ".join(bad[:8]) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        what = f"step {step}: the loss or a gradient is not finite ({shown})"
        if data:
            what += f"; the batch holds NaN or infinity in its {' and '.join(data)}"
        if self._recipe.on_nonfinite == runs_pb2.ON_NON_FINITE_RAISE:
            raise GradwireError(
                Reason.NON_FINITE,
                f"{what}. The step was not taken. A smaller learning rate, clip_grad_norm, or "
                "data without NaN may help; on_nonfinite says whether to stop, skip or raise.",
                metadata={"step": str(step), "parameters": ",".join(bad)[:1000]},
            )
        if self._recipe.on_nonfinite == runs_pb2.ON_NON_FINITE_STOP:
            self._end_reason = Reason.NON_FINITE
        message = f"{what}; the step was left out"
        reason = Reason.NON_FINITE.value
        self.progress.note("warning", step=step, reason=reason, message=message, parameters=bad)

    def _evaluate(self, session: Session) -> Turns:
        assert self._evaluation is not None
        average = self._stepper.average
        module = self.model.module if average is None else average.averaged
        running = self._evaluation.run(module, self._stepper.loss, self._stepper.autocast)
        while True:
            try:
                next(running)
            except StopIteration as stop:
                self._values = stop.value
                break
            yield self._due(session)
        self._evaluated_step = step = self.progress.step
        self.progress.note("validation", step=step, epoch=self._epoch, values=self._values)

    def _watched(self, name: str) -> float:
        """Returns the latest value of a name that can be monitored."""
        return self.progress.mean_loss if name == "loss" else self._values.get(name, math.nan)

    def _due(self, session: Session) -> Events:
        return self.progress.due(self._stepper.grad_norm, session.device)

    def _rest(self, session: Session) -> Events:
        return self.progress.rest(self._stepper.grad_norm, session.device)

    def _checkpoint(self, session: Session, *, best: bool = False) -> Turns:
        """Begins to write a checkpoint, once the one before is written."""
        yield from self._written(session)
        self._saver.write(session, self._values, self._stepper.average, best=best)

    def _written(self, session: Session) -> Turns:
        """Waits until no checkpoint is under way."""
        while not self._saver.is_written(session.wait_until):
            yield self._due(session)

    def _finish(self, session: Session) -> Turns:
        cancelled = self.wish == "cancel"
        evaluates = self._evaluation is not None and not cancelled
        if evaluates and self._evaluated_step < self.progress.step:
            yield from self._evaluate(session)
        if self._judge.best_state is not None and not cancelled:
            with torch.no_grad(), operation("Train"):
                self.model.module.load_state_dict(self._judge.best_state)
        yield from self._written(session)
        average = self._hand_over_average(session)
        self.leave()
        self._modes = []
        self._batches.close(session)
        # Whoever begins with the last checkpoint finds no run; whoever asks meanwhile does.
        session.runs.pop(self.name, None)
        self._saver.forget()
        self._saver.write(session, self._values, self._stepper.average)
        if self.name:
            session.runs[self.name] = self
        if self._schedule is not None:
            self._schedule.release()
        yield from self._written(session)
        session.runs.pop(self.name, None)
        yield self._rest(session)
        state = runs_pb2.RUN_STATE_CANCELLED if cancelled else runs_pb2.RUN_STATE_SUCCEEDED
        ended = runs_pb2.RunEnded(
            num_steps=self.progress.step,
            mean_loss=self.progress.mean_loss,
            elapsed_seconds=self.progress.elapsed_seconds,
            state=state,
            reason=self._end_reason,
            moving_average_model=average,
        )
        yield [runs_pb2.RunEvent(ended=ended)]

    def _hand_over_average(self, session: Session) -> str:
        """Makes the moving average a model of the session; returns its name, "" without one."""
        if self._stepper.average is None:
            return ""
        model_id = f"{self._model_id}-average"[-63:]
        name = f"{session.name}/models/{model_id}"
        session.models[model_id] = Model(
            name=name, module=self._stepper.average.averaged, optimizer=None
        )
        return name

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Switches the model to training mode for the block."""
        self.model.module.train()
        try:
            yield
        finally:
            self.leave()

    def leave(self) -> None:
        """Puts the mode of each part of the model back to what it was before the run."""
        for part, mode in zip(self.model.module.modules(), self._modes, strict=False):
            part.training = mode


def _build_batches(session: Session, request: runs_pb2.TrainRequest) -> Batches | StreamBatches:
    """Returns the training data of a request.

    Raises:
        GradwireError: It is malformed, or has no batch.
    """
    transform = None
    if request.HasField("transform"):
        transform = build_transform(session, request.transform, "transform")
    if request.data.HasField("stream"):
        return StreamBatches(request.data.stream, transform)
    samples = open_samples(session, request, "")
    if not 0 <= request.batch_size <= samples.num_samples:
        raise invalid(
            "batch_size",
            f"{request.batch_size} is not from 1 to {samples.num_samples}, the number of samples; "
            "0 takes all of them in one batch",
        )
    return Batches(
        samples,
        batch_size=request.batch_size,
        shuffle=request.shuffle,
        drop_last=request.drop_last,
        transform=transform,
        ahead=not request.exact,
    )


def _interval_seconds(request: runs_pb2.TrainRequest) -> float:
    interval = request.report_interval_seconds
    if not (interval >= 0 and math.isfinite(interval)):
        raise invalid("report_interval_seconds", f"{interval} is not a time in seconds")
    return interval
