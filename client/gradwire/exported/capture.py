"""Captures what the forward of a torch module does with `torch.export`."""

import re
import threading
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

import gradwire
from gradwire.errors import CaptureError
from gradwire.exported.lowering import Lowering
from gradwire.exported.sizes import Sizes, sizes_of
from gradwire.exported.state import keeping_state
from gradwire.exported.structures import Inputs, Opaque, Outputs, Position, Shape
from gradwire.exported.tracing import exporting, quiet
from gradwire.v1 import values_pb2

_lock = threading.RLock()
_DATA_DEPENDENT = "data-dependent"
_OWN_FOLDERS = tuple(str(Path(path).parent) + "/" for path in (torch.__file__, gradwire.__file__))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What a module does in one mode with inputs of one structure.

    Attributes:
        program: The operations. Parameters and buffers are members, by dotted path; constants are
            members with a path that begins with "$".
        constants: Tensors that are neither parameters nor buffers, by that path.
        sizes: For which sizes of inputs it holds.
        outputs: How what it returns is put together.
        output_sizes: For each output an expression of input sizes if it is a number, or None.
    """

    program: values_pb2.Program
    constants: dict[str, torch.Tensor]
    sizes: Sizes
    outputs: Outputs
    output_sizes: list[Any]


class _Flat(torch.nn.Module):
    """A module as a function of a flat list of tensors that returns one."""

    def __init__(self, module: torch.nn.Module, inputs: Inputs, outputs: list[Any]) -> None:
        super().__init__()
        self.module = module
        self.training = module.training
        self._inputs = inputs
        self._outputs = outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[Any, ...]:
        args, kwargs = self._inputs.arguments(tensors)
        with keeping_state(self.module) as changed:
            returns = self.module(*args, **kwargs)
        leaves, spec = pytree.tree_flatten(returns)
        returned: list[Any] = []
        plain: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
                plain.append(Position(len(returned)))
                returned.append(leaf)
            elif leaf is None or isinstance(leaf, bool | int | float | complex | str):
                plain.append(leaf)
            else:
                plain.append(Opaque(type(leaf).__name__))
        self._outputs[:] = [plain, spec, changed]
        return tuple(returned)


def capture(
    module: torch.nn.Module,
    inputs: Inputs,
    shapes: Sequence[Shape],
    attempts: Sequence[Sequence[Any]],
    session_device: str,
) -> Graph:
    """Captures what a module does in its present mode.

    Args:
        module: The module.
        inputs: The structure and types of its inputs.
        shapes: The shape of each tensor among them.
        attempts: For each tensor which sizes may differ, as torch.export takes it: what is
            wanted, then what will do.
        session_device: Where the operations are to run.

    Raises:
        CaptureError: `torch.export` can't capture it, or an operation is not allowed.
    """
    failure: CaptureError | None = None
    for dimensions in attempts:
        try:
            return _capture(module, inputs, shapes, dimensions, session_device)
        except _TorchRefusesError as error:
            failure = error.failure
            if error.final:
                break
    assert failure is not None, "there is at least one attempt"
    raise failure


class _TorchRefusesError(Exception):
    """torch raised during an export.

    Attributes:
        failure: What to tell the user.
        final: Whether fixed sizes would not help.
    """

    def __init__(self, failure: CaptureError, *, final: bool) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.final = final


def _capture(
    module: torch.nn.Module,
    inputs: Inputs,
    shapes: Sequence[Shape],
    dimensions: Sequence[Any],
    session_device: str,
) -> Graph:
    outputs: list[Any] = []
    examples = inputs.examples(shapes, _device_of(module))
    flat = _Flat(module, inputs, outputs)
    name = type(module).__name__
    with _lock:
        try:
            with quiet(), exporting(name):
                program = torch.export.export(
                    flat,
                    tuple(examples),
                    dynamic_shapes={"tensors": tuple(dimensions)},
                    strict=False,
                )
        except CaptureError:
            raise
        except Exception as error:  # noqa: BLE001  # torch raises classes of many kinds
            failure = _failure(name, module.training, error)
            raise _TorchRefusesError(failure, final=_DATA_DEPENDENT in str(error)) from None
        return _graph(name, program, outputs, len(examples), session_device)


def _graph(
    name: str,
    program: torch.export.ExportedProgram,
    outputs: list[Any],
    num_inputs: int,
    session_device: str,
) -> Graph:
    references: dict[str, values_pb2.Value] = {}
    constants: dict[str, torch.Tensor] = {}
    input_names: list[str] = []
    kinds = torch.export.graph_signature.InputKind
    for spec in program.graph_signature.input_specs:
        if spec.kind == kinds.USER_INPUT:
            references[spec.arg.name] = values_pb2.Value(input=len(input_names))
            input_names.append(spec.arg.name)
        elif spec.kind in (kinds.PARAMETER, kinds.BUFFER):
            path = str(spec.target).removeprefix("module.")
            references[spec.arg.name] = values_pb2.Value(member=path)
        elif spec.kind == kinds.CONSTANT_TENSOR:
            path = f"${spec.target}"
            references[spec.arg.name] = values_pb2.Value(member=path)
            constants[path] = program.constants[str(spec.target)]
        else:
            raise CaptureError(
                f"{name} holds {spec.target!r}, which is neither a tensor nor plain data and "
                "can't be sent"
            )
    assert len(input_names) == num_inputs
    for spec in program.graph_signature.output_specs:
        if spec.kind != torch.export.graph_signature.OutputKind.USER_OUTPUT:
            raise CaptureError(f"{name} changes {spec.target!r} in a way that can't be captured")
    nodes = {node.name: node for node in program.graph.nodes}
    (output,) = program.graph.find_nodes(op="output")
    lowered = Lowering(name, session_device, references).program(program.graph_module, num_inputs)
    leaves, tree, changed = outputs
    if changed:
        warnings.warn(
            f"{name}.forward changes {', '.join(changed)}, which the server does not keep from "
            "call to call: register tensors as buffers, and keep count of calls in a buffer, too.",
            stacklevel=7,
        )
    return Graph(
        program=lowered,
        constants=constants,
        sizes=sizes_of(program, [nodes[each] for each in input_names]),
        outputs=Outputs(tuple(leaves), tree),
        output_sizes=[_number(value) for value in output.args[0]],
    )


def _number(value: Any) -> Any:
    """Returns the expression of an output that is a number; None for a tensor."""
    value = value.meta["val"] if isinstance(value, torch.fx.Node) else value
    if isinstance(value, torch.Tensor):
        return None
    node = getattr(value, "node", None)
    return value if node is None else node.expr


def _device_of(module: torch.nn.Module) -> torch.device:
    for member in (*module.parameters(), *module.buffers()):
        return member.device
    return torch.device("cpu")


def _failure(name: str, training: bool, error: Exception) -> CaptureError:
    """Returns what to tell the user of an exception that torch raised during an export."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [repr(error)]
    if isinstance(error, torch._dynamo.exc.UserError):
        # The first line says that there are reasons, the next ones which.
        lines = [" ".join(lines[:4])]
    reason = re.sub(r"\s*\(unhinted:.*", "", lines[0]).rstrip(".")
    if not isinstance(error, RuntimeError):
        reason = f"{type(error).__name__}: {reason}"
    mode = "training" if training else "evaluation"
    if _DATA_DEPENDENT in text:
        advice = (
            "It depends on the contents of a tensor, which are known only when it runs: use "
            "torch.where or multiply by a mask instead of `if`, keep sizes independent of "
            "contents, or write the module with gradwire.nn, whose forward runs in your program."
        )
    else:
        advice = (
            "Check that the module runs on these inputs with local torch; if it does, "
            "torch.export can't follow what it does there."
        )
    return CaptureError(
        f"{name}.forward can't be captured in {mode} mode{_place(error)}. torch says: {reason}. "
        f"{advice}"
    )


def _place(error: Exception) -> str:
    """Returns the innermost line of the traceback that is neither torch's nor ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_OWN_FOLDERS, "<"))
    ]
    if not frames:
        return ""
    last = frames[-1]
    return f', at File "{last.filename}", line {last.lineno}, in {last.name}: {last.line}'
