"""Training loops that run on the server: `train`."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from gradwire.calls import session_of
from gradwire.errors import RequestError, ServerUnavailableError, SessionLostError
from gradwire.factors import count_scheduler_steps, tables_of
from gradwire.feeding import FOREVER, Feeder
from gradwire.history import History
from gradwire.loggers import Logger
from gradwire.nn.module import Module
from gradwire.objects import pack_possible
from gradwire.optim.optimizer import Optimizer
from gradwire.optim.schedulers import LRScheduler
from gradwire.options import (
    Options,
    named_metrics,
    on_nonfinite_of,
    precision_of,
    require_counts,
    require_loss,
    set_checkpoint,
    set_early_stopping,
    set_scheduler,
    take_options,
)
from gradwire.recipes import Case, both_transforms, record
from gradwire.run import Run
from gradwire.samples import Samples, Streamed, samples_of
from gradwire.session import Session
from gradwire.transport.channel import new_request_id, retry_delays
from gradwire.v1 import models_pb2, models_pb2_grpc, runs_pb2, runs_pb2_grpc


def train(
    model: Module,
    data: Any,
    *,
    loss: Module | Callable[..., Any],
    optimizer: Optimizer,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    transform: Callable[..., Any] | None = None,
    target_transform: Callable[..., Any] | None = None,
    validation: Any = None,
    metrics: Sequence[Any] | Mapping[str, Any] | str | None = None,
    scheduler: LRScheduler | tuple[LRScheduler, str] | Options | None = None,
    clip_grad_norm: float | None = None,
    clip_grad_value: float | None = None,
    accumulate: int = 1,
    precision: str = "float32",
    early_stopping: int | Options | None = None,
    checkpoint: bool | Options | None = None,
    ema: float | None = None,
    seed: int | None = None,
    exact: bool = False,
    on_nonfinite: str = "raise",
    name: str = "",
    loggers: Sequence[Logger] = (),
    progress: bool | None = None,
    wait: bool = True,
    cancel_on_disconnect: bool = False,
) -> Run:
    """Trains a model in a loop on the server, with no message for each step.

    The run belongs to the server: it goes on when this program ends, and after a crash it goes on
    from its last checkpoint with the same results. Afterwards the model holds the trained weights.
    An interrupt (Ctrl-C) while waiting cancels the run; the steps it has taken stay.

    Functions written in Python (the model's ``forward``, the loss, metrics) are recorded before,
    once for each size that batches have and each mode, and then run on the server. They may use any
    tensor operation, sizes included, but must not depend on the values of tensors, and may change
    buffers in place only. The loop visits the samples in the order that a
    ``torch.utils.data.DataLoader`` would.

    Args:
        model: The model.
        data: Inputs and targets: arrays or tensors, or tuples of such, with samples along the
            first dimension; a dataset or a loader of ``gradwire.utils.data`` (a loader's
            ``batch_size``, ``shuffle`` and ``drop_last`` are taken from it); or data on the server,
            as ``gradwire.datasets`` returns it, which need not fit in memory. An iterable dataset,
            another loader, or any iterable of batches is streamed to the run while it trains, no
            faster than it does; such a run ends with this program.
        loss: A loss module, or a function of outputs and targets that returns a scalar tensor.
        optimizer: An optimizer of the model's parameters.
        epochs: How many times to go over the data; once if neither this nor `steps` is given.
        steps: How many optimizer steps to take; with `epochs`, whichever comes first.
        batch_size: Samples of a batch, no more than there are; None for all.
        shuffle: Whether to visit the samples in a new random order in each epoch.
        drop_last: Whether to leave out an incomplete last batch.
        transform: What becomes of the inputs of each batch before the model sees them: a function
            over tensors, such as one of ``gradwire.transforms``. It is recorded, and runs on the
            device with the session's random numbers.
        target_transform: The same for the targets.
        validation: Data to evaluate on after each epoch, as `data`; or a dictionary with
            ``data``, and if wanted ``batch_size`` and ``every_steps``. Evaluation draws no random
            numbers, so a run with it trains exactly as one without.
        metrics: What to compute in evaluations, on the training data if there is no `validation`:
            a name of torchmetrics, such as ``"accuracy"``, ``"f1"``, ``"mae"`` or
            ``"MulticlassRecall"``; a pair of such a name and its arguments; a function of outputs
            and targets; or several of these in a list, or in a dictionary by the names under which
            they are to be reported.
        scheduler: A scheduler of the optimizer. It steps after each epoch, and where `steps` alone
            limits the run, or for ``OneCycleLR`` and ``CyclicLR``, after each step; a pair with
            ``"step"`` or ``"epoch"`` says otherwise. ``ReduceLROnPlateau`` watches the validation
            loss; a dictionary with ``scheduler``, ``interval`` and ``monitor`` says otherwise.
            Functions that it calls, as ``LambdaLR`` does, are called for all steps to come before
            the run begins.
        clip_grad_norm: Scales gradients down to this total 2-norm before each step.
        clip_grad_value: Clips gradients to this absolute value before each step.
        accumulate: Over how many batches to accumulate gradients for a step; the loss of each is
            divided by it.
        precision: ``"float32"``; or ``"bfloat16"`` or ``"float16"`` for autocast, the latter with
            a gradient scaler.
        early_stopping: After how many evaluations without improvement to end; or a dictionary with
            ``patience``, and if wanted ``monitor``, ``min_delta``, ``mode`` (``"min"`` or
            ``"max"``) and ``restore_best``.
        checkpoint: False for none; or a dictionary with ``every_steps``, ``every_minutes``,
            ``keep_last`` and, to keep the best one too, ``best`` (the name of a value) and
            ``mode``; ``ttl_hours`` says after how many hours each is deleted. By default one is
            written every minute, and the last two are kept.
        ema: The decay of an exponential moving average of the weights, such as 0.999. Evaluations
            use it; the run's ``averaged_state_dict`` has it, and of a checkpoint, as a state dict,
            the object ``average``.
        seed: Seeds the session's random numbers first.
        exact: Whether the results are those of torch's own loop to the last bit, after a crash too.
            By default steps may be compiled once there were many of the same, which is several
            times as fast for small models; results are then equal within torch's tolerances.
        on_nonfinite: What to do when a loss or a gradient is not finite, instead of taking the
            step: ``"raise"``, ``"stop"`` or ``"skip"``.
        name: A name of the run for people.
        loggers: Where else the numbers of the run go, as far as this program follows it, such as
            ``gradwire.loggers.TensorBoard("logs")``.
        progress: Whether to show a progress bar on stderr; None shows it in a terminal and in a
            notebook.
        wait: Whether to return only when the run has ended.
        cancel_on_disconnect: Whether the run is to be cancelled when this program ends or its
            connection breaks.

    Returns:
        The run.

    Raises:
        ValueError: The data is empty or of unequal lengths, `forward` can't be recorded, or an
            option is not what it should be.
        GradwireError: The server refused, or the run failed.
    """
    samples = samples_of(data, batch_size=batch_size, drop_last=drop_last)
    stream = samples if isinstance(samples, Streamed) else None
    if samples.batching is not None:
        batch_size, shuffle, drop_last = samples.batching
    require_counts(epochs=epochs, steps=steps, batch_size=batch_size, accumulate=accumulate)
    batch_size = _fitting_batch_size(samples, batch_size, drop_last=drop_last)
    require_loss(loss)
    session = session_of(tuple(samples.tensors), {})
    evaluation = _evaluation(validation)
    named = named_metrics(metrics)
    cases = _cases(samples, evaluation, batch_size, drop_last=drop_last, has_metrics=bool(named))
    recorded = record(
        session, model, loss, named, cases, transform=both_transforms(transform, target_transform)
    )
    models = models_pb2_grpc.ModelServiceStub(session.channel)
    created = session.call(
        models.CreateModel,
        models_pb2.CreateModelRequest(name=session.name, module=recorded.module),
    ).model

    def forget() -> None:
        request = models_pb2.DeleteModelRequest(name=created.name)
        # A run may outlive the worker that the session was on; what it says of itself still counts.
        with suppress(SessionLostError):
            session.call(models.DeleteModel, request)

    request = runs_pb2.TrainRequest(
        name=created.name,
        request_id=new_request_id(),
        loss=recorded.loss,
        optimizer=models_pb2.OptimizerSpec(handle=session.handle(optimizer)),
        epochs=1 if epochs is None and steps is None else epochs or 0,
        steps=steps or 0,
        batch_size=batch_size or 0,
        shuffle=shuffle,
        drop_last=drop_last,
        metrics=recorded.metrics,
        clip_grad_norm=clip_grad_norm,
        clip_grad_value=clip_grad_value,
        accumulate=accumulate,
        precision=precision_of(precision),
        seed=seed,
        exact=exact,
        on_nonfinite=on_nonfinite_of(on_nonfinite),
        display_name=name,
        # Nobody else can make the batches of a stream.
        cancel_on_disconnect=cancel_on_disconnect or stream is not None,
        transform=recorded.transform,
        evaluation_transform=recorded.evaluation_transform,
    )
    samples.fill(request, session)
    if evaluation is not None:
        request.validation.batch_size = evaluation.batch_size
        request.validation.every_steps = evaluation.every_steps
        evaluation.samples.fill(request.validation, session)
    stepping = set_scheduler(request, session, scheduler)
    if stepping is not None:
        per_epoch = _steps_per_epoch(samples, batch_size, accumulate, drop_last=drop_last)
        num_steps = count_scheduler_steps(request, stepping, per_epoch)
        request.scheduler.tables.extend(tables_of(session, stepping, num_steps))
    set_early_stopping(request, early_stopping)
    set_checkpoint(request, checkpoint)
    if ema is not None:
        request.moving_average.decay = ema
    _set_client_state(request, session, {"model": model, "optimizer": optimizer}, stepping)
    feeder = None
    if stream is not None:
        feeder = Feeder(session, stream, epochs or (1 if steps is None else FOREVER))

    def end() -> None:
        if feeder is not None:
            feeder.stop()
        forget()

    try:
        run = _begin(session, request, on_end=end, loggers=loggers)
    except BaseException:
        forget()
        raise
    if feeder is not None:
        feeder.start()
    if wait:
        try:
            run.wait(progress=progress)
        except RequestError:
            if feeder is not None and feeder.error is not None:
                raise feeder.error from None
            raise
        except KeyboardInterrupt:
            run.cancel()
            raise
    return run


def _fitting_batch_size(samples: Samples, batch_size: int | None, *, drop_last: bool) -> int | None:
    """Returns the batch size to ask for; that of a loader may be larger than its data is."""
    num_samples = samples.num_samples
    if batch_size is None or num_samples is None or batch_size <= num_samples:
        return batch_size
    text = f"batch_size is {batch_size}, but there are {num_samples} samples"
    if drop_last:
        raise ValueError(f"there is no full batch: {text}, and drop_last leaves out smaller ones")
    if samples.batching is None:
        raise ValueError(f"{text}; give at most {num_samples}, or None for all of them at once")
    return num_samples


def _set_client_state(
    request: runs_pb2.TrainRequest,
    session: Session,
    objects: dict[str, Any],
    scheduler: LRScheduler | None,
) -> None:
    """Sets what `restore` finds in checkpoints of a run."""
    if scheduler is not None:
        objects["scheduler"] = scheduler
    stand_ins = {}
    if request.HasField("moving_average"):
        # Checkpoints have the averages under the handles of these.
        stand_ins = {name: each.clone() for name, each in objects["model"].state_dict().items()}
        objects["average"] = stand_ins
    handles = {name: session.handle(tensor) for name, tensor in stand_ins.items()}
    kept = pack_possible(session, objects)
    request.client_state = kept.to_bytes()
    if handles:
        request.moving_average.kept_handles.update(handles)
    request.kept_handles.extend(sorted(kept.handles - set(handles.values())))


def _steps_per_epoch(
    samples: Samples, batch_size: int | None, accumulate: int, *, drop_last: bool
) -> int | None:
    """Returns how many steps an epoch has; None if nobody knows."""
    num_samples = samples.num_samples
    if num_samples is None:
        return None
    size = batch_size or num_samples
    batches = num_samples // size if drop_last else -(-num_samples // size)
    return -(-batches // accumulate)


class _Evaluation(NamedTuple):
    """What to evaluate on."""

    samples: Samples
    batch_size: int
    every_steps: int


def _evaluation(validation: Any) -> _Evaluation | None:
    if validation is None:
        return None
    options = validation if isinstance(validation, Mapping) else {"data": validation}
    known = take_options("validation", options, ("data", "batch_size", "every_steps"))
    if known.get("data") is None:
        raise TypeError(f"validation has no 'data' to evaluate on; it has {', '.join(known)}")
    require_counts(
        **{f"validation {name}": known.get(name) for name in ("batch_size", "every_steps")}
    )
    samples = samples_of(known["data"], batch_size=known.get("batch_size"), what="validation")
    if isinstance(samples, Streamed):
        raise TypeError("validation data can't be a stream, which can be gone over once only")
    batch_size = known.get("batch_size") or 0
    if samples.batching is not None and not batch_size:
        batch_size = samples.batching.batch_size
    return _Evaluation(samples, batch_size, known.get("every_steps") or 0)


def _begin(
    session: Session,
    request: runs_pb2.TrainRequest,
    *,
    on_end: Callable[[], None],
    loggers: Sequence[Logger],
) -> Run:
    """Begins a run and returns it as soon as it trains."""
    stub = runs_pb2_grpc.RunServiceStub(session.channel)
    delays = retry_delays(time.monotonic() + session.server.timeout_seconds)
    while True:
        events = []
        stream = session.stream(stub.Train, request)
        try:
            for response in stream:
                events.append(response.event)
                if response.event.HasField("started"):
                    break
        except ServerUnavailableError:
            # The same request, by its id, is not carried out twice.
            delay = next(delays, None)
            if delay is None or session.is_lost:
                raise
            time.sleep(delay)
            continue
        held = stream if request.cancel_on_disconnect else None
        if held is None:
            stream.close()
        history = History()
        history.name = events[0].created.name
        run = Run(
            session.server.again(),
            history,
            session=session,
            held=held,
            on_end=on_end,
            loggers=loggers,
        )
        for event in events:
            run.take(event)
        return run


def _cases(
    samples: Samples,
    evaluation: _Evaluation | None,
    batch_size: int | None,
    *,
    drop_last: bool,
    has_metrics: bool,
) -> list[Case]:
    """Returns a batch for each size that batches have, in each mode."""
    cases = [
        _case(samples, size, training=True)
        for size in _batch_sizes(samples.num_samples, batch_size, drop_last=drop_last)
    ]
    if evaluation is not None:
        samples = evaluation.samples
        batch_size = evaluation.batch_size or batch_size
    elif not has_metrics:
        return cases
    return cases + [
        _case(samples, size, training=False)
        for size in _batch_sizes(samples.num_samples, batch_size, drop_last=False)
    ]


def _case(samples: Samples, size: int | None, *, training: bool) -> Case:
    inputs, targets = samples.example(size)
    return Case(inputs=inputs, targets=targets, training=training)


def _batch_sizes(
    num_samples: int | None, batch_size: int | None, *, drop_last: bool
) -> Sequence[int | None]:
    """Returns the size of a batch, and that of the last one if it is another."""
    if num_samples is None:
        return [None]
    size = num_samples if batch_size is None else min(batch_size, num_samples)
    rest = num_samples % size
    return [size] if drop_last or not rest else [size, rest]
