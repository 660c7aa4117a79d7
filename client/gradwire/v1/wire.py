"""Protobuf's wire format, as far as messages are looked at without being parsed.

See https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""The wire types of fields."""
_MAX_VARINT_BYTES = 10


class MalformedError(ValueError):
    """The bytes are no message; the text says why."""


class Field(NamedTuple):
    """Where a field of a message is.

    Attributes:
        number: Its number.
        wire_type: Its wire type.
        begin: Where its tag begins.
        start: Where its contents begin, after its length if it has one.
        end: Where it ends.
    """

    number: int
    wire_type: int
    begin: int
    start: int
    end: int


def fields(message: bytes | memoryview) -> Iterator[Field]:
    """Yields the fields of a message in order; those of messages in it are not looked at.

    Raises:
        MalformedError: It is no message.
    """
    position, size = 0, len(message)
    while position < size:
        begin = position
        tag, start = _varint(message, begin)
        wire_type = tag & 7
        if wire_type == VARINT:
            _, position = _varint(message, start)
        elif wire_type == LENGTH:
            length, start = _varint(message, start)
            position = start + length
        elif wire_type in {FIXED64, FIXED32}:
            position = start + (8 if wire_type == FIXED64 else 4)
        else:
            raise MalformedError(f"wire type {wire_type} at byte {begin}")
        if position > size:
            raise MalformedError("it is cut off")
        yield Field(tag >> 3, wire_type, begin, start, position)


def _varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Returns a varint and the position after it."""
    value = shift = 0
    for byte in data[position : position + _MAX_VARINT_BYTES]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise MalformedError(f"no number ends at byte {position}")
