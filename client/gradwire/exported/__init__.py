"""Modules of a local torch on the server, and their values back: the client's only use of torch.

torch is loaded when one of the two functions is called, not before.
"""

import importlib
from typing import Any

from gradwire.nn.module import Module

__all__ = ["from_torch", "to_torch"]


def from_torch(
    module: Any,
    example_inputs: Any = (),
    example_kwargs: "dict[str, Any] | None" = None,
    *,
    dynamic_shapes: Any = None,
) -> Module:
    """Puts a `torch.nn.Module` on the server, to be trained there like any module of gradwire.

    What its `forward` does is captured with `torch.export`, once for training and once for
    evaluation mode, and sent as data; weights and buffers are copied, those that are tied stay
    so. `module` itself is not changed. Inputs of other sizes, structures or types than the
    example's are captured when they come, so `module` must stay as it is.

    Args:
        module: The module. Its parameters and buffers must have shapes already.
        example_inputs: Positional arguments for `forward`: a tuple; anything else is the only one.
            A dict stands for keyword arguments. Tensors may be torch's, arrays, or gradwire's;
            what they contain does not matter.
        example_kwargs: Keyword arguments for `forward`.
        dynamic_shapes: Which sizes may differ from the example's. None: all that `forward` lets
            differ. False: none. Or what `torch.export.export` takes for the arguments of
            `forward`; then inputs that do not fit are refused.

    Returns:
        A module with the names, parameters and printout of the original. Tensors that `forward`
        returns come in the structure that it returns them in.

    Raises:
        ImportError: torch is not installed here.
        TypeError: `module` is no module of torch, or an input is neither tensor nor plain value.
        CaptureError: `torch.export` can't capture it, or an operation is not allowed.
        GradwireError: The server refused the weights.
    """
    made: Module = _load("gradwire.from_torch", "gradwire.exported.module").export_module(
        module, example_inputs, example_kwargs, dynamic_shapes
    )
    return made


def to_torch(value: Any, into: Any = None) -> Any:
    """Brings values back from the server, exactly.

    Args:
        value: A module, a tensor, or a structure of tensors such as a `state_dict()`.
        into: The `torch.nn.Module` that gets the parameters and buffers of a module: all of the
            same names and shapes. By default the one that was given to `from_torch`.

    Returns:
        The module that got the values; or the same structure with tensors of torch on the CPU.

    Raises:
        ImportError: torch is not installed here.
        ValueError: Names or shapes differ, or there is no module to copy into.
    """
    return _load("gradwire.to_torch", "gradwire.exported.values").to_torch(value, into)


def _load(what: str, name: str) -> Any:
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{what} needs torch in this program, beside the server's: pip install torch"
        ) from error
    return importlib.import_module(name)
