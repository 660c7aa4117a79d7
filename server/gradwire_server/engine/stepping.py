"""Batches into steps: what a run does with each batch."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine import hot
from gradwire_server.engine.averages import MovingAverage, build_average
from gradwire_server.engine.compiling import Compiling, Step
from gradwire_server.engine.diagnosis import not_finite
from gradwire_server.engine.failures import operation
from gradwire_server.engine.losses import Loss, build_loss, run_loss, spread
from gradwire_server.engine.models import Model
from gradwire_server.engine.optimizers import needs_closure
from gradwire_server.engine.recipe import Recipe
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.streams import UNKNOWN_BATCHES

_AUTOCAST: dict[int, torch.dtype] = {
    runs_pb2.PRECISION_BFLOAT16: torch.bfloat16,
    runs_pb2.PRECISION_FLOAT16: torch.float16,
}


class _NotFiniteError(Exception):
    """The first evaluation of a step gave something that is not finite."""


class Taken(NamedTuple):
    """A step that was taken.

    Attributes:
        loss: The mean loss of its batches.
        learning_rate: The learning rate of the first parameter group.
        num_samples: The samples of its batches.
    """

    loss: float
    learning_rate: float
    num_samples: int


@register
class Stepper:
    """Takes batches into steps of an optimizer, as a recipe says.

    Args:
        session: The session.
        request: Describes the loss and the moving average.
        recipe: The recipe.
        model: The model that is trained.
        optimizer: What steps it.

    Attributes:
        average: The moving average of the weights, if one is kept.
        loss: The loss.
        grad_norm: The norm of the gradients in the last step, before clipping.
        bad: What was not finite in the last step, which was not taken then.
        bad_data: Which parts of its batch held NaN or infinity.
    """

    def __init__(
        self,
        session: Session,
        request: runs_pb2.TrainRequest,
        recipe: Recipe,
        model: Model,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._recipe = recipe
        self._model = model
        self._optimizer = optimizer
        self.loss: Loss = build_loss(session, request.loss, "loss")
        self._scaler: torch.amp.GradScaler | None = None
        if recipe.precision == runs_pb2.PRECISION_FLOAT16:
            self._scaler = torch.amp.GradScaler(session.device.type)
        self.average: MovingAverage | None = build_average(session, request, model.module)
        self.grad_norm: float | torch.Tensor = 0.0
        self.bad: list[str] = []
        self.bad_data: list[str] = []
        self._losses: list[float] = []
        self._num_samples = 0
        self._parameters: Sequence[torch.nn.Parameter] = ()
        self._fast: Step | None = None
        self._replayed: Step | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_parameters": (), "_fast": None, "_replayed": None}

    def begin(self, session: Session) -> None:
        """Begins to take steps, or goes on after a rest or from a checkpoint."""
        self.begin_epoch()
        if not self._recipe.exact:
            self._fast = self._step_by(session.compiling, session)
        self._replayed = self._step_by(session.replaying, session)

    def begin_epoch(self) -> None:
        """Looks which parameters the model has now."""
        self._parameters = tuple(self._model.module.parameters())

    def take(
        self,
        session: Session,
        inputs: Sequence[torch.Tensor],
        targets: Sequence[torch.Tensor],
        *,
        ends_epoch: bool,
    ) -> Taken | None:
        """Takes in a batch; returns the step, if that completed one.

        Raises:
            GradwireError: The model, the loss or the optimizer failed.
        """
        rate = float(self._optimizer.param_groups[0]["lr"])
        self._num_samples += inputs[0].shape[0]
        with operation("Train"):
            stepped = self._take(session, inputs, targets, ends_epoch)
        if not math.isfinite(self._losses[-1]):
            self.bad_data = not_finite(inputs, targets)
        if not stepped:
            return None
        loss = sum(self._losses) / len(self._losses)
        if not math.isfinite(loss) and not self.bad:
            self.bad = ["the loss"]
        taken = Taken(loss, rate, self._num_samples)
        self._losses, self._num_samples = [], 0
        return taken

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns a block in which the model runs in the precision of the recipe."""
        element = _AUTOCAST.get(self._recipe.precision)
        if element is None:
            return nullcontext()
        device = next(self._model.module.parameters(), torch.empty(0)).device.type
        return torch.autocast(device, dtype=element)

    def _take(
        self,
        session: Session,
        inputs: Sequence[torch.Tensor],
        targets: Sequence[torch.Tensor],
        ends_epoch: bool,
    ) -> bool:
        """Takes a batch into the step; returns whether that completed it."""
        taken = None
        if self._fast is not None:
            taken = self._fast.take(
                [*inputs, *targets],
                session.version,
                lambda: self._plain_step(inputs, targets),
            )
        if taken is not None:
            loss_taken, self.grad_norm, _ = taken
            self._losses.append(loss_taken.item())
            self._end_step()
        elif needs_closure(self._optimizer):
            self._losses.append(self._closure_step(inputs, targets))
        elif self._replayed is not None:
            found = self._replayed.take(
                [*inputs, *targets],
                session.version,
                lambda: self._gradients(inputs, targets),
            )
            loss, norm = self._gradients(inputs, targets) if found is None else found
            self._losses.append(loss.item())
            self._step(norm)
        else:
            if not self._losses:
                hot.zero_grad(self._optimizer)
            self._losses.append(self._backward(inputs, targets).item())
            if len(self._losses) < self._recipe.accumulate and not ends_epoch:
                return False
            self._step()
        return True

    def _backward(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Adds the gradients of a batch; returns its loss."""
        with self.autocast():
            loss = run_loss(self.loss, spread(self._model.module(*inputs)), targets)
        share = loss / self._recipe.accumulate if self._recipe.accumulate > 1 else loss
        hot.backward(share if self._scaler is None else self._scaler.scale(share))
        return loss.detach()

    def _gradients(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """Computes the gradients of a batch; returns its loss and their norm."""
        hot.zero_grad(self._optimizer)
        loss = self._backward(inputs, targets)
        return loss, total_norm([p.grad for p in self._parameters])

    def _step(self, norm: torch.Tensor | None = None) -> None:
        """Lets the optimizer take a step, unless a loss or a gradient is not finite.

        Args:
            norm: The norm of the gradients, if it is known.
        """
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        self._note_and_clip(norm)
        finite = all(math.isfinite(loss) for loss in self._losses)
        if not finite or (self._scaler is None and not math.isfinite(self.grad_norm)):
            self.bad = self._bad_parameters()
            if self._scaler is not None:
                # It was told of the gradients, and has to be told of the end of the step.
                self._scaler.update()
            return
        if self._scaler is None:
            hot.step(self._optimizer)
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._end_step()

    def _end_step(self) -> None:
        """Does what follows each step of the optimizer."""
        if self.average is not None:
            self.average.update(self._model.module)

    def _step_by(self, maker: Compiling | None, session: Session) -> Step | None:
        """Returns what takes steps by what makes them fast; None if torch takes them all."""
        if (
            maker is None
            or self._recipe.accumulate > 1
            or self._scaler is not None
            or needs_closure(self._optimizer)
        ):
            return None
        modules = [self._model.module]
        if isinstance(self.loss, torch.nn.Module):
            modules.append(self.loss)
        num_steps = self._recipe.num_steps
        return maker.loop(
            modules,
            self._optimizer,
            session.device,
            num_steps=num_steps if num_steps < UNKNOWN_BATCHES else 0,
        )

    def _plain_step(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """Takes a step whatever the numbers are, and waits for none of them.

        Returns:
            The loss, the norm of the gradients, and whether both are finite.
        """
        hot.zero_grad(self._optimizer)
        loss = self._backward(inputs, targets)
        parameters = [p for p in self._parameters if p.grad is not None]
        norm = total_norm([p.grad for p in parameters])
        self._clip(parameters)
        hot.step(self._optimizer)
        return loss, norm, loss.isfinite() & norm.isfinite()

    def _closure_step(
        self, inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]
    ) -> float:
        """Lets an optimizer that evaluates the model take a step; returns the first loss.

        If that or its gradients are not finite, no step is taken. If an evaluation on the way
        leads the parameters to where they are not finite, they go back to where they were, and the
        optimizer begins anew, without what it knew of the steps before.
        """
        losses: list[float] = []
        before = [parameter.detach().clone() for parameter in self._parameters]

        def evaluate() -> torch.Tensor:
            self._optimizer.zero_grad()
            loss = self._backward(inputs, targets)
            self._note_and_clip()
            losses.append(float(loss))
            if len(losses) == 1 and not (
                math.isfinite(losses[0]) and math.isfinite(self.grad_norm)
            ):
                raise _NotFiniteError
            return loss

        try:
            self._optimizer.step(evaluate)  # type: ignore[arg-type]
        except _NotFiniteError:
            self.bad = self._bad_parameters()
            return losses[0]
        if all(bool(parameter.isfinite().all()) for parameter in self._parameters):
            self._end_step()
            return losses[0]
        self.bad = self._bad_parameters()
        with torch.no_grad():
            for parameter, value in zip(self._parameters, before, strict=True):
                parameter.copy_(value)
        self._optimizer.state.clear()
        return losses[0]

    def _note_and_clip(self, norm: torch.Tensor | None = None) -> None:
        """Notes the norm of the gradients, and clips them as the recipe says."""
        parameters = [p for p in self._parameters if p.grad is not None]
        self.grad_norm = float(total_norm([p.grad for p in parameters]) if norm is None else norm)
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
            for name, parameter in self._model.module.named_parameters()
            if not parameter.isfinite().all()
            or (parameter.grad is not None and not _is_finite(parameter.grad))
        ]
        return bad or ["the loss"]


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
