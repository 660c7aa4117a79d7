"""The elements of tensors: from wherever a message has them into memory of torch, and back.

Memory that a client shares with the session is copied before anything looks at it: what was checked
can't change any more.
"""

import ctypes

import numpy as np
import torch
import zstandard

from gradwire.v1 import values_pb2
from gradwire_server.engine.regions import Bytes, Regions
from gradwire_server.errors import invalid

LARGE_BYTES = 64 * 1024
"""From here on tensors are shared or compressed rather than sent as they are."""

_ZSTD_LEVEL = 1
"""Fast enough to keep up with a network; higher levels gain little on tensors."""
_MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""What a decompressor may use for its window; `zstd --long` needs more and is refused."""


def read_elements(
    tensor: values_pb2.Tensor, into: torch.Tensor, regions: Regions, path: str
) -> None:
    """Copies the elements of a message's tensor to where they are wanted.

    Args:
        tensor: The message.
        into: A vector of bytes on any device, as many as dtype and shape say.
        regions: The memory that the session shares.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: The payload has another length, or is not where it is said to be.
    """
    require_size(tensor, len(into), path)
    on_host = into.device.type == "cpu"
    # From pinned memory a GPU fetches by itself while the host goes on; torch keeps it until then.
    host = into if on_host else torch.empty(len(into), dtype=torch.uint8, pin_memory=True)
    _read_to_host(tensor, host.numpy(), regions, path)
    if not on_host:
        into.copy_(host, non_blocking=True)


def _read_to_host(tensor: values_pb2.Tensor, into: Bytes, regions: Regions, path: str) -> None:
    # numpy copies on this thread: torch would ask for all cores, and wait for the busiest.
    match tensor.WhichOneof("payload"):
        case "data" | None:
            into[:] = np.frombuffer(tensor.data, np.uint8)
        case "region":
            into[:] = regions.slice(tensor.region, f"{path}.region")
        case "zstd_data":
            _decompress(tensor.zstd_data, into.data, f"{path}.zstd_data")
        case kind:
            raise invalid(
                f"{path}.{kind}",
                "can be given in PutTensor alone; send a handle in place of the tensor",
            )


def require_size(tensor: values_pb2.Tensor, needed: int, path: str) -> None:
    """Raises unless a message has as many bytes as its shape needs, before memory is taken.

    How much compressed elements are shows when they are decompressed.
    """
    match tensor.WhichOneof("payload"):
        case "data" | None:
            given, path = len(tensor.data), f"{path}.data"
        case "region":
            given, path = tensor.region.size_bytes, f"{path}.region.size_bytes"
        case _:
            return
    if given != needed:
        raise invalid(
            path,
            f"{given} bytes, but {needed} are needed for shape {list(tensor.shape)} of "
            f"{values_pb2.DataType.Name(tensor.dtype)}",
        )


def _decompress(frame: bytes, into: memoryview, path: str) -> None:
    """Decompresses into memory of exactly the right size; more is never written anywhere."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    filled = 0
    try:
        with decompressor.stream_reader(frame, closefd=False) as reader:
            while filled < len(into):
                count = reader.readinto(into[filled:])
                if not count:
                    break
                filled += count
            rest = reader.read(1)
    except zstandard.ZstdError as error:
        raise invalid(path, f"is no Zstandard frame: {error}") from None
    if filled < len(into) or rest:
        amount = "more than" if rest else f"{filled} bytes, not"
        raise invalid(path, f"decompresses to {amount} the {len(into)} bytes of the tensor")


def compress(elements: Bytes) -> bytes:
    """Returns bytes as one Zstandard frame."""
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(elements.data)


def lazy_copy(source: torch.Tensor) -> torch.Tensor:
    """Returns a copy, which shares memory with its source until one of both is written to."""
    if source.device.type == "cpu" and source.layout == torch.strided:
        try:
            return torch._lazy_clone(source)
        except RuntimeError:
            # It is memory that torch did not take itself.
            pass
    return source.clone()


def read_only(elements: torch.Tensor) -> Bytes:
    """Returns a vector of bytes on the CPU as an array, to be read while the vector lives.

    `Tensor.numpy` would first make a copy of memory that is shared until it is written to.
    """
    if not torch._C._is_cow_tensor(elements):  # type: ignore[attr-defined]
        array: Bytes = elements.numpy()
        return array
    address = torch._C._data_address(elements)  # type: ignore[attr-defined]
    address += elements.storage_offset()
    return np.ctypeslib.as_array((ctypes.c_uint8 * len(elements)).from_address(address))


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the elements of a dense contiguous tensor as a vector of bytes that shares them."""
    # Not a reshape: that keeps the stride of a single element, which then has no view as bytes.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
