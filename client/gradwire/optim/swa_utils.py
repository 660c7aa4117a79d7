"""``torch.optim.swa_utils``: averages of a model's parameters over the steps of its training."""

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from gradwire.creation import tensor
from gradwire.grad_mode import no_grad
from gradwire.nn.module import Module
from gradwire.objects import restorable
from gradwire.optim.optimizer import Optimizer
from gradwire.optim.schedulers import BuiltinScheduler
from gradwire.tensors import Tensor
from gradwire.types import DTYPES

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]


class SWALR(BuiltinScheduler):
    """Moves the learning rates of all groups to those that averaging wants, and keeps them there.

    Args:
        optimizer: The optimizer.
        swa_lr: The rate to move to, or one for each group.
        anneal_epochs: In how many steps.
        anneal_strategy: Along which curve, ``cos`` or ``linear``.
        last_epoch: How many steps were taken before; -1 for none.
    """

    _catalog_name = "torch.optim.swa_utils.SWALR"

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, swa_lr, anneal_epochs, anneal_strategy, last_epoch)


@restorable
class _Averaging:
    """What `AveragedModel` takes for a function, and a checkpoint for data.

    Args:
        decay: How much of the average remains at each step, 0 to 1.
    """

    def __init__(self, decay: float = 0.0) -> None:
        if not 0.0 <= decay <= 1.0:
            raise ValueError(
                f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
            )
        self.decay = decay


class _EmaUpdate(_Averaging):
    @no_grad()
    def __call__(self, ema_param: Any, current_param: Any, _: Any) -> Any:
        return self.decay * ema_param + (1 - self.decay) * current_param


class _SwaUpdate(_Averaging):
    @no_grad()
    def __call__(self, averaged_param: Any, current_param: Any, num_averaged: Any) -> Any:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)


class _EmaMultiUpdate(_Averaging):
    @no_grad()
    def __call__(self, ema_param_list: Any, current_param_list: Any, _: Any) -> None:
        decay = self.decay
        for averaged, current in zip(ema_param_list, current_param_list, strict=True):
            if averaged.is_floating_point() or averaged.is_complex():
                averaged.lerp_(current, 1 - decay)
            else:
                averaged.copy_(averaged * decay + current * (1 - decay))


class _SwaMultiUpdate(_Averaging):
    @no_grad()
    def __call__(
        self, averaged_param_list: Any, current_param_list: Any, num_averaged: Any
    ) -> None:
        weight = float(1 / (num_averaged + 1))
        for averaged, current in zip(averaged_param_list, current_param_list, strict=True):
            if averaged.is_floating_point() or averaged.is_complex():
                averaged.lerp_(current, weight)
            else:
                averaged.add_(current - averaged, alpha=weight)


def get_ema_avg_fn(decay: float = 0.999) -> Callable[..., Any]:
    """Returns the function of an exponential moving average of one parameter.

    Args:
        decay: How much of the average remains at each step, 0 to 1.
    """
    return _EmaUpdate(decay)


def get_swa_avg_fn() -> Callable[..., Any]:
    """Returns the function of the mean over all steps of one parameter."""
    return _SwaUpdate()


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[..., Any]:
    """Returns the function of an exponential moving average of a list of parameters.

    Args:
        decay: How much of the average remains at each step, 0 to 1.
    """
    return _EmaMultiUpdate(decay)


def get_swa_multi_avg_fn() -> Callable[..., Any]:
    """Returns the function of the mean over all steps of a list of parameters."""
    return _SwaMultiUpdate()


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's.

    Args:
        model: The model.
        device: Where the copy is to be.
        avg_fn: Returns the new average of one parameter, from the average, the parameter and the
            number of steps averaged; the mean by default.
        multi_avg_fn: The same for lists of parameters, in place.
        use_buffers: Whether buffers are averaged, too, and not copied.

    Attributes:
        module: The copy.
        n_averaged: How many steps were averaged.
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[..., Any] | None = None,
        multi_avg_fn: Callable[..., Any] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        count = tensor(0, dtype=DTYPES["int64"], device=device)
        self.register_buffer("n_averaged", count)
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the copy."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Takes the model's present parameters into the averages."""
        averaged = [member.detach() for member in self._members(self.module)]
        current = [member.detach() for member in self._members(model)]
        count: Any = self.n_averaged
        if count == 0:
            for average, member in zip(averaged, current, strict=True):
                average.copy_(member)
        elif self.multi_avg_fn is not None:
            self.multi_avg_fn(averaged, current, count)
        else:
            average_of = self.avg_fn or get_swa_avg_fn()
            for average, member in zip(averaged, current, strict=True):
                average.copy_(average_of(average, member, count))
        if not self.use_buffers:
            for buffer, member in zip(self.module.buffers(), model.buffers(), strict=True):
                buffer.detach().copy_(member.detach())
        self.n_averaged += 1

    def _members(self, model: Module) -> Iterator[Tensor]:
        if self.use_buffers:
            return chain(model.parameters(), model.buffers())
        return model.parameters()


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Computes the running statistics of a model's batch norms anew, over all batches of a loader.

    Args:
        loader: Yields inputs of the model, or tuples or lists that begin with one.
        model: The model.
        device: Where the inputs are moved first.
    """
    norms = {
        module: module.momentum
        for module in model.modules()
        if type(module)._get_name(module).removeprefix("Lazy") in _BATCH_NORMS
    }
    if not norms:
        return
    was_training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for batch in loader:
        inputs = batch[0] if isinstance(batch, list | tuple) else batch
        model(inputs if device is None else inputs.to(device))
    for norm, momentum in norms.items():
        norm.momentum = momentum
    model.train(was_training)


_BATCH_NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})
