"""The outbox: commands gathered into messages, messages in flight, and what their answers say."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from gradwire.errors import GradwireError, LimitError, source_line
from gradwire.recorder.slots import Slot
from gradwire.recorder.tape import Location
from gradwire.transport.channel import status_error
from gradwire.transport.sharing import Ring
from gradwire.transport.stream import Answer
from gradwire.v1 import sessions_pb2, values_pb2
from gradwire.v1.apart import Piece, field

FIRST_COMMANDS = 16
MAX_COMMANDS = 32
MAX_BYTES = 1 << 20
MAX_DELAY_SECONDS = 0.002
"""A message is sent when it has this many commands or bytes, or its first command is this old. The
first one after a wait is sent earlier, for the worker to begin."""
MAX_UNANSWERED = 8
"""How many messages are in flight before sending waits for answers."""
_COMMANDS = (sessions_pb2.ExecuteRequest.COMMANDS_FIELD_NUMBER,)
COMMAND_BYTES = 64
HEADER_BYTES = 256
"""At most so many bytes come to the contents of a command, and to those of a message."""


class Stream(Protocol):
    """What carries messages to the server, in order, and answers back."""

    def send(self, request: sessions_pb2.ExecuteRequest, rest: Sequence[Piece] = ()) -> None:
        """Sends a message without waiting; `rest`, serialized, comes after it."""

    def let_go(self) -> None:
        """Waits a moment until what was sent has left."""

    def receive(self, seq: int) -> Answer:
        """Waits for the answer to the message `seq`, the one after that of the last call."""
        ...

    def close(self) -> None:
        """Ends the stream."""


class Segment(NamedTuple):
    """What the client keeps of a command until it is answered.

    Attributes:
        slots: What the command makes.
        locations: Where its operations were recorded, by index.
    """

    slots: list[Slot]
    locations: list[Location]


class _Entry(NamedTuple):
    """A command, and what the client keeps of it.

    Attributes:
        command: The command.
        segment: What it makes, if it makes anything.
        program: The handle of the program that it puts, if it puts one.
        num_bytes: About how large it is, rather more than less.
        rest: What comes after the command, serialized.
    """

    command: sessions_pb2.Command
    segment: Segment | None
    program: int | None
    num_bytes: int
    rest: Sequence[Piece] = ()

    def pieces(self) -> list[Piece]:
        """Returns the command as a field of its message."""
        return field(_COMMANDS, self.command.SerializeToString(), *self.rest)


Receive = Callable[[Answer], None]
"""Takes what a message is answered with, if all of it was carried out."""


class _Message(NamedTuple):
    """Commands that were sent together.

    Attributes:
        seq: Its number.
        entries: The commands.
        position: Up to where it uses the shared memory.
        receive: Takes the answer; None if nobody waits for it.
    """

    seq: int
    entries: list[_Entry]
    position: int
    receive: Receive | None


class Outbox:
    """Sends commands in order and finds out what became of them.

    Args:
        name: The session's name.
        stream: What carries the messages.
        max_message_bytes: The longest message that the server accepts.
        on_failure: Called with the error when a command has failed: everything recorded by then
            comes after the failure.
        on_dropped: Called with the handles of programs that the server does not hold after all.

    Attributes:
        ring: The memory that is shared with the server, if there is any. What messages use of it
            is free again once they are answered.
        num_failures: How many commands have failed, as far as is known.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        *,
        max_message_bytes: int,
        on_failure: Callable[[GradwireError], None],
        on_dropped: Callable[[set[int]], None],
    ) -> None:
        self._name = name
        self._stream = stream
        self._max_message_bytes = max_message_bytes
        self._on_failure = on_failure
        self._on_dropped = on_dropped
        self.ring: Ring | None = None
        self.num_failures = 0
        self._sent_position = 0
        self._seq = 0
        self._failed_seq = 0
        self._waiting: list[_Entry] = []
        self._num_bytes = 0
        self._first_command_time = 0.0
        self._in_flight: deque[_Message] = deque()
        self._error: GradwireError | None = None
        self._failure: GradwireError | None = None
        self._is_hurried = False

    def add(
        self,
        command: sessions_pb2.Command,
        *,
        segment: Segment | None = None,
        num_bytes: int = 0,
        program: int | None = None,
        rest: Sequence[Piece] = (),
    ) -> None:
        """Puts a command into the next message.

        Args:
            command: The command.
            segment: What to keep of it.
            num_bytes: About how many bytes its contents have.
            program: The handle of the program it puts.
            rest: Elements apart from it, as a field of it; they are copied when it is sent.
        """
        if not self._waiting:
            self._first_command_time = time.monotonic()
        num_bytes += COMMAND_BYTES
        self._waiting.append(_Entry(command, segment, program, num_bytes, rest))
        self._num_bytes += num_bytes

    def send_if_large(self) -> None:
        """Sends the next message if it has many bytes. An answer may tell of a failure."""
        if self._num_bytes > MAX_BYTES:
            self.send()

    def send_if_due(self) -> None:
        """Sends the next message if it is large or old enough.

        Raises:
            GradwireError: A command sent earlier has failed.
        """
        enough = MAX_COMMANDS if self._in_flight else FIRST_COMMANDS
        if self._waiting and (
            self._is_hurried
            or len(self._waiting) >= enough
            or self._num_bytes > MAX_BYTES
            or time.monotonic() - self._first_command_time > MAX_DELAY_SECONDS
        ):
            self.send()
            self._stream.let_go()
        self.raise_error()

    def send(
        self, delivery: values_pb2.Delivery | None = None, receive: Receive | None = None
    ) -> None:
        """Sends what waits, if anything does; receives answers if many are due.

        Args:
            delivery: How large results are to come; of the last message, if it takes several.
            receive: Takes the answer to the last message, unless it fails.
        """
        while self._waiting:
            entries = self._take()
            if not entries:
                self._refuse()
                return
            last = not self._waiting
            self._seq += 1
            are_apart = any(entry.rest for entry in entries)
            self._stream.send(
                sessions_pb2.ExecuteRequest(
                    name=self._name,
                    seq=self._seq,
                    failure_seen_seq=self._failed_seq,
                    acknowledged_seq=self._seq - 1 - len(self._in_flight),
                    commands=() if are_apart else [entry.command for entry in entries],
                    delivery=delivery if last else None,
                ),
                [piece for entry in entries for piece in entry.pieces()] if are_apart else (),
            )
            if self.ring is not None:
                self._sent_position = self.ring.position
            self._in_flight.append(
                _Message(self._seq, entries, self._sent_position, receive if last else None)
            )
            while len(self._in_flight) > MAX_UNANSWERED:
                self._receive()

    def _take(self) -> list[_Entry]:
        """Takes as many commands as one message can carry."""
        limit = self._max_message_bytes - HEADER_BYTES
        entries, num_bytes = self._waiting, self._num_bytes
        if num_bytes > limit:
            count = num_bytes = 0
            for entry in self._waiting:
                if num_bytes + entry.num_bytes > limit:
                    break
                count, num_bytes = count + 1, num_bytes + entry.num_bytes
            entries = self._waiting[:count]
        self._waiting = self._waiting[len(entries) :]
        self._num_bytes -= num_bytes
        return entries

    def _refuse(self) -> None:
        """Fails the first command that waits, which no message can carry."""
        entry = self._waiting[0]
        error: GradwireError = LimitError(
            f"this takes a message of {entry.num_bytes} bytes; the server's limit "
            f"max_message_bytes is {self._max_message_bytes}. Send less at once, or have the "
            "limit raised.",
            reason="LIMIT_EXCEEDED",
        )
        if entry.segment is not None:
            error = error.at(source_line(*entry.segment.locations[-1]))
        self._abandon(error)

    def make_room(self) -> bool:
        """Sends what waits and receives an answer; False if there is nothing to wait for."""
        self.send()
        if not self._in_flight:
            return False
        self._receive()
        return True

    def wait(
        self, delivery: values_pb2.Delivery | None = None, receive: Receive | None = None
    ) -> None:
        """Sends everything, as `send`, and waits until it was carried out.

        Raises:
            GradwireError: A command has failed.
        """
        self.send(delivery, receive)
        while self._in_flight:
            self._receive()
        self.raise_error()

    def raise_error(self) -> None:
        """Raises the error of a command that has failed, if it was not raised before."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _receive(self) -> None:
        message = self._in_flight[0]
        answer = self._stream.receive(message.seq)
        response = answer.message
        assert response.seq == message.seq, f"answer {response.seq} to message {message.seq}"
        self._in_flight.popleft()
        self._is_hurried = response.server_stopping
        if response.HasField("failure"):
            self._fail(message, response.failure)
        elif response.skipped:
            assert self._failure is not None, "a message was skipped and none had failed"
        elif message.receive is not None:
            message.receive(answer)
        if self.ring is not None:
            self.ring.free(message.position)

    def _fail(self, message: _Message, failure: Any) -> None:
        error = status_error(failure.code, failure.message, failure.details)
        index = int(error.metadata.get("command_index", "0"))
        operation = int(error.metadata.get("operation_index", "-1"))
        segment = message.entries[index].segment
        if segment is not None:
            error = error.at(source_line(*segment.locations[operation]))
            for slot in segment.slots:
                if slot.index >= operation:
                    slot.fail(error)
        self._failed_seq = message.seq
        self._drop(message.entries[index + 1 :], error)
        # Messages that were sent before this was known are skipped, every one of them.
        for later in self._in_flight:
            self._drop(later.entries, error)
        self._abandon(error)

    def _abandon(self, error: GradwireError) -> None:
        """Gives up what waits to be sent: it was recorded before the failure was known."""
        self._error = self._failure = error
        self.num_failures += 1
        waiting, self._waiting, self._num_bytes = self._waiting, [], 0
        if self.ring is not None:
            self.ring.rewind(self._sent_position)
        self._drop(waiting, error)
        self._on_failure(error)

    def _drop(self, entries: list[_Entry], error: GradwireError) -> None:
        """Marks what commands would have made that are never carried out."""
        for entry in entries:
            if entry.segment is not None:
                for slot in entry.segment.slots:
                    slot.fail(error)
        programs = {entry.program for entry in entries if entry.program is not None}
        if programs:
            self._on_dropped(programs)
