"""``torch.nn`` on the server: modules of torch by name, and the base for modules of your own."""

from typing import Any

from gradwire.nn import functional, init, utils
from gradwire.nn.builtin import module_class
from gradwire.nn.containers import (
    ModuleDict,
    ModuleList,
    ParameterDict,
    ParameterList,
    Sequential,
)
from gradwire.nn.module import Module
from gradwire.nn.parameter import Buffer, Parameter
from gradwire.v1.catalog import LOSSES, MODULES

_OWN = (
    "Buffer",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "Sequential",
    "functional",
    "init",
    "utils",
)
__all__ = [  # noqa: PLE0604
    *_OWN,
    *(
        name.removeprefix("torch.nn.")
        for table in (MODULES, LOSSES)
        for name in table
        if name.startswith("torch.nn.") and name.count(".") == 2 and name.split(".")[2] not in _OWN
    ),
]


def __getattr__(name: str) -> Any:
    made = module_class(f"torch.nn.{name}") if not name.startswith("_") else None
    if made is None:
        raise AttributeError(f"module 'gradwire.nn' has no attribute {name!r}")
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
