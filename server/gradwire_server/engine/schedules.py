"""How the learning rate of a run changes."""

import torch

from gradwire.v1 import catalog, runs_pb2
from gradwire_server.engine.factors import factors_of, put_back, put_tables
from gradwire_server.engine.failures import operation
from gradwire_server.engine.recipe import Monitor, Watched, one_of
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import invalid

Scheduler = torch.optim.lr_scheduler.LRScheduler
_BY_FACTORS = ("torch.optim.lr_scheduler.LambdaLR", "torch.optim.lr_scheduler.MultiplicativeLR")


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

    def release(self) -> None:
        """Lets the scheduler call the functions of the client again that tables stood for."""
        put_back(self._scheduler)

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
        if spec.type in _BY_FACTORS and "lr_lambda" in kwargs:
            kwargs["lr_lambda"] = factors_of(kwargs["lr_lambda"], "scheduler.kwargs['lr_lambda']")
        with operation(spec.type):
            scheduler = construct(optimizer, **kwargs)
    if scheduler.optimizer is not optimizer:
        raise invalid("scheduler", "changes the learning rate of another optimizer")
    put_tables(scheduler, spec.tables)
    one_of(spec.interval, runs_pb2.SchedulerInterval, "scheduler.interval")
    per_step = spec.interval == runs_pb2.SCHEDULER_INTERVAL_STEP
    if not spec.interval:
        by_step = torch.optim.lr_scheduler.OneCycleLR | torch.optim.lr_scheduler.CyclicLR
        per_step = isinstance(scheduler, by_step) or not request.epochs
    return Schedule(scheduler, per_step=per_step, monitor=monitor)
