"""Translates the annotations of torch into those of gradwire.

The input is syntax: torch's stubs and sources are parsed, not imported. Numbers are written as
their widest type, because a type checker takes an `int` for a `float` and both for a `complex`.
"""

from __future__ import annotations

import ast

_DEVICE = "device | str | int"
_NUMBERS = ("bool", "int", "float", "complex")
_TYPES: dict[str, str] = {
    **{name: name for name in ("Any", "Callable", "EllipsisType", "Iterable", "Iterator")},
    **{name: name for name in ("Literal", "Mapping", "None", "OrderedDict", "Self", "Sequence")},
    **{name: name for name in ("bool", "complex", "dict", "float", "int", "list", "object")},
    **{name: name for name in ("slice", "str", "tuple", "type")},
    **{name: name for name in ("Module", "Optimizer", "LRScheduler", "PackedSequence")},
    **{name: name for name in ("Parameter", "Size", "Tensor", "Generator", "dtype")},
    **{name: name for name in ("LinearCrossEntropyOptions",)},
    "BoolLikeType": "bool",
    "DType": "dtype",
    "DimOrDims": "int | Sequence[int] | None",
    "MaskedTensor": "Tensor",
    "Device": f"{_DEVICE} | None",
    "DeviceLikeType": _DEVICE,
    "Dict": "dict",
    "FloatLikeType": "float",
    "IntLikeType": "int",
    "List": "list",
    "Number": "float",
    "NumberType": "float",
    "ParamsT": "Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]",
    "SymInt": "int",
    "TensorLikeType": "Tensor",
    "Tuple": "tuple",
    "Type": "type",
    "UninitializedBuffer": "Tensor",
    "UninitializedParameter": "Parameter",
    "_Index": "Any",
    "_InitType": "Literal['fan_in', 'fan_out']",
    "_FanMode": "str",
    "_NonlinearityType": "str",
    "_bool": "bool",
    "_complex": "complex",
    "_device": _DEVICE,
    "_dtype": "dtype",
    "_float": "float",
    "_int": "int",
    "_layout": "Constant",
    "_ratio_2_t": "float | tuple[float, float]",
    "_ratio_3_t": "float | tuple[float, float, float]",
    "_ratio_any_t": "float | Sequence[float]",
    "_size": "Sequence[int]",
    "_size_1_t": "int | tuple[int]",
    "_size_2_opt_t": "int | None | tuple[int | None, int | None]",
    "_size_2_t": "int | tuple[int, int]",
    "_size_3_opt_t": "int | None | tuple[int | None, int | None, int | None]",
    "_size_3_t": "int | tuple[int, int, int]",
    "_size_4_t": "int | tuple[int, int, int, int]",
    "_size_6_t": "int | tuple[int, int, int, int, int, int]",
    "_size_any_opt_t": "int | None | Sequence[int | None]",
    "_size_any_t": "int | Sequence[int]",
    "_str": "str",
    "_symsize": "Sequence[int]",
    "_tensor_or_tensors": "Tensor | Iterable[Tensor]",
    "device": _DEVICE,
    "layout": "Constant",
    "memory_format": "Constant",
}
_BROADCASTING = ("BroadcastingList1", "BroadcastingList2", "BroadcastingList3")
_TYPE_ARGUMENTS = {
    "Callable": "Callable[..., Any]",
    "Iterable": "Iterable[Any]",
    "dict": "dict[str, Any]",
    "list": "list[Any]",
}


class UnknownTypeError(Exception):
    """A type of torch that has no counterpart."""


def translated(node: ast.expr | None, *, is_result: bool = False) -> str:
    """Returns an annotation in the types of gradwire.

    Args:
        node: The annotation; None, where there is none, becomes `Any`.
        is_result: Whether something is of that type, rather than taken for it: a device that is
            returned is never a text.

    Raises:
        UnknownTypeError: It names a type that gradwire does not have.
    """
    if node is None:
        return "Any"
    text = _translate(node)
    return text.replace(_DEVICE, "device") if is_result else text


def _translate(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=None):
            return "None"
        case ast.Constant(value=str(text)):
            return _translate(ast.parse(text, mode="eval").body)
        case ast.Constant():
            return ast.unparse(node)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return union([_translate(left), _translate(right)])
        case ast.List(elts=elements):
            return f"[{', '.join(_translate(element) for element in elements)}]"
        case ast.Tuple(elts=elements):
            return ", ".join(_translate(element) for element in elements)
        case ast.Subscript(value=value, slice=arguments):
            return _generic(_last(value), arguments)
        case ast.Attribute(attr=attribute) if "return_types" in ast.unparse(node):
            return f"_return_types.{attribute}"
        case ast.Name() | ast.Attribute():
            name = _last(node)
            if name not in _TYPES:
                raise UnknownTypeError(ast.unparse(node))
            return _TYPE_ARGUMENTS.get(_TYPES[name], _TYPES[name])
    raise UnknownTypeError(ast.unparse(node))


def _generic(name: str, arguments: ast.expr) -> str:
    if name == "Literal":
        return f"Literal[{ast.unparse(arguments).strip('()')}]"
    if name == "Optional":
        return union([_translate(arguments), "None"])
    if name == "Union":
        elements = arguments.elts if isinstance(arguments, ast.Tuple) else [arguments]
        return union([_translate(element) for element in elements])
    if name in _BROADCASTING:
        element = _translate(arguments)
        return f"{element} | Sequence[{element}]"
    if name not in _TYPES:
        raise UnknownTypeError(name)
    return f"{_TYPES[name]}[{_translate(arguments)}]"


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ast.unparse(node)


def union(types: list[str]) -> str:
    """Returns the union of some types, without what others of them include."""
    members = [member for text in types for member in _members(text)]
    widest = max((_NUMBERS.index(m) for m in members if m in _NUMBERS), default=0)
    kept = [m for m in members if m not in _NUMBERS or _NUMBERS.index(m) == widest]
    ordered = dict.fromkeys(m for m in kept if m != "None")
    return " | ".join([*ordered, *(["None"] if "None" in kept else [])])


def _members(text: str) -> list[str]:
    """Returns the members of a union that is written out."""
    node = ast.parse(text, mode="eval").body
    members: list[str] = []
    while isinstance(node, ast.BinOp):
        members.append(ast.unparse(node.right))
        node = node.left
    return [ast.unparse(node), *reversed(members)]


def of_default(name: str, default: ast.expr | None) -> str:
    """Returns the type of a parameter that torch does not annotate, as far as its default tells."""
    match default:
        case ast.Constant(value=bool()):
            return "bool"
        case ast.Constant(value=int() | float()):
            return "float"
        case ast.Constant(value=str()):
            return "str"
    return {"device": f"{_DEVICE} | None", "dtype": "dtype | None"}.get(name, "Any")
