"""Contexts that operations run under: ``no_grad``, ``enable_grad``, ``autocast`` and the like."""

import inspect
from contextlib import ContextDecorator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from gradwire.connection import current_session
from gradwire.recorder.contexts import Context

if TYPE_CHECKING:
    from gradwire.session import Session


class Scope(ContextDecorator):
    """A context of torch. It is entered on the server together with the operations in it.

    Args:
        name: Its name in the catalog.
        args: The arguments of torch's class.
        kwargs: The same by name.
    """

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._context = Context(name, args, tuple(kwargs.items()))
        self._entered: list[Session] = []

    def _recreate_cm(self) -> "Scope":
        return self

    def __enter__(self) -> Any:
        session = current_session()
        session.enter_context(self._context)
        self._entered.append(session)
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.pop().exit_context()

    def __call__(self, function: Any) -> Any:
        """Returns the function, its calls in this context; of a generator, its steps."""
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @wraps(function)
        def steps(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            resume: Any = partial(next, generator)
            while True:
                try:
                    with self:
                        value = resume()
                except StopIteration as end:
                    return end.value
                try:
                    resume = partial(generator.send, (yield value))
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001  # the generator's to see
                    resume = partial(generator.throw, error)

        return steps


class _Parameterless(Scope):
    """A context that decorates a function with or without being called first."""

    def __new__(cls, function: Any = None) -> Any:
        scope: Any = super().__new__(cls)
        if function is None:
            return scope
        scope.__init__()
        return scope(function)


class no_grad(_Parameterless):  # noqa: N801  # torch's name
    """In this context, or in the function it decorates, operations record no gradients."""

    def __init__(self, function: Any = None) -> None:  # noqa: ARG002  # see __new__
        super().__init__("torch.set_grad_enabled", False)


class enable_grad(_Parameterless):  # noqa: N801
    """In this context operations record gradients again."""

    def __init__(self, function: Any = None) -> None:  # noqa: ARG002  # see __new__
        super().__init__("torch.set_grad_enabled", True)


class inference_mode(Scope):  # noqa: N801
    """In this context operations record nothing for autograd at all.

    Args:
        mode: Whether to; False for the opposite. Or the function to decorate.
    """

    def __new__(cls, mode: Any = True) -> Any:  # noqa: D102
        scope: Any = super().__new__(cls)
        if isinstance(mode, bool):
            return scope
        scope.__init__()
        return scope(mode)

    def __init__(self, mode: Any = True) -> None:
        super().__init__("torch.inference_mode", bool(mode))


class set_grad_enabled(Scope):  # noqa: N801
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
        if not self._entered:
            super().__enter__()
        return self

    def __call__(self, function: Any) -> Any:
        """Returns the function, its calls in this context; undoes the switch that came before."""
        self._entered.pop().exit_context()
        return super().__call__(function)


class detect_anomaly(Scope):  # noqa: N801
    """In this context a backward names the operation whose gradient is not a number.

    Args:
        check_nan: Whether gradients are checked.
    """

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__("torch.autograd.detect_anomaly", check_nan)


class set_detect_anomaly(set_grad_enabled):  # noqa: N801
    """Switches the search for gradients that are not numbers on or off, at once or for a block.

    Args:
        mode: Whether to search.
        check_nan: Whether gradients are checked.
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        Scope.__init__(self, "torch.autograd.set_detect_anomaly", bool(mode), check_nan)
        Scope.__enter__(self)


class autocast(Scope):  # noqa: N801
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


def is_inference_mode_enabled() -> bool:
    """Returns whether operations recorded now would record nothing for autograd at all."""
    return _innermost("torch.inference_mode", 0)


def is_anomaly_enabled() -> bool:
    """Returns whether a backward recorded now would look for gradients that are not numbers."""
    for context in reversed(current_session().contexts):
        if context.name == "torch.autograd.detect_anomaly":
            return True
        if context.name == "torch.autograd.set_detect_anomaly":
            return bool(context.args[0])
    return False


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Returns whether operations recorded now would run in lower precision.

    Args:
        device_type: On which device; the session's by default.
    """
    device_type = device_type or current_session().device.partition(":")[0]
    for context in reversed(current_session().contexts):
        options = dict(context.kwargs)
        if context.name == "torch.autocast" and options["device_type"] == device_type:
            return bool(options["enabled"])
    return False


def _innermost(name: str, argument: int) -> bool:
    for context in reversed(current_session().contexts):
        if context.name == name:
            return bool(context.args[argument])
    return False
