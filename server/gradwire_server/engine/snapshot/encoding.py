"""From values to snapshots."""

import base64
import enum
import functools
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradwire_server.engine.callbacks import Callback
from gradwire_server.engine.snapshot.form import (
    Encoded,
    Node,
    Optional,
    Snapshot,
    UnsupportedError,
)
from gradwire_server.engine.snapshot.names import (
    FACTORIES,
    TENSOR_CLASSES,
    allowed_class,
    class_name,
    function_names,
    static_method,
)
from gradwire_server.engine.values import NAME_OF_CONSTANT

_STATE_HOOKS = frozenset(
    {
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
    }
)
_NATURAL = frozenset(
    {
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
        *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8),
    }
)
"""Element types that any reader of safetensors knows; others are stored as bytes."""


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
            return {"enum": class_name(kind), "name": value.name}
        if kind is not tuple and isinstance(value, tuple):
            return self._named_tuple(value, path)
        if isinstance(value, types.MethodType):
            return {"method": value.__name__, "of": self.encode(value.__self__, path)}
        if callable(value) and allowed_class(class_name(kind)) is None and not _is_object(value):
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
        if kind in (dict, Counter, OrderedDict, defaultdict):
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
        name = class_name(kind)
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
            or function_names().get(getattr(hook, "hook", hook))
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
        if type(value) is functools.partial and not value.keywords:
            arguments = [self.encode(part, path) for part in value.args]
            return {"partial": self._function(value.func, path), "args": arguments}
        try:
            name = function_names().get(value)
        except TypeError:
            name = None
        if name is not None:
            return {"function": name}
        name = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', '')}"
        if static_method(name) is value:
            return {"static": name}
        raise UnsupportedError(f"the function {value!r} ({'.'.join(path)})")


def _factory_name(value: Any, path: tuple[str, ...]) -> str:
    """Returns the name of what makes a mapping's missing values."""
    factory = getattr(value, "default_factory", None)
    for name, known in FACTORIES.items():
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
    for name, kind in TENSOR_CLASSES.items():
        if type(tensor) is kind:
            return name
    if isinstance(tensor, torch.nn.Buffer):
        return "Tensor"
    raise UnsupportedError(f"a tensor of class {type(tensor).__qualname__}")
