"""Parameters: tensors that modules train."""

from typing import Any

from gradwire.creation import tensor
from gradwire.tensors import Tensor


class Parameter(Tensor):
    """A tensor that is a module's parameter once it is assigned to an attribute of the module.

    Args:
        data: The tensor whose elements it holds; an empty one by default.
        requires_grad: Whether it is trained.
    """

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        if data is None:
            data = tensor([])
        elif not isinstance(data, Tensor):
            data = tensor(data)
        self._slot = data._slot.session.record("gradwire.parameter", (data, requires_grad), {})


class Buffer(Tensor):
    """A tensor that is a module's buffer once it is assigned to an attribute of the module.

    Args:
        data: The tensor whose elements it holds.
        persistent: Whether it is part of the module's state_dict.
    """

    def __init__(self, data: Tensor, *, persistent: bool = True) -> None:
        self._slot = data._slot.session.record("torch.Tensor.detach", (data,), {})
        self.persistent = persistent
