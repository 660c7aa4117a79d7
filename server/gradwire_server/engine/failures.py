"""What torch's exceptions are to the caller."""

import torch

from gradwire_server.engine.signatures import signature
from gradwire_server.errors import GradwireError, Reason

_LISTS_SIGNATURES = "but expected one of:"
_FREED_GRAPH = "backward through the graph a second time"
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


def operation_failure(error: Exception, name: str) -> GradwireError:
    """Returns the catalog error for an exception that an operation raised.

    The message is torch's own, with the signature where arguments are of the wrong number or kind;
    `metadata` says which operation and which class of exception, so
    that an SDK can raise the same.

    Args:
        error: The exception.
        name: The operation's name in the catalog.
    """
    if isinstance(error, GradwireError):
        error.metadata.setdefault("operation", name)
        return error
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    message = text or f"{name} failed with {type(error).__name__}"
    if isinstance(error, TypeError) and _LISTS_SIGNATURES not in text:
        known = signature(name)
        message += f"\nthe signature is {known}" if known else ""
    metadata = {"operation": name, "exception": exception_name(error)}
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(part in text for part in _NO_MEMORY)
    ):
        return GradwireError(
            Reason.OUT_OF_MEMORY,
            f"{name} needs more memory than the session may still take (max_session_bytes), or "
            f"than the worker has: {message}",
            metadata=metadata,
        )
    if isinstance(error, RuntimeError) and _FREED_GRAPH in text:
        return GradwireError(Reason.GRAPH_FREED, message, metadata=metadata)
    return GradwireError(Reason.OPERATION_FAILED, message, metadata=metadata)


def exception_name(error: Exception) -> str:
    """Returns the name of the first public built-in class that the exception is an instance of."""
    for kind in type(error).__mro__:
        if kind.__module__ == "builtins":
            return kind.__name__
    return "Exception"


class operation:  # noqa: N801  # a context manager, named as a function; a class takes a third of the time
    """Turns what the block raises into the catalog error of the operation `name`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception):
            failure = operation_failure(error, self._name)
            if failure is not error:
                raise failure from error
