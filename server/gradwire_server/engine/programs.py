"""Programs, decoded once into ready-made calls.

A program runs on a flat list of registers: its inputs, then one register for each constant, each
operation's result and each container that an argument builds. An instruction is a callable and
the registers its arguments are in, so a repeated run does no decoding, no lookup and no branching.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import torch

from gradwire.v1 import catalog, values_pb2
from gradwire_server.engine.failures import operation_failure
from gradwire_server.engine.memory import Measured
from gradwire_server.engine.registry import Registry
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.values import decode_value
from gradwire_server.errors import GradwireError, Reason, invalid

MAX_WANTED = 64
"""For how many different sets of wanted results a program keeps its instructions ready."""

_REGISTER_BYTES = 512
"""About what an operation or a constant takes once it is decoded."""

Arguments = Callable[[list[Any]], tuple[Any, ...]]
Code = list[tuple[int, Callable[..., Any], Arguments, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class _Register:
    """An argument that is known only when the program runs."""

    index: int


class _Instruction(NamedTuple):
    target: int
    call: Callable[..., Any]
    arguments: Arguments
    reads: tuple[int, ...]
    operation: int


class ProgramContext(Protocol):
    """What a program needs to be rebuilt: see `Scope`."""

    registry: Registry
    device: torch.device
    member: Callable[[torch.nn.Module, str], Any]
    max_operations: int


class OperationError(Exception):
    """An operation of a program failed.

    Attributes:
        operation: Its index in the program.
        error: Why, for the caller.
        results: The wanted results of the operations before it, by operation index.
    """

    def __init__(self, operation: int, error: GradwireError, results: dict[int, Any]) -> None:
        super().__init__(str(error))
        self.operation = operation
        self.error = error
        self.results = results


class Scope(NamedTuple):
    """What the references in a program stand for.

    Attributes:
        registry: Looks operations up.
        handle: Returns the session value of a handle; the second argument is the field's path.
        device: Where tensors by value go.
        member: Returns a submodule, parameter or buffer of a module by dotted path; None for
            programs that are no module's forward.
    """

    registry: Registry
    handle: Callable[[int, str], Any]
    device: torch.device
    member: Callable[[torch.nn.Module, str], Any] | None = None


_STEPS = frozenset({"torch.optim.Optimizer.step", "gradwire.begin_step"})
"""The operations that take a training step."""

TENSOR_OPERATIONS = frozenset(
    (
        *(catalog.FUNCTIONS.keys() | catalog.METHODS.keys() | catalog.PROPERTIES.keys()),
        *(catalog.ATEN.keys() | catalog.ARITHMETIC.keys()),
        *("gradwire.call", "gradwire.getitem", "gradwire.repr", "gradwire.describe"),
    )
) - {
    *("torch.autograd.backward", "torch.autograd.grad", "torch.Tensor.backward"),
    *("torch.manual_seed", "torch.seed", "torch.set_rng_state", "torch.Tensor.requires_grad_"),
}
"""The operations that change at most what is in tensors."""

STEP_OPERATIONS = TENSOR_OPERATIONS | {
    *("gradwire.enter", "gradwire.exit", "gradwire.getattr", "torch.autocast"),
    *("torch.no_grad", "torch.enable_grad", "torch.set_grad_enabled"),
    *("torch.Tensor.backward", "torch.nn.Module.zero_grad"),
    *("torch.optim.Optimizer.step", "torch.optim.Optimizer.zero_grad"),
}
"""What the steps of ordinary loops consist of: these change tensors and gradients at most."""


@register
class Program(Measured):
    """A decoded program. It does not change, so copies of what holds it share it.

    Args:
        message: The wire form.
        scope: What its references stand for. Handles are bound now, members at each call.
        path: The request field it came in, for errors.
        max_operations: The most operations it may have.

    Attributes:
        num_inputs: How many inputs it takes.
        num_steps: How many training steps it takes.
        only_tensors: Whether it changes tensors and gradients at most.
        prepared: What runs it faster, by wanted results; whoever does that keeps it here.

    Raises:
        GradwireError: It is malformed, too long, or names an unknown operation.
    """

    def __init__(
        self, message: values_pb2.Program, scope: Scope, *, path: str, max_operations: int
    ) -> None:
        for what, count in (
            ("operations", len(message.operations)),
            ("inputs", message.num_inputs),
        ):
            if count > max_operations:
                raise GradwireError(
                    Reason.LIMIT_EXCEEDED,
                    f"{path} has {count} {what}; max_program_operations allows "
                    f"{max_operations}. Split it.",
                    metadata={
                        "limit": "max_program_operations",
                        "limit_value": str(max_operations),
                    },
                )
        self.num_inputs = message.num_inputs
        self._message = message
        self._message_bytes = message.ByteSize()
        self._bound: dict[int, Any] = {}
        self.num_steps = sum(operation.name in _STEPS for operation in message.operations)
        self.only_tensors = all(op.name in STEP_OPERATIONS for op in message.operations)
        self.prepared: dict[tuple[int, ...], Any] = {}
        self._scope = scope
        self._names = [operation.name for operation in message.operations]
        self._template: list[Any] = [None] * message.num_inputs
        self._owner = self._new_register(None).index
        self._instructions: list[_Instruction] = []
        self._results: list[int] = []
        for index, operation in enumerate(message.operations):
            try:
                self._add(operation, f"{path}.operations[{index}]")
            except GradwireError as error:
                error.metadata.setdefault("operation_index", str(index))
                raise
        self._outputs = [
            self._place(self._operand(value, f"{path}.outputs[{index}]"))
            for index, value in enumerate(message.outputs)
        ]
        self._code: dict[tuple[int, ...], Code] = {}
        self._variants = self._decode_variants(message, path, max_operations)

    @property
    def num_bytes(self) -> int:
        """About how many bytes it takes, the tensors that it holds by value included."""
        return self._message_bytes + _REGISTER_BYTES * len(self._template)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Program":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Returns the wire form, and the values that its handles were bound to."""
        return {
            "message": self._message.SerializeToString(),
            "bound": self._bound,
            "in_module": self._scope.member is not None,
        }

    @staticmethod
    def rebuild_state(state: dict[str, Any], context: "ProgramContext") -> "Program":
        """Returns the program of a state."""
        bound: dict[int, Any] = state["bound"]
        return Program(
            values_pb2.Program.FromString(state["message"]),
            Scope(
                context.registry,
                lambda handle, _: bound[handle],
                context.device,
                context.member if state["in_module"] else None,
            ),
            path="program",
            max_operations=context.max_operations,
        )

    def run(self, inputs: Sequence[Any], wanted: tuple[int, ...]) -> list[Any]:
        """Runs the operations in order and returns the results of those whose index is wanted.

        Raises:
            OperationError: An operation failed; the ones before it took effect.
            GradwireError: Another number of inputs than the program takes, or no such result.
        """
        return self.results(self._run(inputs, wanted), wanted)

    def call(self, *inputs: Any, owner: torch.nn.Module | None = None) -> Any:
        """Runs the program as a function: returns its output, or the tuple of its outputs.

        Args:
            inputs: Its inputs.
            owner: The module whose forward it is; `member` refers to its members.

        Raises:
            GradwireError: Another number of inputs than the program takes, or an operation failed.
        """
        if self._variants:
            fitting = self._fitting(inputs, owner)
            if fitting is not self:
                return fitting.call(*inputs, owner=owner)
        try:
            registers = self._run(inputs, (), owner)
        except OperationError as failure:
            failure.error.metadata.setdefault("operation_index", str(failure.operation))
            raise failure.error from failure.__cause__
        outputs = [registers[index] for index in self._outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _run(
        self,
        inputs: Sequence[Any],
        wanted: tuple[int, ...],
        owner: torch.nn.Module | None = None,
    ) -> list[Any]:
        if len(inputs) != self.num_inputs:
            raise GradwireError(
                Reason.INVALID_REQUEST,
                f"the program takes {self.num_inputs} inputs and got {len(inputs)}",
            )
        registers = self.registers(inputs)
        registers[self._owner] = owner
        self.execute(self.code(wanted), registers, wanted)
        return registers

    def code(self, wanted: tuple[int, ...]) -> Code:
        """Returns the instructions for a set of wanted results."""
        code = self._code.get(wanted)
        return self._instructions_for(wanted) if code is None else code

    @property
    def names(self) -> list[str]:
        """The operation of each instruction by name; empty for those that build arguments."""
        calls = {target: index for index, target in enumerate(self._results)}
        return [
            self._names[calls[instruction.target]] if instruction.target in calls else ""
            for instruction in self._instructions
        ]

    def reads(self, begin: int, end: int) -> set[int]:
        """Returns the registers that some of the instructions read, those they set included."""
        return {register for i in self._instructions[begin:end] for register in i.reads}

    @property
    def constants(self) -> list[Any]:
        """What it works on beside its inputs."""
        return [value for value in self._template if value is not None]

    def registers(self, inputs: Sequence[Any]) -> list[Any]:
        """Returns registers with the inputs."""
        registers = self._template.copy()
        registers[: self.num_inputs] = inputs
        return registers

    def results(self, registers: list[Any], wanted: tuple[int, ...]) -> list[Any]:
        """Returns the wanted results, which are in registers."""
        results = self._results
        return [registers[results[index]] for index in wanted]

    def execute(self, code: Code, registers: list[Any], wanted: tuple[int, ...]) -> None:
        """Runs some of the instructions.

        Raises:
            OperationError: An operation failed; the ones before it took effect.
        """
        target = -1
        try:
            for target, call, arguments, dead in code:
                registers[target] = call(*arguments(registers))
                for index in dead:
                    registers[index] = None
        except Exception as error:  # whatever torch raises is the caller's to see
            raise self._failure(error, target, registers, wanted) from error

    def _instructions_for(self, wanted: tuple[int, ...]) -> Code:
        """Returns the instructions, each with the registers that nobody reads after it."""
        if wanted and max(wanted) >= len(self._results):
            raise invalid(
                "run_program",
                f"asks for the result of operation {max(wanted)}, but there are only "
                f"{len(self._results)}, counted from 0",
            )
        alive = {self._results[index] for index in wanted} | set(self._outputs)
        code: Code = []
        for instruction in reversed(self._instructions):
            dead = tuple({instruction.target, *instruction.reads} - alive)
            alive.update(dead)
            code.append((instruction.target, instruction.call, instruction.arguments, dead))
        code.reverse()
        if len(self._code) >= MAX_WANTED:
            self._code.clear()
        self._code[wanted] = code
        return code

    def _decode_variants(
        self, message: values_pb2.Program, path: str, max_operations: int
    ) -> "dict[tuple[int | None, bool | None], Program]":
        variants: dict[tuple[int | None, bool | None], Program] = {}
        for index, variant in enumerate(message.variants):
            where = f"{path}.variants[{index}]"
            if variant.program.variants:
                raise invalid(f"{where}.program", "has variants; a variant has none itself")
            if variant.program.num_inputs != self.num_inputs:
                raise invalid(
                    f"{where}.program.num_inputs",
                    f"is {variant.program.num_inputs}, but the program's is {self.num_inputs}",
                )
            key = (
                variant.size if variant.HasField("size") else None,
                variant.training if variant.HasField("training") else None,
            )
            variants[key] = Program(
                variant.program, self._scope, path=f"{where}.program", max_operations=max_operations
            )
            self._bound |= variants[key]._bound
        return variants

    def _fitting(self, inputs: Sequence[Any], owner: torch.nn.Module | None) -> "Program":
        """Returns the variant that fits a call best, or the program itself."""
        first = next((value for value in inputs if isinstance(value, torch.Tensor)), None)
        size = len(first) if first is not None and first.dim() else None
        training = None if owner is None else owner.training
        for key in ((size, training), (size, None), (None, training)):
            variant = self._variants.get(key)
            if variant is not None:
                return variant
        return self

    def _failure(
        self, error: Exception, target: int, registers: list[Any], wanted: tuple[int, ...]
    ) -> OperationError:
        failed = next(i.operation for i in self._instructions if i.target == target)
        name = self._names[failed] if failed < len(self._names) else "outputs"
        results = {i: registers[self._results[i]] for i in wanted if i < failed}
        return OperationError(failed, operation_failure(error, name), results)

    def _add(self, operation: values_pb2.Operation, path: str) -> None:
        call = self._scope.registry.resolve(operation.name, f"{path}.name")
        operands = [
            self._operand(value, f"{path}.args[{index}]")
            for index, value in enumerate(operation.args)
        ]
        constants: dict[str, Any] = {}
        names: list[str] = []
        for name, value in operation.kwargs.items():
            operand = self._operand(value, f"{path}.kwargs[{name!r}]")
            if isinstance(operand, _Register):
                names.append(name)
                operands.append(operand)
            else:
                constants[name] = operand
        if constants:
            call = partial(call, **constants)
        if names:
            call = _with_keywords(call, tuple(names))
        self._results.append(self._emit(call, operands).index)

    def _operand(self, value: values_pb2.Value, path: str) -> Any:
        """Returns the constant that a wire value is, or the register it will be in."""
        return self._build(decode_value(value, path, self._reference, self._scope.device))

    def _reference(self, value: values_pb2.Value, path: str) -> Any:
        match value.WhichOneof("kind"):
            case "input":
                if value.input >= self.num_inputs:
                    raise invalid(path, f"input {value.input} of {self.num_inputs} inputs")
                return _Register(value.input)
            case "result":
                if value.result >= len(self._results):
                    raise invalid(
                        path,
                        f"result {value.result} is not of an earlier operation; there are "
                        f"{len(self._results)} before this one",
                    )
                return _Register(self._results[value.result])
            case "member":
                member = self._scope.member
                if member is None:
                    raise invalid(path, "member is allowed only in the forward of a module")
                return self._emit(partial(_member, member, value.member), [_Register(self._owner)])
            case "function":
                return self._scope.registry.function(value.function, f"{path}.function")
            case _:
                bound = self._bound[value.handle] = self._scope.handle(value.handle, path)
                return bound

    def _build(self, value: Any) -> Any:
        """Emits what makes a container anew at each run; returns anything else as it is."""
        if isinstance(value, _Register):
            return value
        if isinstance(value, list):
            return self._emit(_make_list, [self._build(element) for element in value])
        if isinstance(value, dict):
            elements = [self._build(element) for element in value.values()]
            return self._emit(partial(_make_dict, tuple(value)), elements)
        if isinstance(value, slice):
            bounds = [self._build(bound) for bound in (value.start, value.stop, value.step)]
            if not any(isinstance(bound, _Register) for bound in bounds):
                return value
            return self._emit(slice, bounds)
        if type(value) is tuple:
            elements = [self._build(element) for element in value]
            if not any(isinstance(element, _Register) for element in elements):
                return value
            return self._emit(_make_tuple, elements)
        return value

    def _emit(self, call: Callable[..., Any], operands: list[Any]) -> _Register:
        reads = tuple(self._place(operand) for operand in operands)
        target = self._new_register(None).index
        used = tuple(operand.index for operand in operands if isinstance(operand, _Register))
        self._instructions.append(
            _Instruction(target, call, _getter(reads), used, len(self._results))
        )
        return _Register(target)

    def _place(self, operand: Any) -> int:
        return (operand if isinstance(operand, _Register) else self._new_register(operand)).index

    def _new_register(self, content: Any) -> _Register:
        self._template.append(content)
        return _Register(len(self._template) - 1)


def _member(
    member: Callable[[torch.nn.Module, str], Any], path: str, owner: torch.nn.Module
) -> Any:
    return member(owner, path)


def _getter(indices: tuple[int, ...]) -> Arguments:
    """Returns what picks the arguments of a call out of the registers."""
    if not indices:
        return lambda _: ()
    if len(indices) == 1:
        (index,) = indices
        return lambda registers: (registers[index],)
    return itemgetter(*indices)


def _with_keywords(call: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """Returns `call` with its last positional arguments passed under `names`."""
    count = len(names)

    def with_keywords(*args: Any) -> Any:
        return call(*args[:-count], **dict(zip(names, args[-count:], strict=True)))

    return with_keywords


def _make_list(*elements: Any) -> list[Any]:
    return list(elements)


def _make_tuple(*elements: Any) -> tuple[Any, ...]:
    return elements


def _make_dict(keys: tuple[str, ...], *elements: Any) -> dict[str, Any]:
    return dict(zip(keys, elements, strict=True))
