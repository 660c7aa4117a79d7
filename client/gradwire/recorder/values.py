"""Values that come back from the server, as Python and numpy values."""

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gradwire.types import (
    CONSTANTS,
    DTYPE_OF_DATA_TYPE,
    DTYPE_OF_NUMPY_NAME,
    DTYPES,
    Size,
    device,
    dtype,
)
from gradwire.v1 import values_pb2
from gradwire.v1.apart import data_of


class Info(NamedTuple):
    """What is known of a tensor on the server without its elements.

    Attributes:
        dtype: Its element type.
        shape: The size of each dimension.
        requires_grad: Whether autograd tracks it.
        device: Where it is.
        type: Its class, ``torch.Tensor`` or ``torch.nn.Parameter``.
    """

    dtype: dtype | None
    shape: Size
    requires_grad: bool
    device: device
    type: str


class Unknown(NamedTuple):
    """Something on the server that does not travel, by its class."""

    type: str


@cache
def numpy_dtype(element: dtype) -> "np.dtype[Any]":
    """Returns numpy's dtype for an element type; ``ml_dtypes`` supplies bfloat16 and float8.

    For complex32, which neither has, it is a structure of the two parts.
    """
    if element.numpy_name == "complex32":
        return np.dtype([("real", "<f2"), ("imag", "<f2")])
    custom = getattr(ml_dtypes, element.numpy_name, None)
    return np.dtype(custom or element.numpy_name).newbyteorder("<")


def dtype_of_array(array: "np.ndarray[Any, Any]") -> dtype:
    """Returns the element type of an array.

    Raises:
        TypeError: torch has no such type.
    """
    structure = array.dtype.names is not None and array.dtype == numpy_dtype(DTYPES["complex32"])
    found = DTYPE_OF_NUMPY_NAME.get("complex32" if structure else array.dtype.name)
    if found is None:
        raise TypeError(
            f"can't convert an array of {array.dtype}; the types that work are "
            f"{', '.join(DTYPE_OF_NUMPY_NAME)}"
        )
    return found


def tensor_message(
    array: "np.ndarray[Any, Any]", *, requires_grad: bool = False
) -> values_pb2.Tensor:
    """Returns the wire form of an array.

    Raises:
        TypeError: torch has no such element type.
    """
    element = dtype_of_array(array)
    little = np.ascontiguousarray(array, dtype=numpy_dtype(element))
    return values_pb2.Tensor(
        dtype=element.data_type,  # type: ignore[arg-type]
        shape=array.shape,
        data=little.tobytes(),
        requires_grad=requires_grad,
    )


def empty_array(tensor: values_pb2.Tensor) -> "np.ndarray[Any, Any]":
    """Returns a writable array for a tensor's elements, whatever they are yet."""
    return np.empty(tuple(tensor.shape), numpy_dtype(DTYPE_OF_DATA_TYPE[tensor.dtype]))


def array_of_tensor(
    tensor: values_pb2.Tensor, apart: Sequence[memoryview] = ()
) -> "np.ndarray[Any, Any]":
    """Returns a writable array with the elements of a tensor that has them in the message."""
    element = numpy_dtype(DTYPE_OF_DATA_TYPE[tensor.dtype])
    elements = bytearray(data_of(tensor, apart))
    return np.frombuffer(elements, dtype=element).reshape(tuple(tensor.shape))


MakeArray = Callable[[values_pb2.Tensor], "np.ndarray[Any, Any]"]
"""Makes an array of a tensor, wherever its elements are."""


def decode(value: values_pb2.Value, make_array: MakeArray = array_of_tensor) -> Any:
    """Returns a fetched value: tensors as arrays, described tensors as `Info`."""
    kind = value.WhichOneof("kind")
    match kind:
        case "bool_value" | "int_value" | "float_value" | "string_value":
            return getattr(value, kind)
        case "none":
            return None
        case "tensor":
            return make_array(value.tensor)
        case "list":
            return [decode(element, make_array) for element in value.list.values]
        case "tuple":
            elements = tuple(decode(element, make_array) for element in value.tuple.values)
            return make_tuple(value.tuple.type, tuple(value.tuple.names), elements)
        case "dict":
            return {entry.key: decode(entry.value, make_array) for entry in value.dict.entries}
        case "complex_value":
            return complex(value.complex_value.real, value.complex_value.imaginary)
        case "dtype":
            return DTYPE_OF_DATA_TYPE[value.dtype]
        case "device":
            return device(value.device)
        case "constant":
            return CONSTANTS[value.constant.removeprefix("torch.")]
        case "description":
            return _decode_description(value.description)
        case _:
            raise AssertionError(f"the server sent a value of kind {kind}")


def _decode_description(description: values_pb2.Description) -> Any:
    if not description.device:
        return Unknown(description.type)
    return Info(
        dtype=DTYPE_OF_DATA_TYPE.get(description.dtype),
        shape=Size(description.shape),
        requires_grad=description.requires_grad,
        device=device(description.device),
        type=description.type,
    )


TUPLE_CLASSES: dict[str, Callable[[Any], Any]] = {"torch.Size": Size}
"""What makes a tuple of a class of its own, by the class; others become plain or named tuples."""


def make_tuple(type_name: str, names: tuple[str, ...], elements: tuple[Any, ...]) -> Any:
    """Returns elements as the tuple that torch returns: plain, a `Size` or a named one."""
    known = TUPLE_CLASSES.get(type_name)
    if known is not None:
        return known(elements)
    if names:
        return _named_tuple(type_name, names)(*elements)
    return elements


@cache
def _named_tuple(type_name: str, names: tuple[str, ...]) -> Any:
    base = namedtuple(type_name.rsplit(".", 1)[-1], names)  # type: ignore[misc]  # noqa: PYI024

    def printed(self: Any) -> str:
        fields = ",\n".join(f"{name}={value!r}" for name, value in zip(names, self, strict=True))
        return f"{type_name}(\n{fields})"

    return type(base.__name__, (base,), {"__slots__": (), "__repr__": printed})
