"""The recorder: writes operations on a tape, cuts the tape into programs, fetches values."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradwire.errors import GradwireError
from gradwire.recorder.contexts import Context
from gradwire.recorder.keys import INPUTS, RESULTS, Key, OperationKey, encode, program_message
from gradwire.recorder.outbox import Outbox, Segment, Stream
from gradwire.recorder.slots import FAILED, PENDING, Remote, Slot, remote_of
from gradwire.recorder.tape import Location, ProgramCache, ProgramKey, Tape
from gradwire.recorder.transfers import ELEMENTS, Transfers
from gradwire.recorder.uploads import Uploads
from gradwire.recorder.values import array_of_tensor, decode, tensor_message
from gradwire.transport.compression import Compression
from gradwire.transport.sharing import Sharing
from gradwire.transport.stream import Answer
from gradwire.types import Size
from gradwire.v1 import sessions_pb2, values_pb2
from gradwire.v1.handles import FIRST_SERVER_HANDLE

if TYPE_CHECKING:
    from gradwire.recorder.trace import Trace
    from gradwire.session import Session

PACKAGE_FOLDER = __file__.rpartition("/recorder/")[0] + "/"

MAX_TAPE_OPERATIONS = 512
"""A tape is cut at this length at the latest: long loops without steps are pipelined too."""

HANDLE_BYTES = 6
"""The most bytes that a handle takes in a message."""


class Recorder:
    """Records the operations of one session. May be used from several threads.

    Args:
        name: The session's name.
        stream: What carries messages to the server.
        max_message_bytes: The longest message that the server accepts.
        max_session_bytes: How many bytes the session may hold.
        sharing: Makes the memory that is shared with the server; None if none is wanted.
        compression: Compresses large tensors in messages; None if that is not wanted.
        convert: Returns what to send in place of an argument that there is no encoding for.

    Attributes:
        dead_handles: Handles that nobody can reach any more since the tape was cut last.
        contexts: The contexts that operations recorded now run under, outermost first.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        convert: Callable[[Any], Any],
        *,
        max_message_bytes: int,
        max_session_bytes: int = 0,
        sharing: Sharing | None = None,
        compression: Compression | None = None,
    ) -> None:
        self.name = name
        self.dead_handles: list[int] = []
        self.contexts: list[Context] = []
        self._convert = convert
        self._outbox = Outbox(
            name,
            stream,
            max_message_bytes=max_message_bytes,
            on_failure=self._on_failure,
            on_dropped=self._on_dropped,
        )
        self._transfers = Transfers(
            self._outbox, sharing, compression, max_message_bytes=max_message_bytes
        )
        self._uploads = Uploads(cast("Session", self), max_session_bytes)
        self._lock = threading.RLock()
        self._tape = Tape()
        self._programs = ProgramCache()
        self._free_handles: list[int] = []
        self._next_handle = 1
        self._trace: Trace | None = None
        self._has_outermost_context = False

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
            if len(self._tape.operations) >= MAX_TAPE_OPERATIONS:
                self.cut()
            self._outbox.send_if_large()
            return self._write(name, args, kwargs, wanted)

    def _write(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], wanted: bool) -> Slot:
        """Writes an operation on the tape, which must not change meanwhile: keys refer to it."""
        tape = self._tape
        if tape.num_contexts != len(self.contexts):
            self._enter_contexts(tape)
        slot = self._append(tape, self._key(name, args, kwargs.items()), wanted)
        if self._trace is not None:
            self._trace.add(name, args, kwargs, slot)
        return slot

    def fetch(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Records an operation, sends everything recorded, and returns the operation's value.

        Tensors come back as numpy arrays.

        Raises:
            GradwireError: An operation recorded before, or this one, failed.
        """
        return self.fetch_all([(name, args, kwargs)])[0]

    def fetch_all(
        self, operations: Sequence[tuple[str, Sequence[Any], dict[str, Any]]]
    ) -> list[Any]:
        """As `fetch`, for several operations at once; returns their values."""
        with self._lock:
            values: list[Any] = []
            for start in range(0, len(operations), MAX_TAPE_OPERATIONS):
                values += self._fetch_some(operations[start : start + MAX_TAPE_OPERATIONS])
            return values

    def _fetch_some(
        self, operations: Sequence[tuple[str, Sequence[Any], dict[str, Any]]]
    ) -> list[Any]:
        """As `fetch_all`, for no more operations than one program may have."""
        if len(self._tape.operations) + len(operations) > MAX_TAPE_OPERATIONS:
            self.cut()
        self._outbox.send_if_large()
        trace, self._trace = self._trace, None
        try:
            if trace is not None:
                for name, _, _ in operations:
                    trace.require_readable(name)
            slots = [self._write(*operation, wanted=False) for operation in operations]
        finally:
            self._trace = trace
        self._cut(tuple(slot.index for slot in slots))
        if any(operation[0] == ELEMENTS for operation in operations):
            return self._transfers.fetch(decode)
        values: list[Any] = []

        def receive(answer: Answer) -> None:
            make_array = partial(array_of_tensor, apart=answer.apart)
            values.extend(decode(value, make_array) for value in answer.message.values)

        self._outbox.wait(receive=receive)
        return values

    def put(
        self, array: "np.ndarray[Any, Any]", *, requires_grad: bool = False, source: Any = None
    ) -> Slot:
        """Sends an array along with what is recorded; returns its slot.

        Args:
            array: The array.
            requires_grad: Whether autograd is to track the tensor.
            source: The object of the program that has these elements; if it is sent again and has
                not changed, nothing is sent. None if there is none that will be.

        Raises:
            TypeError: torch has no such element type.
        """
        with self._lock:
            self.require_open()
            self._outbox.send_if_large()
            slot = self._put(array, requires_grad=requires_grad, source=source)
            if self._trace is not None:
                self._trace.add_tensor(tensor_message(array, requires_grad=requires_grad), slot)
            return slot

    def _put(
        self, array: "np.ndarray[Any, Any]", *, requires_grad: bool = False, source: Any = None
    ) -> Slot:
        # Not a handle that died since the last cut: the tape may still use it.
        handle = self._free_handles.pop() if self._free_handles else self.new_handle()
        slot = Slot(cast("Session", self), handle, 0)
        location = _location()
        segment = Segment([slot], [location])
        kept = None if source is None else self._uploads.find(source, array)
        if kept is None:
            self._transfers.put(handle, array, requires_grad=requires_grad, segment=segment)
            return slot
        copy, is_there = kept
        if not is_there:
            both = Segment([self._uploads.slot(source), slot], [location])
            self._transfers.put(copy, array, requires_grad=False, segment=both)
            if slot.handle == FAILED:
                return slot
        self._transfers.put_copy(handle, array, copy, requires_grad=requires_grad, segment=segment)
        return slot

    def put_program(self, program: values_pb2.Program) -> Slot:
        """Sends a program to be called like a module; returns its slot.

        What it refers to by handle must have been recorded before the last cut.
        """
        with self._lock:
            self.require_open()
            self._outbox.send_if_large()
            slot = Slot(cast("Session", self), self.new_handle(), 0)
            self._outbox.add(
                sessions_pb2.Command(
                    put_program=sessions_pb2.PutProgram(handle=slot.handle, program=program)
                ),
                segment=Segment([slot], [_location()]),
                num_bytes=program.ByteSize(),
            )
            return slot

    def cut(self) -> None:
        """Ends the tape: what is recorded becomes one program. Sends it when the time has come.

        Raises:
            GradwireError: An operation recorded earlier has failed meanwhile.
        """
        with self._lock:
            self._cut(())
            self._outbox.send_if_due()

    def flush(self) -> None:
        """Sends everything recorded and waits until it was carried out.

        Raises:
            GradwireError: An operation failed.
        """
        with self._lock:
            self._cut(())
            self._outbox.wait()

    def handle(self, value: Any) -> int:
        """Returns the handle of a value, after everything recorded was carried out."""
        with self._lock:
            self.flush()
            slot = remote_of(value)._slot
            if slot.handle == FAILED:
                slot.raise_failure()
            handle: int = slot.handle
            return handle

    def enter_context(self, context: Context) -> None:
        """Lets operations recorded from now on run under a context of torch."""
        with self._lock:
            self.contexts.append(context)
            if self._trace is not None:
                self._trace.enter(context.name, context.args, dict(context.kwargs))

    def exit_context(self) -> None:
        """Ends the context that was entered last."""
        with self._lock:
            self.contexts.pop()
            if self._trace is not None:
                self._trace.exit()
            tape = self._tape
            if tape.num_contexts > len(self.contexts):
                tape.num_contexts -= 1
                self._append(tape, ("gradwire.exit", (), ()), wanted=False)

    def set_outermost_context(self, context: Context | None) -> None:
        """Lets all operations recorded from now on run under a context, within all others.

        Args:
            context: The context; None for none. It takes the place of the one set before.
        """
        with self._lock:
            self.cut()
            if self._has_outermost_context:
                del self.contexts[0]
            self._has_outermost_context = context is not None
            if context is not None:
                self.contexts.insert(0, context)

    @contextmanager
    def tracing(self, trace: "Trace") -> Iterator[None]:
        """Lets a trace collect everything that is recorded in the block."""
        with self._lock:
            if self._trace is not None:
                raise RuntimeError("a function is being traced already")
            self._trace = trace
            try:
                yield
            finally:
                self._trace = None

    def traced_shape(self, value: Remote, shape: Size) -> Size:
        """Returns a tensor's shape: sizes of the trace if there is one, else as it is."""
        return shape if self._trace is None else self._trace.size(value, shape)

    def traced_numel(self, value: Remote, numel: int) -> int:
        """As `traced_shape`, of the number of elements."""
        if self._trace is None:
            return numel
        return self._trace.number("torch.Tensor.numel", (value,), numel)

    def constant(self, value: Any) -> Remote:
        """Returns a value of the session for an array or another thing that converts to one.

        Raises:
            TypeError: There is no way to send it.
        """
        converted = self._convert(value)
        if not isinstance(converted, np.ndarray):
            raise TypeError(f"a {type(value).__name__} can't be part of a traced function")
        constant = Remote()
        constant._slot = self.put(converted, source=value)
        return constant

    def require_untraced(self, name: str) -> None:
        """Raises if a function is being traced: `name` can't be part of its program."""
        if self._trace is not None:
            raise ValueError(
                f"{name.removeprefix('torch.')} may call functions of your program here, but the "
                "function that does it is recorded once and then runs on the server. Train with a "
                "loop of your own instead."
            )

    def start_after(self, next_handle: int) -> None:
        """Uses handles from a number on; those below may have values."""
        self._next_handle = next_handle

    def require_open(self) -> None:
        """Raises if the session can't be used any more."""

    def _enter_contexts(self, tape: Tape) -> None:
        """Enters the contexts that this tape is not in yet; the server leaves all at its end."""
        for context in self.contexts[tape.num_contexts :]:
            made = self._append(tape, self._key(*context), wanted=False)
            entered = ("gradwire.enter", (RESULTS[made.index],), ())
            self._append(tape, entered, wanted=False)
        tape.num_contexts = len(self.contexts)

    def _append(self, tape: Tape, key: OperationKey, wanted: bool) -> Slot:
        operations = tape.operations
        slot = Slot(self, PENDING, len(operations), wanted)  # type: ignore[arg-type]  # it is one
        operations.append(key)
        tape.slots.append(slot)
        tape.locations.append(_location())
        return slot

    def _key(self, name: str, args: Sequence[Any], kwargs: Any) -> OperationKey:
        reference = self._reference
        return (
            name,
            tuple([encode(value, reference) for value in args]),
            tuple([(keyword, encode(value, reference)) for keyword, value in kwargs])
            if kwargs
            else (),
        )

    def _reference(self, value: Any) -> Key:
        """Returns the key of something that lives on the server, or of what it converts to."""
        remote = value if isinstance(value, Remote) else remote_of(value)
        if remote is None:
            return self._converted(value)
        slot = remote._slot
        if slot.session is not self:
            raise ValueError(
                f"this value lives in {slot.session.name} and can't be used in {self.name}; "
                "values don't move between sessions"
            )
        handle = slot.handle
        if handle == PENDING:
            return RESULTS[slot.index]
        if handle == FAILED:
            self._outbox.raise_error()
            slot.raise_failure()
        return INPUTS[self._tape.inputs[handle]]

    def _converted(self, value: Any) -> Key:
        converted = self._convert(value)
        if not isinstance(converted, np.ndarray):
            return encode(converted, self._reference)
        handle = self._put(converted, source=value).handle
        # Nobody else can reach it: it goes when this tape is cut.
        self.dead_handles.append(handle)
        return INPUTS[self._tape.inputs[handle]]

    def _cut(self, fetch: tuple[int, ...]) -> None:
        tape = self._tape
        if not tape.operations:
            return
        self.require_open()
        key = (len(tape.inputs), tuple(tape.operations))
        program = self._programs.get(key)
        if program is None:
            program = self._put_program(key, tape.locations)
        # A handle that died since the last cut may still be an input of this program; the server
        # binds inputs first and forgets released values before it keeps new ones.
        dead, self.dead_handles = self.dead_handles, []
        kept = [slot for slot in tape.slots if slot.alive]
        for slot in kept:
            if dead:
                slot.handle = dead.pop()
            elif self._free_handles:
                slot.handle = self._free_handles.pop()
            else:
                slot.handle = self.new_handle()
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
        num_handles = len(tape.inputs) + 2 * len(kept) + len(dead)
        self._outbox.add(
            command, segment=Segment(kept, tape.locations), num_bytes=HANDLE_BYTES * num_handles
        )

    def _put_program(self, key: ProgramKey, locations: list[Location]) -> int:
        handle = self.new_handle()
        num_inputs, operations = key
        program = program_message(operations, num_inputs)
        self._outbox.add(
            sessions_pb2.Command(
                put_program=sessions_pb2.PutProgram(handle=handle, program=program)
            ),
            segment=Segment([], locations),
            num_bytes=program.ByteSize(),
            program=handle,
        )
        evicted = self._programs.add(key, handle)
        if evicted is not None:
            self.dead_handles.append(evicted)
        return handle

    def new_handle(self) -> int:
        """Returns a handle that was never used."""
        handle = self._next_handle
        if handle >= FIRST_SERVER_HANDLE:
            raise OverflowError(f"{self.name} has used up its handles; start a new session")
        self._next_handle += 1
        return handle

    def _on_dropped(self, programs: set[int]) -> None:
        self._programs.discard(programs)

    def _on_failure(self, error: GradwireError) -> None:
        for slot in self._tape.slots:
            slot.fail(error)
        self._tape = Tape()


def _location() -> Location:
    """Returns where in the user's program the present call comes from."""
    # What called this was called by more of this package.
    frame = sys._getframe(3)
    while _is_ours(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


class _Ours(dict[str, bool]):
    """By the name of a file, whether it is part of this package."""

    def __missing__(self, name: str) -> bool:
        self[name] = ours = name.startswith(PACKAGE_FOLDER)
        return ours


_is_ours = _Ours().__getitem__
