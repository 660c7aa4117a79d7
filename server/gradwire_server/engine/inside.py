"""Calls of a module with hooks on modules inside it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from gradwire_server.engine.callbacks import Callback


@contextmanager
def hooking(module: torch.nn.Module, hooks: Sequence[Any]) -> Iterator[None]:
    """Lets modules inside a module call callbacks, until the context is left.

    Args:
        module: The module.
        hooks: For each the path of a submodule, the kind of hook, a callback, and whether it is
            called although the submodule failed. The kinds are those of :data:`KINDS`.

    Raises:
        AttributeError: There is no submodule of that path.
        TypeError: It is not what says what to call where.
        ValueError: The kind is unknown.
    """
    with ExitStack() as attached:
        for hook in hooks:
            match hook:
                case (str(path), str(kind), Callback() as callback, bool(always)):
                    if kind not in KINDS:
                        raise ValueError(f"{kind!r} is no kind of hook; {', '.join(KINDS)} are")
                    attached.enter_context(
                        KINDS[kind](module.get_submodule(path), callback, always)
                    )
                case _:
                    raise TypeError(
                        f"{hook!r} is no hook; a path, a kind, a callback and a truth value are"
                    )
        yield


def _forward_pre(module: torch.nn.Module, callback: Callback, _: bool) -> Any:
    return module.register_forward_pre_hook(
        lambda _, args, kwargs: callback(args, kwargs), with_kwargs=True
    )


def _forward(module: torch.nn.Module, callback: Callback, always: bool) -> Any:
    return module.register_forward_hook(
        lambda _, args, kwargs, output: callback(args, kwargs, output),
        with_kwargs=True,
        always_call=always,
    )


def _backward_pre(module: torch.nn.Module, callback: Callback, _: bool) -> Any:
    return module.register_full_backward_pre_hook(lambda _, gradients: callback(gradients))


def _backward(module: torch.nn.Module, callback: Callback, _: bool) -> Any:
    return module.register_full_backward_hook(
        lambda _, of_inputs, of_outputs: callback(of_inputs, of_outputs)
    )


KINDS: dict[str, Callable[[torch.nn.Module, Callback, bool], Any]] = {
    "forward_pre": _forward_pre,
    "forward": _forward,
    "backward_pre": _backward_pre,
    "backward": _backward,
}
"""Kinds of hooks: before a forward with ``(args, kwargs)`` and after it with the output, too; and
with the gradients of the outputs before a backward, after it with those of inputs and outputs."""
