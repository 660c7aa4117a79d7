"""The elements of tensors: from wherever a message has them into memory of torch, and back.

Memory that a client shares with the session is copied before anything looks at it: what was checked
can't change any more.
"""

import torch
import zstandard

from gradwire.v1 import values_pb2
from gradwire_server.engine.regions import Regions
from gradwire_server.errors import invalid

LARGE_BYTES = 64 * 1024
"""From here on tensors are shared or compressed rather than sent as they are."""

_ZSTD_LEVEL = 1
"""Fast enough to keep up with a network; higher levels gain little on tensors."""
_MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""What a decompressor may use for its window; `zstd --long` needs more and is refused."""


def read_elements(
    tensor: values_pb2.Tensor, size_bytes: int, device: torch.device, regions: Regions, path: str
) -> torch.Tensor:
    """Returns the elements of a message's tensor as a vector of bytes of its own on a device.

    Args:
        tensor: The message.
        size_bytes: How many bytes its dtype and shape say.
        device: Where they are to be.
        regions: The memory that the session shares.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: The payload has another length, or is not where it is said to be.
    """
    kind = tensor.WhichOneof("payload") or "data"
    match kind:
        case "data":
            _require_size(len(tensor.data), size_bytes, f"{path}.data", tensor)
            elements = _empty(size_bytes, device)
            elements.numpy().data[:] = tensor.data
        case "region":
            _require_size(tensor.region.size_bytes, size_bytes, f"{path}.region.size_bytes", tensor)
            shared = regions.slice(tensor.region, f"{path}.region")
            elements = _empty(size_bytes, device).copy_(shared)
        case "zstd_data":
            elements = _empty(size_bytes, device)
            _decompress(tensor.zstd_data, elements.numpy().data, f"{path}.zstd_data")
        case _:
            raise invalid(f"{path}.{kind}", "is output only; send a handle in its place")
    return elements if device.type == "cpu" else elements.to(device, non_blocking=True)


def _empty(size_bytes: int, device: torch.device) -> torch.Tensor:
    # From pinned memory a GPU fetches by itself while the host goes on; torch keeps it until then.
    return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")


def _require_size(given: int, needed: int, path: str, tensor: values_pb2.Tensor) -> None:
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


def compress(elements: torch.Tensor) -> bytes:
    """Returns a vector of bytes on the CPU as one Zstandard frame."""
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(elements.numpy().data)


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the elements of a dense contiguous tensor as a vector of bytes that shares them."""
    # Not a reshape: that keeps the stride of a single element, which then has no view as bytes.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
