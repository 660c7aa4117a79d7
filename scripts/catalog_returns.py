"""Derives how a call returns from what torch ships: type stubs, annotations and ATen schemas."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import torch

_VALUE_TYPES = frozenset(
    "_bool _complex _device _dtype _float _int _layout bool complex device dtype float int layout"
    " list Number Size str SymInt".split()
)
_TENSOR_TYPES = frozenset(("Tensor", "Self", "S"))


def kind_of_annotation(annotation: str) -> str | None:
    """Returns the kind of one return annotation; None if it says nothing certain.

    Names may be qualified; what is before the last dot is ignored.
    """
    node = ast.parse(annotation, mode="eval").body
    return _kind_of_node(node)


def _kind_of_node(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=None):
            return "none"
        case ast.Constant(value=str(text)):
            return kind_of_annotation(text)
        case ast.Name() | ast.Attribute():
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in _TENSOR_TYPES:
                return "tensor"
            if name in _VALUE_TYPES:
                return "value"
            return "overloaded" if "return_types." in ast.unparse(node) else None
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return merge_kinds([_kind_of_node(left), _kind_of_node(right)])
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=elements)):
            if isinstance(elements[-1], ast.Constant) and elements[-1].value is Ellipsis:
                return "value" if _kind_of_node(elements[0]) == "value" else "variable"
            kinds = {_kind_of_node(element) for element in elements}
            return "value" if kinds == {"value"} else "overloaded"
        case ast.Subscript(value=ast.Name(id="list" | "Sequence")):
            return "value" if _kind_of_node(node.slice) == "value" else "variable"
    return None


def merge_kinds(kinds: Iterable[str | None]) -> str | None:
    """Returns the kind of a call with several overloads, each with its kind."""
    distinct = set(kinds)
    if None in distinct or not distinct:
        return None
    if len(distinct) == 1:
        return distinct.pop()
    return "variable" if "variable" in distinct else "overloaded"


def kinds_of_stub(path: str, class_name: str | None = None) -> dict[str, str | None]:
    """Returns the kind of each function in a stub file of torch, or in one class of it."""
    tree = ast.parse((Path(torch.__file__).parent / path).read_text(encoding="utf-8"))
    body = tree.body
    if class_name is not None:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == class_name).body
    overloads: dict[str, list[str | None]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            kind = None if node.returns is None else _kind_of_node(node.returns)
            overloads.setdefault(node.name, []).append(kind)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            overloads.setdefault(node.target.id, []).append(_kind_of_node(node.annotation))
    return {name: merge_kinds(kinds) for name, kinds in overloads.items()}


def kind_of_schemas(operator: str) -> str | None:
    """Returns the kind of an ATen operator, such as `aten::linalg_qr`, from all its overloads."""
    get_schemas = cast(Callable[[str], list[Any]], torch._C._jit_get_schemas_for_operator)
    return merge_kinds(kind_of_schema(schema) for schema in get_schemas(operator))


def kind_of_schema(schema: Any) -> str:
    """Returns the kind of one overload of an ATen operator."""
    types = [str(result.type) for result in schema.returns]
    if len(types) > 1:
        return "overloaded" if "Tensor" in types else "value"
    if not types:
        return "none"
    if types[0] == "Tensor":
        return "tensor"
    return "variable" if "Tensor" in types[0] else "value"


def kind_of_signature(function: Callable[..., Any]) -> str | None:
    """Returns the kind of a Python function by its return annotation; None if it has none."""
    try:
        annotation = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return None
    if annotation is inspect.Signature.empty:
        return None
    if isinstance(annotation, str):
        return kind_of_annotation(annotation)
    if annotation is None:
        return "none"
    text = (
        annotation.__qualname__
        if isinstance(annotation, type) and not getattr(annotation, "__args__", None)
        else str(annotation)
    )
    return kind_of_annotation(text)
