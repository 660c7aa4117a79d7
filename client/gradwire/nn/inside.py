"""Hooks of modules inside modules of torch, which the server calls.

A module of torch is called on the server as one. Where a module inside it has hooks, the call says
so.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from gradwire.callbacks import Callback
from gradwire.nn import hooks
from gradwire.nn.hooks import Hook

if TYPE_CHECKING:
    from gradwire.nn.module import Module
    from gradwire.session import Session

_noted: "WeakSet[Module]" = WeakSet()
_KINDS = {
    hooks.FORWARD_PRE: "forward_pre",
    hooks.FORWARD: "forward",
    hooks.BACKWARD_PRE: "backward_pre",
    hooks.BACKWARD: "backward",
}

HookInside = tuple[str, str, Callback, bool]
"""The path of a hook's module, its kind, what stands for it, and whether it runs on failure too."""


def note(module: "Module") -> None:
    """Notes that a module of torch has hooks; calls then look for them."""
    _noted.add(module)


def hooks_inside(session: "Session", module: "Module") -> list[HookInside]:
    """Returns the hooks that the server is to run in a call of a module of torch."""
    for_all = hooks.any_for_all()
    if not for_all and not _noted:
        return []
    if for_all:
        # Only the server knows what is inside a module that nobody has looked into.
        _ = module._modules
    found = []
    for path, child in _known_to_server(module, ""):
        # Those of the called module itself run in the script, around the call.
        for kind, name in _KINDS.items() if path else ():
            for hook in hooks.hooks_of(child, kind):
                function = _stand_in(kind, hook, child)
                callback = Callback(session, function, in_backward="backward" in name)
                found.append((path, name, callback, hook.always_call))
    return found


def has_hooks(module: "Module") -> bool:
    """Returns whether a module of torch or one inside it has hooks."""
    return bool(_noted) and any(
        child.__dict__[kind] for _, child in _known_to_server(module, "") for kind in hooks.KINDS
    )


def copy_hooks(original: "Module", copied: "Module") -> None:
    """Gives a copy of a module, and the modules inside it, the hooks of the original."""
    for (_, one), (_, other) in zip(
        _known_to_server(original, ""), _known_to_server(copied, ""), strict=True
    ):
        for kind in hooks.KINDS:
            other.__dict__[kind].update(one.__dict__[kind])
            if one.__dict__[kind]:
                note(other)


def _known_to_server(module: "Module", path: str) -> "Iterator[tuple[str, Module]]":
    """Yields a module of torch and those inside it with their paths, as the server knows them.

    Modules that nobody has looked at are not among them: they have no hooks.
    """
    yield path, module
    state = module.__dict__
    members = state["_modules"] if "_modules" in state else state.get("_given", {})
    for name, child in members.items():
        if child is not None and name in state.get("_server_attributes", members):
            yield from _known_to_server(child, f"{path}.{name}" if path else name)


def _stand_in(kind: str, hook: Hook, module: "Module") -> Callable[..., Any]:
    """Returns a hook as the server calls it: without the module, and always the same way."""
    if kind == hooks.FORWARD:
        return lambda args, kwargs, output: hooks.call_hook(hook, module, args, kwargs, output)
    if kind != hooks.FORWARD_PRE:
        return lambda *gradients: hook.function(module, *gradients)

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        replaced = hooks.call_pre_hook(hook, module, args, kwargs)
        return None if replaced[0] is args and replaced[1] is kwargs else replaced

    return before
