"""Calls as tasks: each does a bit of work a turn and answers its caller when it is done."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Generic, Protocol, TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from gradwire.v1 import errors_pb2, sessions_pb2, values_pb2
from gradwire.v1.apart import READ, REQUEST, Piece, field, split
from gradwire_server.engine.delivery import IN_LINE, Delivery
from gradwire_server.engine.failures import operation_failure
from gradwire_server.engine.figures import Timing
from gradwire_server.engine.session import Session
from gradwire_server.engine.values import require_fits
from gradwire_server.errors import GradwireError, Reason, internal_error

M = TypeVar("M", bound=Message)
H = TypeVar("H")
"""What a handler returns: the response, or a generator of its steps."""
Watch = Callable[[], AbstractContextManager[None]]
"""Makes a block that is interrupted with an error if it takes too long."""

log = structlog.get_logger(__name__)

_VALUES = (sessions_pb2.ExecuteResponse.VALUES_FIELD_NUMBER,)


class Answers(Protocol):
    """Where the answers to calls go."""

    def reply(
        self, call: int, payload: bytes, times: str = "", *, rest: Sequence[Piece] = ()
    ) -> None:
        """Ends a call with its response; `times` is `Timing.summary`.

        Args:
            call: The call.
            payload: The response, serialized.
            times: Where its time went.
            rest: What comes after the response; free again when this returns.
        """

    def event(self, call: int, payload: bytes) -> None:
        """Sends one response of a streaming call."""

    def end(self, call: int, times: str = "") -> None:
        """Ends a streaming call."""

    def fail(self, call: int, error: GradwireError, times: str = "") -> None:
        """Ends a call with an error."""


def parse(kind: type[M], payload: bytes, timing: Timing) -> M:
    """Returns the message.

    Raises:
        GradwireError: The bytes are no message of that kind.
    """
    begin = perf_counter()
    try:
        message = kind.FromString(payload)
        timing.decoded(begin)
        return message
    except DecodeError as error:
        raise GradwireError(
            Reason.INVALID_REQUEST, f"the request is not a valid {kind.__name__}: {error}"
        ) from error


def serialize(response: Message, limit_bytes: int, timing: Timing) -> bytes:
    """Returns the response's bytes.

    Raises:
        GradwireError: They are more than a message may have; LIMIT_EXCEEDED.
    """
    begin = perf_counter()
    require_fits(response.ByteSize(), limit_bytes)
    payload = response.SerializeToString()
    timing.encoded(begin)
    return payload


def as_catalog_error(error: Exception, what: str) -> GradwireError:
    """Returns the error to tell the caller; logs what nobody expected."""
    if isinstance(error, GradwireError):
        return error
    if isinstance(error, MemoryError):
        return operation_failure(error, what)
    log.error("call failed unexpectedly", method=what, exc_info=error)
    return internal_error()


class Task(ABC):
    """A call in progress.

    Args:
        call: Its id.
        answers: Where its answer goes.
        timing: Where its time goes.
        watch: Makes a block that is interrupted if it takes too long.

    Attributes:
        call: As given.
        method: The RPC.
        timing: As given.
        blocked: Whether it could do nothing in its last turn but wait for something that another
            task of its session does.
    """

    def __init__(self, call: int, answers: Answers, timing: Timing, watch: Watch) -> None:
        self.call = call
        self.method = timing.kind
        self.timing = timing
        self.blocked = False
        self._answers = answers
        self._watch = watch

    @abstractmethod
    def advance(self) -> bool:
        """Does the next bit of work; returns whether there is more to do."""

    def fail(self, error: GradwireError) -> None:
        """Gives the call up and tells its caller why."""
        self.timing.failure = error.reason.value
        self._answers.fail(self.call, error, self.timing.summary())


class HandlerTask(Task, Generic[H]):
    """A call that a verb's handler carries out.

    Args:
        call: Its id.
        handler: Carries it out.
        answers: Where its answer goes.
        timing: Where its time goes.
        limit_bytes: How large a response may be.
        watch: Makes a block that is interrupted if it takes too long.
    """

    def __init__(
        self,
        call: int,
        handler: Callable[[], H],
        answers: Answers,
        *,
        timing: Timing,
        limit_bytes: int,
        watch: Watch,
    ) -> None:
        super().__init__(call, answers, timing, watch)
        self._handler = handler
        self._limit_bytes = limit_bytes

    def _serialized(self, response: Message) -> bytes:
        return serialize(response, self._limit_bytes, self.timing)


class UnaryTask(HandlerTask[Message]):
    """A call with one request and one response, done in one turn."""

    def advance(self) -> bool:
        """Runs the handler and answers; there is never more to do."""
        try:
            with self._watch():
                payload = self._serialized(self._handler())
        except Exception as error:  # noqa: BLE001  # the boundary: the worker goes on
            self.fail(as_catalog_error(error, self.method))
        else:
            self._answers.reply(self.call, payload, self.timing.summary())
        return False


class LastingTask(HandlerTask[Generator[None, None, Message]]):
    """A call with one response whose handler yields as long as it takes."""

    _steps: Generator[None, None, Message] | None = None

    def advance(self) -> bool:
        """Lets the handler go on; answers when it is done."""
        try:
            with self._watch():
                payload = self._go_on()
        except Exception as error:  # noqa: BLE001  # the boundary: the worker goes on
            self.fail(as_catalog_error(error, self.method))
            return False
        if payload is not None:
            self._answers.reply(self.call, payload, self.timing.summary())
        return payload is None

    def _go_on(self) -> bytes | None:
        """Returns the response; None if there is none yet."""
        self._steps = self._steps or self._handler()
        try:
            next(self._steps)
        except StopIteration as stop:
            return self._serialized(stop.value)
        return None

    def fail(self, error: GradwireError) -> None:
        """Gives the call up and tells its caller why."""
        if self._steps is not None:
            self._steps.close()
        super().fail(error)


class WaitingTask(LastingTask):
    """One whose handler yields only if it can't go on before another task has done something."""

    def advance(self) -> bool:
        """Lets the handler try; answers when it is done."""
        self.blocked = super().advance()
        return self.blocked


class StreamTask(HandlerTask[Generator[Sequence[Message] | None, None, None]]):
    """A call whose handler yields once a step: the responses to send, often none.

    It yields None if it can't take a step before another task of its session has done something.
    """

    _steps: Generator[Sequence[Message] | None, None, None] | None = None

    def advance(self) -> bool:
        """Takes one step of the handler and sends what it yields."""
        try:
            if self._steps is None:
                self._steps = self._handler()
            with self._watch():
                responses = next(self._steps)
            self.blocked = responses is None
            for response in responses or ():
                self._answers.event(self.call, self._serialized(response))
        except StopIteration:
            self._answers.end(self.call, self.timing.summary())
        except Exception as error:  # noqa: BLE001  # the boundary: the worker goes on
            self.fail(as_catalog_error(error, self.method))
        else:
            return True
        return False

    def fail(self, error: GradwireError) -> None:
        """Gives the call up and tells its caller why."""
        if self._steps is not None:
            self._steps.close()
        super().fail(error)


class ExecuteTask(Task):
    """One message of an Execute stream: one command a turn, failures answered in band."""

    def __init__(
        self,
        call: int,
        session: Session,
        payload: bytes,
        answers: Answers,
        timing: Timing,
        *,
        watch: Watch,
    ) -> None:
        super().__init__(call, answers, timing, watch)
        self._session = session
        self._payload = payload
        self._request: sessions_pb2.ExecuteRequest | None = None
        self._received: Sequence[memoryview] = ()
        self._next_command = 0
        self._values: list[values_pb2.Value] = []
        self._sent: dict[int, Piece] = {}
        self._num_bytes = 0
        self._delivery: Delivery | None = None

    def advance(self) -> bool:
        """Runs the next command; answers after the last one or the first that fails."""
        request = self._request
        if request is None:
            payload, self._received = split(self._payload, REQUEST)
            try:
                request = self._request = parse(sessions_pb2.ExecuteRequest, payload, self.timing)
            except GradwireError as error:
                self.fail(error)
                return False
            self._payload = b""
            if request.failure_seen_seq < self._session.failed_seq:
                self._reply(skipped=True)
                return False
        commands = request.commands
        if self._next_command < len(commands):
            index = self._next_command
            self.timing.kind = commands[index].WhichOneof("kind") or "Execute"
            try:
                with self._watch():
                    values = self._run(request, index)
                if values:
                    self._add(values)
            except Exception as error:  # noqa: BLE001  # the boundary: the session goes on
                known = as_catalog_error(error, "Execute")
                known.metadata["command_index"] = str(index)
                self._session.failed_seq = request.seq
                self.timing.failure = known.reason.value
                status = known.to_status()
                self._reply(
                    failure=errors_pb2.Failure(
                        code=status.code, message=status.message, details=status.details
                    )
                )
                return False
            self._next_command += 1
        if self._next_command < len(commands):
            return True
        self._reply()
        return False

    def _run(self, request: sessions_pb2.ExecuteRequest, index: int) -> Sequence[values_pb2.Value]:
        session, command, path = self._session, request.commands[index], f"commands[{index}]"
        if not self._received and not request.HasField("delivery"):
            return session.run(command, path)
        if self._delivery is None and request.HasField("delivery"):
            self._delivery = session.delivery_of(request.delivery)
        # Between the commands of a message other tasks of the session may have their turns.
        session.delivery = self._delivery or IN_LINE
        session.regions.apart = self._received
        try:
            return session.run(command, path)
        finally:
            session.delivery = IN_LINE
            session.regions.apart = ()

    def _add(self, values: Sequence[values_pb2.Value]) -> None:
        elements = None if self._delivery is None else self._delivery.take_apart()
        self._num_bytes += sum(value.ByteSize() for value in values)
        if elements is not None:
            self._num_bytes += len(elements)
        require_fits(self._num_bytes, self._session.limits.max_message_bytes)
        self._values.extend(values)
        if elements is not None:
            assert self._request is not None
            # The commands that come after this one may change them.
            last = self._next_command + 1 == len(self._request.commands)
            self._sent[len(self._values) - 1] = elements.data if last else elements.tobytes()

    def _reply(self, *, failure: errors_pb2.Failure | None = None, skipped: bool = False) -> None:
        assert self._request is not None
        self._session.last_seq = self._request.seq
        # The engine remembers the task for its logs; the memory may be the client's to free.
        self._delivery, self._received = None, ()
        begin = perf_counter()
        response = sessions_pb2.ExecuteResponse(
            seq=self._request.seq,
            values=() if self._sent else self._values,
            failure=failure,
            skipped=skipped,
        )
        payload, rest = response.SerializeToString(), self._serialized_values()
        self.timing.encoded(begin)
        self._answers.reply(self.call, payload, self.timing.summary(), rest=rest)
        self._sent.clear()

    def _serialized_values(self) -> list[Piece]:
        """Returns the values as fields of the answer, if there are elements apart from them."""
        pieces: list[Piece] = []
        for index, value in enumerate(self._values if self._sent else ()):
            elements = self._sent.get(index)
            behind = () if elements is None else field(READ, elements)
            pieces += field(_VALUES, value.SerializeToString(), *behind)
        return pieces
