"""The limits of element types: `finfo` and `iinfo`."""

from typing import Any

import ml_dtypes
import numpy as np

from gradwire.recorder.arrays import numpy_dtype
from gradwire.settings import get_default_dtype
from gradwire.types import dtype


class finfo:  # noqa: N801  # torch's name
    """The limits of a floating point type.

    Args:
        type: The type; the default one if it is not given.

    Attributes:
        bits: Bits of one element.
        eps: The distance from 1.0 to the next greater number.
        max: The greatest number.
        min: The least number.
        tiny: The least positive number of full precision; also `smallest_normal`.
        resolution: The decimal resolution.
        dtype: The name of the type.

    Raises:
        TypeError: The type is not a floating point type.
    """

    def __init__(self, type: dtype | None = None) -> None:
        element = (type or get_default_dtype()).to_real()
        if not element.is_floating_point:
            raise TypeError(
                f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                f"'{type!r}'"
            )
        info: Any = ml_dtypes.finfo(numpy_dtype(element))  # type: ignore[no-untyped-call]
        self.bits = element.itemsize * 8
        self.eps = float(info.eps)
        self.max = float(info.max)
        self.min = float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = 10.0 ** -int(-np.log10(self.eps))
        self.dtype = repr(element).removeprefix("torch.")

    def __repr__(self) -> str:
        fields = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        numbers = ", ".join(f"{name}={getattr(self, name):g}" for name in fields)
        return f"finfo({numbers}, dtype={self.dtype})"


class iinfo:  # noqa: N801
    """The limits of an integer type.

    Args:
        type: The type.

    Attributes:
        bits: Bits of one element.
        max: The greatest number.
        min: The least number.
        dtype: The name of the type.

    Raises:
        TypeError: The type is not an integer type.
    """

    def __init__(self, type: dtype) -> None:
        if type.is_floating_point or type.is_complex or repr(type) == "torch.bool":
            raise TypeError(
                "torch.iinfo() requires an integer input type. Use torch.finfo to handle "
                f"'{type!r}'"
            )
        info = np.iinfo(numpy_dtype(type))
        self.bits = type.itemsize * 8
        self.max = int(info.max)
        self.min = int(info.min)
        self.dtype = repr(type).removeprefix("torch.")

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
