"""Tensors that travel in parts, since they are too large for a message."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gradwire.v1 import sessions_pb2, values_pb2
from gradwire_server.engine.delivery import Delivery
from gradwire_server.engine.elements import bytes_of, read_elements
from gradwire_server.engine.memory import Budget
from gradwire_server.engine.regions import Regions
from gradwire_server.engine.values import describe_shape, finish_tensor
from gradwire_server.errors import GradwireError, Reason, invalid

_CPU = torch.device("cpu")


@dataclass(kw_only=True)
class _Unfinished:
    """A tensor whose elements are coming.

    Attributes:
        message: What it is to be.
        elements: Its bytes, on the session's device.
        filled_bytes: How many have come.
    """

    message: values_pb2.Tensor
    elements: torch.Tensor
    filled_bytes: int = 0


class Parts:
    """What a session sends and receives in parts.

    A tensor can't be used before all of it is there: until then its memory holds what somebody
    else may have left.

    Args:
        device: Where the session's tensors live.
        regions: The memory that it shares.
        budget: What must have room for a tensor before its memory is taken.
    """

    def __init__(self, device: torch.device, regions: Regions, budget: Budget) -> None:
        self._device = device
        self._regions = regions
        self._budget = budget
        self._unfinished: dict[int, _Unfinished] = {}
        self._read: tuple[int, int] | None = None

    def begin(self, command: sessions_pb2.BeginTensor) -> torch.Tensor | None:
        """Takes memory for a tensor; returns it if it has no elements, so that none will come.

        Raises:
            GradwireError: It can't be, or is too large for the session.
        """
        tensor = command.tensor
        if tensor.WhichOneof("payload") is not None:
            raise invalid("begin_tensor.tensor", "has a payload; WriteTensor brings its elements")
        _, size_bytes = describe_shape(tensor, "begin_tensor.tensor")
        self._budget.reserve(size_bytes, "begin_tensor")
        elements = torch.empty(size_bytes, dtype=torch.uint8, device=self._device)
        if not size_bytes:
            return finish_tensor(tensor, elements, "begin_tensor.tensor")
        message = values_pb2.Tensor()
        message.CopyFrom(tensor)
        self._unfinished[command.handle] = _Unfinished(message=message, elements=elements)
        return None

    def write(self, command: sessions_pb2.WriteTensor) -> torch.Tensor | None:
        """Takes a part; returns the tensor if that was the last one.

        Raises:
            GradwireError: There is no such tensor, or this is not its next part.
        """
        unfinished = self._unfinished.get(command.handle)
        if unfinished is None:
            raise GradwireError(
                Reason.HANDLE_NOT_FOUND,
                f"write_tensor.handle: no tensor {command.handle} was begun, or it was finished or "
                "released since; send BeginTensor first",
                metadata={"handle": str(command.handle)},
            )
        begin, size = unfinished.filled_bytes, math.prod(command.part.shape)
        if command.offset != begin:
            raise invalid(
                "write_tensor.offset", f"is {command.offset}; the next part is at {begin}"
            )
        if command.part.dtype != values_pb2.DATA_TYPE_UINT8 or len(command.part.shape) != 1:
            raise invalid("write_tensor.part", "must be a vector of DATA_TYPE_UINT8")
        if not 0 < size <= len(unfinished.elements) - begin:
            raise invalid(
                "write_tensor.part",
                f"has {size} bytes; {len(unfinished.elements) - begin} are missing",
            )
        into = unfinished.elements[begin : begin + size]
        read_elements(command.part, into, self._regions, "write_tensor.part")
        unfinished.filled_bytes += size
        if unfinished.filled_bytes < len(unfinished.elements):
            return None
        del self._unfinished[command.handle]
        return finish_tensor(unfinished.message, unfinished.elements, "write_tensor")

    def read(
        self, command: sessions_pb2.ReadTensor, tensor: object, delivery: Delivery
    ) -> values_pb2.Value:
        """Returns a part of a tensor.

        Raises:
            GradwireError: It is none whose bytes can be read, or was changed since the last part.
        """
        if (
            not isinstance(tensor, torch.Tensor)
            or tensor.layout != torch.strided
            or not tensor.is_contiguous()
            or tensor.is_conj()
            or tensor.is_neg()
        ):
            raise invalid(
                "read_tensor.handle",
                f"{command.handle} is no dense contiguous tensor; fetch it as the result of one",
            )
        elements = bytes_of(tensor.detach())
        begin, size = command.offset, command.size_bytes
        if begin < 0 or size <= 0 or begin > len(elements) or size > len(elements) - begin:
            raise invalid(
                "read_tensor",
                f"bytes {begin} to {begin + size} are not within the {len(elements)} of the tensor",
            )
        state = (command.handle, tensor._version)
        if begin and self._read != state:
            raise GradwireError(
                Reason.OPERATION_FAILED,
                "read_tensor: the tensor was changed, or another one was read, since the part "
                "before; begin again at offset 0",
            )
        self._read = state
        value = values_pb2.Value()
        value.tensor.dtype = values_pb2.DATA_TYPE_UINT8
        value.tensor.shape.append(size)
        delivery.place(value.tensor, elements[begin : begin + size].to(_CPU), is_part=True)
        return value

    def release(self, handle: int) -> None:
        """Forgets a tensor whose elements have not all come, if there is one."""
        self._unfinished.pop(handle, None)

    def held(self) -> Iterator[torch.Tensor]:
        """Yields the memory of tensors that are not there yet."""
        return (unfinished.elements for unfinished in self._unfinished.values())

    def clear(self) -> None:
        """Forgets all of them."""
        self._unfinished.clear()
