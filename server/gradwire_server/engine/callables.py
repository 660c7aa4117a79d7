"""The operations on callbacks: making them, hooking them in, and calls that stop at them.

Each public method of :class:`Callables` is the operation `gradwire.<its name>`.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.hooks import BackwardHook

from gradwire.v1 import values_pb2
from gradwire_server.engine.callbacks import MAX_CALLS, Call, Callback, Finished, Request
from gradwire_server.engine.functions import apply_function
from gradwire_server.engine.registry import Subject, operations_of
from gradwire_server.engine.values import class_name, describe_tensor, encode_value
from gradwire_server.errors import GradwireError, Reason


class Callables:
    """The operations of one session that have to do with functions of its client.

    Args:
        device: The session's device.
        resolve: Looks up operations by name and field path.
    """

    def __init__(
        self, device: torch.device, resolve: Callable[[str, str], Callable[..., Any]]
    ) -> None:
        self._device = device
        self._resolve = resolve
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self._dead: list[int] = []

    def close(self) -> None:
        """Gives up all calls that wait for a callback."""
        for call in list(self._calls):
            call.abandon()

    @property
    def are_waited_for(self) -> bool:
        """Whether a call waits for a function of the client."""
        return any(call.waits for call in self._calls)

    def callback(self, number: int) -> Callback:
        """Returns what stands for a function of the client, which knows it by `number`."""
        return Callback(number, self._dead.append)

    def begin(self, name: str, *args: Any, **kwargs: Any) -> Call:
        """Runs an operation until it calls a callback or ends; `pending` tells which."""
        waiting = [call for call in self._calls if call.waits]
        if len(waiting) >= MAX_CALLS:
            raise GradwireError(
                Reason.LIMIT_EXCEEDED,
                f"{len(waiting)} calls of this session wait for their callbacks; no more than "
                f"{MAX_CALLS} may. Resume or abandon some.",
                metadata={"limit": "pending_calls", "limit_value": str(MAX_CALLS)},
            )
        if name.startswith("gradwire.") and name not in _CALLS:
            raise ValueError(f"{name} can't be run by gradwire.begin; torch's operations can")
        operation = self._resolve(name, "gradwire.begin")
        call = Call(lambda: operation(*args, **kwargs), self._device.type)
        self._calls.add(call)
        return call

    def pending(self, call: Call) -> values_pb2.Value:
        """Describes what became of a call.

        Returns:
            A dictionary: `callback`, the number of the callback it waits for, or None if it has
            ended; `grad_enabled`; `value`, the description of what `pending_value` returns; and
            `dead`, the numbers of callbacks that will never be called again.
        """
        state = _require_call(call).state
        dead, self._dead[:] = self._dead[:], []
        described = {
            "callback": state.callback.number if isinstance(state, Request) else None,
            "grad_enabled": state.grad_enabled if isinstance(state, Request) else True,
            "value": self.pending_value(call),
            "dead": dead,
        }
        return encode_value(described, describe_tensor)

    def pending_value(self, call: Call) -> Any:
        """Returns the arguments for the callback, a tuple and a dict, or the call's result."""
        state = _require_call(call).state
        if isinstance(state, Request):
            return (state.args, state.kwargs)
        return state.result if isinstance(state, Finished) else None

    def resume(self, call: Call, answer: Any) -> None:
        """Goes on with a call after its callback returned `answer`."""
        _require_call(call).resume(answer)

    def abandon(self, call: Call) -> None:
        """Ends a call where it waits for its callback."""
        _require_call(call).abandon()

    def register_hook(self, kind: str, value: Any, callback: Callback) -> Any:
        """Lets a tensor, a node of the graph or a module of torch call a callback.

        Args:
            kind: `hook`, `post_accumulate_grad` or `prehook`; or `forward` of a module.
            value: A tensor, a node or a module.
            callback: The callback.

        Returns:
            What `remove_hook` takes.
        """
        if not isinstance(callback, Callback):
            raise TypeError(f"a {class_name(callback)} is no callback; gradwire.callback makes one")
        if kind not in _HOOKS:
            raise ValueError(f"{kind!r} is no kind of hook; {', '.join(_HOOKS)} are")
        owner, method = _HOOKS[kind]
        if not isinstance(value, owner):
            raise TypeError(f"a {class_name(value)} can't have a {kind} hook")
        return getattr(value, method)(callback)

    def remove_hook(self, handle: Any) -> None:
        """Removes a hook."""
        if not isinstance(handle, torch.utils.hooks.RemovableHandle):
            raise TypeError(f"a {class_name(handle)} is not what register_hook returns")
        handle.remove()

    def backward_hook(self, before: list[Callback], after: list[Callback]) -> BackwardHook:
        """Returns what calls the backward hooks of one call of a module of the client's.

        Args:
            before: Called with the gradients of the outputs.
            after: Called with the gradients of the inputs and of the outputs.
        """
        for callback in (*before, *after):
            if not isinstance(callback, Callback):
                raise TypeError(f"a {class_name(callback)} is no callback")
        return BackwardHook(
            None,
            [_without_module(callback) for callback in after],
            [_without_module(callback) for callback in before],
        )

    def hook_inputs(self, hook: BackwardHook, inputs: tuple[Any, ...]) -> Any:
        """Returns the inputs of the module's forward, made known to its backward hook."""
        if not isinstance(hook, BackwardHook):
            raise TypeError(f"a {class_name(hook)} is not what backward_hook returns")
        return hook.setup_input_hook(inputs)

    def hook_outputs(self, hook: BackwardHook, outputs: Any) -> Any:
        """Returns the outputs of the module's forward, made known to its backward hook."""
        if not isinstance(hook, BackwardHook):
            raise TypeError(f"a {class_name(hook)} is not what backward_hook returns")
        return hook.setup_output_hook(outputs)

    def apply_function(self, name: str, callback: Callback, *args: Any, **kwargs: Any) -> Any:
        """Makes an autograd function of the client's the origin of the outputs it computed."""
        if not isinstance(callback, Callback):
            raise TypeError(f"a {class_name(callback)} is no callback; gradwire.callback makes one")
        return apply_function(name, callback, *args, **kwargs)


_CALLS = frozenset({"gradwire.call", "gradwire.call_inside"})
_NODE = torch.autograd.graph.Node
_HOOKS: dict[str, tuple[Any, str]] = {
    "hook": ((torch.Tensor, _NODE), "register_hook"),
    "prehook": (_NODE, "register_prehook"),
    "post_accumulate_grad": (torch.Tensor, "register_post_accumulate_grad_hook"),
}


def _without_module(callback: Callback) -> Callable[..., Any]:
    return lambda _, *gradients: callback(*gradients)


def _require_call(call: Any) -> Call:
    if not isinstance(call, Call):
        raise TypeError(f"a {class_name(call)} is no call; gradwire.begin returns one")
    return call


OPERATIONS = operations_of(Callables, Subject.CALLABLES, but={"close"})
"""The operations by name."""
