"""Objects of a program that live in a session, as data: what a checkpoint brings back.

An object such as a module or an optimizer consists of values on the server, which a checkpoint
holds by handle, and of Python around them: its class, its attributes, and what refers to what. That
Python is written as JSON here. Rebuilding looks for the classes among those that are loaded and
derive from one that is marked as :func:`restorable`; it imports nothing but parts of gradwire, and
runs no code of a class but ``__new__``. What is shared stays shared, and cycles stay cycles.
"""

import base64
import importlib
import json
import operator
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from gradwire.errors import DataLossError
from gradwire.recorder.slots import FAILED, Remote, Slot
from gradwire.types import DTYPES, Size, device, dtype

T = TypeVar("T", bound=type)

FORMAT_VERSION = 1
_OF_REMOTES = frozenset({"_slot", "serial"})
"""Attributes of what stands for a value that are not kept."""
_PACKAGE = "gradwire"

_bases: list[type] = [Remote]
_finders: dict[str, Callable[[str], type]] = {}


def restorable(kind: T) -> T:
    """Lets objects of a class, and of classes derived from it, come back from checkpoints.

    An object is kept by its ``__dict__``. A class with a true ``__gradwire_transient__`` comes back
    as a new instance, one with a ``__gradwire_class__``, ``finder:name``, by that name, and one
    with a ``__gradwire_unsupported__``, which says why, not at all.
    """
    _bases.append(kind)
    return kind


def add_finder(prefix: str, find: Callable[[str], type]) -> None:
    """Sets what finds the classes whose ``__gradwire_class__`` begins with a prefix."""
    _finders[prefix] = find


def is_restorable(value: Any) -> bool:
    """Whether an object is of a class that is marked as restorable, or a value of a session."""
    return isinstance(value, tuple(_bases))


class UnsupportedError(TypeError):
    """An object has no form as data; the message says which and why."""


class Packer:
    """Writes objects of one session as data.

    Args:
        session: The session, in which nothing recorded waits to be sent.

    Attributes:
        handles: The handles of all values that were met.
        left_out: Attributes that have no form as data, and why.
    """

    def __init__(self, session: Any) -> None:
        self.handles: set[int] = set()
        self.left_out: dict[str, str] = {}
        self._session = session
        self._nodes: list[Any] = []
        self._indices: dict[int, int] = {}
        self._alive: list[Any] = []
        self._names: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        """Adds an object under a name.

        Raises:
            UnsupportedError: It has no form as data.
            ValueError: It lives in another session.
        """
        self._names[name] = self._pack(value, name)

    def to_bytes(self) -> bytes:
        """Returns everything as JSON."""
        content = {"version": FORMAT_VERSION, "objects": self._names, "nodes": self._nodes}
        return json.dumps(content, separators=(",", ":")).encode()

    def _pack(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic):
            value = value.item()
        kind = type(value)
        if kind is int:
            return value
        if kind is float:
            return {"float": value.hex()}
        if is_restorable(value):
            return {"ref": self._shared(value, path, self._object)}
        function = getattr(value, "__gradwire_function__", None)
        if function is not None and value.__module__.startswith(_PACKAGE):
            return {"function": f"{value.__module__}:{value.__name__}"}
        if isinstance(value, dtype):
            return {"dtype": repr(value).removeprefix("torch.")}
        if isinstance(value, device):
            return {"device": str(value)}
        if kind is complex:
            return {"complex": [value.real.hex(), value.imag.hex()]}
        if kind is bytes:
            return {"bytes": base64.b64encode(value).decode()}
        if kind in _TUPLES.values():
            name = next(name for name, each in _TUPLES.items() if each is kind)
            return {name: [self._pack(v, f"{path}[{i}]") for i, v in enumerate(value)]}
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return {"ref": self._shared(value, path, self._array)}
        if kind in (list, set) or isinstance(value, dict):
            return {"ref": self._shared(value, path, self._container)}
        raise UnsupportedError(
            f"{path} is a {kind.__module__}.{kind.__qualname__}, which can't be part of a "
            "checkpoint: modules, optimizers, schedulers, tensors, numbers, strings and "
            "structures of them can"
        )

    def _shared(self, value: Any, path: str, pack: Callable[[Any, str], Any]) -> int:
        known = self._indices.get(id(value))
        if known is not None:
            return known
        index = self._indices[id(value)] = len(self._nodes)
        # An id is that of this object only as long as it lives.
        self._alive.append(value)
        self._nodes.append(None)
        try:
            self._nodes[index] = pack(value, path)
        except UnsupportedError:
            # What was seen on the way may refer to this.
            del self._nodes[index:]
            while len(self._indices) > index:
                self._indices.popitem()
            raise
        return index

    def _object(self, value: Any, path: str) -> Any:
        kind = type(value)
        refusal = getattr(kind, "__gradwire_unsupported__", "")
        if refusal:
            raise UnsupportedError(f"{path} can't be part of a checkpoint: {refusal}")
        node: dict[str, Any] = {"class": _class_name(kind)}
        if getattr(kind, "__gradwire_transient__", False):
            if value:
                self.left_out[path] = f"it holds {len(value)} functions of your program"
            return node
        state = vars(value)
        is_remote = isinstance(value, Remote)
        if is_remote:
            node["handle"] = self._handle(state["_slot"], path)
        node["state"] = attributes = {}
        for name, attribute in state.items():
            if is_remote and name in _OF_REMOTES:
                continue
            where = f"{path}.{name}"
            try:
                attributes[name] = self._pack(attribute, where)
            except UnsupportedError as error:
                self.left_out[where] = str(error)
        return node

    def _handle(self, slot: Slot, path: str) -> int:
        if slot.session is not self._session:
            raise ValueError(f"{path} lives in {slot.session.name}, not in {self._session.name}")
        if slot.handle == FAILED:
            slot.raise_failure()
        self.handles.add(slot.handle)
        return slot.handle

    def _array(self, value: "np.ndarray[Any, Any]", _: str) -> Any:
        little = np.ascontiguousarray(value)
        data = base64.b64encode(little.tobytes()).decode()
        return {"array": little.dtype.str, "shape": list(value.shape), "data": data}

    def _container(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            kind = next(name for name, each in _DICTS.items() if isinstance(value, each))
            pairs = [
                [self._pack(key, path), self._pack(element, f"{path}[{key!r}]")]
                for key, element in value.items()
            ]
            return {"dict": pairs, "kind": kind}
        elements = [self._pack(element, f"{path}[{i}]") for i, element in enumerate(value)]
        return {"list" if type(value) is list else "set": elements}


_TUPLES: dict[str, type] = {"tuple": tuple, "size": Size, "frozenset": frozenset}
_DICTS: dict[str, type] = {
    "defaultdict": defaultdict,
    "counter": Counter,
    "ordered_dict": OrderedDict,
    "dict": dict,
}
"""Kinds of dictionaries, the narrower ones first."""


def pack_all(session: Any, objects: Mapping[str, Any]) -> Packer:
    """Returns named objects as data, and warns of attributes that have no form as data.

    Raises:
        UnsupportedError: An object has no form as data.
        ValueError: An object lives in another session.
    """
    packer = Packer(session)
    for name, value in objects.items():
        packer.add(name, value)
    for path, why in packer.left_out.items():
        warnings.warn(
            f"{path} is not part of the checkpoint, so set it again after restore(): {why}",
            stacklevel=3,
        )
    return packer


def pack_possible(session: Any, objects: Mapping[str, Any]) -> Packer:
    """Returns those of some named objects as data that have a form as data."""
    packer = Packer(session)
    for name, value in objects.items():
        with suppress(UnsupportedError):
            packer.add(name, value)
    return packer


def own_variables(session: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of some variables that hold objects of a session; no private ones."""
    found = {}
    for name, value in variables.items():
        if name.startswith("_") or not is_restorable(value):
            continue
        if getattr(type(value), "__gradwire_unsupported__", ""):
            continue
        # Others live in another session.
        with suppress(UnsupportedError, ValueError):
            Packer(session).add(name, value)
            found[name] = value
    return found


class Rebuilder:
    """Makes objects of data again.

    Args:
        session: The session that their values live in.
        data: What `Packer.to_bytes` returned.

    Attributes:
        handles: The handles of all values that were met.

    Raises:
        DataLossError: The data is not what a program of this version wrote.
    """

    def __init__(self, session: Any, data: bytes) -> None:
        self.handles: set[int] = set()
        self._session = session
        self._built: dict[int, Any] = {}
        content = json.loads(data)
        if content["version"] != FORMAT_VERSION:
            raise DataLossError(
                f"the objects of this checkpoint have the format {content['version']}, and this "
                f"version of gradwire reads {FORMAT_VERSION}"
            )
        self._nodes: list[Any] = content["nodes"]
        self._names: dict[str, Any] = content["objects"]

    def objects(self) -> dict[str, Any]:
        """Returns the objects by name.

        Raises:
            LookupError: A class is not loaded.
        """
        return {name: self._build(value) for name, value in self._names.items()}

    def _build(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        match kind:
            case "ref":
                return self._shared(content)
            case "float":
                return float.fromhex(content)
            case "complex":
                return complex(*(float.fromhex(part) for part in content))
            case "bytes":
                return base64.b64decode(content)
            case "dtype":
                return DTYPES[content]
            case "device":
                return device(content)
            case "function":
                found = _attribute(content)
                if not hasattr(found, "__gradwire_function__"):
                    raise LookupError(f"{content!r} is no function of gradwire")
                return found
            case _:
                return _TUPLES[kind](self._build(element) for element in content)

    def _shared(self, index: int) -> Any:
        if index in self._built:
            return self._built[index]
        node = self._nodes[index]
        if "class" in node:
            return self._object(index, node)
        if "array" in node:
            array = np.frombuffer(bytearray(base64.b64decode(node["data"])), node["array"])
            self._built[index] = array.reshape(node["shape"])
        elif "dict" in node:
            made: Any = defaultdict(dict) if node["kind"] == "defaultdict" else None
            mapping = self._built[index] = _DICTS[node["kind"]]() if made is None else made
            for key, element in node["dict"]:
                mapping[self._build(key)] = self._build(element)
        elif "set" in node:
            self._built[index] = {self._build(element) for element in node["set"]}
        else:
            elements = self._built[index] = []
            elements.extend(self._build(element) for element in node["list"])
        return self._built[index]

    def _object(self, index: int, node: Any) -> Any:
        kind: Any = _class_named(node["class"])
        if "state" not in node:
            self._built[index] = kind()
            return self._built[index]
        value = self._built[index] = kind.__new__(kind)
        state = value.__dict__
        if "handle" in node:
            handle = node["handle"]
            self.handles.add(handle)
            state["_slot"] = Slot(self._session, handle, 0)
        state.update({name: self._build(element) for name, element in node["state"].items()})
        return value


def _class_name(kind: type) -> str:
    return kind.__dict__.get("__gradwire_class__") or f"{kind.__module__}:{kind.__qualname__}"


def _class_named(name: str) -> type:
    """Returns the loaded class of a name that `_class_name` gave.

    Raises:
        LookupError: There is none.
    """
    module, _, qualified = name.partition(":")
    if module in _finders:
        return _finders[module](qualified)
    if module == _PACKAGE or module.startswith(f"{_PACKAGE}."):
        found = _attribute(name)
        if isinstance(found, type) and issubclass(found, tuple(_bases)):
            return found
        raise LookupError(f"{name!r} is no class whose objects come back from checkpoints")
    same_name = [kind for kind in _loaded(_bases) if kind.__qualname__ == qualified]
    same_module = [kind for kind in same_name if kind.__module__ == module]
    # A script that was the main program may be a module of another one. Of a class that was
    # defined more than once, as in a notebook, the newest counts.
    for kinds in (same_module, same_name):
        if kinds:
            return kinds[-1]
    raise LookupError(
        f"the checkpoint holds an object of the class {qualified} of {module}, and this program "
        "has none of that name; define or import it before restore()"
    )


def _attribute(name: str) -> Any:
    """Returns a part of gradwire, ``module:qualified.name``."""
    module, _, qualified = name.partition(":")
    if module != _PACKAGE and not module.startswith(f"{_PACKAGE}."):
        raise LookupError(f"{name!r} is no part of gradwire")
    try:
        return operator.attrgetter(qualified)(importlib.import_module(module))
    except (AttributeError, ImportError):
        raise LookupError(
            f"this version of gradwire has no {name!r}; the checkpoint is of another one"
        ) from None


def _loaded(kinds: Iterable[type]) -> list[type]:
    """Returns classes and all that derive from them, in the order in which they were made."""
    found: dict[type, None] = {}
    for kind in kinds:
        found[kind] = None
        found.update(dict.fromkeys(_loaded(kind.__subclasses__())))
    return list(found)
