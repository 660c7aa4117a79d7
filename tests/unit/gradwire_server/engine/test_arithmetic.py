"""Arithmetic of sizes computes with numbers, and with nothing else."""

from typing import Any

import pytest

from gradwire.v1 import catalog
from gradwire_server.engine.arithmetic import arithmetic


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("operator.add", (2, 3), 5),
        ("operator.floordiv", (7, 2), 3),
        ("operator.truediv", (1, 2), 0.5),
        ("operator.pow", (2, 62), 1 << 62),
        ("operator.eq", (2, 2.0), True),
        ("math.ceil", (1.5,), 2),
        ("torch.sym_max", (2, 3), 3),
        ("torch.sym_ite", (True, 1, 2), 1),
        ("torch.sym_sum", ([1, 2, 3],), 6),
        ("torch.sym_float", (2,), 2.0),
    ],
)
def test_is_what_python_says(name: str, arguments: tuple[Any, ...], result: Any) -> None:
    computed = arithmetic(name)(*arguments)
    assert computed == result
    assert type(computed) is type(result)


def test_every_name_of_the_catalog_has_a_function() -> None:
    assert all(callable(arithmetic(name)) for name in catalog.ARITHMETIC)
    with pytest.raises(KeyError):
        arithmetic("operator.attrgetter")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("operator.mul", ("a", 1 << 40)),
        ("operator.mul", ([0], 1 << 40)),
        ("operator.mod", ("%s", 1)),
        ("operator.add", (None, 1)),
        ("torch.sym_sum", ("ab",)),
    ],
)
def test_nothing_but_numbers_is_taken(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="takes numbers, not a"):
        arithmetic(name)(*arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("operator.pow", (10, 1 << 60)),
        ("operator.pow", (2, 63)),
        ("operator.mul", (1 << 40, 1 << 40)),
        ("math.floor", (1e300,)),
    ],
)
def test_no_result_is_longer_than_64_bits(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(OverflowError, match="64-bit"):
        arithmetic(name)(*arguments)
