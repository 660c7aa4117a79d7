"""Element types, devices, sizes and other small values that torch has classes for."""

from typing import Any, Final

from gradwire.v1.dtypes import ROWS

_FLOATING = frozenset(
    {"float32", "float64", "float16", "bfloat16"}
    | {row.name for row in ROWS if row.name.startswith("float8")}
)
_REAL_OF = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
_COMPLEX_OF = {real: name for name, real in _REAL_OF.items()}
_COMPLEX = frozenset(row.name for row in ROWS if row.name.startswith("complex"))
_TYPE_NAMES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}
"""What torch calls the tensors of a type, where it is not the capitalised name."""


class dtype:  # noqa: N801  # torch's name
    """An element type, such as ``gradwire.float32``. There is one object for each.

    Attributes:
        itemsize: Bytes of one element.
        is_floating_point: Whether it is a real floating point type.
        is_complex: Whether it is a complex type.
    """

    __slots__ = ("_name", "data_type", "is_complex", "is_floating_point", "itemsize", "numpy_name")

    def __init__(self, name: str, data_type: int, numpy_name: str, itemsize: int) -> None:
        self._name = name
        self.data_type = data_type
        self.numpy_name = numpy_name
        self.itemsize = itemsize
        self.is_floating_point = name in _FLOATING
        self.is_complex = name in _COMPLEX

    @property
    def type_name(self) -> str:
        """What torch calls tensors of this type, such as ``Float`` in ``torch.FloatTensor``."""
        name = self._name.replace("uint", "UInt") if "uint" in self._name else self._name
        return _TYPE_NAMES.get(self._name, name[0].upper() + name[1:])

    @property
    def is_signed(self) -> bool:
        """Whether it has negative values."""
        return not (self._name.startswith("uint") or self._name == "bool")

    def to_complex(self) -> "dtype":
        """Returns the complex type whose parts are of this type."""
        return DTYPES[_COMPLEX_OF.get(self._name, self._name)]

    def to_real(self) -> "dtype":
        """Returns the type of the parts of this complex type; itself if it is none."""
        return DTYPES[_REAL_OF.get(self._name, self._name)]

    def __repr__(self) -> str:
        return f"torch.{self._name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (dtype_of_name, (self._name,))


DTYPES: Final[dict[str, dtype]] = {
    row.name: dtype(row.name, row.data_type, row.numpy_name, row.itemsize) for row in ROWS
}
DTYPE_ALIASES: Final[dict[str, str]] = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "chalf": "complex32",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
DTYPE_OF_DATA_TYPE: Final[dict[int, dtype]] = {d.data_type: d for d in DTYPES.values()}
DTYPE_OF_NUMPY_NAME: Final[dict[str, dtype]] = {d.numpy_name: d for d in DTYPES.values()}


def dtype_of_name(name: str) -> dtype:
    """Returns the dtype of a name such as ``float32``."""
    return DTYPES[name]


class Constant:
    """A constant of torch, such as ``gradwire.channels_last`` or ``gradwire.strided``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


CONSTANTS: Final[dict[str, Constant]] = {
    name: Constant(f"torch.{name}")
    for name in (
        "contiguous_format",
        "preserve_format",
        "channels_last",
        "channels_last_3d",
        "strided",
        "sparse_coo",
        "sparse_csr",
        "sparse_csc",
        "sparse_bsr",
        "sparse_bsc",
    )
}


class device:  # noqa: N801  # torch's name
    """A device of the session's worker, such as ``device("cpu")`` or ``device("cuda", 0)``.

    Args:
        type: ``cpu`` or ``cuda``, or both parts as in ``cuda:0``; or another device.
        index: Which one of that type.

    Raises:
        RuntimeError: The text is no device.
    """

    __slots__ = ("index", "type")

    def __init__(self, type: "str | device | int", index: int | None = None) -> None:
        if isinstance(type, device):
            kind, index = type.type, type.index
        elif isinstance(type, int):
            kind, index = "cuda", type
        else:
            kind, colon, number = type.partition(":")
            if colon:
                if not number.isdigit() or index is not None:
                    raise RuntimeError(f"Invalid device string: '{type}'")
                index = int(number)
        if kind not in ("cpu", "cuda"):
            raise RuntimeError(
                f"Expected one of cpu, cuda device type at start of device string: {kind}"
            )
        self.type: str = kind
        self.index: int | None = index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, device):
            return NotImplemented
        return (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))


class Size(tuple[int, ...]):
    """The size of each dimension of a tensor."""

    __slots__ = ()

    def numel(self) -> int:
        """Returns the product of all sizes."""
        product = 1
        for size in self:
            product *= size
        return product

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return Size(item) if isinstance(index, slice) else item

    def __add__(self, other: Any) -> "Size":
        return Size(super().__add__(tuple(other)))

    def __radd__(self, other: Any) -> "Size":
        return Size(tuple(other) + tuple(self))

    def __mul__(self, times: Any) -> "Size":
        return Size(super().__mul__(times))

    __rmul__ = __mul__


def typename(value: Any) -> str:
    """Returns the name that torch prints for the class of a value, such as ``torch.FloatTensor``.

    Python's own classes go without their module, gradwire's by the names they have in torch.
    """
    type_text = getattr(value, "_type_text", None)
    if type_text is not None:
        return str(type_text())
    kind = value if isinstance(value, type) else type(value)
    if kind.__module__ in ("builtins", "", None):
        return kind.__name__
    module = kind.__module__
    if module == "gradwire" or module.startswith("gradwire."):
        module = "torch" + module.removeprefix("gradwire")
    return f"{module}.{kind.__qualname__}"
