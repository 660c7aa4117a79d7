"""Compares what local torch and gradwire computed: to the last bit, else at torch's tolerances."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

import gradwire
from tests.conformance.sides import tensors


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a number may be off; None means torch's default for the dtype.

    Attributes:
        rtol: Relative to the number.
        atol: Absolute.
    """

    rtol: float | None = None
    atol: float | None = None


class DifferenceError(Exception):
    """gradwire returned something else than torch."""


def compare(local: Any, remote: Any, tolerance: Tolerance, *, values: bool = True) -> bool:
    """Compares two results; returns whether all numbers are equal to the last bit.

    Args:
        local: What torch returned: tensors, plain values, and structures of them.
        remote: What gradwire returned.
        tolerance: How far numbers may be off where they are not equal.
        values: Whether to compare elements of tensors, and not only shape and dtype.

    Raises:
        DifferenceError: The results differ in structure, dtype, shape, or by more than that.
    """
    return all(_compare(local, _fetched(remote, values), tolerance, values, "the result"))


class _Fetched(NamedTuple):
    """A tensor of gradwire, as far as it is compared."""

    dtype: Any
    shape: Any
    requires_grad: bool
    layout: Any
    elements: "np.ndarray[Any, Any] | None"


def _fetched(remote: Any, values: bool) -> Any:
    """Returns a result with what is known of its tensors in their place, asked for all at once."""
    found = {id(tensor): tensor for tensor in tensors(remote)}
    operations: list[Any] = []
    for tensor in found.values():
        operations += [("gradwire.describe", (tensor,), {}), ("torch.Tensor.layout", (tensor,), {})]
        operations += [("torch.Tensor.detach", (tensor,), {})] if values else []
    answers = iter(gradwire.current_session().fetch_all(operations) if operations else [])
    known = {}
    for key in found:
        info, layout = next(answers), next(answers)
        elements = next(answers) if values else None
        known[key] = _Fetched(info.dtype, info.shape, info.requires_grad, layout, elements)
    return _replaced(remote, known)


def _replaced(value: Any, known: Mapping[int, _Fetched]) -> Any:
    if isinstance(value, gradwire.Tensor):
        return known[id(value)]
    if isinstance(value, Mapping):
        return {key: _replaced(part, known) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_replaced(part, known) for part in value])
    if isinstance(value, list | tuple):
        return type(value)(_replaced(part, known) for part in value)
    return value


def _compare(
    local: Any, remote: Any, tolerance: Tolerance, values: bool, where: str
) -> Iterator[bool]:
    if isinstance(local, torch.Tensor):
        yield _compare_tensors(local, remote, tolerance, values, where)
    elif isinstance(local, Mapping):
        _require(list(local) == list(remote), where, local.keys(), remote)
        for key in local:
            yield from _compare(local[key], remote[key], tolerance, values, f"{where}[{key!r}]")
    elif isinstance(local, tuple | list):
        _require(_kind(local) == _kind(remote), where, _kind(local), _kind(remote))
        _require(len(local) == len(remote), where, f"{len(local)} elements", len(remote))
        for index, (mine, theirs) in enumerate(zip(local, remote, strict=True)):
            yield from _compare(mine, theirs, tolerance, values, f"{where}[{index}]")
    elif isinstance(local, float) and math.isnan(local):
        _require(isinstance(remote, float) and math.isnan(remote), where, local, remote)
    elif local is None or isinstance(local, bool | int | float | complex | str):
        same = type(local) is type(remote) and local == remote
        _require(same or not values, where, local, remote)
    else:
        _require(repr(local) == repr(remote), where, local, remote)


def _compare_tensors(
    local: torch.Tensor, remote: Any, tolerance: Tolerance, values: bool, where: str
) -> bool:
    _require(isinstance(remote, _Fetched), where, "a tensor", type(remote))
    for attribute in ("dtype", "shape", "requires_grad", "layout"):
        mine, theirs = getattr(local, attribute), getattr(remote, attribute)
        same = repr(mine) == repr(theirs)
        _require(same, f"{attribute} of {where}", mine, theirs)
    if not values:
        return True
    expected, actual = plain(local), _received(remote)
    if torch.equal(_bits(expected), _bits(actual)):
        return True
    try:
        torch.testing.assert_close(
            actual, expected, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True
        )
    except AssertionError as error:
        raise DifferenceError(f"{where}: {error}") from None
    return False


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a dense, contiguous tensor of the same elements, without autograd."""
    detached = tensor.detach()
    if detached.layout != torch.strided:
        detached = detached.to_dense()
    return detached.resolve_conj().resolve_neg().contiguous()


def _received(remote: _Fetched) -> torch.Tensor:
    """Returns a tensor of gradwire as one of local torch."""
    array = remote.elements
    assert array is not None
    dtype = getattr(torch, repr(remote.dtype).removeprefix("torch."))
    if array.size == 0:
        return torch.empty(array.shape, dtype=dtype)
    return torch.frombuffer(bytearray(array.tobytes()), dtype=dtype).reshape(array.shape)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the bytes of a contiguous tensor."""
    if tensor.numel() == 0:
        return tensor
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


def _kind(value: Sequence[Any]) -> str:
    """Returns what a sequence is: a list, a tuple, a size, or the names of its fields."""
    fields = getattr(value, "_fields", None) or getattr(type(value), "__match_args__", ())
    return f"{type(value).__name__}{fields}" if fields else type(value).__name__


def _require(condition: bool, where: str, expected: Any, actual: Any) -> None:
    if not condition:
        raise DifferenceError(f"{where}: torch has {expected}, gradwire {actual}")
