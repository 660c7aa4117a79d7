from collections.abc import Sequence

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.v1 import sessions_pb2, values_pb2
from gradwire.v1.apart import (
    ANSWER,
    APART,
    LARGE_BYTES,
    PUT,
    READ,
    REQUEST,
    WRITE,
    Piece,
    data_of,
    field,
    split,
)

Request = sessions_pb2.ExecuteRequest
Response = sessions_pb2.ExecuteResponse
Command = sessions_pb2.Command

ELEMENTS = bytes(range(256)) * (LARGE_BYTES // 256)
SIZES = st.sampled_from([0, 1, LARGE_BYTES - 1, LARGE_BYTES])


def tensor_of(size: int) -> values_pb2.Tensor:
    return values_pb2.Tensor(shape=[size], data=ELEMENTS[:size], requires_grad=True)


def command_of(kind: str, size: int) -> Command:
    """Returns a command of about that many bytes."""
    match kind:
        case "put":
            return Command(put_tensor=sessions_pb2.PutTensor(handle=5, tensor=tensor_of(size)))
        case "write":
            return Command(write_tensor=sessions_pb2.WriteTensor(handle=5, part=tensor_of(size)))
        case _:
            return Command(release_handles=sessions_pb2.ReleaseHandles(handles=[1] * size))


def put_back(tensor: values_pb2.Tensor, apart: Sequence[memoryview]) -> int:
    """Puts elements that are apart where they belong; returns how many tensors that were."""
    if tensor.WhichOneof("payload") != "region":
        return 0
    assert (tensor.region.region, len(apart[tensor.region.offset])) == (
        APART,
        tensor.region.size_bytes,
    )
    tensor.data = bytes(data_of(tensor, apart))
    return 1


@settings(deadline=None, derandomize=True, database=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["put", "write", "release"]), SIZES), max_size=5))
def test_a_request_says_the_same_with_its_elements_apart(commands: list[tuple[str, int]]) -> None:
    made = [command_of(*each) for each in commands]
    request = Request(name="sessions/a", seq=3, commands=made, traceparent="later")
    rest, apart = split(request.SerializeToString(), REQUEST)
    parsed = Request.FromString(rest)
    tensors = [
        command.put_tensor.tensor if kind == "put" else command.write_tensor.part
        for command, (kind, _) in zip(parsed.commands, commands, strict=True)
        if kind != "release"
    ]
    assert sum(put_back(tensor, apart) for tensor in tensors) == len(apart)
    assert len(apart) == [size for kind, size in commands if kind != "release"].count(LARGE_BYTES)
    assert parsed == request


@settings(deadline=None, derandomize=True, database=None, max_examples=50)
@given(st.lists(SIZES, max_size=4))
def test_an_answer_says_the_same_with_its_elements_apart(sizes: list[int]) -> None:
    response = Response(seq=3, values=[values_pb2.Value(tensor=tensor_of(size)) for size in sizes])
    rest, apart = split(response.SerializeToString(), ANSWER)
    parsed = Response.FromString(rest)
    assert sum(put_back(value.tensor, apart) for value in parsed.values) == len(apart)
    assert len(apart) == sizes.count(LARGE_BYTES)
    assert parsed == response


@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES, 3_000_000])
def test_elements_behind_their_message_are_in_it(size: int) -> None:
    elements = memoryview(bytes(size))

    def joined(message: bytes, pieces: list[Piece]) -> bytes:
        return b"".join((message, *pieces))

    tensor = values_pb2.Tensor(dtype=values_pb2.DATA_TYPE_UINT8, shape=[size])
    command = Command(put_tensor=sessions_pb2.PutTensor(handle=5, tensor=tensor))
    parsed = Command.FromString(joined(command.SerializeToString(), field(PUT, elements)))
    command.put_tensor.tensor.data = bytes(elements)
    assert parsed == command

    command = Command(write_tensor=sessions_pb2.WriteTensor(handle=5, offset=8, part=tensor))
    parsed = Command.FromString(joined(command.SerializeToString(), field(WRITE, elements)))
    command.write_tensor.part.data = bytes(elements)
    assert parsed == command

    value = values_pb2.Value(tensor=tensor)
    behind = joined(value.SerializeToString(), field(READ, elements))
    value.tensor.data = bytes(elements)
    assert values_pb2.Value.FromString(behind) == value


@settings(deadline=None, derandomize=True, database=None)
@given(st.integers(0, 120), st.binary(max_size=40))
def test_bytes_that_are_no_message_are_left_to_the_parser(cut: int, noise: bytes) -> None:
    command = command_of("put", LARGE_BYTES)
    whole = Request(seq=3, commands=[command, command]).SerializeToString()
    for payload in (whole[:-cut] if cut else whole, whole + noise, noise + whole):
        rest, apart = split(payload, REQUEST)
        try:
            expected = Request.FromString(payload)
        except DecodeError:
            with pytest.raises(DecodeError):
                Request.FromString(rest)
            continue
        parsed = Request.FromString(rest)
        for each in parsed.commands:
            put_back(each.put_tensor.tensor, apart)
        assert parsed == expected
