"""For which sizes of its inputs a captured graph holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch

from gradwire.exported.structures import Shape


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What `torch.export` found out about the sizes of a graph's inputs.

    Attributes:
        dims: For each input the size of each dimension: a number, or an expression of symbols.
        conditions: Expressions of the symbols that must be true.
        ranges: The least and the greatest value of symbols.
    """

    dims: list[list[sympy.Expr]]
    conditions: list[sympy.Basic]
    ranges: dict[sympy.Symbol, tuple[sympy.Expr, sympy.Expr]]
    _known: dict[tuple[Shape, ...], "dict[sympy.Symbol, sympy.Expr] | None"] = field(
        default_factory=dict
    )

    def symbols(self, shapes: Sequence[Shape]) -> "dict[sympy.Symbol, sympy.Expr] | None":
        """Returns what the symbols stand for with these shapes; None if those don't fit."""
        key = tuple(shapes)
        if key not in self._known:
            self._known[key] = self._solve(key)
        return self._known[key]

    def _solve(self, shapes: tuple[Shape, ...]) -> "dict[sympy.Symbol, sympy.Expr] | None":
        symbols: dict[sympy.Symbol, sympy.Expr] = {}
        pairs = [
            (expression, sympy.Integer(size))
            for dims, shape in zip(self.dims, shapes, strict=True)
            for expression, size in zip(dims, shape, strict=True)
        ]
        for expression, size in pairs:
            if isinstance(expression, sympy.Symbol):
                symbols.setdefault(expression, size)
        for expression, size in pairs:
            if expression.xreplace(symbols) != size:
                return None
        for symbol, (least, greatest) in self.ranges.items():
            size = symbols.get(symbol, least)
            if not least <= size <= greatest:
                return None
        for condition in self.conditions:
            # What depends on symbols that no input has, such as the number of elements that a mask
            # selects, is checked by the operations when they run.
            if condition.xreplace(symbols) == sympy.false:
                return None
        return symbols

    def size(self, expression: sympy.Expr, shapes: Sequence[Shape]) -> "int | float | bool | None":
        """Returns an expression's value with inputs of these shapes; None if they don't decide."""
        value = sympy.sympify(expression).xreplace(self.symbols(shapes) or {})
        if value in (sympy.true, sympy.false):
            return bool(value)
        if not value.is_number:
            return None
        return int(value) if value.is_integer else float(value)


def sizes_of(program: torch.export.ExportedProgram, inputs: Sequence[torch.fx.Node]) -> Sizes:
    """Returns the sizes for which a program holds.

    Args:
        program: What was exported.
        inputs: The placeholders of its inputs, in order.
    """
    dims: list[list[sympy.Expr]] = []
    environment: Any = None
    for node in inputs:
        tensor = node.meta["val"]
        dims.append([_expression(size) for size in tensor.shape])
        environment = environment or tensor.fake_mode.shape_env
    if environment is None:
        return Sizes(dims=dims, conditions=[], ranges={})
    symbols = {s for sizes in dims for size in sizes for s in size.free_symbols}
    return Sizes(
        dims=dims,
        conditions=[environment.replace(guard.expr) for guard in environment.guards],
        ranges={
            symbol: (bounds.lower, bounds.upper)
            for symbol, bounds in program.range_constraints.items()
            if symbol in symbols
        },
    )


def _expression(size: Any) -> sympy.Expr:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
