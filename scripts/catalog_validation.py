"""Runs torch's own test tables and compares what comes back with the catalog's rows.

Every call of torch that the samples of `op_db` and `module_db` make on a CPU is observed, through a
function mode, whatever the tables wrap around it. Needs `expecttest`, as torch's test package does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

_SAMPLES_PER_OP = 60
_DTYPES = (torch.float32, torch.complex64, torch.int64, torch.bool, torch.bfloat16)
_DELIBERATE = frozenset(("torch.manual_seed",))
"""Rows that say something else than torch returns, for the reason that the review gives."""

_DUNDER_BASES = {
    f"__{prefix}{base}__": base
    for base in "add and floordiv lshift matmul mod mul or pow rshift sub truediv xor".split()
    for prefix in "ir"
}


class Observations:
    """What calls returned: name -> argument pattern -> the structures seen."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, set[str]]] = {}

    def add(self, name: str, pattern: str, result: object) -> None:
        """Notes one call."""
        self.seen.setdefault(name, {}).setdefault(pattern, set()).add(structure(result))


def structure(result: object) -> str:
    """Returns the structure of a result: which tensors, values and None it has, and where."""
    match result:
        case torch.Tensor():
            return "tensor"
        case None:
            return "none"
        case torch.Size():
            return "value"
        case tuple() | list():
            parts = [structure(part) for part in result]
            if parts and set(parts) == {"value"}:
                return "value"
            return f"{type(result).__name__}({', '.join(parts)})"
        case dict():
            return f"dict({', '.join(f'{k}: {structure(v)}' for k, v in result.items())})"
    return "value"


def argument_pattern(arguments: object) -> str:
    """Returns what is known of arguments without looking into tensors."""
    match arguments:
        case torch.Tensor():
            return "tensor"
        case tuple() | list():
            return f"[{', '.join(argument_pattern(part) for part in arguments)}]"
        case dict():
            return f"{{{', '.join(f'{k}: {argument_pattern(v)}' for k, v in arguments.items())}}}"
    return repr(arguments)


class _Observer(TorchFunctionMode):
    """Notes every call of a cataloged function, method or property while it is entered."""

    def __init__(self, names_of: Mapping[int, Sequence[str]], observations: Observations) -> None:
        super().__init__()
        self._names_of = names_of
        self._observations = observations

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs the call and notes what it returned."""
        result = func(*args, **(kwargs or {}))
        target = func
        if getattr(func, "__name__", "") == "__get__":
            target = getattr(func, "__self__", func)
        for name in () if result is NotImplemented else self._names_of.get(id(target), ()):
            self._observations.add(name, argument_pattern((args, kwargs or {})), result)
        return result


def observe(targets: Mapping[str, object]) -> Observations:
    """Runs the samples of torch's tables; `targets` maps each cataloged name to its object."""
    observations = Observations()
    names_of: dict[int, list[str]] = {}
    for name, target in targets.items():
        names_of.setdefault(id(target), []).append(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, pattern, call in chain(_sample_calls(targets), _module_calls(targets)):
            with _Observer(names_of, observations):
                _attempt(call, name, pattern, observations)
        unseen = {name: targets[name] for name in targets if name not in observations.seen}
        for name, pattern, call in _generic_calls(unseen):
            _attempt(call, name, pattern, observations)
    return observations


Call = tuple[str, str, Callable[[], object]]
"""A name of the catalog or nothing, the pattern of the arguments, and the call."""


def _sample_calls(targets: Mapping[str, object]) -> Iterator[Call]:
    """Yields calls of what `op_db` lists, and of all cataloged variants of the same name."""
    variants_of: dict[str, list[tuple[str, object]]] = {}
    for name, target in targets.items():
        variants_of.setdefault(_base_name(name), []).append((name, target))
    for op in op_db:
        dtype = next((d for d in _DTYPES if d in op.dtypes), None)
        if dtype is None:
            continue
        names = {_base_name(name) for name in (op.name, *(alias.name for alias in op.aliases))}
        variants = [variant for name in sorted(names) for variant in variants_of.get(name, ())]
        variants += [("", op.op), ("", op.operator_variant)]
        samples = op.sample_inputs("cpu", dtype, requires_grad=False)
        for sample in islice(samples, _SAMPLES_PER_OP):
            pattern = argument_pattern(((sample.input, *sample.args), sample.kwargs))
            for name, variant in variants:
                if callable(variant):
                    inputs = _copied((sample.input, *sample.args))
                    yield name, pattern, _bound(variant, *inputs, kwargs=sample.kwargs)


def _generic_calls(targets: Mapping[str, object]) -> Iterator[Call]:
    """Yields calls with arguments that suit many operations; most of them fail."""
    matrix, vector, index = torch.rand(4, 4), torch.rand(4), torch.tensor([0, 1, 2, 3])
    image = torch.rand(2, 4, 4, 4)
    arguments: list[tuple[object, ...]] = [
        (),
        (5,),
        (vector,),
        (matrix,),
        (matrix.to_sparse(),),
        (matrix.to_sparse_csr(),),
        (image,),
        ([vector, vector],),
        (torch.tensor([1]),),
        (matrix, matrix),
        (matrix, index),
        (matrix, 2),
        (matrix, 0.5, True),
        (matrix, 1.0),
        (matrix, 1, 1),
        (matrix, [2, 2], 0),
        (matrix.to_sparse(), matrix),
        (image, 2),
        (image, 2.0, 2),
        (torch.float32, torch.int64),
        (matrix, torch.float32),
        (vector, vector, vector),
    ]
    for name, target in targets.items():
        for given in arguments:
            if isinstance(target, type):
                for inputs in ((matrix,), (image,), (matrix, matrix), (matrix, matrix, matrix)):
                    call = _constructed(target, given, inputs)
                    yield name, argument_pattern((given, inputs)), call
            elif callable(target):
                yield name, argument_pattern(given), _bound(target, *_copied(given), kwargs={})
            elif hasattr(target, "__get__") and len(given) == 1 and given[0] is matrix:
                yield name, argument_pattern(given), _bound(target.__get__, matrix, kwargs={})


def _base_name(name: str) -> str:
    """Returns what the variants of an operation share: `add` of `torch.Tensor.__iadd__`."""
    short = name.rpartition(".")[2]
    if short.startswith("__"):
        short = _DUNDER_BASES.get(short, short)
    return short.strip("_")


def _module_calls(
    targets: Mapping[str, object],
) -> Iterator[Call]:
    """Yields name, argument pattern and call of the modules of `module_db`."""
    names = {id(target): name for name, target in targets.items()}
    for info in module_db:
        name = names.get(id(info.module_cls))
        if name is None:
            continue
        for training in (True, False):
            inputs = info.module_inputs_func(
                info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
            )
            for sample in inputs:
                made, given = sample.constructor_input, sample.forward_input
                if given is None:
                    continue
                module = info.module_cls(*made.args, **made.kwargs).train(training)
                pattern = argument_pattern(
                    (training, made.args, made.kwargs, given.args, given.kwargs)
                )
                yield name, pattern, _bound(module, *given.args, kwargs=given.kwargs)


def _bound(
    function: Callable[..., object], *args: object, kwargs: Mapping[str, Any]
) -> Callable[[], object]:
    return lambda: function(*args, **kwargs)


def _constructed(
    module_class: type, given: tuple[object, ...], inputs: tuple[object, ...]
) -> Callable[[], object]:
    return lambda: module_class(*_copied(given))(*inputs)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, (tuple, list)):
        return type(value)(_copied(part) for part in value)
    return value


def _attempt(
    call: Callable[[], object], name: str, pattern: str, observations: Observations
) -> None:
    """Calls, and notes the result; one that does not run on this machine proves nothing."""
    try:
        result = call()
    except Exception:  # noqa: BLE001 - whatever torch raises for a sample
        return
    if name and result is not NotImplemented:
        observations.add(name, pattern, result)


def contradictions(rows: Mapping[str, str], observations: Observations) -> list[str]:
    """Returns one line for each row that an observed result contradicts."""
    lines = []
    for name, patterns in sorted(observations.seen.items()):
        kind = rows[name]
        if name in _DELIBERATE:
            continue
        structures = set().union(*patterns.values())
        if kind in ("tensor", "none", "value"):
            if structures != {kind}:
                lines.append(f"{name}: {kind}, but returned {sorted(structures)}")
        elif kind == "overloaded":
            lines += [
                f"{name}: overloaded, but {pattern} returned {sorted(found)}"
                for pattern, found in patterns.items()
                if len(found) > 1
            ]
    return lines


def cautious(rows: Mapping[str, str], observations: Observations) -> list[str]:
    """Returns one line for each row that the observed results would allow to say more."""
    lines = []
    for name, patterns in sorted(observations.seen.items()):
        structures = set().union(*patterns.values())
        if rows[name] in ("overloaded", "variable") and structures in ({"tensor"}, {"none"}):
            lines.append(f"{name}: {rows[name]}, but always returned {structures.pop()}")
        elif rows[name] == "variable" and all(len(found) == 1 for found in patterns.values()):
            lines.append(f"{name}: variable, but the arguments always decided")
    return lines
