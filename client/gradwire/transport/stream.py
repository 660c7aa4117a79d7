"""The Execute stream of one session: many messages in flight, none lost, none run twice."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import grpc

from gradwire.errors import (
    DeadlineError,
    GradwireError,
    ServerUnavailableError,
    SessionLostError,
)
from gradwire.transport.channel import (
    LAST_RETRY_SECONDS,
    call_metadata,
    is_transient,
    retry_delays,
    rpc_error,
)
from gradwire.transport.tracing import MessageSpan
from gradwire.v1 import sessions_pb2
from gradwire.v1.apart import ANSWER, Piece, split

LET_GO_SECONDS = 0.002
"""How long to wait at most until a message has left."""

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a message is answered with.

    Attributes:
        message: The answer, without large elements.
        apart: Large elements of its tensors; see `apart.data_of`.
    """

    message: sessions_pb2.ExecuteResponse
    apart: Sequence[memoryview] = ()


class _Sent(NamedTuple):
    """A message on its way.

    Attributes:
        seq: Its number.
        message: The message, or what comes of it before elements that are apart.
        payload: All of it, serialized, if there are such.
    """

    seq: int
    message: sessions_pb2.ExecuteRequest
    payload: bytes | None


_Requests = SimpleQueue[_Sent | None]


class ExecuteStream:
    """Sends messages in order and receives their answers in order.

    A thread of its own talks to gRPC. When the connection breaks, or the server stops, it connects
    anew and sends everything unanswered once more; the server, and the one that is started in its
    place, know the messages by their `seq` and run none of them twice. Whoever waits for an answer
    waits on a queue, which an interrupt (Ctrl-C) leaves intact; the locks within gRPC would stay
    taken.

    Args:
        channel: The channel to the server.
        address: The server's address, for messages.
        token: What authenticates the caller.
        timeout_seconds: How long to wait for an answer, reconnecting included.
        on_lost: Called with the error when the stream can't go on.
        before_again: Called before it connects anew; what it raises is as if that had failed.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        address: str,
        token: str | None,
        timeout_seconds: float,
        on_lost: Callable[[GradwireError], None],
        before_again: Callable[[], None] = lambda: None,
    ) -> None:
        self._execute = channel.stream_stream(
            "/gradwire.v1.SessionService/Execute",
            request_serializer=_serialized,
            response_deserializer=_answer,
        )
        self._address = address
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._on_lost = on_lost
        self._before_again = before_again
        self._lock = threading.Lock()
        self._unanswered: deque[_Sent] = deque()
        self._spans: dict[int, MessageSpan] = {}
        self._requests: _Requests = SimpleQueue()
        self._gone: SimpleQueue[None] = SimpleQueue()
        self._answers: dict[int, Answer] = {}
        self._wanted_seq = 0
        self._arrivals: SimpleQueue[None] = SimpleQueue()
        self._end: GradwireError | None = None
        self._call: Any = None
        self._trouble: GradwireError | None = None
        self._delays: Iterator[float] | None = None
        self._told = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self, request: sessions_pb2.ExecuteRequest, rest: Sequence[Piece] = ()) -> None:
        """Sends a message without waiting.

        Args:
            request: The message.
            rest: What comes after it, serialized.
        """
        span = MessageSpan("gradwire.v1.SessionService/Execute message")
        if span.traceparent:
            request.traceparent = span.traceparent
            self._spans[request.seq] = span
        while not self._gone.empty():
            self._gone.get()
        payload = b"".join((request.SerializeToString(), *rest)) if rest else None
        sent = _Sent(request.seq, request, payload)
        with self._lock:
            self._unanswered.append(sent)
            self._requests.put(sent)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="gradwire-stream", daemon=True)
            self._thread.start()

    def let_go(self) -> None:
        """Waits until what was sent is with gRPC, for `LET_GO_SECONDS` at most.

        The threads that send it need the interpreter, which a thread that goes on computing would
        keep for the 5 ms of `sys.getswitchinterval`.
        """
        with suppress(Empty):
            self._gone.get(timeout=LET_GO_SECONDS)

    def receive(self, seq: int) -> Answer:
        """Waits for the answer to a message; it may be asked for again until the next one is.

        Args:
            seq: The number of the message: that of the one before plus one.

        Raises:
            GradwireError: The server refused, is gone, or did not answer in time.
        """
        self._wanted_seq = seq
        self._answers.pop(seq - 1, None)
        while seq not in self._answers:
            end = self._end
            if end is None:
                self._wait()
            elif seq not in self._answers:
                self.close()
                self._on_lost(end)
                raise end
        if self._spans and (span := self._spans.pop(seq, None)) is not None:
            span.end()
        return self._answers[seq]

    def close(self) -> None:
        """Ends the stream; what is unanswered stays so."""
        self._closed.set()
        with self._lock:
            self._requests.put(None)
            if self._call is not None:
                self._call.cancel()

    def _wait(self) -> None:
        """Waits until something has arrived, or nothing has for too long.

        An interrupt may come between taking something from the queue and looking at it, so what
        is queued only tells that there is something to look at.
        """
        try:
            self._arrivals.get(timeout=self._timeout_seconds)
        except Empty:
            self._end = self._trouble or DeadlineError(
                f"the server at {self._address} did not answer within "
                f"{self._timeout_seconds:g} seconds; connect(timeout_seconds=...) sets that"
            )

    def _serve(self) -> None:
        """Connects and receives, again and again, until the stream is closed or can't go on."""
        while (first := self._first_request()) is not None:
            before = self._trouble
            try:
                if before is not None:
                    self._before_again()
                self._exchange(first)
                trouble: GradwireError = ServerUnavailableError(
                    f"the server at {self._address} ended the stream before it answered",
                    reason="UNAVAILABLE",
                )
            except grpc.RpcError as error:
                trouble = rpc_error(error, self._address)
            except GradwireError as error:
                trouble = error
            if trouble.reason == "SESSION_NOT_FOUND" and before is not None:
                trouble = SessionLostError(
                    f"the server at {self._address} could not be reached, and now that it can it "
                    f"has lost the session: {trouble.message}",
                    reason="SESSION_LOST",
                    metadata=trouble.metadata,
                )
            self._trouble = trouble
            if not is_transient(trouble) or not self._pause(trouble):
                break
        self._end = self._trouble
        self._arrivals.put(None)

    def _first_request(self) -> _Sent | None:
        """Waits until there is something to send, and returns it; None if the stream is closed."""
        with self._lock:
            self._requests.put(None)
            requests = self._requests = SimpleQueue()
            for request in self._unanswered:
                requests.put(request)
            if not self._unanswered:
                # The time of who waits for an answer begins when somebody does.
                self._delays = None
            if self._closed.is_set():
                return None
        return requests.get()

    def _exchange(self, first: _Sent) -> None:
        """Sends what is unanswered and what comes, and takes the answers, until the call ends.

        Raises:
            grpc.RpcError: Why it ended.
        """
        with self._lock:
            if self._closed.is_set():
                return
            # The stream belongs to the trace of the message that it was opened for.
            traceparent = first.message.traceparent
            traced = (("traceparent", traceparent),) if traceparent else ()
            self._call = self._execute(
                self._outgoing(first),
                metadata=(*call_metadata(self._token), *traced),
            )
        for answer in self._call:
            if self._trouble is not None:
                self._recover()
            seq = answer.message.seq
            if seq >= self._wanted_seq:
                self._answers[seq] = answer
                self._arrivals.put(None)
            # The next server may not have it any more.
            while self._unanswered and self._unanswered[0].seq <= seq:
                self._unanswered.popleft()

    def _outgoing(self, first: _Sent) -> Iterator[_Sent]:
        """Yields what is to be sent. A thread of gRPC's asks for the next when one has left."""
        requests, gone = self._requests, self._gone
        yield first
        while True:
            if requests.empty():
                gone.put(None)
            request = requests.get()
            if request is None:
                return
            yield request

    def _pause(self, trouble: GradwireError) -> bool:
        """Waits before the next attempt; False if there is none."""
        if self._delays is None:
            self._delays = retry_delays(time.monotonic() + self._timeout_seconds)
        delay = next(self._delays, None)
        if delay == LAST_RETRY_SECONDS and not self._told:
            self._told = True
            log.warning(
                "the server at %s does not answer (%s); waiting for it, for %g seconds at most",
                self._address,
                trouble.reason,
                self._timeout_seconds,
            )
        return delay is not None and not self._closed.wait(delay)

    def _recover(self) -> None:
        """Notes that the server answers again."""
        self._delays = self._trouble = None
        if self._told:
            self._told = False
            log.warning("the server at %s answers again", self._address)


def _serialized(sent: _Sent) -> bytes:
    return sent.message.SerializeToString() if sent.payload is None else sent.payload


def _answer(payload: bytes) -> Answer:
    message, elements = split(payload, ANSWER)
    return Answer(sessions_pb2.ExecuteResponse.FromString(message), elements)
