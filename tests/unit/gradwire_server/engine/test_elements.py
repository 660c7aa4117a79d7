import mmap
from typing import Any

import numpy as np
import pytest
import torch

from gradwire.v1 import values_pb2
from gradwire_server.engine.elements import lazy_copy, read_elements, read_only
from gradwire_server.engine.regions import NO_REGIONS, Regions

SIZE = 100_000


def contents() -> bytes:
    return np.random.default_rng(0).integers(0, 256, SIZE, np.uint8).tobytes()


class FakeGpuMemory:
    """Stands for a vector of bytes on a GPU; notes what was copied to it, and how."""

    device = torch.device("cuda", 0)

    def __init__(self) -> None:
        self.copies: list[tuple[bytes, bool]] = []

    def __len__(self) -> int:
        return SIZE

    def copy_(self, source: torch.Tensor, *, non_blocking: bool) -> None:
        self.copies.append((source.numpy().tobytes(), non_blocking))


def test_a_gpu_is_given_elements_from_pinned_memory_and_asynchronously(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pinned: list[bool] = []
    empty = torch.empty

    def noting(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        pinned.append(pin_memory)
        return empty(*args, **kwargs)

    monkeypatch.setattr("gradwire_server.engine.elements.torch.empty", noting)
    regions, memory = Regions(), mmap.mmap(-1, SIZE)
    memory[:] = data = contents()
    regions.add(3, memory)
    shared = values_pb2.RegionSlice(region=3, size_bytes=SIZE)
    for message in (values_pb2.Tensor(data=data), values_pb2.Tensor(region=shared)):
        gpu: Any = FakeGpuMemory()
        read_elements(message, gpu, regions, "tensor")
        assert gpu.copies == [(data, True)]
    assert pinned == [True, True]


def test_a_lazy_copy_changes_with_nothing_and_is_read_without_a_copy() -> None:
    source = torch.empty(SIZE, dtype=torch.uint8)
    read_elements(values_pb2.Tensor(data=contents()), source, NO_REGIONS, "tensor")
    copy = lazy_copy(source)
    assert read_only(copy[100:]).tobytes() == contents()[100:]
    assert torch._C._is_cow_tensor(copy)  # type: ignore[attr-defined]
    source.zero_()
    assert read_only(copy).tobytes() == contents()
    copy.add_(1)
    assert not source.any()


def test_memory_of_others_is_copied_at_once() -> None:
    source = torch.frombuffer(bytearray(contents()), dtype=torch.uint8)
    copy = lazy_copy(source)
    source.zero_()
    assert read_only(copy).tobytes() == contents()
