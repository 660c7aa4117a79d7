"""One session: what is sent to its worker, in order, and what is answered."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from gradwire_server.calls import current_call
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.sessions.answers import has_effect
from gradwire_server.sessions.events import EventLog
from gradwire_server.sessions.names import session_lost
from gradwire_server.sessions.once import OnceOnly, request_changed
from gradwire_server.sessions.sequence import MessageSequence
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError, WorkerLink
from gradwire_server.workers.pool import Worker

RETRY_AFTER_SECONDS = 0.1
"""When to try again if too many messages wait."""

LOG_NAME_LENGTH = len("sessions/") + 8

MAX_ENDED_RUNS = 8
"""Of how many ended runs with a request id the events are kept."""


class Session:
    """A workspace on a worker.

    Args:
        name: ``sessions/{id}``.
        number: What frames call it; unique in this process.
        worker: Where it is.
        link: The link to the worker's process.
        limits: The limits in force.
        owner: The tenant that it belongs to.
        display_name: A name for people.
    """

    def __init__(
        self,
        *,
        name: str,
        number: int,
        worker: Worker,
        link: WorkerLink,
        limits: Limits,
        owner: str,
        display_name: str = "",
    ) -> None:
        self.name = name
        self.number = number
        self.worker = worker
        self.link = link
        self.owner = owner
        self.display_name = display_name
        self.create_time = datetime.now(UTC)
        self.num_pending = 0
        self.ended: GradwireError | None = None
        """Why there is no session any more; none while there is."""
        self._limits = limits
        self._last_use_seconds = time.monotonic()
        self._requests = OnceOnly()
        self._messages = MessageSequence()
        self._num_repeated_runs = 0
        self._runs: dict[str, tuple[bytes, EventLog]] = {}
        self._room = asyncio.Event()
        self._on_end: set[Callable[[GradwireError], None]] = set()

    @property
    def idle_seconds(self) -> float:
        """For how long nothing of it was asked or running."""
        return 0.0 if self.num_pending else time.monotonic() - self._last_use_seconds

    @property
    def num_repeated(self) -> int:
        """How many requests and messages came again and were answered as the first time."""
        return self._requests.num_repeated + self._messages.num_repeated + self._num_repeated_runs

    @property
    def log_name(self) -> str:
        """A name for logs, which does not let their readers use the session."""
        return f"{self.name[:LOG_NAME_LENGTH]}..."

    @property
    def last_use_time(self) -> datetime:
        """When something was last asked or answered."""
        return datetime.now(UTC) - timedelta(seconds=self.idle_seconds)

    @property
    def expire_time(self) -> datetime | None:
        """When it ends if nothing is asked until then; none if never."""
        timeout = self._limits.session_idle_timeout_seconds
        return self.last_use_time + timedelta(seconds=timeout) if timeout else None

    async def call(self, method: str, request_id: str, payload: bytes) -> Frame:
        """Carries out a unary RPC; once, if it has a request id.

        Returns:
            The REPLY or FAILURE of the worker.

        Raises:
            GradwireError: The session has ended or is over a limit, the worker died, or the
                request id was used for another request.
        """
        if request_id:
            return await self._requests.run(
                request_id, method, payload, lambda: self._begin(method, payload)
            )
        call = self.link.call(self._frame(method, payload))
        try:
            return await call.reply
        except LinkLostError:
            raise self._lost() from None
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            self._release()

    def execute(
        self, seq: int, acknowledged_seq: int, payload: bytes, *, trace: str = ""
    ) -> "asyncio.Future[Frame]":
        """Accepts one message of an Execute stream.

        Once accepted it is carried out, whether or not anybody waits for the answer; who sends it
        again gets the answer.

        Returns:
            What `answer` waits for. Not to be cancelled.

        Raises:
            GradwireError: See `MessageSequence.accept`; or the session has ended.
        """

        def send() -> "asyncio.Future[Frame]":
            reply = self.link.call(self._frame("Execute", payload, trace)).reply
            reply.add_done_callback(lambda _: self._release())
            return reply

        self._check_open()
        return self._messages.accept(seq, acknowledged_seq, payload, send)

    async def answer(self, reply: "asyncio.Future[Frame]") -> Frame:
        """Waits for the answer to a message, without cancelling it for others who do.

        Raises:
            GradwireError: The worker died before it answered.
        """
        try:
            return reply.result() if reply.done() else await asyncio.shield(reply)
        except LinkLostError:
            raise self._lost() from None

    async def room(self) -> None:
        """Waits until another message may be sent."""
        while self.num_pending >= self._limits.max_queued_messages and self.ended is None:
            self._room.clear()
            await self._room.wait()

    def run(self, method: str, request_id: str, payload: bytes) -> EventLog:
        """Begins a run, or finds the one begun under the same request id.

        Raises:
            GradwireError: As `call`.
        """
        digest = sha256(method.encode() + b"\0" + payload).digest() if request_id else b""
        known = self._runs.get(request_id) if request_id else None
        if known is not None:
            if known[0] != digest:
                raise request_changed("request_id", request_id)
            self._num_repeated_runs += 1
            return known[1]
        stream = self.link.stream(self._frame(method, payload))
        run = EventLog(stream, session_lost(self.name, self.worker.id))
        if request_id:
            self._runs[request_id] = (digest, run)
        run.task.add_done_callback(lambda _: self._end_run(request_id, run))
        return run

    def watch_end(self, callback: Callable[[GradwireError], None]) -> Callable[[], None]:
        """Has `callback` called when the session ends; returns what undoes that."""
        self._on_end.add(callback)
        return lambda: self._on_end.discard(callback)

    def end(self, error: GradwireError) -> None:
        """Ends the session: from now on everything asked of it fails with `error`."""
        self.ended = error
        self._room.set()
        for callback in tuple(self._on_end):
            callback(error)

    def _begin(self, method: str, payload: bytes) -> Coroutine[Any, Any, Frame]:
        call = self.link.call(self._frame(method, payload))

        async def wait() -> Frame:
            try:
                try:
                    return await asyncio.shield(call.reply)
                except asyncio.CancelledError:
                    call.cancel()
                    return await call.reply
            except LinkLostError:
                raise self._lost() from None
            finally:
                self._release()

        return wait()

    def _frame(self, method: str, payload: bytes, trace: str | None = None) -> Frame:
        """Returns the frame of a call, and counts it as pending.

        Args:
            method: The RPC's method name.
            payload: The request.
            trace: The trace context; if none is given, that of the call in progress.
        """
        self._check_open()
        if self.num_pending >= self._limits.max_queued_messages:
            raise GradwireError(
                Reason.LIMIT_EXCEEDED,
                f"{self.num_pending} messages of {self.name} wait already, which is the limit "
                "max_queued_messages. Wait for answers before sending more.",
                metadata={
                    "limit": "max_queued_messages",
                    "value": str(self._limits.max_queued_messages),
                    "session": self.name,
                },
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self.num_pending += 1
        self._last_use_seconds = time.monotonic()
        if trace is None:
            call = current_call()
            trace = "" if call is None else call.trace
        if trace:
            method = f"{method} {trace}"
        return Frame(kind=FrameKind.CALL, session=self.number, method=method, payload=payload)

    def _release(self) -> None:
        """Counts a call as pending no more."""
        self.num_pending -= 1
        self._last_use_seconds = time.monotonic()
        self._room.set()

    def _end_run(self, request_id: str, run: EventLog) -> None:
        self._release()
        # A run that began has changed the model, so it is never begun again under the same id.
        if not request_id:
            return
        if not run.num_events and run.last is not None and not has_effect(run.last):
            del self._runs[request_id]
        ended = [key for key, (_, kept) in self._runs.items() if kept.task.done()]
        for key in ended[:-MAX_ENDED_RUNS]:
            del self._runs[key]

    def _check_open(self) -> None:
        if self.ended is not None:
            raise self.ended.with_traceback(None)

    def _lost(self) -> GradwireError:
        if self.ended is not None:
            return self.ended.with_traceback(None)
        return session_lost(self.name, self.worker.id)
