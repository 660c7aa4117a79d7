"""Modules from their descriptions."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from gradwire.v1 import catalog, models_pb2, values_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.memory import Measured
from gradwire_server.engine.programs import Program
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import GradwireError, Reason, invalid

_CONTAINERS: dict[str, Callable[[dict[str, torch.nn.Module]], torch.nn.Module]] = {
    "torch.nn.Sequential": lambda children: torch.nn.Sequential(OrderedDict(children)),
    "torch.nn.ModuleList": lambda children: torch.nn.ModuleList(children.values()),
    "torch.nn.ModuleDict": torch.nn.ModuleDict,
}
_MODULES = catalog.MODULES | catalog.LOSSES


@register
class ProgramModule(torch.nn.Module, Measured):
    """A module whose forward is a program. Prints as torch prints a class named `Module`."""

    def __init__(self) -> None:
        super().__init__()
        self._program: Program | None = None

    def set_program(self, program: Program) -> None:
        """Lets `forward` run a program."""
        self._program = program

    @property
    def num_bytes(self) -> int:
        """What the forward program takes."""
        return 0 if self._program is None else self._program.num_bytes

    def forward(self, *inputs: Any) -> Any:
        """Runs the program on the inputs."""
        if self._program is None:
            raise NotImplementedError("this module was described without a forward program")
        if len(inputs) != self._program.num_inputs:
            raise GradwireError(
                Reason.INVALID_REQUEST,
                f"the forward of this module takes {self._program.num_inputs} inputs and got "
                f"{len(inputs)}",
            )
        return self._program.call(*inputs, owner=self)

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
        module: torch.nn.Module = _build_program_module(session, spec, path)
    elif spec.tensors or spec.HasField("forward"):
        raise invalid(path, "only torch.nn.Module takes tensors and a forward program")
    elif spec.type in _CONTAINERS and not (spec.args or spec.kwargs):
        module = _build_container(session, spec, path)
    elif spec.children:
        raise invalid(
            f"{path}.children",
            f"only torch.nn.Module, {', '.join(_CONTAINERS)} take children, and no arguments "
            "beside them",
        )
    else:
        module = _construct(session, spec, path)
    if spec.HasField("init"):
        _run_init(session, spec.init, module, f"{path}.init")
    return module


def _construct(session: Session, spec: models_pb2.ModuleSpec, path: str) -> torch.nn.Module:
    construct = session.registry.constructor(spec.type, f"{path}.type", _MODULES)
    args = [session.decode(value, f"{path}.args[{i}]") for i, value in enumerate(spec.args)]
    kwargs = session.decode_map(spec.kwargs, f"{path}.kwargs")
    with operation(spec.type):
        module: torch.nn.Module = construct(*args, **kwargs)
    return module


def _run_init(
    session: Session, message: values_pb2.Program, module: torch.nn.Module, path: str
) -> None:
    if message.num_inputs:
        raise invalid(f"{path}.num_inputs", f"is {message.num_inputs}; nothing calls it with any")
    program = session.program(message, path, session.scope._replace(member=find_member))
    with torch.no_grad():
        program.call(owner=module)


def _build_container(session: Session, spec: models_pb2.ModuleSpec, path: str) -> torch.nn.Module:
    if spec.type == "torch.nn.ModuleList":
        for index, child in enumerate(spec.children):
            if child.name != str(index):
                raise invalid(
                    f"{path}.children[{index}].name",
                    f"is {child.name!r}; in a ModuleList it is the index, {str(index)!r}",
                )
    children = _build_children(session, spec, path)
    with operation(spec.type):
        return _CONTAINERS[spec.type](children)


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
    children = _build_children(session, spec, path)
    with operation(spec.type):
        for name, child in children.items():
            module.add_module(name, child)
    for index, entry in enumerate(spec.tensors):
        _add_tensor(session, module, entry, f"{path}.tensors[{index}]")
    if spec.HasField("forward"):
        scope = session.scope._replace(member=find_member)
        module.set_program(session.program(spec.forward, f"{path}.forward", scope))
    return module


def _add_tensor(
    session: Session, module: ProgramModule, entry: models_pb2.ModuleTensor, path: str
) -> None:
    _require_name(entry.name, f"{path}.name")
    tensor = session.decode(entry.value, f"{path}.value")
    if not isinstance(tensor, torch.Tensor):
        raise invalid(f"{path}.value", "is not a tensor")
    with operation("torch.nn.Module"):
        if entry.buffer:
            module.register_buffer(entry.name, tensor)
        elif isinstance(tensor, torch.nn.Parameter):
            module.register_parameter(entry.name, tensor)
        else:
            trainable = tensor.is_floating_point() or tensor.is_complex()
            parameter = torch.nn.Parameter(tensor.detach(), requires_grad=trainable)
            module.register_parameter(entry.name, parameter)


def find_member(module: torch.nn.Module, path: str) -> torch.nn.Module | torch.Tensor:
    """Returns a submodule, parameter or buffer by dotted path."""
    parent_path, _, name = path.rpartition(".")
    parent = module.get_submodule(parent_path)
    for members in (parent._modules, parent._parameters, parent._buffers):
        member = members.get(name)
        if member is not None:
            return member
    if not name.startswith("_"):
        # A parametrized weight is a property.
        member = getattr(parent, name, None)
        if isinstance(member, torch.nn.Module | torch.Tensor):
            return member
    raise AttributeError(f"{path!r} is neither a submodule nor a parameter nor a buffer")


def _require_name(name: str, path: str) -> None:
    if not name or "." in name:
        raise invalid(path, f"{name!r} can't be a member's name: not empty, and without a dot")
