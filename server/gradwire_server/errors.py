"""The error catalog: every reason a command can fail for, at every floor.

An error is a :class:`GradwireError` with a :class:`Reason`; the reason decides the gRPC status
code. What crosses the wire is ``google.rpc.Status`` with ``google.rpc.ErrorInfo`` (domain
``gradwire``), and ``BadRequest`` or ``RetryInfo`` where they apply; see
https://google.aip.dev/193. This module knows neither gRPC nor torch.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "gradwire"


class Reason(StrEnum):
    """Why a command failed. The value travels in ``ErrorInfo.reason``."""

    # The request.
    INVALID_REQUEST = "INVALID_REQUEST"
    UNKNOWN_NAME = "UNKNOWN_NAME"
    OPERATION_FAILED = "OPERATION_FAILED"
    REQUEST_CHANGED = "REQUEST_CHANGED"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    # What the request is about.
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    HANDLE_NOT_FOUND = "HANDLE_NOT_FOUND"
    REGION_NOT_FOUND = "REGION_NOT_FOUND"
    TENSOR_NOT_FOUND = "TENSOR_NOT_FOUND"
    DATASET_NOT_FOUND = "DATASET_NOT_FOUND"
    FILE_NOT_FOUND = "FILE_NOT_FOUND"
    STREAM_NOT_FOUND = "STREAM_NOT_FOUND"
    STREAM_FAILED = "STREAM_FAILED"
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    CHECKPOINT_NOT_FOUND = "CHECKPOINT_NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    # The state it is in.
    NO_OPTIMIZER = "NO_OPTIMIZER"
    NO_GRADIENT = "NO_GRADIENT"
    GRAPH_FREED = "GRAPH_FREED"
    NON_FINITE = "NON_FINITE"
    NO_CHECKPOINT = "NO_CHECKPOINT"
    CHECKPOINT_CORRUPT = "CHECKPOINT_CORRUPT"
    RUN_STATE = "RUN_STATE"
    RUN_LOST = "RUN_LOST"
    NO_SHARED_MEMORY = "NO_SHARED_MEMORY"
    # Limits.
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    STORAGE_FULL = "STORAGE_FULL"
    # The caller.
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    URI_NOT_ALLOWED = "URI_NOT_ALLOWED"
    # The server.
    STORAGE_FAILED = "STORAGE_FAILED"
    SESSION_LOST = "SESSION_LOST"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    NOT_READY = "NOT_READY"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


STATUS_CODES: Mapping[Reason, "code_pb2.Code"] = {
    Reason.INVALID_REQUEST: code_pb2.INVALID_ARGUMENT,
    Reason.UNKNOWN_NAME: code_pb2.INVALID_ARGUMENT,
    Reason.OPERATION_FAILED: code_pb2.INVALID_ARGUMENT,
    Reason.REQUEST_CHANGED: code_pb2.ABORTED,
    Reason.OUT_OF_ORDER: code_pb2.FAILED_PRECONDITION,
    Reason.SESSION_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.MODEL_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.HANDLE_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.REGION_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.TENSOR_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.DATASET_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.FILE_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.STREAM_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.STREAM_FAILED: code_pb2.FAILED_PRECONDITION,
    Reason.RUN_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.CHECKPOINT_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.ALREADY_EXISTS: code_pb2.ALREADY_EXISTS,
    Reason.NO_OPTIMIZER: code_pb2.FAILED_PRECONDITION,
    Reason.NO_GRADIENT: code_pb2.FAILED_PRECONDITION,
    Reason.GRAPH_FREED: code_pb2.FAILED_PRECONDITION,
    Reason.NON_FINITE: code_pb2.INVALID_ARGUMENT,
    Reason.NO_CHECKPOINT: code_pb2.FAILED_PRECONDITION,
    Reason.CHECKPOINT_CORRUPT: code_pb2.DATA_LOSS,
    Reason.RUN_STATE: code_pb2.FAILED_PRECONDITION,
    Reason.RUN_LOST: code_pb2.DATA_LOSS,
    Reason.NO_SHARED_MEMORY: code_pb2.FAILED_PRECONDITION,
    Reason.LIMIT_EXCEEDED: code_pb2.RESOURCE_EXHAUSTED,
    Reason.OUT_OF_MEMORY: code_pb2.RESOURCE_EXHAUSTED,
    Reason.STORAGE_FULL: code_pb2.RESOURCE_EXHAUSTED,
    Reason.UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
    Reason.URI_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.STORAGE_FAILED: code_pb2.FAILED_PRECONDITION,
    Reason.PERMISSION_DENIED: code_pb2.PERMISSION_DENIED,
    Reason.SESSION_LOST: code_pb2.UNAVAILABLE,
    Reason.SHUTTING_DOWN: code_pb2.UNAVAILABLE,
    Reason.NOT_READY: code_pb2.UNAVAILABLE,
    Reason.CANCELLED: code_pb2.CANCELLED,
    Reason.INTERNAL: code_pb2.INTERNAL,
}
"""The gRPC status code of each reason."""


class GradwireError(Exception):
    """A failure that the caller is told about.

    Args:
        reason: Which entry of the catalog.
        message: What went wrong and what to do about it, for the caller.
        metadata: Goes into ``ErrorInfo.metadata``; short machine-readable facts.
        fields: ``(path, description)`` of each request field at fault, for ``BadRequest``.
        retry_after_seconds: When to try again, for ``RetryInfo``; ``None`` if trying again is
            of no use.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.fields = tuple(fields)
        self.retry_after_seconds = retry_after_seconds

    def to_status(self) -> status_pb2.Status:
        """Returns the error as ``google.rpc.Status``, details included."""
        details = [
            error_details_pb2.ErrorInfo(
                reason=self.reason.value, domain=DOMAIN, metadata=self.metadata
            )
        ]
        if self.fields:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(field=path, description=text)
                for path, text in self.fields
            ]
            details.append(error_details_pb2.BadRequest(field_violations=violations))
        if self.retry_after_seconds is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after_seconds * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(code=STATUS_CODES[self.reason], message=self.message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status


def internal_error() -> GradwireError:
    """Returns the public face of an unexpected exception; the trace belongs in the log."""
    return GradwireError(
        Reason.INTERNAL,
        "The server failed in a way it did not expect; its log has the trace. "
        "The session goes on; please report this.",
    )


def no_shared_memory() -> GradwireError:
    """Returns the error for a region that can't be made here; nothing is told of its name."""
    return GradwireError(
        Reason.NO_SHARED_MEMORY,
        "This server shares no memory with clients; send tensors in messages.",
    )


def invalid(
    path: str, description: str, *, reason: Reason = Reason.INVALID_REQUEST
) -> GradwireError:
    """Returns the error for one request field at fault.

    Args:
        path: The field, such as ``module.children[1].type``.
        description: What is wrong with it and what was expected.
        reason: A reason whose status code is INVALID_ARGUMENT.
    """
    return GradwireError(reason, f"{path}: {description}", fields=[(path, description)])
