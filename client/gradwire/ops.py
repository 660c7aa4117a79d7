"""``torch.ops`` on the server: the ATen operators that torch's functions call, by overload.

``gradwire.ops.aten.slice.Tensor(x, 0, 1, 3)`` calls one overload, ``gradwire.ops.aten.alias(x)``
the default one.
"""

from functools import cached_property
from typing import Any

from gradwire.calls import make_function
from gradwire.closest import missing_attribute
from gradwire.v1.catalog import ATEN

__all__ = ["aten"]


class OperatorNamespace:
    """The operators of one namespace, as attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _operators(self) -> dict[str, dict[str, str]]:
        """The overloads of each operator, and how each returns."""
        operators: dict[str, dict[str, str]] = {}
        for full, returns in ATEN.items():
            namespace, operator, overload = full.split(".")
            if namespace == self._name:
                operators.setdefault(operator, {})[overload] = returns
        return operators

    def __getattr__(self, name: str) -> "Operator":
        overloads = self._operators.get(name)
        if overloads is None:
            raise missing_attribute(f"'gradwire.ops.{self._name}'", name, self._operators, self)
        operator = self.__dict__[name] = Operator(f"{self._name}.{name}", overloads)
        return operator

    def __dir__(self) -> list[str]:
        return sorted(self._operators)


class Operator:
    """An operator; its overloads are its attributes, and calling it calls the default one."""

    def __init__(self, name: str, overloads: dict[str, str]) -> None:
        self._name = name
        self._overloads = overloads

    def __getattr__(self, name: str) -> Any:
        returns = self._overloads.get(name)
        if returns is None:
            raise missing_attribute(f"'gradwire.ops.{self._name}'", name, self._overloads, self)
        overload = self.__dict__[name] = make_function(f"{self._name}.{name}", returns)
        return overload

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.default(*args, **kwargs)

    def __dir__(self) -> list[str]:
        return sorted(self._overloads)

    def __repr__(self) -> str:
        return f"<gradwire.ops.{self._name}, overloads {', '.join(sorted(self._overloads))}>"


aten = OperatorNamespace("aten")
