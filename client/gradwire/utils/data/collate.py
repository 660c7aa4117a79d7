"""Collating: a list of samples becomes a batch of tensors."""

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

import gradwire
from gradwire.convert import array_of_local, is_local_tensor
from gradwire.creation import as_tensor, tensor
from gradwire.tensors import Tensor

_UNKNOWN = (
    "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
)


def default_collate(batch: Sequence[Any]) -> Any:
    """Returns a batch of samples with one more dimension in front.

    Tensors, arrays and numbers become gradwire tensors: of Python floats float64, of integers
    int64. Tuples become lists of batches, lists, dicts and named tuples stay what they are, and
    text is left as a list.

    Raises:
        RuntimeError: Samples are of different lengths or shapes.
        TypeError: There is something else in them.
    """
    first = batch[0]
    if _is_array(first):
        return _stack(batch)
    if isinstance(first, np.generic | bool | int):
        return tensor(np.asarray(batch))
    if isinstance(first, float):
        return tensor(np.asarray(batch, np.float64))
    if isinstance(first, str | bytes):
        return batch
    return _collate_container(batch)


def default_convert(data: Any) -> Any:
    """Returns a sample with its arrays as tensors; numbers and text stay what they are."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray | np.generic) or is_local_tensor(data):
        return data if _is_text(data) else as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple):
        return [default_convert(each) for each in data]
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _like_sequence(data, [default_convert(each) for each in data])
    return data


def as_batch(columns: Sequence[Any]) -> list[Tensor]:
    """Returns stacked columns as tensors."""
    return [as_tensor(column) for column in columns]


def _collate_container(batch: Sequence[Any]) -> Any:
    first = batch[0]
    if isinstance(first, Mapping):
        return _like_mapping(
            first, {key: default_collate([each[key] for each in batch]) for key in first}
        )
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*map(default_collate, zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        if any(len(each) != len(first) for each in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return columns if isinstance(first, tuple) else _like_sequence(first, columns)
    raise TypeError(_UNKNOWN.format(type(first)))


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or is_local_tensor(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "SUOa"


def _stack(batch: Sequence[Any]) -> Tensor:
    """Returns tensors or arrays of one shape as a tensor; what is local is stacked here."""
    if any(isinstance(each, Tensor) for each in batch):
        stacked: Tensor = gradwire.stack([as_tensor(each) for each in batch], 0)
        return stacked
    arrays = [array_of_local(each) if is_local_tensor(each) else each for each in batch]
    if _is_text(arrays[0]):
        raise TypeError(_UNKNOWN.format(arrays[0].dtype))
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        number, other = next((i, a) for i, a in enumerate(arrays) if a.shape != arrays[0].shape)
        raise RuntimeError(
            f"stack expects each tensor to be equal size, but got {list(arrays[0].shape)} at entry "
            f"0 and {list(other.shape)} at entry {number}"
        )
    return tensor(np.stack(arrays))


def _like_mapping(first: Mapping[Any, Any], made: dict[Any, Any]) -> Any:
    """Returns a mapping of the class of `first`, as far as that can be made."""
    try:
        if isinstance(first, MutableMapping):
            clone = copy.copy(first)
            clone.update(made)
            return clone
        make: Callable[..., Any] = type(first)
        return make(made)
    except TypeError:
        return made


def _like_sequence(first: Sequence[Any], made: list[Any]) -> Any:
    """Returns a sequence of the class of `first`, as far as that can be made."""
    try:
        make: Callable[..., Any] = type(first)
        return make(made)
    except TypeError:
        return made
