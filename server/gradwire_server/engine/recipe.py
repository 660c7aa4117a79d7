"""How a run trains, taken from its request and checked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.batches import Batches
from gradwire_server.engine.metrics import LESS_IS_BETTER
from gradwire_server.engine.optimizers import needs_closure
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.steps import require_clip_norm
from gradwire_server.engine.streams import StreamBatches
from gradwire_server.errors import invalid

DEFAULT_CHECKPOINT_SECONDS = 60.0
DEFAULT_KEEP_LAST = 2

Watched = Callable[[str], float]
"""Returns the latest value of a name that can be monitored."""


@register
@dataclass(frozen=True, kw_only=True)
class Monitor:
    """A value to watch: its name, and which way is better."""

    name: str
    sign: float
    """-1 if less is better, 1 if more is."""

    def score(self, watched: Watched) -> float:
        """Returns a number that is larger for better values; NaN is worse than anything."""
        score = self.sign * watched(self.name)
        return -math.inf if math.isnan(score) else score


@register
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Numbers and choices of a run; the fields are those of `TrainRequest`."""

    num_epochs: int
    num_steps: int
    accumulate: int
    clip_grad_norm: float | None
    clip_grad_value: float | None
    precision: int
    on_nonfinite: int
    validate_every_steps: int
    scheduler_monitor: Monitor
    stop_monitor: Monitor | None
    patience: int
    min_delta: float
    restore_best: bool
    keeps_checkpoints: bool
    checkpoint_every_steps: int
    checkpoint_every_seconds: float
    keep_last: int
    checkpoint_ttl_seconds: float
    best_monitor: Monitor | None
    exact: bool


def read_recipe(
    request: runs_pb2.TrainRequest, batches: Batches | StreamBatches, monitored: Sequence[str]
) -> Recipe:
    """Returns the recipe of a request.

    Args:
        request: The request.
        batches: Its training data.
        monitored: The names of the values that evaluations give.

    Raises:
        GradwireError: It makes no sense.
    """
    accumulate = _at_least(request.accumulate, "accumulate", 0) or 1
    steps_per_epoch = -(-batches.num_batches // accumulate)
    num_epochs, num_steps = _length(request, steps_per_epoch)
    stopping, policy = request.early_stopping, request.checkpoint
    stops = request.HasField("early_stopping")
    if stops:
        _at_least(stopping.patience, "early_stopping.patience", 1)
        _not_negative(stopping.min_delta, "early_stopping.min_delta")
    _at_least(policy.every_steps, "checkpoint.every_steps", 0)
    _at_least(policy.keep_last, "checkpoint.keep_last", 0)
    every_seconds = _not_negative(policy.every_seconds, "checkpoint.every_seconds")
    if not (every_seconds or policy.every_steps):
        every_seconds = DEFAULT_CHECKPOINT_SECONDS
    clip_value = None
    if request.HasField("clip_grad_value"):
        clip_value = request.clip_grad_value
        if not (clip_value > 0 and math.isfinite(clip_value)):
            raise invalid("clip_grad_value", f"{clip_value} is not a positive number")
    return Recipe(
        num_epochs=num_epochs,
        num_steps=num_steps,
        accumulate=accumulate,
        clip_grad_norm=require_clip_norm(request.clip_grad_norm)
        if request.HasField("clip_grad_norm")
        else None,
        clip_grad_value=clip_value,
        precision=one_of(request.precision, runs_pb2.Precision, "precision"),
        on_nonfinite=one_of(request.on_nonfinite, runs_pb2.OnNonFinite, "on_nonfinite")
        or runs_pb2.ON_NON_FINITE_RAISE,
        validate_every_steps=_at_least(request.validation.every_steps, "validation.every_steps", 0),
        scheduler_monitor=_monitor(request.scheduler.monitor, 0, monitored, "scheduler.monitor"),
        stop_monitor=_monitor(
            stopping.monitor, stopping.direction, monitored, "early_stopping.monitor"
        )
        if stops
        else None,
        patience=stopping.patience,
        min_delta=stopping.min_delta,
        restore_best=stopping.restore_best,
        keeps_checkpoints=not policy.disabled,
        checkpoint_every_steps=policy.every_steps,
        checkpoint_every_seconds=every_seconds,
        keep_last=policy.keep_last or DEFAULT_KEEP_LAST,
        checkpoint_ttl_seconds=_not_negative(policy.ttl_seconds, "checkpoint.ttl_seconds"),
        best_monitor=_monitor(policy.monitor, policy.direction, monitored, "checkpoint.monitor")
        if policy.keep_best
        else None,
        exact=request.exact,
    )


def require_possible(recipe: Recipe, optimizer: torch.optim.Optimizer) -> None:
    """Raises if the optimizer can't do what the recipe asks for."""
    if needs_closure(optimizer) and (
        recipe.accumulate > 1 or recipe.precision == runs_pb2.PRECISION_FLOAT16
    ):
        raise invalid(
            "accumulate" if recipe.accumulate > 1 else "precision",
            f"{type(optimizer).__name__} evaluates the model in its steps, which goes neither "
            "with accumulation nor with float16",
        )


def _length(request: runs_pb2.TrainRequest, steps_per_epoch: int) -> tuple[int, int]:
    """Returns how many epochs and steps a run has."""
    if not (request.epochs or request.steps):
        raise invalid("epochs", f"{request.epochs} is not at least 1, and there is no steps either")
    for path, value in (("epochs", request.epochs), ("steps", request.steps)):
        if value:
            _at_least(value, path, 1)
    num_steps = request.epochs * steps_per_epoch or request.steps
    if request.steps:
        num_steps = min(num_steps, request.steps)
    return -(-num_steps // steps_per_epoch), num_steps


def _monitor(name: str, direction: int, monitored: Sequence[str], path: str) -> Monitor:
    chosen = name or monitored[-1]
    if chosen not in monitored:
        raise invalid(path, f"{name!r} is none of the values there are: {', '.join(monitored)}")
    less = direction == runs_pb2.DIRECTION_MIN or (
        not direction and any(word in chosen.lower() for word in LESS_IS_BETTER)
    )
    return Monitor(name=chosen, sign=-1.0 if less else 1.0)


def _at_least(value: int, path: str, least: int) -> int:
    if value < least:
        raise invalid(path, f"{value} is not at least {least}")
    return value


def _not_negative(value: float, path: str) -> float:
    if not (value >= 0 and math.isfinite(value)):
        raise invalid(path, f"{value} is not a number of at least 0")
    return value


def one_of(value: int, kind: Any, path: str) -> int:
    """Returns a value of an enumeration; raises if it is none."""
    if value not in kind.values():
        raise invalid(path, f"{value} is none of {', '.join(kind.keys())}")
    return value
