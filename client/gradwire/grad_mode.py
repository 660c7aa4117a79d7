"""Contexts that operations run under: ``no_grad``, ``enable_grad``, ``autocast`` and the like."""

from contextlib import ContextDecorator
from typing import Any

from gradwire.connection import current_session
from gradwire.recorder.recorder import Context
from gradwire.session import Session


class _Scope(ContextDecorator):
    """A context of torch. It is entered on the server together with the operations in it."""

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._context = Context(name, args, tuple(kwargs.items()))
        self._entered: list[Session] = []

    def _recreate_cm(self) -> "_Scope":
        return self

    def __enter__(self) -> Any:
        session = current_session()
        session.enter_context(self._context)
        self._entered.append(session)
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.pop().exit_context()

    def __call__(self, function: Any) -> Any:
        return super().__call__(function)


class no_grad(_Scope):  # noqa: N801  # torch's name
    """In this context, or in the function it decorates, operations record no gradients."""

    def __init__(self) -> None:
        super().__init__("torch.set_grad_enabled", False)


class enable_grad(_Scope):  # noqa: N801
    """In this context operations record gradients again."""

    def __init__(self) -> None:
        super().__init__("torch.set_grad_enabled", True)


class inference_mode(_Scope):  # noqa: N801
    """In this context operations record nothing for autograd at all.

    Args:
        mode: Whether to; False for the opposite.
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__("torch.inference_mode", mode)


class set_grad_enabled(_Scope):  # noqa: N801
    """Switches the recording of gradients on or off, at once; used with ``with``, for the block.

    Args:
        mode: Whether gradients are recorded.
    """

    def __init__(self, mode: bool) -> None:
        super().__init__("torch.set_grad_enabled", bool(mode))
        session = current_session()
        session.enter_context(self._context)
        self._entered.append(session)

    def __enter__(self) -> Any:
        return self


class autocast(_Scope):  # noqa: N801
    """In this context operations run in lower precision where that is safe.

    Args:
        device_type: ``cpu`` or ``cuda``.
        dtype: The lower precision.
        enabled: Whether to.
        cache_enabled: Whether casts of weights are kept.
    """

    def __init__(
        self,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        super().__init__(
            "torch.autocast",
            device_type=device_type,
            dtype=dtype,
            enabled=enabled,
            cache_enabled=cache_enabled,
        )


def is_grad_enabled() -> bool:
    """Returns whether operations recorded now would record gradients."""
    enabled = True
    for context in current_session().contexts:
        if context.name == "torch.set_grad_enabled":
            enabled = bool(context.args[0])
        elif context.name == "torch.inference_mode":
            enabled = not context.args[0]
    return enabled
