"""Programs, decoded once into ready-made calls.

A program runs on a flat list of registers: its inputs, the module whose forward it is, what of the
session its operations work on, then one register for each constant, each operation's result and
each container that an argument builds. An instruction is a callable and the registers its arguments
are in, so a repeated run does no decoding, no lookup and no branching.

What is decoded belongs to no session as long as it refers to none: sessions of a tenant that put
the same program share it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch

from gradwire.v1 import values_pb2
from gradwire_server.engine.effects import OPTION_OPERATIONS, STEP_OPERATIONS, STEPS
from gradwire_server.engine.registry import Registry, Subjects
from gradwire_server.engine.values import decode_value
from gradwire_server.errors import GradwireError, Reason, invalid

MAX_WANTED = 64
"""For how many different sets of wanted results a program keeps its instructions ready."""

_REGISTER_BYTES = 512
"""About what an operation or a constant takes once it is decoded."""

_FIRST_SUBJECT = 1
"""Where the subjects of a session are, counted from after the inputs; before them is the owner."""
_NUM_GIVEN = _FIRST_SUBJECT + len(Subjects._fields)
"""How many registers come between inputs and constants."""

Arguments = Callable[[list[Any]], tuple[Any, ...]]
Code = list[tuple[int, Callable[..., Any], Arguments, tuple[int, ...]]]
VariantKey = tuple[int | None, bool | None]
"""The size of the first input and the mode that a variant is for; None for any."""


@dataclass(frozen=True, slots=True)
class _Register:
    """An argument that is known only when the program runs."""

    index: int


class Instruction(NamedTuple):
    """A call, its arguments and the register of its result."""

    target: int
    call: Callable[..., Any]
    arguments: Arguments
    reads: tuple[int, ...]
    operation: int


class Scope(NamedTuple):
    """What the references in a program stand for.

    Attributes:
        registry: Looks operations up.
        handle: Returns the session value of a handle; the second argument is the field's path.
        device: Where tensors by value go.
        known: The programs that were decoded before.
        member: Returns a submodule, parameter or buffer of a module by dotted path; None for
            programs that are no module's forward.
    """

    registry: Registry
    handle: Callable[[int, str], Any]
    device: torch.device
    known: "KnownPrograms"
    member: Callable[[torch.nn.Module, str], Any] | None = None


class Decoded:
    """What a program is decoded into.

    Args:
        message: The wire form.
        scope: What its references stand for. Handles are bound now, members at each call.
        path: The request field it came in, for errors.
        max_operations: The most operations it may have.
        wire: The wire form, serialized, if anybody is to ask for it.

    Attributes:
        num_inputs: How many inputs it takes.
        num_steps: How many training steps it takes.
        num_backwards: How many losses it calls `backward` of.
        num_bytes: About how many bytes it takes, the tensors that it holds by value included.
        only_tensors: Whether it changes tensors and gradients at most.
        only_options: Whether it changes these and options of optimizers at most.
        is_shareable: Whether it is the same for all sessions: it refers to no values of one, and
            has no tensors of its own, which an operation could change.
        bound: The values that its handles were bound to.
        names: The operations by name.
        template: The registers after those that are given at each run.
        results: In which register the result of each operation is.
        outputs: In which registers the outputs are.
        variants: What runs in its place, by what it is for.
        wire: The wire form, serialized.

    Raises:
        GradwireError: It is malformed, too long, or names an unknown operation.
    """

    def __init__(
        self,
        message: values_pb2.Program,
        scope: Scope,
        *,
        path: str,
        max_operations: int,
        wire: bytes = b"",
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
        self.wire = wire
        self.num_inputs = message.num_inputs
        self.num_steps = sum(operation.name in STEPS for operation in message.operations)
        self.num_backwards = sum(op.name == "torch.Tensor.backward" for op in message.operations)
        self.only_tensors = all(op.name in STEP_OPERATIONS for op in message.operations)
        self.only_options = all(op.name in OPTION_OPERATIONS for op in message.operations)
        self.is_shareable = True
        self.bound: dict[int, Any] = {}
        self.names = [operation.name for operation in message.operations]
        self.template: list[Any] = []
        self.instructions: list[Instruction] = []
        self.results: list[int] = []
        self._scope = scope
        for index, operation in enumerate(message.operations):
            try:
                self._add(operation, f"{path}.operations[{index}]")
            except GradwireError as error:
                error.metadata.setdefault("operation_index", str(index))
                raise
        self.outputs = [
            self._place(self._operand(value, f"{path}.outputs[{index}]"))
            for index, value in enumerate(message.outputs)
        ]
        self.num_bytes = message.ByteSize() + _REGISTER_BYTES * len(self.template)
        self.variants = self._decode_variants(message, path, max_operations)
        self._code: dict[tuple[int, ...], Code] = {}
        # The session that brought it may end before it does.
        del self._scope

    def code(self, wanted: tuple[int, ...]) -> Code:
        """Returns the instructions for a set of wanted results."""
        code = self._code.get(wanted)
        return self._instructions_for(wanted) if code is None else code

    @property
    def names_of_instructions(self) -> list[str]:
        """The operation of each instruction by name; empty for those that build arguments."""
        calls = {target: index for index, target in enumerate(self.results)}
        return [
            self.names[calls[instruction.target]] if instruction.target in calls else ""
            for instruction in self.instructions
        ]

    def registers(
        self, inputs: Sequence[Any], owner: torch.nn.Module | None, subjects: Subjects
    ) -> list[Any]:
        """Returns the registers as they are before the first instruction.

        Args:
            inputs: The inputs.
            owner: The module whose forward it is, if it is one's.
            subjects: What its operations work on.

        Raises:
            GradwireError: It takes another number of inputs.
        """
        if len(inputs) != self.num_inputs:
            raise GradwireError(
                Reason.INVALID_REQUEST,
                f"the program takes {self.num_inputs} inputs and got {len(inputs)}",
            )
        return [*inputs, owner, *subjects, *self.template]

    def variant(self, inputs: Sequence[Any], owner: torch.nn.Module | None) -> "Decoded":
        """Returns the variant that fits a call best, or the program itself."""
        first = next((value for value in inputs if isinstance(value, torch.Tensor)), None)
        size = len(first) if first is not None and first.dim() else None
        training = None if owner is None else owner.training
        for key in ((size, training), (size, None), (None, training)):
            variant = self.variants.get(key)
            if variant is not None:
                return variant
        return self

    def _instructions_for(self, wanted: tuple[int, ...]) -> Code:
        """Returns the instructions, each with the registers that nobody reads after it."""
        if wanted and max(wanted) >= len(self.results):
            raise invalid(
                "run_program",
                f"asks for the result of operation {max(wanted)}, but there are only "
                f"{len(self.results)}, counted from 0",
            )
        alive = {self.results[index] for index in wanted} | set(self.outputs)
        code: Code = []
        for instruction in reversed(self.instructions):
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
    ) -> "dict[VariantKey, Decoded]":
        variants: dict[VariantKey, Decoded] = {}
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
            variants[key] = Decoded(
                variant.program, self._scope, path=f"{where}.program", max_operations=max_operations
            )
            self.bound |= variants[key].bound
            self.is_shareable &= variants[key].is_shareable
        return variants

    def _add(self, operation: values_pb2.Operation, path: str) -> None:
        call, subject = self._scope.registry.operation(operation.name, f"{path}.name")
        operands = (
            [] if subject is None else [_Register(self.num_inputs + _FIRST_SUBJECT + subject)]
        )
        operands += [
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
        self.results.append(self._emit(call, operands).index)

    def _operand(self, value: values_pb2.Value, path: str) -> Any:
        """Returns the constant that a wire value is, or the register it will be in."""
        self.is_shareable = self.is_shareable and not _has_tensors(value)
        return self._build(decode_value(value, path, self._reference, self._scope.device))

    def _reference(self, value: values_pb2.Value, path: str) -> Any:
        match value.WhichOneof("kind"):
            case "input":
                if value.input >= self.num_inputs:
                    raise invalid(path, f"input {value.input} of {self.num_inputs} inputs")
                return _Register(value.input)
            case "result":
                if value.result >= len(self.results):
                    raise invalid(
                        path,
                        f"result {value.result} is not of an earlier operation; there are "
                        f"{len(self.results)} before this one",
                    )
                return _Register(self.results[value.result])
            case "member":
                member = self._scope.member
                if member is None:
                    raise invalid(path, "member is allowed only in the forward of a module")
                return self._emit(
                    partial(_member, member, value.member), [_Register(self.num_inputs)]
                )
            case "function":
                self.is_shareable = False
                return self._scope.registry.function(value.function, f"{path}.function")
            case _:
                self.is_shareable = False
                bound = self.bound[value.handle] = self._scope.handle(value.handle, path)
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
        self.instructions.append(Instruction(target, call, _getter(reads), used, len(self.results)))
        return _Register(target)

    def _place(self, operand: Any) -> int:
        return (operand if isinstance(operand, _Register) else self._new_register(operand)).index

    def _new_register(self, content: Any) -> _Register:
        self.template.append(content)
        return _Register(self.num_inputs + _NUM_GIVEN + len(self.template) - 1)


class KnownPrograms:
    """The programs of a tenant's sessions on a worker, decoded, as long as one of them holds it."""

    def __init__(self) -> None:
        self._by_form: WeakValueDictionary[tuple[Any, bytes], Decoded] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._by_form)

    def decode(
        self, message: values_pb2.Program, scope: Scope, *, path: str, max_operations: int
    ) -> Decoded:
        """Decodes a program, unless an equal one is there; see `Decoded`."""
        wire = message.SerializeToString(deterministic=True)
        form = (scope.member, wire)
        known = self._by_form.get(form)
        if known is not None:
            return known
        decoded = Decoded(message, scope, path=path, max_operations=max_operations, wire=wire)
        if decoded.is_shareable:
            self._by_form[form] = decoded
        return decoded


def _has_tensors(value: values_pb2.Value) -> bool:
    """Returns whether a value is a tensor or holds one."""
    match value.WhichOneof("kind"):
        case "tensor":
            return True
        case "list":
            return any(map(_has_tensors, value.list.values))
        case "tuple":
            return any(map(_has_tensors, value.tuple.values))
        case "dict":
            return any(_has_tensors(entry.value) for entry in value.dict.entries)
        case "slice":
            bounds = value.slice
            return any(map(_has_tensors, (bounds.start, bounds.stop, bounds.step)))
        case _:
            return False


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
