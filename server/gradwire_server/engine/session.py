"""A session: what one client's commands leave behind, and the commands themselves."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from gradwire.v1 import sessions_pb2, values_pb2
from gradwire.v1.handles import FIRST_SERVER_HANDLE
from gradwire_server.access.quotas import Quotas
from gradwire_server.engine import callables, intrinsics, states
from gradwire_server.engine.callables import Callables
from gradwire_server.engine.callbacks import Callback
from gradwire_server.engine.decoding import KnownPrograms, Scope
from gradwire_server.engine.delivery import IN_LINE, Delivery
from gradwire_server.engine.failures import operation_failure
from gradwire_server.engine.intrinsics import Intrinsics
from gradwire_server.engine.leftovers import MAX_HANDLES, Leftovers
from gradwire_server.engine.memory import Budget, Measured
from gradwire_server.engine.parts import Parts
from gradwire_server.engine.programs import OperationError, Program
from gradwire_server.engine.random_state import RandomState
from gradwire_server.engine.regions import Regions
from gradwire_server.engine.registry import Registry, Subjects
from gradwire_server.engine.spent import Spent, restored
from gradwire_server.engine.values import (
    copy_tensor,
    decode_tensor,
    decode_value,
    describe_shape,
    encode_tensor,
    encode_value,
    require_fits,
    wire_bytes,
)
from gradwire_server.errors import GradwireError, Reason, invalid
from gradwire_server.limits import Limits
from gradwire_server.storage import Storage

if TYPE_CHECKING:
    from gradwire_server.engine.compiling import Compiling
    from gradwire_server.engine.feeds import Feed
    from gradwire_server.engine.models import Model
    from gradwire_server.engine.training import TrainingRun


OWN_OPERATIONS = {**intrinsics.OPERATIONS, **callables.OPERATIONS, **states.OPERATIONS}
"""gradwire's own operations, by name."""


class Session:
    """Values by handle, models by id, random numbers, and the commands on them.

    Args:
        name: `sessions/{session}`.
        device: Where its tensors and modules live.
        limits: The limits in force.
        storage: Where durable data is.
        tenant: Whose it is.
        quotas: The quotas in force; those among `limits` if none are given.
        exact: Whether its training steps are torch's own, to the last bit.
        compiling: What compiles steps that need not be exact.
        replaying: What replays steps that must be.
        known: The programs that the tenant's sessions have, to be shared with them.

    Attributes:
        num_commands: How many calls that may change it were carried out.
        last_seq: The number of the last message of its Execute stream.
        failed_seq: The number of the last one that failed.
        regions: The memory that it shares with its client.
        delivery: Where the results of the command in progress go.
        runs: Its runs that have not ended, by name.
        series: What its checkpoints are called, those of runs aside.
        version: Another number whenever models, or optimizers if it is not exact, may have changed
            but for what is in their tensors.
        turn_until: Until when, by `time.monotonic`, it may do more than one thing in this turn.
        wait_until: Until when it may wait in this turn, for its checkpoint.
        drafts: Checkpoints that are being written: copies of what it holds.
        left_out: Why values are gone that its checkpoint had to do without, by handle.
    """

    def __init__(
        self,
        name: str,
        *,
        device: torch.device,
        limits: Limits,
        storage: Storage,
        tenant: str = "",
        quotas: Quotas | None = None,
        exact: bool = True,
        compiling: "Compiling | None" = None,
        replaying: "Compiling | None" = None,
        known: KnownPrograms | None = None,
    ) -> None:
        self.name = name
        self.exact = exact
        self.device = device
        self.limits = limits
        self.storage = storage
        self.tenant = tenant
        self.quotas = quotas or Quotas(limits)
        self.feeds: dict[str, Feed] = {}
        self.values: dict[int, Any] = {}
        self.models: dict[str, Model] = {}
        self.failed_seq = self.last_seq = 0
        self.num_steps = 0
        self.turn_until = self.wait_until = 0.0
        self.compiling = compiling
        self.replaying = replaying
        self.version = 0
        self.budget = Budget(limits.max_session_bytes, self._held)
        self.regions = Regions()
        self.delivery = IN_LINE
        self._parts = Parts(device, self.regions, self.budget)
        self._intrinsics = Intrinsics(device, self.budget)
        self._run_fast = None
        fast = replaying if exact else compiling or replaying
        if fast is not None:
            self._run_fast = fast.programs(device, self._intrinsics.close_contexts)
        self._callables = Callables(device, lambda name, path: self.registry.resolve(name, path))  # noqa: PLW0108  # not there yet
        self.registry = Registry(
            OWN_OPERATIONS,
            Subjects(self._intrinsics, self._callables, self.budget),
            device=device,
        )
        self.scope = Scope(
            self.registry, self.value, device, KnownPrograms() if known is None else known
        )
        self.next_handle = FIRST_SERVER_HANDLE
        self.runs: dict[str, TrainingRun] = {}
        self.num_commands = 0
        self.num_checkpoints = 0
        self.left_out: dict[int, str] = {}
        self.series = secrets.token_hex(8)
        self.leftovers = Leftovers(self.values, limits.max_session_bytes // 4)
        self._pinned: dict[object, tuple[Any, ...]] = {}
        self.drafts: set[Measured] = set()
        torch.seed()
        self._random_state = RandomState.capture(device)

    @property
    def is_amid_command(self) -> bool:
        """Whether its client has to send more to end what it has begun."""
        return any(True for _ in self._parts.held()) or self._callables.are_waited_for

    @property
    def last_client_handle(self) -> int:
        """The highest handle, of those that clients choose, that has a value."""
        return max((h for h in self.values if h < FIRST_SERVER_HANDLE), default=0)

    def callback(self, number: int) -> Callback:
        """Returns what stands for a function of the client, which knows it by `number`."""
        return self._callables.callback(number)

    def activate(self) -> None:
        """Makes the process' random state the session's."""
        self._random_state.restore(self.device)

    def deactivate(self) -> None:
        """Keeps the process' random state as the session's."""
        self._random_state = RandomState.capture(self.device)

    def has_time(self) -> bool:
        """Whether it may do one thing more in this turn."""
        return time.monotonic() < self.turn_until

    def end_turn(self) -> None:
        """Puts back what belongs to the process and not to the session."""
        self._intrinsics.close_contexts()
        if not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
        if torch.is_anomaly_enabled():
            torch.autograd.set_detect_anomaly(False)
        self.budget.end_turn()
        self.leftovers.end_turn()

    def value(self, handle: int, path: str) -> Any:
        """Returns the value of a handle.

        Args:
            handle: The handle.
            path: The request field it came in, for errors.

        Raises:
            GradwireError: HANDLE_NOT_FOUND.
        """
        try:
            value = self.values[handle]
            if type(value) is Spent:
                value = self.values[handle] = value.tensor()
            return value
        except KeyError:
            if handle in self.left_out:
                raise GradwireError(
                    Reason.HANDLE_NOT_FOUND,
                    f"{path}: the value of handle {handle} was not kept when the session was put "
                    f"into a checkpoint: {self.left_out[handle]}",
                    metadata={"handle": str(handle)},
                ) from None
            raise GradwireError(
                Reason.HANDLE_NOT_FOUND,
                f"{path}: the session holds no value with handle {handle}; it was released, the "
                "command that was to make it failed, its model was deleted, or newer values took "
                f"its place (unary calls leave the latest {MAX_HANDLES} at most, fewer if they "
                "take much memory)",
                metadata={"handle": str(handle)},
            ) from None

    def leave(self, values: Sequence[Any], what: str) -> list[int]:
        """Holds the values that a unary call leaves behind; returns a new handle for each.

        Raises:
            GradwireError: They are too much for the session; none of them is held.
        """
        for value in values:
            self.budget.add(value, what)
        handles = list(range(self.next_handle, self.next_handle + len(values)))
        self.next_handle += len(values)
        self.values.update(zip(handles, values, strict=True))
        self.leftovers.add(handles)
        return handles

    def drop_leftovers_of(self, module: torch.nn.Module) -> None:
        """Forgets what unary calls left behind and a module's parameters were used for."""
        self.leftovers.drop_what_reaches(module.parameters())

    @contextmanager
    def pinning(self, *values: Any) -> Iterator[None]:
        """Counts values as held by the session while the block goes on."""
        for value in values:
            self.budget.add(value, "Train")
        key = object()
        self._pinned[key] = values
        try:
            yield
        finally:
            del self._pinned[key]

    def encode(self, values: Sequence[Any]) -> list[values_pb2.Value]:
        """Returns the wire forms of results.

        Raises:
            GradwireError: They are too large for a message; nothing was copied. LIMIT_EXCEEDED.
        """
        delivery = self.delivery
        if not delivery.holds:
            require_fits(wire_bytes(values), self.limits.max_message_bytes)

        def encode(tensor: torch.Tensor) -> values_pb2.Tensor:
            return encode_tensor(tensor, delivery)

        return [v if isinstance(v, values_pb2.Value) else encode_value(v, encode) for v in values]

    def delivery_of(self, message: values_pb2.Delivery) -> Delivery:
        """Returns how results go where a message would like them.

        Raises:
            GradwireError: What it offers is none of the session's memory.
        """
        return Delivery(
            message,
            regions=self.regions,
            limit_bytes=self.limits.max_message_bytes // 2,
            hold=self._hold,
        )

    def decode(self, value: values_pb2.Value, path: str) -> Any:
        """Returns the Python value of a wire value outside of programs; handles are looked up."""
        return decode_value(value, path, self._reference, self.device, regions=self.regions)

    def decode_map(self, values: Mapping[str, values_pb2.Value], path: str) -> dict[str, Any]:
        """Returns the Python values of named wire values, as `decode`."""
        return {name: self.decode(value, f"{path}[{name!r}]") for name, value in values.items()}

    def program(
        self, message: values_pb2.Program, path: str, scope: Scope | None = None
    ) -> Program:
        """Decodes a program."""
        return Program(
            message,
            scope or self.scope,
            path=path,
            max_operations=self.limits.max_program_operations,
        )

    def run(self, command: sessions_pb2.Command, path: str) -> Sequence[values_pb2.Value]:
        """Runs one command and returns the values it fetches.

        Args:
            command: The command.
            path: The request field it came in, for errors.

        Raises:
            GradwireError: It failed; what it did before that stays done.
        """
        kind = command.WhichOneof("kind")
        if kind is None:
            raise invalid(path, "has no kind set; every command needs one")
        return _COMMANDS[kind](self, getattr(command, kind))

    def close(self) -> None:
        """Lets go of everything it holds."""
        self._callables.close()
        self.values.clear()
        self.models.clear()
        self.runs.clear()
        self.leftovers.clear()
        self._parts.clear()
        self.regions.clear()

    def _put_tensor(self, command: sessions_pb2.PutTensor) -> Sequence[values_pb2.Value]:
        _require_client_handle(command.handle, "put_tensor.handle")
        tensor = command.tensor
        _, size_bytes = describe_shape(tensor, "put_tensor.tensor")
        self.budget.reserve(size_bytes, "put_tensor")
        if tensor.WhichOneof("payload") == "held":
            held = self.value(tensor.held, "put_tensor.tensor.held")
            value = copy_tensor(tensor, held, "put_tensor.tensor")
        else:
            value = decode_tensor(tensor, self.device, "put_tensor.tensor", self.regions)
        self._put(command.handle, value, "put_tensor")
        return ()

    def _begin_tensor(self, command: sessions_pb2.BeginTensor) -> Sequence[values_pb2.Value]:
        _require_client_handle(command.handle, "begin_tensor.handle")
        self.release((command.handle,))
        empty = self._parts.begin(command)
        if empty is not None:
            self._put(command.handle, empty, "begin_tensor")
        return ()

    def _write_tensor(self, command: sessions_pb2.WriteTensor) -> Sequence[values_pb2.Value]:
        whole = self._parts.write(command)
        if whole is not None:
            self._put(command.handle, whole, "write_tensor")
        return ()

    def _read_tensor(self, command: sessions_pb2.ReadTensor) -> Sequence[values_pb2.Value]:
        tensor = self.value(command.handle, "read_tensor.handle")
        return (self._parts.read(command, tensor, self.delivery),)

    def _put(self, handle: int, value: torch.Tensor, what: str) -> None:
        self.budget.add(value, what)
        self.values[handle] = value

    def _hold(self, tensor: torch.Tensor) -> int:
        """Keeps a result that is too large for an answer; returns its handle."""
        if self.runs:
            # A run may change it while it is read.
            self.budget.reserve(tensor.nbytes, "fetch")
            tensor = tensor.clone()
        self.budget.add(tensor, "fetch")
        handle, self.next_handle = self.next_handle, self.next_handle + 1
        self.values[handle] = tensor
        return handle

    def _put_program(self, command: sessions_pb2.PutProgram) -> Sequence[values_pb2.Value]:
        _require_client_handle(command.handle, "put_program.handle")
        program = self.program(command.program, "put_program.program")
        self.budget.add(program, "put_program")
        self.values[command.handle] = program
        return ()

    def _run_program(self, command: sessions_pb2.RunProgram) -> Sequence[values_pb2.Value]:
        program = self.value(command.program, "run_program.program")
        if not isinstance(program, Program):
            raise invalid("run_program.program", f"handle {command.program} is not a program")
        values = self.values
        try:
            inputs = [values[handle] for handle in command.inputs]
        except KeyError as error:
            self.value(error.args[0], "run_program.inputs")
            raise
        for index, value in enumerate(inputs):
            if type(value) is Spent:
                inputs[index] = self.value(command.inputs[index], "run_program.inputs")
        if len(command.keep) != len(command.keep_handles):
            raise invalid(
                "run_program.keep_handles",
                f"has {len(command.keep_handles)} entries, but keep has {len(command.keep)}",
            )
        self.num_steps += program.num_steps
        wanted = (*command.keep, *command.fetch)
        try:
            if self._run_fast is None:
                results = program.run(inputs, wanted)
            else:
                results = self._run_fast(program, inputs, wanted, self.version)
            if not program.only_tensors and not (self.exact and program.only_options):
                self.version += 1
        except OperationError as failure:
            kept = [
                (i, h)
                for i, h in zip(command.keep, command.keep_handles, strict=True)
                if i in failure.results
            ]
            self._keep(
                [handle for _, handle in kept], [failure.results[index] for index, _ in kept]
            )
            failure.error.metadata["operation_index"] = str(failure.operation)
            raise failure.error from failure.__cause__
        finally:
            self._intrinsics.close_contexts()
            for handle in command.release:
                values.pop(handle, None)
        num_kept = len(command.keep)
        self._keep(command.keep_handles, results[:num_kept])
        if len(wanted) == num_kept:
            return ()
        try:
            return self.encode([restored(value) for value in results[num_kept:]])
        except Exception as error:
            raise operation_failure(error, "run_program.fetch") from error

    def _keep(self, handles: Sequence[int], results: Sequence[Any]) -> None:
        for handle, result in zip(handles, results, strict=True):
            if not 0 < handle < FIRST_SERVER_HANDLE:
                _require_client_handle(handle, "run_program.keep_handles")
            self.budget.add(result, "run_program")
            self.values[handle] = result

    def _release_handles(self, command: sessions_pb2.ReleaseHandles) -> Sequence[values_pb2.Value]:
        self.release(command.handles)
        return ()

    def release(self, handles: Sequence[int]) -> None:
        """Forgets values; handles that do not exist are ignored."""
        for handle in handles:
            if self.values.pop(handle, None) is None:
                self._parts.release(handle)

    def _reference(self, value: values_pb2.Value, path: str) -> Any:
        kind = value.WhichOneof("kind")
        if kind == "function":
            return self.registry.function(value.function, f"{path}.function")
        if kind != "handle":
            raise invalid(path, f"{kind} is allowed only in programs")
        return self.value(value.handle, path)

    def _held(self) -> list[Any]:
        models = list(self.models.values())
        return [
            *self.values.values(),
            *self._pinned.values(),
            *self.drafts,
            *self._parts.held(),
            *(model.module for model in models),
            *(model.optimizer for model in models),
        ]


def _require_client_handle(handle: int, path: str) -> None:
    if not 0 < handle < FIRST_SERVER_HANDLE:
        raise invalid(path, f"{handle} is not a handle that clients may choose: 1 to 2^40 - 1")


_COMMANDS: dict[str, Callable[[Session, Any], Sequence[values_pb2.Value]]] = {
    "put_tensor": Session._put_tensor,
    "put_program": Session._put_program,
    "run_program": Session._run_program,
    "release_handles": Session._release_handles,
    "begin_tensor": Session._begin_tensor,
    "write_tensor": Session._write_tensor,
    "read_tensor": Session._read_tensor,
}
"""What carries out each kind of command."""
