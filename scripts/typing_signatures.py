"""The signatures of torch's functions and methods, from its stubs, its sources and its schemas.

Each is a list of overloads, written as the text of a stub: ``(input: Tensor) -> Tensor``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch

from typing_annotations import UnknownTypeError, of_default, translated, union

RESULTS = {"tensor": "Tensor", "none": "None"}
"""The type of a result by the kind that the catalog gives, where the kind says all."""


@cache
def stub_functions(path: str, class_name: str | None = None) -> Mapping[str, list[ast.FunctionDef]]:
    """Returns the overloads of each function in a stub file of torch, or in one class of it."""
    return _functions(_body_of_stub(path, class_name))


@cache
def stub_attributes(path: str, class_name: str) -> Mapping[str, ast.expr]:
    """Returns the annotation of each attribute of a class in a stub file of torch."""
    return _annotated(_body_of_stub(path, class_name))


def _body_of_stub(path: str, class_name: str | None) -> list[ast.stmt]:
    body = ast.parse((Path(torch.__file__).parent / path).read_text(encoding="utf-8")).body
    if class_name is None:
        return body
    return next(n for n in body if isinstance(n, ast.ClassDef) and n.name == class_name).body


def _functions(body: Iterable[ast.stmt]) -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def _annotated(body: Iterable[ast.stmt]) -> dict[str, ast.expr]:
    return {
        node.target.id: node.annotation
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


@cache
def _class_body(of: type) -> list[ast.stmt]:
    # Some classes show themselves in another module than their own; their functions don't.
    functions = [inspect.unwrap(m) for m in vars(of).values() if inspect.isfunction(m)]
    functions = [m for m in functions if inspect.isfunction(m)]
    paths = [inspect.getsourcefile(part) for part in (of, *functions)]
    for candidate in dict.fromkeys(p for p in paths if p is not None):
        for node in ast.walk(ast.parse(Path(candidate).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name == of.__name__:
                return node.body
    raise LookupError(f"no source of {of}")


def class_methods(of: type, below: type) -> Mapping[str, list[ast.FunctionDef]]:
    """Returns the methods of a class and its bases that are below another class; overloads first.

    Where there are overloads, what implements them is left out.
    """
    found: dict[str, list[ast.FunctionDef]] = {}
    for kind in reversed(_bases(of, below)):
        for name, nodes in _functions(_class_body(kind)).items():
            found[name] = [n for n in nodes if _is_overload(n)] or nodes[-1:]
    return found


def class_attributes(of: type, below: type) -> Mapping[str, str]:
    """Returns the types of the public attributes that a class and its bases declare."""
    found: dict[str, str] = {}
    for kind in reversed(_bases(of, below)):
        for name, annotation in _annotated(_class_body(kind)).items():
            if name.startswith("_") or name == "training":
                continue
            try:
                found[name] = translated(annotation, is_result=True)
            except UnknownTypeError:
                found[name] = "Any"
    return found


def _bases(of: type, below: type) -> list[type]:
    mro = of.__mro__
    return [k for k in mro[: mro.index(below)] if k.__module__.partition(".")[0] == "torch"]


def _is_overload(node: ast.FunctionDef) -> bool:
    return any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)


def source(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """Returns the definition of a Python function; None if it is not written in Python."""
    try:
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    except (TypeError, OSError):
        return None
    node = ast.parse(text).body[0]
    return node if isinstance(node, ast.FunctionDef) else None


def signatures(nodes: Iterable[ast.FunctionDef], kind: str) -> list[str]:
    """Returns the signature of each definition, less those that take what gradwire does not have.

    Args:
        nodes: The definitions.
        kind: How a call returns, by the catalog.
    """
    found = []
    for node in nodes:
        try:
            found.append(_signature(node, kind))
        except UnknownTypeError:
            continue
    anything = "(self, *args: Any, **kwargs: Any) -> None"
    return [text for text in dict.fromkeys(found) if text != anything or len(found) == 1]


def _signature(node: ast.FunctionDef, kind: str) -> str:
    result = RESULTS.get(kind)
    if node.name == "__init__":
        result = "None"
    if result is None:
        result = "Any" if node.returns is None else translated(node.returns, is_result=True)
    return f"({parameters(node.args)}) -> {result}"


def parameters(arguments: ast.arguments, replaced: Mapping[str, str] | None = None) -> str:
    """Returns the text of parameters.

    Args:
        arguments: The parameters.
        replaced: Types that take the place of torch's, by the name of the parameter.
    """

    def text(argument: ast.arg, default: ast.expr | None) -> str:
        name = argument.arg
        if name in ("self", "cls") and argument is first:
            return name
        if replaced and name in replaced:
            kind = replaced[name]
        elif argument.annotation is None:
            kind = of_default(name, default)
        else:
            kind = translated(argument.annotation)
            if isinstance(default, ast.Constant) and default.value is None:
                kind = union([kind, "None"])
        return f"{name}: {kind}" + (f" = {_default(default)}" if default is not None else "")

    ordered = [*arguments.posonlyargs, *arguments.args]
    first = ordered[0] if ordered else None
    defaults: list[ast.expr | None] = [None] * (len(ordered) - len(arguments.defaults))
    parts = [text(*pair) for pair in zip(ordered, [*defaults, *arguments.defaults], strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg is not None:
        parts.append("*" + text(arguments.vararg, None))
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [text(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg is not None:
        parts.append("**" + text(arguments.kwarg, None))
    return ", ".join(parts)


def _default(node: ast.expr) -> str:
    match node:
        case ast.Constant() | ast.UnaryOp(operand=ast.Constant()):
            return ast.unparse(node)
        case ast.Tuple(elts=elements) if all(isinstance(e, ast.Constant) for e in elements):
            return ast.unparse(node)
    return "..."


_SCHEMA_TYPES = {
    **{name: name for name in ("Tensor", "bool", "float", "int", "str")},
    "Device": "device | str | int",
    "Generator": "Generator",
    "number": "complex",
}
_NAMED_TYPES = {"dtype": "dtype", "layout": "Constant", "memory_format": "Constant"}


def schema_signatures(operator: str, kind: str, first: str = "input") -> list[str]:
    """Returns the signatures of an ATen operator such as ``aten::linalg_qr``.

    Args:
        operator: Its name.
        kind: How a call returns, by the catalog.
        first: What the parameter `self` is called.
    """
    get_schemas = cast(Callable[[str], list[Any]], torch._C._jit_get_schemas_for_operator)
    schemas = [s for s in get_schemas(operator) if not _is_scripted(s)]
    writes = any(_writes_out(schema) for schema in schemas)
    found = []
    for schema in schemas:
        if _writes_out(schema) or "Dimname" in str(schema):
            continue
        result = RESULTS.get(kind) or schema_result(schema, operator)
        parts, keyword_only = [], False
        for argument in schema.arguments:
            if argument.kwarg_only and not keyword_only:
                parts.append("*")
                keyword_only = True
            name = first if argument.name == "self" else argument.name
            parts.append(_schema_parameter(argument, name))
        if writes and not any(part.startswith("out:") for part in parts):
            one = "Tensor" if result == "Tensor" else "tuple[Tensor, ...]"
            parts += [*([] if keyword_only else ["*"]), f"out: {one} | None = None"]
        found.append(f"({', '.join(parts)}) -> {result}")
    return list(dict.fromkeys(found))


def _is_scripted(schema: Any) -> bool:
    """Whether an operator is one of TorchScript's own, on lists and numbers."""
    types = [str(argument.type) for argument in schema.arguments]
    return any(text == "t" or "[t]" in text or "Dict" in text or "Any" in text for text in types)


def _writes_out(schema: Any) -> bool:
    return any(
        argument.kwarg_only and argument.alias_info is not None and argument.alias_info.is_write
        for argument in schema.arguments
    )


def _schema_parameter(argument: Any, name: str) -> str:
    text = str(argument.type)
    optional = text.startswith("Optional[")
    text = text.removeprefix("Optional[").removesuffix("]") if optional else text
    if text.startswith("List["):
        element = text.removeprefix("List[").removesuffix("]")
        kind = f"Sequence[{_SCHEMA_TYPES.get(element, 'Any')}]"
        if argument.N is not None or name in ("dim", "dims"):
            kind = f"{_SCHEMA_TYPES.get(element, 'Any')} | {kind}"
    else:
        kind = _NAMED_TYPES.get(name) or _SCHEMA_TYPES.get(text, "Any")
    if optional:
        kind += " | None"
    if not argument.has_default_value():
        return f"{name}: {kind}"
    default = argument.default_value
    plain = default is None or isinstance(default, bool | int | float | str)
    return f"{name}: {kind} = {default!r}" if plain else f"{name}: {kind} = ..."


def schema_result(schema: Any, operator: str) -> str:
    """Returns the type of what an operator returns; several named tensors are a named tuple."""
    types = [str(result.type) for result in schema.returns]
    names = [result.name for result in schema.returns]
    if len(types) > 1 and all(names):
        return f"_return_types.{operator.removeprefix('aten::')}"
    texts = [
        f"tuple[{t.removeprefix('List[').removesuffix(']')}, ...]" if "List[" in t else t
        for t in types
    ]
    return texts[0] if len(texts) == 1 else f"tuple[{', '.join(texts)}]"


def named_tuples() -> dict[str, list[tuple[str, str]]]:
    """Returns the fields of each named tuple that operators return, with their types."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, kind in vars(torch.return_types).items():
        if not (isinstance(kind, type) and issubclass(kind, tuple)):
            continue
        if name.startswith("_") or name.endswith("_out"):
            continue
        fields: tuple[str, ...] = vars(kind)["__match_args__"]
        types = stub_result_fields(name)
        found[name] = [(field, types.get(field, "Tensor")) for field in fields]
    return found


def stub_result_fields(name: str) -> Mapping[str, str]:
    """Returns the types of the fields of a named tuple, as far as torch's stub has them."""
    try:
        methods = stub_functions("return_types.pyi", name)
    except StopIteration:
        return {}
    return {
        field: translated(nodes[0].returns, is_result=True)
        for field, nodes in methods.items()
        if not field.startswith("_")
    }
