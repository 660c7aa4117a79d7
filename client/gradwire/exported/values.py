"""Between tensors of torch and tensors of a session: the elements, exactly."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gradwire.calls import invoke, wrap
from gradwire.convert import array_of_local
from gradwire.nn.module import Module
from gradwire.recorder.results import Info
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.types import DTYPES, Size, device

BATCH_BYTES = 32 << 20
"""As many tensors are fetched at once as have so many bytes, or one that has more."""


def upload(session: Session, tensor: torch.Tensor) -> Tensor:
    """Returns a tensor of the session with the elements and the memory layout of a local one.

    Raises:
        TypeError: It is sparse, quantised or of a type that does not travel.
    """
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise TypeError(
            f"a tensor of layout {tensor.layout} and type {tensor.dtype} can't be sent; make it "
            "dense and of a plain type first"
        )
    element = DTYPES.get(str(tensor.dtype).removeprefix("torch."))
    if element is None:
        raise TypeError(f"a tensor of type {tensor.dtype} can't be sent; convert it first")
    # Kernels may choose by strides, so a transposed or channels-last weight stays one.
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda dim: (-strides[dim], dim))
    dense = tensor.detach().permute(order)
    array = array_of_local(dense)
    sent = _put(session, array)
    if dense.is_contiguous() and order != sorted(order):
        back = [order.index(dim) for dim in range(len(order))]
        sent = invoke(session, "torch.Tensor.permute", "tensor", (sent, back), {})
    elif order != sorted(order):
        sent = _put(session, array_of_local(tensor))
    sent._slot.info = Info(
        element, Size(tensor.shape), False, device(session.device), "torch.Tensor"
    )
    return sent


def _put(session: Session, array: "np.ndarray[Any, Any]") -> Tensor:
    whole: Tensor = wrap(session.put(array))
    return whole


def download(tensors: Sequence[Tensor]) -> list[torch.Tensor]:
    """Returns tensors of a session as tensors of torch on the CPU."""
    values: list[torch.Tensor] = []
    for batch in _batches(tensors):
        arrays = batch[0]._slot.session.fetch_all(
            [("torch.Tensor.detach", (tensor,), {}) for tensor in batch]
        )
        values += [_of_array(array) for array in arrays]
    return values


def _batches(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yields the tensors in order, in groups that an answer can carry."""
    batch: list[Tensor] = []
    num_bytes = 0
    for tensor in tensors:
        more = _num_bytes(tensor)
        if batch and (
            num_bytes + more > BATCH_BYTES or tensor._slot.session is not batch[0]._slot.session
        ):
            yield batch
            batch, num_bytes = [], 0
        batch.append(tensor)
        num_bytes += more
    if batch:
        yield batch


def _num_bytes(tensor: Tensor) -> int:
    info = tensor._info()
    return info.shape.numel() * (info.dtype.itemsize if info.dtype else 0)


def _of_array(array: "np.ndarray[Any, Any]") -> torch.Tensor:
    if not array.size:
        return torch.empty(array.shape, dtype=_torch_dtype(array))
    raw = torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return raw.view(_torch_dtype(array)).reshape(array.shape)


def _torch_dtype(array: "np.ndarray[Any, Any]") -> torch.dtype:
    element: torch.dtype = getattr(torch, array.dtype.name)
    return element


def to_torch(value: Any, into: Any = None) -> Any:
    """As `gradwire.to_torch`."""
    if isinstance(value, Module):
        return _copy_into(value, into)
    if into is not None:
        raise TypeError(f"only a module can be copied into another one, not {type(value).__name__}")
    tensors: list[Tensor] = []
    _collect(value, tensors)
    local = dict(zip(map(id, tensors), download(tensors), strict=True))
    return _replaced(value, local)


def _collect(value: Any, tensors: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        tensors.append(value)
    elif isinstance(value, Mapping):
        for element in value.values():
            _collect(element, tensors)
    elif isinstance(value, list | tuple):
        for element in value:
            _collect(element, tensors)
    elif value is not None and not isinstance(value, bool | int | float | complex | str):
        raise TypeError(f"a {type(value).__name__} holds no tensors of a session")


def _replaced(value: Any, local: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, Tensor):
        return local[id(value)]
    if isinstance(value, Mapping):
        return {key: _replaced(element, local) for key, element in value.items()}
    if isinstance(value, list | tuple):
        elements = [_replaced(element, local) for element in value]
        if hasattr(value, "_fields"):
            return type(value)(*elements)
        return type(value)(elements) if type(value) in (list, tuple) else tuple(elements)
    return value


def _copy_into(model: Module, into: Any) -> torch.nn.Module:
    target = getattr(model, "_source", None) if into is None else into
    if target is None:
        raise ValueError(
            f"this {type(model).__name__} was not made by from_torch; say which torch module gets "
            "its values: gradwire.to_torch(model, into=module)"
        )
    if not isinstance(target, torch.nn.Module):
        raise TypeError(f"into must be a torch.nn.Module, not a {type(target).__name__}")
    ours = _members(model)
    theirs = _members(target)
    problems = [f"{name} is missing in the torch module" for name in ours if name not in theirs]
    problems += [f"{name} is only in the torch module" for name in theirs if name not in ours]
    for name in ours.keys() & theirs.keys():
        shapes = tuple(ours[name].shape), tuple(theirs[name].shape)
        if shapes[0] != shapes[1]:
            problems.append(f"{name} has shape {shapes[0]} here and {shapes[1]} there")
    holders: dict[int, str] = {}
    for name in ours.keys() & theirs.keys():
        other = holders.setdefault(id(theirs[name]), name)
        if ours[other] is not ours[name]:
            problems.append(f"{other} and {name} are one tensor there and two here")
    if problems:
        shown = "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        raise ValueError(f"the modules differ, and nothing was copied: {shown}")
    # A tied tensor has several names; it travels and is written once.
    values = download([ours[name] for name in holders.values()])
    with torch.no_grad():
        for name, value in zip(holders.values(), values, strict=True):
            member = theirs[name]
            if member.dtype == value.dtype:
                member.copy_(value)
            else:
                member.data = value.to(member.device)
    return target


def _members(module: Any) -> dict[str, Any]:
    """Returns all parameters and buffers of either kind of module by name, tied ones each time."""
    members: dict[str, Any] = {}
    for path, child in module.named_modules(remove_duplicate=False):
        for table in (child._parameters, child._buffers):
            for name, member in table.items():
                if member is not None:
                    members[f"{path}.{name}" if path else name] = member
    return members
