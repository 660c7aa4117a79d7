"""Functions of the script in schedules, as tables: a run steps its schedule without the script."""

from collections.abc import Callable, Mapping
from typing import Any

from gradwire.optim.schedulers import BuiltinScheduler, LRScheduler
from gradwire.session import Session
from gradwire.v1 import runs_pb2

MAX_FACTORS = 4_000_000
"""How long a table may be; a message has no room for more."""
_STEP_BY_STEP = ("LambdaLR", "MultiplicativeLR")
"""Schedulers that call their functions with the number of each step, and nothing else."""


def count_scheduler_steps(
    request: runs_pb2.TrainRequest, scheduler: LRScheduler, steps_per_epoch: int | None
) -> int | None:
    """Returns how often a run steps its scheduler at most; None if nobody knows.

    Args:
        request: The request for the run.
        scheduler: The scheduler.
        steps_per_epoch: How many steps an epoch has, if that is known.
    """
    interval = request.scheduler.interval
    by_step = type(scheduler).__name__ in ("OneCycleLR", "CyclicLR") or not request.epochs
    num_steps = request.steps or None
    num_epochs = request.epochs or None
    if steps_per_epoch is not None:
        if num_epochs is not None:
            num_steps = min(num_steps or num_epochs * steps_per_epoch, num_epochs * steps_per_epoch)
        if num_steps is not None:
            num_epochs = -(-num_steps // steps_per_epoch)
    if interval == runs_pb2.SCHEDULER_INTERVAL_STEP or (not interval and by_step):
        return num_steps
    return num_epochs or num_steps


def tables_of(
    session: Session, scheduler: LRScheduler, num_steps: int | None
) -> list[runs_pb2.FactorTable]:
    """Returns what the functions of a scheduler return in the steps to come.

    Args:
        session: The session.
        scheduler: The scheduler.
        num_steps: How many steps it will take at most; None if nobody knows.

    Raises:
        ValueError: Nobody knows, or it will take too many.
        Exception: What a function raises for a number that it will be called with.
    """
    functions = isinstance(scheduler, BuiltinScheduler) and scheduler.__gradwire_functions__()
    if not functions:
        return []
    name = type(scheduler).__name__
    if num_steps is None:
        raise ValueError(
            f"the scheduler {name} calls a function of this program, whose results the run has to "
            "know before it begins, and how many steps it has isn't known; give steps=..., let it "
            "step by epochs with scheduler=(scheduler, 'epoch'), or take one that calls no "
            "function, such as CosineAnnealingLR"
        )
    first = 1 + _last_epoch(scheduler.state_dict())
    if first + num_steps > MAX_FACTORS:
        raise ValueError(
            f"the scheduler {name} calls a function of this program for each of {num_steps} steps, "
            f"but no more than {MAX_FACTORS} results can be sent; let it step by epochs with "
            "scheduler=(scheduler, 'epoch'), or take one that calls no function"
        )
    # Only of these is it certain which numbers will come.
    certain = range(first, first + num_steps) if name in _STEP_BY_STEP else range(0)
    return [
        _table(number, session.callbacks.get(number), first + num_steps, certain)
        for number in functions
    ]


def _table(
    number: int, function: Callable[[int], Any], count: int, certain: range
) -> runs_pb2.FactorTable:
    table = runs_pb2.FactorTable(callback=number)
    for step in range(count):
        try:
            factor = _number(function(step), step)
        except Exception as error:
            if step in certain:
                raise
            factor = 0.0
            table.failures[step] = f"{type(error).__name__} for {step}: {error}"
        table.factors.append(factor)
    return table


def _number(factor: Any, step: int) -> float:
    if isinstance(factor, str):
        raise TypeError(f"the function of a scheduler returned {factor!r} for {step}, not a number")
    try:
        return float(factor)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the function of a scheduler returned {factor!r} for {step}, not a number"
        ) from error


def _last_epoch(state: Mapping[str, Any]) -> int:
    """Returns the number of the last step of a scheduler, or of one that it consists of."""
    inner = map(_last_epoch, state.get("_schedulers", ()))
    return max([int(state.get("last_epoch", 0)), *inner])
