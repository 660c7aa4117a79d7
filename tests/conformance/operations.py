"""The entries of ``op_db``: functions, methods, operators, in place and with ``out=``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo

from gradwire.v1 import catalog
from tests.conformance.outcomes import Outcome
from tests.conformance.running import Call, spread, without_gradient
from tests.conformance.sides import noting_construction
from tests.conformance.tolerances import tolerance_of

DTYPES = (
    *(torch.float32, torch.complex64, torch.int64, torch.bool, torch.bfloat16, torch.float64),
    torch.float8_e4m3fn,
)
"""Kinds of elements: most samples are run with the first that an entry has."""

SAMPLES_TO_CHOOSE_FROM = 25
"""How many samples to make for each that is run; they are spread evenly."""
NUM_FIRST_SAMPLES = 40
NUM_OTHER_SAMPLES = 6


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to call what an entry is about.

    Attributes:
        label: What it is, such as ``method``.
        function: What to call.
        in_place: Whether it changes its first argument.
        out: Whether to give it what the result is to be written into.
    """

    label: str
    function: Callable[..., Any]
    in_place: bool = False
    out: bool = False


def entries() -> dict[str, OpInfo]:
    """Returns the entries by name; those with several have the name of the variant behind it."""
    found: dict[str, OpInfo] = {}
    for info in op_db:
        name = f"{info.name} {info.variant_test_name}".strip()
        assert name not in found, name
        found[name] = info
    return found


def variants(info: OpInfo) -> Iterator[Variant]:
    """Yields the ways to call what an entry is about, each once; the function comes first."""
    seen = {id(None)}
    for kind in (info, *info.aliases):
        prefix = "" if kind is info else f"alias {kind.name}, "
        found = [
            Variant(label=f"{prefix}function", function=kind.op),
            Variant(label=f"{prefix}method", function=kind.method_variant),
            Variant(label=f"{prefix}in place", function=kind.inplace_variant, in_place=True),
        ]
        if kind is info:
            found += [
                Variant(label="operator", function=info.operator_variant),
                Variant(
                    label="operator in place",
                    function=info.inplace_operator_variant,
                    in_place=True,
                ),
            ]
        for variant in found:
            if id(variant.function) not in seen:
                seen.add(id(variant.function))
                yield variant
    if info.supports_out:
        yield Variant(label="out=", function=info.op, out=True)


def run(name: str, info: OpInfo, *, num_first: int, num_other: int) -> Outcome:
    """Runs the samples of an entry on both sides.

    Args:
        name: The entry's name.
        info: The entry.
        num_first: How many samples of the function to run, with the first kind of element.
        num_other: How many of each other variant and of each other kind of element.
    """
    outcome = Outcome(table="op_db", name=name, differentiable=info.supports_autograd)
    kinds = [dtype for dtype in DTYPES if dtype in info.dtypes]
    values = not any(
        known in catalog.UNINITIALIZED
        for known in (f"torch.{info.name}", f"torch.Tensor.{info.name}")
    )
    for position, dtype in enumerate(kinds):
        torch.manual_seed(0)
        differentiable = dtype in info.supported_backward_dtypes("cpu") and info.supports_autograd
        generated = info.sample_inputs("cpu", dtype, requires_grad=differentiable)
        with noting_construction():
            samples = list(islice(generated, SAMPLES_TO_CHOOSE_FROM * num_first))
        for number, variant in enumerate(variants(info)):
            label = f"{variant.label}, {str(dtype).removeprefix('torch.')}"
            count = num_first if position == number == 0 else num_other
            for sample in spread(samples, count):
                if variant.in_place and sample.broadcasts_input:
                    continue
                call = Call(
                    function=variant.function,
                    args=(sample.input, *sample.args),
                    kwargs=sample.kwargs,
                    process=sample.output_process_fn_grad,
                    in_place=variant.in_place,
                    out=variant.out,
                    values=values,
                )
                if variant.out:
                    call = without_gradient(call)
                if not outcome.run(label, tolerance_of(info, dtype), call):
                    break
    return outcome
