"""Arguments of recorded operations as keys, and keys as messages.

The key of an operation is a hashable tuple that holds all there is to say about it, so that two
steps of a loop that record the same operations have equal keys and a program is sent only once.
Everything that Python calls equal but torch does not (``1``, ``1.0`` and ``True``; ``0.0`` and
``-0.0``) has keys that differ.
"""

from collections.abc import Callable, Hashable, Iterable
from types import FunctionType
from typing import Any

import numpy as np

from gradwire.recorder.slots import Remote
from gradwire.types import Constant, Size, device, dtype
from gradwire.v1 import values_pb2

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

Key = Hashable
OperationKey = tuple[str, tuple[Key, ...], tuple[tuple[str, Key], ...]]


class Atom:
    """A key that is equal only to itself and knows its message."""

    __slots__ = ("message", "name")

    def __init__(self, name: str, message: values_pb2.Value) -> None:
        self.name = name
        self.message = message

    def __repr__(self) -> str:
        return self.name


class References(dict[int, Atom]):
    """The atoms of inputs or results by index, made as they are needed."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, index: int) -> Atom:
        message = values_pb2.Value(**{self._kind: index})  # type: ignore[arg-type]
        self[index] = atom = Atom(f"{self._kind} {index}", message)
        return atom


INPUTS = References("input")
RESULTS = References("result")
NONE = Atom("None", values_pb2.Value(none=values_pb2.NoneValue()))
TRUE = Atom("True", values_pb2.Value(bool_value=True))
FALSE = Atom("False", values_pb2.Value(bool_value=False))
ELLIPSIS = Atom("...", values_pb2.Value(ellipsis=values_pb2.EllipsisValue()))


def encode(value: Any, reference: Callable[[Any], Key]) -> Key:
    """Returns the key of an argument.

    Args:
        value: A Python value, or a structure of them.
        reference: Returns the key of anything that lives on the server.

    Raises:
        TypeError: There is no way to send a value of that class.
        OverflowError: An integer does not fit into 64 bits.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value, reference)
    if isinstance(value, Remote) or hasattr(value, "__gradwire_remote__"):
        return reference(value)
    if isinstance(value, tuple):
        return _tuple(value, reference)
    if isinstance(value, list):
        return _list(value, reference)
    if isinstance(value, dict):
        return _dict(value, reference)
    if isinstance(value, np.generic):
        return encode(value.item(), reference)
    for base, encoder in _ENCODERS.items():
        if isinstance(value, base):
            return encoder(value, reference)
    return reference(value)


def _int(value: int, _: Any) -> Key:
    if not INT64_MIN <= value <= INT64_MAX:
        raise OverflowError(f"{value} does not fit into a 64-bit integer")
    return int(value)


def _tuple(value: tuple[Any, ...], reference: Callable[[Any], Key]) -> Key:
    return ("tuple", *[encode(element, reference) for element in value])


def _list(value: list[Any], reference: Callable[[Any], Key]) -> Key:
    return ("list", *[encode(element, reference) for element in value])


def _dict(value: dict[Any, Any], reference: Callable[[Any], Key]) -> Key:
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"dictionary keys must be strings to be sent, not {key!r}")
    return ("dict", *[(key, encode(element, reference)) for key, element in value.items()])


def _slice(value: slice, reference: Callable[[Any], Key]) -> Key:
    return (
        "slice",
        encode(value.start, reference),
        encode(value.stop, reference),
        encode(value.step, reference),
    )


def _function(value: Any, reference: Callable[[Any], Key]) -> Key:
    """Returns the key of a function of the catalog; other functions are not data."""
    name = getattr(value, "__gradwire_function__", None)
    return reference(value) if name is None else ("function", name)


_ENCODERS: dict[type, Callable[[Any, Callable[[Any], Key]], Key]] = {
    type(None): lambda _, __: NONE,
    bool: lambda value, _: TRUE if value else FALSE,
    int: _int,
    float: lambda value, _: ("float", float(value).hex()),
    complex: lambda value, _: ("complex", value.real.hex(), value.imag.hex()),
    str: lambda value, _: str(value),
    tuple: _tuple,
    Size: _tuple,
    list: _list,
    range: lambda value, reference: _list(list(value), reference),
    dict: _dict,
    slice: _slice,
    type(...): lambda _, __: ELLIPSIS,
    dtype: lambda value, _: ("dtype", value.data_type),
    device: lambda value, _: ("device", str(value)),
    Constant: lambda value, _: ("constant", value.name),
    FunctionType: _function,
}


def message(key: Any) -> values_pb2.Value:
    """Returns the wire form of a key."""
    if isinstance(key, Atom):
        return key.message
    if isinstance(key, int):
        return values_pb2.Value(int_value=key)
    if isinstance(key, str):
        return values_pb2.Value(string_value=key)
    kind = key[0]
    match kind:
        case "float":
            return values_pb2.Value(float_value=float.fromhex(key[1]))
        case "tuple":
            return values_pb2.Value(tuple=_messages(key[1:]))
        case "list":
            return values_pb2.Value(list=_messages(key[1:]))
        case "dict":
            entries = [values_pb2.ValueEntry(key=k, value=message(v)) for k, v in key[1:]]
            return values_pb2.Value(dict=values_pb2.ValueMap(entries=entries))
        case "slice":
            bounds = zip(("start", "stop", "step"), key[1:], strict=True)
            given = {name: message(bound) for name, bound in bounds if bound is not NONE}
            return values_pb2.Value(slice=values_pb2.SliceValue(**given))
        case "dtype":
            return values_pb2.Value(dtype=key[1])
        case "device":
            return values_pb2.Value(device=key[1])
        case "constant":
            return values_pb2.Value(constant=key[1])
        case "function":
            return values_pb2.Value(function=key[1])
        case "complex":
            real, imaginary = (float.fromhex(part) for part in key[1:])
            number = values_pb2.ComplexValue(real=real, imaginary=imaginary)
            return values_pb2.Value(complex_value=number)
        case _:
            raise AssertionError(f"{key!r} is no key")


def _messages(keys: tuple[Any, ...]) -> values_pb2.ValueList:
    return values_pb2.ValueList(values=[message(key) for key in keys])


def program_message(
    operations: Iterable[OperationKey], num_inputs: int, outputs: Iterable[Key] = ()
) -> values_pb2.Program:
    """Returns the wire form of recorded operations."""
    return values_pb2.Program(
        num_inputs=num_inputs,
        operations=[
            values_pb2.Operation(
                name=name,
                args=[message(key) for key in args],
                kwargs={keyword: message(key) for keyword, key in kwargs},
            )
            for name, args, kwargs in operations
        ],
        outputs=[message(key) for key in outputs],
    )
