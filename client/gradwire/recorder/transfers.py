"""Tensors on their way: in the message, in shared memory, compressed, or in parts.

A small tensor is in the message. A large one is copied into the memory that client and server
share, if they are on one host. A larger one goes in parts, several in flight, so that neither the
longest message nor the shared memory limits it, and so that the program has it once in memory and
not twice.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gradwire.recorder.arrays import dtype_of_array, numpy_dtype
from gradwire.recorder.outbox import HEADER_BYTES, Outbox, Segment
from gradwire.recorder.values import empty_array
from gradwire.transport.compression import Compression
from gradwire.transport.sharing import Ring, Sharing
from gradwire.transport.stream import Answer
from gradwire.v1 import sessions_pb2, values_pb2
from gradwire.v1.apart import APART, PUT, WRITE, Piece, data_of, field

LARGE_BYTES = 64 * 1024
"""From here on tensors are shared or compressed rather than sent as they are."""

SHARED_PART_BYTES = 8 << 20
"""What is larger goes in parts of this size through shared memory."""

SENT_PART_BYTES = 1 << 20
"""What is larger goes in parts of this size in messages."""

OFFERED_BYTES = 8 << 20
"""How much of it is offered for the results of one message."""

ELEMENTS = "torch.Tensor.detach"
"""The operation that is fetched for a tensor's elements."""

_PARTS_IN_RING = 4
"""At least so many parts are in flight, however little memory the server shares."""

_TENSOR_HEADER_BYTES = 256
"""At most so much comes to the elements of a part, for more than 64 dimensions too."""


class _Held(NamedTuple):
    """A result that the server keeps to be read in parts.

    Attributes:
        handle: Its handle.
        elements: Where its bytes are to be.
    """

    handle: int
    elements: "np.ndarray[Any, Any]"


class Transfers:
    """Sends and receives the tensors of one session, by its outbox.

    Args:
        outbox: What carries the messages.
        sharing: Makes the shared memory when there is first use for it.
        compression: Compresses what travels in messages; None if that is not wanted.
        max_message_bytes: The longest message that the server accepts.
    """

    def __init__(
        self,
        outbox: Outbox,
        sharing: Sharing | None,
        compression: Compression | None,
        *,
        max_message_bytes: int,
    ) -> None:
        self._outbox = outbox
        self._sharing = sharing
        self._compression = compression
        self._most_bytes = max_message_bytes - HEADER_BYTES - _TENSOR_HEADER_BYTES
        self._wants_ring = False
        self._held: list[_Held] = []

    def put(
        self,
        handle: int,
        array: "np.ndarray[Any, Any]",
        *,
        requires_grad: bool,
        segment: Segment,
    ) -> None:
        """Sends an array, which may change as soon as this returns.

        Args:
            handle: The handle to store it under.
            array: The array, of any layout and byte order.
            requires_grad: Whether autograd is to track it.
            segment: What to keep of the commands that it takes.
        """
        tensor = values_pb2.Tensor(
            dtype=dtype_of_array(array).data_type,  # type: ignore[arg-type]
            shape=array.shape,
            requires_grad=requires_grad,
        )
        if array.nbytes <= self._part_bytes(array.nbytes):
            whole = _little_endian(array)
            # Filled where it is: a message that becomes part of another one is copied.
            command = sessions_pb2.Command(
                put_tensor=sessions_pb2.PutTensor(handle=handle, tensor=tensor)
            )
            rest = self._fill(command.put_tensor.tensor, _bytes_of(whole), PUT)
            # The message may be sent when the array has changed.
            rest = [bytes(piece) for piece in rest]
            self._add(command, command.put_tensor.tensor, segment, rest)
            return
        command = sessions_pb2.Command(
            begin_tensor=sessions_pb2.BeginTensor(handle=handle, tensor=tensor)
        )
        self._outbox.add(command, segment=segment)
        try:
            self._write(handle, array, segment)
        except BaseException:
            # Interrupted: what the server has of it is of no use to anybody.
            release = sessions_pb2.ReleaseHandles(handles=[handle])
            self._outbox.add(sessions_pb2.Command(release_handles=release))
            raise

    def put_copy(
        self,
        handle: int,
        array: "np.ndarray[Any, Any]",
        source: int,
        *,
        requires_grad: bool,
        segment: Segment,
    ) -> None:
        """As `put`, of an array whose elements another tensor of the session has.

        Args:
            handle: The handle to store it under.
            array: The array.
            source: The handle of the tensor that has its elements.
            requires_grad: Whether autograd is to track it.
            segment: What to keep of the command.
        """
        tensor = values_pb2.Tensor(
            dtype=dtype_of_array(array).data_type,  # type: ignore[arg-type]
            shape=array.shape,
            requires_grad=requires_grad,
            held=source,
        )
        put = sessions_pb2.PutTensor(handle=handle, tensor=tensor)
        self._outbox.add(sessions_pb2.Command(put_tensor=put), segment=segment)

    def _write(self, handle: int, array: "np.ndarray[Any, Any]", segment: Segment) -> None:
        """Sends the elements of an array that was begun."""
        offset, num_failures = 0, self._outbox.num_failures
        for elements in _parts(array, self._part_bytes(array.nbytes)):
            if self._outbox.num_failures != num_failures:
                # It was begun in vain, as its slot is told or will be.
                return
            command = sessions_pb2.Command()
            write = command.write_tensor
            write.handle, write.offset = handle, offset
            write.part.dtype = values_pb2.DATA_TYPE_UINT8
            write.part.shape.append(len(elements))
            rest = self._fill(write.part, elements, WRITE)
            self._add(command, write.part, segment, rest)
            self._outbox.send()
            offset += len(elements)

    def _part_bytes(self, size_bytes: int) -> int:
        """Returns how many bytes a tensor of that size is to be sent in at once."""
        if size_bytes >= LARGE_BYTES and (ring := self._ring()) is not None:
            return min(SHARED_PART_BYTES, ring.size_bytes // _PARTS_IN_RING)
        return min(SENT_PART_BYTES, self._most_bytes)

    def _fill(
        self, tensor: values_pb2.Tensor, elements: memoryview, way: Sequence[int]
    ) -> Sequence[Piece]:
        """Gives a message its elements; or returns what has them, to be put after its command.

        Args:
            tensor: The message.
            elements: The elements.
            way: Where in a command they are.
        """
        if len(elements) >= LARGE_BYTES:
            piece = self._take(len(elements))
            ring = self._outbox.ring
            if piece is not None and ring is not None:
                ring.write(piece, elements)
                tensor.region.CopyFrom(piece)
                return ()
            if self._compression is not None:
                compressed = self._compression.compress(elements)
                if len(compressed) < len(elements):
                    tensor.zstd_data = compressed
                    return ()
            return field(way, elements)
        tensor.data = bytes(elements)
        return ()

    def _add(
        self,
        command: sessions_pb2.Command,
        tensor: values_pb2.Tensor,
        segment: Segment,
        rest: Sequence[Piece],
    ) -> None:
        in_message = sum(map(len, rest)) or len(tensor.data) or len(tensor.zstd_data)
        self._outbox.add(command, segment=segment, num_bytes=in_message, rest=rest)
        if tensor.region.size_bytes > SENT_PART_BYTES // 2:
            # The server may fetch it while the next one is copied.
            self._outbox.send()

    def _ring(self) -> Ring | None:
        if self._outbox.ring is None and self._sharing is not None:
            self._outbox.ring = self._sharing.ring()
        return self._outbox.ring

    def renew(self) -> None:
        """Shares memory with the server anew, if it was started anew. For the stream's thread.

        Raises:
            GradwireError: The server does not answer, or gives none.
        """
        ring, sharing = self._outbox.ring, self._sharing
        if ring is not None and sharing is not None:
            sharing.renew(ring)

    def _take(self, size_bytes: int) -> values_pb2.RegionSlice | None:
        """Returns a slice of the shared memory, waiting for room; None if there is no memory."""
        ring = self._ring()
        if ring is None:
            return None
        while (piece := ring.take(size_bytes)) is None:
            if not self._outbox.make_room():
                return None
        return piece

    def close(self) -> None:
        """Lets go of the shared memory."""
        self._sharing = None
        ring, self._outbox.ring = self._outbox.ring, None
        if ring is not None:
            ring.close()

    def fetch(self, decode: Callable[..., Any]) -> list[Any]:
        """Sends everything, waits, and returns the values of the last message with their elements.

        Args:
            decode: Returns a value of a message; takes the value, and what makes an array of a
                tensor.

        Raises:
            GradwireError: A command has failed.
        """
        # Tensors that no message can carry are kept for now; small ones come as they are.
        delivery = values_pb2.Delivery(
            zstd=self._compression is not None,
            hold_above_bytes=self._part_bytes(LARGE_BYTES if self._wants_ring else 0),
        )
        ring = self._outbox.ring
        offered = None if ring is None else ring.take(OFFERED_BYTES)
        if offered is not None:
            delivery.region.CopyFrom(offered)
        values: list[Any] = []

        def receive(answer: Answer) -> None:
            make_array = partial(self._array, apart=answer.apart)
            values.extend(decode(value, make_array) for value in answer.message.values)

        self._held = []
        self._outbox.wait(delivery, receive)
        if self._held:
            self._read_all()
        return values

    def _array(
        self, tensor: values_pb2.Tensor, apart: Sequence[memoryview]
    ) -> "np.ndarray[Any, Any]":
        """Returns a writable array for a tensor; its elements are there, or will be read."""
        array = empty_array(tensor)
        if not array.size:
            return array
        self._wants_ring |= array.nbytes >= LARGE_BYTES
        elements = array.reshape(-1).view(np.uint8)
        if tensor.WhichOneof("payload") == "held":
            self._held.append(_Held(tensor.held, elements))
        else:
            self._copy(tensor, apart, elements)
        return array

    def _copy(
        self,
        tensor: values_pb2.Tensor,
        apart: Sequence[memoryview],
        into: "np.ndarray[Any, Any]",
    ) -> None:
        """Copies the elements of a message to where they are wanted."""
        match tensor.WhichOneof("payload"):
            case "region" if tensor.region.region != APART:
                assert self._outbox.ring is not None
                self._outbox.ring.read(tensor.region, into.data)
            case "zstd_data":
                assert self._compression is not None
                self._compression.decompress(tensor.zstd_data, into.data)
            case _:
                into[:] = np.frombuffer(data_of(tensor, apart), np.uint8)

    def _read_all(self) -> None:
        """Reads what the server keeps, in parts, and lets it forget that."""
        held, self._held = self._held, []
        try:
            for each in held:
                self._read(each)
            self._outbox.wait()
        finally:
            release = sessions_pb2.ReleaseHandles(handles=[each.handle for each in held])
            self._outbox.add(sessions_pb2.Command(release_handles=release))

    def _read(self, held: _Held) -> None:
        size = len(held.elements)
        step = self._part_bytes(size)
        for begin in range(0, size, step):
            into = held.elements[begin : begin + step]
            delivery = values_pb2.Delivery(zstd=self._compression is not None)
            piece = self._take(len(into))
            if piece is not None:
                delivery.region.CopyFrom(piece)
            read = sessions_pb2.ReadTensor(handle=held.handle, offset=begin, size_bytes=len(into))
            self._outbox.add(sessions_pb2.Command(read_tensor=read))
            self._outbox.send(delivery, self._copier(into))
            self._outbox.raise_error()

    def _copier(self, into: "np.ndarray[Any, Any]") -> Callable[[Answer], None]:
        def receive(answer: Answer) -> None:
            self._copy(answer.message.values[-1].tensor, answer.apart, into)

        return receive


def _little_endian(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Returns an array in the layout of the wire; itself if it is."""
    return np.ascontiguousarray(array, dtype=numpy_dtype(dtype_of_array(array)))


def _bytes_of(array: "np.ndarray[Any, Any]") -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _parts(array: "np.ndarray[Any, Any]", size_bytes: int) -> Iterator[memoryview]:
    """Yields the bytes of an array in order; of one in another layout a copy of each part."""
    if array.flags.c_contiguous and array.dtype == numpy_dtype(dtype_of_array(array)):
        whole = _bytes_of(array)
        for begin in range(0, len(whole), size_bytes):
            yield whole[begin : begin + size_bytes]
        return
    step = max(1, size_bytes // array.itemsize)
    for begin in range(0, math.prod(array.shape), step):
        yield _bytes_of(_little_endian(array.flat[begin : begin + step]))
