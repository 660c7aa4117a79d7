"""Arithmetic of plain numbers, such as the sizes in a graph: what Python's operators would do.

Only numbers are taken, and no result is longer than 64 bits: Python's own operators would repeat a
string, or fill the memory with the digits of a power.
"""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from gradwire.v1 import catalog

MAX_SHIFT = 64
_MODULES: dict[str, Any] = {"math": math, "operator": operator, "torch": torch}


def arithmetic(name: str) -> Callable[..., Any]:
    """Returns what computes with numbers under a name of `catalog.ARITHMETIC`.

    It raises TypeError for anything but numbers, OverflowError if the result is an integer that
    does not fit into 64 bits.
    """
    if name not in catalog.ARITHMETIC:
        raise KeyError(name)
    module, _, last = name.rpartition(".")
    return partial(_compute, name, getattr(_MODULES[module], last))


def _compute(name: str, function: Callable[..., Any], /, *args: Any) -> Any:
    numbers = args[0] if name == "torch.sym_sum" and len(args) == 1 else args
    if not isinstance(numbers, tuple | list):
        numbers = (numbers,)
    for number in numbers:
        if not isinstance(number, bool | int | float):
            raise TypeError(f"{name} takes numbers, not a {type(number).__name__}")
    if name == "operator.pow" and all(isinstance(n, int) for n in numbers):
        base, exponent = numbers
        if exponent * abs(base).bit_length() > 2 * MAX_SHIFT:
            raise OverflowError(f"{base} ** {exponent} does not fit into a 64-bit integer")
    result = function(*args)
    if isinstance(result, int) and not -(1 << 63) <= result < 1 << 63:
        raise OverflowError(f"the result of {name} does not fit into a 64-bit integer")
    return result
