"""How the names of the catalog are called, as a line of text for errors."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch

from gradwire_server.engine.registry import torch_object

MAX_SCHEMAS = 4
MAX_CHARACTERS = 500


@cache
def signature(name: str) -> str:
    """Returns the signature of a name of the catalog, such as `torch.relu(input) -> Tensor`.

    Python functions and classes tell it themselves, built-in ones in the first lines of their
    documentation; where those do not, the operator's schemas stand for it.

    Returns:
        The text; empty if torch does not say.
    """
    try:
        target = torch_object(name)
    except KeyError:
        return ""
    text = _of_python(name, target) or _of_documentation(name, target) or _of_schemas(name)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."


def _of_python(name: str, target: Any) -> str:
    if not inspect.isfunction(target) and not isinstance(target, type):
        return ""
    try:
        found = inspect.signature(target)
    except ValueError:
        # A wrapper of a built-in one.
        return ""
    if not found.parameters.keys() - {"self", "args", "kwargs"}:
        return ""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found.parameters.values()
    ]
    return name + str(inspect.Signature(parameters))


def _of_documentation(name: str, target: Any) -> str:
    short = name.rpartition(".")[2] + "("
    for line in (target.__doc__ or "").splitlines():
        text = line.strip().removeprefix(".. function:: ").removeprefix(".. method:: ")
        position = text.find(short)
        if position == 0 or (position > 0 and text[position - 1] == "."):
            return name.rpartition(".")[0] + "." + text[position:]
    return ""


def _of_schemas(name: str) -> str:
    get_schemas = cast(Callable[[str], list[Any]], torch._C._jit_get_schemas_for_operator)
    schemas = get_schemas(f"aten::{name.rpartition('.')[2]}")
    return " or ".join(str(schema) for schema in schemas[:MAX_SCHEMAS])
