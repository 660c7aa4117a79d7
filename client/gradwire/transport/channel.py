"""Channels to a server, and what its statuses are to Python."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gradwire.errors import (
    AuthenticationError,
    DeadlineError,
    GradwireError,
    ServerError,
    ServerUnavailableError,
    error_from_reason,
)
from gradwire.transport.tls import Tls, target_of
from gradwire.transport.tracing import call_span, method_name

Response = TypeVar("Response")

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # The server checks sizes and says which limit is in force; gRPC's 4 MiB would cut in first.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A dead peer is noticed within a minute; the server permits pings this often.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
"""What the SDK sets on its channels; the server's settings match."""

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0

_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
"""What gRPC says of a server whose certificate is not the right one."""

_PASSING = frozenset({"UNAVAILABLE", "SHUTTING_DOWN", "NOT_READY"})
"""Why a request was not taken that the server may take later, or the next one at its address."""

_STATUS_ERRORS: dict[grpc.StatusCode, type[GradwireError]] = {
    grpc.StatusCode.UNAVAILABLE: ServerUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
}


def open_channel(address: str, tls: Tls | None = None) -> grpc.Channel:
    """Returns a channel to a server; it connects when it is first used.

    Args:
        address: ``HOST:PORT`` or ``unix:PATH``, or the same after ``grpc://`` or ``grpcs://``.
        tls: How to protect the connection; none if it is not.

    Raises:
        OSError: A file of `tls` can't be read.
        ValueError: A file of `tls` is not what it should be.
    """
    target = target_of(address)
    if tls is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, tls.credentials(), options=CHANNEL_OPTIONS)


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that authenticates calls."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


def new_request_id() -> str:
    """Returns an id that makes retries of one request safe."""
    return uuid.uuid4().hex


def status_error(code: int, message: str, details: Any) -> GradwireError:
    """Returns the exception for a status with details, as failures in band carry it."""
    return _with_details(status_pb2.Status(code=code, message=message, details=details))


def _with_details(status: status_pb2.Status) -> GradwireError:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return error_from_reason(info.reason, status.message, info.metadata)


def rpc_error(error: grpc.RpcError, address: str) -> GradwireError:
    """Returns the exception for a failed call.

    Args:
        error: What gRPC raised.
        address: The server's address, for the message.
    """
    packed = _packed_status(error)
    if packed is not None:
        return _with_details(status_pb2.Status.FromString(packed))
    code = error.code()
    kind = _STATUS_ERRORS.get(code, ServerError)
    return kind(
        f"the server at {address} answered {code.name}: {error.details()}", reason=code.name
    )


def is_transient(error: GradwireError) -> bool:
    """Whether the request that failed so may be sent once more, as it is.

    That is so if nobody answered, or a server that is about to stop or to start: SESSION_LOST and
    the like are answers. A server that can't be trusted won't be later either.
    """
    return error.reason in _PASSING and not any(sign in error.message for sign in _UNTRUSTED)


def refused_for(error: grpc.RpcError) -> float | None:
    """Returns for how many seconds the server takes no requests, if it said so; else None.

    Such a request was not looked at, so it may be sent again whatever it changes.
    """
    packed = _packed_status(error)
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or packed is None:
        return None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(packed).details:
        for kind in (info, retry):
            detail.Unpack(kind)
    if not info.metadata["limit"].endswith("requests_per_second"):
        return None
    return float(retry.retry_delay.ToNanoseconds()) / 1e9


def _packed_status(error: grpc.RpcError) -> bytes | None:
    """Returns the serialized google.rpc.Status that the server sent along, if it did."""
    for entry in error.trailing_metadata() or ():
        if entry.key == "grpc-status-details-bin" and isinstance(entry.value, bytes):
            return entry.value
    return None


def responses_of(call: Any) -> Iterator[Any]:
    """Yields the responses of a streaming call; cancels it when abandoned.

    A thread receives them: whoever iterates waits on a queue, which an interrupt (Ctrl-C) leaves
    intact; the locks within gRPC would stay taken.

    Raises:
        grpc.RpcError: The call failed.
    """
    received: SimpleQueue[Any] = SimpleQueue()

    def receive() -> None:
        try:
            for response in call:
                received.put(response)
        except grpc.RpcError as error:
            received.put(error)
        received.put(None)

    threading.Thread(target=receive, name="gradwire-responses", daemon=True).start()
    try:
        while (response := received.get()) is not None:
            if isinstance(response, grpc.RpcError):
                raise response
            yield response
    finally:
        call.cancel()


def send_all(method: Any, requests: Iterator[Any], *, metadata: Any) -> Any:
    """Calls a client-streaming RPC; returns its response. It is cancelled when interrupted.

    Args:
        method: The stub's method.
        requests: What to send; consumed by a thread of gRPC's.
        metadata: The call's metadata.

    Raises:
        grpc.RpcError: The call failed.
        Exception: What `requests` raised.
    """
    failures: list[Exception] = []

    def guarded() -> Iterator[Any]:
        try:
            yield from requests
        except Exception as error:
            # gRPC would log it, and the caller would see no more than that the call failed.
            failures.append(error)
            raise

    done: SimpleQueue[Any] = SimpleQueue()
    call = method.future(guarded(), metadata=metadata)
    call.add_done_callback(done.put)
    try:
        done.get()
    except BaseException:
        call.cancel()
        raise
    if failures:
        raise failures[0]
    return call.result()


def retry_delays(deadline: float) -> Iterator[float]:
    """Yields how long to wait before each further attempt, until `deadline` (monotonic time)."""
    delay = FIRST_RETRY_SECONDS
    while time.monotonic() + delay < deadline:
        yield delay
        delay = min(2 * delay, LAST_RETRY_SECONDS)


def call_unary(
    method: Callable[..., Response],
    request: Message,
    *,
    address: str,
    token: str | None,
    timeout_seconds: float,
    patience_seconds: float,
) -> Response:
    """Calls a unary RPC; a request that may be repeated is repeated while nobody answers.

    A request that was refused because too many came is sent again when the server says.

    Args:
        method: The stub's method.
        request: Its request. It is sent again only if it changes nothing or carries a `request_id`.
        address: The server's address, for messages.
        token: What authenticates the caller.
        timeout_seconds: How long to try, all attempts together.
        patience_seconds: How long to try again if nobody answers.

    Raises:
        GradwireError: The server refused, or did not answer in time.
    """
    now = time.monotonic()
    deadline = now + timeout_seconds
    delays = retry_delays(now + patience_seconds)
    while True:
        try:
            with call_span(method_name(method)) as traced:
                return method(
                    request,
                    timeout=max(deadline - time.monotonic(), 0.001),
                    metadata=(*call_metadata(token), *traced),
                )
        except grpc.RpcError as error:
            raised = rpc_error(error, address)
            delay = next(delays, None) if is_transient(raised) else refused_for(error)
            if delay is None or time.monotonic() + delay > deadline:
                raise raised from None
            time.sleep(delay)
