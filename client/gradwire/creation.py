"""Tensors from Python and numpy data."""

from typing import Any

import numpy as np

from gradwire.calls import wrap
from gradwire.connection import current_session
from gradwire.convert import array_of_local, is_local_tensor
from gradwire.methods import Tensor
from gradwire.recorder.arrays import dtype_of_array, numpy_dtype
from gradwire.recorder.results import Info
from gradwire.settings import get_default_dtype
from gradwire.types import Size, device, dtype


def tensor(
    data: Any,
    *,
    dtype: dtype | None = None,
    device: "device | str | None" = None,
    requires_grad: bool = False,
) -> Tensor:
    """Returns a tensor with the elements of `data`.

    Args:
        data: A number, nested sequences of numbers, an array, or a tensor.
        dtype: The element type; by default that of an array, else the default one for floats,
            ``int64`` for integers, ``bool`` for booleans and ``complex64`` for complex numbers.
        device: Where it is to be; the session's device by default.
        requires_grad: Whether autograd is to track it.

    Raises:
        ValueError: The sequences are not of equal length.
        TypeError: There is no element type for the data.
        RuntimeError: A gradient is required of a type that can't have one.
    """
    if isinstance(data, Tensor):
        copied = data.detach().clone()
        if dtype is not None or device is not None:
            copied = copied.to(device=device or data.device, dtype=dtype or data.dtype)
        result: Tensor = copied.requires_grad_() if requires_grad else copied
        return result
    return _put(as_array(data, dtype), requires_grad=requires_grad, device=device, source=data)


def as_tensor(
    data: Any, dtype: dtype | None = None, device: "device | str | None" = None
) -> Tensor:
    """Returns `data` if it is a tensor of that type already, else a tensor made of it."""
    if isinstance(data, Tensor):
        if dtype is None and device is None:
            return data
        converted: Tensor = data.to(device=device or data.device, dtype=dtype or data.dtype)
        return converted
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: "np.ndarray[Any, Any]") -> Tensor:
    """Returns a tensor with the elements of an array. Unlike torch's it shares no memory."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    return _put(array, source=array)


def as_array(data: Any, dtype: dtype | None) -> "np.ndarray[Any, Any]":
    """Returns an array with the elements of `data`, of the type that torch would choose."""
    target = None if dtype is None else numpy_dtype(dtype)
    if isinstance(data, np.ndarray | np.generic):
        return np.asarray(data, target)
    if is_local_tensor(data):
        return np.asarray(array_of_local(data), target)
    plain = _plain(data)
    try:
        array = np.array(plain)
    except ValueError:
        raise ValueError(_unequal_lengths(plain)) from None
    if array.dtype.kind not in "biufc" and array.size:
        raise TypeError(f"can't make a tensor of {type(data).__name__} with {array.dtype} elements")
    if target is not None:
        return array.astype(target)
    if array.dtype.kind == "f" and not _holds_arrays(data):
        return array.astype(numpy_dtype(get_default_dtype()))
    if array.dtype.kind == "c" and not _holds_arrays(data):
        return array.astype(numpy_dtype(get_default_dtype().to_complex()))
    return array


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.tolist()
    if isinstance(data, list | tuple | range):
        return [_plain(element) for element in data]
    return data


def _unequal_lengths(data: Any) -> str:
    """Returns what torch says of nested sequences that are no tensor."""
    level, dim = [data], 0
    while all(isinstance(element, list) for element in level):
        length = len(level[0])
        for element in level:
            if len(element) != length:
                return f"expected sequence of length {length} at dim {dim} (got {len(element)})"
        level, dim = [inner for element in level for inner in element], dim + 1
    return f"expected sequences or numbers alone at dim {dim}, not both"


def _holds_arrays(data: Any) -> bool:
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return isinstance(data, np.ndarray | np.generic)


def _put(
    array: "np.ndarray[Any, Any]",
    *,
    requires_grad: bool = False,
    device: "device | str | None" = None,
    source: Any = None,
) -> Tensor:
    session = current_session()
    element = dtype_of_array(array)
    if requires_grad and not (element.is_floating_point or element.is_complex):
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
    slot = session.put(array, requires_grad=requires_grad, source=source)
    own = _device(session.device)
    slot.info = Info(element, Size(array.shape), requires_grad, own, "torch.Tensor")
    result: Tensor = wrap(slot)
    if device is not None and _device(device) != own:
        result = result.to(_device(device))
        if requires_grad:
            result = result.detach().requires_grad_()
    return result


def _device(name: "device | str") -> device:
    return device(name)


def is_tensor(obj: Any) -> bool:
    """Returns whether `obj` is a tensor of gradwire."""
    return isinstance(obj, Tensor)


def asarray(obj: Any, *, dtype: dtype | None = None, **options: Any) -> Tensor:
    """Returns `obj` if it is a tensor of that type already, else a tensor made of it."""
    converted = as_tensor(obj, dtype=dtype, device=options.get("device"))
    if options.get("requires_grad"):
        converted.requires_grad_()
    return converted.clone() if options.get("copy") and converted is obj else converted


def _array_wrap(_: Tensor, array: "np.ndarray[Any, Any]", *__: Any) -> Tensor:
    """Makes a tensor of what a function of numpy returns for one."""
    return from_numpy(array.astype(np.uint8) if array.dtype == bool else np.asarray(array))


Tensor.__array_wrap__ = _array_wrap  # type: ignore[attr-defined]
