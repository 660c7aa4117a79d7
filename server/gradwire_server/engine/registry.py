"""Looks operations up by name: the only way from a name on the wire to a callable."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import IntEnum
from functools import cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

import torch

from gradwire.v1 import catalog, server_pb2
from gradwire_server.engine import hot
from gradwire_server.engine.arithmetic import arithmetic
from gradwire_server.engine.guards import guarded
from gradwire_server.engine.memory import Allocating, Budget
from gradwire_server.errors import GradwireError, Reason, invalid

KINDS: tuple[tuple[dict[str, str], "server_pb2.CatalogKind"], ...] = (
    (catalog.FUNCTIONS, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.METHODS, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.PROPERTIES, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.OBJECT_METHODS, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.CONTEXTS, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.CLASSES, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.ATEN, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.ARITHMETIC, server_pb2.CATALOG_KIND_OPERATION),
    (catalog.MODULES, server_pb2.CATALOG_KIND_MODULE),
    (catalog.LOSSES, server_pb2.CATALOG_KIND_LOSS),
    (catalog.OPTIMIZERS, server_pb2.CATALOG_KIND_OPTIMIZER),
    (catalog.SCHEDULERS, server_pb2.CATALOG_KIND_SCHEDULER),
    (catalog.INITIALIZERS, server_pb2.CATALOG_KIND_INITIALIZER),
)
"""Each table of the catalog and the kind of its names."""

KIND_OF_NAME: dict[str, "server_pb2.CatalogKind"] = {
    name: kind for table, kind in KINDS for name in table
}
_SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "** or pow()",
    "matmul": "@",
    "and": "&",
    "or": "|",
    "xor": "^",
    "lshift": "<<",
    "rshift": ">>",
}
"""How Python shows operators in errors."""
_FACTORIES = frozenset(catalog.FACTORIES)


def torch_object(name: str) -> Any:
    """Returns the torch object of a name that is in the catalog."""
    if name not in KIND_OF_NAME:
        raise KeyError(name)
    if name in catalog.ARITHMETIC:
        return arithmetic(name)
    if name in catalog.ATEN:
        return attrgetter(name)(torch.ops)
    value = attrgetter(name.removeprefix("torch."))(torch)
    return value.__get__ if name in catalog.PROPERTIES else value


def _shared(name: str) -> Callable[..., Any]:
    if name in hot.CALLS:
        return hot.CALLS[name]
    function: Callable[..., Any] = torch_object(name)
    owner, _, last = name.rpartition(".")
    if name in catalog.ATEN and name in _FACTORIES:
        return partial(_on_default_device, function)
    if name in catalog.OBJECT_METHODS:
        return partial(_method, attrgetter(owner.removeprefix("torch."))(torch), last)
    if last.endswith("__"):
        return partial(_operator, last, function)
    return function


def public_name(name: str) -> str:
    """Returns the public name of what an overload of ATen belongs to, or the name as it is."""
    if name not in catalog.ATEN:
        return name
    base = name.split(".")[1]
    candidates = (
        f"torch.{base}",
        f"torch.Tensor.{base}",
        f"torch.{base.replace('_', '.', 1)}",
        f"torch.nn.functional.{base}",
    )
    return next((public for public in candidates if public in KIND_OF_NAME), name)


def _on_default_device(overload: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a factory, which unlike torch's functions knows nothing of `with torch.device(...)`."""
    if kwargs.get("device") is None:
        kwargs["device"] = torch.get_default_device()
    return overload(*args, **kwargs)


def _method(owner: type, name: str, /, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls the method of the value's own class; the value must be an instance of `owner`."""
    if not isinstance(value, owner):
        raise TypeError(f"{name} needs a {owner.__name__}, not a {type(value).__name__}")
    return getattr(value, name)(*args, **kwargs)


def _operator(name: str, method: Callable[..., Any], *args: Any) -> Any:
    """Calls an operator method; raises TypeError where Python would try the other operand's."""
    result = method(*args)
    if result is NotImplemented:
        left, right = (type(arg).__name__ for arg in args[:2])
        symbol = name.strip("_")
        if symbol not in _SYMBOLS and symbol[:1] in ("r", "i"):
            if symbol[0] == "r":
                left, right = right, left
            symbol = symbol[1:]
        shown = _SYMBOLS.get(symbol, name) + ("=" if name.startswith("__i") else "")
        raise TypeError(f"unsupported operand type(s) for {shown}: {left!r} and {right!r}")
    return result


class Subject(IntEnum):
    """What of a session an operation works on: the field of `Subjects`."""

    INTRINSICS = 0
    CALLABLES = 1
    BUDGET = 2


class Subjects(NamedTuple):
    """What operations of one session work on, beside their arguments."""

    intrinsics: Any
    callables: Any
    budget: Budget


class Operation(NamedTuple):
    """An operation, the same for all sessions.

    Attributes:
        call: What to call.
        subject: What of the session is its first argument, before its own; None if it has none.
    """

    call: Callable[..., Any]
    subject: Subject | None = None


def operations_of(
    owner: type, subject: Subject, *, but: Collection[str] = ()
) -> dict[str, Operation]:
    """Returns the public methods of a class as operations, by name: `gradwire.<method>`.

    Args:
        owner: The class.
        subject: Where a session has its instance; static methods need none.
        but: Those that are no operations.
    """
    return {
        f"gradwire.{name}": Operation(
            getattr(owner, name), None if isinstance(method, staticmethod) else subject
        )
        for name, method in vars(owner).items()
        if not name.startswith("_") and name not in but and not isinstance(method, property)
    }


class Registry:
    """The operations of one session.

    Args:
        own: gradwire's own operations, by name.
        subjects: What the session's operations work on.
        device: Where new tensors and modules are made.
    """

    def __init__(
        self, own: Mapping[str, Operation], subjects: Subjects, *, device: torch.device
    ) -> None:
        self.subjects = subjects
        self._own = own
        self._device = device

    def operation(self, name: str, path: str) -> Operation:
        """Returns an operation.

        Args:
            name: The operation's name.
            path: The request field it came in, for errors.

        Raises:
            GradwireError: UNKNOWN_NAME, naming the closest names that exist.
        """
        own = self._own.get(name)
        if own is not None:
            return own
        if name not in KIND_OF_NAME:
            raise unknown_name(name, path, [*KIND_OF_NAME, *self._own])
        return _cataloged(name, self._device)

    def resolve(self, name: str, path: str) -> Callable[..., Any]:
        """Returns what to call for an operation in this session; raises as `operation`."""
        call, subject = self.operation(name, path)
        return call if subject is None else partial(call, self.subjects[subject])

    def function(self, name: str, path: str) -> Callable[..., Any]:
        """As `resolve`, for a function that is an argument: it must be one of FUNCTIONS."""
        if name not in catalog.FUNCTIONS:
            raise unknown_name(name, path, catalog.FUNCTIONS)
        return self.resolve(name, path)

    def constructor(self, name: str, path: str, table: dict[str, str]) -> Callable[..., Any]:
        """As `resolve`, for a name that must be in one table of the catalog, such as MODULES."""
        if name not in table:
            raise unknown_name(name, path, table)
        return self.resolve(name, path)


@cache
def _cataloged(name: str, device: torch.device) -> Operation:
    """Returns the operation of a name of the catalog."""
    public = public_name(name)
    function = guarded(public, _shared(name))
    if name in catalog.MODULES or name in catalog.LOSSES:
        power = 3
    elif name in _FACTORIES:
        power = 1
    else:
        return Operation(function)
    return Operation(Allocating(public, function, power=power, device=device), Subject.BUDGET)


def unknown_name(name: str, path: str, known: Iterable[str]) -> GradwireError:
    """Returns the error for a name that is not in the catalog, with the closest ones that are."""
    return invalid(
        path,
        f"{name!r} is not in the catalog{closest(name, known)} "
        "(ServerService.GetCatalog lists all names)",
        reason=Reason.UNKNOWN_NAME,
    )


def closest(name: str, known: Iterable[str]) -> str:
    """Returns a hint at the known names that are closest to a name; empty if none is close."""
    known = list(known)
    last = name.rpartition(".")[2]
    same_last = [candidate for candidate in known if candidate.rpartition(".")[2] == last]
    close = same_last[:3] or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
