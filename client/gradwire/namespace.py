"""Modules whose names come from the catalog: each function is made when it is first used."""

import sys
from collections.abc import Callable
from typing import Any

# What these functions return needs the methods of tensors, which this import adds.
import gradwire.methods  # noqa: F401
from gradwire.calls import make_function
from gradwire.closest import missing_attribute
from gradwire.v1.catalog import FUNCTIONS, INITIALIZERS

_TABLES = (FUNCTIONS, INITIALIZERS)


def public_names(prefix: str) -> list[str]:
    """Returns the functions of a namespace such as ``torch.nn.functional``."""
    start = prefix + "."
    return [
        name.removeprefix(start)
        for table in _TABLES
        for name in table
        if name.startswith(start) and "." not in name.removeprefix(start)
    ]


def catalog_getattr(
    prefix: str, namespace: dict[str, Any], make: Callable[[str], Any] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns ``__getattr__`` and ``__dir__`` of a module.

    Args:
        prefix: Its name in torch, such as ``torch.nn.functional``.
        namespace: Its globals; what is made is kept there.
        make: Makes a member of a full name, or returns None if there is none; by default a
            function. The names are then those of the module's ``__all__``.
    """

    def getattribute(name: str) -> Any:
        made = (make or _function)(f"{prefix}.{name}")
        if made is None:
            module = "gradwire" + prefix.removeprefix("torch")
            raise missing_attribute(
                f"module {module!r}", name, directory(), sys.modules.get(module), prefix=prefix
            )
        namespace[name] = made
        return made

    def directory() -> list[str]:
        return sorted({*namespace, *(namespace["__all__"] if make else public_names(prefix))})

    return getattribute, directory


def _function(full: str) -> Any:
    for table in _TABLES:
        if full in table:
            return make_function(full, table[full])
    return None
