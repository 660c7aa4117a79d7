"""Traces: what a function over tensors does, as a program that the server can run again."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradwire.recorder.keys import INPUTS, RESULTS, Atom, Key, OperationKey, encode, program_message
from gradwire.recorder.slots import FAILED, PENDING, Remote, Slot, remote_of
from gradwire.types import Size
from gradwire.v1 import values_pb2

if TYPE_CHECKING:
    from gradwire.recorder.recorder import Recorder

READABLE = frozenset({"gradwire.describe", "gradwire.repr"})
"""What a traced function may ask of tensors: what they are, and how they print."""


class TracedSize(int):
    """A size of a traced tensor: a number now, the operation that finds it out in the program.

    Arithmetic on it gives plain numbers, which the program has as constants.
    """

    atom: Atom


class Trace:
    """Collects the operations of one call of a function, while they are recorded and run.

    Args:
        recorder: The recorder whose operations are collected.
        inputs: The function's tensors; they become the program's inputs.
    """

    def __init__(self, recorder: "Recorder", inputs: Sequence[Remote]) -> None:
        self._recorder = recorder
        self._operations: list[OperationKey] = []
        self._keys: dict[int, Atom] = {}
        self._alive: list[Any] = list(inputs)
        self._num_inputs = len(inputs)
        for index, value in enumerate(inputs):
            self._keys[id(value._slot)] = INPUTS[index]

    def add_tensor(self, tensor: values_pb2.Tensor, slot: Slot) -> None:
        """Collects a tensor that the function makes of data: it is made anew in each run."""
        value = Atom("data", values_pb2.Value(tensor=tensor))
        self._operations.append(("torch.Tensor.clone", (value,), ()))
        self._keys[id(slot)] = RESULTS[len(self._operations) - 1]
        self._alive.append(slot)

    def add(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], slot: Slot) -> None:
        """Collects an operation that has just been recorded."""
        self._keys[id(slot)] = self._append(name, args, kwargs)
        self._alive.append(slot)

    def enter(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Collects that a context is entered."""
        made = self._append(name, args, kwargs)
        self._operations.append(("gradwire.enter", (made,), ()))

    def exit(self) -> None:
        """Collects that the context entered last is left."""
        self._operations.append(("gradwire.exit", (), ()))

    def require_readable(self, name: str) -> None:
        """Raises if the program would depend on a value that is known only when it runs."""
        if name not in READABLE:
            raise ValueError(
                f"{name.rpartition('.')[2]} reads the value of a tensor, but this function is "
                "recorded once and then runs on the server: it can't depend on values. Use tensor "
                "operations such as gradwire.where, or train with a loop of your own."
            )

    def size(self, value: Remote, shape: Size) -> Size:
        """Returns a traced tensor's shape as sizes that the program finds out when it runs."""
        return Size(
            [
                self.number("torch.Tensor.size", (value, dim), number)
                for dim, number in enumerate(shape)
            ]
        )

    def number(self, name: str, args: Sequence[Any], now: int) -> TracedSize:
        """Returns a number that the program finds out when it runs.

        Args:
            name: The operation that finds it out.
            args: Its arguments.
            now: What it is at present.
        """
        number = TracedSize(now)
        number.atom = self._append(name, args, {})
        return number

    def program(self, outputs: Sequence[Any]) -> values_pb2.Program:
        """Returns the program of everything collected, which returns `outputs`."""
        keys = [encode(output, self._reference) for output in outputs]
        return program_message(self._operations, self._num_inputs, keys)

    def _append(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Atom:
        key: OperationKey = (
            name,
            tuple(self._encode(value) for value in args),
            tuple((keyword, self._encode(value)) for keyword, value in kwargs.items()),
        )
        self._operations.append(key)
        return RESULTS[len(self._operations) - 1]

    def _encode(self, value: Any) -> Key:
        if isinstance(value, TracedSize):
            return value.atom
        if type(value) in (list, tuple, Size):
            kind = "list" if isinstance(value, list) else "tuple"
            return (kind, *[self._encode(element) for element in value])
        return encode(value, self._reference)

    def _reference(self, value: Any) -> Key:
        remote = remote_of(value)
        if remote is None:
            remote = self._recorder.constant(value)
        slot: Slot = remote._slot
        known = self._keys.get(id(slot))
        if known is not None:
            return known
        if slot.handle == FAILED:
            slot.raise_failure()
        if slot.handle == PENDING:
            raise AssertionError("a value recorded before the trace has no handle")
        self._alive.append(remote)
        return Atom(f"handle {slot.handle}", values_pb2.Value(handle=slot.handle))


def trace(
    recorder: "Recorder", function: Callable[..., Any], inputs: Sequence[Any]
) -> tuple[values_pb2.Program, Any, Trace]:
    """Runs a function once and returns it as a program.

    Args:
        recorder: The session.
        function: The function; it may use modules and tensors of the session.
        inputs: Tensors to run it on, which become the program's inputs.

    Returns:
        The program, what the function returned, and the trace, which keeps alive what the program
        refers to by handle until the server has decoded it.

    Raises:
        ValueError: The function reads the value of a tensor.
    """
    recorder.flush()
    tracing = Trace(recorder, inputs)
    with recorder.tracing(tracing):
        result = function(*inputs)
    outputs = result if isinstance(result, tuple) else (result,)
    program = tracing.program(outputs)
    return program, result, tracing
