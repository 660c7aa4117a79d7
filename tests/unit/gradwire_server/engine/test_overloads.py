"""Overloads of ATen are held to what their public functions are held to."""

import pytest
import torch

from gradwire.v1 import catalog
from gradwire_server.engine.guards import guarded
from gradwire_server.engine.memory import Budget
from gradwire_server.engine.registry import Registry, Subjects, public_name
from gradwire_server.errors import GradwireError, Reason

MEBIBYTE = 1 << 20


@pytest.fixture
def registry() -> Registry:
    budget = Budget(64 * MEBIBYTE, list)
    return Registry({}, Subjects(None, None, budget), device=torch.device("cpu"))


def test_guarded_ones_are_guarded() -> None:
    def unguarded() -> None: ...

    for name in catalog.ATEN.keys() & (catalog.GUARDED.keys() | catalog.UNINITIALIZED):
        assert guarded(public_name(name), unguarded) is not unguarded, name


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aten.zeros.default", ([1 << 40],)),
        ("aten.arange.start_step", (0, 1, 1e-9)),
        ("aten.eye.default", (1 << 20,)),
        ("aten.full.default", ([1 << 20, 1 << 20], 1.0)),
        ("aten.normal.float_float", (0.0, 1.0, [1 << 40])),
    ],
)
def test_factories_are_refused_before_they_allocate(
    registry: Registry, name: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(GradwireError) as raised:
        registry.resolve(name, "name")(*arguments)
    assert raised.value.reason is Reason.LIMIT_EXCEEDED


def test_fresh_memory_is_overwritten(registry: Registry) -> None:
    for _ in range(3):
        torch.full((1000,), 7.0)
        empty = registry.resolve("aten.empty.memory_format", "name")
        assert not empty([1000]).any()


@pytest.mark.parametrize(
    "name",
    ["aten.from_file.default", "aten.set_.source_Storage", "aten.linear", "aten.resize_.default"],
)
def test_others_are_unknown(registry: Registry, name: str) -> None:
    with pytest.raises(GradwireError) as raised:
        registry.resolve(name, "name")
    assert raised.value.reason is Reason.UNKNOWN_NAME
