"""``gradwire.save`` and ``gradwire.load``: tensors and plain structures in a safetensors file.

The file is one that the ``safetensors`` library opens: its header has each tensor under its dotted
path, so a state dict has the names that torch gives them. What else there is, the order and the
nesting, is JSON in the header's metadata. Nothing in a file is ever evaluated. The format:
https://huggingface.co/docs/safetensors/index#format
"""

import json
import math
import os
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from gradwire.connection import current_session
from gradwire.creation import from_numpy
from gradwire.nn.parameter import Parameter
from gradwire.recorder.arrays import numpy_dtype
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.types import DTYPES, Size, device, dtype
from gradwire.v1.dtypes import SAFETENSORS_NAMES

STRUCTURE = "gradwire.structure"
"""The entry of the metadata that holds what is no tensor."""
MAX_HEADER_BYTES = 100_000_000
BATCH_BYTES = 32 << 20
"""As many tensors are fetched at once as have so many bytes, or one that has more."""
_ALIGNMENT = 8
_TYPES = {name: DTYPES[element] for element, name in SAFETENSORS_NAMES.items()}


def save(obj: Any, f: "str | os.PathLike[str] | IO[bytes]", **_: Any) -> None:
    """Saves tensors, numbers, strings and structures of them to a file.

    Args:
        obj: A tensor, a state dict, or any nesting of dictionaries, lists, tuples, tensors,
            arrays, numbers, strings, booleans, None, dtypes and sizes.
        f: A path, or a file opened for writing bytes.

    Raises:
        TypeError: There is something else in it, such as a module; the message says where.
    """
    tensors: dict[str, Any] = {}
    structure = _Packer(tensors).pack(obj, ())
    header, contents = _lay_out(tensors, {STRUCTURE: json.dumps(structure)})
    if hasattr(f, "write"):
        _write(f, header, contents)
        return
    path = Path(f)
    # A file that is there stays whole until the new one is.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write(file, header, contents)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(f: "str | os.PathLike[str] | IO[bytes]", map_location: Any = None, **_: Any) -> Any:
    """Returns what `save` was given; of any other safetensors file, its tensors by name.

    The tensors live in the current session.

    Args:
        f: A path, or a file opened for reading bytes.
        map_location: A device; tensors are on the session's in any case.

    Raises:
        ValueError: It is no safetensors file, or not a whole one.
    """
    if map_location is not None and not callable(map_location):
        device(map_location)
    raw = f.read() if hasattr(f, "read") else Path(f).read_bytes()
    header, start = _parse_header(raw)
    metadata = header.pop("__metadata__", {})
    arrays = {name: _array(name, entry, raw, start) for name, entry in header.items()}
    if STRUCTURE not in metadata:
        return {name: from_numpy(array) for name, array in arrays.items()}
    return _Unpacker(arrays, current_session()).unpack(json.loads(metadata[STRUCTURE]))


class _Packer:
    """Turns a structure into JSON, and collects its tensors by name.

    Args:
        tensors: Where the tensors go.
    """

    def __init__(self, tensors: dict[str, Any]) -> None:
        self._tensors = tensors

    def pack(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Returns the JSON of a value at a path."""
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, Tensor | np.ndarray):
            return self._tensor(value, path)
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, complex):
            return {"complex": [value.real.hex(), value.imag.hex()]}
        if isinstance(value, dtype):
            return {"dtype": repr(value).removeprefix("torch.")}
        if isinstance(value, device):
            return {"device": str(value)}
        if isinstance(value, dict):
            pairs = [
                [self.pack(key, (*path, key)), self.pack(element, (*path, key))]
                for key, element in value.items()
            ]
            return {_kind(value, _DICTS, "dict"): pairs}
        if isinstance(value, list | tuple):
            elements = [self.pack(element, (*path, i)) for i, element in enumerate(value)]
            return elements if type(value) is list else {_kind(value, _TUPLES, "tuple"): elements}
        where = "".join(f"[{key!r}]" for key in path) or "the object itself"
        hint = "save its state_dict()" if hasattr(value, "state_dict") else "leave it out"
        raise TypeError(
            f"can't save a {type(value).__name__} ({where}): only tensors, numbers, strings and "
            f"structures of them are saved; {hint}"
        )

    def _tensor(self, value: Any, path: tuple[Any, ...]) -> dict[str, Any]:
        name = base = ".".join(map(str, path)) or "tensor"
        number = 0
        while name in self._tensors or name == "__metadata__":
            number += 1
            name = f"{base}#{number}"
        self._tensors[name] = value
        if isinstance(value, np.ndarray):
            return {"array": name}
        kind = "parameter" if isinstance(value, Parameter) else "tensor"
        return {kind: [name, value.requires_grad]}


_DICTS = {"ordered_dict": OrderedDict, "counter": Counter}
_TUPLES = {"size": Size}


def _kind(value: Any, kinds: dict[str, Any], default: str) -> str:
    return next((name for name, kind in kinds.items() if isinstance(value, kind)), default)


class _Unpacker:
    """Turns JSON into the structure it was made of.

    Args:
        arrays: The contents of the tensors by name.
        session: Where the tensors are to live.
    """

    def __init__(self, arrays: dict[str, "np.ndarray[Any, Any]"], session: Session) -> None:
        self._arrays = arrays
        self._session = session

    def unpack(self, node: Any) -> Any:
        """Returns the value of a node."""
        if isinstance(node, list):
            return [self.unpack(element) for element in node]
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind not in _READERS:
            raise ValueError(f"this file was written by a later gradwire: it has a {kind!r}")
        return _READERS[kind](self, content)

    def _tensor(self, content: Any) -> Tensor:
        name, requires_grad = content
        tensor = from_numpy(self._arrays[name])
        return tensor.requires_grad_() if requires_grad else tensor

    def _parameter(self, content: Any) -> Parameter:
        name, requires_grad = content
        return Parameter(from_numpy(self._arrays[name]), requires_grad)

    def _array(self, content: str) -> "np.ndarray[Any, Any]":
        return self._arrays[content].copy()

    def _float(self, content: str) -> float:
        return float(content)

    def _complex(self, content: list[str]) -> complex:
        return complex(*(float.fromhex(part) for part in content))

    def _dtype(self, content: str) -> dtype:
        return DTYPES[content]

    def _device(self, content: str) -> device:
        return device(content)

    def _tuple(self, content: list[Any]) -> tuple[Any, ...]:
        return tuple(self.unpack(content))

    def _size(self, content: list[Any]) -> Size:
        return Size(self.unpack(content))

    def _dict(self, content: list[Any]) -> dict[Any, Any]:
        return {self.unpack(key): self.unpack(value) for key, value in content}

    def _ordered_dict(self, content: list[Any]) -> dict[Any, Any]:
        return OrderedDict(self._dict(content))

    def _counter(self, content: list[Any]) -> dict[Any, Any]:
        return Counter(self._dict(content))


_READERS: dict[str, Any] = {
    "tensor": _Unpacker._tensor,
    "parameter": _Unpacker._parameter,
    "array": _Unpacker._array,
    "float": _Unpacker._float,
    "complex": _Unpacker._complex,
    "dtype": _Unpacker._dtype,
    "device": _Unpacker._device,
    "tuple": _Unpacker._tuple,
    "size": _Unpacker._size,
    "dict": _Unpacker._dict,
    "ordered_dict": _Unpacker._ordered_dict,
    "counter": _Unpacker._counter,
}


def _lay_out(
    tensors: dict[str, Any], metadata: dict[str, str]
) -> tuple[bytes, Iterator["np.ndarray[Any, Any]"]]:
    """Returns the header of a file, and the contents that follow it."""
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    # Larger elements first, so that all are aligned.
    ordered = sorted(tensors.items(), key=lambda entry: -_element(entry[1]).itemsize)
    for name, tensor in ordered:
        element = _element(tensor)
        shown = repr(element).removeprefix("torch.")
        if shown not in SAFETENSORS_NAMES:
            raise TypeError(f"can't save {name}: the format has no {shown}; convert it first")
        size = math.prod(tensor.shape) * element.itemsize
        header[name] = {
            "dtype": SAFETENSORS_NAMES[shown],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    prefix = len(text).to_bytes(8, "little")
    return prefix + text, _contents([tensor for _, tensor in ordered])


def _element(tensor: Any) -> dtype:
    if isinstance(tensor, Tensor):
        return tensor.dtype
    found = next((e for e in _TYPES.values() if numpy_dtype(e) == tensor.dtype), None)
    if found is None:
        raise TypeError(f"can't save an array of {tensor.dtype}; convert it first")
    return found


def _contents(tensors: list[Any]) -> Iterator["np.ndarray[Any, Any]"]:
    """Yields the elements of all tensors in order, fetched some at once."""
    waiting: list[Tensor] = []
    num_bytes = 0
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            yield from _fetch(waiting)
            waiting, num_bytes = [], 0
            yield tensor
            continue
        size = tensor.numel() * tensor.element_size()
        if num_bytes + size > BATCH_BYTES:
            yield from _fetch(waiting)
            waiting, num_bytes = [], 0
        waiting.append(tensor)
        num_bytes += size
    yield from _fetch(waiting)


def _fetch(tensors: list[Tensor]) -> "list[np.ndarray[Any, Any]]":
    if not tensors:
        return []
    session = tensors[0]._slot.session
    return session.fetch_all([("torch.Tensor.detach", (tensor,), {}) for tensor in tensors])


def _write(file: Any, header: bytes, contents: Iterator["np.ndarray[Any, Any]"]) -> None:
    file.write(header)
    for array in contents:
        file.write(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())


def _parse_header(raw: bytes) -> tuple[dict[str, Any], int]:
    """Returns the header of a file, and where its contents begin."""
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > MAX_HEADER_BYTES or 8 + length > len(raw):
        raise ValueError("this is not a whole safetensors file: its header does not fit into it")
    try:
        header = json.loads(raw[8 : 8 + length])
    except ValueError as error:
        raise ValueError(f"this is not a safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("this is not a safetensors file: its header is no JSON object")
    return header, 8 + length


def _array(name: str, entry: Any, raw: bytes, start: int) -> "np.ndarray[Any, Any]":
    """Returns the contents of one tensor, checked against its type and shape."""
    try:
        element, shape, (first, last) = (
            _TYPES[entry["dtype"]],
            entry["shape"],
            entry["data_offsets"],
        )
        size = math.prod(shape) * element.itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"tensor {name!r} has a malformed entry in the header: {error}") from None
    if not 0 <= first <= last <= len(raw) - start or last - first != size:
        raise ValueError(
            f"tensor {name!r} is said to lie at bytes {first} to {last}, and needs {size} of them "
            f"out of {len(raw) - start}"
        )
    data = bytearray(raw[start + first : start + last])
    return np.frombuffer(data, numpy_dtype(element)).reshape(shape)
