"""Hooks of modules: functions of the script that run around ``forward`` and ``state_dict``."""

import itertools
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gradwire.nn.backward_hooks import attach_backward_hooks
from gradwire.objects import restorable

if TYPE_CHECKING:
    from gradwire.nn.module import Module


class Hook(NamedTuple):
    """A function, and how it wants to be called.

    Attributes:
        function: The function.
        with_kwargs: Whether it takes the keyword arguments of the call too.
        always_call: Whether it runs although the call failed.
        with_module: Whether it takes the module first.
    """

    function: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False
    with_module: bool = True


@restorable
class Hooks(OrderedDict[int, Hook]):
    """Hooks of one kind, in the order in which they run."""

    __gradwire_transient__ = True

    def add(self, hook: Hook, *, prepend: bool = False) -> "RemovableHandle":
        """Adds a hook, at the end or before all others."""
        handle = RemovableHandle(self)
        self[handle.id] = hook
        if prepend:
            self.move_to_end(handle.id, last=False)
        return handle


class RemovableHandle:
    """What removes a hook again."""

    _ids = itertools.count()

    def __init__(self, hooks: Any) -> None:
        self.id = next(self._ids)
        self._hooks = weakref.ref(hooks)

    def remove(self) -> None:
        """Removes the hook."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


FORWARD_PRE = "_forward_pre_hooks"
FORWARD = "_forward_hooks"
BACKWARD_PRE = "_backward_pre_hooks"
BACKWARD = "_backward_hooks"
STATE_DICT_PRE = "_state_dict_pre_hooks"
STATE_DICT = "_state_dict_hooks"
LOAD_STATE_DICT_PRE = "_load_state_dict_pre_hooks"
LOAD_STATE_DICT_POST = "_load_state_dict_post_hooks"

CALL_KINDS = (FORWARD_PRE, FORWARD, BACKWARD_PRE, BACKWARD)
KINDS = (*CALL_KINDS, STATE_DICT_PRE, STATE_DICT, LOAD_STATE_DICT_PRE, LOAD_STATE_DICT_POST)
"""The attributes of a module that hold its hooks."""

GLOBAL_HOOKS: dict[str, Hooks] = {kind: Hooks() for kind in CALL_KINDS}
"""Hooks that run for every module."""

_FOR_ALL = tuple(GLOBAL_HOOKS.values())


def any_for_all() -> bool:
    """Whether there are hooks that run for every module."""
    # Asked in every call of a module.
    return bool(_FOR_ALL[0] or _FOR_ALL[1] or _FOR_ALL[2] or _FOR_ALL[3])


def hooks_of(module: "Module", kind: str) -> Iterator[Hook]:
    """Yields the hooks that a call of a module runs: those of all modules, then its own."""
    yield from list(GLOBAL_HOOKS[kind].values())
    yield from list(module.__dict__[kind].values())


def call_with_hooks(module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a module's ``forward`` and its hooks, in torch's order."""
    called: list[Hook] = []
    result = None
    try:
        for hook in hooks_of(module, FORWARD_PRE):
            args, kwargs = call_pre_hook(hook, module, args, kwargs)
        finish = attach_backward_hooks(
            module,
            [hook.function for hook in hooks_of(module, BACKWARD_PRE)],
            [hook.function for hook in hooks_of(module, BACKWARD)],
        )
        args = finish.wrap_inputs(args)
        result = module.forward(*args, **kwargs)
        for hook in hooks_of(module, FORWARD):
            called.append(hook)
            replaced = call_hook(hook, module, args, kwargs, result)
            if replaced is not None:
                result = replaced
        return finish.wrap_outputs(result)
    except Exception:
        for hook in hooks_of(module, FORWARD):
            if not hook.always_call or any(hook is other for other in called):
                continue
            try:
                call_hook(hook, module, args, kwargs, result)
            except Exception as error:  # noqa: BLE001  # the first error is the one to raise
                warnings.warn(
                    "module forward hook with ``always_call=True`` raised an exception that was "
                    f"silenced as another error was raised in forward: {error}",
                    stacklevel=3,
                )
        raise


def call_pre_hook(
    hook: Hook, module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Calls a hook of `FORWARD_PRE`; returns what ``forward`` is to be called with."""
    if not hook.with_kwargs:
        replaced = hook.function(module, args)
        if replaced is None:
            return args, kwargs
        return (replaced if isinstance(replaced, tuple) else (replaced,)), kwargs
    replaced = hook.function(module, args, kwargs)
    if replaced is None:
        return args, kwargs
    if not (isinstance(replaced, tuple) and len(replaced) == 2):
        raise RuntimeError(
            "forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got "
            f"{replaced}."
        )
    return replaced


def call_hook(
    hook: Hook, module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Any:
    """Calls a hook of `FORWARD`; returns what takes the place of the output, or None."""
    if hook.with_kwargs:
        return hook.function(module, args, kwargs, result)
    return hook.function(module, args, result)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Adds a function ``hook(module, args)`` that runs before the ``forward`` of every module."""
    return GLOBAL_HOOKS[FORWARD_PRE].add(Hook(hook))


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Adds a function ``hook(module, args, output)`` that runs after every ``forward``."""
    return GLOBAL_HOOKS[FORWARD].add(Hook(hook, with_kwargs, always_call))


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Adds a function ``hook(module, grad_output)`` that runs before every module's backward."""
    return GLOBAL_HOOKS[BACKWARD_PRE].add(Hook(hook))


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Adds a function ``hook(module, grad_input, grad_output)`` to every module's backward."""
    return GLOBAL_HOOKS[BACKWARD].add(Hook(hook))
