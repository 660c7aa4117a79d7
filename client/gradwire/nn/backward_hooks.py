"""Hooks of modules that run amid a backward: they see the gradients of inputs and outputs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gradwire.callbacks import Callback
from gradwire.calls import RemoteObject, session_of, wrap
from gradwire.tensors import Tensor

if TYPE_CHECKING:
    from gradwire.nn.module import Module


class Wrapping(Protocol):
    """What makes the inputs and the outputs of one call of a module known to its hooks."""

    def wrap_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the inputs to call ``forward`` with."""
        ...

    def wrap_outputs(self, result: Any) -> Any:
        """Returns the outputs to return."""
        ...


class _Nothing:
    def wrap_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args

    def wrap_outputs(self, result: Any) -> Any:
        return result


class _BackwardHook:
    """torch's own bookkeeping, on the server, with our functions as callbacks."""

    def __init__(
        self, module: "Module", before: list[Callable[..., Any]], after: list[Callable[..., Any]]
    ) -> None:
        self._module = module
        self._before = before
        self._after = after
        self._remote: RemoteObject | None = None

    def wrap_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        session = session_of(args, {})
        stand_ins = [
            [Callback(session, self._with_module(hook), in_backward=True) for hook in hooks]
            for hooks in (self._before, self._after)
        ]
        self._remote = RemoteObject(session.record("gradwire.backward_hook", stand_ins, {}))
        return self._wrap("gradwire.hook_inputs", args)

    def wrap_outputs(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return self._wrap("gradwire.hook_outputs", result)
        if isinstance(result, Tensor):
            return self._wrap("gradwire.hook_outputs", (result,))[0]
        return result

    def _with_module(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *gradients: hook(self._module, *gradients)

    def _wrap(self, name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        remote = self._remote
        assert remote is not None
        session = remote._slot.session
        tensors = tuple(value if isinstance(value, Tensor) else None for value in values)
        wrapped = RemoteObject(session.record(name, (remote, tensors), {}))
        return tuple(
            value if tensor is None else wrap(session.record("gradwire.getitem", (wrapped, i), {}))
            for i, (value, tensor) in enumerate(zip(values, tensors, strict=True))
        )


def attach_backward_hooks(
    module: "Module", before: list[Callable[..., Any]], after: list[Callable[..., Any]]
) -> Wrapping:
    """Returns what lets the backward of one call of a module call hooks.

    Args:
        module: The module, the first argument of each hook.
        before: Hooks of the gradients of the outputs, called first.
        after: Hooks of the gradients of the inputs and of the outputs.
    """
    return _BackwardHook(module, before, after) if before or after else _Nothing()
