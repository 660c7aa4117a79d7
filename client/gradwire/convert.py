"""Arguments that are not gradwire's own: arrays, iterators, tensors of a local torch."""

import sys
from typing import Any

import numpy as np

from gradwire.recorder.arrays import numpy_dtype
from gradwire.types import DTYPES


def convert(value: Any) -> Any:
    """Returns what to send for an argument that there is no encoding for.

    Arrays go by value, and so do tensors of a locally installed torch, as arrays.

    Raises:
        TypeError: There is no way to send it.
    """
    if isinstance(value, np.ndarray):
        return value
    if is_local_tensor(value):
        return array_of_local(value)
    stand_in = getattr(value, "__gradwire_value__", None)
    if stand_in is not None:
        return stand_in()
    if callable(value):
        raise TypeError(
            f"{value!r} is a function and can't be sent: operations are data. Call it in your "
            "program instead."
        )
    raise TypeError(f"a {type(value).__name__} can't be sent to the server: {value!r}")


def is_local_tensor(value: Any) -> bool:
    """Returns whether a value is a tensor of a torch that the program has imported itself."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def array_of_local(value: Any) -> "np.ndarray[Any, Any]":
    """Returns an array with the elements of a local torch tensor, bfloat16 and float8 included."""
    plain = value.detach().cpu().contiguous()
    raw = plain.reshape(-1).view(sys.modules["torch"].uint8).numpy()
    element = DTYPES[str(plain.dtype).removeprefix("torch.")]
    array: np.ndarray[Any, Any] = raw.view(numpy_dtype(element)).reshape(tuple(plain.shape))
    return array
