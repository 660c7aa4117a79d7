"""What a session may hold: checked before allocation where that is possible, counted after."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from gradwire_server.errors import GradwireError, Reason

QUICK_BYTES = 16 * 1024 * 1024
"""What is surely smaller than this is not worth a dry run."""
MAX_ITEMSIZE = 16


class Budget:
    """The bytes of tensors that one session may hold.

    Args:
        limit_bytes: The most it may hold.
        values: Yields everything the session holds now.
    """

    def __init__(self, limit_bytes: int, values: Callable[[], Iterable[Any]]) -> None:
        self._limit_bytes = limit_bytes
        self._values = values
        self._upper_bound_bytes = 0

    def reserve(self, needed_bytes: int, what: str) -> None:
        """Raises LIMIT_EXCEEDED if `needed_bytes` more would be too much; allocates nothing."""
        held = self._upper_bound_bytes
        if held + needed_bytes <= self._limit_bytes:
            return
        if needed_bytes <= self._limit_bytes:
            held = self._upper_bound_bytes = held_bytes(self._values())
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
        if isinstance(value, torch.Tensor):
            added = _storage_bytes(value)
        elif isinstance(value, torch.nn.Module | torch.optim.Optimizer | list | tuple | dict):
            added = held_bytes([value])
        else:
            return
        self.reserve(added, what)
        self._upper_bound_bytes += added


def held_bytes(values: Iterable[Any]) -> int:
    """Returns the bytes of all tensor storages reachable from `values`, each counted once."""
    storages: dict[int, int] = {}
    for tensor in _tensors(values):
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, ValueError, RuntimeError):
            # Sparse and uninitialised tensors have no storage of their own to ask.
            continue
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _storage_bytes(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage().nbytes()
    except (NotImplementedError, ValueError, RuntimeError):
        return 0


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
            if value.is_leaf and value.grad is not None:
                yield value.grad
        elif isinstance(value, torch.nn.Module):
            yield from _tensors(value.parameters())
            yield from value.buffers()
        elif isinstance(value, torch.optim.Optimizer):
            for state in list(value.state.values()):
                yield from _tensors(state.values() if isinstance(state, dict) else ())
        elif isinstance(value, dict):
            yield from _tensors(value.values())
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


class Allocating:
    """A constructor or factory that is tried on the meta device before it allocates.

    Args:
        name: Its name in the catalog.
        call: What to call.
        budget: What must have room for the result.
        power: The bytes are surely at most `16 * product of all integer arguments ** power`.
        device: Where the result is to be.
    """

    def __init__(
        self,
        name: str,
        call: Callable[..., Any],
        *,
        budget: Budget,
        power: int,
        device: torch.device,
    ) -> None:
        self._name = name
        self._call = call
        self._budget = budget
        self._power = power
        self._device = device

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it, on the session's device, after a dry run of what may be large."""
        bound = MAX_ITEMSIZE * _product(args, kwargs.values()) ** self._power
        if bound > QUICK_BYTES:
            self._budget.reserve(self._dry_run_bytes(args, kwargs), self._name)
        if self._device.type == "cpu":
            return self._call(*args, **kwargs)
        with self._device:
            return self._call(*args, **kwargs)

    def _dry_run_bytes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Returns what the call would allocate; 0 if that can't be told without doing it."""
        if any(True for _ in _tensors([*args, *kwargs.values()])):
            return 0
        on_meta = {**kwargs, "device": "meta"} if "device" in kwargs else kwargs
        try:
            with torch.device("meta"), torch.no_grad():
                result = self._call(*args, **on_meta)
        except Exception:  # noqa: BLE001  # the real call raises the same, or knows better
            return 0
        return sum(t.numel() * t.element_size() for t in _tensors([result]))


def _product(*groups: Iterable[Any]) -> int:
    product = 1
    for group in groups:
        for value in group:
            if isinstance(value, list | tuple):
                product *= _product(value)
            elif isinstance(value, int | float) and abs(value) > 1 and math.isfinite(value):
                product *= math.ceil(abs(value))
    return product


def _readable(num_bytes: int) -> str:
    size = float(num_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} PiB"
