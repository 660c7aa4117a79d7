"""Every exception that gradwire raises on purpose.

::

    GradwireError
    ├── ServerUnavailableError    also a ConnectionError: no server, or it went away
    │   └── SessionLostError      the session's worker died; its state is gone
    ├── DeadlineError             also a TimeoutError: no answer in time
    ├── LimitError                also a MemoryError: a limit or the memory of the server
    ├── StorageError              also an OSError: the server's storage is full or refuses
    ├── RequestError              also a ValueError: the server refused a request as malformed
    ├── NotFoundError             also a LookupError: no such session, model, value, dataset
    ├── AuthenticationError       also a PermissionError: the token is missing, wrong or not enough
    ├── CaptureError              also a ValueError: a torch module that can't be captured
    ├── NonFiniteError            also a FloatingPointError: the loss of a run was not finite
    ├── DataLossError             also a RuntimeError: a checkpoint can't be used
    ├── ServerError               also a RuntimeError: the server failed unexpectedly
    └── OperationError            torch raised; also an instance of the class that torch raised

An :class:`OperationError` is an instance of the built-in class that torch raised as well, so
``except RuntimeError`` and ``except ValueError`` go on working::

    try:
        model(x)
    except RuntimeError as error:
        print(error)  # torch's message, and the line of yours that recorded the operation
"""

from collections.abc import Mapping
from types import CodeType
from typing import NamedTuple


class SourceLine(NamedTuple):
    """Where in the user's program something was recorded."""

    filename: str
    line: int
    function: str

    def __str__(self) -> str:
        return f'File "{self.filename}", line {self.line}, in {self.function}'


def source_line(code: CodeType, instruction_offset: int) -> SourceLine:
    """Returns the line of an instruction.

    Args:
        code: The code object of the frame.
        instruction_offset: The frame's ``f_lasti``.
    """
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction_offset < end and number is not None:
            line = number
    return SourceLine(code.co_filename, line, code.co_name)


class GradwireError(Exception):
    """Base of all errors of gradwire.

    Attributes:
        message: What went wrong, without the source line.
        reason: The server's name for it, such as ``LIMIT_EXCEEDED``; empty if the client noticed.
        metadata: Machine-readable facts from the server.
        source: The line that recorded the failed operation, if it is known.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        source: SourceLine | None = None,
    ) -> None:
        text = message if source is None else f"{message}\n  recorded at {source}"
        super().__init__(text)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.source = source

    def __str__(self) -> str:
        return str(self.args[0])

    def at(self, source: SourceLine) -> "GradwireError":
        """Returns the same error with the line that recorded the operation."""
        return type(self)(self.message, reason=self.reason, metadata=self.metadata, source=source)

    def because(self, consequence: str) -> "GradwireError":
        """Returns the error of something that failed in consequence of this one."""
        return type(self)(
            f"{consequence}: {self.message}",
            reason=self.reason,
            metadata=self.metadata,
            source=self.source,
        )


class ServerUnavailableError(GradwireError, ConnectionError):
    """There is no server at the address, or it went away."""


class SessionLostError(ServerUnavailableError):
    """The worker that held the session died; everything in the session is gone."""


class DeadlineError(GradwireError, TimeoutError):
    """The server did not answer in time."""


class LimitError(GradwireError, MemoryError):
    """A limit of the server, or its memory, would be exceeded."""


class StorageError(GradwireError, OSError):
    """The server's storage is full, or refuses to read or write."""


class RequestError(GradwireError, ValueError):
    """The server refused a request as malformed."""


class NotFoundError(GradwireError, LookupError):
    """There is no such session, model, value or dataset."""


class AuthenticationError(GradwireError, PermissionError):
    """The token is missing or wrong, or its role or the settings do not allow what was asked."""


class CaptureError(GradwireError, ValueError):
    """A module of torch can't be captured, or does something that can't be sent as data."""


class ServerError(GradwireError, RuntimeError):
    """The server failed in a way it did not expect."""


class NonFiniteError(GradwireError, FloatingPointError):
    """A loss or a gradient of a run was not finite; it says at which step, of which parameters."""


class DataLossError(GradwireError, RuntimeError):
    """A checkpoint is not what was written, or a run could not go on from any."""


class OperationError(GradwireError):
    """torch raised an exception. Subclasses are also of the built-in class that torch raised."""


class OperationRuntimeError(OperationError, RuntimeError):
    """torch raised a RuntimeError."""


class OperationValueError(OperationError, ValueError):
    """torch raised a ValueError."""


class OperationTypeError(OperationError, TypeError):
    """torch raised a TypeError."""


class OperationIndexError(OperationError, IndexError):
    """torch raised an IndexError."""


class OperationKeyError(OperationError, KeyError):
    """torch raised a KeyError."""


class OperationAttributeError(OperationError, AttributeError):
    """torch raised an AttributeError."""


class OperationAssertionError(OperationError, AssertionError):
    """torch raised an AssertionError."""


class OperationNotImplementedError(OperationError, NotImplementedError):
    """torch raised a NotImplementedError."""


_OPERATION_ERRORS: dict[str, type[OperationError]] = {
    "RuntimeError": OperationRuntimeError,
    "ValueError": OperationValueError,
    "TypeError": OperationTypeError,
    "IndexError": OperationIndexError,
    "KeyError": OperationKeyError,
    "AttributeError": OperationAttributeError,
    "AssertionError": OperationAssertionError,
    "NotImplementedError": OperationNotImplementedError,
}

_REASONS: dict[str, type[GradwireError]] = {
    "INVALID_REQUEST": RequestError,
    "UNKNOWN_NAME": RequestError,
    "REQUEST_CHANGED": RequestError,
    "OUT_OF_ORDER": RequestError,
    "ALREADY_EXISTS": RequestError,
    "NO_OPTIMIZER": RequestError,
    "NO_GRADIENT": RequestError,
    "RUN_STATE": RequestError,
    "NO_CHECKPOINT": RequestError,
    "NON_FINITE": NonFiniteError,
    "CHECKPOINT_CORRUPT": DataLossError,
    "RUN_LOST": DataLossError,
    "RUN_NOT_FOUND": NotFoundError,
    "CHECKPOINT_NOT_FOUND": NotFoundError,
    "SESSION_NOT_FOUND": NotFoundError,
    "MODEL_NOT_FOUND": NotFoundError,
    "HANDLE_NOT_FOUND": NotFoundError,
    "TENSOR_NOT_FOUND": NotFoundError,
    "DATASET_NOT_FOUND": NotFoundError,
    "FILE_NOT_FOUND": NotFoundError,
    "STREAM_NOT_FOUND": NotFoundError,
    "STREAM_FAILED": RequestError,
    "LIMIT_EXCEEDED": LimitError,
    "OUT_OF_MEMORY": LimitError,
    "STORAGE_FULL": StorageError,
    "STORAGE_FAILED": StorageError,
    "UNAUTHENTICATED": AuthenticationError,
    "PERMISSION_DENIED": AuthenticationError,
    "URI_NOT_ALLOWED": AuthenticationError,
    "SESSION_LOST": SessionLostError,
    "SHUTTING_DOWN": ServerUnavailableError,
    "NOT_READY": ServerUnavailableError,
    "INTERNAL": ServerError,
}


def error_from_reason(
    reason: str,
    message: str,
    metadata: Mapping[str, str],
    source: SourceLine | None = None,
) -> GradwireError:
    """Returns the exception for a failure that the server reported.

    Args:
        reason: ``ErrorInfo.reason``.
        message: The status message.
        metadata: ``ErrorInfo.metadata``; for failures of torch ``exception`` names the class.
        source: The line that recorded the operation.
    """
    if reason in ("OPERATION_FAILED", "GRAPH_FREED"):
        kind: type[GradwireError] = _OPERATION_ERRORS.get(
            metadata.get("exception", ""), OperationRuntimeError
        )
    else:
        kind = _REASONS.get(reason, ServerError)
    return kind(message, reason=reason, metadata=metadata, source=source)
