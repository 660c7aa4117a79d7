"""Calls of cataloged names: recorded, with results of the kind that the catalog says."""

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradwire.connection import current_session
from gradwire.recorder.results import Info, Unknown
from gradwire.recorder.slots import Remote, Slot
from gradwire.tensors import Tensor

if TYPE_CHECKING:
    from gradwire.session import Session


class RemoteObject(Remote):
    """Something other than a tensor that lives on the server, such as an optimizer or a context."""

    _serials = itertools.count()

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    @cached_property
    def serial(self) -> int:
        """A number that no other object has or had; handles and ids are used again."""
        return next(RemoteObject._serials)

    def __repr__(self) -> str:
        text: str = self._slot.session.fetch("gradwire.repr", (self,), {})
        return text

    def __deepcopy__(self, memo: dict[int, Any]) -> "RemoteObject":
        copied = RemoteObject(self._slot.session.record("gradwire.deepcopy", (self,), {}))
        memo[id(self)] = copied
        return copied


def wrap(slot: Slot, kind: type[Tensor] = Tensor) -> Any:
    """Returns the tensor of a slot.

    Args:
        slot: The slot.
        kind: The class, if it is another one than that of ordinary tensors.
    """
    tensor = kind.__new__(kind)
    tensor._slot = slot
    return tensor


def session_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Session":
    """Returns the session of the first argument that lives in one, else the current session."""
    for remote in _remotes(args):
        return remote._slot.session
    for remote in _remotes(kwargs.values()):
        return remote._slot.session
    return current_session()


def _remotes(values: Any) -> Iterator[Remote]:
    for value in values:
        if isinstance(value, Remote):
            yield value
        elif isinstance(value, list | tuple):
            yield from _remotes(value)


def invoke(
    session: "Session", name: str, returns: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Calls an operation.

    Args:
        session: Where.
        name: Its name in the catalog.
        returns: What the catalog says of its result.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        A tensor, None, a Python value or a structure of them, as torch would.

    Raises:
        GradwireError: Now, if the result is a Python value; else when a value is wanted later.
    """
    if returns == "tensor":
        return wrap(session.record(name, args, kwargs))
    if returns == "none":
        session.record(name, args, kwargs, wanted=False)
        return None
    if returns == "value":
        return session.fetch(name, args, kwargs)
    result = RemoteObject(session.record(name, args, kwargs))
    if returns == "object":
        return result
    if returns == "variable":
        return unpack(session, result, _describe(session, result))
    pattern = (name, _pattern(args), _pattern(kwargs))
    structure = session.structures.get(pattern)
    if structure is None:
        structure = _describe(session, result)
        if _is_fixed(structure):
            session.structures[pattern] = structure
        return unpack(session, result, structure)
    return unpack(session, result, structure, known=False)


def _describe(session: "Session", result: RemoteObject) -> Any:
    return session.fetch("gradwire.describe", (result,), {})


def _is_fixed(structure: Any) -> bool:
    """Whether a structure holds only tensors, so that another call's differs in nothing."""
    if isinstance(structure, Info) or structure is None:
        return True
    if isinstance(structure, list | tuple) and not isinstance(structure, Unknown):
        return all(_is_fixed(element) for element in structure)
    return False


def _pattern(value: Any) -> Any:
    """Returns what of the arguments decides the structure of an overloaded result."""
    if isinstance(value, Remote):
        return "remote"
    if isinstance(value, tuple | list):
        return (type(value), *[_pattern(element) for element in value])
    if isinstance(value, dict):
        return (dict, *[(key, _pattern(element)) for key, element in value.items()])
    remote = getattr(value, "__gradwire_remote__", None)
    if remote is not None:
        # A module's own arguments decide too, so its results are its own affair.
        return ("module", remote().serial)
    return repr(value)


def unpack(session: "Session", result: RemoteObject, structure: Any, *, known: bool = True) -> Any:
    """Returns a result in the shape of its structure, with a tensor for each description.

    Args:
        session: Where it is.
        result: What stands for all of it.
        structure: Its description.
        known: Whether the description is of this very result, not of one like it.
    """
    if isinstance(structure, Info):
        # The slot passes on to the tensor, and with it the duty to release it.
        slot = result.__dict__.pop("_slot")
        slot.info = structure if known else None
        return wrap(slot)
    if isinstance(structure, Unknown):
        return result
    if isinstance(structure, dict):
        return {
            key: unpack(session, _item(session, result, key), element, known=known)
            for key, element in structure.items()
        }
    if isinstance(structure, list | tuple):
        elements = [
            element
            if not isinstance(element, Info | Unknown | list | tuple | dict)
            else unpack(session, _item(session, result, index), element, known=known)
            for index, element in enumerate(structure)
        ]
        if isinstance(structure, list):
            return elements
        if hasattr(structure, "_fields"):
            return type(structure)(*elements)
        return type(structure)(elements)
    return structure


def _item(session: "Session", result: RemoteObject, index: int | str) -> RemoteObject:
    return RemoteObject(session.record("gradwire.getitem", (result, index), {}))


def _written(result: Any, out: Any) -> Any:
    """Returns what a call returns that wrote into `out`: the tensors of `out`, as torch does.

    Args:
        result: What was returned, as new tensors.
        out: A tensor, or a tuple or list of them.
    """
    if isinstance(result, Remote):
        out._slot.info = None
        return out
    if result is None:
        for tensor in out:
            tensor._slot.info = None
        return None
    written = [_written(*pair) for pair in zip(result, out, strict=True)]
    return type(result)(*written) if hasattr(result, "_fields") else type(result)(written)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value


def make_function(name: str, returns: str) -> Callable[..., Any]:
    """Returns the function of a cataloged name."""
    last = name.rpartition(".")[2]
    # An overload such as `aten.add_.Tensor` has the operator's name before its own.
    base = name.split(".")[1] if name.startswith("aten.") else last
    in_place = base.endswith("_") and not name.startswith("torch.nn.utils.")

    def function(*args: Any, **kwargs: Any) -> Any:
        # Going through `model.parameters()` may itself ask the server, so it comes first.
        args = tuple([_listed(value) for value in args])
        kwargs = {keyword: _listed(value) for keyword, value in kwargs.items()}
        session = session_of(args, kwargs)
        if in_place:
            target = args[0] if args else next(iter(kwargs.values()))
            session.record(name, args, kwargs, wanted=False)
            target._slot.info = None
            return target
        if kwargs and kwargs.get("out") is not None:
            return _written(invoke(session, name, returns, args, kwargs), kwargs["out"])
        return invoke(session, name, returns, args, kwargs)

    function.__gradwire_function__ = name  # type: ignore[attr-defined]
    function.__name__ = function.__qualname__ = last
    function.__module__ = "gradwire" + name.rpartition(".")[0].removeprefix("torch")
    function.__doc__ = f"Records a call of ``{name}``; see torch's documentation of it."
    return function


def make_method(name: str, returns: str) -> Callable[..., Any]:
    """Returns the method of ``Tensor`` of a cataloged name such as ``torch.Tensor.view``."""
    last = name.rpartition(".")[2]
    is_operator = last.startswith("__")
    if (last.endswith("_") and not is_operator) or last in _IN_PLACE_OPERATORS:

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            slot = self._slot
            slot.session.record(name, (self, *args), kwargs, wanted=False)
            slot.info = None
            return self

    elif returns == "tensor":

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return wrap(self._slot.session.record(name, (self, *args), kwargs))

    else:

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return invoke(self._slot.session, name, returns, (self, *args), kwargs)

    method.__name__ = last
    method.__qualname__ = f"Tensor.{last}"
    method.__module__ = "gradwire"
    method.__doc__ = f"Records a call of ``{name}``; see torch's documentation of it."
    return method


_IN_PLACE_OPERATORS = frozenset(
    f"__i{operator}__"
    for operator in (
        *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
        *("and", "or", "xor", "lshift", "rshift"),
    )
)
