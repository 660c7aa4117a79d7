"""From a graph of `torch.export` to a program: the same operations, as data."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradwire.errors import CaptureError
from gradwire.recorder.keys import Atom, Key, OperationKey, encode, program_message
from gradwire.types import CONSTANTS, DTYPES, device
from gradwire.v1 import values_pb2
from gradwire.v1.catalog import ARITHMETIC, ATEN

OWN_NAMESPACE = "gradwire"
"""Where `capture` defines operators that stand for one of ATen which export would take apart."""

_ONLY_FOR_TRACING = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
    }
)
_OWN_TARGETS = {
    f"{OWN_NAMESPACE}.{name}.default": f"aten.{name}.input"
    for name in ("gru", "lstm", "rnn_relu", "rnn_tanh")
}
_PYTHON_TARGETS: dict[Any, str] = {
    operator.getitem: "gradwire.getitem",
    **{getattr(operator, n[9:]): n for n in ARITHMETIC if n.startswith("operator.")},
    **{getattr(math, n[5:]): n for n in ARITHMETIC if n.startswith("math.")},
    **{getattr(torch, n[6:]): n for n in ARITHMETIC if n.startswith("torch.")},
}
_GRID_MODES = ("bilinear", "nearest", "bicubic")
_GRID_PADDINGS = ("zeros", "border", "reflection")


class Lowering:
    """Makes a program of a graph.

    Args:
        module_name: The class of the captured module, for errors.
        session_device: What takes the place of devices in the graph.
        references: The values of placeholders and constants of the graph, by name.
    """

    def __init__(
        self, module_name: str, session_device: str, references: Mapping[str, values_pb2.Value]
    ) -> None:
        self._module_name = module_name
        self._device = device(session_device)
        self._references = references
        self._operations: list[OperationKey] = []

    def program(self, graph_module: torch.fx.GraphModule, num_inputs: int) -> values_pb2.Program:
        """Returns the program of a graph; its outputs are those of the graph, in order."""
        outputs = self._graph(graph_module, {})
        return program_message(self._operations, num_inputs, outputs)

    def _graph(
        self, graph_module: torch.fx.GraphModule, known: dict[torch.fx.Node, Key]
    ) -> Sequence[Key]:
        """Collects the operations of a graph and returns its outputs."""
        for node in graph_module.graph.nodes:
            match node.op:
                case "placeholder":
                    if node not in known and node.name in self._references:
                        known[node] = Atom(node.name, self._references[node.name])
                case "get_attr":
                    if node.target in self._references:
                        known[node] = Atom(node.target, self._references[node.target])
                case "call_function":
                    self._call(graph_module, node, known)
                case "output":
                    return [self._key(value, known, node) for value in node.args[0]]
                case _:
                    raise self._unsupported(node, str(node.target))
        raise AssertionError("a graph of torch.export has an output")

    def _call(
        self, owner: torch.fx.GraphModule, node: torch.fx.Node, known: dict[torch.fx.Node, Key]
    ) -> None:
        target = node.target
        higher_order = _HIGHER_ORDER.get(str(target))
        if higher_order is not None:
            higher_order(self, owner, node, known)
            return
        if target is operator.getitem:
            sequence, index = node.args
            results = known[sequence]  # type: ignore[index]
            if isinstance(results, tuple) and results[0] == "tuple":
                known[node] = results[1 + index]  # type: ignore[operator,index]
                return
        name = _PYTHON_TARGETS.get(target, str(target))
        name = _OWN_TARGETS.get(name, name)
        if name in _ONLY_FOR_TRACING:
            return
        if name in _REPLACED:
            name, args, kwargs = _REPLACED[name](*node.args, **node.kwargs)
        elif name in ATEN or target in _PYTHON_TARGETS:
            args, kwargs = node.args, node.kwargs
        else:
            raise self._unsupported(node, name)
        known[node] = self._append(
            name,
            tuple(self._key(value, known, node) for value in args),
            tuple((keyword, self._key(value, known, node)) for keyword, value in kwargs.items()),
        )

    def _append(
        self, name: str, args: tuple[Key, ...] = (), kwargs: tuple[tuple[str, Key], ...] = ()
    ) -> Atom:
        self._operations.append((name, args, kwargs))
        index = len(self._operations) - 1
        return Atom(f"result {index}", values_pb2.Value(result=index))

    def _inline(
        self,
        owner: torch.fx.GraphModule,
        node: torch.fx.Node,
        known: dict[torch.fx.Node, Key],
        context: str,
        options: dict[str, Any],
        body: torch.fx.Node,
        inputs: Sequence[Any],
    ) -> None:
        """Collects the operations of a graph within a graph, under a context of torch."""
        made = self._append(
            context, (), tuple((name, self._key(v, known, node)) for name, v in options.items())
        )
        self._append("gradwire.enter", (made,))
        inner = owner.get_submodule(str(body.target))
        assert isinstance(inner, torch.fx.GraphModule)
        placeholders = [n for n in inner.graph.nodes if n.op == "placeholder"]
        values = [self._key(value, known, node) for value in inputs]
        results = self._graph(inner, dict(zip(placeholders, values, strict=True)))
        self._append("gradwire.exit")
        known[node] = ("tuple", *results)

    def _grad_mode(
        self, owner: torch.fx.GraphModule, node: torch.fx.Node, known: dict[torch.fx.Node, Key]
    ) -> None:
        enabled, body, *inputs = node.args
        assert isinstance(body, torch.fx.Node)
        context = "torch.enable_grad" if enabled else "torch.no_grad"
        self._inline(owner, node, known, context, {}, body, inputs)

    def _autocast(
        self, owner: torch.fx.GraphModule, node: torch.fx.Node, known: dict[torch.fx.Node, Key]
    ) -> None:
        _, dtype, enabled, cache_enabled, body, *inputs = node.args
        assert isinstance(body, torch.fx.Node)
        options = {
            "device_type": self._device.type,
            "dtype": dtype,
            "enabled": enabled,
            "cache_enabled": cache_enabled,
        }
        self._inline(owner, node, known, "torch.autocast", options, body, inputs)

    def _key(self, value: Any, known: dict[torch.fx.Node, Key], user: torch.fx.Node) -> Key:
        """Returns the key of an argument of `user`."""

        def reference(leaf: Any) -> Key:
            if isinstance(leaf, torch.fx.Node) and leaf in known:
                return known[leaf]
            raise self._unsupported(user, f"{user.target} with an argument {leaf!r}")

        return encode(_converted(value, self._device), reference)

    def _unsupported(self, node: torch.fx.Node, name: str) -> CaptureError:
        known = name.startswith("aten.")
        return CaptureError(
            f"{self._module_name} uses {name}, which "
            + (
                "is not on the server's list of ATen operators"
                if known
                else "is no operator of ATen and can't be sent as data"
            )
            + _origin(node)
            + ". Write that part with other operations of torch, or keep it out of the module."
        )


def _converted(value: Any, session_device: device) -> Any:
    """Returns an argument with gradwire's dtypes, devices and constants in place of torch's."""
    if isinstance(value, list | tuple):
        return [_converted(element, session_device) for element in value]
    if isinstance(value, torch.dtype):
        return DTYPES.get(str(value).removeprefix("torch."), value)
    if isinstance(value, torch.device):
        return session_device
    if isinstance(value, torch.memory_format | torch.layout):
        return CONSTANTS.get(str(value).removeprefix("torch."), value)
    return value


def _origin(node: torch.fx.Node) -> str:
    """Returns where in the captured module a node comes from."""
    path = ""
    for inner, _ in node.meta.get("nn_module_stack", {}).values():
        path = inner or path
    path = path.replace("L['self'].", "").removeprefix("module").removeprefix(".")
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    where = f", in {path}" if path else ""
    return f"{where} ({'; '.join(lines[-2:])})" if len(lines) >= 2 else where


def _grid_sample(grid_input: Any, grid: Any, mode: int, padding: int, align: bool) -> Any:
    """The operator takes numbers for its modes, unchecked; the public function takes names."""
    names = {"mode": _GRID_MODES[mode], "padding_mode": _GRID_PADDINGS[padding]}
    return (
        "torch.nn.functional.grid_sample",
        (grid_input, grid),
        {**names, "align_corners": align},
    )


_REPLACED: dict[str, Callable[..., tuple[str, tuple[Any, ...], dict[str, Any]]]] = {
    "aten.grid_sampler.default": _grid_sample,
}
_HIGHER_ORDER: dict[str, Callable[..., None]] = {
    "wrap_with_set_grad_enabled": Lowering._grad_mode,
    "wrap_with_autocast": Lowering._autocast,
}
