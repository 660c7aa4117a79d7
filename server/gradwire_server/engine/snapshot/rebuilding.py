"""From snapshots to values."""

import base64
import enum
import functools
import types
from collections import defaultdict, deque
from typing import Any

import torch

from gradwire_server.engine.lost_graphs import with_lost_graph
from gradwire_server.engine.snapshot.form import Encoded, Node, Optional, Snapshot
from gradwire_server.engine.snapshot.names import (
    CONTAINERS,
    FACTORIES,
    TENSOR_CLASSES,
    allowed_class,
    class_name,
    function_named,
    static_method,
)
from gradwire_server.engine.values import CONSTANTS
from gradwire_server.errors import GradwireError, Reason


def _graph_lost() -> GradwireError:
    return GradwireError(
        Reason.GRAPH_FREED,
        "this value was computed before the session was restored from a checkpoint, which "
        "keeps values but not the graphs of autograd; run the forward pass again",
        metadata={"exception": "RuntimeError"},
    )


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
                return function_named(content)
            case "static":
                found = static_method(content)
                if found is None:
                    raise ValueError(f"{content!r} is no function of a scheduler")
                return found
            case "partial":
                arguments = [self.decode(v) for v in value["args"]]
                return functools.partial(self.decode(content), *arguments)
            case "method":
                owner = self.decode(value["of"])
                if allowed_class(class_name(type(owner))) is None:
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
            kind = CONTAINERS.get(node["class"])
            mapping = defaultdict(FACTORIES[node["factory"]]) if kind is None else kind()
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
        kind = TENSOR_CLASSES[node["tensor"]]
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
            made = with_lost_graph(plain, _graph_lost)
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
