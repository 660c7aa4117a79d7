"""Reading the routing fields of a request without decoding the rest."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from gradwire.v1 import routing_pb2
from gradwire_server.errors import GradwireError, Reason

DIRECT_BYTES = 1024 * 1024
"""Up to here a request is simply parsed as its key, which copies all of it once."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10

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
    kept: list[bytes] = []
    position, size = 0, len(request)
    while position < size:
        begin = position
        tag, position = _varint(request, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, position = _varint(request, position)
        elif wire_type == _LENGTH:
            length, position = _varint(request, position)
            position += length
        elif wire_type in {_FIXED64, _FIXED32}:
            position += 8 if wire_type == _FIXED64 else 4
        else:
            raise _malformed(f"wire type {wire_type} at byte {begin}")
        if position > size:
            raise _malformed("it is cut off")
        if tag >> 3 in _ROUTING_FIELDS and position - begin < DIRECT_BYTES // 2:
            kept.append(request[begin:position])
    return b"".join(kept)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns a varint and the position after it."""
    value = shift = 0
    for byte in data[position : position + _MAX_VARINT_BYTES]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _malformed(f"no number ends at byte {position}")


def _malformed(why: str) -> GradwireError:
    return GradwireError(
        Reason.INVALID_REQUEST, f"The request is no message of its type: {why or 'malformed'}."
    )
