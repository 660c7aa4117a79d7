"""Modules, losses and optimizers from their descriptions."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch

from gradwire.v1 import catalog, models_pb2, values_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.programs import Program
from gradwire_server.engine.registry import closest, unknown_name
from gradwire_server.engine.session import Session
from gradwire_server.errors import GradwireError, Reason, invalid

Loss = Callable[..., torch.Tensor]

_CONTAINERS: dict[str, Callable[[dict[str, torch.nn.Module]], torch.nn.Module]] = {
    "torch.nn.Sequential": lambda children: torch.nn.Sequential(OrderedDict(children)),
    "torch.nn.ModuleList": lambda children: torch.nn.ModuleList(children.values()),
    "torch.nn.ModuleDict": torch.nn.ModuleDict,
}
_MODULES = catalog.MODULES | catalog.LOSSES


class ProgramModule(torch.nn.Module):
    """A module whose forward is a program. Prints as torch prints a plain `Module`."""

    def __init__(self) -> None:
        super().__init__()
        self._program: Program | None = None

    def set_program(self, program: Program) -> None:
        """Lets `forward` run a program."""
        self._program = program

    def forward(self, *inputs: Any) -> Any:
        """Runs the program on the inputs."""
        if self._program is None:
            raise NotImplementedError("this module was created without a forward program")
        return self._program.call(*inputs)

    def _get_name(self) -> str:
        return "Module"


def build_module(session: Session, spec: models_pb2.ModuleSpec, path: str) -> torch.nn.Module:
    """Returns the module of a description.

    Submodules are built in the order of the description, so that their initial weights are those of
    a class that constructs them in this order.

    Args:
        session: Where it is to live.
        spec: The description.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: A name is unknown, arguments are refused, or memory would be exceeded.
    """
    if spec.handle:
        held = session.value(spec.handle, f"{path}.handle")
        if not isinstance(held, torch.nn.Module):
            raise invalid(f"{path}.handle", f"handle {spec.handle} is not a module")
        return held
    if not spec.type:
        raise invalid(f"{path}.type", "is empty; give a module class such as torch.nn.Linear")
    if spec.type == "torch.nn.Module":
        return _build_program_module(session, spec, path)
    if spec.tensors or spec.HasField("forward"):
        raise invalid(path, "only torch.nn.Module takes tensors and a forward program")
    if spec.type in _CONTAINERS and not spec.args:
        with operation(spec.type):
            return _CONTAINERS[spec.type](_build_children(session, spec, path))
    if spec.children:
        raise invalid(
            f"{path}.children",
            f"{spec.type} takes none; torch.nn.Module and {', '.join(_CONTAINERS)} do",
        )
    construct = session.registry.constructor(spec.type, f"{path}.type", _MODULES)
    args = [session.decode(value, f"{path}.args[{i}]") for i, value in enumerate(spec.args)]
    kwargs = _decode_map(session, spec.kwargs, f"{path}.kwargs")
    with operation(spec.type):
        module: torch.nn.Module = construct(*args, **kwargs)
    return module


def _build_children(
    session: Session, spec: models_pb2.ModuleSpec, path: str
) -> dict[str, torch.nn.Module]:
    children: dict[str, torch.nn.Module] = {}
    for index, child in enumerate(spec.children):
        where = f"{path}.children[{index}]"
        _require_name(child.name, f"{where}.name")
        if child.name in children:
            raise invalid(f"{where}.name", f"{child.name!r} is there twice")
        children[child.name] = build_module(session, child.module, f"{where}.module")
    return children


def _build_program_module(
    session: Session, spec: models_pb2.ModuleSpec, path: str
) -> ProgramModule:
    if spec.args or spec.kwargs:
        raise invalid(path, "torch.nn.Module takes no arguments")
    module = ProgramModule()
    with operation(spec.type):
        for name, child in _build_children(session, spec, path).items():
            module.add_module(name, child)
    for index, entry in enumerate(spec.tensors):
        where = f"{path}.tensors[{index}]"
        _require_name(entry.name, f"{where}.name")
        tensor = session.decode(entry.value, f"{where}.value")
        if not isinstance(tensor, torch.Tensor):
            raise invalid(f"{where}.value", "is not a tensor")
        with operation(spec.type):
            if entry.buffer:
                module.register_buffer(entry.name, tensor)
            elif isinstance(tensor, torch.nn.Parameter):
                module.register_parameter(entry.name, tensor)
            else:
                module.register_parameter(entry.name, torch.nn.Parameter(tensor.detach()))
    if spec.HasField("forward"):
        # Weak: the program must not keep the module alive that keeps the program alive.
        owner = weakref.ref(module)
        scope = session.scope._replace(member=lambda name: _member(owner(), name))
        program = session.program(spec.forward, f"{path}.forward", scope)
        module.set_program(program)
    return module


def _member(module: torch.nn.Module | None, path: str) -> Any:
    """Returns a submodule, parameter or buffer by dotted path."""
    parts = path.split(".")
    if any(part.startswith("_") or not part for part in parts):
        raise AttributeError(f"{path!r} is not a public member")
    member = attrgetter(path)(module)
    if not isinstance(member, torch.nn.Module | torch.Tensor):
        raise AttributeError(f"{path!r} is neither a submodule nor a parameter nor a buffer")
    return member


def _require_name(name: str, path: str) -> None:
    if not name or "." in name or name.startswith("_"):
        raise invalid(path, f"{name!r} can't be a member's name: not empty, no dot, no leading _")


def build_optimizer(
    session: Session, spec: models_pb2.OptimizerSpec, module: torch.nn.Module, path: str
) -> torch.optim.Optimizer:
    """Returns the optimizer of a description for a module's parameters.

    Raises:
        GradwireError: A name is unknown, or arguments are refused.
    """
    if spec.handle:
        held = session.value(spec.handle, f"{path}.handle")
        if not isinstance(held, torch.optim.Optimizer):
            raise invalid(f"{path}.handle", f"handle {spec.handle} is not an optimizer")
        return held
    construct = session.registry.constructor(spec.type, f"{path}.type", catalog.OPTIMIZERS)
    parameters = dict(module.named_parameters())
    groups: list[Any] = []
    for index, group in enumerate(spec.groups):
        where = f"{path}.groups[{index}]"
        members = [
            named(parameters, name, f"{where}.parameters[{i}]")
            for i, name in enumerate(group.parameters)
        ]
        options = _decode_map(session, group.options, f"{where}.options")
        groups.append({"params": members, **options})
    kwargs = _decode_map(session, spec.kwargs, f"{path}.kwargs")
    with operation(spec.type):
        optimizer: torch.optim.Optimizer = construct(groups or list(parameters.values()), **kwargs)
    return optimizer


def build_loss(session: Session, spec: models_pb2.LossSpec, path: str) -> Loss:
    """Returns the loss of a description: a function of outputs, then targets.

    Raises:
        GradwireError: A name is unknown, or arguments are refused.
    """
    match spec.WhichOneof("kind"):
        case "catalog":
            return _catalog_loss(session, spec.catalog, f"{path}.catalog")
        case "program":
            return session.program(spec.program, f"{path}.program").call
        case "handle":
            held = session.value(spec.handle, f"{path}.handle")
            if not isinstance(held, torch.nn.Module):
                raise invalid(f"{path}.handle", f"handle {spec.handle} is not a loss module")
            return held
        case _:
            raise invalid(path, "has no kind set; give a catalog loss, a program or a handle")


def _catalog_loss(session: Session, spec: models_pb2.CatalogLoss, path: str) -> Loss:
    kwargs = _decode_map(session, spec.kwargs, f"{path}.kwargs")
    if spec.type in catalog.LOSSES:
        with operation(spec.type):
            module: Loss = session.registry.resolve(spec.type, f"{path}.type")(**kwargs)
        return module
    if spec.type not in _LOSS_FUNCTIONS:
        raise unknown_name(spec.type, f"{path}.type", [*catalog.LOSSES, *_LOSS_FUNCTIONS])
    function = session.registry.resolve(spec.type, f"{path}.type")
    return lambda *values: function(*values, **kwargs)


_LOSS_FUNCTIONS = frozenset(
    name
    for name in catalog.FUNCTIONS
    if name.startswith("torch.nn.functional.")
    and (name.endswith(("_loss", ".kl_div")) or "cross_entropy" in name)
)
"""Functions that can be named as a loss."""


def run_loss(loss: Loss, outputs: Sequence[Any], targets: Sequence[Any]) -> torch.Tensor:
    """Returns the loss of outputs and targets."""
    with operation("ComputeLoss"):
        value = loss(*outputs, *targets)
    if not isinstance(value, torch.Tensor):
        raise GradwireError(
            Reason.INVALID_REQUEST, f"the loss is a {type(value).__name__}, not a tensor"
        )
    return value


def named(members: Mapping[str, torch.Tensor], name: str, path: str) -> torch.Tensor:
    """Returns a member by name.

    Raises:
        GradwireError: TENSOR_NOT_FOUND, naming the closest names.
    """
    try:
        return members[name]
    except KeyError:
        raise GradwireError(
            Reason.TENSOR_NOT_FOUND,
            f"{path}: there is no {name!r}{closest(name, members)}",
            metadata={"name": name},
        ) from None


def _decode_map(
    session: Session, values: Mapping[str, values_pb2.Value], path: str
) -> dict[str, Any]:
    return {name: session.decode(value, f"{path}[{name!r}]") for name, value in values.items()}
