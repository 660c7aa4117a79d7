"""The options of `train` as messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradwire.optim.schedulers import LRScheduler
from gradwire.session import Session
from gradwire.v1 import runs_pb2

_PRECISIONS = {
    "float32": runs_pb2.PRECISION_UNSPECIFIED,
    "bfloat16": runs_pb2.PRECISION_BFLOAT16,
    "bf16": runs_pb2.PRECISION_BFLOAT16,
    "float16": runs_pb2.PRECISION_FLOAT16,
    "fp16": runs_pb2.PRECISION_FLOAT16,
}
_ON_NON_FINITE = {
    "raise": runs_pb2.ON_NON_FINITE_RAISE,
    "stop": runs_pb2.ON_NON_FINITE_STOP,
    "skip": runs_pb2.ON_NON_FINITE_SKIP,
}
_DIRECTIONS = {
    None: runs_pb2.DIRECTION_UNSPECIFIED,
    "min": runs_pb2.DIRECTION_MIN,
    "max": runs_pb2.DIRECTION_MAX,
}
_INTERVALS = {
    None: runs_pb2.SCHEDULER_INTERVAL_UNSPECIFIED,
    "step": runs_pb2.SCHEDULER_INTERVAL_STEP,
    "epoch": runs_pb2.SCHEDULER_INTERVAL_EPOCH,
}

Options = Mapping[str, Any]


def require_counts(**counts: int | None) -> None:
    """Raises if a number that is given is not at least 1."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count!r}, but must be at least 1")


def require_loss(loss: Any) -> None:
    """Raises if a loss can't be called."""
    if not callable(loss):
        raise TypeError(
            f"loss is {loss!r}, but must be a module such as gradwire.nn.CrossEntropyLoss(), or a "
            "function of outputs and targets"
        )


def precision_of(precision: str) -> Any:
    """Returns a precision as the contract has it."""
    name = str(precision).removeprefix("torch.")
    return _choice("precision", name, _PRECISIONS)


def on_nonfinite_of(choice: str) -> Any:
    """Returns what to do about values that are not finite, as the contract has it."""
    return _choice("on_nonfinite", choice, _ON_NON_FINITE)


def set_scheduler(
    request: runs_pb2.TrainRequest,
    session: Session,
    scheduler: LRScheduler | tuple[LRScheduler, str] | Options | None,
) -> LRScheduler | None:
    """Sets the scheduler of a request; returns it."""
    if scheduler is None:
        return None
    if isinstance(scheduler, tuple):
        options: Options = {"scheduler": scheduler[0], "interval": scheduler[1]}
    elif isinstance(scheduler, Mapping):
        options = scheduler
    else:
        options = {"scheduler": scheduler}
    known = take_options("scheduler", options, ("scheduler", "interval", "monitor"))
    if not isinstance(known.get("scheduler"), LRScheduler):
        raise TypeError(
            f"scheduler is {known.get('scheduler')!r}, but must be one of "
            "gradwire.optim.lr_scheduler"
        )
    request.scheduler.CopyFrom(
        runs_pb2.Scheduler(
            handle=session.handle(known["scheduler"]),
            interval=_choice("interval", known.get("interval"), _INTERVALS),
            monitor=known.get("monitor") or "",
        )
    )
    chosen: LRScheduler = known["scheduler"]
    return chosen


def set_early_stopping(
    request: runs_pb2.TrainRequest, early_stopping: int | Options | None
) -> None:
    """Sets what ends a run before its time."""
    if early_stopping is None:
        return
    options = (
        early_stopping if isinstance(early_stopping, Mapping) else {"patience": early_stopping}
    )
    names = ("patience", "monitor", "min_delta", "mode", "restore_best")
    known = take_options("early_stopping", options, names)
    request.early_stopping.CopyFrom(
        runs_pb2.EarlyStopping(
            patience=known.get("patience", 1),
            monitor=known.get("monitor") or "",
            min_delta=known.get("min_delta") or 0.0,
            direction=_choice("mode", known.get("mode"), _DIRECTIONS),
            restore_best=bool(known.get("restore_best")),
        )
    )


def set_checkpoint(request: runs_pb2.TrainRequest, checkpoint: bool | Options | None) -> None:
    """Sets when checkpoints are written and which are kept."""
    if checkpoint is None or checkpoint is True:
        return
    if checkpoint is False:
        request.checkpoint.disabled = True
        return
    names = ("every_steps", "every_minutes", "keep_last", "best", "mode", "ttl_hours")
    known = take_options("checkpoint", checkpoint, names)
    best = known.get("best")
    request.checkpoint.CopyFrom(
        runs_pb2.CheckpointPolicy(
            every_steps=known.get("every_steps") or 0,
            every_seconds=60.0 * (known.get("every_minutes") or 0.0),
            keep_last=known.get("keep_last") or 0,
            ttl_seconds=3600.0 * (known.get("ttl_hours") or 0.0),
            keep_best=bool(best),
            monitor=best if isinstance(best, str) else "",
            direction=_choice("mode", known.get("mode"), _DIRECTIONS),
        )
    )


def named_metrics(metrics: Any) -> dict[str, Any]:
    """Returns metrics by the names under which they are reported.

    Args:
        metrics: See :func:`gradwire.train`.

    Returns:
        Functions, and pairs of a name of torchmetrics and its arguments.

    Raises:
        TypeError: Something in it is no metric.
        ValueError: Two have the same name.
    """
    if isinstance(metrics, str) or callable(metrics) or _is_pair(metrics):
        metrics = [metrics]
    if isinstance(metrics, Mapping):
        return {str(name): _metric(metric) for name, metric in metrics.items()}
    named: dict[str, Any] = {}
    for metric in metrics or ():
        chosen = _metric(metric)
        name = chosen.__name__ if callable(chosen) else chosen[0]
        if name in named:
            raise ValueError(
                f"there are two metrics named {name!r}; give them in a dictionary by names of "
                "their own"
            )
        named[name] = chosen
    return named


def take_options(what: str, options: Options, names: Sequence[str]) -> Options:
    """Returns options, all of which are known.

    Raises:
        TypeError: They are no dictionary, or one is not known.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"{what} is {options!r}, but must be a dictionary with {', '.join(names)}")
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise TypeError(
            f"{what} has no option {', '.join(map(repr, unknown))}; it has {', '.join(names)}"
        )
    return options


def _metric(metric: Any) -> Any:
    if isinstance(metric, str):
        return (metric, {})
    if _is_pair(metric) or callable(metric):
        return metric
    raise TypeError(
        f"{metric!r} is no metric: give the name of one of torchmetrics, a pair of such a name and "
        "a dictionary of arguments, or a function of outputs and targets"
    )


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], Mapping)
    )


def _choice(what: str, choice: Any, choices: Mapping[Any, Any]) -> Any:
    try:
        return choices[choice]
    except (KeyError, TypeError):
        known = ", ".join(repr(name) for name in choices if name is not None)
        raise ValueError(f"{what} is {choice!r}, but must be one of {known}") from None
