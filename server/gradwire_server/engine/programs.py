"""Programs of a session."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch

from gradwire.v1 import values_pb2
from gradwire_server.engine.decoding import Code, Decoded, Scope
from gradwire_server.engine.failures import operation_failure
from gradwire_server.engine.memory import Measured
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import GradwireError

NO_OTHERS: Mapping[int, Any] = MappingProxyType({})


class ProgramContext(Protocol):
    """What a program needs to be rebuilt: see `Scope`."""

    scope: Scope
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


@register
class Program(Measured):
    """A program of a session. It does not change, so copies of what holds it share it.

    Args:
        message: The wire form.
        scope: What its references stand for. Handles are bound now, members at each call.
        path: The request field it came in, for errors.
        max_operations: The most operations it may have.

    Attributes:
        num_inputs: How many inputs it takes.
        num_steps: How many training steps it takes.
        num_backwards: How many losses it calls `backward` of.
        only_tensors: Whether it changes tensors and gradients at most.
        only_options: Whether it changes these and options of optimizers at most.
        prepared: What runs it faster, by wanted results; whoever does that keeps it here.

    Raises:
        GradwireError: It is malformed, too long, or names an unknown operation.
    """

    __slots__ = ("_decoded", "_in_module", "_subjects", "prepared")

    def __init__(
        self, message: values_pb2.Program, scope: Scope, *, path: str, max_operations: int
    ) -> None:
        self._decoded = scope.known.decode(message, scope, path=path, max_operations=max_operations)
        self._subjects = scope.registry.subjects
        self._in_module = scope.member is not None
        self.prepared: dict[tuple[int, ...], Any] = {}

    @property
    def num_inputs(self) -> int:
        """How many inputs it takes."""
        return self._decoded.num_inputs

    @property
    def num_steps(self) -> int:
        """How many training steps it takes."""
        return self._decoded.num_steps

    @property
    def num_backwards(self) -> int:
        """How many losses it calls `backward` of."""
        return self._decoded.num_backwards

    @property
    def only_tensors(self) -> bool:
        """Whether it changes tensors and gradients at most."""
        return self._decoded.only_tensors

    @property
    def only_options(self) -> bool:
        """Whether it changes tensors, gradients and options of optimizers at most."""
        return self._decoded.only_options

    @property
    def num_bytes(self) -> int:
        """About how many bytes it takes, as if no other session shared it."""
        return self._decoded.num_bytes

    def __deepcopy__(self, memo: dict[int, Any]) -> "Program":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Returns the wire form, and the values that its handles were bound to."""
        return {
            "message": self._decoded.wire,
            "bound": self._decoded.bound,
            "in_module": self._in_module,
        }

    @staticmethod
    def rebuild_state(state: dict[str, Any], context: "ProgramContext") -> "Program":
        """Returns the program of a state."""
        bound: dict[int, Any] = state["bound"]
        return Program(
            values_pb2.Program.FromString(state["message"]),
            context.scope._replace(
                handle=lambda handle, _: bound[handle],
                member=context.member if state["in_module"] else None,
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
        decoded = self._decoded
        registers = decoded.registers(inputs, None, self._subjects)
        _execute(decoded, decoded.code(wanted), registers, wanted)
        return self.results(registers, wanted)

    def call(self, *inputs: Any, owner: torch.nn.Module | None = None) -> Any:
        """Runs the program as a function: returns its output, or the tuple of its outputs.

        Args:
            inputs: Its inputs.
            owner: The module whose forward it is; `member` refers to its members.

        Raises:
            GradwireError: Another number of inputs than the program takes, or an operation failed.
        """
        decoded = self._decoded
        if decoded.variants:
            decoded = decoded.variant(inputs, owner)
        registers = decoded.registers(inputs, owner, self._subjects)
        try:
            _execute(decoded, decoded.code(()), registers, ())
        except OperationError as failure:
            failure.error.metadata.setdefault("operation_index", str(failure.operation))
            raise failure.error from failure.__cause__
        outputs = [registers[index] for index in decoded.outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def code(self, wanted: tuple[int, ...]) -> Code:
        """Returns the instructions for a set of wanted results."""
        return self._decoded.code(wanted)

    @property
    def names(self) -> list[str]:
        """The operation of each instruction by name; empty for those that build arguments."""
        return self._decoded.names_of_instructions

    def reads(self, begin: int, end: int) -> set[int]:
        """Returns the registers that some of the instructions read, those they set included."""
        return {register for i in self._decoded.instructions[begin:end] for register in i.reads}

    @property
    def constants(self) -> list[Any]:
        """What it works on beside its inputs."""
        return [value for value in self._decoded.template if value is not None]

    def registers(self, inputs: Sequence[Any]) -> list[Any]:
        """Returns registers with the inputs.

        Raises:
            GradwireError: It takes another number of inputs.
        """
        return self._decoded.registers(inputs, None, self._subjects)

    def target(self, operation: int) -> int:
        """Returns the register that an operation's result is in."""
        return self._decoded.results[operation]

    def results(
        self, registers: list[Any], wanted: tuple[int, ...], others: Mapping[int, Any] = NO_OTHERS
    ) -> list[Any]:
        """Returns the wanted results, which are in registers, or for some of those in `others`."""
        results = self._decoded.results
        if not others:
            return [registers[results[index]] for index in wanted]
        return [
            others[target] if target in others else registers[target]
            for target in (results[index] for index in wanted)
        ]

    def execute(self, code: Code, registers: list[Any], wanted: tuple[int, ...]) -> None:
        """Runs some of the instructions.

        Raises:
            OperationError: An operation failed; the ones before it took effect.
        """
        _execute(self._decoded, code, registers, wanted)


def _execute(decoded: Decoded, code: Code, registers: list[Any], wanted: tuple[int, ...]) -> None:
    target = -1
    try:
        for target, call, arguments, dead in code:
            registers[target] = call(*arguments(registers))
            for index in dead:
                registers[index] = None
    except Exception as error:  # whatever torch raises is the caller's to see
        raise _failure(decoded, error, target, registers, wanted) from error


def _failure(
    decoded: Decoded,
    error: Exception,
    target: int,
    registers: list[Any],
    wanted: tuple[int, ...],
) -> OperationError:
    failed = next(i.operation for i in decoded.instructions if i.target == target)
    name = decoded.names[failed] if failed < len(decoded.names) else "outputs"
    results = {i: registers[decoded.results[i]] for i in wanted if i < failed}
    return OperationError(failed, operation_failure(error, name), results)
