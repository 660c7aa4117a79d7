"""One session: what is sent to its worker, in order, and what is answered."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from gradwire_server.calls import current_call
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits
from gradwire_server.sessions.kept import pack, unpack
from gradwire_server.sessions.names import session_lost
from gradwire_server.sessions.once import OnceOnly
from gradwire_server.sessions.sequence import MessageSequence
from gradwire_server.storage import Manifest
from gradwire_server.storage.checkpoints import UNCHANGING
from gradwire_server.workers.frames import Frame, FrameKind
from gradwire_server.workers.link import LinkLostError, PendingStream, WorkerLink
from gradwire_server.workers.pool import Worker

RETRY_AFTER_SECONDS = 0.1
"""When to try again if too many messages wait."""

LOG_NAME_LENGTH = len("sessions/") + 8

WAKE_RETRY_SECONDS = 1.0
"""When to try again to bring a parked session back that a stream waits for."""

RUNNING = frozenset({"Train", "ResumeRun"})
"""Calls that last, and whose effects the checkpoints of runs tell."""


def _do_nothing() -> None:
    """Does nothing."""


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
        exact: Whether its training steps are torch's own, to the last bit.
        num_commands: How many calls that may change it were carried out, if it was restored.
        last_seq: The number of the last message of its Execute stream, if it was restored.
        answers: What it answered before, so that nothing is done twice; see `answers`.
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
        exact: bool = True,
        num_commands: int = 0,
        last_seq: int = 0,
        answers: bytes = b"",
    ) -> None:
        self.name = name
        self.num_commands = num_commands
        """How many calls that may change it were sent to its worker."""
        self.number = number
        self.worker = worker
        self.link = link
        self.owner = owner
        self.display_name = display_name
        self.exact = exact
        self.create_time = datetime.now(UTC)
        self.num_pending = 0
        self.held_runs: frozenset[str] = frozenset()
        """The runs that the checkpoint holds which it was restored from."""
        self.ends_with_runs = False
        """Whether its client has left it to its runs."""
        self.ended: GradwireError | None = None
        """Why there is no session any more; none while there is."""
        self._limits = limits
        self._last_use_seconds = time.monotonic()
        self._requests = OnceOnly()
        self._messages = MessageSequence(last_seq=last_seq)
        if answers:
            kept = unpack(answers)
            self._messages.restore(answer for answer in kept if isinstance(answer.key, int))
            self._requests.restore(answer for answer in kept if isinstance(answer.key, str))
        self.parked: Manifest | None = None
        """The checkpoint that its next command brings it back from, if it is parked."""
        self._moved: asyncio.Event | None = None
        self._on_wanted: Callable[[], None] = _do_nothing
        self._refusal: GradwireError | None = None
        self._room = asyncio.Event()
        self._on_end: set[Callable[[GradwireError], None]] = set()

    @property
    def idle_seconds(self) -> float:
        """For how long nothing of it was asked or running."""
        return 0.0 if self.num_pending else time.monotonic() - self._last_use_seconds

    @property
    def num_repeated(self) -> int:
        """How many requests and messages came again and were answered as the first time."""
        return self._requests.num_repeated + self._messages.num_repeated

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
        """When it is parked if nothing is asked until then, or ends if it is; none if never."""
        if self.parked is not None:
            return datetime.fromtimestamp(self.parked.expire_seconds, UTC)
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
        if self._moved is not None:
            await self.settled()
        if request_id:
            return await self._requests.run(
                request_id, method, payload, lambda: self._begin(method, payload)
            )
        call = self.link.call(self._frame(method, payload))
        try:
            return await call.reply
        except LinkLostError:
            raise self.lost() from None
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            self._release()

    def answers(self) -> bytes:
        """Returns what it was asked and has answered, for the server that goes on with it."""
        return pack([*self._messages.kept(), *self._requests.kept()])

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
            raise self.lost() from None

    async def room(self) -> None:
        """Waits until another message may be sent."""
        while (
            self.num_pending >= self._limits.max_queued_messages or self._moved is not None
        ) and self.ended is None:
            self._room.clear()
            self._on_wanted()
            await self._room.wait()

    async def quiet(self) -> None:
        """Waits until nothing of it is pending."""
        while self.num_pending and self.ended is None:
            self._room.clear()
            await self._room.wait()

    async def next_command(self) -> None:
        """Waits until it has begun another command, or has ended."""
        before = self.num_commands
        while self.num_commands == before and self.ended is None:
            self._room.clear()
            await self._room.wait()

    @asynccontextmanager
    async def stream(self, method: str, payload: bytes) -> AsyncIterator[PendingStream]:
        """Carries out a call with many answers, which counts as pending for the block.

        Raises:
            GradwireError: As `call`.
        """
        await self.settled()
        stream = self.link.stream(self._frame(method, payload))
        try:
            yield stream
        finally:
            self._release()

    def leave_worker(self, on_wanted: Callable[[], None] | None = None) -> None:
        """Lets calls wait until `attach`, because the session moves or is parked.

        Args:
            on_wanted: Called when one begins to wait.
        """
        self._on_wanted = on_wanted or _do_nothing
        if self._moved is None:
            self._moved = asyncio.Event()
            self._room.clear()

    def refuse(self, error: GradwireError) -> None:
        """Fails the calls that wait for a worker; its stream goes on waiting, and asks again."""
        assert self._moved is not None
        self._refusal = error
        waiting, self._moved = self._moved, asyncio.Event()
        waiting.set()
        asyncio.get_running_loop().call_later(WAKE_RETRY_SECONDS, self._room.set)

    def attach(self, worker: Worker, link: WorkerLink) -> None:
        """Goes on with a worker that has the session's state."""
        self.worker, self.link = worker, link
        self.parked = None
        self._end_move()

    @property
    def is_moving(self) -> bool:
        """Whether it has no worker for now."""
        return self._moved is not None

    def watch_end(self, callback: Callable[[GradwireError], None]) -> Callable[[], None]:
        """Has `callback` called when the session ends; returns what undoes that."""
        self._on_end.add(callback)
        return lambda: self._on_end.discard(callback)

    def end(self, error: GradwireError) -> None:
        """Ends the session: from now on everything asked of it fails with `error`."""
        self.ended = error
        self._end_move()
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
                raise self.lost() from None
            finally:
                self._release()

        return wait()

    async def settled(self) -> None:
        """Waits until the session has a worker, if it moves to another or is parked.

        Raises:
            GradwireError: It can't be brought back now.
        """
        while self._moved is not None:
            self._refusal = None
            self._on_wanted()
            await self._moved.wait()
            if self._refusal is not None:
                raise self._refusal.with_traceback(None)

    def _end_move(self) -> None:
        self._on_wanted = _do_nothing
        self._refusal = None
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set()
        self._room.set()

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
        if method not in UNCHANGING and method not in RUNNING:
            self.num_commands += 1
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

    def _check_open(self) -> None:
        if self.ended is not None:
            raise self.ended.with_traceback(None)

    def lost(self) -> GradwireError:
        """Returns the error for a call whose worker died."""
        if self.ended is not None:
            return self.ended.with_traceback(None)
        return session_lost(self.name, self.worker.id)
