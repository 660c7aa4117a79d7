"""Modules of torch itself: they live on the server, and are described when somebody asks."""

import copy
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Self

from gradwire.callbacks import Callback, run
from gradwire.calls import RemoteObject, invoke, make_function, session_of, wrap
from gradwire.nn.containers import ModuleDict, ModuleList, Sequential
from gradwire.nn.extras import COPIES, EXTRAS, MEMBER_ARGUMENTS
from gradwire.nn.hooks import Hook, RemovableHandle
from gradwire.nn.inside import copy_hooks, has_hooks, hooks_inside, note
from gradwire.nn.module import Module
from gradwire.nn.parameter import Parameter
from gradwire.objects import add_finder
from gradwire.recorder.results import Info
from gradwire.recorder.slots import FAILED
from gradwire.tensors import Tensor
from gradwire.v1.catalog import CLASSES, LOSSES, MODULES

if TYPE_CHECKING:
    from gradwire.session import Session

_LAZY = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})


class BuiltinModule(Module):
    """A module of ``torch.nn``. Takes the arguments that torch's class takes.

    What it consists of is asked of the server when it is first needed, for all modules made until
    then at once.
    """

    _catalog_name = ""
    _returns = "overloaded"
    _becomes = ""
    """The name of the class that a lazy module has after its first call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        session = session_of(args, kwargs)
        given = _given_modules(self._catalog_name, args, kwargs)
        args = tuple([_sendable(session, value) for value in args])
        kwargs = {name: _sendable(session, value) for name, value in kwargs.items()}
        self.__dict__["_calls_back"] = any(
            isinstance(value, Callback) or getattr(value, "_calls_back", False)
            for value in (*args, *kwargs.values())
        )
        reset = _own_reset(type(self))
        # torch's constructor calls it in place of its own, which would draw random numbers.
        state = reset and RemoteObject(session.record("gradwire.random_state", (), {}))
        remote = RemoteObject(session.record(self._catalog_name, args, kwargs))
        self.__dict__["_given"] = given
        self._set_up(session, remote)
        for member in given.keys() & COPIES:
            template = given.pop(member)
            for layer in getattr(self, member) if has_hooks(template) else ():
                copy_hooks(template, layer)
        if reset is not None:
            session.record("gradwire.set_random_state", (state,), {}, wanted=False)
            reset(self)

    def _set_up(self, session: "Session", remote: RemoteObject) -> None:
        state = self.__dict__
        for name in _LAZY:
            state.pop(name, None)
        state["_remote"] = remote
        session.undescribed[self] = None

    def __gradwire_remote__(self) -> RemoteObject:
        """Returns what stands for the module on the server."""
        remote: RemoteObject = self.__dict__["_remote"]
        return remote

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Records a call of the module."""
        session = self.__gradwire_remote__()._slot.session
        if inside := hooks_inside(session, self):
            return run(session, "gradwire.call_inside", (self, inside, *args), kwargs)
        if self.__dict__["_calls_back"]:
            return run(session, "gradwire.call", (self, *args), kwargs)
        result = invoke(session, "gradwire.call", self._returns, (self, *args), kwargs)
        if self._becomes:
            self._materialise(session)
        return result

    def _add_hook(self, kind: str, hook: Hook, prepend: bool) -> RemovableHandle:
        note(self)
        return super()._add_hook(kind, hook, prepend)

    def _materialise(self, session: "Session") -> None:
        """Turns a lazy module into what its first call has made of it on the server."""
        kind = module_class(self._becomes)
        assert kind is not None
        self.__class__ = kind
        state = self.__dict__
        if "_modules" not in state:
            return
        for member in (*self._parameters.values(), *self._buffers.values()):
            if member is not None:
                member._slot.info = None
        described = session.fetch("gradwire.describe", (self.__gradwire_remote__(),), {})
        state.update(described[""]["attributes"])

    def train(self: Any, mode: bool = True) -> Any:
        """Switches the module to training mode, or to evaluation mode."""
        if isinstance(mode, bool):
            # First on the server: going through the children may ask it how they are.
            remote = self.__gradwire_remote__()
            remote._slot.session.record("torch.nn.Module.train", (remote, mode), {}, wanted=False)
        return super().train(mode)

    def _convert(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        remote = self.__gradwire_remote__()
        name = f"torch.nn.Module.{method}"
        remote._slot.session.record(name, (remote, *args), kwargs, wanted=False)
        for parameter in self._parameters.values():
            if parameter is not None:
                parameter._slot.info = None
        # torch converts parameters in place, but replaces buffers by others.
        for name, buffer in self._buffers.items():
            if buffer is not None:
                slot = remote._slot.session.record("gradwire.getattr", (remote, name), {})
                self._buffers[name] = wrap(slot)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        ours = self.__gradwire_remote__()
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        for name, value in self.__dict__.items():
            if name not in _LAZY and name not in ("_remote", "_given"):
                copied.__dict__[name] = copy.deepcopy(value, memo)
        copied._set_up(ours._slot.session, copy.deepcopy(ours, memo))
        if "_modules" in self.__dict__:
            _note_members(self, copied, memo)
            copy_hooks(self, copied)
        return copied

    def extra_repr(self) -> str:
        """Returns what torch prints between the parentheses."""
        remote = self.__gradwire_remote__()
        description = remote._slot.session.fetch("gradwire.describe", (remote,), {})
        text: str = description[""]["extra_repr"]
        return text

    def __getattr__(self, name: str) -> Any:
        if name in _LAZY:
            _describe_all(self.__gradwire_remote__()._slot.session, self)
            return self.__dict__[name]
        if name == "_remote":
            raise AttributeError(
                f"{type(self).__name__}.__init__() was not called; call super().__init__() first"
            )
        if "_modules" not in self.__dict__ and not name.startswith("__"):
            _describe_all(self.__gradwire_remote__()._slot.session, self)
            if name in self.__dict__:
                return self.__dict__[name]
        state = self.__dict__
        if name in state.get("_methods", ()):
            return partial(_call_method, self, name)
        if name in state.get("_computed", ()):
            remote = self.__gradwire_remote__()
            return wrap(remote._slot.session.record("gradwire.getattr", (remote, name), {}))
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training" or "_remote" not in self.__dict__ or name.startswith("_"):
            super().__setattr__(name, value)
            return
        session = self.__gradwire_remote__()._slot.session
        if "_modules" not in self.__dict__:
            _describe_all(session, self)
        super().__setattr__(name, value)
        if name in self.__dict__["_server_attributes"]:
            # What this module returns may change, and what modules return that contain it.
            session.structures.clear()
            session.record(
                "gradwire.setattr", (self.__gradwire_remote__(), name, value), {}, wanted=False
            )


def _sendable(session: "Session", value: Any) -> Any:
    """Returns a constructor's argument; a function of the script as what stands for it."""
    if not callable(value) or hasattr(value, "__gradwire_remote__") or isinstance(value, type):
        return value
    name = getattr(value, "__name__", "")
    if value.__module__ == "gradwire.nn.functional" and name in ("relu", "gelu"):
        # torch's Transformer layers take either, and do the same.
        return name
    return Callback(session, value)


def _given_modules(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Module]:
    """Returns the modules among a constructor's arguments that become members, by their names.

    Raises:
        TypeError: The forward of one is the script's own; torch on the server would not run it.
    """
    given = {}
    for argument, (position, member) in MEMBER_ARGUMENTS.get(name, {}).items():
        value = args[position] if len(args) > position else kwargs.get(argument)
        if not isinstance(value, Module):
            continue
        if type(value).forward is not BuiltinModule.forward:
            last = name.rpartition(".")[2]
            raise TypeError(
                f"{argument}: {last} runs on the server as a whole and can't contain a "
                f"{type(value).__name__}, whose forward runs in the script; write {last} as a "
                "module of your own, with an nn.ModuleList of layers"
            )
        given[member] = value
    return given


def _own_reset(kind: type) -> Any:
    """Returns the `reset_parameters` that a class of the script defines, or None."""
    return getattr(kind, "reset_parameters", None)


def _call_method(module: BuiltinModule, name: str, *args: Any) -> Any:
    """Calls a method of torch's class."""
    session = module.__gradwire_remote__()._slot.session
    operation, sent = "gradwire.module_method", (module, name, *args)
    if name in _RETURNS_TENSOR:
        return wrap(session.record(operation, sent, {}))
    session.record(operation, sent, {}, wanted=False)
    return None


def _note_members(module: BuiltinModule, copied: BuiltinModule, memo: dict[int, Any]) -> None:
    """Notes what became of a copied module's members; what others have too remains shared."""
    for original, copy_of_it in zip(module.modules(), copied.modules(), strict=True):
        memo[id(original)] = copy_of_it
        for table in (original._parameters, original._buffers):
            for name, member in table.items():
                if member is None:
                    continue
                if id(member) in memo:
                    setattr(copy_of_it, name, memo[id(member)])
                else:
                    memo[id(member)] = getattr(copy_of_it, name)


def _describe_all(session: "Session", wanted: BuiltinModule) -> None:
    """Asks what all modules made since the last time consist of."""
    session.undescribed[wanted] = None
    # One that was never made is for who uses it to hear of.
    pending = [
        module
        for module in session.undescribed
        if module is wanted or module.__gradwire_remote__()._slot.handle != FAILED
    ]
    session.undescribed.clear()
    remotes = [module.__gradwire_remote__() for module in pending]
    descriptions = session.fetch_all([("gradwire.describe", (remote,), {}) for remote in remotes])
    for module, description in zip(pending, descriptions, strict=True):
        _fill(session, module, description, "")


def _fill(
    session: "Session", module: BuiltinModule, description: dict[str, Any], path: str
) -> None:
    """Gives a module the members that its description tells of."""
    own = description[path]
    remote = module.__gradwire_remote__()
    state = module.__dict__
    state["_parameters"] = {
        name: _member(session, remote, name, info) for name, info in own["parameters"].items()
    }
    state["_buffers"] = {
        name: _member(session, remote, name, info) for name, info in own["buffers"].items()
    }
    state["_non_persistent_buffers_set"] = set(own["non_persistent"])
    state["training"] = own["training"]
    state["_version"] = own["version"]
    state["_methods"] = frozenset(own["methods"])
    state["_computed"] = frozenset(own["computed"])
    state["_modules"] = {}
    for name, type_name in own["modules"].items():
        child = state.get("_given", {}).get(name)
        if child is None:
            child_remote = RemoteObject(session.record("gradwire.getattr", (remote, name), {}))
            child = _proxy(type_name, child_remote)
            _fill(session, child, description, f"{path}.{name}" if path else name)
        state["_modules"][name] = child
    attributes = {k: v for k, v in own["attributes"].items() if k != "training"}
    for name, value in attributes.items():
        state.setdefault(name, value)
    state["_server_attributes"] = {
        *attributes,
        *own["parameters"],
        *own["buffers"],
        *own["modules"],
    }


def _member(
    session: "Session", remote: RemoteObject, name: str, info: Info | None
) -> Tensor | None:
    if info is None:
        return None
    member: Tensor = wrap(
        session.record("gradwire.getattr", (remote, name), {}),
        Tensor if info.type == "torch.Tensor" or "Buffer" in info.type else Parameter,
    )
    member._slot.info = info
    return member


def _proxy(type_name: str, remote: RemoteObject) -> BuiltinModule:
    """Returns what stands for a submodule that torch made."""
    kind = _proxy_class(type_name.rpartition(".")[2])
    proxy: BuiltinModule = kind.__new__(kind)
    Module.__init__(proxy)
    proxy.__dict__.update(_remote=remote, _calls_back=False)
    return proxy


def _proxy_class(name: str) -> type[BuiltinModule]:
    return _container_class(name) or module_class(f"torch.nn.{name}") or _other_class(name)


_FINDER = "made by torch"
add_finder(_FINDER, _proxy_class)


@cache
def _container_class(name: str) -> type[BuiltinModule] | None:
    """Returns the class of a container that torch made: it can be gone through as ours."""
    container = _CONTAINERS.get(name)
    if container is None:
        return None
    attributes = {"_new": staticmethod(container), "__gradwire_class__": f"{_FINDER}:{name}"}
    return type(name, (BuiltinModule, container), attributes)


@cache
def _other_class(name: str) -> type[BuiltinModule]:
    """Returns a class for a module that only torch makes."""
    return type(name, (BuiltinModule,), {"__gradwire_class__": f"{_FINDER}:{name}"})


_CONTAINERS: dict[str, type[Module]] = {
    kind.__name__: kind for kind in (ModuleDict, ModuleList, Sequential)
}
_RETURNS_TENSOR = frozenset({"log_prob", "predict", "_conv_forward"})
_classes: dict[str, type[BuiltinModule]] = {}


def _eager_name(name: str) -> str:
    """Returns the name of the class that a lazy class turns into; empty if it is not lazy."""
    eager = name.replace(".Lazy", ".")
    return eager if eager != name and eager in MODULES else ""


def module_class(name: str) -> type[BuiltinModule] | None:
    """Returns the class of a cataloged module such as ``torch.nn.Linear``, or None."""
    known = _classes.get(name)
    if known is not None:
        return known
    returns = MODULES.get(name) or LOSSES.get(name)
    if returns is None:
        return None
    last = name.rpartition(".")[2]
    made = type(
        last,
        (BuiltinModule,),
        {
            "_catalog_name": name,
            "_returns": returns,
            "_becomes": _eager_name(name),
            "__module__": "gradwire.nn",
            "__doc__": f"``{name}`` on the server; see torch's documentation of it.",
            **EXTRAS.get(name, {}),
        },
    )
    _classes[name] = made
    return made


def layer(name: str) -> Any:
    """Returns what a cataloged name of ``torch.nn`` stands for, or None."""
    if CLASSES.get(name) == "object":
        return make_function(name, "object")
    return module_class(name)
