"""Train: a training loop that advances one batch a turn."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine import hot
from gradwire_server.engine.averages import MovingAverage, build_average
from gradwire_server.engine.batches import Batches
from gradwire_server.engine.checkpoints import write_checkpoint
from gradwire_server.engine.compiling import Step
from gradwire_server.engine.diagnosis import located, not_finite
from gradwire_server.engine.evaluation import build_evaluation
from gradwire_server.engine.failures import operation
from gradwire_server.engine.keeping import require_client_state
from gradwire_server.engine.losses import Loss, build_loss, run_loss, spread
from gradwire_server.engine.models import Model, find_model, require_optimizer
from gradwire_server.engine.optimizers import build_optimizer, needs_closure
from gradwire_server.engine.progress import Position, Progress
from gradwire_server.engine.recipe import (
    Recipe,
    Scheduler,
    build_scheduler,
    read_recipe,
    require_possible,
)
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import Optional, register
from gradwire_server.engine.sources import open_samples
from gradwire_server.engine.streams import UNKNOWN_BATCHES, StreamBatches
from gradwire_server.engine.transforms import build_transform
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.storage.checkpoints import checkpoint_name, expiry

Events = Generator[Sequence[runs_pb2.RunEvent] | None, None, None]

MAX_DISPLAY_NAME_LENGTH = 128
CHECKPOINT_RETRY_SECONDS = 10.0
"""How long a run waits after a checkpoint that could not be written; it warns of the first only."""
_AUTOCAST: dict[int, torch.dtype] = {
    runs_pb2.PRECISION_BFLOAT16: torch.bfloat16,
    runs_pb2.PRECISION_FLOAT16: torch.float16,
}


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
        require_client_state(request.client_state)
        self._client_state = request.client_state
        self._kept = Optional(
            (handle, session.value(handle, f"kept_handles[{index}]"))
            for index, handle in enumerate(request.kept_handles)
        )
        self.model = find_model(session, request.name)
        self._model_id = self.model.name.rpartition("/")[2]
        self._parameters: Sequence[torch.nn.Parameter] = ()
        self._fast: Step | None = None
        transform = None
        if request.HasField("transform"):
            transform = build_transform(session, request.transform, "transform")
        self._batches: Batches | StreamBatches
        if request.data.HasField("stream"):
            self._batches = StreamBatches(request.data.stream, transform)
        else:
            samples = open_samples(session, request, "")
            if not 0 <= request.batch_size <= samples.num_samples:
                raise invalid(
                    "batch_size",
                    f"{request.batch_size} is not from 1 to {samples.num_samples}, the number of "
                    "samples; 0 takes all of them in one batch",
                )
            self._batches = Batches(
                samples,
                batch_size=request.batch_size,
                shuffle=request.shuffle,
                drop_last=request.drop_last,
                transform=transform,
            )
        self._evaluation = build_evaluation(session, request, self._batches)
        names = ["loss"] if self._evaluation is None else ["loss", *self._evaluation.names]
        self._recipe: Recipe = read_recipe(request, self._batches, names)
        self.progress = Progress(
            interval_seconds=_interval_seconds(request), num_steps=self._known_steps
        )
        self._loss: Loss = build_loss(session, request.loss, "loss")
        if request.HasField("optimizer"):
            self.optimizer = build_optimizer(
                session, request.optimizer, self.model.module, "optimizer"
            )
        else:
            self.optimizer = require_optimizer(self.model)
        require_possible(self._recipe, self.optimizer)
        scheduler, per_step = build_scheduler(session, request, self.optimizer)
        self._scheduler: Scheduler | None = scheduler
        self._scheduler_per_step = per_step
        self._scaler: torch.amp.GradScaler | None = None
        if self._recipe.precision == runs_pb2.PRECISION_FLOAT16:
            self._scaler = torch.amp.GradScaler(session.device.type)
        self._average: MovingAverage | None = build_average(session, request, self.model.module)
        self._epoch = 0
        self._batch = self._batches.num_batches
        self._window: list[float] = []
        self._window_samples = 0
        self._grad_norm: float | torch.Tensor = 0.0
        self._bad: list[str] = []
        self._bad_data: list[str] = []
        self._values: dict[str, float] = {}
        self._evaluated_step = -1
        self._checked_step = -1
        self._best_score: float | None = None
        self._num_worse = 0
        self._best_state: dict[str, torch.Tensor] | None = None
        self._best_checkpoint: float | None = None
        self._checkpoint_at = time.monotonic()
        self._checkpoint_retry_at = 0.0
        self._checkpoint_refused = False
        self._end_reason = ""
        self._modes: list[bool] = []
        if request.HasField("seed"):
            with operation("torch.manual_seed"):
                torch.manual_seed(request.seed)

    def __getstate__(self) -> dict[str, Any]:
        passing: dict[str, Any] = {"wish": "", "_parameters": (), "_fast": None}
        passing |= {"_checkpoint_at": 0.0, "_checkpoint_retry_at": 0.0}
        return {**vars(self), **passing}

    def begin(self, session: Session) -> Events:
        """Trains from the start on."""
        self._modes = [part.training for part in self.model.module.modules()]
        self._batches.open(session)
        yield self.progress.tell(
            started=runs_pb2.RunStarted(
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
        )
        yield from self._follow(session)

    def resume(self, session: Session, reported: Position) -> Events:
        """Trains on after a rest or from a checkpoint.

        Args:
            session: The session.
            reported: What was told of it by then.
        """
        self.wish = ""
        self.progress.resume(reported)
        yield from self._follow(session)

    def _follow(self, session: Session) -> Events:
        self._checkpoint_at = time.monotonic()
        self._parameters = tuple(self.model.module.parameters())
        self._fast = self._fast_step(session)
        held = (self.optimizer, self._batches.tensors, self._best_state or {})
        with session.pinning(*held), self._training():
            if not self.progress.step:
                yield self._checkpoint(session)
            while not self._is_done():
                if self.wish:
                    yield self._report(session)
                    yield self._checkpoint(session)
                    if self.wish == "pause":
                        return
                    break
                if not self._batches.is_ready:
                    yield None
                    continue
                if self._batches.is_over:
                    break
                try:
                    stepped = self._advance(session)
                except GradwireError:
                    yield self._report(session)
                    raise
                epoch_ended = self._batch == self._batches.num_batches
                if stepped and (
                    self._evaluates(epoch_ended=epoch_ended)
                    or self._bad
                    or self._is_done()
                    or self.progress.is_due()
                ):
                    yield self._report(session)
                if stepped:
                    yield from self._after_step(session, epoch_ended=epoch_ended)
                if time.monotonic() >= session.turn_until:
                    yield []
            yield from self._finish(session)

    def close(self, session: Session) -> None:
        """Takes no more batches."""
        self._batches.close(session)

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
            self._parameters = tuple(self.model.module.parameters())
            self._batches.begin_epoch()
            self.progress.begin_epoch(self._epoch)
        # Another call may have switched it to evaluation.
        if not self.model.module.training:
            self.model.module.train()
        inputs, targets = self._batches.batch(self._batch)
        self._batch += 1
        self._window_samples += len(inputs[0])
        rate = float(self.optimizer.param_groups[0]["lr"])
        try:
            stepped = self._take(session, inputs, targets)
        except GradwireError as error:
            step = self.progress.step + 1
            where = f"in step {step} (epoch {self._epoch}, batch {self._batch})"
            raise located(error, where, inputs, targets) from error
        if not math.isfinite(self._window[-1]):
            self._bad_data = not_finite(inputs, targets)
        if not stepped:
            return False
        loss = sum(self._window) / len(self._window)
        if not math.isfinite(loss) and not self._bad:
            self._bad = ["the loss"]
        self.progress.add(loss, rate, self._window_samples)
        self._window, self._window_samples = [], 0
        self.model.num_steps += 1
        session.num_steps += 1
        return True

    def _take(
        self, session: Session, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> bool:
        """Takes a batch into the step; returns whether that completed it."""
        with operation("Train"):
            taken = None
            if self._fast is not None:
                taken = self._fast.take(
                    [*inputs, *targets],
                    session.version,
                    lambda: self._plain_step(inputs, targets),
                )
            if taken is not None:
                loss_taken, self._grad_norm, _ = taken
                self._window.append(loss_taken.item())
                self._end_step()
            elif needs_closure(self.optimizer):
                self._window.append(self._closure_step(inputs, targets))
            else:
                if not self._window:
                    hot.zero_grad(self.optimizer)
                self._window.append(self._backward(inputs, targets).item())
                last = self._batch == self._batches.num_batches
                if len(self._window) < self._recipe.accumulate and not last:
                    return False
                self._step()
        return True

    def _backward(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Adds the gradients of a batch; returns its loss."""
        with self._autocast():
            loss = run_loss(self._loss, spread(self.model.module(*inputs)), targets)
        share = loss / self._recipe.accumulate if self._recipe.accumulate > 1 else loss
        hot.backward(share if self._scaler is None else self._scaler.scale(share))
        return loss.detach()

    def _step(self) -> None:
        """Lets the optimizer take a step, unless a loss or a gradient is not finite."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        self._note_and_clip()
        finite = all(math.isfinite(loss) for loss in self._window)
        if not finite or (self._scaler is None and not math.isfinite(self._grad_norm)):
            self._bad = self._bad_parameters()
            self._clear_scaler()
            return
        if self._scaler is None:
            hot.step(self.optimizer)
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self._end_step()

    def _end_step(self) -> None:
        """Does what follows each step of the optimizer."""
        if self._average is not None:
            self._average.update(self.model.module)
        if self._scheduler is not None and self._scheduler_per_step:
            self._step_scheduler()

    def _fast_step(self, session: Session) -> Step | None:
        """Returns what takes steps that need not be exact; None if torch takes them all."""
        if (
            self._recipe.exact
            or session.compiling is None
            or self._recipe.accumulate > 1
            or self._scaler is not None
            or needs_closure(self.optimizer)
        ):
            return None
        modules = [self.model.module]
        if isinstance(self._loss, torch.nn.Module):
            modules.append(self._loss)
        return session.compiling.loop(modules, self.optimizer, session.device)

    def _plain_step(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """Takes a step whatever the numbers are, and waits for none of them.

        Returns:
            The loss, the norm of the gradients, and whether both are finite.
        """
        hot.zero_grad(self.optimizer)
        loss = self._backward(inputs, targets)
        parameters = [p for p in self._parameters if p.grad is not None]
        norm = total_norm([p.grad for p in parameters])
        self._clip(parameters)
        hot.step(self.optimizer)
        return loss, norm, loss.isfinite() & norm.isfinite()

    def _closure_step(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> float:
        """Lets an optimizer that evaluates the model take a step; returns the first loss."""

        def evaluate() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = self._backward(inputs, targets)
            self._note_and_clip()
            return loss

        loss: Any = self.optimizer.step(evaluate)  # type: ignore[arg-type]
        self._end_step()
        return float(loss)

    def _note_and_clip(self) -> None:
        """Notes the norm of the gradients, and clips them as the recipe says."""
        parameters = [p for p in self._parameters if p.grad is not None]
        self._grad_norm = float(total_norm([p.grad for p in parameters]))
        self._clip(parameters)

    def _clip(self, parameters: Sequence[torch.Tensor]) -> None:
        if self._recipe.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self._recipe.clip_grad_norm)
        if self._recipe.clip_grad_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self._recipe.clip_grad_value)

    def _bad_parameters(self) -> list[str]:
        """Returns the names of parameters whose value or gradient is not finite."""
        bad = [
            name
            for name, parameter in self.model.module.named_parameters()
            if not parameter.isfinite().all()
            or (parameter.grad is not None and not _is_finite(parameter.grad))
        ]
        return bad or ["the loss"]

    def _clear_scaler(self) -> None:
        """Ends the step for the scaler, which was told of its gradients."""
        if self._scaler is not None:
            self._scaler.update()

    def _autocast(self) -> AbstractContextManager[Any]:
        element = _AUTOCAST.get(self._recipe.precision)
        if element is None:
            return nullcontext()
        device = next(self.model.module.parameters(), torch.empty(0)).device.type
        return torch.autocast(device, dtype=element)

    def _step_scheduler(self) -> None:
        assert self._scheduler is not None
        with operation("torch.optim.lr_scheduler.LRScheduler.step"):
            if isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                self._scheduler.step(self._watched(self._recipe.scheduler_monitor.name))
            else:
                self._scheduler.step()

    def _evaluates(self, *, epoch_ended: bool) -> bool:
        """Whether an evaluation is due after this step."""
        if self._evaluation is None:
            return False
        every = self._recipe.validate_every_steps
        return self.progress.step % every == 0 if every else epoch_ended or self._is_done()

    def _after_step(self, session: Session, *, epoch_ended: bool) -> Events:
        """Does what is due between two steps."""
        recipe, step = self._recipe, self.progress.step
        if self._bad:
            yield self._tell_bad()
        evaluates = self._evaluates(epoch_ended=epoch_ended)
        if evaluates:
            yield from self._evaluate()
        if epoch_ended and self._scheduler is not None and not self._scheduler_per_step:
            self._step_scheduler()
        judged = epoch_ended if self._evaluation is None else evaluates
        if judged and recipe.stop_monitor is not None:
            self._judge()
        best = False
        if judged and recipe.best_monitor is not None:
            score = recipe.best_monitor.score(
                {recipe.best_monitor.name: self._watched(recipe.best_monitor.name)}
            )
            best = self._best_checkpoint is None or score > self._best_checkpoint
            self._best_checkpoint = score if best else self._best_checkpoint
        due = bool(recipe.checkpoint_every_steps) and step % recipe.checkpoint_every_steps == 0
        if recipe.checkpoint_every_seconds and not due:
            due = time.monotonic() - self._checkpoint_at >= recipe.checkpoint_every_seconds
        wanted = best or (due and not self._is_done())
        if wanted and time.monotonic() >= self._checkpoint_retry_at:
            if not self.progress.is_repeating():
                yield self._report(session)
            yield self._checkpoint(session, best=best)

    def _tell_bad(self) -> Sequence[runs_pb2.RunEvent]:
        """Tells of a loss or a gradient that was not finite, and does what the recipe says."""
        bad, self._bad = self._bad, []
        data, self._bad_data = self._bad_data, []
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
        return self.progress.tell(
            warning=runs_pb2.RunWarning(
                reason=Reason.NON_FINITE,
                message=f"{what}; the step was left out",
                step=step,
                parameters=bad,
            )
        )

    def _evaluate(self) -> Events:
        assert self._evaluation is not None
        module = self.model.module if self._average is None else self._average.averaged
        running = self._evaluation.run(module, self._loss, self._autocast)
        while True:
            try:
                next(running)
            except StopIteration as stop:
                self._values = stop.value
                break
            yield []
        self._evaluated_step = self.progress.step
        yield self.progress.tell(
            validation=runs_pb2.RunValidation(
                epoch=self._epoch, step=self.progress.step, values=self._values
            )
        )

    def _watched(self, name: str) -> float:
        """Returns the latest value of a name that can be monitored."""
        return self.progress.mean_loss if name == "loss" else self._values.get(name, math.nan)

    def _judge(self) -> None:
        """Ends the run if its monitored value has not improved for too long."""
        recipe = self._recipe
        assert recipe.stop_monitor is not None
        name = recipe.stop_monitor.name
        score = recipe.stop_monitor.score({name: self._watched(name)})
        if self._best_score is None or score > self._best_score + recipe.min_delta:
            self._best_score, self._num_worse = score, 0
            if recipe.restore_best:
                state = self.model.module.state_dict()
                self._best_state = {k: v.detach().clone() for k, v in state.items()}
            return
        self._num_worse += 1
        if self._num_worse >= recipe.patience:
            self._end_reason = "EARLY_STOPPING"

    def _report(self, session: Session) -> Sequence[runs_pb2.RunEvent]:
        return self.progress.report(float(self._grad_norm), session.device)

    def _checkpoint(self, session: Session, *, best: bool = False) -> Sequence[runs_pb2.RunEvent]:
        """Writes a checkpoint if this run keeps some and has none of this step."""
        step = self.progress.step
        self._checkpoint_at = time.monotonic()
        keeps = self._recipe.keeps_checkpoints and self.name
        if not keeps or self.progress.is_repeating() or self._checked_step == step:
            return []
        before, self._checked_step = self._checked_step, step
        name = checkpoint_name(self.name.removeprefix("runs/"), step)
        try:
            manifest = write_checkpoint(
                session.storage,
                session,
                name,
                kept=self._kept,
                client_state=self._client_state,
                run=self.name,
                step=step,
                values=self._values,
                expire_seconds=expiry(self._recipe.checkpoint_ttl_seconds),
            )
        except GradwireError as error:
            self._checked_step = before
            if not step and error.reason is not Reason.NO_CHECKPOINT:
                raise
            self._checkpoint_retry_at = time.monotonic() + CHECKPOINT_RETRY_SECONDS
            if self._checkpoint_refused:
                return []
            self._checkpoint_refused = True
            return self.progress.tell(
                warning=runs_pb2.RunWarning(
                    reason=error.reason,
                    message=f"no checkpoint was written at step {step}: {error.message}",
                    step=step,
                )
            )
        self._checkpoint_refused = False
        return self.progress.tell(
            checkpoint=runs_pb2.RunCheckpoint(
                name=name,
                step=step,
                num_bytes=manifest.num_bytes,
                best=best,
                keep_last=self._recipe.keep_last,
            )
        )

    def _finish(self, session: Session) -> Events:
        yield self._report(session)
        cancelled = self.wish == "cancel"
        evaluates = self._evaluation is not None and not cancelled
        if evaluates and self._evaluated_step < self.progress.step:
            yield from self._evaluate()
        if self._best_state is not None and not cancelled:
            with torch.no_grad(), operation("Train"):
                self.model.module.load_state_dict(self._best_state)
        average = ""
        if self._average is not None:
            model_id = f"{self.model.name.rpartition('/')[2]}-average"[-63:]
            model = Model(
                name=f"{session.name}/models/{model_id}",
                module=self._average.averaged,
                optimizer=None,
            )
            session.models[model_id] = model
            average = model.name
        self.leave()
        session.runs.pop(self.name, None)
        self.close(session)
        self._checked_step = -1
        yield self._checkpoint(session)
        state = runs_pb2.RUN_STATE_CANCELLED if cancelled else runs_pb2.RUN_STATE_SUCCEEDED
        yield self.progress.tell(
            ended=runs_pb2.RunEnded(
                num_steps=self.progress.step,
                mean_loss=self.progress.mean_loss,
                elapsed_seconds=self.progress.elapsed_seconds,
                state=state,
                reason=self._end_reason,
                moving_average_model=average,
            )
        )

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


def train(session: Session, request: runs_pb2.TrainRequest) -> Events:
    """Begins a run and follows it to its end; yields after each batch the events to send.

    The model is in training mode until the run ends; then the mode of each of its modules is what
    it was before.

    Raises:
        GradwireError: The request is malformed, a step failed, or the model was deleted.
    """
    run = TrainingRun(session, request)
    if run.name:
        session.runs[run.name] = run
    yield from _kept(session, run, run.begin(session))


def resume_run(session: Session, request: runs_pb2.ResumeRunRequest) -> Events:
    """Goes on with a run that rests in the session."""
    run = find_run(session, request.name)
    reported = (request.reported_step, request.reported_rank)
    yield from _kept(session, run, run.resume(session, reported))


def _kept(session: Session, run: TrainingRun, events: Events) -> Events:
    """Passes events on; a run that fails or is given up is forgotten, one that pauses is not."""
    try:
        yield from events
    except BaseException:
        session.runs.pop(run.name, None)
        run.close(session)
        raise


def cancel_run(session: Session, request: runs_pb2.CancelRunRequest) -> runs_pb2.CancelRunResponse:
    """Ends a run after the step it is in."""
    find_run(session, request.name).wish = "cancel"
    return runs_pb2.CancelRunResponse()


def pause_run(session: Session, request: runs_pb2.PauseRunRequest) -> runs_pb2.PauseRunResponse:
    """Lets a run rest after the step it is in."""
    find_run(session, request.name).wish = "pause"
    return runs_pb2.PauseRunResponse()


def find_run(session: Session, name: str) -> TrainingRun:
    """Returns a run of the session that has not ended.

    Raises:
        GradwireError: RUN_NOT_FOUND.
    """
    run = session.runs.get(name)
    if run is None:
        raise GradwireError(
            Reason.RUN_NOT_FOUND, f"there is no {name} in {session.name}", metadata={"run": name}
        )
    return run


def total_norm(gradients: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Returns the 2-norm of all gradients together; sparse ones by their values."""
    dense = [
        g.coalesce().values() if g.layout == torch.sparse_coo else g
        for g in gradients
        if g is not None
    ]
    if not dense:
        return torch.zeros(())
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(dense)))
    return norm


def _is_finite(tensor: torch.Tensor) -> bool:
    values = tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor
    return bool(values.isfinite().all())


def _interval_seconds(request: runs_pb2.TrainRequest) -> float:
    interval = request.report_interval_seconds
    if not (interval >= 0 and math.isfinite(interval)):
        raise invalid("report_interval_seconds", f"{interval} is not a time in seconds")
    return interval
