"""Old names of torch for tensors of one type: ``torch.FloatTensor`` and its like."""

from typing import Any

import numpy as np

from gradwire.calls import wrap
from gradwire.connection import current_session
from gradwire.creation import tensor
from gradwire.methods import Tensor
from gradwire.settings import get_default_dtype, set_default_dtype
from gradwire.types import DTYPES, dtype


class TensorType:
    """The tensors of one element type: makes them, and tells whether a tensor is one.

    Args:
        element: The element type.
    """

    def __init__(self, element: dtype) -> None:
        self.dtype = element
        self.__name__ = f"{element.type_name}Tensor"

    def __call__(self, *args: Any) -> Tensor:
        """Returns a tensor of some data, or one of zeros of the sizes given."""
        return construct(args, self.dtype)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is self.dtype

    def __str__(self) -> str:
        return f"torch.{self.__name__}"

    def __repr__(self) -> str:
        return f"<class 'torch.{self.__name__}'>"


def construct(args: tuple[Any, ...], element: dtype) -> Tensor:
    """Returns what torch's old constructors return: a tensor of data, or of sizes."""
    if len(args) == 1 and not isinstance(args[0], int | np.integer):
        data = args[0]
        if isinstance(data, Tensor):
            return data.detach()
        if type(data).__name__ != "Size":
            return tensor(data, dtype=element)
        args = tuple(data)
    sizes = list(args) or [0]
    slot = current_session().record("torch.zeros", (sizes,), {"dtype": element})
    made: Tensor = wrap(slot)
    return made


TENSOR_TYPES = {
    f"{element.type_name}Tensor": TensorType(element)
    for name, element in DTYPES.items()
    if not name.startswith(("float8", "uint16", "uint32", "uint64", "complex"))
}


def set_default_tensor_type(t: Any) -> None:
    """Sets the default element type by the name of its tensors, such as ``torch.DoubleTensor``."""
    from_name = TENSOR_TYPES.get(str(t).removeprefix("torch."))
    if from_name is None:
        raise TypeError(f"invalid type object: {t!r} is no type of tensors")
    set_default_dtype(from_name.dtype)


def _init(self: Tensor, *args: Any) -> None:
    # The slot passes on, and with it the duty to release it.
    made = construct(args, get_default_dtype())
    self._slot = made.__dict__.pop("_slot")


Tensor.__init__ = _init  # type: ignore[assignment, method-assign]
