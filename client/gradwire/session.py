"""Sessions: a workspace on a server, and the recording of operations in it."""

import atexit
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import grpc

from gradwire.errors import GradwireError, SourceLine, source_line
from gradwire.recorder.keys import INPUTS, RESULTS, Key, OperationKey, encode, program_message
from gradwire.recorder.slots import FAILED, PENDING, Remote, Slot
from gradwire.recorder.tape import Location, ProgramCache, Tape
from gradwire.recorder.values import decode
from gradwire.transport.channel import (
    call_unary,
    new_request_id,
    open_channel,
    status_error,
)
from gradwire.transport.stream import ExecuteStream
from gradwire.v1 import sessions_pb2, sessions_pb2_grpc, values_pb2
from gradwire.v1.handles import FIRST_SERVER_HANDLE

PACKAGE_FOLDER = __file__.rpartition("/")[0] + "/"

MAX_TAPE_OPERATIONS = 512
"""A tape is cut at this length at the latest, so that long loops without steps are pipelined too."""
MAX_MESSAGE_COMMANDS = 64
MAX_MESSAGE_BYTES = 1 << 20
MAX_DELAY_SECONDS = 0.002
"""A message is sent when it has this many commands or bytes, or its first command is this old."""
MAX_UNANSWERED = 8
"""How many messages are in flight before recording waits for answers."""


class Context(NamedTuple):
    """A context manager of torch that operations run under, by name and arguments."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


class _Segment(NamedTuple):
    """What became of a cut tape: the results somebody may want, and where they were recorded."""

    slots: list[Slot]
    locations: list[Location]


class _Message(NamedTuple):
    """A message in flight."""

    seq: int
    segments: dict[int, _Segment]
    programs: set[int]


class Session:
    """A workspace on a server: models, tensors, optimizers, and its own random numbers.

    Made by :func:`gradwire.connect`. Operations on its tensors are recorded and sent together when
    a value is wanted; they run strictly in order.

    Attributes:
        name: ``sessions/{session}``.
        device: The device it runs on, such as ``cpu`` or ``cuda:0``.
        address: The server's address.
    """

    def __init__(self, address: str, *, token: str | None, timeout_seconds: float) -> None:
        self.address = address
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._channel = open_channel(address)
        self._stub = sessions_pb2_grpc.SessionServiceStub(self._channel)
        created = self.call(
            self._stub.CreateSession,
            sessions_pb2.CreateSessionRequest(request_id=new_request_id()),
        ).session
        self.name: str = created.name
        self.device: str = created.device
        self.dead_handles: list[int] = []
        self.contexts: list[Context] = []
        self.structures: dict[Key, Any] = {}
        self.undescribed: WeakKeyDictionary[Any, None] = WeakKeyDictionary()
        self._stream = ExecuteStream(
            self._channel, address=address, token=token, timeout_seconds=timeout_seconds
        )
        self._lock = threading.RLock()
        self._tape = Tape()
        self._programs = ProgramCache()
        self._free_handles: list[int] = []
        self._next_handle = 1
        self._commands: list[sessions_pb2.Command] = []
        self._segments: dict[int, _Segment] = {}
        self._new_programs: set[int] = set()
        self._num_bytes = 0
        self._first_command_time = 0.0
        self._seq = 0
        self._failed_seq = 0
        self._messages: deque[_Message] = deque()
        self._error: GradwireError | None = None
        self._closed = False
        atexit.register(self._close_at_exit)

    # ---- recording ---------------------------------------------------------------------------

    def record(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], *, wanted: bool = True
    ) -> Slot:
        """Writes an operation on the tape.

        Args:
            name: Its name in the catalog.
            args: Positional arguments.
            kwargs: Keyword arguments.
            wanted: Whether the result may be used later.

        Returns:
            The slot of the result.
        """
        with self._lock:
            tape = self._tape
            if tape.num_contexts != len(self.contexts):
                self._enter_contexts(tape)
            reference = self._reference
            key: OperationKey = (
                name,
                tuple([encode(arg, reference) for arg in args]),
                tuple([(k, encode(v, reference)) for k, v in kwargs.items()]) if kwargs else (),
            )
            return self._append(tape, key, wanted)

    def fetch(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Records an operation, sends everything recorded, and returns the operation's value.

        Tensors come back as numpy arrays.

        Raises:
            GradwireError: An operation recorded before, or this one, failed.
        """
        return self.fetch_all([(name, args, kwargs)])[0]

    def fetch_all(self, operations: Sequence[tuple[str, Sequence[Any], dict[str, Any]]]) -> Any:
        """As `fetch`, for several operations at once; returns the list of their values."""
        with self._lock:
            slots = [self.record(*operation, wanted=False) for operation in operations]
            self._cut(tuple(slot.index for slot in slots))
            self._send()
            response = self._wait()
            return [decode(value) for value in response.values]

    def put(self, tensor: values_pb2.Tensor) -> Slot:
        """Sends a tensor along with what is recorded; returns its slot."""
        with self._lock:
            handle = self._free_handles.pop() if self._free_handles else self._new_handle()
            command = sessions_pb2.Command(
                put_tensor=sessions_pb2.PutTensor(handle=handle, tensor=tensor)
            )
            slot = Slot(self, handle, 0)
            self._add_command(command, _Segment([slot], [_location()]), len(tensor.data))
            return slot

    def cut(self) -> None:
        """Ends the tape: what is recorded becomes one program. Sends it when the time has come.

        Raises:
            GradwireError: An operation recorded earlier has failed meanwhile.
        """
        with self._lock:
            self._cut(())
            self._send_if_due()
            self._raise_error()

    def flush(self) -> None:
        """Sends everything recorded and waits until it was carried out.

        Raises:
            GradwireError: An operation failed.
        """
        with self._lock:
            self._cut(())
            self._send()
            self._wait()

    def set_context(self, context: Context) -> None:
        """Lets operations recorded from now on run under a context of torch."""
        with self._lock:
            self.contexts.append(context)

    def leave_context(self) -> None:
        """Ends the context that was set last."""
        with self._lock:
            self.contexts.pop()
            tape = self._tape
            if tape.num_contexts > len(self.contexts):
                tape.num_contexts -= 1
                self._append(tape, ("gradwire.exit", (), ()), False)

    def _enter_contexts(self, tape: Tape) -> None:
        for context in self.contexts[tape.num_contexts :]:
            made = self._append(
                tape,
                (
                    context.name,
                    tuple(encode(arg, self._reference) for arg in context.args),
                    tuple((k, encode(v, self._reference)) for k, v in context.kwargs),
                ),
                False,
            )
            self._append(tape, ("gradwire.enter", (RESULTS.at(made.index),), ()), False)
        tape.num_contexts = len(self.contexts)

    def _append(self, tape: Tape, key: OperationKey, wanted: bool) -> Slot:
        slot = Slot(self, PENDING, len(tape.operations))
        slot.alive = wanted
        tape.operations.append(key)
        tape.slots.append(slot)
        tape.locations.append(_location())
        return slot

    def _reference(self, value: Any) -> Key:
        """Returns the key of something that lives on the server."""
        if not isinstance(value, Remote):
            remote = getattr(value, "__gradwire_remote__", None)
            if remote is None:
                return encode(_converted(value), self._reference)
            value = remote()
        slot = value._slot
        if slot.session is not self:
            raise ValueError(
                f"this value lives in {slot.session.name} and can't be used in {self.name}; "
                "values don't move between sessions"
            )
        handle = slot.handle
        if handle == PENDING:
            return RESULTS.at(slot.index)
        if handle == FAILED:
            self._raise_failed(slot)
        inputs = self._tape.inputs
        index = inputs.get(handle)
        if index is None:
            index = inputs[handle] = len(inputs)
        return INPUTS.at(index)

    def _raise_failed(self, slot: Slot) -> None:
        error = slot.error
        assert error is not None
        raise type(error)(
            f"this value was never computed, because of an earlier error: {error.message}",
            reason=error.reason,
            metadata=error.metadata,
            source=error.source,
        ) from error

    # ---- cutting and sending -----------------------------------------------------------------

    def _cut(self, fetch: tuple[int, ...]) -> None:
        tape = self._tape
        if not tape.operations:
            return
        self._require_open()
        operations = tuple(tape.operations)
        program = self._programs.get(operations)
        if program is None:
            program = self._put_program(operations, len(tape.inputs))
        # A handle that died since the last cut is free from this program on: it may still be an
        # input, and its old value is forgotten before the new one is kept.
        dead, self.dead_handles = self.dead_handles, []
        kept = [slot for slot in tape.slots if slot.alive]  # type: ignore[union-attr]
        for slot in kept:
            if dead:
                slot.handle = dead.pop()
            elif self._free_handles:
                slot.handle = self._free_handles.pop()
            else:
                slot.handle = self._new_handle()
        command = sessions_pb2.Command(
            run_program=sessions_pb2.RunProgram(
                program=program,
                inputs=tape.inputs,
                keep=[slot.index for slot in kept],
                keep_handles=[slot.handle for slot in kept],
                fetch=fetch,
                release=dead,
            )
        )
        self._free_handles += dead
        self._tape = Tape()
        self._add_command(command, _Segment(kept, tape.locations), 0)

    def _put_program(self, operations: tuple[OperationKey, ...], num_inputs: int) -> int:
        handle = self._new_handle()
        message = program_message(operations, num_inputs)
        command = sessions_pb2.Command(
            put_program=sessions_pb2.PutProgram(handle=handle, program=message)
        )
        self._new_programs.add(handle)
        self._add_command(command, None, message.ByteSize())
        evicted = self._programs.add(operations, handle)
        if evicted is not None:
            self.dead_handles.append(evicted)
        return handle

    def _new_handle(self) -> int:
        handle = self._next_handle
        if handle >= FIRST_SERVER_HANDLE:
            raise OverflowError(f"{self.name} has used up its handles; start a new session")
        self._next_handle += 1
        return handle

    def _add_command(
        self, command: sessions_pb2.Command, segment: _Segment | None, num_bytes: int
    ) -> None:
        self._require_open()
        if not self._commands:
            self._first_command_time = time.monotonic()
        if segment is not None:
            self._segments[len(self._commands)] = segment
        self._commands.append(command)
        self._num_bytes += num_bytes
        if self._num_bytes > MAX_MESSAGE_BYTES:
            self._send()

    def _send_if_due(self) -> None:
        if self._commands and (
            len(self._commands) >= MAX_MESSAGE_COMMANDS
            or time.monotonic() - self._first_command_time > MAX_DELAY_SECONDS
        ):
            self._send()

    def _send(self) -> None:
        if not self._commands:
            return
        self._seq += 1
        request = sessions_pb2.ExecuteRequest(
            name=self.name,
            seq=self._seq,
            failure_seen_seq=self._failed_seq,
            acknowledged_seq=self._seq - 1 - len(self._messages),
            commands=self._commands,
        )
        self._messages.append(_Message(self._seq, self._segments, self._new_programs))
        self._commands = []
        self._segments = {}
        self._new_programs = set()
        self._num_bytes = 0
        self._stream.send(request)
        while len(self._messages) > MAX_UNANSWERED:
            self._receive()

    # ---- answers -----------------------------------------------------------------------------

    def _wait(self) -> sessions_pb2.ExecuteResponse:
        """Receives all answers and returns the last one."""
        response = sessions_pb2.ExecuteResponse()
        while self._messages:
            response = self._receive()
        self._raise_error()
        return response

    def _receive(self) -> sessions_pb2.ExecuteResponse:
        try:
            response = self._stream.receive()
        except GradwireError as error:
            self._abandon(error)
            raise
        message = self._messages.popleft()
        assert response.seq == message.seq, f"answer {response.seq} to message {message.seq}"
        if response.HasField("failure"):
            self._fail(message, response.failure)
        elif response.skipped:
            assert self._error is not None or self._last_error is not None
            self._drop(message, 0, self._last_error)
        return response

    def _fail(self, message: _Message, failure: Any) -> None:
        error = status_error(failure.code, failure.message, failure.details)
        index = int(error.metadata.get("command_index", "0"))
        operation = int(error.metadata.get("operation_index", "-1"))
        segment = message.segments.get(index)
        source = None
        if segment is not None and segment.locations:
            source = source_line(*segment.locations[operation])
        error = type(error)(
            error.message, reason=error.reason, metadata=error.metadata, source=source
        )
        self._failed_seq = message.seq
        self._error = self._last_error = error
        if segment is not None:
            for slot in segment.slots:
                if slot.index >= operation:
                    self._mark_failed(slot, error)
        self._drop(message, index + 1, error)
        # What was recorded before the error was known comes after the failing operation.
        rest = _Message(0, self._segments, self._new_programs)
        self._drop(rest, 0, error)
        for slot in self._tape.slots:
            if slot is not None:
                self._mark_failed(slot, error)
        self._commands, self._segments, self._new_programs = [], {}, set()
        self._num_bytes = 0
        self._tape = Tape()

    _last_error: GradwireError | None = None

    def _drop(self, message: _Message, first: int, error: GradwireError | None) -> None:
        """Marks what the commands of a message from the index `first` on would have made."""
        assert error is not None
        self._programs.discard(message.programs)
        for index, segment in message.segments.items():
            if index >= first:
                for slot in segment.slots:
                    self._mark_failed(slot, error)

    def _mark_failed(self, slot: Slot, error: GradwireError) -> None:
        if slot.handle > 0:
            self._free_handles.append(slot.handle)
        slot.handle = FAILED
        slot.error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _abandon(self, error: GradwireError) -> None:
        """Gives the session up: the server lost it, or can't be reached any more."""
        self._closed_error = error
        self._closed = True
        self._messages.clear()
        self._stream.close()

    _closed_error: GradwireError | None = None

    def _require_open(self) -> None:
        if not self._closed:
            return
        error = self._closed_error
        if error is None:
            raise ValueError(f"{self.name} is closed; gradwire.connect() opens another")
        raise type(error)(
            f"{self.name} can't be used any more: {error.message}",
            reason=error.reason,
            metadata=error.metadata,
        )

    # ---- calls beside the stream -------------------------------------------------------------

    @property
    def channel(self) -> grpc.Channel:
        """The channel to the server, for stubs of your own."""
        return self._channel

    def call(self, method: Callable[..., Any], request: Any) -> Any:
        """Calls a unary RPC of a stub made on `channel`.

        Raises:
            GradwireError: The server refused, or did not answer in time.
        """
        return call_unary(
            method,
            request,
            address=self.address,
            token=self._token,
            timeout_seconds=self._timeout_seconds,
        )

    def handle(self, value: Any) -> int:
        """Returns the handle of a value after sending everything recorded."""
        with self._lock:
            self.flush()
            slot = value._slot if isinstance(value, Remote) else value.__gradwire_remote__()._slot
            if slot.handle == FAILED:
                self._raise_failed(slot)
            handle: int = slot.handle
            return handle

    def close(self) -> None:
        """Ends the session and frees what it holds on the server. Its tensors can't be used after.

        Raises:
            GradwireError: An operation recorded before failed.
        """
        if self._closed:
            return
        try:
            self.flush()
        finally:
            if not self._closed:
                self._closed = True
                self._stream.close()
                self.call(
                    self._stub.DeleteSession, sessions_pb2.DeleteSessionRequest(name=self.name)
                )
            self._channel.close()
            atexit.unregister(self._close_at_exit)

    def __enter__(self) -> "Session":
        from gradwire.connection import enter_session

        enter_session(self)
        return self

    def __exit__(self, *_: object) -> None:
        from gradwire.connection import leave_session

        leave_session(self)

    def _close_at_exit(self) -> None:
        """Ends the session with the program; an error that nobody has seen yet is printed."""
        try:
            self.close()
        except GradwireError as error:
            sys.excepthook(type(error), error, error.__traceback__)

    def __repr__(self) -> str:
        return f"<gradwire.Session {self.name} on {self.device} at {self.address}>"


def _location() -> Location:
    """Returns where in the user's program the present call comes from."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def _converted(value: Any) -> Any:
    from gradwire.creation import tensor_like

    return tensor_like(value)
