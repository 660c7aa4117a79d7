"""Reading the routing fields of a request without decoding the rest."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from gradwire.v1 import routing_pb2
from gradwire.v1.wire import MalformedError, fields
from gradwire_server.errors import GradwireError, Reason

DIRECT_BYTES = 1024 * 1024
"""Up to here a request is simply parsed as its key, which copies all of it once."""

_ROUTING_FIELDS = frozenset({1, 2, 3, 5, 7})
"""The numbers of the fields of RoutingKey and ExecuteKey."""

M = TypeVar("M", bound=Message)


def routing_key(request: bytes) -> routing_pb2.RoutingKey:
    """Returns the routing key of a request.

    Raises:
        GradwireError: INVALID_REQUEST if it is no protobuf message.
    """
    if len(request) > DIRECT_BYTES:
        request = _leading_fields(request)
    return decode(routing_pb2.RoutingKey, request)


def execute_key(request: bytes) -> routing_pb2.ExecuteKey:
    """Returns the routing fields of an ExecuteRequest.

    Raises:
        GradwireError: INVALID_REQUEST if it is no protobuf message.
    """
    if len(request) > DIRECT_BYTES:
        request = _leading_fields(request)
    return decode(routing_pb2.ExecuteKey, request)


def decode(kind: type[M], request: bytes) -> M:
    """Returns a request as a message.

    Raises:
        GradwireError: INVALID_REQUEST if it is none.
    """
    try:
        return kind.FromString(request)
    except DecodeError as error:
        raise _malformed(str(error)) from None


def _leading_fields(request: bytes) -> bytes:
    """Returns the fields of routing keys that are short, however the sender ordered them.

    Every routing field is such a field, and tensors are not; so this neither copies nor looks at
    most of a large request.
    """
    try:
        return b"".join(
            request[field.begin : field.end]
            for field in fields(request)
            if field.number in _ROUTING_FIELDS and field.end - field.begin < DIRECT_BYTES // 2
        )
    except MalformedError as error:
        raise _malformed(str(error)) from None


def _malformed(why: str) -> GradwireError:
    return GradwireError(
        Reason.INVALID_REQUEST, f"The request is no message of its type: {why or 'malformed'}."
    )
