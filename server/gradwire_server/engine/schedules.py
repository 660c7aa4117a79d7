"""How the learning rate of a run changes."""

from typing import Any

import torch

from gradwire.v1 import catalog, runs_pb2
from gradwire_server.engine.callbacks import Callback
from gradwire_server.engine.failures import operation
from gradwire_server.engine.recipe import Monitor, Watched, one_of
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import invalid

Scheduler = torch.optim.lr_scheduler.LRScheduler


@register
class Schedule:
    """A scheduler, and when it steps.

    Args:
        scheduler: The scheduler.
        per_step: Whether it steps after each optimizer step, and not after each epoch.
        monitor: What it watches, if it does.

    Attributes:
        per_step: As given.
    """

    def __init__(self, scheduler: Scheduler, *, per_step: bool, monitor: Monitor) -> None:
        self._scheduler = scheduler
        self.per_step = per_step
        self._monitor = monitor

    def step(self, watched: Watched) -> None:
        """Lets the scheduler go on."""
        with operation("torch.optim.lr_scheduler.LRScheduler.step"):
            if isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                self._scheduler.step(watched(self._monitor.name))
            else:
                self._scheduler.step()


def build_schedule(
    session: Session,
    request: runs_pb2.TrainRequest,
    optimizer: torch.optim.Optimizer,
    monitor: Monitor,
) -> Schedule | None:
    """Returns the schedule of a request, if it has one.

    Args:
        session: Whose handles and catalog it refers to.
        request: The request.
        optimizer: The optimizer of the run.
        monitor: What the scheduler watches, if it does.

    Raises:
        GradwireError: The scheduler is none that a run can step.
    """
    if not request.HasField("scheduler"):
        return None
    spec = request.scheduler
    if spec.handle:
        scheduler = session.value(spec.handle, "scheduler.handle")
        if not isinstance(scheduler, Scheduler):
            raise invalid("scheduler.handle", f"handle {spec.handle} is not a scheduler")
    else:
        construct = session.registry.constructor(spec.type, "scheduler.type", catalog.SCHEDULERS)
        kwargs = session.decode_map(spec.kwargs, "scheduler.kwargs")
        with operation(spec.type):
            scheduler = construct(optimizer, **kwargs)
    if _calls_back(scheduler):
        raise invalid(
            "scheduler",
            f"{type(scheduler).__name__} calls a function of the program, which a run goes on "
            "without; take one that needs none, such as CosineAnnealingLR or SequentialLR, or "
            "step it in a loop of your own",
        )
    if scheduler.optimizer is not optimizer:
        raise invalid("scheduler", "changes the learning rate of another optimizer")
    one_of(spec.interval, runs_pb2.SchedulerInterval, "scheduler.interval")
    per_step = spec.interval == runs_pb2.SCHEDULER_INTERVAL_STEP
    if not spec.interval:
        by_step = torch.optim.lr_scheduler.OneCycleLR | torch.optim.lr_scheduler.CyclicLR
        per_step = isinstance(scheduler, by_step) or not request.epochs
    return Schedule(scheduler, per_step=per_step, monitor=monitor)


def _calls_back(scheduler: Any) -> bool:
    """Whether a scheduler, or one that it consists of, calls a function of the client."""
    held = [
        value
        for values in vars(scheduler).values()
        for value in (values if isinstance(values, list) else [values])
    ]
    return any(
        isinstance(value, Callback) or (isinstance(value, Scheduler) and _calls_back(value))
        for value in held
    )
