"""Modules made of a torch module: its parameters on the server, its forward as captured graphs."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch

from gradwire.calls import RemoteObject, wrap
from gradwire.connection import current_session
from gradwire.errors import CaptureError
from gradwire.exported.capture import Graph, capture
from gradwire.exported.structures import Inputs, Shape, dynamic_dimensions, flatten
from gradwire.exported.values import upload
from gradwire.nn.containers import ModuleDict, ModuleList, Sequential
from gradwire.nn.module import Module
from gradwire.nn.parameter import Parameter
from gradwire.nn.parameter_containers import ParameterDict, ParameterList
from gradwire.recorder.results import Info
from gradwire.session import Session
from gradwire.tensors import Tensor
from gradwire.types import DTYPES
from gradwire.v1 import values_pb2

MANY_GRAPHS = 16
"""After so many captures of one module a warning tells how to need fewer."""

Modes = tuple[bool, ...]


class _Tree:
    """What all modules that were made of one torch module share.

    Attributes:
        session: Where the parameters live.
        dynamic_shapes: As in `from_torch`.
        version: Counts how often a parameter, a buffer or an element type was replaced by another.
        complete: Whether all members are there; from then on they can't be exchanged for others.
    """

    def __init__(self, session: Session, dynamic_shapes: Any) -> None:
        self.session = session
        self.dynamic_shapes = dynamic_shapes
        self.version = 0
        self.complete = False
        self.constants: dict[int, tuple[torch.Tensor, Tensor]] = {}

    def constant(self, tensor: torch.Tensor) -> Tensor:
        """Returns a tensor that is neither parameter nor buffer, the same one each time."""
        known = self.constants.get(id(tensor))
        if known is None:
            known = self.constants[id(tensor)] = (tensor, upload(self.session, tensor))
        return known[1]


class _Bound:
    """A graph in the session, bound to a module's parameters.

    Attributes:
        graph: The graph.
        remote: What stands for its program on the server.
        alive: What the program refers to.
    """

    def __init__(self, graph: Graph, module: "ExportedModule") -> None:
        self.graph = graph
        tree = module._tree
        members = {
            name: tensor
            for table in (module._named_all("_parameters"), module._named_all("_buffers"))
            for name, tensor in table
        }
        members |= {path: tree.constant(each) for path, each in graph.constants.items()}
        tree.session.cut()
        program = values_pb2.Program()
        program.CopyFrom(graph.program)
        self.alive = _bind(program, members)
        self.remote = RemoteObject(tree.session.put_program(program))


def _bind(program: values_pb2.Program, members: dict[str, Tensor]) -> list[Tensor]:
    """Puts handles in place of members; returns what they refer to."""
    alive: list[Tensor] = []

    def bind(value: values_pb2.Value) -> None:
        match value.WhichOneof("kind"):
            case "member":
                tensor = members[value.member]
                if tensor._slot.handle < 0:
                    tensor._slot.raise_failure()
                alive.append(tensor)
                value.handle = tensor._slot.handle
            case "list":
                bind_all(value.list.values)
            case "tuple":
                bind_all(value.tuple.values)

    def bind_all(values: Any) -> None:
        for value in values:
            bind(value)

    for operation in program.operations:
        bind_all(operation.args)
        bind_all(operation.kwargs.values())
    bind_all(program.outputs)
    return alive


class ExportedModule(Module):
    """A module of torch that runs on the server.

    It has the submodules, parameters and buffers of the original under their names. Its forward is
    what `torch.export` captured, and is captured again for inputs that differ in more than what
    the graph leaves open. Submodules can be called, too.
    """

    __gradwire_unsupported__ = (
        "it needs its module of torch. Name its state_dict() and that of its optimizer instead, "
        "and after restore() load them into what from_torch() makes of the module"
    )

    _source: torch.nn.Module
    _tree: _Tree

    def __init__(self, source: torch.nn.Module, tree: _Tree) -> None:
        Module.__init__(self)
        state = self.__dict__
        state["training"] = source.training
        state["_source"] = source
        state["_tree"] = tree
        state["_graphs"] = {}
        state["_bound"] = {}
        state["_version"] = 0
        state["_element"] = None
        state["_non_persistent_buffers_set"] = set(source._non_persistent_buffers_set)

    # ---- running -----------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Records a call of the captured graph for these inputs; captures it if there is none."""
        inputs, tensors, shapes = flatten(args, kwargs)
        bound = self._bound_for(inputs, shapes)
        graph = bound.graph
        session = self._tree.session
        result = session.record("gradwire.call", (bound.remote, *tensors), {})
        count = len(graph.output_sizes)
        if count == 1:
            outputs = [self._output(graph, 0, shapes, wrap(result))]
        else:
            together = RemoteObject(result)
            outputs = [
                self._output(
                    graph,
                    index,
                    shapes,
                    wrap(session.record("gradwire.getitem", (together, index), {})),
                )
                for index in range(count)
            ]
        return graph.outputs.build(outputs)

    @staticmethod
    def _output(graph: Graph, index: int, shapes: Sequence[Shape], tensor: Tensor) -> Any:
        expression = graph.output_sizes[index]
        if expression is None:
            return tensor
        number = graph.sizes.size(expression, shapes)
        return tensor.item() if number is None else number

    def _bound_for(self, inputs: Inputs, shapes: list[Shape]) -> _Bound:
        """Returns the graph for these inputs in the present mode, bound to the parameters."""
        tree = self._tree
        if self._version != tree.version:
            self.__dict__["_version"] = tree.version
            self._bound.clear()
        modes = tuple([module.training for module in self.modules()])
        key = (inputs, modes)
        for bound in self._bound.get(key, ()):
            if bound.graph.sizes.symbols(shapes) is not None:
                found: _Bound = bound
                return found
        bound = _Bound(self._graph_for(inputs, modes, shapes), self)
        self._bound.setdefault(key, []).append(bound)
        return bound

    def _graph_for(self, inputs: Inputs, modes: Modes, shapes: list[Shape]) -> Graph:
        """Returns the graph for these inputs; captures it if there is none yet."""
        modules = list(self.modules())
        key = (inputs, modes, tuple([module._element for module in modules]))
        graphs: list[Graph] = self._graphs.setdefault(key, [])
        for graph in graphs:
            if graph.sizes.symbols(shapes) is not None:
                return graph
        tree = self._tree
        if graphs and tree.dynamic_shapes is not None:
            raise ValueError(
                f"{self._get_name()} was captured for other sizes than {shapes}: dynamic_shapes "
                "of from_torch allows no others. Leave it out, or widen it."
            )
        attempts = dynamic_dimensions(inputs, shapes, self._source.forward, tree.dynamic_shapes)
        with self._source_for(modes) as source:
            graph = capture(source, inputs, shapes, attempts, tree.session.device)
        graphs.append(graph)
        if sum(map(len, self._graphs.values())) == MANY_GRAPHS:
            warnings.warn(
                f"{self._get_name()} has been captured {MANY_GRAPHS} times, each time for inputs "
                f"of another kind; the last ones have the shapes {shapes}. If numbers among them "
                "change from call to call, pass them as tensors; if sizes do, pad them to a few.",
                stacklevel=4,
            )
        return graph

    @contextmanager
    def _source_for(self, modes: Modes) -> Iterator[torch.nn.Module]:
        """Yields the torch module in given modes, with the element types that are in use here."""
        ours = list(self.modules())
        source = self._source
        theirs = list(source.modules())
        if len(ours) != len(theirs) or not all(isinstance(mine, ExportedModule) for mine in ours):
            raise CaptureError(
                f"{self._get_name()} has other submodules than the torch module that it was made "
                "of; change that one and call from_torch again"
            )
        if any(mine._element is not None for mine in ours):
            source = copy.deepcopy(source)
            theirs = list(source.modules())
            for mine, module in zip(ours, theirs, strict=True):
                _convert(module, mine._element)
        before = [module.training for module in theirs]
        try:
            for module, mode in zip(theirs, modes, strict=True):
                module.training = mode
            yield source
        finally:
            for module, mode in zip(theirs, before, strict=True):
                module.training = mode

    def _named_all(self, table: str) -> Iterator[tuple[str, Tensor]]:
        return self._named_members(table, "", True, False)

    # ---- changing ----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        tree = self._tree
        if tree.complete:
            if isinstance(value, Module) or name in self._modules:
                raise TypeError(
                    f"{name} can't be exchanged: what {self._get_name()} does is captured. Change "
                    "the torch module and call from_torch again, or use this module within one of "
                    "your own."
                )
            if name in self._parameters or name in self._buffers:
                tree.version += 1
        super().__setattr__(name, value)

    def _convert(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._convert(method, args, kwargs)
        element = _element_of(args, kwargs)
        if element is not None:
            self.__dict__["_element"] = element
            self._tree.version += 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        tree = memo.get(id(self._tree))
        if tree is None:
            tree = memo[id(self._tree)] = _Tree(self._tree.session, self._tree.dynamic_shapes)
        copied = type(self)(self._source, tree)
        memo[id(self)] = copied
        copied.__dict__["training"] = self.training
        copied.__dict__["_element"] = self._element
        copied.__dict__["_graphs"] = dict(self._graphs)
        for table in ("_parameters", "_buffers", "_modules"):
            copied.__dict__[table] = {
                name: copy.deepcopy(member, memo) for name, member in getattr(self, table).items()
            }
        tree.complete = True
        return copied

    # ---- showing -----------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            source = self.__dict__.get("_source")
            value = None if name.startswith("_") else getattr(source, name, None)
            if value is None or isinstance(value, torch.Tensor | torch.nn.Module):
                raise
            if callable(value):
                raise AttributeError(
                    f"{name} of {type(source).__name__} runs in torch; bring the values back "
                    f"first: gradwire.to_torch(model).{name}"
                ) from None
            return value

    def _get_name(self) -> str:
        return str(self._source._get_name())

    def extra_repr(self) -> str:
        """Returns what torch prints between the parentheses."""
        return str(self._source.extra_repr())

    def __repr__(self) -> str:
        return repr(self._source)


def _convert(module: torch.nn.Module, element: str | None) -> None:
    """Converts the floating point tensors that a module itself owns."""
    if element is None:
        return
    for table in (module._parameters, module._buffers):
        for tensor in table.values():
            if tensor is not None and tensor.is_floating_point():
                tensor.data = tensor.data.to(getattr(torch, element))


def _element_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Returns the element type among the arguments of `to`, by name."""
    for value in (*args, *kwargs.values()):
        for name, element in DTYPES.items():
            if value is element:
                return name
        if isinstance(value, Tensor):
            return str(value.dtype).removeprefix("torch.")
    return None


def export_module(
    source: Any, example_inputs: Any, example_kwargs: dict[str, Any] | None, dynamic_shapes: Any
) -> ExportedModule:
    """As `gradwire.from_torch`."""
    if not isinstance(source, torch.nn.Module):
        raise TypeError(
            f"from_torch takes a torch.nn.Module, not a {type(source).__name__}"
            + ("; call it with an instance" if isinstance(source, type) else "")
        )
    args, kwargs = _arguments(example_inputs, example_kwargs)
    tree = _Tree(current_session(), dynamic_shapes)
    inputs, _, shapes = flatten(args, kwargs)
    module = _build(source, tree, {}, {})
    tree.complete = True
    modes = tuple([each.training for each in module.modules()])
    module._graph_for(inputs, modes, shapes)
    other = (not source.training,) * len(modes)
    try:
        module._graph_for(inputs, other, shapes)
    except CaptureError as error:
        warnings.warn(f"{error} The module can be used in the other mode only.", stacklevel=3)
    tree.session.flush()
    return module


def _arguments(
    inputs: Any, kwargs: dict[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, dict) and kwargs is None:
        return (), inputs
    return inputs if isinstance(inputs, tuple) else (inputs,), dict(kwargs or {})


def _build(
    source: torch.nn.Module,
    tree: _Tree,
    modules: dict[int, ExportedModule],
    tensors: dict[int, Tensor],
) -> ExportedModule:
    """Returns the module for a torch module; what is shared there is shared here."""
    known = modules.get(id(source))
    if known is not None:
        return known
    made = modules[id(source)] = _class_for(source)(source, tree)
    for theirs, ours in (
        (source._parameters, made._parameters),
        (source._buffers, made._buffers),
    ):
        for name, tensor in theirs.items():
            ours[name] = None if tensor is None else _member(tensor, name, tree, tensors)
    for name, child in source._modules.items():
        made._modules[name] = None if child is None else _build(child, tree, modules, tensors)
    return made


def _class_for(source: torch.nn.Module) -> type[ExportedModule]:
    """Returns the class for a torch module: containers can be gone through as ours can."""
    for kind, made in _CONTAINERS.items():
        if isinstance(source, kind):
            return made
    return ExportedModule


_CONTAINERS: dict[type[torch.nn.Module], type[ExportedModule]] = {
    getattr(torch.nn, container.__name__): type(
        f"Exported{container.__name__}",
        (ExportedModule, container),
        {"_new": staticmethod(container), "__doc__": ExportedModule.__doc__},
    )
    for container in (ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential)
}


def _member(tensor: torch.Tensor, name: str, tree: _Tree, tensors: dict[int, Tensor]) -> Tensor:
    known = tensors.get(id(tensor))
    if known is not None:
        return known
    if torch.nn.parameter.is_lazy(tensor):
        raise CaptureError(
            f"the parameter {name} has no shape yet; run the lazy module once in torch first"
        )
    made = upload(tree.session, tensor)
    info = made._slot.info
    if isinstance(tensor, torch.nn.Parameter):
        made = Parameter(made, tensor.requires_grad)
        made._slot.info = Info(
            info.dtype, info.shape, tensor.requires_grad, info.device, "torch.nn.Parameter"
        )
    tensors[id(tensor)] = made
    return made
