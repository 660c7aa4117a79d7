"""Tensors: handles to values on the server, with the methods of torch's."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwire.cataloged import CatalogedMethods
from gradwire.closest import missing_attribute
from gradwire.recorder.results import Info
from gradwire.recorder.slots import Remote
from gradwire.types import DTYPES, Size, device, dtype


class Tensor(Remote, CatalogedMethods):
    """A tensor that lives in a session.

    It has torch's methods and operators. They are recorded, not carried out at once; what
    returns a Python value (``item``, ``tolist``, ``print``, ``if``) sends everything recorded and
    waits for that value.
    """

    __array_priority__ = 1000
    """numpy leaves mixed operations to this class."""

    if not TYPE_CHECKING:
        # Type checkers know all attributes, and tell of others.
        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(f"{type(self).__name__!r} object", name, dir(type(self)), self)

    def _info(self) -> Info:
        slot = self._slot
        if slot.info is None or slot.info.type.startswith("torch.nn.parameter.Uninitialized"):
            slot.info = slot.session.fetch("gradwire.describe", (self,), {})
        info: Info = slot.info
        return info

    @property
    def shape(self) -> Size:
        """The size of each dimension."""
        return self._slot.session.traced_shape(self, self._info().shape)

    @property
    def dtype(self) -> dtype:
        """The element type."""
        element = self._info().dtype
        assert element is not None
        return element

    @property
    def device(self) -> device:
        """The device it is on."""
        return self._info().device

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._info().shape)

    @property
    def is_cuda(self) -> bool:
        """Whether it is on a CUDA device."""
        return self.device.type == "cuda"

    def dim(self) -> int:
        """Returns the number of dimensions."""
        return len(self._info().shape)

    ndimension = dim

    def size(self, dim: int | None = None) -> Any:
        """Returns the size of each dimension, or of one."""
        if dim is None:
            return self.shape
        ndim = self.dim()
        if not -max(ndim, 1) <= dim < max(ndim, 1):
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-max(ndim, 1)}, "
                f"{max(ndim, 1) - 1}], but got {dim})"
            )
        return self.shape[dim]

    def numel(self) -> int:
        """Returns the number of elements."""
        return self._slot.session.traced_numel(self, self._info().shape.numel())

    nelement = numel

    def is_floating_point(self) -> bool:
        """Returns whether the element type is a floating point type."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Returns whether the element type is a complex type."""
        return self.dtype.is_complex

    def element_size(self) -> int:
        """Returns the bytes of one element."""
        return self.dtype.itemsize

    def type(self, dtype: Any = None, non_blocking: bool = False) -> Any:  # noqa: ARG002
        """Returns torch's name of the tensor's type, or the tensor converted to another type.

        Args:
            dtype: The type to convert to, an element type or a name such as ``torch.IntTensor``.
            non_blocking: Whether the script need not wait; it never does.
        """
        if dtype is None:
            return self._type_text()
        slot = self._slot.session.record("torch.Tensor.type", (self, dtype), {})
        converted = Tensor.__new__(Tensor)
        converted._slot = slot
        return converted

    def _type_text(self) -> str:
        device = "cuda." if self.is_cuda else ""
        return f"torch.{device}{self.dtype.type_name}Tensor"

    def _is_lazy(self) -> bool:
        return self._info().type.startswith("torch.nn.parameter.Uninitialized")

    def _materialize_as(self, value: Any) -> None:
        """Gives a parameter of a lazy module its shape, if it has none yet."""
        if self._is_lazy():
            shape = tuple(value.shape)
            session = self._slot.session
            session.record("gradwire.materialize", (self, shape), {}, wanted=False)
            self._slot.info = None

    def __eq__(self, other: object) -> Any:
        return self._compare("torch.Tensor.__eq__", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("torch.Tensor.__ne__", other)

    def _compare(self, name: str, other: object) -> Any:
        if other is None or isinstance(other, str | list | tuple | dict):
            # As in torch: Python then compares identities.
            return NotImplemented
        result = Tensor.__new__(Tensor)
        result._slot = self._slot.session.record(name, (self, other), {})
        return result

    def numpy(self, *, force: bool = False) -> "np.ndarray[Any, Any]":
        """Returns a copy of the elements as a numpy array of the same shape.

        Args:
            force: Whether to detach from autograd first, as in torch.

        Raises:
            RuntimeError: The tensor requires a gradient, and `force` is not given.
            TypeError: numpy has no such element type.
        """
        if not force and self.requires_grad:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. "
                "Use tensor.detach().numpy() instead."
            )
        if self.dtype is DTYPES["complex32"]:
            raise TypeError("Got unsupported ScalarType ComplexHalf; convert to complex64 first")
        return self._elements()

    def _elements(self) -> "np.ndarray[Any, Any]":
        array: np.ndarray[Any, Any] = self._slot.session.fetch("torch.Tensor.detach", (self,), {})
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray[Any, Any]":
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def tolist(self) -> Any:
        """Returns the elements as nested lists of Python numbers."""
        array = self._elements()
        if array.dtype.names:
            array = array["real"].astype(np.complex64) + 1j * array["imag"].astype(np.float32)
        elif array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat16", "float8")):
            array = array.astype(np.float32)
        return array.tolist()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return int(self.shape[0])

    def __iter__(self) -> Iterator["Tensor"]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        session = self._slot.session
        text: str = session.fetch("gradwire.repr", (self,), session.print_options)
        return text

    def __format__(self, format_spec: str) -> str:
        if self.dim() == 0:
            return format(self.item(), format_spec)
        return object.__format__(self, format_spec)

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> "Tensor":
        copied = type(self).__new__(type(self))
        session = self._slot.session
        copied._slot = session.record("gradwire.copy", (self,), {})
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        copied = type(self).__new__(type(self))
        copied._slot = self._slot.session.record("gradwire.deepcopy", (self,), {})
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a tensor on a server can't be pickled; take its elements with .numpy() or "
            "save it with gradwire.save"
        )
