"""How large tensors of an answer go to who asked for them; see `Delivery` in the contract."""

from collections.abc import Callable

import torch

from gradwire.v1 import values_pb2
from gradwire_server.engine.elements import LARGE_BYTES, bytes_of, compress, read_only
from gradwire_server.engine.regions import NO_REGIONS, Bytes, Regions

_ALIGNMENT = 64


class Delivery:
    """Places the elements of tensors, those of one answer after the other.

    Args:
        message: What the sender would like.
        regions: The memory that the session shares.
        limit_bytes: How many bytes an answer may have.
        hold: Keeps a tensor in the session; returns its handle.

    Raises:
        GradwireError: The memory that is offered is none of the session's.
    """

    def __init__(
        self,
        message: values_pb2.Delivery | None = None,
        *,
        regions: Regions = NO_REGIONS,
        limit_bytes: int = 0,
        hold: Callable[[torch.Tensor], int] | None = None,
    ) -> None:
        self._can_be_apart = message is not None
        message = message or values_pb2.Delivery()
        self._zstd = message.zstd
        self._hold = hold if message.hold_above_bytes > 0 else None
        self._hold_above_bytes = message.hold_above_bytes
        self._limit_bytes = limit_bytes
        self._num_inline_bytes = 0
        self._slice = message.region if message.HasField("region") else None
        self._room = None if self._slice is None else regions.slice(self._slice, "delivery.region")
        self._used_bytes = 0
        self._apart: Bytes | None = None

    @property
    def holds(self) -> bool:
        """Whether there is no tensor too large for it."""
        return self._hold is not None

    def take_apart(self) -> Bytes | None:
        """Returns what was placed apart since the last time; it is the memory of the tensor."""
        elements, self._apart = self._apart, None
        return elements

    def place(
        self, message: values_pb2.Tensor, plain: torch.Tensor, *, is_part: bool = False
    ) -> None:
        """Sets the payload of a message.

        Args:
            message: The message.
            plain: The tensor: dense, contiguous, on the CPU.
            is_part: Whether it is a part of a tensor, all that its command returns. Elements that
                would be in the message are placed apart if they are many.
        """
        size = plain.numel() * plain.element_size()
        if self._hold is not None and (
            size > self._hold_above_bytes or self._num_inline_bytes + size > self._limit_bytes
        ):
            message.held = self._hold(plain)
            return
        if not size:
            message.data = b""
            return
        elements = read_only(bytes_of(plain))
        if size >= LARGE_BYTES and self._place_in_region(message, elements):
            return
        if size >= LARGE_BYTES and self._zstd:
            message.zstd_data = compress(elements)
            self._num_inline_bytes += len(message.zstd_data)
            return
        if is_part and self._can_be_apart and size >= LARGE_BYTES:
            self._apart = elements
        else:
            message.data = elements.tobytes()
        self._num_inline_bytes += size

    def _place_in_region(self, message: values_pb2.Tensor, elements: Bytes) -> bool:
        """Copies elements into the shared memory, if they fit."""
        if self._slice is None or self._room is None:
            return False
        begin, size = self._used_bytes, len(elements)
        if begin > len(self._room) or size > len(self._room) - begin:
            return False
        self._room[begin : begin + size] = elements
        self._used_bytes = -(-(begin + size) // _ALIGNMENT) * _ALIGNMENT
        message.region.region = self._slice.region
        message.region.offset = self._slice.offset + begin
        message.region.size_bytes = size
        return True


IN_LINE = Delivery()
"""All in the message."""
