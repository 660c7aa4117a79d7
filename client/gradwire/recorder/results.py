"""What is known of results without their elements, and the tuples that torch returns."""

from collections import namedtuple
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from gradwire.types import Size, device, dtype


class Info(NamedTuple):
    """What is known of a tensor on the server without its elements.

    Attributes:
        dtype: Its element type.
        shape: The size of each dimension.
        requires_grad: Whether autograd tracks it.
        device: Where it is.
        type: Its class, ``torch.Tensor`` or ``torch.nn.Parameter``.
    """

    dtype: dtype | None
    shape: Size
    requires_grad: bool
    device: device
    type: str


class Unknown(NamedTuple):
    """Something on the server that does not travel, by its class."""

    type: str


TUPLE_CLASSES: dict[str, Callable[[Any], Any]] = {"torch.Size": Size}
"""What makes a tuple of a class of its own, by the class; others become plain or named tuples."""


def make_tuple(type_name: str, names: tuple[str, ...], elements: tuple[Any, ...]) -> Any:
    """Returns elements as the tuple that torch returns: plain, a `Size` or a named one."""
    known = TUPLE_CLASSES.get(type_name)
    if known is not None:
        return known(elements)
    if names:
        return _named_tuple(type_name, names)(*elements)
    return elements


@cache
def _named_tuple(type_name: str, names: tuple[str, ...]) -> Any:
    base = namedtuple(type_name.rsplit(".", 1)[-1], names)  # type: ignore[misc]  # noqa: PYI024

    def printed(self: Any) -> str:
        fields = ",\n".join(f"{name}={value!r}" for name, value in zip(names, self, strict=True))
        return f"{type_name}(\n{fields})"

    return type(base.__name__, (base,), {"__slots__": (), "__repr__": printed})
