"""Generates `client/gradwire/v1/catalog.py`: the names that may cross the wire.

    python scripts/generate_catalog.py              write the file
    python scripts/generate_catalog.py --check      exit 1 with a summary if the file differs
    python scripts/generate_catalog.py --validate   run torch's test tables against the rows

Needs torch. The table is both the server's allow-list and the client's API, so it is built from
all that torch shows in a few namespaces, less what `catalog_review.py` refuses. How a call returns
is derived by `catalog_returns.py`, corrected by reviewed rows, and held against what torch's own
samples return by `catalog_validation.py`, which needs `expecttest`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.signal.windows
import torch.utils._device

import catalog_aten as aten
import catalog_review as review
from catalog_returns import (
    kind_of_schemas,
    kind_of_signature,
    kinds_of_stub,
)

_LINE_LENGTH = 101  # the newline included
CATALOG_PATH = Path(__file__).parent.parent / "client" / "gradwire" / "v1" / "catalog.py"

_SCHEMA_PREFIXES = {
    "torch.linalg": "aten::linalg_",
    "torch.fft": "aten::fft_",
    "torch.special": "aten::special_",
}
_OPERATOR_DUNDERS = frozenset(
    f"__{name}__"
    for name in (
        "abs add and bool complex contains eq float floordiv ge getitem gt iadd iand ifloordiv"
        " ilshift imod imul index int invert ior ipow irshift isub itruediv ixor le len lshift lt"
        " matmul mod mul ne neg or pos pow radd rand repr reversed rfloordiv rlshift rmatmul rmod"
        " rmul ror rpow rrshift rshift rsub rtruediv rxor setitem sub truediv xor"
    ).split()
)
_FUNCTION_TYPES = (
    types.BuiltinFunctionType,
    types.FunctionType,
    torch._ops.OpOverloadPacket,
)


Rows = Mapping[str, str | None]
"""Name -> how a call returns; None where torch does not say."""


class ReviewNeededError(Exception):
    """A name of torch that the tables in `catalog_review.py` do not settle."""


def functions() -> Rows:
    """Returns the kind of every function in the catalog, by name."""
    names = [
        name
        for namespace in review.FUNCTION_NAMESPACES
        for name, member in _public_members(namespace)
        if isinstance(member, _FUNCTION_TYPES)
    ]
    names += review.EXTRA_FUNCTIONS
    variable_functions = kinds_of_stub("_C/_VariableFunctions.pyi")
    stubs = {
        "torch": variable_functions,
        "torch.nn.functional": {
            **variable_functions,
            **kinds_of_stub("_C/_nn.pyi"),
            **kinds_of_stub("nn/functional.pyi"),
        },
    }
    return {
        name: _kind_of_function(name, stubs)
        for name in sorted(names)
        if name not in review.REFUSED and name not in review.ARITHMETIC
    }


def _kind_of_function(name: str, stubs: Mapping[str, Rows]) -> str | None:
    if name in review.RETURNS:
        return review.RETURNS[name][0]
    namespace, _, short = name.rpartition(".")
    kind = stubs.get(namespace, {}).get(short)
    if kind is None and namespace in _SCHEMA_PREFIXES:
        kind = kind_of_schemas(_SCHEMA_PREFIXES[namespace] + short)
    if kind is None:
        kind = kind_of_signature(resolve(name))
    if kind is None and isinstance(resolve(name), types.BuiltinFunctionType):
        kind = kind_of_schemas(f"aten::{short}")
    return kind


def tensor_members() -> tuple[Rows, Rows]:
    """Returns the kinds of the methods and of the properties of `torch.Tensor`, by name."""
    stub = kinds_of_stub("_C/__init__.pyi", "TensorBase")
    methods: dict[str, str | None] = {}
    properties: dict[str, str | None] = {}
    for short in dir(torch.Tensor):
        name = f"torch.Tensor.{short}"
        if name in review.REFUSED or (short.startswith("_") and short not in _OPERATOR_DUNDERS):
            if name not in review.REFUSED and short.startswith("__"):
                raise ReviewNeededError(f"{name}: neither an operator nor refused")
            continue
        member = inspect.getattr_static(torch.Tensor, short)
        rows = methods if callable(member) else properties
        if name in review.RETURNS:
            rows[name] = review.RETURNS[name][0]
            continue
        kind = stub.get(short)
        if kind is None and callable(member):
            kind = kind_of_signature(member) or kind_of_schemas(f"aten::{short}")
        rows[name] = kind
    return methods, properties


def modules() -> tuple[Rows, Rows]:
    """Returns the kinds of calling each module class, and each loss class, by name."""
    rows: dict[str, str | None] = {}
    losses: dict[str, str | None] = {}
    for name, member in _public_members("torch.nn"):
        if not (isinstance(member, type) and issubclass(member, torch.nn.Module)):
            continue
        if name not in review.REFUSED:
            is_loss = member.__module__ == "torch.nn.modules.loss"
            (losses if is_loss else rows)[name] = _kind_of_module(name, member)
    name = "torch.optim.swa_utils.AveragedModel"
    rows[name] = _kind_of_module(name, torch.optim.swa_utils.AveragedModel)
    return rows, losses


def _kind_of_module(name: str, module_class: type[torch.nn.Module]) -> str | None:
    if name in review.RETURNS:
        return review.RETURNS[name][0]
    kind = kind_of_signature(module_class.forward)
    if kind is None and issubclass(
        inspect.signature(module_class.forward).return_annotation, tuple
    ):
        kind = "overloaded"
    return kind


def subclasses(namespaces: tuple[str, ...], base: type) -> Rows:
    """Returns every public subclass of `base` in the namespaces; the values are empty."""
    return {
        name: ""
        for namespace in namespaces
        for name, member in _public_members(namespace)
        if isinstance(member, type) and issubclass(member, base) and member is not base
        if name not in review.REFUSED
    }


def initializers() -> Rows:
    """Returns the kind of every function of `torch.nn.init`, by name."""
    return {
        name: kind_of_signature(member)
        or kind_of_signature(getattr(torch.nn.init, f"{member.__name__}_"))
        for name, member in _public_members("torch.nn.init")
        if isinstance(member, types.FunctionType) and name not in review.REFUSED
    }


def factories(known: Rows) -> list[str]:
    """Returns the functions that make tensors from no tensor and accept `device=`."""
    names = {
        f"torch.{function.__name__}" for function in torch.utils._device._device_constructors()
    }
    names.update(review.EXTRA_FACTORIES)
    names.update(name for name in known if name.startswith("torch.signal.windows."))
    return sorted(names & known.keys())


def resolve(name: str) -> Any:
    """Returns the object of torch that a name of the catalog stands for."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            target: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            target = (
                inspect.getattr_static(target, part)
                if isinstance(target, type)
                else getattr(target, part)
            )
        return target
    raise ReviewNeededError(f"{name}: not in torch {torch.__version__}")


def _public_members(namespace: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(namespace)
    for short in sorted(vars(module)):
        if not short.startswith("_"):
            yield f"{namespace}.{short}", getattr(module, short)


def render() -> str:
    """Returns the text of the generated module."""
    for name in (*review.REFUSED, *review.RETURNS, *review.GUARDED, *review.OBJECT_METHODS):
        resolve(name)
    function_rows = functions()
    method_rows, property_rows = tensor_members()
    module_rows, loss_rows = modules()
    overloads = list(aten.overloads({*function_rows, *method_rows, *property_rows}))
    callers = {name: public for name, public, _ in overloads if public is not None}
    scheduler_namespaces = ("torch.optim.lr_scheduler", "torch.optim.swa_utils")
    scheduler_rows = subclasses(scheduler_namespaces, torch.optim.lr_scheduler.LRScheduler)
    tables = (
        ("FUNCTIONS", "Functions, by name.", function_rows),
        ("METHODS", "Methods of a tensor, operators among them.", method_rows),
        ("PROPERTIES", "Attributes of a tensor that can be read.", property_rows),
        ("MODULES", "Module classes: how calling the module returns.", module_rows),
        ("LOSSES", "Module classes that are losses: how calling the module returns.", loss_rows),
        ("OPTIMIZERS", "Optimizer classes.", subclasses(("torch.optim",), torch.optim.Optimizer)),
        ("SCHEDULERS", "Learning rate scheduler classes.", scheduler_rows),
        ("INITIALIZERS", "Functions of torch.nn.init.", initializers()),
        ("CONTEXTS", "Context managers that a program may enter.", review.CONTEXTS),
        ("CLASSES", "What else can be constructed.", review.CLASSES),
        (
            "OBJECT_METHODS",
            "Methods of modules, optimizers and the like, by the class that defines them.",
            review.OBJECT_METHODS,
        ),
        (
            "ATEN",
            "Overloads of ATen operators, of which graphs of torch.export consist.",
            {name: kind for name, _, kind in overloads},
        ),
        ("ARITHMETIC", "What computes with numbers, such as sizes.", review.ARITHMETIC),
    )
    unsettled = [name for _, _, rows in tables for name, kind in rows.items() if kind is None]
    if unsettled:
        raise ReviewNeededError(f"torch does not say how these return: {' '.join(unsettled)}")
    sets = (
        (
            "SETTABLE_PROPERTIES",
            "Attributes of a tensor that can be assigned.",
            [f"torch.Tensor.{short}" for short in review.SETTABLE_PROPERTIES],
        ),
        (
            "FACTORIES",
            "Functions that make tensors and accept `device`; so does torch.normal with `size`.",
            [
                *factories(function_rows),
                *(name for name, _, _ in overloads if aten.makes_tensors_of_nothing(name)),
            ],
        ),
        (
            "UNINITIALIZED",
            "What returns memory as it was left; the server overwrites it.",
            [
                *review.UNINITIALIZED,
                *(name for name, public in callers.items() if public in review.UNINITIALIZED),
            ],
        ),
    )
    guarded = {
        **review.GUARDED,
        **{n: review.GUARDED[p] for n, p in callers.items() if p in review.GUARDED},
    }
    names = {name for _, _, rows in tables for name in rows}
    if unknown := [*({*review.GUARDED, *review.UNINITIALIZED} - names)]:
        raise ReviewNeededError(f"guarded or uninitialised, but not in the catalog: {unknown}")
    return "".join(
        (
            _HEADER.format(version=torch.__version__.partition("+")[0]),
            *(_dict_text(title, about, rows) for title, about, rows in tables),
            *(_set_text(title, about, members) for title, about, members in sets),
            _dict_text(
                "GUARDED",
                "What the server must check: torch does not, and the process would suffer.",
                guarded,
            ),
        )
    )


def _dict_text(title: str, about: str, rows: Rows) -> str:
    lines = ""
    for name in sorted(rows):
        line = f'    "{name}": "{rows[name]}",\n'
        if len(line) > _LINE_LENGTH:
            line = f'    "{name}": (\n        "{rows[name]}"\n    ),\n'
        lines += line
    return f'\n{title}: dict[str, str] = {{\n{lines}}}\n"""{about}"""\n'


def _set_text(title: str, about: str, names: Sequence[str]) -> str:
    lines = "".join(f'        "{name}",\n' for name in names)
    text = f"{title}: frozenset[str] = frozenset(\n    (\n{lines}    )\n)"
    return f'\n{text}\n"""{about}"""\n'


_HEADER = '''"""The names that may cross the wire, and how a call of each returns.

Generated by scripts/generate_catalog.py from torch {version}; do not edit. Whatever is not here
does not exist for a server. The values say what a call returns:

tensor      exactly one tensor, also for methods that work in place
none        always None
value       plain Python values (bool, int, float, str, dtype, sizes, lists of numbers), no tensor
overloaded  the structure (tensors, None, values, tuples of them) depends on the arguments: on their
            number, names and kinds, the lengths of lists and the plain values among them, but never
            on the shape or contents of a tensor
variable    the structure depends on shapes, contents or state
object      something that the session holds and that does not travel

A row of a module says what calling the module returns; there the arguments are those of the
constructor, too. A row of an optimizer, scheduler or context says nothing.
"""

TORCH_VERSION = "{version}"
'''


def differences(old: str, new: str) -> list[str]:
    """Returns the lines that two texts of the module do not share, each after `-` or `+`."""
    before, after = old.splitlines(), new.splitlines()
    kept = set(before) & set(after)
    gone = [f"- {line.strip()}" for line in before if line not in kept]
    come = [f"+ {line.strip()}" for line in after if line not in kept]
    return gone + come


def validate() -> int:
    """Runs torch's samples, prints what contradicts the rows; returns the exit status."""
    # Imported here: torch's test package is large, and only this mode needs it.
    validation = importlib.import_module("catalog_validation")
    methods, properties = tensor_members()
    module_rows, losses = modules()
    tables = (functions(), methods, properties, module_rows, losses, initializers())
    rows = {name: kind for table in tables for name, kind in table.items()}
    observations = validation.observe({name: resolve(name) for name in rows})
    found = validation.contradictions(rows, observations)
    print("\n".join([*validation.cautious(rows, observations), "", *found]))
    unseen = sorted(rows.keys() - observations.seen.keys())
    print(f"{len(observations.seen)} of {len(rows)} names observed, {len(found)} contradictions")
    print(f"not observed: {' '.join(unseen)}")
    return 1 if found else 0


def main(argv: list[str] | None = None) -> int:
    """Writes or checks the generated file; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--validate", action="store_true", help="run samples, write nothing")
    options = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options.validate:
            return validate()
        text = render()
    if not options.check:
        CATALOG_PATH.write_text(text, encoding="utf-8")
        return 0
    checked_in = CATALOG_PATH.read_text(encoding="utf-8")
    if checked_in == text:
        return 0
    print("\n".join(differences(checked_in, text)) or "the order of lines differs")
    print(f"{CATALOG_PATH} is not what this script generates from torch {torch.__version__}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
