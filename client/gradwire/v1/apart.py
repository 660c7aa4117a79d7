"""Large elements of tensors apart from the message that they are in.

Protobuf copies a field of bytes when a message is parsed, when the field is read or set, when the
message becomes part of another one, and twice when that is serialized. So the elements of parts of
tensors do not go through it: whoever sends them puts them behind the serialized fields before
them, and whoever gets them parses the message without them. On the wire it is the same message.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gradwire.v1 import sessions_pb2, values_pb2
from gradwire.v1.wire import LENGTH, VARINT, MalformedError, fields

LARGE_BYTES = 64 * 1024
"""What is smaller is parsed with the rest."""

APART = 0
"""The number of the region that elements apart are said to be in, at their index. It is the number
of no region that is shared."""

Piece = bytes | memoryview
"""A part of a serialized message."""

Places = Mapping[int, "Places | None"]
"""In which fields of a message elements may be, by number: in which fields of that; None if it is
`Tensor.data` itself."""

_DATA: Any = values_pb2.Tensor.DATA_FIELD_NUMBER
_COMMANDS: Any = sessions_pb2.ExecuteRequest.COMMANDS_FIELD_NUMBER
_VALUES: Any = sessions_pb2.ExecuteResponse.VALUES_FIELD_NUMBER

PUT: Final[tuple[int, ...]] = (
    sessions_pb2.Command.PUT_TENSOR_FIELD_NUMBER,
    sessions_pb2.PutTensor.TENSOR_FIELD_NUMBER,
    _DATA,
)
WRITE: Final[tuple[int, ...]] = (
    sessions_pb2.Command.WRITE_TENSOR_FIELD_NUMBER,
    sessions_pb2.WriteTensor.PART_FIELD_NUMBER,
    _DATA,
)
READ: Final[tuple[int, ...]] = (values_pb2.Value.TENSOR_FIELD_NUMBER, _DATA)
"""The way to elements: in a Command that puts or writes a tensor, and in a Value."""

REQUEST: Places = {
    _COMMANDS: {PUT[0]: {PUT[1]: {_DATA: None}}, WRITE[0]: {WRITE[1]: {_DATA: None}}}
}
ANSWER: Places = {_VALUES: {READ[0]: {_DATA: None}}}
"""Where elements may be in an ExecuteRequest, and in an ExecuteResponse."""


def field(way: Sequence[int], *pieces: Piece) -> list[Piece]:
    """Returns a field of bytes, or of a serialized message, that consists of pieces.

    Args:
        way: The number of the field, after those of the messages that it is in. These go on where
            the same fields that come before left off: protobuf merges fields that come twice.
        pieces: What the field consists of, one after the other.
    """
    head = b""
    size = sum(len(piece) for piece in pieces)
    for number in reversed(way):
        head = _varint(number << 3 | LENGTH) + _varint(size + len(head)) + head
    return [head, *pieces]


def split(payload: bytes, places: Places) -> tuple[bytes, Sequence[memoryview]]:
    """Takes large elements out of a serialized message.

    Args:
        payload: The message.
        places: Where elements may be.

    Returns:
        The message, in which `Tensor.data` that was taken out is a `Tensor.region` in the region
        `APART`; and the elements by its offset, as views of `payload`. Bytes that are no message
        are returned as they are: parsing them will tell.
    """
    if len(payload) < LARGE_BYTES:
        return payload, ()
    apart: list[memoryview] = []
    try:
        rest = b"".join(_without(memoryview(payload), places, apart))
    except MalformedError:
        return payload, ()
    return (rest, apart) if apart else (payload, ())


def data_of(tensor: values_pb2.Tensor, apart: Sequence[memoryview]) -> Piece:
    """Returns the elements of a tensor that has them in the message, or apart from that."""
    if apart and tensor.WhichOneof("payload") == "region" and tensor.region.region == APART:
        return apart[tensor.region.offset]
    return tensor.data


def _without(message: memoryview, places: Places, apart: list[memoryview]) -> Iterator[Piece]:
    """Yields a message in pieces, without large elements."""
    kept = 0
    for number, wire_type, begin, start, end in fields(message):
        if number in places and wire_type == LENGTH and end - start >= LARGE_BYTES:
            yield message[kept:begin]
            kept = end
            yield from _replaced(number, message[start:end], places[number], apart)
    yield message[kept:]


def _replaced(
    number: int, contents: memoryview, places: Places | None, apart: list[memoryview]
) -> list[Piece]:
    """Returns what takes the place of a field."""
    if places is not None:
        return field((number,), *_without(contents, places, apart))
    # Zeros are written out, too: fields that come twice are merged.
    place = b"".join(
        _varint(number << 3 | VARINT) + _varint(value)
        for number, value in (
            (values_pb2.RegionSlice.REGION_FIELD_NUMBER, APART),
            (values_pb2.RegionSlice.OFFSET_FIELD_NUMBER, len(apart)),
            (values_pb2.RegionSlice.SIZE_BYTES_FIELD_NUMBER, len(contents)),
        )
    )
    apart.append(contents)
    return field((values_pb2.Tensor.REGION_FIELD_NUMBER,), place)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
