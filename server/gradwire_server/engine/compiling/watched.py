"""What a step works on beside its inputs, and how it was before the step."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch

from gradwire_server.engine import guards
from gradwire_server.engine.compiling.graph import UnrecordableError
from gradwire_server.engine.compiling.recording import Recording
from gradwire_server.engine.random_state import RandomState

_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


class Watched:
    """What a step changes and depends on, beside its inputs. It is not kept alive by this.

    Args:
        modules: The modules that it calls.
        optimizers: The optimizers that it lets step.
        tensors: Other tensors that are always the same ones.
        steps: Whether it lets the optimizers step, so that their options and state matter.
        on_gone: Called when nobody else holds one of them any more.
    """

    def __init__(
        self,
        modules: Iterable[torch.nn.Module],
        optimizers: Iterable[torch.optim.Optimizer],
        tensors: Iterable[torch.Tensor] = (),
        *,
        steps: bool = True,
        on_gone: Callable[[], None],
    ) -> None:
        def gone(_: Any) -> None:
            on_gone()

        self._steps = steps
        self._modules = [weakref.ref(module, gone) for module in modules]
        self._optimizers = [weakref.ref(optimizer, gone) for optimizer in optimizers]
        self._tensors = [weakref.ref(tensor, gone) for tensor in tensors]

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules."""
        return [module for ref in self._modules if (module := ref()) is not None]

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers."""
        return [optimizer for ref in self._optimizers if (optimizer := ref()) is not None]

    def parameters(self) -> list[torch.Tensor]:
        """Returns what may get a gradient."""
        found = chain(*(m.parameters() for m in self.modules), self._stepped(), self._others())
        return [tensor for tensor in _each_once(found) if tensor.is_leaf and tensor.requires_grad]

    def tensors(self) -> list[torch.Tensor]:
        """Returns all tensors: parameters, buffers, and the state of optimizers that step."""
        found = chain(
            *(chain(module.parameters(), module.buffers()) for module in self.modules),
            self._stepped(),
            *(_tensors_in(state) for state in self._states()),
            self._others(),
        )
        return _each_once(found)

    def fingerprint(self) -> tuple[Any, ...]:
        """Returns what a compiled step takes for granted; if it is equal, it still holds.

        Raises:
            UnrecordableError: There are hooks, which are more than tensors.
        """
        parts: list[Any] = []
        for module in chain(*(module.modules() for module in self.modules)):
            if any(hook.__module__ != guards.__name__ for hook in _hooks(module)):
                raise UnrecordableError(f"a {type(module).__name__} has hooks")
            parts.append((id(module), *_plain(vars(module))))
        for optimizer in self.optimizers if self._steps else ():
            if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
                raise UnrecordableError(f"the {type(optimizer).__name__} has hooks")
            parts.extend(_plain(group, without=("lr",)) for group in optimizer.param_groups)
        parts.extend(_plain(state) for state in self._states())
        for tensor in self.tensors():
            if tensor._backward_hooks:
                raise UnrecordableError("a parameter has hooks")
            parts.append((id(tensor), tensor.data_ptr(), tensor.shape, tensor.requires_grad))
        return tuple(parts)

    def _stepped(self) -> Iterator[torch.Tensor]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def _states(self) -> Iterator[dict[str, Any]]:
        for optimizer in self.optimizers if self._steps else ():
            yield from optimizer.state.values()

    def _others(self) -> Iterator[torch.Tensor]:
        for ref in self._tensors:
            tensor = ref()
            if tensor is not None:
                yield tensor


class Snapshot:
    """What a step may change, as it is before the step.

    Args:
        tensors: The tensors that it may change.
        parameters: The tensors whose gradients it may change.
        device: Whose random numbers it may draw.

    Attributes:
        copies: A copy of each tensor, by the tensor's identity.
        gradients: Each parameter with its gradient.
        random_state: The state of the random numbers.
        recording: What writes down the step, if it is written down.
    """

    def __init__(
        self,
        tensors: Sequence[torch.Tensor],
        parameters: Sequence[torch.Tensor],
        device: torch.device,
    ) -> None:
        self._device = device
        self.recording: Recording | None = None
        self.gradients = [(parameter, parameter.grad) for parameter in parameters]
        held = [gradient for _, gradient in self.gradients if gradient is not None]
        self._undo = Undo([*tensors, *held])
        self.copies = self._undo.copies
        self.random_state = RandomState.capture(device)

    def restore(self) -> None:
        """Puts everything back."""
        if self.recording is not None:
            self.recording.undo()
        self._undo.restore()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        self.random_state.restore(self._device)


class Undo:
    """Puts back what was in tensors.

    Attributes:
        copies: A copy of each, by the tensor's identity.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.copies = {id(tensor): tensor.detach().clone() for tensor in tensors}
        self._tensors = tensors

    def restore(self) -> None:
        """Puts everything back. What was not changed is not touched: graphs may have saved it."""
        with torch.no_grad():
            for tensor in self._tensors:
                copy = self.copies[id(tensor)]
                if not same_elements(tensor, copy):
                    tensor.copy_(copy)


def same_elements(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Returns whether two tensors have equal elements, where NaN equals itself."""
    with torch.no_grad():
        return bool(((first == second) | (first != first) & (second != second)).all())  # noqa: PLR0124


def _hooks(module: torch.nn.Module) -> Iterator[Callable[..., Any]]:
    """Returns the hooks of a module; those of guards look at shapes, or can't be recorded."""
    yield from module._forward_pre_hooks.values()
    yield from module._forward_hooks.values()
    yield from module._backward_pre_hooks.values()
    yield from module._backward_hooks.values()


def _each_once(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [*{id(tensor): tensor for tensor in tensors}.values()]


def _tensors_in(state: dict[str, Any]) -> Iterator[torch.Tensor]:
    return (value for value in state.values() if isinstance(value, torch.Tensor))


def _plain(values: dict[str, Any], *, without: Sequence[str] = ()) -> tuple[Any, ...]:
    """Returns the plain values among some, by name; of others, which they are."""
    return tuple(
        (name, _comparable(value))
        for name, value in values.items()
        if name not in without and not (name.startswith("_") and not isinstance(value, _PLAIN))
    )


def _comparable(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple | list) and all(isinstance(each, _PLAIN) for each in value):
        return tuple(value)
    return id(value)
