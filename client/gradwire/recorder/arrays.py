"""The element types of numpy's arrays."""

import importlib
from functools import cache
from typing import Any

import numpy as np

from gradwire.types import DTYPE_OF_NUMPY_NAME, DTYPES, dtype


@cache
def numpy_dtype(element: dtype) -> "np.dtype[Any]":
    """Returns numpy's dtype for an element type; ``ml_dtypes`` supplies bfloat16 and float8.

    For complex32, which neither has, it is a structure of the two parts.
    """
    name = element.numpy_name
    if name == "complex32":
        return np.dtype([("real", "<f2"), ("imag", "<f2")])
    known = name in np.sctypeDict
    # Most programs need none of these types, and loading them takes a tenth of what numpy does.
    own = name if known else getattr(importlib.import_module("ml_dtypes"), name)
    return np.dtype(own).newbyteorder("<")


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
