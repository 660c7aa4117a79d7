"""The state of a session as data: a graph of plain nodes, and the storages of its tensors.

What a session holds is walked as ``copy.deepcopy`` would walk it, but to data: numbers and strings
as they are, containers by their elements, tensors as views of storages, and objects of the classes
that :func:`allowed_class` knows by name and state (``__getstate__``, as torch's own modules,
optimizers and schedulers define it). What is shared stays shared, and cycles stay cycles. Nothing
is pickled, and rebuilding looks classes and functions up among those that torch has loaded; it
imports and evaluates nothing.

A tensor that autograd computed keeps its elements but not its graph; see :class:`LostGraph`.
"""

import base64
import enum
import functools
import operator
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from gradwire.v1 import catalog
from gradwire_server.engine.callbacks import Callback
from gradwire_server.engine.values import CONSTANTS, NAME_OF_CONSTANT
from gradwire_server.errors import GradwireError, Reason

T = TypeVar("T")
Node = dict[str, Any]
Encoded = Any
"""A JSON value: a plain one as it is, anything else as an object with one telling key."""

_BASES = (
    torch.nn.Module,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    torch.amp.GradScaler,
)
_HELPERS = frozenset(
    {
        "torch.nn.utils.spectral_norm:SpectralNorm",
        "torch.nn.utils.spectral_norm:SpectralNormLoadStateDictPreHook",
        "torch.nn.utils.spectral_norm:SpectralNormStateDictHook",
        "torch.nn.utils.weight_norm:WeightNorm",
        "torch.utils.hooks:RemovableHandle",
        "torch.nn.modules.module:_WrappedHook",
    }
)
"""Classes that are no modules, optimizers or schedulers and are parts of them."""
_STATE_HOOKS = frozenset(
    {
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
    }
)
_CONTAINERS: dict[str, Callable[[], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
}
_FACTORIES: dict[str, Any] = {
    "": None,
    "dict": dict,
    "list": list,
    "GradScaler": torch.amp.grad_scaler._refresh_per_optimizer_state,
}
"""What makes the missing values of a `defaultdict`."""
_NATURAL = frozenset(
    {
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
        *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8),
    }
)
"""Element types that any reader of safetensors knows; others are stored as bytes."""
_FUNCTIONS = [catalog.FUNCTIONS, catalog.METHODS, catalog.INITIALIZERS]


class UnsupportedError(Exception):
    """A value has no form as data; the message says which and why."""


class LostGraph(torch.autograd.Function):
    """Stands in the graph of a tensor whose own graph was not kept; its backward says so."""

    @staticmethod
    def forward(_: Any, tensor: torch.Tensor, anchor: torch.Tensor) -> torch.Tensor:
        """Returns the tensor; `anchor` is what makes it require a gradient."""
        del anchor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(_: Any, *gradients: Any) -> Any:
        """Raises GRAPH_FREED."""
        del gradients
        raise GradwireError(
            Reason.GRAPH_FREED,
            "this value was computed before the session was restored from a checkpoint, which "
            "keeps values but not the graphs of autograd; run the forward pass again",
            metadata={"exception": "RuntimeError"},
        )


class Optional(dict[int, Any]):
    """Values by handle, of which a snapshot has those that have a form as data."""


@dataclass(kw_only=True)
class Snapshot:
    """A value as data.

    Attributes:
        root: The value.
        objects: What it refers to, by index.
        storages: The tensors' memory: flat or natural tensors on the CPU, by a telling name.
    """

    root: Encoded = None
    objects: list[Node] = field(default_factory=list)
    storages: dict[str, torch.Tensor] = field(default_factory=dict)


def allowed_class(name: str) -> type | None:
    """Returns the class of a name ``module:qualified.name``; None if it is not to be built."""
    own = _own_classes.get(name)
    if own is not None:
        return own
    module_name, _, qualified = name.partition(":")
    if module_name.partition(".")[0] != "torch" or module_name not in sys.modules:
        return None
    try:
        found = operator.attrgetter(qualified)(sys.modules[module_name])
    except AttributeError:
        return None
    if isinstance(found, type) and (issubclass(found, (*_BASES, enum.Enum)) or name in _HELPERS):
        return found
    return None


def register(kind: type[T]) -> type[T]:
    """Lets objects of a class of the engine be part of snapshots; used as a decorator."""
    _own_classes[_class_name(kind)] = kind
    return kind


_own_classes: dict[str, type] = {}


def _class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


register(Callback)


@functools.cache
def _function_names() -> dict[Any, str]:
    names: dict[Any, str] = {}
    for table in _FUNCTIONS:
        for name in table:
            function = operator.attrgetter(name.removeprefix("torch."))(torch)
            names.setdefault(function, name)
    return names


class _Encoder:
    """Walks values; see the module."""

    def __init__(self, *, callbacks: bool = False) -> None:
        self._callbacks = callbacks
        self.snapshot = Snapshot()
        self._indices: dict[int, int] = {}
        self._alive: list[Any] = []
        self._storages: dict[int, str] = {}
        self._tables: tuple[dict[Any, Any], ...] = (
            self._indices,
            self._storages,
            self.snapshot.storages,
        )

    def encode(self, value: Any, path: tuple[str, ...]) -> Encoded:
        if value is None or isinstance(value, bool | str):
            return value
        kind = type(value)
        if kind is int:
            return value
        if kind is float:
            return {"float": value.hex()}
        inline = _INLINE.get(kind)
        if inline is not None:
            return inline(self, value, path)
        if isinstance(value, torch.memory_format | torch.layout):
            return {"constant": NAME_OF_CONSTANT[value]}
        if isinstance(value, enum.Enum):
            return {"enum": _class_name(kind), "name": value.name}
        if kind is not tuple and isinstance(value, tuple):
            return self._named_tuple(value, path)
        if isinstance(value, types.MethodType):
            return {"method": value.__name__, "of": self.encode(value.__self__, path)}
        if callable(value) and allowed_class(_class_name(kind)) is None and not _is_object(value):
            return self._function(value, path)
        return {"ref": self._object(value, path)}

    def _object(self, value: Any, path: tuple[str, ...]) -> int:
        known = self._indices.get(id(value))
        if known is not None:
            return known
        node: Node = {}
        index = self._indices[id(value)] = len(self.snapshot.objects)
        self.snapshot.objects.append(node)
        # An id is that of this object only as long as it lives.
        self._alive.append(value)
        node.update(self._node(value, path))
        return index

    def _node(self, value: Any, path: tuple[str, ...]) -> Node:
        if isinstance(value, torch.Tensor):
            return self._tensor(value, path)
        kind = type(value)
        if kind in (list, deque):
            elements = [self.encode(v, (*path, str(i))) for i, v in enumerate(value)]
            return {"list": elements, "class": kind.__name__}
        if kind is set:
            return {"set": [self.encode(v, path) for v in sorted(value, key=repr)]}
        if kind is Optional:
            return {"optional": self.encode_possible(value, path)[0]}
        if kind in (dict, OrderedDict, defaultdict):
            entries = [
                [self.encode(k, path), self.encode(v, (*path, str(k)))] for k, v in value.items()
            ]
            attributes = getattr(value, "__dict__", None)
            return {
                "dict": entries,
                "class": kind.__name__,
                "factory": _factory_name(value, path),
                "attributes": self.encode(attributes, path) if attributes else None,
            }
        if isinstance(value, torch.Generator):
            return {
                "generator": str(value.device),
                "state": self.encode(value.get_state(), path),
            }
        return self._instance(value, path)

    def encode_possible(
        self, values: Mapping[int, Any], path: tuple[str, ...]
    ) -> tuple[list[Any], dict[int, str]]:
        """Returns pairs of handles and values, and why handles were left out."""
        pairs: list[Any] = []
        left_out: dict[int, str] = {}
        for handle, value in values.items():
            known = [len(table) for table in self._tables]
            try:
                pairs.append([handle, self.encode(value, (*path, str(handle)))])
            except UnsupportedError as error:
                left_out[handle] = str(error)
                # What was seen on the way may refer to what has failed.
                del self.snapshot.objects[known[0] :]
                for table, length in zip(self._tables, known, strict=True):
                    while len(table) > length:
                        table.popitem()
        return pairs, left_out

    def _instance(self, value: Any, path: tuple[str, ...]) -> Node:
        kind: type = type(value)
        parametrized = getattr(value, "parametrizations", None) is not None and isinstance(
            value, torch.nn.Module
        )
        if parametrized:
            kind = kind.__bases__[0]
        name = _class_name(kind)
        if allowed_class(name) is not kind:
            raise UnsupportedError(f"a {kind.__module__}.{kind.__qualname__} ({'.'.join(path)})")
        if kind is Callback and not self._callbacks:
            raise UnsupportedError(f"a function of the client's program ({'.'.join(path)})")
        # The class of a parametrized module is torch's own making and refuses to be asked.
        state = vars(value) if parametrized else value.__getstate__()
        if isinstance(value, torch.optim.LBFGS):
            # What torch's own __getstate__ leaves out, and no step can be taken without.
            state = {**state, "_params": value._params, "_numel_cache": value._numel_cache}
        if isinstance(value, torch.nn.Module):
            state = {
                name: self._known_hooks(part) if name in _STATE_HOOKS else part
                for name, part in state.items()
            }
        return {
            "object": name,
            "state": self.encode(state, path),
            "parametrized": parametrized,
        }

    def _known_hooks(self, hooks: Any) -> Any:
        """Returns hooks without those that are local functions of torch.

        They convert state dicts that older versions of torch wrote; none runs in a forward pass.
        """
        known = {
            key: hook
            for key, hook in hooks.items()
            if isinstance(getattr(hook, "hook", hook), types.MethodType)
            or _function_names().get(getattr(hook, "hook", hook))
        }
        return hooks if len(known) == len(hooks) else OrderedDict(known)

    def _tensor(self, tensor: torch.Tensor, path: tuple[str, ...]) -> Node:
        kind = _tensor_class(tensor)
        node: Node = {
            "tensor": kind,
            "requires_grad": tensor.requires_grad,
            "leaf": tensor.is_leaf,
        }
        if torch.nn.parameter.is_lazy(tensor):
            return {**node, "lazy": self.encode(tensor.dtype, path)}
        if tensor.layout == torch.sparse_coo:
            plain = tensor.detach()
            return {
                **node,
                "indices": self.encode(plain._indices(), (*path, "indices")),
                "values": self.encode(plain._values(), (*path, "values")),
                "shape": list(plain.shape),
                "coalesced": plain.is_coalesced(),
            }
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            raise UnsupportedError(f"a tensor of layout {tensor.layout} ({'.'.join(path)})")
        if tensor.is_meta:
            raise UnsupportedError(f"a tensor on the meta device ({'.'.join(path)})")
        if tensor.is_leaf and (tensor._backward_hooks or tensor._post_accumulate_grad_hooks):
            raise UnsupportedError(f"a tensor with hooks ({'.'.join(path)})")
        plain = tensor.detach().resolve_conj().resolve_neg()
        node |= {
            "storage": self._storage(plain, path),
            "device": str(plain.device),
            "dtype": str(plain.dtype).removeprefix("torch."),
            "offset": plain.storage_offset(),
            "shape": list(plain.shape),
            "stride": list(plain.stride()),
        }
        if tensor.is_leaf and tensor.grad is not None:
            node["grad"] = self.encode(tensor.grad, (*path, "grad"))
        return node

    def _storage(self, tensor: torch.Tensor, path: tuple[str, ...]) -> str:
        storage = tensor.untyped_storage()
        self._alive.append(storage)
        # `_cdata` is the address of the storage itself: two empty ones have no data to tell by.
        key = storage._cdata
        name = self._storages.get(key)
        if name is None:
            name = self._storages[key] = self._storage_name(path)
            natural = (
                tensor.is_contiguous()
                and tensor.numel() * tensor.element_size() == storage.nbytes()
                and tensor.dtype in _NATURAL
            )
            if not natural:
                flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
                tensor = flat.set_(storage, 0, (storage.nbytes(),), (1,))
            self.snapshot.storages[name] = tensor
        return name

    def _storage_name(self, path: tuple[str, ...]) -> str:
        plain = ".".join(part for part in path if part and not part.startswith("_"))
        name, number = plain or "tensor", 1
        while name in self.snapshot.storages:
            number += 1
            name = f"{plain or 'tensor'}.{number}"
        return name

    def _named_tuple(self, value: tuple[Any, ...], path: tuple[str, ...]) -> Encoded:
        kind = type(value)
        elements = [self.encode(v, (*path, str(i))) for i, v in enumerate(value)]
        if kind is torch.Size:
            return {"size": elements}
        if kind.__module__ == "torch.return_types":
            return {"return_type": kind.__name__, "elements": elements}
        raise UnsupportedError(f"a {kind.__module__}.{kind.__qualname__} ({'.'.join(path)})")

    def _function(self, value: Any, path: tuple[str, ...]) -> Encoded:
        try:
            name = _function_names().get(value)
        except TypeError:
            name = None
        if name is None:
            raise UnsupportedError(f"the function {value!r} ({'.'.join(path)})")
        return {"function": name}


def _factory_name(value: Any, path: tuple[str, ...]) -> str:
    """Returns the name of what makes a mapping's missing values."""
    factory = getattr(value, "default_factory", None)
    for name, known in _FACTORIES.items():
        if factory is known:
            return name
    raise UnsupportedError(f"a defaultdict of {factory!r} ({'.'.join(path)})")


def _is_object(value: Any) -> bool:
    return isinstance(value, torch.nn.Module | torch.Tensor)


_INLINE: dict[type, Callable[[_Encoder, Any, tuple[str, ...]], Encoded]] = {
    tuple: lambda e, v, path: {"tuple": [e.encode(x, (*path, str(i))) for i, x in enumerate(v)]},
    complex: lambda _, v, __: {"complex": [v.real.hex(), v.imag.hex()]},
    bytes: lambda _, v, __: {"bytes": base64.b64encode(v).decode()},
    type(...): lambda *_: {"ellipsis": True},
    slice: lambda e, v, path: {"slice": [e.encode(x, path) for x in (v.start, v.stop, v.step)]},
    torch.dtype: lambda _, v, __: {"dtype": str(v).removeprefix("torch.")},
    torch.device: lambda _, v, __: {"device": str(v)},
}


def _tensor_class(tensor: torch.Tensor) -> str:
    for name, kind in _TENSOR_CLASSES.items():
        if type(tensor) is kind:
            return name
    if isinstance(tensor, torch.nn.Buffer):
        return "Tensor"
    raise UnsupportedError(f"a tensor of class {type(tensor).__qualname__}")


_TENSOR_CLASSES: dict[str, type] = {
    "Tensor": torch.Tensor,
    "Parameter": torch.nn.Parameter,
    "UninitializedParameter": torch.nn.UninitializedParameter,
    "UninitializedBuffer": torch.nn.UninitializedBuffer,
}


def take_snapshot(value: Any) -> Snapshot:
    """Returns a value as data. Its storages are those of the value itself, not copies.

    Raises:
        UnsupportedError: Some part of it has no form as data.
    """
    encoder = _Encoder()
    encoder.snapshot.root = encoder.encode(value, ())
    return encoder.snapshot


def take_snapshots(
    state: dict[str, Any], optional: dict[int, Any], *, callbacks: bool = False
) -> tuple[Snapshot, dict[int, str]]:
    """Returns a session's state as data.

    Args:
        state: What must be kept.
        optional: Values by handle; those that have no form as data are left out.
        callbacks: Whether stand-ins for functions of the client may be part of it.

    Returns:
        The snapshot of ``{**state, "values": ...}``, and why handles were left out.

    Raises:
        UnsupportedError: Some part of `state` has no form as data.
    """
    encoder = _Encoder(callbacks=callbacks)
    root = {name: encoder.encode(value, (name,)) for name, value in state.items()}
    values, left_out = encoder.encode_possible(optional, ("values",))
    encoder.snapshot.root = {"state": root, "values": values}
    return encoder.snapshot, left_out


class Rebuilder:
    """Makes values of a snapshot again.

    Args:
        snapshot: The snapshot.
        device: Where tensors of the device that the snapshot was taken on are to be.
        context: What objects of the engine's own need to be rebuilt; passed to `rebuild_state`.
    """

    def __init__(self, snapshot: Snapshot, *, device: torch.device, context: Any = None) -> None:
        self._snapshot = snapshot
        self._device = device
        self._context = context
        self._built: dict[int, Any] = {}
        self._storages: dict[tuple[str, str], torch.UntypedStorage] = {}

    def decode(self, value: Encoded) -> Any:
        """Returns the value of an encoded one.

        Raises:
            ValueError: It is malformed, or names what is not allowed.
        """
        if not isinstance(value, dict):
            return value
        kind, content = next(iter(value.items()))
        match kind:
            case "ref":
                return self._object(content)
            case "float":
                return float.fromhex(content)
            case "tuple":
                return tuple(self.decode(v) for v in content)
            case "size":
                return torch.Size(content)
            case "complex":
                return complex(*(float.fromhex(part) for part in content))
            case "bytes":
                return base64.b64decode(content)
            case "ellipsis":
                return ...
            case "slice":
                return slice(*(self.decode(v) for v in content))
            case "dtype":
                return _dtype(content)
            case "device":
                return self._where(content)
            case "constant":
                return CONSTANTS[content]
            case "function":
                if not any(content in table for table in _FUNCTIONS):
                    raise ValueError(f"{content!r} is no function of the catalog")
                return operator.attrgetter(content.removeprefix("torch."))(torch)
            case "method":
                owner = self.decode(value["of"])
                if allowed_class(_class_name(type(owner))) is None:
                    raise ValueError(f"a {type(owner).__qualname__} has no methods to be bound")
                return types.MethodType(getattr(type(owner), content), owner)
            case "enum":
                members = allowed_class(content)
                if members is None or not issubclass(members, enum.Enum):
                    raise ValueError(f"{content!r} is no enumeration that may be used")
                return members[value["name"]]
            case "return_type":
                return getattr(torch.return_types, content)(
                    [self.decode(v) for v in value["elements"]]
                )
            case _:
                raise ValueError(f"{kind!r} is no kind of value")

    def _object(self, index: int) -> Any:
        if index in self._built:
            return self._built[index]
        node = self._snapshot.objects[index]
        if "tensor" in node:
            # Registered before its gradient is, which may refer back to it.
            return self._tensor(index, node)
        if "list" in node:
            built: Any = deque() if node["class"] == "deque" else []
            self._built[index] = built
            built.extend(self.decode(v) for v in node["list"])
            return built
        if "set" in node:
            self._built[index] = {self.decode(v) for v in node["set"]}
            return self._built[index]
        if "dict" in node:
            kind = _CONTAINERS.get(node["class"])
            mapping = defaultdict(_FACTORIES[node["factory"]]) if kind is None else kind()
            self._built[index] = mapping
            for key, element in node["dict"]:
                mapping[self.decode(key)] = self.decode(element)
            if node["attributes"] is not None:
                vars(mapping).update(self.decode(node["attributes"]))
            return mapping
        if "optional" in node:
            values = self._built[index] = Optional()
            values.update({handle: self.decode(v) for handle, v in node["optional"]})
            return values
        if "generator" in node:
            generator = torch.Generator(self._where(node["generator"]))
            generator.set_state(self.decode(node["state"]).cpu())
            self._built[index] = generator
            return generator
        return self._instance(index, node)

    def _instance(self, index: int, node: Node) -> Any:
        kind = allowed_class(node["object"])
        if kind is None:
            raise ValueError(f"{node['object']!r} is no class that may be built")
        rebuild = getattr(kind, "rebuild_state", None)
        if rebuild is not None:
            self._built[index] = rebuild(self.decode(node["state"]), self._context)
            return self._built[index]
        value: Any = object.__new__(kind)
        self._built[index] = value
        state = self.decode(node["state"])
        setter = getattr(value, "__setstate__", None)
        if setter is not None:
            setter(state)
        else:
            vars(value).update(state)
        if isinstance(value, torch.optim.lr_scheduler.LRScheduler):
            _track_steps(value.optimizer)
        if node["parametrized"]:
            torch.nn.utils.parametrize._inject_new_class(value)
            for name in value.parametrizations:
                torch.nn.utils.parametrize._inject_property(value, name)
        return value

    def _tensor(self, index: int, node: Node) -> torch.Tensor:
        kind = _TENSOR_CLASSES[node["tensor"]]
        requires_grad: bool = node["requires_grad"]
        if "lazy" in node:
            options: dict[str, Any] = {"dtype": self.decode(node["lazy"]), "device": self._device}
            made: torch.Tensor = kind(requires_grad, **options)
            self._built[index] = made
            return made
        if "indices" in node:
            plain = torch.sparse_coo_tensor(
                self.decode(node["indices"]),
                self.decode(node["values"]),
                node["shape"],
                is_coalesced=node["coalesced"],
            )
        else:
            device = self._where(node["device"])
            storage = self._storage(node["storage"], device)
            plain = torch.empty(0, dtype=_dtype(node["dtype"]), device=device)
            plain.set_(storage, node["offset"], node["shape"], node["stride"])
        if not requires_grad or node["leaf"]:
            if kind is torch.nn.Parameter:
                made = torch.nn.Parameter(plain, requires_grad)
            else:
                made = plain.requires_grad_(requires_grad)
        else:
            made = LostGraph.apply(plain, torch.zeros((), requires_grad=True))  # type: ignore[no-untyped-call]
        self._built[index] = made
        if "grad" in node:
            made.grad = self.decode(node["grad"])
        return made

    def _storage(self, name: str, device: torch.device) -> torch.UntypedStorage:
        key = (name, str(device))
        if key not in self._storages:
            self._storages[key] = self._snapshot.storages[name].to(device).untyped_storage()
        return self._storages[key]

    def _where(self, name: str) -> torch.device:
        device = torch.device(name)
        return device if device.type == "cpu" else self._device


def _track_steps(optimizer: torch.optim.Optimizer) -> None:
    """Marks an optimizer as its scheduler does, which warns of steps that it can't see."""
    if hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        return
    raw = type(optimizer).step

    @functools.wraps(raw)
    def step(*args: Any, **kwargs: Any) -> Any:
        optimizer._opt_called = True  # type: ignore[attr-defined]
        return raw(optimizer, *args, **kwargs)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = step  # type: ignore[method-assign]
    optimizer._opt_called = True  # type: ignore[attr-defined]


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is no element type")
    return found
