"""The Execute stream of one session: many messages in flight, none lost, none run twice."""

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NoReturn

import grpc

from gradwire.errors import DeadlineError, GradwireError
from gradwire.transport.channel import call_metadata, is_transient, retry_delays, rpc_error
from gradwire.v1 import sessions_pb2, sessions_pb2_grpc

_Requests = SimpleQueue[sessions_pb2.ExecuteRequest | None]


class ExecuteStream:
    """Sends messages in order and receives their answers in order.

    When the connection breaks, it connects anew and sends everything unanswered once more; the
    server knows the messages by their `seq` and runs none of them twice.

    Args:
        channel: The channel to the server.
        address: The server's address, for messages.
        token: What authenticates the caller.
        timeout_seconds: How long to wait for an answer, reconnecting included.
        on_lost: Called with the error when the stream can't go on.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        address: str,
        token: str | None,
        timeout_seconds: float,
        on_lost: Callable[[GradwireError], None],
    ) -> None:
        self._stub = sessions_pb2_grpc.SessionServiceStub(channel)
        self._address = address
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._on_lost = on_lost
        self._unanswered: deque[sessions_pb2.ExecuteRequest] = deque()
        self._requests: _Requests = SimpleQueue()
        self._call: Any = None
        self._answer = sessions_pb2.ExecuteResponse()
        self._watchdog = Watchdog()

    def send(self, request: sessions_pb2.ExecuteRequest) -> None:
        """Sends a message without waiting."""
        self._unanswered.append(request)
        if self._call is None:
            self._resend()
        else:
            self._requests.put(request)

    def receive(self, seq: int) -> sessions_pb2.ExecuteResponse:
        """Waits for the answer to a message; it may be asked for again until the next one is.

        Args:
            seq: The number of the message: that of the one before plus one.

        Raises:
            GradwireError: The server refused, is gone, or did not answer in time.
        """
        while self._answer.seq < seq:
            self._answer = self._next()
        while self._unanswered and self._unanswered[0].seq <= seq:
            self._unanswered.popleft()
        return self._answer

    def _next(self) -> sessions_pb2.ExecuteResponse:
        """Waits for the next answer of the stream, old ones included."""
        deadline = time.monotonic() + self._timeout_seconds
        delays = retry_delays(deadline)
        while True:
            if self._call is None:
                self._resend()
            try:
                with self._watchdog.limit(self._call, deadline):
                    response: sessions_pb2.ExecuteResponse = next(self._call)
            except grpc.RpcError as error:
                if self._watchdog.expired:
                    self._lose(
                        DeadlineError(
                            f"the server at {self._address} did not answer within "
                            f"{self._timeout_seconds:g} seconds; connect(timeout_seconds=...) "
                            "sets that"
                        )
                    )
                delay = next(delays, None) if is_transient(error) else None
                if delay is None:
                    self._lose(rpc_error(error, self._address))
                self._reset()
                time.sleep(delay)
            except StopIteration:
                # The server ended the stream in good order while it still owed us answers.
                self._reset()
            except BaseException:
                # Somebody pressed Ctrl-C. The call has a read under way that nobody will finish,
                # so the next use asks again, on another one.
                self._reset()
                raise
            else:
                return response

    def close(self) -> None:
        """Ends the stream; what is unanswered stays so."""
        self._reset()
        self._watchdog.close()

    def _lose(self, error: GradwireError) -> NoReturn:
        self._reset()
        self._on_lost(error)
        raise error from None

    def _resend(self) -> None:
        """Connects anew and sends what is unanswered."""
        self._requests = SimpleQueue()
        for request in self._unanswered:
            self._requests.put(request)
        self._call = self._stub.Execute(
            iter(self._requests.get, None), metadata=call_metadata(self._token)
        )

    def _reset(self) -> None:
        self._requests.put(None)
        if self._call is not None:
            self._call.cancel()
            self._call = None


class Watchdog:
    """Cancels the call that is waited for when its deadline passes.

    gRPC has deadlines for whole streams only; this is one thread for all waits of a stream.

    Attributes:
        expired: Whether the last wait ended because its deadline passed.
    """

    def __init__(self) -> None:
        self.expired = False
        self._call: Any = None
        self._deadline = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def limit(self, call: Any, deadline: float) -> "Watchdog":
        """Returns a context in which `call` is cancelled at `deadline` (monotonic time)."""
        self.expired = False
        self._deadline = deadline
        self._call = call
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, name="gradwire-watchdog", daemon=True
            )
            self._thread.start()
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._call = None

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                # Waits are far more frequent than expiries, so they are polled, not signalled.
                self._changed.wait(0.25)
                call = self._call
                if call is not None and time.monotonic() >= self._deadline:
                    self.expired = True
                    call.cancel()
