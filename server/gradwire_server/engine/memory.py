"""What a session may hold: checked before allocation where that is possible, counted after."""

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from gradwire_server.engine.reach import Reach, storage_of, tensors_in
from gradwire_server.errors import GradwireError, Reason

QUICK_BYTES = 16 * 1024 * 1024
"""What is surely smaller than this is not worth a dry run."""
MAX_ITEMSIZE = 16
OBJECT_BYTES = 256
"""About what a Python object takes."""
_MODULE_BYTES = 4096
"""About what a module takes beside its tensors."""

_STEPPED = frozenset({"torch.arange", "torch.range"})
"""Factories that make the more elements the smaller an argument is."""
_SQUARE = frozenset({"torch.eye"})
"""Factories that make as many elements as the square of an argument."""
_STACKS = frozenset({"torch.nn.TransformerEncoder", "torch.nn.TransformerDecoder"})
"""Modules that copy the module in their first argument as often as the second one says."""


class Measured(ABC):
    """A value that knows how much memory it takes beside tensors."""

    __slots__ = ()

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """How many bytes it takes."""


class Budget:
    """The bytes that one session may hold: of tensors, the graphs behind them, and objects.

    What is held is counted by going through all of it, which is done seldom; in between what is
    added is summed up, and by how much the process grew.

    Args:
        limit_bytes: The most it may hold.
        values: Yields everything the session holds now.
    """

    def __init__(self, limit_bytes: int, values: Callable[[], Iterable[Any]]) -> None:
        self._limit_bytes = limit_bytes
        self._values = values
        self._counted_bytes = 0
        self._added_bytes = 0
        self._grown_bytes = 0
        self._fresh: dict[int, weakref.ref[Any]] = {}
        self._reserve_shared: Callable[[int], None] | None = None

    @property
    def estimate_bytes(self) -> int:
        """About how much the session holds, without looking."""
        return self._counted_bytes + self._added_bytes

    def share_with(self, reserve: Callable[[int], None]) -> None:
        """Has `reserve` asked as well, which raises if others together hold too much."""
        self._reserve_shared = reserve

    def measure(self) -> int:
        """Returns how many bytes the session holds, counted now."""
        self._counted_bytes = held_bytes([*self._values(), *self._alive()])
        self._added_bytes = self._grown_bytes = 0
        return self._counted_bytes

    def room_bytes(self) -> int:
        """Returns how much more the session may take."""
        since = max(self._added_bytes, self._grown_bytes, 0)
        room = self._limit_bytes - self._counted_bytes
        if self._counted_bytes + since > self._limit_bytes // 2 and since > room // 8:
            return max(0, self._limit_bytes - self.measure())
        return max(0, room - since)

    def reserve(self, needed_bytes: int, what: str) -> None:
        """Raises LIMIT_EXCEEDED if `needed_bytes` more would be too much; allocates nothing."""
        self._reserve_own(needed_bytes, what)
        if self._reserve_shared is not None:
            self._reserve_shared(needed_bytes)

    def _reserve_own(self, needed_bytes: int, what: str) -> None:
        held = self.estimate_bytes
        if needed_bytes <= QUICK_BYTES and held + needed_bytes <= self._limit_bytes:
            return
        if needed_bytes <= self._limit_bytes:
            # The sum counts what is long released, and misses what grew by itself, such as
            # gradients and the state of optimizers.
            held = self.measure()
            if held + needed_bytes <= self._limit_bytes:
                return
        raise GradwireError(
            Reason.LIMIT_EXCEEDED,
            f"{what} needs {_readable(needed_bytes)}; the session holds {_readable(held)} and "
            f"max_session_bytes allows {_readable(self._limit_bytes)}. Make it smaller, or "
            "release what is no longer used.",
            metadata={
                "limit": "max_session_bytes",
                "limit_bytes": str(self._limit_bytes),
                "needed_bytes": str(needed_bytes),
            },
        )

    def add(self, value: Any, what: str) -> None:
        """Counts a value that the session is about to hold.

        Raises:
            GradwireError: With it the session would hold more than it may; LIMIT_EXCEEDED.
        """
        noted = self._fresh.get(id(value))
        added = 0 if noted is not None and noted() is value else _bytes_of(value)
        self.reserve(added, what)
        self._added_bytes += added

    def note(self, value: Any) -> None:
        """Counts a value that was just made, until the end of the turn at most.

        So a program or a description of a model that makes many things is refused before the one
        that would be too much.
        """
        self._added_bytes += _bytes_of(value)
        if isinstance(value, torch.Tensor | torch.nn.Module):
            self._fresh[id(value)] = weakref.ref(value)

    def end_turn(self) -> None:
        """Forgets what was noted; the session holds it by now, or nobody does."""
        if self._fresh:
            self._fresh = {}

    def grow(self, grown_bytes: int) -> None:
        """Takes note of by how much the process grew in a turn; negative if it shrank."""
        self._grown_bytes += grown_bytes

    def _alive(self) -> Iterator[Any]:
        for reference in self._fresh.values():
            value = reference()
            if value is not None:
                yield value


def held_bytes(values: Iterable[Any]) -> int:
    """Returns the bytes that values keep: storages, each counted once, graphs and objects."""
    held = list(values)
    reach = Reach(count_leaves=True)
    reach.follow(tensors_in(held))
    return reach.num_bytes + sum(map(_object_bytes, held))


def _object_bytes(value: Any) -> int:
    """Returns about how many bytes the Python objects of a value take, tensors aside."""
    if isinstance(value, Measured):
        return value.num_bytes
    if isinstance(value, torch.nn.Module):
        return sum(
            _MODULE_BYTES + (module.num_bytes if isinstance(module, Measured) else 0)
            for module in value.modules()
        )
    if isinstance(value, dict):
        return OBJECT_BYTES + sum(_object_bytes(element) for element in value.values())
    if isinstance(value, list | tuple):
        return OBJECT_BYTES + sum(map(_object_bytes, value))
    if isinstance(value, str):
        return OBJECT_BYTES + len(value)
    return OBJECT_BYTES


def _bytes_of(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        storage = storage_of(value)
        return OBJECT_BYTES + (0 if storage is None else storage.nbytes())
    if isinstance(value, Measured) and not isinstance(value, torch.nn.Module):
        return value.num_bytes
    return held_bytes([value])


class Allocating:
    """A constructor or factory that is tried on the meta device before it allocates.

    Args:
        name: Its name in the catalog.
        call: What to call.
        power: The bytes are surely at most `16 * product of all integer arguments ** power`.
        device: Where the result is to be.
    """

    def __init__(
        self,
        name: str,
        call: Callable[..., Any],
        *,
        power: int,
        device: torch.device,
    ) -> None:
        self._name = name
        self._call = call
        self._power = 2 if name in _SQUARE else power
        self._stepped = name in _STEPPED
        self._device = device

    def __call__(self, budget: Budget, /, *args: Any, **kwargs: Any) -> Any:
        """Calls it, on the session's device, after a dry run of what may be large.

        Args:
            budget: What must have room for the result.
            args: Its arguments.
            kwargs: The same by name.
        """
        if self._name in _STACKS:
            budget.reserve(_stack_bytes(*args, **kwargs), self._name)
        else:
            product = _product((*args, *kwargs.values()), self._stepped)
            if MAX_ITEMSIZE * product**self._power > QUICK_BYTES:
                budget.reserve(self._dry_run_bytes(args, kwargs), self._name)
        if self._device.type == "cpu":
            result = self._call(*args, **kwargs)
        else:
            with self._device:
                result = self._call(*args, **kwargs)
        budget.note(result)
        return result

    def _dry_run_bytes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Returns what the call would allocate; 0 if that can't be told without doing it."""
        if any(True for _ in tensors_in([*args, *kwargs.values()])):
            return 0
        on_meta = {**kwargs, "device": "meta"} if "device" in kwargs else kwargs
        try:
            with torch.device("meta"), torch.no_grad():
                result = self._call(*args, **on_meta)
        except GradwireError:
            raise
        except Exception:  # noqa: BLE001  # the real call raises the same, or knows better
            return 0
        return sum(t.numel() * t.element_size() for t in tensors_in([result]))


def _stack_bytes(layer: Any = None, num_layers: Any = 1, *_: Any, **kwargs: Any) -> int:
    """Returns the bytes of `num_layers` copies of a layer, the first two arguments of a stack."""
    layer = kwargs.get("encoder_layer", kwargs.get("decoder_layer", layer))
    return held_bytes([layer]) * num_layers if isinstance(num_layers, int) else 0


def _product(values: Iterable[Any], stepped: bool) -> int:
    product = 1
    for value in values:
        if isinstance(value, list | tuple):
            product *= _product(value, stepped)
        elif isinstance(value, int | float) and math.isfinite(value) and value:
            size = abs(value)
            if size < 1 and stepped:
                size = 1 / size
            if size > 1 and math.isfinite(size):
                product *= math.ceil(size)
    return product


def _readable(num_bytes: int) -> str:
    size = float(num_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} PiB"
