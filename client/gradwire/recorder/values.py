"""Values that come back from the server, as Python and numpy values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradwire.recorder.arrays import dtype_of_array, numpy_dtype
from gradwire.recorder.results import Info, Unknown, make_tuple
from gradwire.types import CONSTANTS, DTYPE_OF_DATA_TYPE, Size, device
from gradwire.v1 import values_pb2
from gradwire.v1.apart import data_of


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
