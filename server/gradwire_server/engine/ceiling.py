"""What the process may take in one turn, held by the operating system and by CUDA's allocator.

Before a turn the ceiling is lowered to what the session may still take; an allocation beyond it
fails in torch's allocator, before there is any memory, whatever operation asked for it. Between
turns there is no ceiling. Linux counts private writable memory (`RLIMIT_DATA`, see `setrlimit(2)`);
where it can't be told how much that is, as on macOS, only the checks of :class:`Budget` hold.
"""

import os
import resource
from pathlib import Path

import torch

SLACK_BYTES = 64 * 1024 * 1024
"""What a turn may take beside tensors: Python's objects, and what the kernels of torch work in."""
CUDA_SLACK_BYTES = 2048 * 1024 * 1024
"""The same on the host of a GPU, where drivers and kernels are loaded when they are needed."""

_STATM = Path("/proc/self/statm")
_DATA_FIELD = 5


class Ceiling:
    """Lowers and lifts the ceiling of this process.

    Args:
        device: Where sessions live.
        slack_bytes: What a turn may take beside what its session may, for messages.
    """

    def __init__(self, device: torch.device, *, slack_bytes: int) -> None:
        self._device = device
        on_cuda = device.type == "cuda"
        self._slack_bytes = slack_bytes + (CUDA_SLACK_BYTES if on_cuda else SLACK_BYTES)
        self._limits = resource.getrlimit(resource.RLIMIT_DATA)
        self._page_bytes = resource.getpagesize()
        self._statm = os.open(_STATM, os.O_RDONLY) if _STATM.exists() else None
        self._before = 0

    def lower(self, room_bytes: int) -> None:
        """Lets allocations fail that would take more than `room_bytes` and the slack."""
        if self._statm is not None:
            self._before = self._data_bytes()
            soft, hard = self._limits
            limit = self._before + room_bytes + self._slack_bytes
            if soft != resource.RLIM_INFINITY:
                limit = min(limit, soft)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        if self._device.type == "cuda":
            total = torch.cuda.get_device_properties(self._device).total_memory
            allowed = torch.cuda.memory_allocated(self._device) + room_bytes
            torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), self._device)

    def lift(self) -> None:
        """Takes the ceiling away."""
        if self._statm is not None:
            resource.setrlimit(resource.RLIMIT_DATA, self._limits)
        if self._device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, self._device)

    def growth_bytes(self) -> int:
        """Returns by how much the process grew since the ceiling was lowered."""
        return 0 if self._statm is None else self._data_bytes() - self._before

    def close(self) -> None:
        """Gives back what it holds."""
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _data_bytes(self) -> int:
        assert self._statm is not None
        return int(os.pread(self._statm, 256, 0).split()[_DATA_FIELD]) * self._page_bytes
