"""Between wire values and torch: the one codec of tensors and arguments."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from gradwire.v1 import values_pb2
from gradwire.v1.dtypes import ROWS
from gradwire_server.engine.delivery import Delivery
from gradwire_server.engine.elements import (
    bytes_of,
    lazy_copy,
    read_elements,
    read_only,
    require_size,
)
from gradwire_server.engine.failures import operation
from gradwire_server.engine.regions import NO_REGIONS, Regions
from gradwire_server.errors import GradwireError, Reason, invalid

DTYPE_OF_DATA_TYPE: dict[int, torch.dtype] = {
    row.data_type: getattr(torch, row.name) for row in ROWS
}
DATA_TYPE_OF_DTYPE: dict[torch.dtype, int] = {
    dtype: data_type for data_type, dtype in DTYPE_OF_DATA_TYPE.items()
}
ITEMSIZE: dict[int, int] = {row.data_type: row.itemsize for row in ROWS}

CONSTANTS: dict[str, Any] = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        "contiguous_format",
        "preserve_format",
        "channels_last",
        "channels_last_3d",
        "strided",
        "sparse_coo",
        "sparse_csr",
        "sparse_csc",
        "sparse_bsr",
        "sparse_bsc",
    )
}
NAME_OF_CONSTANT: dict[Any, str] = {constant: name for name, constant in CONSTANTS.items()}

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
SMALL_BYTES = 16 * 1024
"""Below this it is cheaper to copy twice than to look where the elements are."""
MAX_NESTING = 64
"""How deep lists, tuples and dicts may be nested."""


def decode_tensor(
    tensor: values_pb2.Tensor, device: torch.device, path: str, regions: Regions = NO_REGIONS
) -> torch.Tensor:
    """Returns the tensor on `device`; a leaf, requiring a gradient if it says so.

    Args:
        tensor: The wire form.
        device: Where the elements are to be.
        path: The request field it came in, for errors.
        regions: The memory that the session shares with its client.

    Raises:
        GradwireError: The dtype is unknown, a dimension is negative, or the payload has another
            length than dtype and shape say, or is not where it is said to be.
    """
    dtype, size_bytes = describe_shape(tensor, path)
    if size_bytes < SMALL_BYTES and len(tensor.data) == size_bytes > 0:
        # bytearray: torch shares the memory it is given and may write to it.
        elements = torch.frombuffer(bytearray(tensor.data), dtype=dtype)
        if device.type != "cpu":
            elements = elements.to(device)
    else:
        require_size(tensor, size_bytes, path)
        with operation(path):
            elements = torch.empty(size_bytes, dtype=torch.uint8, device=device)
        read_elements(tensor, elements, regions, path)
    return finish_tensor(tensor, elements, path)


def describe_shape(tensor: values_pb2.Tensor, path: str) -> tuple[torch.dtype, int]:
    """Returns a tensor's dtype, and how many bytes it has.

    Raises:
        GradwireError: The dtype is unknown, or a dimension is negative.
    """
    dtype = DTYPE_OF_DATA_TYPE.get(tensor.dtype)
    if dtype is None:
        raise invalid(f"{path}.dtype", f"{tensor.dtype} is not a DataType that tensors can have")
    if any(size < 0 for size in tensor.shape):
        raise invalid(f"{path}.shape", f"{list(tensor.shape)} has a negative dimension")
    return dtype, math.prod(tensor.shape) * ITEMSIZE[tensor.dtype]


def finish_tensor(tensor: values_pb2.Tensor, elements: torch.Tensor, path: str) -> torch.Tensor:
    """Returns the tensor that a message describes, with elements that are there already.

    Args:
        tensor: The wire form.
        elements: The elements, or their bytes, as a vector on the right device.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: It can't require a gradient.
    """
    dtype = DTYPE_OF_DATA_TYPE[tensor.dtype]
    if elements.dtype != dtype:
        elements = elements.view(dtype)
    result = elements.view(tuple(tensor.shape))
    if dtype == torch.bool:
        # What torch does with a boolean that is neither 0 nor 1 is undefined.
        result = result.view(torch.uint8) != 0
    return _leaf(result, tensor, path)


def copy_tensor(tensor: values_pb2.Tensor, source: Any, path: str) -> torch.Tensor:
    """Returns the tensor that a message describes, with the elements that another one has now.

    Args:
        tensor: The wire form, whose `held` names the other one.
        source: What has that handle.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: The other is none of that dtype and shape, or can't require a gradient.
    """
    dtype, _ = describe_shape(tensor, path)
    shape = list(tensor.shape)
    if not (
        isinstance(source, torch.Tensor) and source.dtype == dtype and list(source.shape) == shape
    ):
        raise invalid(f"{path}.held", f"{tensor.held} is no tensor of {dtype} and shape {shape}")
    return _leaf(lazy_copy(source.detach()), tensor, path)


def _leaf(result: torch.Tensor, tensor: values_pb2.Tensor, path: str) -> torch.Tensor:
    """Lets autograd track a tensor if its message says so."""
    dtype = result.dtype
    if tensor.requires_grad:
        if not (dtype.is_floating_point or dtype.is_complex):
            raise invalid(
                f"{path}.requires_grad",
                f"only floating point and complex tensors can require gradients, not {dtype}",
            )
        result.requires_grad_()
    return result


def encode_tensor(tensor: torch.Tensor, delivery: Delivery | None = None) -> values_pb2.Tensor:
    """Returns the wire form of a dense or sparse tensor on any device; sparse ones become dense.

    Args:
        tensor: The tensor.
        delivery: Where its elements go; into the message if none is given.
    """
    data_type = DATA_TYPE_OF_DTYPE.get(tensor.dtype)
    if data_type is None:
        raise TypeError(f"a tensor of {tensor.dtype} has no form on the wire; convert it first")
    plain = tensor.detach()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    if plain._is_zerotensor():
        # It has no elements in memory; a copy has.
        plain = plain.clone()
    # To ask costs less than a call that does nothing.
    if plain.is_conj() or plain.is_neg():
        plain = plain.resolve_conj().resolve_neg()
    if not plain.is_cpu:
        plain = plain.cpu()
    if not plain.is_contiguous():
        plain = plain.contiguous()
    message = values_pb2.Tensor(
        dtype=data_type,  # type: ignore[arg-type]
        shape=list(tensor.shape),
        requires_grad=tensor.requires_grad,
    )
    if delivery is not None:
        delivery.place(message, plain)
    elif plain.numel():
        message.data = read_only(bytes_of(plain)).tobytes()
    else:
        message.data = b""
    return message


def describe_tensor(tensor: torch.Tensor) -> values_pb2.Description:
    """Returns what is known of a tensor without its elements."""
    kind = "torch.nn.Parameter" if isinstance(tensor, torch.nn.Parameter) else "torch.Tensor"
    materialized = not torch.nn.parameter.is_lazy(tensor)
    if not materialized:
        kind = class_name(tensor)
    return values_pb2.Description(
        type=kind,
        dtype=DATA_TYPE_OF_DTYPE.get(tensor.dtype, 0),  # type: ignore[arg-type]
        shape=list(tensor.shape) if materialized else [],
        requires_grad=tensor.requires_grad,
        device=str(tensor.device),
    )


def class_name(value: object) -> str:
    """Returns the name that people know an object's class by, such as `torch.nn.Linear`."""
    kind = type(value)
    if isinstance(value, torch.nn.Module) and hasattr(torch.nn, value._get_name()):
        return f"torch.nn.{value._get_name()}"
    if isinstance(value, torch.optim.Optimizer) and hasattr(torch.optim, kind.__name__):
        return f"torch.optim.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def decode_value(
    value: values_pb2.Value,
    path: str,
    reference: Callable[[values_pb2.Value, str], Any],
    device: torch.device,
    depth: int = 0,
    *,
    regions: Regions = NO_REGIONS,
) -> Any:
    """Returns the Python value of a wire value.

    Args:
        value: The wire form.
        path: The request field it came in, for errors.
        reference: Returns what a `handle`, `input`, `result`, `member` or `function` stands for.
        device: Where tensors by value go.
        depth: How deep in containers this value is.
        regions: The memory that the session shares with its client.

    Raises:
        GradwireError: The value is empty, malformed, or nested too deeply.
    """
    kind = value.WhichOneof("kind")
    decoder = _DECODERS.get(kind or "")
    if decoder is not None:
        return decoder(value)
    if depth > MAX_NESTING:
        raise invalid(path, f"nested more than {MAX_NESTING} levels deep")

    def inner(element: values_pb2.Value, name: str) -> Any:
        return decode_value(
            element, f"{path}.{name}", reference, device, depth + 1, regions=regions
        )

    match kind:
        case "handle" | "input" | "result" | "member" | "function":
            return reference(value, path)
        case "list":
            return [inner(v, f"list.values[{i}]") for i, v in enumerate(value.list.values)]
        case "tuple":
            return tuple(inner(v, f"tuple.values[{i}]") for i, v in enumerate(value.tuple.values))
        case "dict":
            entries = value.dict.entries
            return {e.key: inner(e.value, f"dict.entries[{e.key!r}]") for e in entries}
        case "slice":
            bounds = value.slice
            return slice(
                *(
                    inner(getattr(bounds, name), f"slice.{name}") if bounds.HasField(name) else None
                    for name in ("start", "stop", "step")
                )
            )
        case "tensor":
            return decode_tensor(value.tensor, device, f"{path}.tensor", regions)
        case "dtype":
            dtype = DTYPE_OF_DATA_TYPE.get(value.dtype)
            if dtype is None:
                raise invalid(f"{path}.dtype", f"{value.dtype} is not a DataType")
            return dtype
        case "device":
            return decode_device(value.device, device, f"{path}.device")
        case "constant":
            if value.constant not in CONSTANTS:
                raise invalid(
                    f"{path}.constant",
                    f"{value.constant!r} is none of {', '.join(sorted(CONSTANTS))}",
                )
            return CONSTANTS[value.constant]
        case "description":
            raise invalid(path, "a description is output only; send a handle or a value")
        case _:
            raise invalid(path, "has no kind set; every value needs one")


def decode_device(name: str, own: torch.device, path: str) -> torch.device:
    """Returns the device of that name, which must be the CPU or the worker's own.

    Raises:
        GradwireError: There is no such device in this worker.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise invalid(path, f"{name!r} is no device; this session has {own} and cpu") from None
    if device.type == own.type and device.index in (None, own.index or 0):
        return own
    if device == torch.device("cpu") or device.type == "meta":
        return device
    raise invalid(path, f"{name!r} is not a device of this session; it has {own} and cpu")


_DECODERS: dict[str, Callable[[values_pb2.Value], Any]] = {
    "none": lambda _: None,
    "bool_value": lambda value: value.bool_value,
    "int_value": lambda value: value.int_value,
    "float_value": lambda value: value.float_value,
    "complex_value": lambda value: complex(value.complex_value.real, value.complex_value.imaginary),
    "string_value": lambda value: value.string_value,
    "ellipsis": lambda _: ...,
}


def encode_value(
    value: Any,
    encode_leaf: Callable[
        [torch.Tensor], values_pb2.Tensor | values_pb2.Description
    ] = encode_tensor,
) -> values_pb2.Value:
    """Returns the wire form of a result.

    Args:
        value: Tensors, Python numbers, strings and structures of them; anything else becomes
            a description.
        encode_leaf: What to make of tensors: `encode_tensor` or `describe_tensor`.
    """
    if isinstance(value, torch.Tensor):
        leaf = encode_leaf(value)
        if isinstance(leaf, values_pb2.Tensor):
            return values_pb2.Value(tensor=leaf)
        return values_pb2.Value(description=leaf)
    if isinstance(value, bool):
        return values_pb2.Value(bool_value=value)
    if isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            return values_pb2.Value(float_value=float(value))
        return values_pb2.Value(int_value=value)
    if isinstance(value, float):
        return values_pb2.Value(float_value=value)
    if isinstance(value, str):
        return values_pb2.Value(string_value=value)
    if value is None:
        return values_pb2.Value(none=values_pb2.NoneValue())
    if isinstance(value, list | tuple):
        elements = [encode_value(element, encode_leaf) for element in value]
        if isinstance(value, list):
            return values_pb2.Value(list=values_pb2.ValueList(values=elements))
        return values_pb2.Value(tuple=_encode_tuple(value, elements))
    if isinstance(value, dict):
        entries = [
            values_pb2.ValueEntry(key=str(key), value=encode_value(element, encode_leaf))
            for key, element in value.items()
        ]
        return values_pb2.Value(dict=values_pb2.ValueMap(entries=entries))
    if isinstance(value, complex):
        number = values_pb2.ComplexValue(real=value.real, imaginary=value.imag)
        return values_pb2.Value(complex_value=number)
    if isinstance(value, torch.dtype):
        return values_pb2.Value(dtype=DATA_TYPE_OF_DTYPE[value])  # type: ignore[arg-type]
    if isinstance(value, torch.device):
        return values_pb2.Value(device=str(value))
    if isinstance(value, torch.memory_format | torch.layout) and value in NAME_OF_CONSTANT:
        return values_pb2.Value(constant=NAME_OF_CONSTANT[value])
    return values_pb2.Value(description=values_pb2.Description(type=class_name(value)))


def wire_bytes(values: Iterable[Any]) -> int:
    """Returns how many bytes the elements of all tensors among values take in a message."""
    total = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            total += 0 if torch.nn.parameter.is_lazy(value) else value.numel() * value.itemsize
        elif isinstance(value, list | tuple):
            total += wire_bytes(value)
        elif isinstance(value, dict):
            total += wire_bytes(value.values())
    return total


def require_fits(num_bytes: int, limit_bytes: int) -> None:
    """Raises LIMIT_EXCEEDED if a response of that size is too large for a message."""
    if num_bytes > limit_bytes:
        raise GradwireError(
            Reason.LIMIT_EXCEEDED,
            f"the response has {num_bytes} bytes; max_message_bytes allows {limit_bytes}. Ask "
            "for fewer or smaller values at once.",
            metadata={"limit": "max_message_bytes", "limit_bytes": str(limit_bytes)},
        )


def _encode_tuple(value: tuple[Any, ...], elements: list[values_pb2.Value]) -> values_pb2.ValueList:
    kind = type(value)
    if kind is tuple:
        return values_pb2.ValueList(values=elements)
    if kind is torch.Size:
        return values_pb2.ValueList(values=elements, type="torch.Size")
    # Named tuples of Python have `_fields`, those of torch (structseq) `__match_args__`.
    names = getattr(kind, "_fields", None) or getattr(kind, "__match_args__", ())
    return values_pb2.ValueList(
        values=elements, names=list(names or ()), type=f"{kind.__module__}.{kind.__qualname__}"
    )
