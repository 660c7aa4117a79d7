"""The outbox: commands gathered into messages, messages in flight, and what their answers say."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from gradwire.errors import GradwireError, source_line
from gradwire.recorder.slots import Slot
from gradwire.recorder.tape import Location
from gradwire.transport.channel import status_error
from gradwire.v1 import sessions_pb2

MAX_COMMANDS = 64
MAX_BYTES = 1 << 20
MAX_DELAY_SECONDS = 0.002
"""A message is sent when it has this many commands or bytes, or its first command is this old."""
MAX_UNANSWERED = 8
"""How many messages are in flight before sending waits for answers."""


class Stream(Protocol):
    """What carries messages to the server, in order, and answers back."""

    def send(self, request: sessions_pb2.ExecuteRequest) -> None:
        """Sends a message without waiting."""

    def receive(self) -> sessions_pb2.ExecuteResponse:
        """Waits for the next answer."""
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


class _Message(NamedTuple):
    """Commands that are sent together."""

    seq: int
    commands: list[sessions_pb2.Command]
    segments: dict[int, Segment]
    """By command index."""
    programs: dict[int, int]
    """By command index: the handles of the programs it puts."""


class Outbox:
    """Sends commands in order and finds out what became of them.

    Args:
        name: The session's name.
        stream: What carries the messages.
        on_failure: Called with the error when a command has failed: everything recorded by then
            comes after the failure.
        on_dropped: Called with the handles of programs that the server does not hold after all.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        *,
        on_failure: Callable[[GradwireError], None],
        on_dropped: Callable[[set[int]], None],
    ) -> None:
        self._name = name
        self._stream = stream
        self._on_failure = on_failure
        self._on_dropped = on_dropped
        self._seq = 0
        self._failed_seq = 0
        self._next = _Message(1, [], {}, {})
        self._num_bytes = 0
        self._first_command_time = 0.0
        self._in_flight: deque[_Message] = deque()
        self._error: GradwireError | None = None
        self._failure: GradwireError | None = None

    def add(
        self,
        command: sessions_pb2.Command,
        *,
        segment: Segment | None = None,
        num_bytes: int = 0,
        program: int | None = None,
    ) -> None:
        """Puts a command into the next message.

        Args:
            command: The command.
            segment: What to keep of it.
            num_bytes: About how large it is.
            program: The handle of the program it puts.
        """
        message = self._next
        if not message.commands:
            self._first_command_time = time.monotonic()
        if segment is not None:
            message.segments[len(message.commands)] = segment
        if program is not None:
            message.programs[len(message.commands)] = program
        message.commands.append(command)
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
        commands = self._next.commands
        if commands and (
            len(commands) >= MAX_COMMANDS
            or self._num_bytes > MAX_BYTES
            or time.monotonic() - self._first_command_time > MAX_DELAY_SECONDS
        ):
            self.send()
        self._raise_error()

    def send(self) -> None:
        """Sends the next message if there is anything in it; receives answers if many are due."""
        message = self._next
        if not message.commands:
            return
        self._stream.send(
            sessions_pb2.ExecuteRequest(
                name=self._name,
                seq=message.seq,
                failure_seen_seq=self._failed_seq,
                acknowledged_seq=message.seq - 1 - len(self._in_flight),
                commands=message.commands,
            )
        )
        self._in_flight.append(message)
        self._start_message(message.seq + 1)
        while len(self._in_flight) > MAX_UNANSWERED:
            self._receive()

    def wait(self) -> sessions_pb2.ExecuteResponse:
        """Sends everything, waits until it was carried out, and returns the last answer.

        Raises:
            GradwireError: A command has failed.
        """
        self.send()
        response = sessions_pb2.ExecuteResponse()
        while self._in_flight:
            response = self._receive()
        self._raise_error()
        return response

    def _start_message(self, seq: int) -> None:
        self._next = _Message(seq, [], {}, {})
        self._num_bytes = 0

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _receive(self) -> sessions_pb2.ExecuteResponse:
        response = self._stream.receive()
        message = self._in_flight.popleft()
        assert response.seq == message.seq, f"answer {response.seq} to message {message.seq}"
        if response.HasField("failure"):
            self._fail(message, response.failure)
        elif response.skipped:
            assert self._failure is not None
            self._drop(message, 0, self._failure)
        return response

    def _fail(self, message: _Message, failure: Any) -> None:
        error = status_error(failure.code, failure.message, failure.details)
        index = int(error.metadata.get("command_index", "0"))
        operation = int(error.metadata.get("operation_index", "-1"))
        segment = message.segments.get(index)
        if segment is not None:
            error = error.at(source_line(*segment.locations[operation]))
            for slot in segment.slots:
                if slot.index >= operation:
                    slot.fail(error)
        self._failed_seq = message.seq
        self._error = self._failure = error
        self._drop(message, index + 1, error)
        # What waits to be sent was recorded before the failure was known, and comes after it.
        self._drop(self._next, 0, error)
        self._start_message(self._next.seq)
        self._on_failure(error)

    def _drop(self, message: _Message, first: int, error: GradwireError) -> None:
        """Marks what the commands of a message from index `first` on would have made."""
        for index, segment in message.segments.items():
            if index >= first:
                for slot in segment.slots:
                    slot.fail(error)
        self._on_dropped({p for index, p in message.programs.items() if index >= first})
